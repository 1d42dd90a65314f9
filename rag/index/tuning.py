"""How an approximate index gets its recall: samples, exact neighbours, and the smallest setting that finds them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rag.errors import Problem, RaglineError
from rag.index.kinds import SEED, Tuned, whole
from rag.ports import Floats
from rag.types import Json

if TYPE_CHECKING:
    import faiss

NEIGHBOURS = 10
NAMED_ROWS = 256


def sample_rows(rows: int, count: int, purpose: str) -> NDArray[np.int64]:
    """`count` of `rows` row numbers, sorted; the same ones for the same purpose."""
    seed = [SEED, *purpose.encode()]
    chosen = np.random.Generator(np.random.PCG64(seed)).choice(rows, size=min(count, rows), replace=False)
    return np.sort(chosen).astype(np.int64)


def gather(units: Iterator[Floats], wanted: NDArray[np.int64], dimensions: int) -> Floats:
    """The vectors of sorted rows: float32 [len(wanted), d]."""
    found = np.empty((len(wanted), dimensions), dtype=np.float32)
    first = 0
    for block in units:
        low, high = np.searchsorted(wanted, [first, first + len(block)])
        found[low:high] = block[wanted[low:high] - first]
        first += len(block)
    return found


def tune(
    index: faiss.Index,
    tuned: Tuned,
    parameters: dict[str, Json],
    units: Callable[[], Iterator[Floats]],
    rows: int,
) -> tuple[int, dict[str, Json]]:
    """Set the knob of an approximate index to the smallest power of two that reaches the recall wanted.

    10-recall@10: the share of the exact ten nearest rows that the ten found hold, over seeded rows of the index, each
    row itself left out. Rows with equal vectors count as one another, else a corpus of copies could not be measured.
    The interval is Wilson's at 95 % over rows, not over neighbours: the neighbours of one row are missed together.

    Returns the setting, and the measurement for the manifest. Raises RaglineError where the largest setting misses.
    """
    target = parameters["recall_target"]
    assert isinstance(target, float)
    sample = sample_rows(rows, whole(parameters, "recall_rows"), "recall")
    queries = gather(units(), sample, index.d)
    names, exact = _exact(units(), queries, sample, rows)
    measured: dict[int, float] = {}
    for setting in tuned.settings(parameters):
        tuned.set(index, setting)
        _, found = index.search(queries, min(NEIGHBOURS + 1, rows))
        measured[setting] = _recall(names, exact, found, sample)
        if measured[setting] >= target:
            low, high = wilson(measured[setting], len(sample))
            return setting, {
                "measure": "10-recall@10",
                "value": round(measured[setting], 6),
                "low": round(low, 6),
                "high": round(high, 6),
                "rows": len(sample),
                "seed": SEED,
            }
    best = max(measured, key=lambda setting: measured[setting])
    what = (
        f"{parameters['factory']} finds {measured[best]:.3f} of the exact top 10 at {tuned.knob} {best}, "
        f"the largest allowed; {target} is wanted"
    )
    raise RaglineError(what, [Problem("index.kind", what, 'set [index] kind = "flat" (exact) or "hnsw"')])


def _exact(
    units: Iterator[Floats], queries: Floats, sample: NDArray[np.int64], rows: int
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """A name of 64 bits for each row's vector, and the exact nearest rows of each query, the row itself left out."""
    import faiss

    names = np.empty(rows, dtype=np.uint64)
    factors = np.random.Generator(np.random.PCG64(SEED)).integers(0, 2**63, queries.shape[1], dtype=np.uint64) * 2 + 1
    best = np.full((len(queries), NEIGHBOURS), -np.inf, dtype=np.float32)
    where = np.full((len(queries), NEIGHBOURS), -1, dtype=np.int64)
    first = 0
    for block in units:
        for start in range(0, len(block), NAMED_ROWS):
            part = block[start : start + NAMED_ROWS].view(np.uint32).astype(np.uint64)
            names[first + start : first + start + len(part)] = part @ factors
        scores, found = faiss.knn(queries, block, min(NEIGHBOURS + 1, len(block)), metric=faiss.METRIC_INNER_PRODUCT)
        found = found.astype(np.int64) + first
        scores[found == sample[:, None]] = -np.inf
        both = np.concatenate([best, scores], axis=1)
        rows_of_both = np.concatenate([where, found], axis=1)
        order = np.argsort(-both, axis=1, kind="stable")[:, :NEIGHBOURS]
        best, where = np.take_along_axis(both, order, 1), np.take_along_axis(rows_of_both, order, 1)
        where[best == -np.inf] = -1
        first += len(block)
    return names, where


def _recall(
    names: NDArray[np.uint64], exact: NDArray[np.int64], found: NDArray[np.int64], sample: NDArray[np.int64]
) -> float:
    hits = wanted = 0
    for row, right, got in zip(sample, exact, found, strict=True):
        left = list(names[right[right >= 0]])
        wanted += len(left)
        for name in names[got[(got >= 0) & (got != row)][:NEIGHBOURS]]:
            if name in left:
                left.remove(name)
                hits += 1
    return hits / wanted if wanted else 1.0


def wilson(share: float, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval (JASA 22, 1927) of a share over n trials."""
    middle = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)
