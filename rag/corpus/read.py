"""The ordered stream: every document of a snapshot in the order of its doc_id, and a row for what cannot be one."""

from __future__ import annotations

import contextlib
import hashlib
import heapq
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import BinaryIO

from rag.corpus.page import Page, Unreadable
from rag.corpus.readers import Packing, PageReader, Reader, RecordReader, reader_of, stem_of
from rag.corpus.records import RecordMaker
from rag.corpus.snapshot import Snapshot
from rag.corpus.sources import PAGE_LIMIT, Root, open_source, roots_of, source_name, stat_row
from rag.corpus.spec import CorpusSpec
from rag.corpus.spool import Spool
from rag.corpus.unpack import BOMB_FREE, BOMB_RATIO, unpacked, unpacked_whole
from rag.corpus.worker import Worker
from rag.counted import counted
from rag.errors import CorpusFailed, Problem, RaglineError
from rag.types import Document, Excluded, Json

_POINTER = b"version https://git-lfs.github.com/spec/"
_PAIRS = 20
_Key = tuple[str, bool, int]
"""doc_id, whether it is a record, and its row in the snapshot or its number in the spool."""


def reading_identity(snapshot: Snapshot, spec: CorpusSpec) -> dict[str, Json]:
    """What makes the documents of two equal snapshots equal: the settings, and each reader in use with its version."""
    suffixes = {path.rpartition("/")[2].partition(".")[2].lower() for path in snapshot.paths}
    readers = {known[0].identity for suffix in suffixes if (known := reader_of(f"x.{suffix}"))}
    return {**spec.identity(), "readers": list[Json](sorted(readers))}


@dataclass(slots=True)
class Reading:
    """The documents of a snapshot in the order of the UTF-8 bytes of doc_id, Excluded rows anywhere between them.

    To be iterated once, which raises CorpusFailed for equal doc_ids (all pairs up to 20), StorageFailed when records find no space.
    """

    snapshot: Snapshot
    spec: CorpusSpec
    """The one that the snapshot was taken with."""
    temp: Path | None = None
    """Where the nameless file lies that holds the records until all their ids are known, about as large as the text of
    all record files; None for the system's folder for temporary files."""
    stale: bool = False
    """True, once iterated, if a file was not as the snapshot has it: what was read is right, the snapshot is old."""

    def __iter__(self) -> Iterator[Document | Excluded]:
        yield from self.snapshot.excluded
        roots = roots_of(self.spec)
        with Spool(self.temp) as spool, Worker() as worker:
            files = _Files(self, roots, worker)
            for row in files.rows(records=True):
                yield from files.records(row, spool)
            _refuse_twins(files, spool)
            for key in _merged(files, spool):
                yield _item(key, files, spool)


def _refuse_twins(files: _Files, spool: Spool) -> None:
    """Equal ids are rare, so only their files are read ahead: an empty twin is no document and does no harm."""
    problems = list(itertools.islice(_twins(files, spool), _PAIRS))
    if problems:
        times = f"{len(problems)} or more times" if len(problems) == _PAIRS else counted(len(problems), "time")
        what = f"two documents have the same id, {times}; the first: {problems[0].what}"
        raise CorpusFailed(what, problems)


def _twins(files: _Files, spool: Spool) -> Iterator[Problem]:
    remedy = (
        "rename one, or leave it out with corpus.exclude; for records set corpus.id_column to a column of unique ids, "
        'or to "" for ids made of file and content'
    )
    for doc_id, group in itertools.groupby(_merged(files, spool), key=itemgetter(0)):
        keys = list(group)
        if len(keys) > 1:
            items = (_item(key, files, spool) for key in keys)
            sources = (item.source for item in items if isinstance(item, Document))
            first = next(sources, None)
            for source in sources:
                yield Problem(source, f"{first} and {source} both have the doc_id {doc_id!r}", remedy)


def _item(key: _Key, files: _Files, spool: Spool) -> Document | Excluded:
    _, is_record, number = key
    return spool.document(number) if is_record else files.page(number)


def _merged(files: _Files, spool: Spool) -> Iterator[_Key]:
    """All doc_ids in order. Python orders strings by code point, which is the order of their UTF-8 bytes."""
    pages: Iterator[_Key] = ((files.paths[row], False, row) for row in files.rows(records=False))
    records: Iterator[_Key] = ((spool.ids[number], True, number) for number in spool.order())
    return heapq.merge(pages, records, key=itemgetter(0))


class _Files:
    """Reads single files of the snapshot, and notices when one is not as the snapshot has it."""

    def __init__(self, reading: Reading, roots: tuple[Root, ...], worker: Worker) -> None:
        self.paths = reading.snapshot.paths
        self._reading = reading
        self._snapshot = reading.snapshot
        self._spec = reading.spec
        self._roots = roots
        self._worker = worker
        self._readers = [_reader(path) for path in self.paths]

    def rows(self, *, records: bool) -> Iterator[int]:
        """Rows of the snapshot that are files of many records, or that are one document, in order of their paths."""
        return (row for row, known in enumerate(self._readers) if isinstance(known[0], RecordReader) == records)

    def page(self, row: int) -> Document | Excluded:
        """The one document of a file."""
        path, root = self.paths[row], self._root(row)
        source = source_name(root, path)
        reader, packing = self._readers[row]
        assert isinstance(reader, PageReader)
        try:
            data = self._bytes(row)
            digest = hashlib.sha256(data)
            if digest.digest() != self._snapshot.sha256[row].tobytes():
                self._reading.stale = True
            _refuse_pointer(data[:64])
            page = self._page(reader, unpacked_whole(data, packing, PAGE_LIMIT) if packing else data)
            _refuse_empty(page)
        except Exception as error:  # noqa: BLE001 - one bad file never ends the run
            return self._verdict(error, source)
        return Document(
            doc_id=path,
            text=page.text,
            title=page.title or stem_of(path),
            source=source,
            source_sha256=digest.hexdigest(),
            media_type=page.media_type or reader.media_type,
            reader=reader.identity,
            metadata=page.metadata,
            body_start=page.body_start,
        )

    def records(self, row: int, spool: Spool) -> Iterator[Excluded]:
        """Put the documents of a record file into the spool and give its other rows."""
        path, root = self.paths[row], self._root(row)
        source = source_name(root, path)
        reader, packing = self._readers[row]
        assert isinstance(reader, RecordReader)
        before = len(spool.ids)
        silent = True
        try:
            with self._stream(row, packing) as file:
                maker = RecordMaker(path, source, reader.identity, self._spec)
                for item in maker.documents(reader.rows(file, self._spec)):
                    if isinstance(item, Excluded):
                        silent = False
                        yield item
                    else:
                        spool.append(item)
        except RaglineError:
            raise
        except Exception as error:  # noqa: BLE001 - one bad file never ends the run
            yield self._verdict(error, source)
            return
        if silent and len(spool.ids) == before:
            yield Excluded(source, "read", "empty", "not one record in the file")

    def _root(self, row: int) -> Root:
        return self._roots[int(self._snapshot.root_of[row])]

    def _page(self, reader: PageReader, data: bytes) -> Page:
        if reader.guarded is not None and len(data) >= reader.guarded:
            return self._worker.page(reader, data, self._spec)
        return reader.read(data, self._spec)

    def _open(self, row: int) -> tuple[int, os.stat_result]:
        try:
            return open_source(self._root(row), self.paths[row], int(self._snapshot.stats[row, 3]))
        except (OSError, Unreadable):
            self._reading.stale = True
            raise

    def _bytes(self, row: int) -> bytes:
        handle, status = self._open(row)
        with open(handle, "rb", buffering=0) as file:
            data = file.read(min(status.st_size, PAGE_LIMIT) + 1)
            if len(data) > status.st_size:
                data += file.read(PAGE_LIMIT - len(data) + 1)
        if len(data) > PAGE_LIMIT:
            self._reading.stale = True
            raise Unreadable("too large", f"more than {PAGE_LIMIT:,} bytes, the limit for one document")
        return data

    @contextlib.contextmanager
    def _stream(self, row: int, packing: Packing | None) -> Iterator[BinaryIO]:
        """A record file as a stream. It may be longer than memory, so that its stat stands for its bytes."""
        expected = tuple(self._snapshot.stats[row].tolist())
        handle, status = self._open(row)
        with open(handle, "rb", buffering=1 << 18) as file:
            try:
                _refuse_pointer(os.pread(handle, 64, 0))
                yield unpacked(file, packing, BOMB_RATIO * status.st_size + BOMB_FREE) if packing else file
            finally:
                if not stat_row(status) == stat_row(os.fstat(handle)) == expected:
                    self._reading.stale = True

    def _verdict(self, error: Exception, source: str) -> Excluded:
        if isinstance(error, Unreadable):
            return error.row(source)
        if isinstance(error, OSError) and error.strerror:
            return Excluded(source, "read", "unreadable", error.strerror)
        return Excluded(source, "read", "failed", f"{type(error).__name__}: {error}"[:500])


def _reader(path: str) -> tuple[Reader, Packing | None]:
    known = reader_of(path.rpartition("/")[2])
    assert known is not None
    return known


def _refuse_empty(page: Page) -> None:
    # No copy of a large text without front matter.
    body = page.text[page.body_start :] if page.body_start else page.text
    if not body or body.isspace():
        raise Unreadable("empty", "nothing but white space" + " behind the front matter" * bool(page.body_start))


def _refuse_pointer(head: bytes) -> None:
    if head.startswith(_POINTER):
        raise Unreadable("pointer", "a Git LFS pointer, not the file itself; run `git lfs pull`")
