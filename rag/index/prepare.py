"""Documents become chunk rows on disk and keys in memory: what a plan is made of and an index is built from.

Texts go to a spool in the run's own folder, so that memory does not grow with the corpus; what stays is about 60 bytes
a chunk.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rag.digest import canonical, digest, text_keys
from rag.index.tables import DocumentRow, DocumentTable, writing
from rag.ports import Chunker
from rag.storage import create
from rag.types import Chunk, Document, EmbeddingIdentity, Excluded, Json

SPOOL_ROWS = 512
_CHUNKS_A_DOCUMENT = 4_096


@dataclass(frozen=True, slots=True)
class Prepared:
    """A whole corpus, read and cut. Row i is chunk i of the index to be.

    `documents.parquet` and the spool lie in `folder`.
    """

    folder: Path
    documents: int
    readers: tuple[str, ...]
    sources: NDArray[np.uint8]
    """uint8 [documents, 32]: source_sha256 in the order of doc_id."""
    keys: NDArray[np.uint8]
    """uint8 [chunks, 32]: the cache key of each text sent."""
    tokens: NDArray[np.uint32]
    """uint32 [chunks]"""
    first: NDArray[np.int64]
    """int64 [chunks]: the first row with the same key, which is the row itself unless it is a duplicate."""
    excluded: tuple[Excluded, ...]
    digest: str
    """sha256 over documents, chunks and exclusions, in order."""
    embedding: EmbeddingIdentity
    chunker: Mapping[str, Json]
    """What it was made with."""

    @property
    def chunks(self) -> int:
        return len(self.keys)

    @property
    def originals(self) -> NDArray[np.int64]:
        """The rows that are no duplicates."""
        return np.flatnonzero(self.first == np.arange(self.chunks))

    def spool(self) -> Spool:
        return Spool(self.folder / "spool.arrow")


class Spool:
    """The chunks on disk, in blocks of SPOOL_ROWS rows; the block read last is kept."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa

        self._reader = pa.ipc.open_file(pa.OSFile(str(path)))
        self._number = -1
        self._block: list[Chunk] = []

    def __iter__(self) -> Iterator[Chunk]:
        for number in range(self._reader.num_record_batches):
            yield from self._read(number)

    def sent(self, rows: Iterable[int]) -> list[str]:
        """The texts sent of these rows, which are cheapest in ascending order."""
        return [self.chunk(row).sent for row in rows]

    def chunk(self, row: int) -> Chunk:
        """One row."""
        return self._read(row // SPOOL_ROWS)[row % SPOOL_ROWS]

    def _read(self, number: int) -> list[Chunk]:
        if number != self._number:
            columns = self._reader.get_batch(number).to_pydict()
            columns["heading_path"] = list(map(tuple, columns["heading_path"]))
            self._block = [Chunk(*row) for row in zip(*columns.values(), strict=True)]
            self._number = number
        return self._block


def _spool_schema() -> Any:
    """The fields of Chunk, in their order."""
    import pyarrow as pa

    return pa.schema(
        [
            ("doc_id", pa.string()),
            ("ordinal", pa.int64()),
            ("start", pa.int64()),
            ("end", pa.int64()),
            ("heading_path", pa.list_(pa.string())),
            ("text", pa.string()),
            ("prefix", pa.string()),
            ("tokens", pa.int64()),
        ]
    )


class _SpoolWriter:
    def __init__(self, sink: Any) -> None:
        import pyarrow as pa

        self._schema = _spool_schema()
        self._writer = pa.ipc.new_file(sink, self._schema)
        self._rows: list[Chunk] = []

    def add(self, chunk: Chunk) -> None:
        self._rows.append(chunk)
        if len(self._rows) == SPOOL_ROWS:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        arrays = [pa.array([getattr(row, field.name) for row in self._rows], field.type) for field in self._schema]
        self._writer.write_batch(pa.record_batch(arrays, schema=self._schema))
        self._rows = []

    def close(self) -> None:
        if self._rows:
            self._flush()
        self._writer.close()


def prepare(
    items: Iterable[Document | Excluded],
    chunker: Chunker,
    identity: EmbeddingIdentity,
    folder: Path,
    progress: Callable[[int], None],
) -> Prepared:
    """Read, cut and key a whole corpus; `items` come in the order of doc_id. `progress` is told each document.

    Raises StorageFailed, and whatever the readers and the chunker raise.
    """
    excluded: list[Excluded] = []
    readers: set[str] = set()
    keys, tokens, sources = bytearray(), array("I"), bytearray()
    content = _Content()
    documents = 0
    with (
        writing(DocumentRow, folder / "documents.parquet") as table,
        create(folder / "spool.arrow", durable=False) as sink,
    ):
        spool = _SpoolWriter(sink)
        for item in items:
            if isinstance(item, Excluded):
                excluded.append(item)
                continue
            documents += 1
            readers.add(item.reader)
            sources += bytes.fromhex(item.source_sha256)
            content.document(item.doc_id, item.source_sha256, item.metadata, item.reader)
            count = 0
            parts = chunker.chunk(item)
            while block := list(itertools.islice(parts, _CHUNKS_A_DOCUMENT)):
                chunks = [part for part in block if isinstance(part, Chunk)]
                excluded += [part for part in block if isinstance(part, Excluded)]
                own = text_keys(identity, "passage", (chunk.sent for chunk in chunks)).tobytes()
                keys += own
                content.chunks([(chunk.start, chunk.end) for chunk in chunks], own)
                for chunk in chunks:
                    tokens.append(chunk.tokens)
                    spool.add(chunk)
                count += len(chunks)
            table.add(_document_row(item, count))
            progress(1)
        spool.close()
    excluded.sort(key=_excluded_order)
    key_rows = np.frombuffer(bytes(keys), np.uint8).reshape(-1, 32)
    return Prepared(
        folder,
        documents,
        tuple(sorted(readers)),
        np.frombuffer(bytes(sources), np.uint8).reshape(-1, 32),
        key_rows,
        np.frombuffer(tokens.tobytes(), np.uint32),
        first_rows(key_rows),
        tuple(excluded),
        content.digest(excluded),
        identity,
        chunker.identity,
    )


class _Content:
    """The digest of documents, chunks and exclusions, in order: `documents` of content_digest in docs/formats.md."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._spans: list[tuple[int, int]] = []
        self._keys = bytearray()

    def document(self, doc_id: str, source_sha256: str, metadata: Mapping[str, Json], reader: str) -> None:
        self._flush()
        self._hash.update(canonical([doc_id, source_sha256, digest(dict(metadata)), reader]) + b"\n")

    def chunks(self, spans: Sequence[tuple[int, int]], keys: bytes) -> None:
        """More of the document that came last; `keys` one after the other."""
        self._spans += spans
        self._keys += keys
        while len(self._spans) >= _CHUNKS_A_DOCUMENT:
            self._flush()

    def digest(self, excluded: Iterable[Excluded]) -> str:
        self._flush()
        for row in excluded:
            self._hash.update(canonical([row.source, row.stage, row.reason, row.doc_id, row.start, row.end]) + b"\n")
        return self._hash.hexdigest()

    def _flush(self) -> None:
        spans, keys = self._spans[:_CHUNKS_A_DOCUMENT], self._keys[: 32 * _CHUNKS_A_DOCUMENT]
        if spans:
            self._hash.update(len(spans).to_bytes(8, "little") + np.array(spans, "<i8").tobytes() + keys)
        self._spans, self._keys = self._spans[len(spans) :], self._keys[len(keys) :]


def _excluded_order(row: Excluded) -> tuple[Any, ...]:
    return (row.source, row.stage, row.doc_id or "", row.start or 0, row.end or 0, row.reason)


def _document_row(document: Document, chunks: int) -> DocumentRow:
    text_sha256 = hashlib.sha256(document.text.encode("utf-8")).hexdigest()
    return DocumentRow(
        document.doc_id,
        document.title,
        document.source,
        document.source_sha256,
        text_sha256,
        document.text,
        document.reader,
        json.dumps(dict(document.metadata), ensure_ascii=False, sort_keys=True),
        chunks,
    )


def without(prepared: Prepared, reasons: Mapping[bytes, str]) -> Prepared:
    """The same corpus without the chunks of these keys, which a provider refused; each is a row of `excluded`.

    The files in the folder are written anew. Equal when nothing has such a key. Raises StorageFailed.
    """
    gone = np.array([key.tobytes() in reasons for key in prepared.keys], np.bool_) if reasons else np.zeros(0, np.bool_)
    if not gone.any():
        return prepared
    excluded, content = list(prepared.excluded), _Content()
    path = prepared.folder / "documents.parquet"
    rows = enumerate(prepared.spool())
    with (
        contextlib.closing(DocumentTable(path)) as documents,
        writing(DocumentRow, path) as table,
        create(prepared.folder / "spool.arrow", durable=False) as sink,
    ):
        spool = _SpoolWriter(sink)
        for document in documents:
            content.document(
                document.doc_id, document.source_sha256, json.loads(document.metadata_json), document.reader
            )
            kept = 0
            for row, chunk in itertools.islice(rows, document.chunks):
                key = prepared.keys[row].tobytes()
                if gone[row]:
                    place = (document.doc_id, chunk.start, chunk.end)
                    excluded.append(Excluded(document.source, "embed", "refused", reasons[key], *place))
                    continue
                kept += 1
                content.chunks([(chunk.start, chunk.end)], key)
                spool.add(chunk)
            table.add(replace(document, chunks=kept))
        spool.close()
    excluded.sort(key=_excluded_order)
    keys = prepared.keys[~gone]
    return replace(
        prepared,
        keys=keys,
        tokens=prepared.tokens[~gone],
        first=first_rows(keys),
        excluded=tuple(excluded),
        digest=content.digest(excluded),
    )


def first_rows(keys: NDArray[np.uint8]) -> NDArray[np.int64]:
    """For uint8 [n, 32] keys the first row with an equal key: int64 [n]."""
    count = len(keys)
    words = np.ascontiguousarray(keys).view(np.uint64).reshape(count, 4)
    order = np.lexsort((np.arange(count), words[:, 3], words[:, 2], words[:, 1], words[:, 0]))
    ordered = words[order]
    fresh = np.ones(count, bool)
    fresh[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    leaders = order[np.maximum.accumulate(np.where(fresh, np.arange(count), 0))] if count else order
    out = np.empty(count, np.int64)
    out[order] = leaders
    return out
