"""Parquet: row by row out of small batches, whatever the size of the file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

from rag.corpus.page import Unreadable
from rag.corpus.records import Rows, refuse_equal_names
from rag.corpus.spec import CorpusSpec

if TYPE_CHECKING:
    from pyarrow import RecordBatch

_BATCH = 256


def rows(file: BinaryIO, spec: CorpusSpec) -> Rows:  # noqa: ARG001 - the signature of all readers
    """Each row with its number, from 1. Page checksums are verified where the file has them. Raises Unreadable."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    # No pre-buffering: it would hold whole column chunks of a row group in memory.
    try:
        table = pq.ParquetFile(file, page_checksum_verification=True, pre_buffer=False)
    except pa.ArrowInvalid as error:
        raise Unreadable("broken", f"not a readable Parquet file: {error}"[:500]) from error
    refuse_equal_names(table.schema_arrow.names)
    number = 0
    batches = table.iter_batches(_BATCH, use_threads=False)
    while (batch := _next(batches, number)) is not None:
        for row in batch.to_pylist():
            number += 1
            yield number, row


def _next(batches: Iterator[RecordBatch], number: int) -> RecordBatch | None:
    import pyarrow as pa

    try:
        return next(batches, None)
    except (OSError, pa.ArrowException) as error:  # damage may be in any page, behind a footer that is whole
        raise Unreadable("broken", f"damaged in the rows from {number + 1} on: {error}"[:500]) from error
