"""Fusion: one case by hand, a slow twin that says the same, and what must hold whatever comes."""

from __future__ import annotations

import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.retrieval.fusion import Ranking, Weights, candidates, reciprocal_ranks, weighted_z
from rag.retrieval.lexical import top
from rag.types import Place

SIDE = st.dictionaries(st.integers(0, 30), st.integers(-20, 20).map(lambda n: n / 4), max_size=12)


def ranking(scores: dict[int, float]) -> Ranking:
    ordered = sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))
    return np.array([s for _, s in ordered], dtype=np.float32), np.array([r for r, _ in ordered], dtype=np.int64)


def test_a_case_worked_by_hand() -> None:
    # dense: mean 0.5, deviation 0.4 sqrt(2/3), so z = sqrt(3/2), 0, -sqrt(3/2); lexical: mean 6, deviation 2, z = 1, -1
    dense, lexical = ranking({1: 0.9, 2: 0.5, 3: 0.1}), ranking({2: 8.0, 9: 4.0})
    z = (3 / 2) ** 0.5
    hits = weighted_z(dense, lexical, 10, Weights(dense=0.5))
    assert [hit.row for hit in hits] == [2, 1, 3, 9]
    assert [hit.score for hit in hits] == pytest.approx([1.0, 0.5 * z - 1, -0.5 * z - 1, -0.5 * z - 1])
    assert (hits[0].dense, hits[0].lexical) == (Place(2, 0.5), Place(1, 8.0))
    assert (hits[3].dense, hits[3].lexical) == (None, Place(2, 4.0))


@given(SIDE, SIDE, st.integers(1, 40), st.sampled_from([0.0, 0.5, 1.0]))
def test_weighted_z_equals_its_slow_twin(
    dense: dict[int, float], lexical: dict[int, float], k: int, weight: float
) -> None:
    def z(side: dict[int, float]) -> dict[int, float]:
        if not side:
            return {}
        mean, spread = statistics.fmean(side.values()), statistics.pstdev(side.values())
        return {row: (score - mean) / spread if spread else 0.0 for row, score in side.items()}

    total = {}
    for row in sorted({*dense, *lexical}):
        total[row] = sum(
            share * normal.get(row, min(normal.values()))
            for normal, share in ((z(dense), weight), (z(lexical), 1.0))
            if normal
        )
    wanted = sorted(total, key=lambda row: (-round(total[row], 9), row))[:k]
    hits = weighted_z(ranking(dense), ranking(lexical), k, Weights(dense=weight))
    assert [hit.row for hit in hits] == wanted
    assert [hit.score for hit in hits] == pytest.approx([total[row] for row in wanted], abs=1e-5)


@given(SIDE, SIDE, st.integers(1, 40))
def test_reciprocal_ranks_equal_their_slow_twin(dense: dict[int, float], lexical: dict[int, float], k: int) -> None:
    total: dict[int, float] = {}
    for side in (dense, lexical):
        for rank, row in enumerate(ranking(side)[1].tolist(), 1):
            total[row] = total.get(row, 0.0) + 1 / (60 + rank)
    wanted = sorted(total, key=lambda row: (-round(total[row], 9), row))[:k]
    assert [hit.row for hit in reciprocal_ranks(ranking(dense), ranking(lexical), k, Weights())] == wanted


@given(SIDE, SIDE)
def test_fusion_leaves_its_inputs_alone_and_ignores_the_unit_of_a_score(
    dense: dict[int, float], lexical: dict[int, float]
) -> None:
    a, b = ranking(dense), ranking(lexical)
    kept = [part.copy() for part in (*a, *b)]
    first = weighted_z(a, b, 50, Weights())
    assert all((x == y).all() for x, y in zip(kept, (*a, *b), strict=True))
    scaled = weighted_z((a[0] * 8 + 16, a[1]), b, 50, Weights())
    assert [hit.row for hit in scaled] == [hit.row for hit in first]


@given(st.lists(st.integers(0, 5), max_size=40), st.integers(0, 50))
def test_top_is_a_stable_sort(values: list[int], k: int) -> None:
    scores = np.array(values, dtype=np.float32)
    assert top(scores, k).tolist() == sorted(range(len(values)), key=lambda place: (-values[place], place))[:k]


def test_one_hundred_candidates_at_least() -> None:
    assert (candidates(1), candidates(10), candidates(11)) == (100, 100, 110)
