"""Two rankings -> one: pure functions over rows and scores."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rag.ports import Floats
from rag.types import Hit, Place

RRF_K = 60
"""The constant of Cormack, Clarke and Buettcher, SIGIR 2009."""
Ranking = tuple[Floats, NDArray[np.int64]]
"""Scores and rows, best first, without the -1 of missing ones."""


class Weights(NamedTuple):
    """How much each side counts in a fusion."""

    dense: float = 1.0
    lexical: float = 1.0


def candidates(k: int) -> int:
    """How many of each side are fused for the best k."""
    return max(100, 10 * k)


def weighted_z(dense: Ranking, lexical: Ranking, k: int, weights: Weights) -> list[Hit]:
    """The best k of the union by weighted sum of z-scores, ties by row.

    Each side's scores are normalised over its own candidates (mean 0, standard deviation 1 of the population; all 0
    where they are equal). A row that one side lacks gets that side's lowest z-score.

    >>> dense = (np.array([0.9, 0.1], dtype=np.float32), np.array([4, 2]))
    >>> lexical = (np.array([7.0, 5.0], dtype=np.float32), np.array([2, 9]))
    >>> [(hit.row, hit.score) for hit in weighted_z(dense, lexical, 3, Weights(dense=0.5))]
    [(2, 0.5), (4, -0.5), (9, -1.5)]
    """
    rows = np.union1d(dense[1], lexical[1])
    total = np.zeros(len(rows))
    for (scores, found), weight in zip((dense, lexical), weights, strict=True):
        if len(found):
            normal = _z(scores)
            side = np.full(len(rows), normal.min())
            side[np.searchsorted(rows, found)] = normal
            total += weight * side
    return _hits(rows, total, k, dense, lexical)


def reciprocal_ranks(dense: Ranking, lexical: Ranking, k: int, weights: Weights) -> list[Hit]:
    """The best k of the union by the weighted sum of 1 / (60 + rank), ties by row."""
    rows = np.union1d(dense[1], lexical[1])
    total = np.zeros(len(rows))
    for (_, found), weight in zip((dense, lexical), weights, strict=True):
        total[np.searchsorted(rows, found)] += weight / (RRF_K + 1 + np.arange(len(found)))
    return _hits(rows, total, k, dense, lexical)


def places(ranking: Ranking) -> dict[int, Place]:
    """Where each row stands, in the order of the ranking."""
    pairs = zip(ranking[1].tolist(), ranking[0].tolist(), strict=True)
    return {row: Place(rank, score) for rank, (row, score) in enumerate(pairs, 1)}


def _z(scores: Floats) -> NDArray[np.float64]:
    wide = np.asarray(scores, dtype=np.float64)
    spread = wide.std()
    # equal scores leave a spread of rounding errors
    if spread <= 1e-12 * max(1.0, float(np.abs(wide).max())):
        return np.zeros(len(wide))
    return np.asarray((wide - wide.mean()) / spread)


def _hits(rows: NDArray[np.int64], total: NDArray[np.float64], k: int, dense: Ranking, lexical: Ranking) -> list[Hit]:
    # sums of the same terms differ in the last bits: they are ties
    order = np.lexsort((rows, -np.round(total, 9)))[:k]
    near, worded = places(dense), places(lexical)
    best = zip(rows[order].tolist(), total[order].tolist(), strict=True)
    return [Hit(row, score, near.get(row), worded.get(row)) for row, score in best]
