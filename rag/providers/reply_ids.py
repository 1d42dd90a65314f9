"""Whose reply is it? One that comes twice would be taken for the reply to the next request on its connection.

So a connection is used again only where replies carry an id, by which a repeated one is known.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from rag.providers.check import BadReply

NAMES: Final = ("x-request-id", "request-id", "cf-ray")
_REMEMBERED: Final = 1024


class ReplyIds:
    """The ids of the last replies. Its methods are hooks of an HTTP client, which closes a connection over BadReply."""

    def __init__(self) -> None:
        self._seen: deque[str] = deque(maxlen=_REMEMBERED)
        self._telling = False

    async def sends(self, request: Any) -> None:
        """Called with every request: its connection is not used again, unless the server's replies can be told apart."""
        if not self._telling:
            request.headers["connection"] = "close"

    async def comes(self, response: Any) -> None:
        """Called with every reply. Raises BadReply for one that has come before; it is left unread.

        An id that comes a third time is none: some server gives it to every reply, or a cache before it does.
        """
        found = next(filter(None, map(response.headers.get, NAMES)), "")
        times = self._seen.count(found)
        self._seen.append(found)
        self._telling = bool(found) and not times
        if found and times == 1:
            raise BadReply("it is the reply to an earlier request")
