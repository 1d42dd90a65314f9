"""Upkeep of the vector cache: what it holds, mending damaged segments, dropping what no version needs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rag import storage
from rag.clock import Clock
from rag.digest import file_sha256
from rag.embedding.cache import (
    Keys,
    Segment,
    VectorCache,
    namespace_bytes,
    namespace_name,
    namespaces,
    read_namespace,
    row_checks,
    segment_names,
    serialise,
    write_segment,
)
from rag.errors import Damaged
from rag.ports import Floats
from rag.types import EmbeddingIdentity


@dataclass(frozen=True, slots=True)
class NamespaceStats:
    """What one namespace holds. `tokens` is what its vectors were billed."""

    namespace: str
    model: str | None
    segments: int
    vectors: int
    tokens: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Mended:
    """What became of a damaged segment: `lost` records have to be embedded again, None where nobody can count them."""

    path: Path
    kept: int
    lost: int | None


def stats(store: Path) -> list[NamespaceStats]:
    """The figures of every namespace. Raises Damaged."""
    found = []
    for folder in namespaces(store):
        names = segment_names(folder)
        segments = [Segment(folder / name) for name in names]
        identity = read_namespace(folder)
        found.append(
            NamespaceStats(
                folder.name,
                identity.name if identity else None,
                len(names),
                sum(map(len, segments)),
                sum(int(segment.tokens.sum()) for segment in segments),
                sum((folder / name).stat().st_size for name in names),
            )
        )
    return found


def compact(store: Path, clock: Clock, *, dry_run: bool = False) -> int:
    """Merge all small segments now; gives how many files went, or would go. Raises Damaged."""
    identities = filter(None, map(read_namespace, namespaces(store)))
    return sum(VectorCache(store, identity, clock).merge(above=1, dry_run=dry_run) for identity in identities)


def mend(path: Path) -> Mended:
    """Write the sound records of a damaged segment anew, under a name that tells the truth, and drop the damaged file."""
    rows = _salvage(path)
    kept = lost = None
    if rows is not None:
        keys, vectors, tokens, checks = rows
        sound = row_checks(keys, vectors, tokens) == checks
        kept, lost = int(sound.sum()), int((~sound).sum())
        if kept:
            stamp = int(path.name[:13])
            if write_segment(path.parent, keys[sound], vectors[sound], tokens[sound], stamp) == path:
                return Mended(path, kept, lost)
    storage.remove_file(path)
    return Mended(path, kept or 0, lost)


def mend_namespace(path: Path, known: Iterable[EmbeddingIdentity]) -> bool:
    """Write a damaged namespace.json anew, from an identity (of a manifest or the settings) that names this folder."""
    for identity in known:
        if namespace_name(identity) == path.parent.name:
            names = segment_names(path.parent)
            dimensions = Segment(path.parent / names[0]).dimensions if names else identity.dimensions
            storage.write(path, namespace_bytes(identity, dimensions))
            return True
    return False


def _salvage(path: Path) -> tuple[Keys, Floats, NDArray[np.uint32], NDArray[np.uint64]] | None:
    """The four columns of a segment, even when its Arrow metadata is gone; None when its length is wrong, too."""
    by_layout = _by_layout(path)
    if by_layout is not None:
        return by_layout
    try:
        segment = Segment(path)
    except Damaged:
        return None
    return segment.keys, segment.vectors, segment.tokens, segment.checks


def _by_layout(path: Path) -> tuple[Keys, Floats, NDArray[np.uint32], NDArray[np.uint64]] | None:
    """Read by the layout that any segment of this many rows has, told from the size of the file alone."""
    identity = read_namespace(path.parent)
    size = path.stat().st_size
    widths = {Segment(path.parent / name).dimensions for name in _sound(path.parent)}
    if identity and identity.dimensions:
        widths.add(identity.dimensions)
    for width in widths:
        guess = size // (32 + 4 * width + 4 + 8)
        for count in range(guess, max(0, guess - 64), -1):
            template = _template(count, width)
            if len(template) == size:
                return _read_like(template, path.read_bytes(), count, width)
    return None


def _sound(folder: Path) -> Iterable[str]:
    for name in segment_names(folder):
        if file_sha256(folder / name)[:16] == name[14:30]:
            yield name


def _template(count: int, width: int) -> bytes:
    """A segment of the same shape whose every column can be told from its filling."""
    keys = np.full((count, 32), 0x11, np.uint8)
    vectors = np.full((count, width * 4), 0x22, np.uint8).view(np.float32)
    return bytes(serialise(keys, vectors, np.full(count, 0x33333333, np.uint32)))


def _read_like(
    template: bytes, data: bytes, count: int, width: int
) -> tuple[Keys, Floats, NDArray[np.uint32], NDArray[np.uint64]]:
    keys = template.index(b"\x11" * (32 * count))
    vectors = template.index(b"\x22" * (4 * width * count))
    tokens = template.index(b"\x33" * (4 * count))
    same = np.full((1, 32), 0x11, np.uint8), np.full((1, width * 4), 0x22, np.uint8).view(np.float32)
    check = row_checks(*same, np.full(1, 0x33333333, np.uint32)).astype("<u8").tobytes()
    checks = template.index(check * count)
    return (
        np.frombuffer(data, np.uint8, 32 * count, keys).reshape(count, 32),
        np.frombuffer(data, np.float32, width * count, vectors).reshape(count, width),
        np.frombuffer(data, np.uint32, count, tokens),
        np.frombuffer(data, np.uint64, count, checks),
    )


@dataclass(frozen=True, slots=True)
class Prunable:
    """What a prune would drop: vectors that no version's chunk table names, and the tokens that they were billed."""

    model: EmbeddingIdentity
    vectors: int
    tokens: int


def prune(store: Path, needed: set[bytes], clock: Clock, *, dry_run: bool) -> list[Prunable]:
    """Drop every vector whose key (32 bytes) is not in `needed`; gives what goes. Raises Damaged."""
    dropped = []
    for folder in namespaces(store):
        identity = read_namespace(folder)
        if identity is None:
            continue
        cache = VectorCache(store, identity, clock)
        vectors = tokens = 0
        for segment in cache.segments():
            keep = np.fromiter((key.tobytes() in needed for key in segment.keys), bool, len(segment))
            gone = int((~keep).sum())
            if not gone:
                continue
            vectors += gone
            tokens += int(segment.tokens[~keep].sum())
            if not dry_run:
                rows = np.flatnonzero(keep)
                kept = segment.vectors[rows]
                segment.check(rows, segment.keys[rows], kept)
                cache.add(segment.keys[rows], kept, segment.tokens[rows], int(segment.path.name[:13]))
                storage.remove_file(segment.path)
        if vectors:
            dropped.append(Prunable(identity, vectors, tokens))
    return dropped
