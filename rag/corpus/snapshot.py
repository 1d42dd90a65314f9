"""Whether the corpus has changed: every file's stat and sha256, taken again only where the stat gives reason to.

Bytes of a snapshot: `MAGIC`, the length of a JSON header (4 bytes, little endian), the header, the names (UTF-8, one
NUL between two), then little-endian arrays: root_of int32 [n], stats int64 [n, 4], settled uint8 [n],
sha256 uint8 [n, 32]; at the end the sha256 of all before it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rag.corpus.page import Unreadable
from rag.corpus.sources import Listing, Root, listed, nothing_found, open_source, source_name, stat_row
from rag.corpus.spec import CorpusSpec
from rag.types import Excluded

MAGIC = b"ragline snapshot\n"
FORMAT = 1
_SETTLED_NS = 2_000_000_000
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The files of a corpus in the order of their paths, which is the order of their doc_ids.

    Row i: `paths[i]` below root `root_of[i]`, int32 [n]; `stats[i]` = size, mtime_ns, ctime_ns, inode, int64 [n, 4];
    `sha256[i]` of its bytes, uint8 [n, 32]; `settled[i]`: it was older than 2 s when it was read, so that an equal stat
    means equal bytes, bool [n].
    """

    labels: tuple[str, ...]
    paths: list[str]
    root_of: NDArray[np.int32]
    stats: NDArray[np.int64]
    sha256: NDArray[np.uint8]
    settled: NDArray[np.bool_]
    excluded: tuple[Excluded, ...]
    """What was found and is no file to read. Not kept by `to_bytes`."""
    digest: str
    """sha256, hex, over all (label, path, sha256 of the bytes) and all exclusions: no absolute path, no stat, no order."""
    hashed: int
    """How many files had to be read for it."""

    def to_bytes(self) -> bytes:
        """The snapshot as the next run's memory."""
        names = "\0".join(self.paths).encode("utf-8")
        header = {"format": FORMAT, "files": len(self.paths), "names": len(names), "labels": self.labels}
        head = json.dumps({**header, "digest": self.digest}).encode("ascii")
        parts = [MAGIC, len(head).to_bytes(4, "little"), head, names]
        parts += [self.root_of.astype("<i4").tobytes(), self.stats.astype("<i8").tobytes()]
        parts += [self.settled.astype("u1").tobytes(), self.sha256.tobytes()]
        body = b"".join(parts)
        return body + hashlib.sha256(body).digest()

    @staticmethod
    def from_bytes(data: bytes) -> Snapshot | None:
        """What `to_bytes` has written; None for damage or another format: it is only a memory."""
        body = memoryview(data)[:-32]
        if not data.startswith(MAGIC) or hashlib.sha256(body).digest() != data[-32:]:
            return None
        at = len(MAGIC) + 4
        size = int.from_bytes(data[len(MAGIC) : at], "little")
        try:
            return _parsed(json.loads(data[at : at + size]), body[at + size :])
        except (ValueError, KeyError, TypeError):
            return None


def _parsed(header: dict[str, Any], rest: memoryview) -> Snapshot | None:
    if header["format"] != FORMAT:
        return None
    n, at = header["files"], header["names"]
    paths = bytes(rest[:at]).decode("utf-8").split("\0") if n else []
    arrays: list[NDArray[Any]] = []
    for kind, width in (("<i4", 1), ("<i8", 4), ("u1", 1), ("u1", 32)):
        # Copied, because names of odd length leave what follows unaligned.
        arrays.append(np.frombuffer(rest, kind, n * width, at).copy())
        at += arrays[-1].nbytes
    if len(paths) != n or at != len(rest):
        return None
    root_of, stats, settled, sha256 = arrays
    return Snapshot(
        labels=tuple(header["labels"]),
        paths=paths,
        root_of=root_of.astype(np.int32),
        stats=stats.astype(np.int64).reshape(n, 4),
        sha256=sha256.reshape(n, 32),
        settled=settled.astype(np.bool_),
        excluded=(),
        digest=str(header["digest"]),
        hashed=0,
    )


def snapshot(spec: CorpusSpec, previous: Snapshot | None, now_ns: int, *, rehash: bool = False) -> Snapshot:
    """List the corpus and know every file's sha256, reading only what the memory cannot vouch for.

    Parameters
    ----------
    previous
        The memory, if there is one.
    now_ns
        UTC, nanoseconds since 1970: a file whose mtime or ctime is less than 2 s before it may still change unseen.
    rehash
        Read every file, whatever its stat says.

    Raises CorpusMissing when a path is not there, or no file can be read.
    """
    listing = listed(spec)
    excluded = listing.excluded
    paths, root_of, stats = _ordered(listing)
    labels = tuple(root.label for root in listing.roots)
    n = len(paths)
    sha256 = np.zeros((n, 32), np.uint8)
    settled = np.zeros(n, np.bool_)
    keep = np.ones(n, np.bool_)
    if previous is not None and not rehash:
        mine, theirs = _unchanged(previous, labels, paths, root_of, stats)
        sha256[mine], settled[mine] = previous.sha256[theirs], previous.settled[theirs]
    to_read = np.flatnonzero(~settled)
    for row in to_read.tolist():
        root = listing.roots[root_of[row]]
        try:
            sha256[row], stats[row] = _read(root, paths[row], int(stats[row, 3]))
        except FileNotFoundError:
            keep[row] = False
        except OSError as error:
            keep[row] = False
            excluded.append(Excluded(source_name(root, paths[row]), "read", "unreadable", error.strerror or str(error)))
        except Unreadable as verdict:
            keep[row] = False
            excluded.append(verdict.row(source_name(root, paths[row])))
    settled |= stats[:, 1:3].max(axis=1, initial=0) < now_ns - _SETTLED_NS
    if not keep.all():
        paths = [path for path, kept in zip(paths, keep.tolist(), strict=True) if kept]
        root_of, stats, sha256, settled = root_of[keep], stats[keep], sha256[keep], settled[keep]
    if not paths:
        raise nothing_found(spec, excluded)
    excluded.sort(key=lambda row: (row.source, row.reason))
    digest = _digest(labels, paths, root_of, sha256, excluded)
    return Snapshot(labels, paths, root_of, stats, sha256, settled, tuple(excluded), digest, len(to_read))


def _ordered(listing: Listing) -> tuple[list[str], NDArray[np.int32], NDArray[np.int64]]:
    """By path, then root. Code points order like UTF-8 bytes."""
    paths = listing.paths
    if len(listing.roots) == 1:
        order = sorted(range(len(paths)), key=paths.__getitem__)
    else:
        order = sorted(range(len(paths)), key=lambda row: (paths[row], listing.root_of[row]))
    stats = np.frombuffer(listing.stats, np.int64).reshape(-1, 4)[order]
    return [paths[row] for row in order], np.array(listing.root_of, np.int32)[order], stats


def _unchanged(
    previous: Snapshot,
    labels: tuple[str, ...],
    paths: list[str],
    root_of: NDArray[np.int32],
    stats: NDArray[np.int64],
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows of this listing and rows of the memory that are the same file with the same, settled stat."""
    if labels == previous.labels and paths == previous.paths and np.array_equal(root_of, previous.root_of):
        mine = theirs = np.arange(len(paths))
    else:
        known = {key: row for row, key in enumerate(_keys(previous.labels, previous.paths, previous.root_of))}
        where = np.array([known.get(key, -1) for key in _keys(labels, paths, root_of)], np.intp)
        mine = np.flatnonzero(where >= 0)
        theirs = where[mine]
    same = (stats[mine] == previous.stats[theirs]).all(axis=1) & previous.settled[theirs]
    return mine[same], theirs[same]


def _keys(labels: tuple[str, ...], paths: list[str], root_of: NDArray[np.int32]) -> Iterable[str]:
    return (f"{labels[root]}\0{path}" for root, path in zip(root_of.tolist(), paths, strict=True))


def _read(root: Root, path: str, inode: int) -> tuple[NDArray[np.uint8], tuple[int, int, int, int]]:
    """sha256 of a file's bytes, and the stat it had before they were read."""
    handle, status = open_source(root, path, inode)
    try:
        asked = min(status.st_size + 1, _BLOCK)
        data = os.read(handle, asked)
        state = hashlib.sha256(data)
        # A short read is the end of a regular file: small files take one call.
        while len(data) == asked:
            asked = _BLOCK
            data = os.read(handle, asked)
            state.update(data)
    finally:
        os.close(handle)
    return np.frombuffer(state.digest(), np.uint8), stat_row(status)


def _digest(
    labels: tuple[str, ...],
    paths: list[str],
    root_of: NDArray[np.int32],
    sha256: NDArray[np.uint8],
    excluded: list[Excluded],
) -> str:
    """No name holds a NUL, so names between NULs, after their number, are told apart."""
    if len(labels) > 1:
        keys = list(_keys(labels, paths, root_of))
        order = sorted(range(len(keys)), key=keys.__getitem__)
        names, sha256 = "\0".join(keys[row] for row in order), sha256[order]
    else:
        names = labels[0] + "\0" + f"\0{labels[0]}\0".join(paths)
    rows = "\0".join(f"{row.source}\0{row.reason}" for row in excluded)
    state = hashlib.sha256(f"ragline snapshot {FORMAT} {len(paths)} {len(excluded)}\0".encode())
    for part in (names, "\0", rows, "\0"):
        state.update(part.encode("utf-8", "backslashreplace"))
    state.update(np.ascontiguousarray(sha256).tobytes())
    return state.hexdigest()
