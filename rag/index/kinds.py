"""The index kinds: which one `auto` takes, and for each all that is not the same for every kind.

Its parameters are known before a vector exists and are part of the content digest.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rag.errors import Problem, RaglineError, SettingsError
from rag.ports import Floats
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

Parameters = dict[str, Json]
Rows = NDArray[np.int64]


Head = Callable[[int, int], bytes]
"""(rows, dimensions) -> all bytes of the file before the vectors, so that these can be streamed behind it."""


@dataclass(frozen=True, slots=True)
class Tuned:
    """How an approximate kind is made: the first of `settings` that reaches the recall wanted is kept."""

    knob: str
    """What the manifest calls the setting."""
    settings: Callable[[Parameters], list[int]]
    set: Callable[[Any, int], None]
    prepare: Callable[[Any, Parameters, Callable[[int], Floats]], None]
    """(empty index, parameters, sample), before the first vector is added; `sample(n)` gives n seeded vectors."""


@dataclass(frozen=True, slots=True)
class IndexKind:
    """One kind of FAISS index."""

    parameters: Callable[[int, int], Parameters]
    """(rows, dimensions) -> `factory`, and what else decides the bytes beside the vectors."""
    made: Head | Tuned
    restrict: Callable[[Any, Rows], tuple[Any, Any]]
    """(index, rows) -> (what to search, with which SearchParameters), so that each of these rows is compared."""

    @property
    def exact(self) -> bool:
        return not isinstance(self.made, Tuned)


def nearest_power_of_two(value: float) -> int:
    """The power of two with the smallest distance to value >= 1; the smaller one of two."""
    low = 1 << int(math.log2(max(value, 1.0)))
    return low if value - low <= 2 * low - value else 2 * low


def whole(parameters: Parameters, name: str) -> int:
    """A parameter that is a whole number."""
    value = parameters[name]
    assert isinstance(value, int)
    return value


def _tuning(rows: int) -> Parameters:
    return {"seed": SEED, "recall_target": RECALL_TARGET, "recall_rows": min(rows, RECALL_ROWS)}


def _powers(first: int, last: int) -> list[int]:
    return [1 << power for power in range(first.bit_length() - 1, last.bit_length())]


def _listed(rows: Rows) -> Any:
    import faiss

    swig: Any = faiss
    return swig.SearchParameters(sel=swig.IDSelectorArray(np.unique(rows)))


def _flat_head(rows: int, dimensions: int) -> bytes:
    """FAISS's own bytes of an empty flat index with two counts put in: n at byte 8, the floats at the end."""
    import faiss

    head = bytearray(faiss.serialize_index(faiss.IndexFlatIP(dimensions)).tobytes())
    if len(head) != 45 or head[:4] != b"IxFI":
        what = "this release of faiss writes flat indexes differently"
        raise RaglineError(what, [Problem("index.faiss", what, "use the pinned faiss")])
    head[8:16] = rows.to_bytes(8, "little")
    head[37:45] = (rows * dimensions).to_bytes(8, "little")
    return bytes(head)


def _ivf(rows: int, _dimensions: int) -> Parameters:
    nlist = min(nearest_power_of_two(4 * math.sqrt(rows)), 1 << int(math.log2(max(rows, 1))))
    training = min(rows, TRAINING_ROWS_PER_LIST * nlist)
    return {"factory": f"IVF{nlist},SQ8", "nlist": nlist, "training_rows": training, **_tuning(rows)}


def _train(index: Any, parameters: Parameters, sample: Callable[[int], Floats]) -> None:
    index.cp.seed = SEED % 2**31
    # below this count faiss writes a warning to stderr; our own measure of recall decides
    index.cp.min_points_per_centroid = 1
    index.train(sample(whole(parameters, "training_rows")))


def _set_probes(index: Any, value: int) -> None:
    index.nprobe = value


def _every_list(index: Any, rows: Rows) -> tuple[Any, Any]:
    import faiss

    bits = np.zeros(index.ntotal, dtype=bool)
    bits[rows] = True
    swig: Any = faiss
    members = swig.IDSelectorBitmap(np.packbits(bits, bitorder="little"))
    return index, swig.SearchParametersIVF(sel=members, nprobe=index.nlist)


def _hnsw(rows: int, _dimensions: int) -> Parameters:
    factory = f"HNSW{HNSW_LINKS},Flat"
    return {"factory": factory, "M": HNSW_LINKS, "ef_construction": HNSW_CONSTRUCTION, **_tuning(rows)}


def _one_thread(index: Any, parameters: Parameters, _sample: Callable[[int], Floats]) -> None:
    import faiss

    index.hnsw.efConstruction = parameters["ef_construction"]
    # links depend on the order in which threads insert
    faiss.omp_set_num_threads(1)


def _set_search(index: Any, value: int) -> None:
    index.hnsw.efSearch = value


def _without_links(index: Any, rows: Rows) -> tuple[Any, Any]:
    import faiss

    return faiss.downcast_index(index.storage), _listed(rows)


INDEX_KINDS: dict[str, IndexKind] = {
    "flat": IndexKind(
        parameters=lambda _rows, _dimensions: {"factory": "Flat"},
        made=_flat_head,
        restrict=lambda index, rows: (index, _listed(rows)),
    ),
    "ivf_sq8": IndexKind(
        parameters=_ivf,
        made=Tuned("nprobe", lambda given: _powers(1, max(whole(given, "nlist") // 4, 1)), _set_probes, _train),
        restrict=_every_list,
    ),
    "hnsw": IndexKind(
        parameters=_hnsw,
        made=Tuned("ef_search", lambda _: _powers(16, HNSW_SEARCH_LIMIT), _set_search, _one_thread),
        restrict=_without_links,
    ),
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


def parameters(kind: str, rows: int, dimensions: int) -> Parameters:
    """All that decides the bytes of an index beside its vectors; known before they are.

    Raises SettingsError for an unknown kind.
    """
    return INDEX_KINDS[choose(kind, rows, dimensions)].parameters(rows, dimensions)
