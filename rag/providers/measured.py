"""A reply is read only as far as it may be long. Imported with the first client: it needs the HTTP library."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import httpx2

from rag.providers.check import BadReply


class _Measured(httpx2.AsyncByteStream):
    """The body of a reply, up to `room` bytes."""

    def __init__(self, body: httpx2.AsyncByteStream, room: int) -> None:
        self._body = body
        self._room = room

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = self._room
        async for block in self._body:
            left -= len(block)
            if left < 0:
                raise BadReply(f"it is longer than {self._room:,} bytes, more than what was asked can take")
            yield block

    async def aclose(self) -> None:
        await self._body.aclose()


def hook(room: Callable[[], int]) -> Callable[[httpx2.Response], Awaitable[None]]:
    """What the client calls with every reply before it reads the body; `room` gives the bytes it may have."""

    async def measure(response: httpx2.Response) -> None:
        # a packed body is small on the way and may be endless here; none was asked for
        if (packed := response.headers.get("content-encoding", "identity")) != "identity":
            raise BadReply(f"it is packed as {packed}, which was not asked for")
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _Measured(response.stream, room())

    return measure
