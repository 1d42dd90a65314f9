"""Rows of one question each: which column plays which part, and how a row becomes a question."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eval.datasets.draft import Draft, Record
from eval.datasets.files import Content
from eval.datasets.tags import tags_of
from eval.types import Question

Rows = Sequence[tuple[int, Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class Layout:
    """The column of each part; None where there is none."""

    question: str
    question_id: str | None = None
    answers: str | None = None
    answerable: str | None = None
    impossible: str | None = None
    contexts: str | None = None
    """Passages that prove the answer, of which only the words are known."""
    documents: str | None = None
    """Ids of the documents that hold the answer."""
    unread: frozenset[str] = frozenset()
    """Columns that are known, and of no use here."""

    @property
    def used(self) -> frozenset[str]:
        """Every column that can be no tag."""
        parts = (self.question, self.question_id, self.answers, self.answerable, self.impossible)
        return frozenset(name for name in (*parts, self.contexts, self.documents) if name) | self.unread


def simple(name: str) -> str:
    """A column name as it is looked up.

    >>> simple("Expected Answer")
    'expected_answer'
    """
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def read_rows(content: Content, rows: Rows, layout: Layout, draft: Draft) -> None:
    """Put the question of every row into the draft, with tags of the columns that the layout leaves."""
    tags, notes = tags_of([row for _, row in rows], layout.used)
    draft.notes += notes
    for (place, row), own in zip(rows, tags, strict=True):
        record = Record(content.where(place), place, row)
        draft.take(record, _question(record, layout, own))


def _question(record: Record, layout: Layout, tags: Mapping[str, str]) -> Question:
    text = record.text(layout.question)
    answerable = record.flag(layout.answerable) if layout.answerable else True
    if layout.impossible:
        answerable = not record.flag(layout.impossible)
    answers: tuple[str, ...] = ()
    if layout.answers and answerable and record.empty(layout.answers):
        without = "" if layout.answerable or layout.impossible else ", or false in a column `answerable`"
        record.mistakes.append(f"{layout.answers} is empty: give an answer{without}")
    elif layout.answers and (answerable or not record.empty(layout.answers)):
        answers = record.texts(layout.answers)
        if not answerable:
            record.mistakes.append(f"not answerable, but {layout.answers} holds an answer")
    contexts = record.texts(layout.contexts) if layout.contexts and not record.empty(layout.contexts) else ()
    documents = record.identifiers(layout.documents) if layout.documents and not record.empty(layout.documents) else ()
    name = record.identifier(layout.question_id) if layout.question_id else made_id(text)
    return Question(
        question_id=name,
        text=text,
        expected_answers=answers,
        answerable=answerable,
        gold=(),
        tags=tags,
        # what an unanswerable question points at is what it was written about
        about=documents[0] if documents and not answerable else None,
        grades=dict.fromkeys(documents, 1) if answerable else {},
        contexts=contexts if answerable else (),
        line=record.line,
    )


def made_id(question: str) -> str:
    """The id of a question that has none: from its text, so that another row above it changes nothing."""
    return f"q-{hashlib.sha256(question.encode()).hexdigest()[:12]}" if question else ""
