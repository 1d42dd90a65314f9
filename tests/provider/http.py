"""HTTP/1.1 by hand, because a faulty server must be able to do what no library lets it do."""

from __future__ import annotations

import asyncio
import contextlib
import http
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.provider import delivery

HEAD_LIMIT = 1 << 16
_PHRASES = {status.value: status.phrase for status in http.HTTPStatus}


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    arrived: float

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Reply:
    """One reply: a body with its length, or `pieces` that come one by one."""

    status: int = 200
    body: bytes = b""
    pieces: Sequence[bytes] | AsyncIterator[bytes] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    delivery: str = "whole"
    seconds: float | None = None
    """How long its delivery takes or hangs, where that means something."""
    sent: Callable[[], None] = lambda: None
    """Called when the last byte is out, or the connection given up."""

    @classmethod
    def of(cls, value: Any, status: int = 200) -> Reply:
        return cls(status, json.dumps(value).encode())

    def head(self) -> bytes:
        headers = {"content-type": "application/json", **self.headers}
        if self.pieces is None:
            headers["content-length"] = str(len(self.body))
        else:
            headers["transfer-encoding"] = "chunked"
        lines = [
            f"HTTP/1.1 {self.status} {_PHRASES.get(self.status, 'Overloaded')}",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


App = Callable[[Request], Awaitable[Reply]]


async def _read(reader: asyncio.StreamReader, clock: Callable[[], float]) -> Request:
    head = await reader.readuntil(b"\r\n\r\n")
    arrived = clock()
    first, *lines = head.decode("latin-1").rstrip().split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = b""
    if headers.get("transfer-encoding") == "chunked":
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readuntil(b"\r\n")
    elif length := int(headers.get("content-length", "0")):
        body = await reader.readexactly(length)
    parts = urlsplit(target)
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    return Request(method, unquote(parts.path), query, headers, body, arrived)


class Server:
    """The listener on loopback, its connections, and its moments of absence."""

    def __init__(self, app: App, clock: Callable[[], float], port: int = 0) -> None:
        self.app = app
        self.clock = clock
        self.port = port
        self._listener: asyncio.Server | None = None
        self._idle: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        while True:
            try:
                self._listener = await asyncio.start_server(
                    self._serve, "127.0.0.1", self.port, limit=HEAD_LIMIT, backlog=1024
                )
                break
            except OSError:  # while it was away, somebody's outgoing connection took the port
                if self._listener is None:
                    raise
                await asyncio.sleep(0.01)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def close(self) -> None:
        if self._listener:
            self._listener.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def leave(self, seconds: float) -> None:
        """Refuse connections for a while, and drop those on which nothing is under way."""
        if self._listener is None or not self._listener.is_serving():
            return
        self._listener.close()
        for writer in self._idle:
            writer.close()  # and no reset: a reply that is still on its way would be lost with it

        async def back() -> None:
            await asyncio.sleep(seconds)
            await self.open()

        self._keep(asyncio.create_task(back()))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._keep(task)
        try:
            with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
                while await self._one(reader, writer):
                    pass
        finally:
            self._idle.discard(writer)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Serve one request; whether the connection lives on."""
        self._idle.add(writer)
        try:
            request = await _read(reader, self.clock)
        except (ValueError, asyncio.LimitOverrunError):
            writer.write(Reply(400, b"{}", headers={"connection": "close"}).head() + b"{}")
            return False
        self._idle.discard(writer)
        reply = await self.app(request)
        try:
            stays = await delivery.deliver(self, reader, writer, reply)
        finally:
            reply.sent()
        return stays and request.headers.get("connection", "").lower() != "close"
