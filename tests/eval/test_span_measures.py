"""Chunks against gold spans: equal to sets of characters, and the same for any chunking."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.measures.spans import length, span_hit, span_precision, span_recall, union
from rag.types import Span

spans = st.builds(
    lambda doc_id, start, size: Span(doc_id, start, start + size),
    st.sampled_from("ab"),
    st.integers(0, 20),
    st.integers(1, 9),
)


def characters(several: list[Span]) -> set[tuple[str, int]]:
    return {(doc_id, at) for doc_id, start, end in several for at in range(start, end)}


@given(st.lists(st.lists(spans, max_size=3), max_size=4), st.lists(spans, max_size=5), st.integers(1, 6))
def test_the_span_measures_count_characters(gold: list[list[Span]], chunks: list[Span], k: int) -> None:
    rankings = [[(chunk,) for chunk in chunks]] * len(gold)
    got = np.stack([measure(gold, rankings, k) for measure in (span_recall, span_precision, span_hit)], axis=1)
    found = characters(chunks[:k])
    for row, wanted in zip(got, gold, strict=True):
        target = characters(wanted)
        if not target:
            assert np.isnan(row).all()
            continue
        whole = any(characters([each]) <= characters([chunk]) for each in wanted for chunk in chunks[:k])
        assert row.tolist() == [
            len(target & found) / len(target),
            len(target & found) / len(found) if found else 0,
            float(whole),
        ]


@given(st.lists(spans, max_size=6))
def test_a_union_is_in_order_and_its_parts_are_apart(several: list[Span]) -> None:
    for parts in union(several).values():
        assert all(left[1] < right[0] for left, right in pairwise(parts))
    assert length(several) == len(characters(several))


def test_a_chunk_that_stands_for_equal_ones_covers_gold_at_each_place_and_counts_once() -> None:
    chunk = (Span("copy", 100, 120), Span("original", 0, 20))
    gold = [[Span("original", 5, 15)]]
    assert span_recall(gold, [[chunk]], 1) == 1.0
    assert span_precision(gold, [[chunk]], 1) == 0.5
    assert span_hit(gold, [[chunk]], 1) == 1.0
    assert span_precision([[*gold[0], Span("copy", 105, 115)]], [[chunk]], 1) == 0.5


def test_gold_cut_by_a_chunk_border_is_covered_but_no_hit() -> None:
    gold, ranking = [[Span("a", 5, 15)]], [[(Span("a", 0, 10),), (Span("a", 10, 20),)]]
    assert span_recall(gold, ranking, 1) == 0.5
    assert span_recall(gold, ranking, 2) == 1.0
    assert span_hit(gold, ranking, 2) == 0.0


def test_nothing_retrieved_is_0_and_no_gold_is_not_a_number() -> None:
    for measure in (span_recall, span_precision, span_hit):
        judged, unjudged = measure([[Span("a", 0, 5)], []], [[], [(Span("a", 0, 5),)]], 5)
        assert judged == 0.0
        assert math.isnan(unjudged)


def test_a_cutoff_below_one_and_lists_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="k is 0"):
        span_hit([], [], 0)
    with pytest.raises(ValueError, match="zip"):
        span_hit([[]], [], 1)
