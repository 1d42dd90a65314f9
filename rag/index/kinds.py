"""The index kinds: which one `auto` takes, and all parameters that can be known before a vector exists."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from rag.errors import Problem, SettingsError
from rag.types import Json

SEED = 20261122
FLAT_LIMIT = 200_000_000
"""rows x dimensions up to which an exact search is the default."""
RECALL_TARGET = 0.95
RECALL_ROWS = 1_000
TRAINING_ROWS_PER_LIST = 64
HNSW_LINKS = 32
HNSW_CONSTRUCTION = 200
HNSW_SEARCH_LIMIT = 1_024


@dataclass(frozen=True, slots=True)
class IndexKind:
    """One kind of FAISS index.

    `parameters(rows, dimensions)` is part of the content digest. `knob` is what is tuned until 10-recall@10 reaches
    the target: the first of `settings(parameters)` that does is kept; an exact kind has none.
    """

    parameters: Callable[[int, int], dict[str, Json]]
    knob: str | None = None
    settings: Callable[[dict[str, Json]], list[int]] = lambda _: []


def nearest_power_of_two(value: float) -> int:
    """The power of two with the smallest distance to value >= 1; the smaller one of two."""
    low = 1 << int(math.log2(max(value, 1.0)))
    return low if value - low <= 2 * low - value else 2 * low


def _flat(_rows: int, _dimensions: int) -> dict[str, Json]:
    return {"factory": "Flat"}


def _ivf(rows: int, _dimensions: int) -> dict[str, Json]:
    nlist = min(nearest_power_of_two(4 * math.sqrt(rows)), 1 << int(math.log2(max(rows, 1))))
    training = min(rows, TRAINING_ROWS_PER_LIST * nlist)
    return {"factory": f"IVF{nlist},SQ8", "nlist": nlist, "training_rows": training, **_tuning(rows)}


def _hnsw(rows: int, _dimensions: int) -> dict[str, Json]:
    return {
        "factory": f"HNSW{HNSW_LINKS},Flat",
        "M": HNSW_LINKS,
        "ef_construction": HNSW_CONSTRUCTION,
        **_tuning(rows),
    }


def _tuning(rows: int) -> dict[str, Json]:
    return {"seed": SEED, "recall_target": RECALL_TARGET, "recall_rows": min(rows, RECALL_ROWS)}


def _powers(first: int, last: int) -> list[int]:
    return [1 << power for power in range(first.bit_length() - 1, last.bit_length())]


def _probes(parameters: dict[str, Json]) -> list[int]:
    nlist = parameters["nlist"]
    assert isinstance(nlist, int)
    return _powers(1, max(nlist // 4, 1))


INDEX_KINDS: dict[str, IndexKind] = {
    "flat": IndexKind(_flat),
    "ivf_sq8": IndexKind(_ivf, "nprobe", _probes),
    "hnsw": IndexKind(_hnsw, "ef_search", lambda _: _powers(16, HNSW_SEARCH_LIMIT)),
}


def choose(kind: str, rows: int, dimensions: int) -> str:
    """The kind that a setting means: `auto` is flat up to FLAT_LIMIT numbers, ivf_sq8 above.

    Raises SettingsError for an unknown kind.
    """
    if kind == "auto":
        return "flat" if rows * dimensions <= FLAT_LIMIT else "ivf_sq8"
    if kind not in INDEX_KINDS:
        what = f"no index kind {kind!r}"
        raise SettingsError(what, [Problem("index.kind", what, f"use one of auto, {', '.join(INDEX_KINDS)}")])
    return kind


def parameters(kind: str, rows: int, dimensions: int) -> dict[str, Json]:
    """All that decides the bytes of an index beside its vectors; known before they are.

    Raises SettingsError for an unknown kind.
    """
    return INDEX_KINDS[choose(kind, rows, dimensions)].parameters(rows, dimensions)
