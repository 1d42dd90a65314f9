"""A chat model that is asked no more when nothing but failures comes back: a dead server must not take an hour to say so."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final

from rag.errors import ProviderFailed
from rag.ports import ChatModel
from rag.types import Completion, Message

MOST: Final = 16
"""Requests that may fail one after the other. Each was sent several times, and waited for."""


class Fused:
    """**ChatModel** over a chat model: after MOST failures in a row every further call fails at once, and says why."""

    def __init__(self, chat: ChatModel) -> None:
        self.name = chat.name
        self._chat = chat
        self._failed = 0
        self._last = ""

    async def complete(self, messages: Sequence[Message], max_tokens: int) -> Completion:
        """The reply. Raises what the chat model raises; ProviderFailed without asking it."""
        if self._failed >= MOST:
            what = f"not asked: the {MOST} requests before it failed, the last of them: {self._last}"
            raise ProviderFailed.at(self.name, what, "mend what failed, then run the same command again")
        try:
            found = await self._chat.complete(messages, max_tokens)
        except ProviderFailed as error:
            self._failed, self._last = self._failed + 1, error.message
            raise
        self._failed = 0
        return found

    async def close(self) -> None:
        """Close the model's connections."""
        close = getattr(self._chat, "close", None)
        if close is not None:
            await close()

    async def stream(self, messages: Sequence[Message], max_tokens: int) -> AsyncIterator[str | Completion]:
        """The reply as one item. Raises as `complete`."""
        yield await self.complete(messages, max_tokens)
