"""Our own form, JSON lines or Parquet: one question a row, with the passages that prove its answer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eval.datasets.draft import Draft, Record
from eval.datasets.files import Content, content
from eval.datasets.tell import Tell
from eval.types import Gold, Question

FIELDS = ("question_id", "question", "answers", "answerable", "gold", "about", "tags", "grades", "contexts")
_WANTED = {"question_id": str, "question": str, "answers": list, "answerable": bool}
_SPAN = {"doc_id": str, "start": int, "end": int, "quote": str}
_NAMES = {str: "text", list: "a list", bool: "true or false", int: "a whole number", dict: "an object"}


def tells(found: Content) -> Tell:
    """The two names of a question and one that only this form has."""
    own = {"question_id", "question"} <= found.columns and {"gold", "grades"} & found.columns
    return Tell.CERTAIN if own else Tell.NO


def read(path: Path) -> list[Question]:
    """The questions of a canonical file, in its order.

    Raises UsageError, naming the line of every mistake (the first 50): bad JSON, missing fields, a question_id that
    occurs twice, gold without a span.
    """
    draft = Draft(path)
    found = content(path)
    draft.read(found)
    read_into(found, draft)
    return list(draft.dataset("canonical").questions)


def read_into(found: Content, draft: Draft) -> None:
    """Put the question of every row into the draft."""
    for place, values in found.rows:
        row = {name: _folded(name, value) for name, value in values.items() if value is not None}
        record = Record(found.where(place), place, row, _mistakes(row))
        name = row.get("question_id")
        made = Question(name if isinstance(name, str) else "", "", (), answerable=False, gold=())
        draft.take(record, made if record.mistakes else _question(row, place))
    if unknown := sorted(found.columns - {*FIELDS}):
        draft.notes.append(f"fields that are not read: {', '.join(unknown)}")


def _folded(name: str, value: Any) -> Any:
    """Parquet has no objects with keys of their own: a map comes as pairs, a struct with every key of the column."""
    if name not in ("tags", "grades"):
        return value
    if isinstance(value, list) and all(isinstance(each, tuple) and len(each) == 2 for each in value):
        value = dict(value)
    if isinstance(value, dict):
        # pandas makes the whole numbers of a column with gaps decimal
        kept = {key: item for key, item in value.items() if item is not None and not _nan(item)}
        return {key: int(item) if isinstance(item, float) and item.is_integer() else item for key, item in kept.items()}
    return value


def _nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _mistakes(row: Mapping[str, Any]) -> list[str]:
    mistakes = _wrong(row, _WANTED, "")
    gold, grades, tags = row.get("gold", []), row.get("grades", {}), row.get("tags", {})
    if "gold" not in row and "grades" not in row:
        mistakes.append("gold is missing")
    if not isinstance(gold, list):
        mistakes.append("gold is not a list")
    if mistakes:
        return mistakes
    if not all(row[name].strip() for name in ("question_id", "question")):
        mistakes.append("question_id or question is empty")
    if not _texts(row["answers"]):
        mistakes.append("answers holds something that is no text, or empty text")
    for position, each in enumerate(gold):
        mistakes += _wrong_span(each, f"gold[{position}]")
    # grades that are there and empty say that nobody judged
    if row["answerable"] and not (row["answers"] or gold or row.get("contexts") or "grades" in row):
        mistakes.append("answerable, but with neither answers nor gold")
    if not row["answerable"] and (row["answers"] or gold):
        mistakes.append("not answerable, but with answers or gold")
    if not isinstance(tags, dict) or not all(isinstance(value, str) for value in tags.values()):
        mistakes.append("tags is not an object of texts")
    if not isinstance(grades, dict) or not all(type(value) is int for value in grades.values()):
        mistakes.append("grades is not an object of whole numbers by doc_id")
    if not isinstance(row.get("contexts", []), list) or not _texts(row.get("contexts", [])):
        mistakes.append("contexts is not a list of texts")
    if not isinstance(row.get("about"), str | None):
        mistakes.append("about is neither a doc_id nor null")
    return mistakes


def _texts(values: list[Any]) -> bool:
    return all(isinstance(value, str) and value.strip() for value in values)


def _wrong(row: Mapping[str, Any], wanted: Mapping[str, type], place: str) -> list[str]:
    absent = [f"{place}{name} is missing" for name in wanted if name not in row]
    nan = [f"{place}{name} is NaN" for name in wanted if _nan(row.get(name))]
    # a bool is an int to Python
    wrong = [name for name, kind in wanted.items() if name in row and type(row[name]) is not kind]
    return absent + nan + [f"{place}{name} is not {_NAMES[wanted[name]]}" for name in wrong if not _nan(row[name])]


def _wrong_span(gold: object, place: str) -> list[str]:
    if not isinstance(gold, dict):
        return [f"{place} is not an object"]
    mistakes = _wrong(gold, _SPAN, f"{place}.")
    if not mistakes and not 0 <= gold["start"] < gold["end"]:
        mistakes.append(f"{place} has no span: start {gold['start']}, end {gold['end']}")
    elif not mistakes and gold["end"] - gold["start"] != len(gold["quote"]):
        mistakes.append(f"{place}: the span is {gold['end'] - gold['start']} long, its quote {len(gold['quote'])}")
    return mistakes


def _question(row: Mapping[str, Any], line: int) -> Question:
    gold = (Gold(each["doc_id"], each["start"], each["end"], each["quote"]) for each in row.get("gold", []))
    return Question(
        question_id=row["question_id"],
        text=row["question"],
        expected_answers=tuple(row["answers"]),
        answerable=row["answerable"],
        gold=tuple(gold),
        tags=row.get("tags", {}),
        about=row.get("about"),
        grades=row.get("grades", {}),
        contexts=tuple(row.get("contexts", ())),
        line=line,
    )
