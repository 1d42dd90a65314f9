"""A question set while it is read: the rows as records that know what is wrong with them, and all mistakes together."""

from __future__ import annotations

import ast
import hashlib
import io
import json
import math
import re
import tokenize
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eval.datasets.files import Content
from eval.types import Dataset, Question
from rag.errors import Problem, UsageError

REMEDY = "docs/datasets.md says what each field means"
_SHOWN = 50
_LONGEST = 1_000_000
_LONGEST_ID = 1_000
_HIGHEST = 999_999_999
"""As in files of judgements: nine digits."""
_FLAGS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(slots=True)
class Record:
    """One row. What a field lacks is put on the list of its mistakes, and something empty is given in its place."""

    where: str
    line: int
    values: Mapping[str, Any]
    mistakes: list[str] = field(default_factory=list)

    def text(self, name: str) -> str:
        """A field that must hold text."""
        return self._text(self.values.get(name), name)

    def identifier(self, name: str) -> str:
        """An id as text: a whole number is written out, a decimal one has lost what it was."""
        return self._identifier(self.values.get(name), name)

    def texts(self, name: str) -> tuple[str, ...]:
        """Texts: a list, a text alone, or a list that was printed into a cell as JSON or as Python. Each once."""
        return self._each(name, self._text)

    def identifiers(self, name: str) -> tuple[str, ...]:
        """As `texts`, for ids."""
        return self._each(name, self._identifier)

    def flag(self, name: str) -> bool:
        """True or false, also as words."""
        value = self.values.get(name)
        known = value if isinstance(value, bool) else _FLAGS.get(str(value).strip().lower())
        if known is None:
            self.mistakes.append(f"{name} is {_named(value)}, not true or false")
        return bool(known)

    def empty(self, name: str) -> bool:
        """Whether nothing stands there: no such field, null, blank text or an empty list."""
        value = self.values.get(name)
        return value is None or value == [] or (isinstance(value, str) and value.strip() in ("", "[]"))

    def _each(self, name: str, one: Callable[[object, str], str]) -> tuple[str, ...]:
        value = self.values.get(name)
        if isinstance(value, str) and value.lstrip().startswith("["):
            value = self._printed(value, name)
        items = value if isinstance(value, list | tuple) and value else [value]
        return tuple(dict.fromkeys(one(item, name) for item in items))

    def _identifier(self, value: object, name: str) -> str:
        return str(value) if type(value) is int else self._text(value, name)

    def _text(self, value: object, name: str) -> str:
        if isinstance(value, str) and value.strip():
            return value
        self.mistakes.append(f"{name} is {_named(value)}" + ("" if _nothing(value) else ", not text"))
        return ""

    def _printed(self, value: str, name: str) -> object:
        try:
            found = json.loads(value)
        except (ValueError, RecursionError):
            found = _python(value)
        if found is _RUN_TOGETHER:
            self.mistakes.append(f"{name} is a list without commas, as NumPy prints it: its parts cannot be told apart")
            return [value]
        # a bracket may also begin a sentence, and a list of numbers may be an answer
        return found if isinstance(found, list) and all(isinstance(item, str) for item in found) else value


_RUN_TOGETHER = object()


def _python(value: str) -> object:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = ast.literal_eval(value.strip())
        words = sum(
            each.type == tokenize.STRING for each in tokenize.generate_tokens(io.StringIO(value.strip()).readline)
        )
    except (ValueError, SyntaxError, MemoryError, RecursionError, tokenize.TokenError):
        return None
    # Python joins neighbours: ['a' 'b'] would be one text
    return _RUN_TOGETHER if isinstance(found, list) and words > len(found) else found


def _beyond(question: Question) -> list[str]:
    """What is larger than anything meant: a quote that was never closed, a file that is no set of questions."""
    texts = {
        "question_id": ((question.question_id,), _LONGEST_ID),
        "question": ((question.text,), _LONGEST),
        "an expected answer": (question.expected_answers, _LONGEST),
    }
    mistakes = []
    for name, (found, most) in texts.items():
        length = max(map(len, found), default=0)
        if length > most:
            mistakes.append(f"{name} is {length:,} characters long, more than {most:,}")
    if any(abs(grade) > _HIGHEST for grade in question.grades.values()):
        mistakes.append(f"a grade is above {_HIGHEST:,}, or below its negative")
    return mistakes


def _in_order(problem: Problem) -> list[str | int]:
    """Line 9 before line 10."""
    return [int(part) if at % 2 else part for at, part in enumerate(re.split("([0-9]+)", problem.where))]


def _nothing(value: object) -> bool:
    return value is None or value == [] or isinstance(value, str) or (isinstance(value, float) and math.isnan(value))


def _named(value: object) -> str:
    if isinstance(value, str) and value.strip():
        return repr(value[:40])
    if _nothing(value):
        return "NaN" if isinstance(value, float) else "empty"
    names: dict[type, str] = {
        bool: "true or false",
        int: "a number",
        float: "a decimal number",
        list: "a list",
        dict: "an object",
    }
    return names.get(type(value), f"a {type(value).__name__}")


class Draft:
    """What was read of a question set so far, and what is wrong with it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notes: list[str] = []
        self.corpus: tuple[Path, ...] = ()
        self._questions: list[Question] = []
        self._places: dict[str, str] = {}
        self._problems: list[Problem] = []
        self._digests: list[str] = []

    def read(self, content: Content) -> None:
        """Count a file among those that the set was read from, with the rows of it that are broken."""
        self._digests.append(content.sha256)
        for place, why in content.broken:
            self.mistake(content.where(place), why, "write one whole row, or one JSON object a line")

    def mistake(self, where: str, what: str, remedy: str = REMEDY) -> None:
        """Put a mistake on the list."""
        self._problems.append(Problem(where, what, remedy))

    def take(self, record: Record, question: Question) -> None:
        """Keep a question if its record has no mistakes, and its id no twin."""
        record.mistakes += _beyond(question)
        name = question.question_id
        if name and name in self._places:
            record.mistakes.append(f"question_id {name[:_LONGEST_ID]!r} stands {self._places[name]} already")
        elif name:
            self._places[name] = f"on line {record.line}" if record.line else f"at {record.where}"
        for what in record.mistakes:
            self.mistake(record.where, what)
        if not record.mistakes:
            self._questions.append(question)

    def dataset(self, name: str) -> Dataset:
        """The set. Raises UsageError with every mistake (the first 50), and for a set without a question."""
        if not self._questions and not self._problems:
            self.mistake(str(self.path), "there is not one question in it", "name a file of questions")
        if self._problems:
            count = len(self._problems)
            found = "one mistake" if count == 1 else f"{count:,} mistakes"
            raise UsageError(f"{self.path} has {found}", sorted(self._problems, key=_in_order)[:_SHOWN])
        digests = self._digests
        whole = digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()
        return Dataset(
            self.path, name, whole, tuple(self._questions), (*self.notes, *counted(self._questions)), self.corpus
        )


def counted(questions: list[Question]) -> list[str]:
    """What the questions lack, as notes."""
    answerable = [each for each in questions if each.answerable]
    unjudged = sum(not each.judgements for each in answerable)
    silent = sum(not each.expected_answers for each in answerable)
    notes = []
    if unjudged:
        notes.append(
            f"{unjudged:,} of {len(answerable):,} answerable questions have no judged documents: in no mean of a ranking"
        )
    if silent:
        notes.append(
            f"{silent:,} of {len(answerable):,} answerable questions have no expected answer: in no mean of answers"
        )
    return notes
