"""Records wait in a nameless temporary file until all ids are known: in memory are only ids and offsets.

One entry: the lengths of header and text (two uint32, little endian), the header as JSON, the text as UTF-8.
"""

from __future__ import annotations

import json
import os
import struct
import tempfile
from array import array
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from rag.storage import failures_named
from rag.types import Document

_LENGTHS = struct.Struct("<II")


class Spool:
    """Documents by number, in the order in which they came. Nothing is made before the first one comes."""

    def __init__(self, folder: Path | None = None) -> None:
        self.ids: list[str] = []
        self._folder = Path(tempfile.gettempdir()) if folder is None else folder
        self._file: IO[bytes] | None = None
        self._ends = array("q", [0])
        self._flushed = True
        self._order: Sequence[int] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def append(self, document: Document) -> None:
        """Keep one document. Raises StorageFailed."""
        text = document.text.encode("utf-8")
        header = json.dumps(
            [
                document.doc_id,
                document.title,
                document.source,
                document.source_sha256,
                document.media_type,
                document.reader,
                document.metadata,
                document.context,
            ]
        ).encode("ascii")
        entry = b"".join((_LENGTHS.pack(len(header), len(text)), header, text))
        with failures_named(self._folder, len(entry)):
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._folder, buffering=1 << 20)  # noqa: SIM115 - closed in __exit__
            self._file.write(entry)
        self._flushed = False
        self._ends.append(self._ends[-1] + len(entry))
        self.ids.append(document.doc_id)

    def order(self) -> Sequence[int]:
        """The numbers of the documents in the order of their ids."""
        if self._order is None:
            self._order = self._ordered()
        return self._order

    def _ordered(self) -> Sequence[int]:
        ids = self.ids
        if all(ids[number - 1] <= ids[number] for number in range(1, len(ids))):
            return range(len(ids))
        return sorted(range(len(ids)), key=ids.__getitem__)

    def document(self, number: int) -> Document:
        """One document again."""
        assert self._file is not None
        if not self._flushed:
            with failures_named(self._folder):
                self._file.flush()
            self._flushed = True
        start = self._ends[number]
        entry = os.pread(self._file.fileno(), self._ends[number + 1] - start, start)
        header, _ = _LENGTHS.unpack_from(entry)
        begin = _LENGTHS.size + header
        values = json.loads(entry[_LENGTHS.size : begin])
        doc_id, title, source, sha256, media_type, reader, metadata, context = values
        text = entry[begin:].decode("utf-8")
        return Document(doc_id, text, title, source, sha256, media_type, reader, metadata, 0, tuple(context))
