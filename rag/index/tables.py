"""chunks.parquet, documents.parquet, excluded.parquet: their columns, streaming writers, and readers of single rows."""

from __future__ import annotations

import bisect
import contextlib
import dataclasses
import json
import re
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from rag.errors import Damaged, Problem, UsageError, refuse_newer
from rag.storage import create, faultpoint
from rag.types import Json

SCHEMA_VERSION = 1
GROUP_ROWS = 1_024
"""Rows of a row group. Chunks rely on it: row r stands in group r // GROUP_ROWS."""
GROUP_TEXT = 4 << 20
"""Characters of text after which a row group of documents ends early."""
HEADING_SEPARATOR = " > "
_CACHED_GROUPS = 16


@dataclass(frozen=True, slots=True)
class ChunkRow:
    """A row of chunks.parquet: one row of the index."""

    row: int
    chunk_id: str
    doc_id: str
    ordinal: int
    char_start: int
    char_end: int
    heading_path: str
    text: str
    tokens: int
    key: str
    """The cache key of the text sent, hex."""
    duplicate_of: int | None = None
    """The first row whose text sent is the same."""


@dataclass(frozen=True, slots=True)
class DocumentRow:
    """A row of documents.parquet, sorted by doc_id; `chunks` rows of the index are its own."""

    doc_id: str
    title: str
    source: str
    source_sha256: str
    text_sha256: str
    text: str
    reader: str
    metadata_json: str
    chunks: int


@dataclass(frozen=True, slots=True)
class ExcludedRow:
    """A row of excluded.parquet."""

    source: str
    doc_id: str | None
    char_start: int | None
    char_end: int | None
    stage: str
    reason: str
    detail: str


def joined(path: Sequence[str]) -> str:
    """Headings as their column holds them, `A > B`. A `>` that is a word of a heading has a backslash before it."""
    return HEADING_SEPARATOR.join(re.sub(r"(?<![^ ])(?=\\*>(?![^ ]))", r"\\", heading) for heading in path)


def headings(column: str) -> tuple[str, ...]:
    """The headings that `joined` was given."""
    path = column.split(HEADING_SEPARATOR) if column else ()
    return tuple(re.sub(r"(?<![^ ])\\(?=\\*>(?![^ ]))", "", heading) for heading in path)


Row = TypeVar("Row", ChunkRow, DocumentRow, ExcludedRow)
_TABLES: dict[type[Any], str] = {ChunkRow: "chunks", DocumentRow: "documents", ExcludedRow: "excluded"}
_REPEATING = ["doc_id", "heading_path", "reader", "stage", "reason"]


def schema(row_type: type[Any]) -> Any:
    """The pyarrow schema of a row type: strings and int64, null only where the type says so."""
    import pyarrow as pa

    fields = [
        pa.field(
            field.name, pa.string() if "str" in str(field.type) else pa.int64(), nullable="None" in str(field.type)
        )
        for field in dataclasses.fields(row_type)
    ]
    kind = {"ragline.table": _TABLES[row_type], "ragline.schema_version": str(SCHEMA_VERSION)}
    return pa.schema(fields, metadata=kind)


class TableWriter(Generic[Row]):
    """Takes rows one by one and holds one row group."""

    def __init__(self, row_type: type[Row], sink: Any) -> None:
        import pyarrow.parquet as pq

        self._schema = schema(row_type)
        self._names = [field.name for field in dataclasses.fields(row_type)]
        self._fixed = row_type is ChunkRow
        self._writer = pq.ParquetWriter(
            sink,
            self._schema,
            compression="zstd",
            write_page_checksum=True,
            use_dictionary=[name for name in _REPEATING if name in self._names],
        )
        self._rows: list[Row] = []
        self._text = 0

    def add(self, row: Row) -> None:
        """Append one row. Chunk rows come in index order, document rows by doc_id."""
        self._rows.append(row)
        if not self._fixed:
            self._text += len(getattr(row, "text", ""))
        if len(self._rows) >= GROUP_ROWS or self._text >= GROUP_TEXT:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        columns = {name: [getattr(row, name) for row in self._rows] for name in self._names}
        self._writer.write_table(pa.table(columns, schema=self._schema), row_group_size=GROUP_ROWS)
        faultpoint("tables.group_written")
        self._rows, self._text = [], 0

    def close(self) -> None:
        if self._rows:
            self._flush()
        self._writer.close()


@contextlib.contextmanager
def writing(row_type: type[Row], path: Path) -> Iterator[TableWriter[Row]]:
    """A table that appears whole and durable under its name when the block ends well. Raises StorageFailed."""
    with create(path) as file:
        table = TableWriter(row_type, file)
        try:
            yield table
        except BaseException:
            # the writer would complain about a file closed under it
            with contextlib.suppress(Exception):
                table.close()
            raise
        table.close()


class Table(Generic[Row]):
    """Random access to a table of a version; one row group is decoded at a time, page checksums verified.

    `path` may name a descriptor, so that the bytes read are those that were checked.
    """

    def __init__(self, path: Path, row_type: type[Row]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        name = _TABLES[row_type]
        try:
            self._file: Any = pq.ParquetFile(pa.memory_map(str(path)), page_checksum_verification=True)
        except (OSError, pa.ArrowException) as error:
            raise _damaged(name, str(error)) from error
        meta = self._file.schema_arrow.metadata or {}
        found = int(meta.get(b"ragline.schema_version", b"0"))
        if meta.get(b"ragline.table", b"").decode() != name:
            raise _damaged(name, f"it is no {name} table")
        refuse_newer(f"{name}.parquet", found, SCHEMA_VERSION)
        self.name = name
        self._row_type: type[Row] = row_type
        self._lock = threading.Lock()
        self._groups: OrderedDict[tuple[int, tuple[str, ...] | None], Any] = OrderedDict()

    def __len__(self) -> int:
        return int(self._file.metadata.num_rows)

    @property
    def groups(self) -> int:
        return int(self._file.metadata.num_row_groups)

    def group(self, number: int, columns: tuple[str, ...] | None = None) -> Any:
        """One row group as a pyarrow table; the last few are remembered. Raises Damaged."""
        import pyarrow as pa

        with self._lock:
            wanted = (number, columns)
            if wanted not in self._groups:
                try:
                    self._groups[wanted] = self._file.read_row_group(number, columns=columns and list(columns))
                except (OSError, pa.ArrowException) as error:
                    raise _damaged(self.name, str(error)) from error
            self._groups.move_to_end(wanted)
            while len(self._groups) > _CACHED_GROUPS:
                self._groups.popitem(last=False)
            return self._groups[wanted]

    def stream(self, columns: tuple[str, ...]) -> Iterator[dict[str, list[Any]]]:
        """Some columns of the whole table, a row group at a time, in order. Raises Damaged."""
        import pyarrow as pa

        for number in range(self.groups):
            try:
                with self._lock:
                    part = self._file.read_row_group(number, columns=list(columns))
            except (OSError, pa.ArrowException) as error:
                raise _damaged(self.name, str(error)) from error
            yield part.to_pydict()

    def __iter__(self) -> Iterator[Row]:
        names = tuple(field.name for field in dataclasses.fields(self._row_type))
        for part in self.stream(names):
            for values in zip(*(part[name] for name in names), strict=True):
                yield self._row_type(*values)

    def close(self) -> None:
        with self._lock:
            self._groups.clear()
            self._file.close(force=True)


def _damaged(name: str, why: str) -> Damaged:
    what = f"{name}.parquet cannot be read: {why}"
    return Damaged(what, [Problem(f"{name}.parquet", what, "run `ragline repair`")])


class ChunkTable(Table[ChunkRow]):
    """chunks.parquet: row r of the index is row r of this table."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, ChunkRow)

    def rows(self, rows: Sequence[int]) -> list[ChunkRow]:
        """The chunks of these rows, in the order asked; each row group is decoded once. Raises IndexError, Damaged."""
        import pyarrow as pa

        if any(not 0 <= row < len(self) for row in rows):
            raise IndexError(f"rows {min(rows)} to {max(rows)} asked of {len(self)}")
        found: dict[int, ChunkRow] = {}
        by_group: dict[int, list[int]] = {}
        for row in sorted(set(map(int, rows))):
            by_group.setdefault(row // GROUP_ROWS, []).append(row)
        for group, members in by_group.items():
            wanted = np.array(members, np.int64) - group * GROUP_ROWS
            # any other way to say which rows makes pyarrow import pandas, which takes longer than the whole question
            places = pa.Array.from_buffers(pa.int64(), len(wanted), [None, pa.py_buffer(wanted)])
            part = self.group(group).take(places)
            for values in part.to_pylist():
                found[values["row"]] = ChunkRow(**values)
        return [found[int(row)] for row in rows]


class DocumentTable(Table[DocumentRow]):
    """documents.parquet, sorted by doc_id."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, DocumentRow)
        column = self._file.schema_arrow.get_field_index("doc_id")
        groups = [self._file.metadata.row_group(number).column(column).statistics for number in range(self.groups)]
        # code points order strings as UTF-8 bytes do, so the minimum is the first; very long ids have no statistics
        self._firsts = [
            str(stats.min) if stats is not None and stats.has_min_max else str(self.group(number, ("doc_id",))[0][0])
            for number, stats in enumerate(groups)
        ]

    def get(self, doc_ids: Iterable[str], columns: tuple[str, ...] = ("title", "source")) -> dict[str, dict[str, Any]]:
        """{doc_id: {column: value}} of those that exist; only the row groups that can hold them are read."""
        by_group: dict[int, list[str]] = {}
        for doc_id in set(doc_ids):
            by_group.setdefault(max(bisect.bisect_right(self._firsts, doc_id) - 1, 0), []).append(doc_id)
        found: dict[str, dict[str, Any]] = {}
        for group, members in by_group.items():
            if group >= self.groups:
                continue
            part = self.group(group, ("doc_id", *columns))
            where = {doc_id: position for position, doc_id in enumerate(part["doc_id"].to_pylist())}
            for doc_id in members:
                if doc_id in where:
                    found[doc_id] = {name: part[name][where[doc_id]].as_py() for name in columns}
        return found

    def metadata(self) -> Iterator[tuple[str, dict[str, Json], int, int]]:
        """(doc_id, metadata, first row of the index, rows) of every document, in order."""
        first = 0
        for part in self.stream(("doc_id", "metadata_json", "chunks")):
            for doc_id, text, chunks in zip(part["doc_id"], part["metadata_json"], part["chunks"], strict=True):
                yield doc_id, json.loads(text), first, chunks
                first += chunks

    def values(self, key: str) -> Counter[str]:
        """What a filter of this key can match, and how many documents have it."""
        return Counter(
            text for _, metadata, *_ in self.metadata() if key in metadata for text in set(_texts(metadata[key]))
        )

    def where(self, filters: Mapping[str, Sequence[str]]) -> NDArray[np.int64]:
        """The rows of documents whose metadata match: AND over keys, OR within one, equality of strings.

        A list matches by any of its members; what is no string is compared by its JSON text.
        Raises UsageError for keys that no document has, naming those that exist.
        """
        known: set[str] = set()
        ranges: list[NDArray[np.int64]] = []
        for _, metadata, first, chunks in self.metadata():
            known.update(metadata)
            if all(key in metadata and _matches(metadata[key], wanted) for key, wanted in filters.items()):
                ranges.append(np.arange(first, first + chunks, dtype=np.int64))
        if unknown := [key for key in filters if key not in known]:
            remedy = f"use one of {', '.join(sorted(known))}" if known else "no document of this version has metadata"
            problems = [Problem(f"--where {key}", f"no document has metadata {key!r}", remedy) for key in unknown]
            raise UsageError("; ".join(problem.what for problem in problems), problems)
        return np.concatenate([np.empty(0, dtype=np.int64), *ranges])


def _matches(value: Json, wanted: Sequence[str]) -> bool:
    return any(text in wanted for text in _texts(value))


def _texts(value: Json) -> Iterator[str]:
    """What a filter is compared with."""
    for item in value if isinstance(value, list) else [value]:
        yield item if isinstance(item, str) else json.dumps(item, sort_keys=True)
