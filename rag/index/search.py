"""An opened version: search, chunks, documents and filters over files that were checked before they were mapped."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from rag.errors import Damaged, Problem, RaglineError
from rag.index.kinds import INDEX_KINDS
from rag.index.manifest import Manifest
from rag.index.tables import ChunkTable, DocumentTable
from rag.ports import Floats

_TIE = np.float32(1e-6)
"""Scores this close are one score: one batch and one query at a time differ by less (BLAS sums in another order)."""


def map_index(path: Path) -> Any:
    """The FAISS index in a file, mapped, not read: at most about 1 MB is taken whatever its size.

    Raises Damaged where faiss cannot make sense of it.
    """
    import faiss

    try:
        return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except (RuntimeError, MemoryError) as error:
        what = f"index.faiss cannot be opened: {str(error).splitlines()[0][:200]}"
        raise Damaged(what, [Problem("index.faiss", what, "run `ragline repair`")]) from error


class OpenVersion:
    """A published version, held until `close`: gc does not touch it, and no file of it is looked up by name again.

    It is a VectorStore. `number` is its version, `folder` where it lies.
    """

    def __init__(self, folder: Path, number: int, manifest: Manifest, pin: BinaryIO, files: Mapping[str, int]) -> None:
        self.folder = folder
        self.number = number
        self.manifest = manifest
        self._pin = pin
        self._files = dict(files)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the version. Closing twice is fine."""
        for name in ("chunks", "documents"):
            if name in self.__dict__:
                self.__dict__.pop(name).close()
        self.__dict__.pop("index", None)
        for descriptor in self._files.values():
            os.close(descriptor)
        self._files = {}
        self._pin.close()

    def path(self, name: str) -> Path:
        """A path to the very file that was checked, even if its name is gone by now."""
        return Path(f"/proc/self/fd/{self._files[name]}")

    @property
    def rows(self) -> int:
        return self.manifest.rows

    @functools.cached_property
    def index(self) -> Any:
        """The mapped FAISS index. Raises Damaged where it is not what the manifest says."""
        index = map_index(self.path("index.faiss"))
        found = (index.ntotal, index.d, index.metric_type)
        if found != (self.manifest.rows, self.manifest.dimensions, 0):
            wanted = (self.manifest.rows, self.manifest.dimensions, 0)
            what = f"index.faiss holds (rows, dimensions, metric) {found}, the manifest says {wanted}"
            raise Damaged(what, [Problem("index.faiss", what, "run `ragline repair`")])
        return index

    @functools.cached_property
    def chunks(self) -> ChunkTable:
        return ChunkTable(self.path("chunks.parquet"))

    @functools.cached_property
    def documents(self) -> DocumentTable:
        return DocumentTable(self.path("documents.parquet"))

    def where(self, filters: Mapping[str, Sequence[str]]) -> NDArray[np.int64]:
        """Sorted rows whose document's metadata match: AND over keys, OR within one. Raises UsageError."""
        return self.documents.where(filters)

    def search(
        self, queries: Floats, k: int, rows: NDArray[np.int64] | None = None
    ) -> tuple[Floats, NDArray[np.int64]]:
        """The k nearest rows of each query, ties by row: scores float32 [n, k] and rows int64 [n, k], -1 at the end
        where there are fewer.

        With `rows` every one of these rows is compared, whatever the kind: an approximate index walks past its lists
        and links. Raises RaglineError for queries of another dimension.
        """
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        if queries.ndim != 2 or queries.shape[1] != self.manifest.dimensions:
            what = f"queries of shape {queries.shape} for a version of {self.manifest.dimensions} dimensions"
            raise RaglineError(what, [Problem("the query", what, "embed it with the version's own model")])
        limit = self.rows if rows is None else len(rows)
        depth = min(k + 1, limit)
        if not depth or not len(queries):
            return _widened(np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64), k)
        scores, found = self._nearest(queries, depth, rows)
        open_ended = _open_ended(scores, found, k) if depth < limit else _NONE
        scores, found = _widened(scores, found, k)
        # equal scores that reach the last one fetched may go on: only then is more asked for
        while open_ended.size:
            depth = min(depth * 4, limit)
            more_scores, more = self._nearest(queries[open_ended], depth, rows)
            scores[open_ended], found[open_ended] = more_scores[:, :k], more[:, :k]
            open_ended = open_ended[_open_ended(more_scores, more, k)] if depth < limit else _NONE
        return scores, found

    def _nearest(self, queries: Floats, k: int, rows: NDArray[np.int64] | None) -> tuple[Floats, NDArray[np.int64]]:
        searched, only = (
            (self.index, None) if rows is None else INDEX_KINDS[self.manifest.kind].restrict(self.index, rows)
        )
        scores, found = searched.search(queries, k, params=only)
        return _in_row_order(scores, found)


_NONE = np.empty(0, dtype=np.intp)


def _open_ended(scores: Floats, rows: NDArray[np.int64], k: int) -> NDArray[np.intp]:
    """The queries whose k-th score may be shared by rows beyond the last one fetched."""
    return np.flatnonzero((scores[:, k - 1] <= scores[:, -1] + _TIE) & (rows[:, -1] >= 0))


def _widened(scores: Floats, rows: NDArray[np.int64], k: int) -> tuple[Floats, NDArray[np.int64]]:
    """Exactly k columns: cut, or filled with -inf and -1."""
    if scores.shape[1] >= k:
        return np.ascontiguousarray(scores[:, :k]), np.ascontiguousarray(rows[:, :k])
    gap = ((0, 0), (0, k - scores.shape[1]))
    return np.pad(scores, gap, constant_values=-np.inf), np.pad(rows, gap, constant_values=-1)


def _in_row_order(scores: Floats, rows: NDArray[np.int64]) -> tuple[Floats, NDArray[np.int64]]:
    """Equal scores by row (FAISS leaves them as its heap had them), and -inf where no row was found."""
    if rows[:, -1].min() < 0:
        scores[rows < 0] = -np.inf
    tied = np.flatnonzero((scores[:, :-1] <= scores[:, 1:] + 2 * _TIE).any(axis=1))
    if tied.size:
        order = np.lexsort((rows[tied], -np.round(scores[tied] / _TIE)), axis=1)
        scores[tied] = np.take_along_axis(scores[tied], order, 1)
        rows[tied] = np.take_along_axis(rows[tied], order, 1)
    return scores, rows
