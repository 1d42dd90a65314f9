"""What chat models behind the door have in common: whole or in pieces, budget, time and room."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any, Final

from rag.providers.door import Door, Reply
from rag.providers.limits import Load
from rag.providers.openai_api import json_object
from rag.providers.settings import ModelSettings, Surroundings
from rag.types import Completion, Message

_BYTES_PER_TOKEN: Final = 4096
"""Of a reply: in a stream each token comes in an event of a few hundred bytes."""


class DoorChat(ABC):
    """A chat model whose requests pass the door. A provider adds how it is asked and how its replies read."""

    def __init__(self, settings: ModelSettings, around: Surroundings) -> None:
        """Nothing is sent, imported or read from the environment yet. Raises SettingsError."""
        self._door = Door(settings, around)
        self._model = settings.name
        self.name = settings.model

    async def complete(self, messages: Sequence[Message], max_tokens: int) -> Completion:
        """The whole reply. Raises ProviderFailed, KeyMissing, UnknownModel."""

        async def call() -> Reply[Completion]:
            raw = await self._create()(**self._asked(messages, max_tokens))
            return self._whole(json_object(await raw.http_response.aread()), raw.headers)

        return await self._door.send(*self._size(messages, max_tokens), call)

    async def stream(self, messages: Sequence[Message], max_tokens: int) -> AsyncIterator[str | Completion]:
        """Pieces of text as they come, then the Completion. Raises ProviderFailed, KeyMissing, UnknownModel."""

        def start() -> AsyncGenerator[str | Reply[Completion]]:
            return self._pieces(self._asked(messages, max_tokens))

        async for item in self._door.stream(*self._size(messages, max_tokens), start):
            yield item if isinstance(item, str) else item.value

    async def close(self) -> None:
        """Close the connections of the running loop."""
        await self._door.close()

    def _size(self, messages: Sequence[Message], max_tokens: int) -> tuple[Load, int]:
        """What to reserve, and bytes that the reply may have."""
        return Load(self._door.estimate([m.content for m in messages]), max_tokens), max_tokens * _BYTES_PER_TOKEN

    @abstractmethod
    def _create(self) -> Any:
        """The library's method that asks, with the raw reply around its result."""

    @abstractmethod
    def _asked(self, messages: Sequence[Message], max_tokens: int) -> dict[str, Any]:
        """What it is asked with."""

    @abstractmethod
    def _whole(self, payload: dict[str, Any], headers: Any) -> Reply[Completion]:
        """A whole reply. Raises BadReply."""

    @abstractmethod
    def _pieces(self, asked: dict[str, Any]) -> AsyncGenerator[str | Reply[Completion]]:
        """A reply in pieces, and at its end the whole."""
