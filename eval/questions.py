"""A file of questions: JSON lines, one question a line, `.gz` or plain. Every mistake is told at once."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.types import Gold, Question
from rag.corpus.jsonl import parse
from rag.corpus.page import Unreadable
from rag.errors import Problem, UsageError

_SHOWN = 50
_WANTED = {"question_id": str, "question": str, "answers": list, "answerable": bool, "gold": list}
_SPAN = {"doc_id": str, "start": int, "end": int, "quote": str}
_NAMES = {str: "text", list: "a list", bool: "true or false", int: "a whole number", dict: "an object"}
_REMEDY = "data/README.md says what each field means"


def read(path: Path) -> list[Question]:
    """The questions of a canonical file, in its order.

    Raises UsageError, naming the line of every mistake (the first 50): bad JSON, missing fields, a question_id that
    occurs twice, gold without a span, an answerable question without answers or gold.
    """
    found: list[Question] = []
    problems: list[Problem] = []
    lines: dict[str, int] = {}
    for number, line in enumerate(_bytes(path).split(b"\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            row = parse(line)
        except Unreadable as verdict:
            problems.append(Problem(where, verdict.detail, "write one JSON object a line"))
            continue
        mistakes = _mistakes(row)
        if isinstance(name := row.get("question_id"), str):
            if name in lines:
                mistakes.append(f"question_id {name!r} stands on line {lines[name]} already")
            lines.setdefault(name, number)
        problems += [Problem(where, mistake, _REMEDY) for mistake in mistakes]
        if not mistakes:
            found.append(_question(row))
    if not found and not problems:
        problems.append(Problem(str(path), "there is not one question in it", "name a file of questions"))
    if problems:
        raise UsageError(f"{path} has {len(problems):,} mistakes", problems[:_SHOWN])
    return found


def sample(questions: Sequence[Question], count: int, seed: int = 0) -> list[Question]:
    """At most `count` questions in their own order: those whose sha256 of `seed:question_id` comes first.

    A question that is added or removed changes the sample by itself alone.
    """
    drawn = sorted(questions, key=lambda question: hashlib.sha256(f"{seed}:{question.question_id}".encode()).digest())
    taken = {question.question_id for question in drawn[:count]}
    return [question for question in questions if question.question_id in taken]


def _bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        what = f"cannot be read: {getattr(error, 'strerror', None) or error}"
        raise UsageError(f"{path} {what}", [Problem(str(path), what, "check the path of the question set")]) from error
    return data.removeprefix(b"\xef\xbb\xbf")


def _mistakes(row: Mapping[str, Any]) -> list[str]:
    mistakes = _wrong(row, _WANTED, "")
    if mistakes:
        return mistakes
    if not all(row[name].strip() for name in ("question_id", "question")):
        mistakes.append("question_id or question is empty")
    if not all(isinstance(answer, str) and answer.strip() for answer in row["answers"]):
        mistakes.append("answers holds something that is no text, or empty text")
    for position, gold in enumerate(row["gold"]):
        mistakes += _wrong_span(gold, f"gold[{position}]")
    if row["answerable"] and not row["answers"]:
        mistakes.append("answerable, but without answers")
    if row["answerable"] and not row["gold"]:
        mistakes.append("answerable, but without gold")
    if not row["answerable"] and (row["answers"] or row["gold"]):
        mistakes.append("not answerable, but with answers or gold")
    tags = row.get("tags", {})
    if not isinstance(tags, dict) or not all(isinstance(value, str) for value in tags.values()):
        mistakes.append("tags is not an object of texts")
    if not isinstance(row.get("about"), str | None):
        mistakes.append("about is neither a doc_id nor null")
    return mistakes


def _wrong(row: Mapping[str, Any], wanted: Mapping[str, type], place: str) -> list[str]:
    absent = [f"{place}{name} is missing" for name in wanted if name not in row]
    # a bool is an int to Python
    wrong = [name for name, kind in wanted.items() if name in row and type(row[name]) is not kind]
    return absent + [f"{place}{name} is not {_NAMES[wanted[name]]}" for name in wrong]


def _wrong_span(gold: object, place: str) -> list[str]:
    if not isinstance(gold, dict):
        return [f"{place} is not an object"]
    mistakes = _wrong(gold, _SPAN, f"{place}.")
    if not mistakes and not 0 <= gold["start"] < gold["end"]:
        mistakes.append(f"{place} has no span: start {gold['start']}, end {gold['end']}")
    elif not mistakes and gold["end"] - gold["start"] != len(gold["quote"]):
        mistakes.append(f"{place}: the span is {gold['end'] - gold['start']} long, its quote {len(gold['quote'])}")
    return mistakes


def _question(row: Mapping[str, Any]) -> Question:
    return Question(
        question_id=row["question_id"],
        text=row["question"],
        expected_answers=tuple(row["answers"]),
        answerable=row["answerable"],
        gold=tuple(Gold(gold["doc_id"], gold["start"], gold["end"], gold["quote"]) for gold in row["gold"]),
        tags=row.get("tags", {}),
        about=row.get("about"),
    )
