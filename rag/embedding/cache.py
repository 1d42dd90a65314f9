"""The vector cache: immutable Arrow segments on disk, found by content key, checked row by row as they are read.

A segment is one Arrow IPC file with one uncompressed record batch sorted by key: `key` fixed_size_binary[32], `vector`
fixed_size_list<float32>[d], `tokens` uint32, `check` uint64 = xxh3-64 over key, vector and tokens (little-endian). Its
name is `<unix ms, 13 digits>-<first 16 hex of its sha256>.arrow`; for a key in two segments the oldest name wins.
Writers only add files, so that any number of them can work at once; `docs/formats.md` shows how to read one without us.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rag import storage
from rag.clock import Clock
from rag.digest import CACHE_FORMAT, canonical, digest, file_sha256, identity_json
from rag.errors import Damaged, FormatTooNew, refuse_newer
from rag.ports import Floats
from rag.types import EmbeddingIdentity

Keys = NDArray[np.uint8]

SMALL_BYTES = 8 << 20
MERGE_ABOVE = 64
MERGED_BYTES = 24 << 20
_AT_ONCE: Final = 128
"""Rows that are gathered and checked while they are in the processor's cache."""
_BESIDE: Final = 44
"""Bytes of a record beside its vector."""
_SPARE: Final = 1 << 20
"""Bytes that stay free for what a run writes beside its vectors."""
_NAME = re.compile(r"\d{13}-[0-9a-f]{16}\.arrow")
REPAIR = "ragline repair"
CACHE_FORMATS = f"a format up to {CACHE_FORMAT}"
NEWER_REMEDY = f"upgrade ragline; if no newer one has ever written here, the file is damaged: remove it, and `{REPAIR}` makes it anew"


@dataclass(frozen=True, slots=True)
class Found:
    """Where the vectors of some keys are: for key i, row `rows[i]` of `segments[segment[i]]`, or segment -1."""

    keys: Keys
    segments: tuple[Segment, ...]
    segment: NDArray[np.int32]
    rows: NDArray[np.int32]

    @property
    def hit(self) -> NDArray[np.bool_]:
        return self.segment >= 0

    def gather(self, where: NDArray[Any]) -> Floats:
        """float32 [n, d]: the vectors at these positions, each row checked. Raises Damaged, naming the file."""
        chosen, rows = self.segment[where], self.rows[where]
        if len(where) == 0:
            return np.zeros((0, self.segments[0].dimensions if self.segments else 0), np.float32)
        if (chosen < 0).any():
            raise KeyError("a text of this selection has no vector in the cache")
        out = np.empty((len(where), self.segments[int(chosen[0])].dimensions), np.float32)
        for number in np.unique(chosen):
            segment, mine = self.segments[number], np.flatnonzero(chosen == number)
            for start in range(0, len(mine), _AT_ONCE):
                few = mine[start : start + _AT_ONCE]
                part = segment.vectors[rows[few]]
                segment.check(rows[few], self.keys[where[few]], part)
                out[few] = part
        return out

    def release(self) -> None:
        """Keep no page of any segment in memory: who gathers block by block calls it after each."""
        for segment in self.segments:
            segment.release()


class Segment:
    """One file of the cache, memory-mapped; nothing is read but what is asked for."""

    __slots__ = ("_map", "checks", "dimensions", "keys", "path", "prefixes", "tokens", "vectors")

    def __init__(self, path: Path) -> None:
        """Map the file. Raises FileNotFoundError, Damaged."""
        import pyarrow as pa

        self.path = path
        try:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
            batch = pa.ipc.open_file(pa.py_buffer(self._map)).get_batch(0)
            self.keys, self.vectors, self.tokens, self.checks = _views(batch)
        except FileNotFoundError:
            raise
        except (pa.ArrowException, OSError, KeyError, ValueError, TypeError) as error:
            raise damaged(path, "a readable segment", str(error)) from error
        self.dimensions = int(self.vectors.shape[1])
        self.prefixes = _prefixes(self.keys)

    def __len__(self) -> int:
        return len(self.keys)

    def release(self) -> None:
        """Let the kernel take the pages that were read out of our memory; they are read again when wanted."""
        self._map.madvise(mmap.MADV_DONTNEED)

    def check(self, rows: NDArray[Any], keys: Keys, vectors: Floats) -> None:
        """Hold gathered rows against their checks. Raises Damaged for the first that differs."""
        found = row_checks(keys, vectors, self.tokens[rows])
        wrong = np.flatnonzero(found != self.checks[rows])
        if len(wrong):
            first = int(wrong[0])
            raise damaged(
                self.path,
                f"row check {int(self.checks[rows[first]]):016x} in row {int(rows[first])}",
                f"{int(found[first]):016x}",
            )


def _views(batch: Any) -> tuple[Keys, Floats, NDArray[np.uint32], NDArray[np.uint64]]:
    """The four columns as numpy views on the mapped file."""
    count = batch.num_rows
    vectors = batch.column("vector")
    width = vectors.type.list_size
    buffers = {
        "key": batch.column("key").buffers()[1],
        "vector": vectors.buffers()[-1],
        "tokens": batch.column("tokens").buffers()[1],
        "check": batch.column("check").buffers()[1],
    }
    return (
        np.frombuffer(buffers["key"], np.uint8, count * 32).reshape(count, 32),
        np.frombuffer(buffers["vector"], np.float32, count * width).reshape(count, width),
        np.frombuffer(buffers["tokens"], np.uint32, count),
        np.frombuffer(buffers["check"], np.uint64, count),
    )


def _prefixes(keys: Keys) -> NDArray[np.uint64]:
    """The first eight bytes of each key as a number that sorts as the key does."""
    return np.ascontiguousarray(keys[:, :8]).view(">u8").ravel().astype(np.uint64)


def row_checks(keys: Keys, vectors: Floats, tokens: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """uint64 [n]: xxh3-64 over each row's key, vector and tokens, as their little-endian bytes."""
    from xxhash import xxh3_64

    width = vectors.shape[1] * 4
    key_bytes = memoryview(np.ascontiguousarray(keys).tobytes())
    vector_bytes = np.ascontiguousarray(vectors).view(np.uint8).data.cast("B") if vectors.size else memoryview(b"")
    token_bytes = memoryview(np.ascontiguousarray(tokens, dtype="<u4").tobytes())
    out = np.empty(len(keys), np.uint64)
    for row in range(len(keys)):
        state = xxh3_64(key_bytes[row * 32 : row * 32 + 32])
        state.update(vector_bytes[row * width : row * width + width])
        state.update(token_bytes[row * 4 : row * 4 + 4])
        out[row] = state.intdigest()
    return out


def damaged(path: Path, expected: str, actual: str) -> Damaged:
    """The error for a cache file that is not what it was."""
    what = f"the cache segment {path} is damaged: expected {expected}, found {actual}"
    return Damaged.at(str(path), what, f"run `{REPAIR}`: it keeps every sound record of the file")


def namespace_name(identity: EmbeddingIdentity) -> str:
    """The folder of an identity: readable first, then enough of its digest to be its own."""
    readable = re.sub(r"[^a-z0-9.]+", "-", identity.name.lower()).strip("-")[:48]
    return f"{readable}-{digest(identity_json(identity))[:12]}"


def namespace_bytes(identity: EmbeddingIdentity, dimensions: int | None) -> bytes:
    """The namespace.json of an identity whose vectors have so many numbers."""
    content = {"format": CACHE_FORMAT, "vector_dimensions": dimensions, **identity_json(identity)}
    return canonical(content) + b"\n"


class VectorCache:
    """The vectors of one embedding identity."""

    def __init__(self, store: Path, identity: EmbeddingIdentity, clock: Clock) -> None:
        self.folder = store / "cache" / namespace_name(identity)
        self._identity = identity
        self._clock = clock
        self._open: dict[str, Segment] = {}
        _refuse_newer(self.folder)

    def segments(self) -> list[Segment]:
        """Every segment, oldest first; lists again when one vanished in between (a merge by another process)."""
        lost = ""
        while True:
            try:
                names = segment_names(self.folder)
                self._open = {name: self._open.get(name) or Segment(self.folder / name) for name in names}
                return list(self._open.values())
            except FileNotFoundError as error:
                # a merged file is not listed again; one that is has no file behind its name
                if str(error.filename) == lost:
                    raise damaged(Path(lost), "a file", "a link that leads nowhere") from error
                lost = str(error.filename)

    def lookup(self, keys: Keys) -> Found:
        """Look up uint8 [n, 32] keys in all segments at once."""
        segments = tuple(self.segments())
        chosen = np.full(len(keys), -1, np.int32)
        rows = np.zeros(len(keys), np.int32)
        wanted = _prefixes(keys)
        waiting = np.argsort(wanted)  # in the order of a segment each search begins where the last one ended
        for number, segment in enumerate(segments):
            if not len(waiting):
                break
            found = _search(segment, keys, wanted, waiting)
            hits = found >= 0
            chosen[waiting[hits]] = number
            rows[waiting[hits]] = found[hits]
            waiting = waiting[~hits]
        return Found(keys, segments, chosen, rows)

    def add(self, keys: Keys, vectors: Floats, tokens: NDArray[np.uint32], stamp: int | None = None) -> None:
        """Store a checked batch: one file, durable when this returns. Raises StorageFailed.

        `stamp` is the one of the segment that the rows come from, so that the oldest still wins; now by default.
        """
        if not len(keys):
            return
        self._write_namespace(int(vectors.shape[1]))
        self._write(keys, vectors, tokens, stamp)

    def refuse_without_room(self, texts: int, width: int) -> None:
        """Raise StorageFailed where the disk could not take so many more vectors of this width: before they are paid for."""
        storage.refuse_without_room(self.folder, texts * (4 * width + _BESIDE) + _SPARE)

    def merge(self, above: int = MERGE_ABOVE, *, dry_run: bool = False) -> int:
        """Fold small segments together once there are more than `above` of them; gives how many files go.

        Merged files are durable before their sources are unlinked. Damaged rows stop the merge with Damaged.
        """
        sizes = {name: (self.folder / name).stat().st_size for name in segment_names(self.folder)}
        if sum(size < SMALL_BYTES for size in sizes.values()) <= above:
            return 0
        removed = 0
        for group in _groups(sizes):
            removed += len(group) - 1
            if dry_run:
                continue
            segments = [Segment(self.folder / name) for name in group]
            stamp = int(group[0][:13])
            merged = self._write_merged(segments, stamp)
            storage.faultpoint("cache.merge.before_unlink")
            for segment in segments:
                # equal content and stamp give the merged file the name of its first source
                if segment.path != merged:
                    storage.remove_file(segment.path)
        return removed

    def _write_merged(self, segments: Sequence[Segment], stamp: int) -> Path:
        keys = np.concatenate([segment.keys for segment in segments])
        owner = np.repeat(np.arange(len(segments)), [len(segment) for segment in segments])
        row = np.concatenate([np.arange(len(segment)) for segment in segments])
        # stable, so that of two equal keys the one of the older segment comes first and is kept
        order = _order(keys)
        ordered = keys[order]
        fresh = np.ones(len(order), bool)
        fresh[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
        order = order[fresh]
        vectors = np.empty((len(order), segments[0].dimensions), np.float32)
        tokens = np.empty(len(order), np.uint32)
        for number, segment in enumerate(segments):
            mine = np.flatnonzero(owner[order] == number)
            rows = row[order[mine]]
            part = segment.vectors[rows]
            segment.check(rows, segment.keys[rows], part)
            vectors[mine] = part
            tokens[mine] = segment.tokens[rows]
        return self._write(keys[order], vectors, tokens, stamp)

    def _write(self, keys: Keys, vectors: Floats, tokens: NDArray[np.uint32], stamp: int | None = None) -> Path:
        stamp = int(self._clock.utc().timestamp() * 1000) if stamp is None else stamp
        storage.faultpoint("cache.add.before_write")
        path = write_segment(self.folder, keys, vectors, tokens, stamp)
        storage.faultpoint("cache.add.after_write")
        return path

    def _write_namespace(self, dimensions: int) -> None:
        path = self.folder / "namespace.json"
        if path.exists():
            return
        storage.write(path, namespace_bytes(self._identity, dimensions))


def write_segment(folder: Path, keys: Keys, vectors: Floats, tokens: NDArray[np.uint32], stamp: int) -> Path:
    """Write records in the order of their keys, under the name of their time (unix ms) and content, durably."""
    order = _order(keys)
    data = serialise(keys[order], vectors[order], tokens[order])
    path = folder / f"{stamp:013d}-{hashlib.sha256(data).hexdigest()[:16]}.arrow"
    storage.write(path, data)
    return path


def _order(keys: Keys) -> NDArray[np.intp]:
    """A stable order by all 32 bytes."""
    words = np.ascontiguousarray(keys).view(">u8").astype(np.uint64)
    return np.lexsort((words[:, 3], words[:, 2], words[:, 1], words[:, 0]))


def _search(segment: Segment, keys: Keys, wanted: NDArray[np.uint64], waiting: NDArray[np.intp]) -> NDArray[np.int64]:
    """For each waiting key its row in the segment, or -1; prefixes first, then all 32 bytes."""
    prefixes, count = segment.prefixes, len(segment)
    position = np.searchsorted(prefixes, wanted[waiting])
    found = np.full(len(waiting), -1, np.int64)
    active = np.arange(len(waiting))
    while len(active):
        inside = position[active] < count
        active = active[inside]
        active = active[prefixes[position[active]] == wanted[waiting[active]]]
        same = (segment.keys[position[active]] == keys[waiting[active]]).all(axis=1)
        found[active[same]] = position[active[same]]
        active = active[~same]
        position[active] += 1
    return found


def serialise(keys: Keys, vectors: Floats, tokens: NDArray[np.uint32]) -> Any:
    """The bytes of a segment of these rows, which must be in the order of their keys."""
    import pyarrow as pa

    width = vectors.shape[1]
    schema = pa.schema(
        [
            pa.field("key", pa.binary(32), nullable=False),
            pa.field("vector", pa.list_(pa.field("item", pa.float32(), nullable=False), width), nullable=False),
            pa.field("tokens", pa.uint32(), nullable=False),
            pa.field("check", pa.uint64(), nullable=False),
        ],
        metadata={"ragline.cache_format": str(CACHE_FORMAT)},
    )
    flat = pa.array(np.ascontiguousarray(vectors).ravel())
    columns = [
        pa.Array.from_buffers(schema.field(0).type, len(keys), [None, pa.py_buffer(np.ascontiguousarray(keys))]),
        pa.FixedSizeListArray.from_arrays(flat, type=schema.field(1).type),
        pa.array(tokens, pa.uint32()),
        pa.array(row_checks(keys, vectors, tokens), pa.uint64()),
    ]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.record_batch(columns, schema=schema))
    return memoryview(sink.getvalue())


def segment_names(folder: Path) -> list[str]:
    """The names of a namespace's segments, oldest first."""
    try:
        return sorted(name.name for name in folder.iterdir() if _NAME.fullmatch(name.name) and not name.is_dir())
    except FileNotFoundError:
        return []


def namespaces(store: Path) -> list[Path]:
    """The folders of all namespaces of a store."""
    root = store / "cache"
    return sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []


def _groups(sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """Small neighbours that together stay below the size of a merged segment.

    None reaches past a large one: a row of a younger segment would take the oldest stamp, and win where it had lost.
    """
    group: list[str] = []
    size = 0
    for name, own in sizes.items():
        if own >= SMALL_BYTES or size + own > MERGED_BYTES:
            if len(group) > 1:
                yield group
            group, size = [], 0
        if own < SMALL_BYTES:
            group.append(name)
            size += own
    if len(group) > 1:
        yield group


def _refuse_newer(folder: Path) -> None:
    path = folder / "namespace.json"
    try:
        found = json.loads(path.read_bytes()).get("format", 0)
    except (OSError, ValueError, AttributeError, RecursionError):
        return
    refuse_newer(path, found, CACHE_FORMAT, NEWER_REMEDY)


def broken_segments(store: Path) -> Iterator[tuple[Path, str, str]]:
    """Every cache file whose bytes are not what its name (or its form) promises, as (path, expected, actual)."""
    for folder in namespaces(store):
        for name in segment_names(folder):
            path = folder / name
            try:
                actual = file_sha256(path)[:16]
            except FileNotFoundError:
                continue
            if actual != name[14:30]:
                yield path, name[14:30], actual
        if segment_names(folder):
            yield from _restated(folder)


def _restated(folder: Path) -> Iterator[tuple[Path, str, str]]:
    """A namespace.json that says anything but what `add` has written. A newer format may be a flipped digit, too."""
    path = folder / "namespace.json"
    try:
        _refuse_newer(folder)
    except FormatTooNew as error:
        yield path, CACHE_FORMATS, error.message
        return
    identity = read_namespace(folder)
    try:
        dimensions = json.loads(path.read_bytes())["vector_dimensions"]
        with contextlib.suppress(Damaged, FileNotFoundError):
            dimensions = Segment(folder / segment_names(folder)[0]).dimensions
        sound = (
            identity is not None
            and namespace_name(identity) == folder.name
            and path.read_bytes() == namespace_bytes(identity, dimensions)
        )
    except (OSError, ValueError, KeyError, TypeError, IndexError, RecursionError):
        sound = False
    if not sound:
        yield path, f"what {folder.name} stands for", "something else"


def read_namespace(folder: Path) -> EmbeddingIdentity | None:
    """The identity that a namespace stands for; None when its namespace.json cannot be read."""
    try:
        content = json.loads((folder / "namespace.json").read_bytes())
        return EmbeddingIdentity(
            content["provider"], content["model"], content["base_url"], content["revision"], content["dimensions"]
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
