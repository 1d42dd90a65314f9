"""Packed files as streams of bounded length: gzip and Zstandard."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from rag.corpus.page import Unreadable

if TYPE_CHECKING:
    from rag.corpus.readers import Packing

BOMB_RATIO = 200
"""A packed record file may hold this many times its own size, and BOMB_FREE bytes more."""
BOMB_FREE = 256 * 1024 * 1024


class Bytes(io.RawIOBase):
    """A raw stream over a function that gives up to n bytes; after `limit` bytes it raises Unreadable."""

    def __init__(self, read: Callable[[int], bytes], limit: int | None = None) -> None:
        self._read = read
        self._limit = limit
        self._given = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = self._read(len(buffer))
        self._given += len(block)
        if self._limit is not None and self._given > self._limit:
            raise Unreadable("bomb", f"unpacks to more than {self._limit:,} bytes")
        buffer[: len(block)] = block
        return len(block)


def unpacked(file: BinaryIO, packing: Packing, limit: int) -> BinaryIO:
    """The content of a packed file, as a stream. Reading raises Unreadable behind `limit` bytes, or where it is broken."""
    return cast("BinaryIO", io.BufferedReader(Bytes(_named(_opened(file, packing)), limit), 1 << 18))


def unpacked_whole(data: bytes, packing: Packing, limit: int) -> bytes:
    """The content of a packed file in memory. Raises Unreadable."""
    return unpacked(io.BytesIO(data), packing, limit).read()


def joined(head: bytes, rest: BinaryIO) -> Bytes:
    """A raw stream of a head that was read already and the rest of its file."""
    waiting = [head]

    def read(count: int) -> bytes:
        if not waiting[0]:
            return rest.read(count)
        block, waiting[0] = waiting[0][:count], waiting[0][count:]
        return block

    return Bytes(read)


def _opened(file: BinaryIO, packing: Packing) -> Callable[[int], bytes]:
    if packing == "gz":
        return gzip.GzipFile(fileobj=file, mode="rb").read
    import pyarrow as pa

    stream: Callable[[int], bytes] = pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd").read
    return stream


def _named(read: Callable[[int], bytes]) -> Callable[[int], bytes]:
    def named(count: int) -> bytes:
        try:
            return read(count)
        except Unreadable:
            raise
        except Exception as error:
            raise Unreadable("broken", f"cannot be unpacked: {type(error).__name__}: {error}") from error

    return named
