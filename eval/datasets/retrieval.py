"""Folders of queries and judgements (qrels): BEIR, its Parquet twin, and TREC. A corpus beside them is theirs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval import trec
from eval.datasets.draft import Draft, Record
from eval.datasets.files import Content, begins_as_qrels, content
from eval.datasets.folder import Folder, chosen
from eval.datasets.tags import tags_of
from eval.datasets.tell import Tell
from eval.types import Question
from rag.errors import UsageError

_IDS = ("_id", "id", "query-id", "query_id", "qid")
_TEXTS = ("text", "query", "question", "title")
_QRELS = ("query-id", "corpus-id", "score")
_TOPIC = re.compile(r"<top>(.*?)(?:</top>|(?=<top>)|\Z)", re.DOTALL | re.IGNORECASE)
_NUMBER = re.compile(r"<num>\s*(?:Number:)?\s*([^\s<]+)", re.IGNORECASE)
_TITLE = re.compile(r"<title>\s*(?:Topic:)?\s*([^<]*)", re.IGNORECASE)

Grades = dict[str, dict[str, int]]


def tells_beir(folder: Folder) -> Tell:
    """Queries, and judgements in tables with a header."""
    return _tells(folder, trec_lines=False)


def tells_trec(folder: Folder) -> Tell:
    """Queries or topics, and judgements in lines of four fields."""
    return _tells(folder, trec_lines=True)


def _tells(folder: Folder, *, trec_lines: bool) -> Tell:
    judged = folder.qrels()
    if not judged or not _queries(folder):
        return Tell.NO
    return Tell.CERTAIN if trec_lines == begins_as_qrels(judged[0]) else Tell.NO


def _queries(folder: Folder) -> tuple[Path, ...]:
    return folder.role("queries") or folder.role("topics")


def read(folder: Folder, draft: Draft, qrels: str | None) -> None:
    """Every query with the grades of its documents. Those that are judged in another split alone are left out."""
    judged = folder.qrels()
    picked = chosen(judged, qrels, folder.path)
    others = [path for path in judged if path not in picked]
    grades = _grades(picked, draft)
    elsewhere = {name for path in others for name in _quietly(path)} - grades.keys()
    draft.corpus = folder.role("corpus")
    asked = [each for path in _queries(folder) for each in _asked(content(path), draft)]
    known = {each.name for each in asked}
    draft.notes.append("judgements: " + ", ".join(path.name for path in picked))
    _refuse_strangers(grades, known, draft)
    tags, notes = tags_of([each.rest for each in asked], ())
    left = 0
    for each, own in zip(asked, tags, strict=True):
        if each.name in elsewhere:
            left += 1
            continue
        draft.take(
            each.record,
            _question(each, own, grades.get(each.name, {})),
        )
    draft.notes += notes
    if left:
        draft.notes.append(f"queries that are judged in another file alone, and left out: {left:,}")


def _question(asked: _Asked, tags: Mapping[str, str], grades: Mapping[str, int]) -> Question:
    return Question(
        asked.name, asked.text, (), answerable=True, gold=(), tags=tags, grades=grades, line=asked.record.line
    )


def _quietly(path: Path) -> Iterable[str]:
    try:
        return _grades((path,), Draft(path))
    except UsageError:
        return ()  # what was not chosen may be broken


def _refuse_strangers(grades: Grades, known: set[str], draft: Draft) -> None:
    """Two files that were joined by the wrong id look like bad retrieval."""
    strangers = [name for name in grades if name not in known]
    if known and grades and len(strangers) == len(grades):
        what = f"no judged query is among the queries: {strangers[0]!r} is judged, {min(known)!r} is a query"
        draft.mistake(str(draft.path), what, "name the judgements that go with these queries, and check their ids")
    elif strangers:
        draft.notes.append(
            f"judged queries that are not among the queries: {len(strangers):,}, such as {strangers[0]!r}"
        )


def _grades(paths: Iterable[Path], draft: Draft) -> Grades:
    """The grade of every document by query."""
    found: Grades = {}
    for path in paths:
        file = content(path)
        if file.kind == "qrels":
            draft.read(file)
            try:
                table = trec.read_qrels(path)
            except UsageError as error:
                for each in error.problems:
                    draft.mistake(each.where, each.what, each.remedy)
                continue
            for at, query in enumerate(table.queries):
                span = slice(table.starts[at], table.starts[at + 1])
                names = (table.documents[code] for code in table.document[span].tolist())
                found.setdefault(query, {}).update(zip(names, table.grade[span].tolist(), strict=True))
        else:
            _table(file, found, draft)
    return found


def _table(file: Content, found: Grades, draft: Draft) -> None:
    draft.read(file)
    if not file.columns >= {*_QRELS}:
        what = "judgements need a header line with query-id, corpus-id and score"
        draft.mistake(str(file.path), what, "write `query-id<tab>corpus-id<tab>score` above them")
        return
    for place, row in file.rows:
        record = Record(file.where(place), place, row)
        query, document = (record.identifier(name) for name in _QRELS[:2])
        grade = _grade(row["score"])
        if grade is None:
            record.mistakes.append(f"score {row['score']!r} is not a whole number")
        elif found.get(query, {}).get(document, grade) != grade:
            record.mistakes.append(f"document {document!r} of query {query!r} has another score above")
        elif not record.mistakes:
            found.setdefault(query, {})[document] = grade
        for what in record.mistakes:
            draft.mistake(record.where, what)


def _grade(value: object) -> int | None:
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d{1,9}(\.0*)?", value.strip()):
        return int(float(value))
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if type(value) is int else None


@dataclass(frozen=True, slots=True)
class _Asked:
    record: Record
    name: str
    text: str
    rest: Mapping[str, Any]


def _asked(file: Content, draft: Draft) -> Iterator[_Asked]:
    draft.read(file)
    if file.kind == "topics":
        yield from _topics(file)
        return
    id_column = next((name for name in _IDS if name in file.columns), None)
    text_column = next((name for name in _TEXTS if name in file.columns), None)
    if file.kind == "delimited" and (id_column is None or text_column is None):
        yield from _lines(file)
        return
    if id_column is None or text_column is None:
        what = f"queries need an id ({' or '.join(_IDS)}) and a text ({' or '.join(_TEXTS)})"
        draft.mistake(str(file.path), what, "name the columns so")
        return
    for place, row in file.rows:
        record = Record(file.where(place), place, row)
        rest = {name: value for name, value in row.items() if name not in (id_column, text_column)}
        yield _Asked(record, record.identifier(id_column), record.text(text_column), rest)


def _lines(file: Content) -> Iterator[_Asked]:
    """`query<tab>text`, without a header, as TREC and MS MARCO write them; quotes mean nothing there."""
    for place, line in enumerate(file.text.split("\n"), 1):
        if line.strip():
            name, _, text = line.rstrip("\r").partition("\t")
            record = Record(file.where(place), place, {"id": name.strip(), "text": text})
            yield _Asked(record, record.identifier("id"), record.text("text"), {})


def _topics(file: Content) -> Iterator[_Asked]:
    for match in _TOPIC.finditer(file.text):
        line = file.text.count("\n", 0, match.start()) + 1
        number, title = _NUMBER.search(match[1]), _TITLE.search(match[1])
        values = {"num": number and number[1], "title": title and " ".join(title[1].split())}
        record = Record(file.where(line), line, values)
        yield _Asked(record, record.identifier("num"), record.text("title"), {})
