"""Measures of retrieved chunks against gold spans, in characters: they hold for any chunking.

They look at the first k chunks of a ranking. A chunk that stands for equal ones (`Passage.also_in`) covers gold at all
its places, and counts once as retrieved text.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from eval.measures.conditions import GOLD_SPANS
from eval.measures.names import Entry, Floats, Measure
from rag.types import Span

Spans: TypeAlias = Sequence[tuple[str, int, int]]
"""(doc_id, start, end), half-open."""
Ranking: TypeAlias = Sequence[Sequence[Span]]
"""The chunks, best first; of each its places, its own first."""


def span_recall(gold: Sequence[Spans], rankings: Sequence[Ranking], k: int) -> NDArray[np.float64]:
    """SpanR@k: of the characters in the union of a question's gold spans, the share that the first k chunks cover.

    In [0, 1], shape [questions]; NaN for a question without gold. Raises ValueError as the others here: the lists are
    not equally long, k is below 1.
    """
    return _over(gold, rankings, k, _recall)


def span_precision(gold: Sequence[Spans], rankings: Sequence[Ranking], k: int) -> NDArray[np.float64]:
    """SpanP@k: of the characters in the union of the first k chunks, the share that is gold.

    In [0, 1], shape [questions]; 0 where nothing was retrieved, NaN for a question without gold.
    """
    return _over(gold, rankings, k, _precision)


def span_hit(gold: Sequence[Spans], rankings: Sequence[Ranking], k: int) -> NDArray[np.float64]:
    """SpanHit@k: 1 where one of the first k chunks holds a whole gold span, else 0; shape [questions].

    NaN for a question without gold.
    """
    return _over(gold, rankings, k, _hit)


def union(spans: Iterable[tuple[str, int, int]]) -> dict[str, list[tuple[int, int]]]:
    """Of each document the parts that the spans cover, in order and apart from one another; empty spans are nothing."""
    parts: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for doc_id, start, end in sorted(spans):
        merged = parts[doc_id]
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        elif start < end:
            merged.append((start, end))
    return {doc_id: merged for doc_id, merged in parts.items() if merged}


def length(spans: Iterable[tuple[str, int, int]]) -> int:
    """Characters that the spans cover together."""
    return _covered(union(spans))


def _covered(parts: dict[str, list[tuple[int, int]]]) -> int:
    return sum(end - start for merged in parts.values() for start, end in merged)


def _over(
    gold: Sequence[Spans], rankings: Sequence[Ranking], k: int, measure: Callable[[Spans, Ranking], float]
) -> NDArray[np.float64]:
    if k < 1:
        raise ValueError(f"k is {k}, and counts chunks from 1")
    values = [
        measure(spans, ranking[:k]) if any(start < end for _, start, end in spans) else np.nan
        for spans, ranking in zip(gold, rankings, strict=True)
    ]
    return np.array(values, dtype=np.float64)


def _recall(gold: Spans, ranking: Ranking) -> float:
    covered = (place for chunk in ranking for place in chunk)
    wanted = union(gold)
    shared = _shared(wanted, covered)
    return length(both for _, both in shared) / _covered(wanted) if shared else 0.0


def _precision(gold: Spans, ranking: Ranking) -> float:
    wanted = union(gold)
    relevant: list[tuple[str, int, int]] = []
    for chunk in ranking:
        own = chunk[0]
        for place, (_, start, end) in _shared(wanted, chunk):
            # gold at another place of an equal chunk is gold at the same characters of this one
            shift = own.start - place.start
            relevant.append((own.doc_id, start + shift, min(end + shift, own.end)))
    return length(relevant) / length(chunk[0] for chunk in ranking) if relevant else 0.0


def _hit(gold: Spans, ranking: Ranking) -> float:
    for doc_id, start, end in gold:
        for chunk in ranking:
            for where, first, last in chunk:
                if where == doc_id and first <= start < end <= last:
                    return 1.0
    return 0.0


def _shared(
    wanted: dict[str, list[tuple[int, int]]], places: Iterable[Span]
) -> list[tuple[Span, tuple[str, int, int]]]:
    """Each place with each part of it that is wanted."""
    return [
        (place, (place.doc_id, max(start, place.start), min(end, place.end)))
        for place in places
        if place.doc_id in wanted
        for start, end in wanted[place.doc_id]
        if start < place.end and place.start < end
    ]


@dataclass(frozen=True, slots=True)
class Retrieved:
    """The chunks of some questions, and the spans that they should cover."""

    gold: Sequence[Spans]
    rankings: Sequence[Ranking]


def _entry_values(
    of: Callable[[Sequence[Spans], Sequence[Ranking], int], Floats],
) -> Callable[[Retrieved, Measure], Floats]:
    def values(retrieved: Retrieved, measure: Measure) -> Floats:
        assert measure.cutoff is not None
        return of(retrieved.gold, retrieved.rankings, measure.cutoff)

    return values


_NEEDS = "gold spans and rankings of chunks"
_MISSING = "no results: 0; no gold span: not applicable"
_SOURCE = "token-wise recall and precision of chunks (Smith and Troynikov, Evaluating Chunking, 2024), in characters"
SPAN_R = Entry(
    name="SpanR",
    family="span",
    when=GOLD_SPANS,
    says="how much of the gold text stands in the first K chunks",
    formula="characters of the union of gold spans that the first K chunks cover / characters of that union",
    needs=_NEEDS,
    source=_SOURCE,
    missing=_MISSING,
    values=_entry_values(span_recall),
    cutoff="required",
    aliases=("SpanRecall",),
)
SPAN_P = Entry(
    name="SpanP",
    family="span",
    when=GOLD_SPANS,
    says="how much of the text of the first K chunks is gold",
    formula="characters of the union of the first K chunks that are gold / characters of that union",
    needs=_NEEDS,
    source=_SOURCE,
    missing=_MISSING,
    values=_entry_values(span_precision),
    cutoff="required",
    aliases=("SpanPrecision",),
)
SPAN_HIT = Entry(
    name="SpanHit",
    family="span",
    when=GOLD_SPANS,
    says="whether one of the first K chunks holds a whole gold span",
    formula="1 if a gold span lies within one of the first K chunks, else 0",
    needs=_NEEDS,
    source="ragline; Success@K with a chunk as relevant that holds a whole gold span",
    missing=_MISSING,
    values=_entry_values(span_hit),
    cutoff="required",
)
