"""Where the gold of a question is, and why its answer is wrong, in one short word.

Gold may lie across chunks, and the white space between two chunks belongs to neither: a span is all there when the
passages hold every character of it that is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from eval.measures.answers import token_scores
from eval.measures.gathered import places
from eval.measures.spans import length, union
from eval.types import Gold, Observed, Question, Scored, Status
from rag.types import Passage

Cause: TypeAlias = Literal[
    "error",
    "answered_unanswerable",
    "not_retrieved",
    "not_in_prompt",
    "partly_in_prompt",
    "not_answered",
    "answered_wrongly",
]
CAUSES: Mapping[str, str] = {
    "error": "it failed: `error_type` says how",
    "answered_unanswerable": "nothing in the corpus answers it, and it was answered",
    "not_retrieved": "no passage looked at holds gold, however deep",
    "not_in_prompt": "gold was found, but too deep: the generator was given none of it",
    "partly_in_prompt": "the generator was given a part of the gold that is needed",
    "not_answered": "the generator had all gold, and abstained; in `closed_book`: it abstained",
    "answered_wrongly": "the generator had all gold, and said something else; in `closed_book`: it said something else",
}
"""Looked for in this order."""
_RIGHT = 0.5
"""A judged Correctness from here on is a right answer."""


def causes(scored: Scored) -> list[Cause | None]:
    """Of each observation why its answer is wrong; None where it is right, or nobody can tell.

    An answer is right where the judge's Correctness says so; without a verdict where it contains an accepted answer.
    """
    right = _right(scored)
    return [_cause(observed, fine) for observed, fine in zip(scored.observed, right, strict=True)]


def _right(scored: Scored) -> list[bool | None]:
    """Of each observation whether its answer is right; None where nothing says so."""
    answers = ["" if each.answer is None or each.answer.abstained else each.answer.text for each in scored.observed]
    contains = token_scores(answers, [each.question.expected_answers for each in scored.observed]).contains.tolist()
    judge = next((at for at, measure in enumerate(scored.measures) if measure.name == "Correctness"), None)
    found: list[bool | None] = []
    for at, observed in enumerate(scored.observed):
        verdict = scored.scores[at][judge] if judge is not None else None
        if verdict is not None and verdict.status == Status.SCORED and verdict.value is not None:
            found.append(verdict.value >= _RIGHT)
        else:
            found.append(bool(contains[at]) if observed.question.expected_answers else None)
    return found


def _cause(observed: Observed, right: bool | None) -> Cause | None:  # noqa: FBT001
    if observed.answer is None:
        return "error"
    abstained = observed.answer.abstained
    if not observed.question.answerable:
        return None if abstained else "answered_unanswerable"
    if not abstained and right is not False:
        return None
    if observed.arm != "closed_book":
        wanted = Wanted.of(observed.question)
        given = wanted.held(observed.ranking[: observed.prompt_passages])
        if given == "none":
            return "not_retrieved" if wanted.held(observed.ranking) == "none" else "not_in_prompt"
        if given == "part":
            return "partly_in_prompt"
    return "not_answered" if abstained else "answered_wrongly"


@dataclass(frozen=True, slots=True)
class Wanted:
    """The gold of a question, ready to be looked for in passages, at every place where a passage stands."""

    spans: tuple[Gold, ...]
    """The gold that has a place in its document."""
    parts: Mapping[str, Sequence[tuple[int, int]]]
    """Of each document the union of its spans."""
    grades: Mapping[str, int]
    """Of the documents that are judged."""

    @classmethod
    def of(cls, question: Question) -> Wanted:
        spans = tuple(gold for gold in question.gold if gold.start < gold.end)
        return cls(spans, union((gold.doc_id, gold.start, gold.end) for gold in spans), question.judgements)

    @property
    def count(self) -> int:
        """Spans; where there are none, relevant documents."""
        return len(self.spans) or sum(grade > 0 for grade in self.grades.values())

    def chars(self, passage: Passage) -> int:
        """Characters of gold that the passage covers."""
        found = [
            (place.doc_id, max(start, place.start), min(end, place.end))
            for place in places(passage)
            for start, end in self.parts.get(place.doc_id, ())
            if start < place.end and place.start < end
        ]
        return length(found) if found else 0

    def grade(self, passage: Passage) -> int | None:
        """The best grade of a document that the passage stands in; None where nobody judged one."""
        return max((self.grades[each.doc_id] for each in places(passage) if each.doc_id in self.grades), default=None)

    def is_in(self, passage: Passage) -> bool:
        """Whether the passage covers a character of gold; without spans, whether it stands in a relevant document."""
        return self.chars(passage) > 0 if self.spans else (self.grade(passage) or 0) > 0

    def held(self, passages: Sequence[Passage]) -> Literal["all", "part", "none"]:
        """How much of the gold these passages hold together.

        Every span is needed; of relevant documents without spans any one. What has no gold at all is all there.
        """
        if not self.spans:
            return "all" if not self.count or any(map(self.is_in, passages)) else "none"
        found = union(place for passage in passages for place in places(passage))
        if not any(_left(gold, found.get(gold.doc_id, [])) for gold in self.spans):
            return "all"
        return "part" if any(map(self.is_in, passages)) else "none"


def _left(gold: Gold, parts: Sequence[tuple[int, int]]) -> str:
    """What the parts of the document, in order and apart, leave of the quote, white space aside."""
    at, left = 0, []
    for start, end in parts:
        left.append(gold.quote[at : max(at, start - gold.start)])
        at = max(at, end - gold.start)
    return "".join([*left, gold.quote[at:]]).strip()
