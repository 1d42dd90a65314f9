"""Answers that people judged right or wrong: EVOUNA, OpenQA-eval, or a table of one's own; told apart by content."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from eval.datasets.draft import Record
from eval.datasets.files import Content, content
from rag.errors import Problem, UsageError

SHOWN: Final = 50
COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "question": ("question", "query", "user_input"),
    "expected": ("expected_answers", "expected", "expected_answer", "answers", "reference", "ground_truth"),
    "answer": ("answer", "response", "output", "prediction"),
    "human": ("human", "human_verdict", "verdict", "correct", "right", "label"),
    "human_2": ("human_2", "second_human"),
    "system": ("system", "model"),
}
"""Columns of a table of one's own, each with the names that are read; the last two may be absent."""
_OPTIONAL = frozenset({"human_2", "system"})
_OPENQA = frozenset({"Question", "Model answer", "Acceptable?"})
_REMEDY = "docs/judging.md says what a table of judged answers holds"
_NO_VERDICT = "no verdict of people"
_NO_ANSWER = "no answer, or none accepted"
_VERDICTS = {
    **dict.fromkeys(("true", "yes", "1", "1.0", "right", "correct"), True),
    **dict.fromkeys(("false", "no", "0", "0.0", "wrong", "incorrect"), False),
}


@dataclass(frozen=True, slots=True)
class Judged:
    """One answer with what people say of it."""

    question: str
    expected: tuple[str, ...]
    answer: str
    right: bool
    """The verdict of people: the final one, where they had to settle it."""
    system: str = ""
    """Who answered; empty where nobody says."""
    people: tuple[bool, ...] = ()
    """What two people said, each for themselves; empty where fewer did."""
    recorded: Mapping[str, bool] = field(default_factory=dict)
    """Verdicts of other judges that the set brings along."""


@dataclass(frozen=True, slots=True)
class JudgedSet:
    """Every answer of a set that counts."""

    name: str
    format: str
    """`evouna`, `openqa` or `table`."""
    sha256: str
    judged: tuple[Judged, ...]
    left_out: Mapping[str, int]
    """Why answers do not count, and how many."""


def read_judged(path: Path) -> JudgedSet:
    """A file, or a folder with one such set. Gzip and Zstandard are read as they are.

    Raises UsageError: no set is recognised, or with every mistake of a table (the first 50).
    """
    inside = sorted(path.iterdir()) if path.is_dir() else [path]
    contents = [content(each) for each in inside if each.is_file() and each.suffix != ".md" and each.name[0] != "."]
    if any(_is_openqa(each) for each in contents):
        # people's verdicts and the accepted answers stand in two files
        beside = sorted(path.iterdir() if path.is_dir() else path.parent.iterdir())
        tables = [content(each) for each in beside if each.name.removesuffix(".gz").endswith(".tsv")]
        return _openqa(path, [each for each in tables if _is_openqa(each)])
    for each in contents:
        if {"question", "golden_answer", "improper"} <= each.columns:
            return _evouna(path, each)
    if len(contents) == 1:
        return _table(contents[0])
    what = f"{path} holds no judged answers that are recognised"
    raise UsageError.at(str(path), what, "name the file, or a folder with EVOUNA's or OpenQA-eval's files")


def _is_openqa(found: Content) -> bool:
    return found.kind == "delimited" and found.columns >= _OPENQA


def _evouna(path: Path, found: Content) -> JudgedSet:
    """Five systems a question. Slashes part the accepted answers; improper questions are those its authors leave out."""
    judged: list[Judged] = []
    left: Counter[str] = Counter()
    for _, row in found.rows:
        expected = tuple(part.strip() for part in (row["golden_answer"] or "").split("/") if part.strip())
        for system in (key.removeprefix("answer_") for key in row if key.startswith("answer_")):
            answer, right = row[f"answer_{system}"], row.get(f"judge_{system}")
            if row["improper"]:
                left["improper question"] += 1
            elif not isinstance(right, bool):
                left[_NO_VERDICT] += 1
            elif not answer or not expected:
                left[_NO_ANSWER] += 1
            else:
                judged.append(Judged(row["question"], expected, answer, right, system))
    return _set(path, "evouna", [found], judged, left)


def _openqa(path: Path, found: Sequence[Content]) -> JudgedSet:
    """Answers with the verdicts of two people, of a third where they differ, and of other judges in files beside."""
    tables = [(each, _unquoted(each)) for each in found]
    people = [rows for each, rows in tables if "annotator1" in each.columns]
    golds = [rows for each, rows in tables if "Gold answers" in each.columns]
    if not people or not golds:
        lacks = "the verdicts of people" if not people else "the accepted answers"
        what = f"{path}: {lacks} are in none of its files"
        raise UsageError.at(str(path), what, "put the files of OpenQA-eval for people and for BEM into one folder")
    accepted = {row["Question"]: tuple(map(str.strip, row["Gold answers"].split(" | "))) for row in golds[0]}
    others: dict[tuple[str, str], dict[str, bool]] = {}
    for each, rows in tables:
        names = each.columns - _OPENQA - {"id", "Gold answers"}
        for row in rows if len(names) == 1 else ():
            if row["Acceptable?"] in ("Yes", "No"):
                judge = next(iter(names)).split()[0]
                others.setdefault(_same(row), {})[judge] = row["Acceptable?"] == "Yes"
    judged: list[Judged] = []
    left: Counter[str] = Counter()
    for row in people[0]:
        if row["Acceptable?"] not in ("Yes", "No"):
            left[_NO_VERDICT] += 1
        elif not row["Model answer"].strip() or row["Question"] not in accepted:
            left[_NO_ANSWER] += 1
        else:
            each_said = tuple(row[name] == "Yes" for name in ("annotator1", "annotator2") if row[name])
            judged.append(
                Judged(
                    question=row["Question"],
                    expected=accepted[row["Question"]],
                    answer=row["Model answer"],
                    right=row["Acceptable?"] == "Yes",
                    people=each_said if len(each_said) == 2 else (),
                    recorded=others.get(_same(row), {}),
                )
            )
    return _set(path, "openqa", found, judged, left)


def _unquoted(found: Content) -> list[dict[str, str]]:
    """The rows; of a file whose quotation marks are text, as the one of people is, split at tabs alone."""
    if not found.broken:
        return [dict(row) for _, row in found.rows]
    names, *rows = (line.rstrip("\r").split("\t") for line in found.text.split("\n") if line.strip())
    wrong = [number for number, row in enumerate(rows, start=2) if len(row) != len(names)]
    if wrong:
        what = f"{len(wrong):,} lines have not the {len(names)} cells of the header"
        raise UsageError.at(f"{found.path}:{wrong[0]}", what, "take the file as it was published")
    return [dict(zip(names, row, strict=True)) for row in rows]


def _same(row: Mapping[str, str]) -> tuple[str, str]:
    # the files quote differently, and some lost their quotation marks
    return row["Question"], row["Model answer"].replace('"', "")


def _table(found: Content) -> JudgedSet:
    columns = {name: next((each for each in known if each in found.columns), "") for name, known in COLUMNS.items()}
    lacking = [name for name, column in columns.items() if not column and name not in _OPTIONAL]
    if lacking:
        what = f"{found.path} lacks a column for {', '.join(lacking)}"
        known = "; ".join(f"{name}: {', '.join(COLUMNS[name])}" for name in lacking)
        raise UsageError.at(str(found.path), what, f"name its columns so that they are found ({known})")
    judged: list[Judged] = []
    left: Counter[str] = Counter()
    problems = [
        (line, found.where(line), why, "write one whole row, or one JSON object a line") for line, why in found.broken
    ]
    for line, row in found.rows:
        record = Record(found.where(line), line, row)
        if record.empty(columns["human"]):
            left[_NO_VERDICT] += 1
            continue
        if record.empty(columns["answer"]) or record.empty(columns["expected"]):
            left[_NO_ANSWER] += 1
            continue
        question, answer = (record.text(columns[name]) for name in ("question", "answer"))
        expected = record.texts(columns["expected"])
        right = _verdict(record, columns["human"])
        second = columns["human_2"] and not record.empty(columns["human_2"])
        people = (right, _verdict(record, columns["human_2"])) if second else ()
        system = str(row.get(columns["system"]) or "") if columns["system"] else ""
        problems += [(line, record.where, what, _REMEDY) for what in record.mistakes]
        judged.append(Judged(question, expected, answer, right, system, people))
    if not judged and not problems:
        problems.append((0, str(found.path), "there is not one judged answer in it", "name another file"))
    if problems:
        count = "one mistake" if len(problems) == 1 else f"{len(problems):,} mistakes"
        raise UsageError(f"{found.path} has {count}", [Problem(*rest) for _, *rest in sorted(problems)[:SHOWN]])
    return _set(found.path, "table", [found], judged, left)


def _verdict(record: Record, column: str) -> bool:
    value = record.values.get(column)
    known = _VERDICTS.get(str(value).strip().lower())
    if known is None:
        said = f"{str(value)[:40]!r}, neither right nor wrong (yes or no, true or false, 1 or 0)"
        record.mistakes.append(f"{column} is {said}")
    return bool(known)


def _set(path: Path, kind: str, files: Sequence[Content], judged: Sequence[Judged], left: Counter[str]) -> JudgedSet:
    digests = [each.sha256 for each in files]
    whole = digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()
    return JudgedSet(path.name, kind, whole, tuple(judged), dict(sorted(left.items())))
