"""Judgements (qrels) and runs as text files of TREC, as trec_eval reads them, to and from arrays.

A line of qrels is `query 0 document grade`, one of a run `query Q0 document rank score tag`, parted by white space. The
second field, the rank and the tag are not looked at. A line that begins with `#` is a comment. `.gz` and `.zst` are
unpacked.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eval.datasets.files import file_bytes
from eval.measures.matching import Codes, Ints, Judgements, Run, best_first
from eval.measures.names import Floats
from rag.errors import Problem, UsageError
from rag.storage import write

_SHOWN = 50
_BLOCK = 1 << 23
_COMMENT = re.compile(rb"(?:\A|\n)[ \t\r]*#")
_GRADE = re.compile(rb"[+-]?[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class _Form:
    """How the lines of a kind of file look."""

    kind: str
    line: str
    fields: int
    more: bool
    """Whether more fields may follow, which are ignored."""


_QRELS = _Form("qrels", "query 0 document grade", 4, more=False)
_RUN = _Form("a run", "query Q0 document rank score tag", 6, more=True)


def read_qrels(path: Path) -> Judgements:
    """The judgements of a file, queries in its order.

    Raises UsageError, naming the line of every mistake (the first 50): too few or too many fields, a grade that is no
    whole number, a document that its query judges twice, text that is not UTF-8.
    """
    table = _table(path, _QRELS)
    return Judgements(table.queries, table.documents, table.starts, table.document, table.value.astype(np.int64))


def read_run(path: Path) -> Run:
    """The rankings of a file, queries in its order. Raises UsageError as `read_qrels`, and for a score that is NaN."""
    table = _table(path, _RUN)
    return Run(table.queries, table.documents, table.starts, table.document, table.value)


def write_qrels(path: Path, judgements: Judgements) -> None:
    """Put a file of qrels in place. Raises UsageError for ids that the format cannot hold, StorageFailed."""
    query = _spread(judgements.queries, judgements.starts)
    rows = zip(query, judgements.document.tolist(), judgements.grade.tolist(), strict=True)
    names = _writable(path, judgements.queries, judgements.documents)
    write(path, "".join(f"{each} 0 {names[document]} {grade}\n" for each, document, grade in rows).encode())


def write_run(path: Path, run: Run, tag: str = "ragline") -> None:
    """Put a run in place, each query's documents best first.

    Where the order was given and not scored, the score is the number of documents from there to the end, so that every
    reader ranks the same. Raises as `write_qrels`.
    """
    names = _writable(path, [*run.queries, tag], run.documents)
    rows = best_first(run, np.arange(len(run.document)))
    lengths = np.diff(run.starts)
    rank = np.arange(len(rows)) - np.repeat(run.starts[:-1], lengths)
    score = (np.repeat(lengths, lengths) - rank).astype(np.float64) if run.score is None else run.score[rows]
    fields = zip(
        _spread(run.queries, run.starts), run.document[rows].tolist(), rank.tolist(), score.tolist(), strict=True
    )
    lines = (f"{query} Q0 {names[document]} {place + 1} {value!r} {tag}\n" for query, document, place, value in fields)
    write(path, "".join(lines).encode())


def _spread(queries: Sequence[str], starts: Ints) -> Iterator[str]:
    for query, count in zip(queries, np.diff(starts).tolist(), strict=True):
        for _ in range(count):
            yield query


def _writable(path: Path, queries: Sequence[str], documents: Sequence[str]) -> Sequence[str]:
    bad = [name for name in [*queries, *documents] if len(name.split()) != 1 or name.split()[0] != name]
    bad += [name for name in queries if name.startswith("#")]
    problems = [
        Problem(str(path), f"{name!r} cannot stand in a TREC file", "ids there have no white space, and no # in front")
        for name in bad[:_SHOWN]
    ]
    if problems:
        raise UsageError(f"{path}: {len(bad):,} ids cannot stand in a TREC file", problems)
    return documents


class _Numbers(dict[bytes, int]):
    """Id -> its number, by first occurrence."""

    def __missing__(self, name: bytes) -> int:
        self[name] = len(self)
        return self[name]


class _Mistakes:
    """What is wrong with a file, by line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._count = 0
        self._kept: list[tuple[int, Problem]] = []

    def add(self, line: int, what: str, remedy: str) -> None:
        self._count += 1
        if self._count <= 10 * _SHOWN:
            self._kept.append((line, Problem(f"{self._path}:{line}", what, remedy)))

    def refuse(self) -> None:
        """Raise UsageError if there are any."""
        if self._count:
            count = "one mistake" if self._count == 1 else f"{self._count:,} mistakes"
            shown = sorted(self._kept, key=lambda each: each[0])[:_SHOWN]
            raise UsageError(f"{self._path} has {count}", [problem for _, problem in shown])


@dataclass(frozen=True, slots=True)
class _Table:
    """A file as columns: rows by query, queries by first occurrence, documents numbered in the order of their ids."""

    queries: list[str]
    documents: list[str]
    starts: Ints
    document: Codes
    value: Floats


def _table(path: Path, form: _Form) -> _Table:
    mistakes = _Mistakes(path)
    queries, documents = _Numbers(), _Numbers()
    parts: list[tuple[Codes, Codes, Floats, Ints]] = []
    for first, block in _blocks(file_bytes(path).removeprefix(b"\xef\xbb\xbf")):
        lines, fields = _columns(first, block, form, mistakes)
        value = _grades(fields[3], lines, mistakes) if form is _QRELS else _scores(fields[4], lines, mistakes)
        parts.append((_coded(queries, fields[0]), _coded(documents, fields[2]), value, lines))
    query, document = (np.concatenate([part[at] for part in parts]) for at in (0, 1))
    value, lines = np.concatenate([part[2] for part in parts]), np.concatenate([part[3] for part in parts])
    if (query[1:] < query[:-1]).any():
        order = np.argsort(query, kind="stable")
        query, document, value, lines = query[order], document[order], value[order], lines[order]
    query_names = _decoded(list(queries), query, lines, mistakes)
    by_id = sorted(documents)
    places = np.empty(len(by_id), np.int32)
    places[[documents[name] for name in by_id]] = np.arange(len(by_id))
    document = places[document] if by_id else document
    document_names = _decoded(by_id, document, lines, mistakes)
    if form is _QRELS:
        # what stands in order is matched faster
        order = np.lexsort((document, query))
        document, value, lines = document[order], value[order], lines[order]
    _refuse_twice(query, document, lines, query_names, document_names, mistakes)
    mistakes.refuse()
    starts = np.searchsorted(query, np.arange(len(queries) + 1)).astype(np.int64)
    return _Table(query_names, document_names, starts, document, value)


def _blocks(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Whole lines, some megabytes at a time, with the number of the first."""
    line, start = 1, 0
    while True:
        end = data.find(b"\n", start + _BLOCK) + 1 or len(data)
        block = data[start:end]
        yield line, block
        if end == len(data):
            return
        line, start = line + block.count(b"\n"), end


def _columns(first: int, block: bytes, form: _Form, mistakes: _Mistakes) -> tuple[Ints, list[Sequence[bytes]]]:
    """The fields of all lines that have as many as they should, by column, and the numbers of these lines."""
    count = _fields_of_all(block)
    if count == form.fields:
        fields = block.split()
        return first + np.arange(len(fields) // count), [fields[at::count] for at in range(count)]
    rows = [line.split() for line in block.split(b"\n")]
    lines = []
    for line, row in enumerate(rows, first):
        if not row or row[0].startswith(b"#"):
            continue
        if len(row) == form.fields or (form.more and len(row) > form.fields):
            lines.append(line)
        else:
            mistakes.add(line, f"{len(row)} fields, not {form.fields}", f"a line of {form.kind} is `{form.line}`")
    columns: list[Sequence[bytes]] = list(zip(*(rows[line - first][: form.fields] for line in lines), strict=True))
    return np.array(lines, np.int64), columns or [()] * form.fields


def _fields_of_all(block: bytes) -> int | None:
    """How many fields each line has, where all have as many and none is a comment."""
    text = np.frombuffer(block if block.endswith(b"\n") else block + b"\n", np.uint8)
    if _COMMENT.search(block) or ((text < 32) & (text != 9) & (text != 10) & (text != 13)).any():
        return None
    space = text <= 32
    # a field ends where white space follows what is none
    ends = np.flatnonzero(space[1:] > space[:-1]) + 1
    until = np.searchsorted(ends, np.flatnonzero(text == 10), side="right")
    fields = np.diff(until, prepend=0)
    return int(fields[0]) if (fields == fields[0]).all() else None


def _coded(numbers: _Numbers, names: Sequence[bytes]) -> Codes:
    return np.fromiter(map(numbers.__getitem__, names), np.int32, len(names))


def _grades(fields: Sequence[bytes], lines: Ints, mistakes: _Mistakes) -> Floats:
    grades = {text: int(text) if _GRADE.fullmatch(text) else None for text in set(fields)}
    for line, text in zip(lines.tolist(), fields, strict=True) if None in grades.values() else ():
        if grades[text] is None:
            mistakes.add(line, f"grade {_shown(text)} is not a whole number", "grades are -1, 0, 1, 2 ...")
    return np.fromiter((grades[text] or 0 for text in fields), np.float64, len(fields))


def _scores(fields: Sequence[bytes], lines: Ints, mistakes: _Mistakes) -> Floats:
    # 1_0 is a number to Python alone
    read = _score if b"_" in b"".join(fields) else float
    try:
        scores = np.fromiter(map(read, fields), np.float64, len(fields))
    except ValueError:
        scores = np.fromiter(map(_score, fields), np.float64, len(fields))
    for at in np.flatnonzero(np.isnan(scores)).tolist():
        mistakes.add(int(lines[at]), f"score {_shown(fields[at])} is not a number", "the fifth field is the score")
    return scores


def _score(text: bytes) -> float:
    try:
        return math.nan if b"_" in text else float(text)
    except ValueError:
        return math.nan


def _shown(text: bytes) -> str:
    return repr(text[:40].decode("utf-8", "replace"))


def _decoded(names: Sequence[bytes], codes: Codes, lines: Ints, mistakes: _Mistakes) -> list[str]:
    found = []
    for code, name in enumerate(names):
        try:
            found.append(name.decode("utf-8"))
        except UnicodeDecodeError:
            line = int(lines[codes == code].min())
            mistakes.add(line, f"{_shown(name)} is not UTF-8", "write the file again in UTF-8")
            found.append(name.decode("utf-8", "replace"))
    return found


def _refuse_twice(
    query: Codes, document: Codes, lines: Ints, queries: list[str], documents: list[str], mistakes: _Mistakes
) -> None:
    pairs = query.astype(np.int64) * max(len(documents), 1) + document
    ascending = np.sort(pairs)
    if not (ascending[1:] == ascending[:-1]).any():
        return
    order = np.lexsort((lines, pairs))
    again = np.flatnonzero(pairs[order[1:]] == pairs[order[:-1]])
    for later, earlier in sorted((int(order[at + 1]), int(order[at])) for at in again.tolist()):
        what = f"document {documents[document[later]]!r} of query {queries[query[later]]!r} stands on line {lines[earlier]} already"
        mistakes.add(int(lines[later]), what, "leave one of the two lines")
