"""How a reply reaches its client: whole, in part, late, twice, or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.provider.http import Reply, Server

BLOCK = 1 << 18
SILENT = frozenset({"nothing", "reset", "away", "hang"})


def reset(writer: asyncio.StreamWriter) -> None:
    """RST instead of FIN: what the client has not read yet is lost."""
    held: socket.socket | None = writer.get_extra_info("socket")
    if held is not None:
        with contextlib.suppress(OSError):
            held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _chunks(reply: Reply) -> AsyncIterator[bytes]:
    """The body as it goes over the wire."""
    if reply.pieces is None:
        view = memoryview(reply.body)
        for start in range(0, len(view), BLOCK):
            yield bytes(view[start : start + BLOCK])
        return
    if isinstance(reply.pieces, AsyncIterator):
        async for piece in reply.pieces:
            yield b"%x\r\n%b\r\n" % (len(piece), piece)
    else:
        for piece in reply.pieces:
            yield b"%x\r\n%b\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"


async def _whole(writer: asyncio.StreamWriter, reply: Reply) -> None:
    writer.write(reply.head())
    async for chunk in _chunks(reply):
        writer.write(chunk)
        await writer.drain()
    await writer.drain()


async def _gone(reader: asyncio.StreamReader, seconds: float) -> None:
    """Wait until the client gives up, or for so long."""
    with contextlib.suppress(asyncio.TimeoutError, OSError):
        await asyncio.wait_for(reader.read(1), seconds)


async def deliver(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, reply: Reply) -> bool:
    """Do it as `reply.delivery` says; whether the connection lives on."""
    match reply.delivery:
        case "whole":
            await _whole(writer, reply)
            return True
        case "twice":
            await _whole(writer, reply)
            await _whole(writer, reply)
            return True
        case "nothing":
            return False
        case "reset":
            reset(writer)
            return False
        case "away":
            server.leave(0.3 if reply.seconds is None else reply.seconds)
            reset(writer)
            return False
        case "hang":
            await _gone(reader, 3600.0 if reply.seconds is None else reply.seconds)
            return False
    body = b"".join([chunk async for chunk in _chunks(reply)])
    match reply.delivery:
        case "half" | "reset_late":
            writer.write(reply.head() + body[: len(body) // 2])
            await writer.drain()
            if reply.delivery == "reset_late":
                await asyncio.sleep(0.05)  # so that the half is read before the reset overtakes it
                reset(writer)
            return False
        case "drip":
            pieces = 50
            size = max(1, -(-len(body) // pieces))
            writer.write(reply.head())
            for start in range(0, len(body), size):
                writer.write(body[start : start + size])
                await writer.drain()
                await asyncio.sleep((5.0 if reply.seconds is None else reply.seconds) / pieces)
                if writer.is_closing() or reader.at_eof():
                    return False
            return True
    raise ValueError(f"no delivery {reply.delivery!r}")
