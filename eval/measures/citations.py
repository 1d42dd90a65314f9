"""Measures of what an answer cites against the gold, by spans; by documents where only documents are judged.

A citation of a text that stands in several places (`Passage.also_in`) cites all of them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from eval.measures.conditions import CITABLE, CITED
from eval.measures.names import Entry, Floats, Measure
from rag.types import Span


@dataclass(frozen=True, slots=True)
class Citing:
    """What one answer cites, and what it should cite: at least one span or one document."""

    citations: Sequence[Sequence[Span]]
    """Of each citation its places, its own first."""
    gold: Sequence[tuple[str, int, int]]
    """Gold spans (doc_id, start, end), half-open; empty where only documents are judged."""
    documents: Collection[str]
    """Relevant documents: looked at only where there are no spans."""


def citation_precision(answers: Sequence[Citing]) -> Floats:
    """CitationP: of an answer's citations the share that overlaps gold, in [0, 1]; 0 for an answer without any."""
    return np.array(
        [
            sum(_right(places, each) for places in each.citations) / len(each.citations) if each.citations else 0.0
            for each in answers
        ]
    )


def citation_recall(answers: Sequence[Citing]) -> Floats:
    """CitationR: of the gold passages, or relevant documents, the share that a citation overlaps, in [0, 1]."""
    return np.array([_found(each) for each in answers])


def _right(places: Sequence[Span], answer: Citing) -> bool:
    if not answer.gold:
        return any(place.doc_id in answer.documents for place in places)
    return any(_overlap(place, gold) for place in places for gold in answer.gold)


def _found(answer: Citing) -> float:
    places = [place for each in answer.citations for place in each]
    if answer.gold:
        return sum(any(_overlap(place, gold) for place in places) for gold in answer.gold) / len(answer.gold)
    return len({place.doc_id for place in places}.intersection(answer.documents)) / len(answer.documents)


def _overlap(place: Span, gold: tuple[str, int, int]) -> bool:
    doc_id, start, end = gold
    return place.doc_id == doc_id and max(place.start, start) < min(place.end, end)


def _precision(answers: Sequence[Citing], measure: Measure) -> Floats:  # noqa: ARG001 - it has no settings
    return citation_precision(answers)


def _recall(answers: Sequence[Citing], measure: Measure) -> Floats:  # noqa: ARG001 - it has no settings
    return citation_recall(answers)


_NEEDS = "answers with citations to answerable questions, and gold spans or judged documents"
_SOURCE = (
    "the citation {} of ALCE (Gao and others, EMNLP 2023), which asks a model sentence by sentence whether the cited "
    "text supports it; here gold decides, for the whole answer"
)
CITATION_P = Entry(
    name="CitationP",
    family="citation",
    when=CITED,
    says="how many of the citations point at gold",
    formula="citations that share a character with a gold span / citations; where only documents are judged: citations "
    "of relevant documents / citations",
    needs=_NEEDS,
    source=_SOURCE.format("precision"),
    missing="answer without a citation: 0; abstained, unanswerable, no gold, arm closed_book: not applicable; "
    "no answer for an error: error",
    values=_precision,
    aliases=("CitationPrecision",),
)
CITATION_R = Entry(
    name="CitationR",
    family="citation",
    when=CITABLE,
    says="how much of the gold is cited",
    formula="gold spans that share a character with a citation / gold spans; where only documents are judged: relevant "
    "documents that are cited / relevant documents",
    needs=_NEEDS,
    source=_SOURCE.format("recall"),
    missing="answer without a citation, or abstained: 0; unanswerable, no gold, arm closed_book: not applicable; "
    "no answer for an error: error",
    values=_recall,
    aliases=("CitationRecall",),
)
