"""`openai/<model>` chat completions, whole or as they come, from OpenAI or any server that speaks its API."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any

from rag.providers.check import BadReply
from rag.providers.door import Door, Reply
from rag.providers.openai_api import count_of, json_object
from rag.providers.settings import ModelSettings, Surroundings
from rag.types import Completion, Message


class OpenAIChat:
    """A chat model behind POST /chat/completions.

    `finish_reason` is `stop` for a whole reply, `length` for one cut at max_tokens, `refusal` or `content_filter` for
    one that was refused; anything else is the server's own word.
    """

    def __init__(self, settings: ModelSettings, around: Surroundings) -> None:
        """Nothing is sent, imported or read from the environment yet. Raises SettingsError."""
        self._door = Door(settings, around, "openai")
        self._model = settings.name
        # OpenAI's reasoning models refuse max_tokens; many compatible servers ignore its successor
        self._limit = "max_tokens" if self._door.base_url else "max_completion_tokens"
        self.name = settings.model

    async def complete(self, messages: Sequence[Message], max_tokens: int) -> Completion:
        """The whole reply. Raises ProviderFailed, KeyMissing, UnknownModel."""

        async def call() -> Reply[Completion]:
            create = self._door.client().chat.completions.with_raw_response.create
            raw = await create(**self._asked(messages, max_tokens))
            return self._whole(json_object(await raw.http_response.aread()), raw.headers)

        return await self._door.send(self._tokens(messages, max_tokens), call)

    async def stream(self, messages: Sequence[Message], max_tokens: int) -> AsyncIterator[str | Completion]:
        """Pieces of text as they come, then the Completion. Raises ProviderFailed, KeyMissing, UnknownModel."""

        def start() -> AsyncGenerator[str | Reply[Completion]]:
            return self._pieces(messages, max_tokens)

        async for item in self._door.stream(self._tokens(messages, max_tokens), start):
            yield item if isinstance(item, str) else item.value

    async def close(self) -> None:
        """Close the connections of the running loop."""
        await self._door.close()

    def _asked(self, messages: Sequence[Message], max_tokens: int) -> dict[str, Any]:
        turns = [{"role": message.role, "content": message.content} for message in messages]
        return {"model": self._model, "messages": turns, self._limit: max_tokens}

    def _tokens(self, messages: Sequence[Message], max_tokens: int) -> int:
        return self._door.estimate([message.content for message in messages]) + max_tokens

    def _whole(self, payload: dict[str, Any], headers: Any) -> Reply[Completion]:
        choices = payload.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        message = choice.get("message") if isinstance(choice, dict) else None
        if not isinstance(choice, dict) or not isinstance(message, dict):
            raise BadReply("no choice with a message")
        refusal = message.get("refusal")
        text = message.get("content") or refusal or ""
        if not isinstance(text, str):
            raise BadReply("a message that is no text")
        finish = "refusal" if refusal else str(choice.get("finish_reason") or "unknown")
        return self._reply(text, payload, finish, payload.get("usage"), headers)

    async def _pieces(self, messages: Sequence[Message], max_tokens: int) -> AsyncGenerator[str | Reply[Completion]]:
        create = self._door.client().chat.completions.with_raw_response.create
        raw = await create(**self._asked(messages, max_tokens), stream=True, stream_options={"include_usage": True})
        text: list[str] = []
        finish, usage, refused = "", None, False
        head: dict[str, Any] = {}
        chunks = raw.parse()
        try:
            async for chunk in chunks:
                seen = chunk.model_dump()
                head = head or seen
                usage = seen.get("usage") or usage
                for choice in (seen.get("choices") or [])[:1]:
                    delta = choice.get("delta") or {}
                    refused = refused or bool(delta.get("refusal"))
                    finish = choice.get("finish_reason") or finish
                    piece = delta.get("content") or delta.get("refusal")
                    if piece:
                        text.append(piece)
                        yield piece
        finally:
            await chunks.close()
        if finish:
            yield self._reply("".join(text), head, "refusal" if refused else finish, usage, raw.headers)

    def _reply(self, text: str, head: dict[str, Any], finish: str, usage: Any, headers: Any) -> Reply[Completion]:
        read, written = count_of(usage, "prompt_tokens"), count_of(usage, "completion_tokens")
        model = str(head.get("model") or self._model)
        billed = None if read is None or written is None else read + written
        return Reply(Completion(text, model, self._door.usage(read, written), finish), billed, headers)
