"""Two rankings -> one: pure functions over rows and scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rag.ports import Floats
from rag.types import Hit

RRF_K = 60
"""The constant of Cormack, Clarke and Buettcher, SIGIR 2009."""
Ranking = tuple[Floats, NDArray[np.int64]]
"""Scores and rows, best first, without the -1 of missing ones."""


def candidates(k: int) -> int:
    """How many of each side are fused for the best k."""
    return max(100, 10 * k)


def weighted_z(dense: Ranking, lexical: Ranking, k: int, dense_weight: float, lexical_weight: float) -> list[Hit]:
    """The best k of the union by weighted sum of z-scores, ties by row.

    Each side's scores are normalised over its own candidates (mean 0, standard deviation 1 of the population; all 0
    where they are equal). A row that one side lacks gets that side's lowest z-score.

    >>> dense = (np.array([0.9, 0.1], dtype=np.float32), np.array([4, 2]))
    >>> lexical = (np.array([7.0, 5.0], dtype=np.float32), np.array([2, 9]))
    >>> [(hit.row, hit.score) for hit in weighted_z(dense, lexical, 3, 0.5, 1.0)]
    [(2, 0.5), (4, -0.5), (9, -1.5)]
    """
    rows = np.union1d(dense[1], lexical[1])
    total = np.zeros(len(rows))
    for (scores, found), weight in ((dense, dense_weight), (lexical, lexical_weight)):
        if len(found):
            normal = _z(scores)
            side = np.full(len(rows), normal.min())
            side[np.searchsorted(rows, found)] = normal
            total += weight * side
    return _hits(rows, total, k, dense, lexical)


def reciprocal_ranks(
    dense: Ranking, lexical: Ranking, k: int, dense_weight: float = 1.0, lexical_weight: float = 1.0
) -> list[Hit]:
    """The best k of the union by the weighted sum of 1 / (60 + rank), ties by row."""
    rows = np.union1d(dense[1], lexical[1])
    total = np.zeros(len(rows))
    for (_, found), weight in ((dense, dense_weight), (lexical, lexical_weight)):
        total[np.searchsorted(rows, found)] += weight / (RRF_K + 1 + np.arange(len(found)))
    return _hits(rows, total, k, dense, lexical)


def one_side(dense: Ranking | None, lexical: Ranking | None) -> list[Hit]:
    """The hits of the one ranking that is given."""
    near, worded = (_places(ranking) if ranking else {} for ranking in (dense, lexical))
    return [_hit(row, score, near, worded) for row, (_, score) in (near or worded).items()]


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
    where = _places(dense), _places(lexical)
    return [_hit(int(rows[place]), float(total[place]), *where) for place in order]


Places = dict[int, tuple[int, float]]


def _places(ranking: Ranking) -> Places:
    pairs: Sequence[tuple[int, float]] = list(zip(ranking[1].tolist(), ranking[0].tolist(), strict=True))
    return {row: (rank, score) for rank, (row, score) in enumerate(pairs, 1)}


def _hit(row: int, score: float, dense: Places, lexical: Places) -> Hit:
    dense_rank, dense_score = dense.get(row, (None, None))
    lexical_rank, lexical_score = lexical.get(row, (None, None))
    return Hit(row, score, dense_rank, dense_score, lexical_rank, lexical_score)
