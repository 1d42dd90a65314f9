"""`openai/<model>` chat completions, whole or as they come, from OpenAI or any server that speaks its API."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any

from rag.providers.chat import DoorChat
from rag.providers.check import BadReply
from rag.providers.door import Reply
from rag.providers.limits import Load
from rag.providers.openai_api import count_of
from rag.providers.settings import ModelSettings, Surroundings
from rag.types import Completion, Message


class OpenAIChat(DoorChat):
    """A chat model behind POST /chat/completions.

    `finish_reason` is `stop` for a whole reply, `length` for one cut at max_tokens, `refusal` or `content_filter` for
    one that was refused; anything else is the server's own word.
    """

    def __init__(self, settings: ModelSettings, around: Surroundings) -> None:
        """Nothing is sent, imported or read from the environment yet. Raises SettingsError."""
        super().__init__(settings, around)
        # OpenAI's reasoning models refuse max_tokens; many compatible servers ignore its successor
        self._limit = "max_tokens" if self._door.base_url else "max_completion_tokens"

    def _create(self) -> Any:
        return self._door.client().chat.completions.with_raw_response.create

    def _asked(self, messages: Sequence[Message], max_tokens: int) -> dict[str, Any]:
        turns = [{"role": message.role, "content": message.content} for message in messages]
        return {"model": self._model, "messages": turns, self._limit: max_tokens}

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

    async def _pieces(self, asked: dict[str, Any]) -> AsyncGenerator[str | Reply[Completion]]:
        raw = await self._create()(**asked, stream=True, stream_options={"include_usage": True})
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
        model, text = self._door.without_key(str(head.get("model") or self._model)), self._door.without_key(text)
        billed = None if read is None or written is None else Load(read, written)
        return Reply(
            Completion(text, model, self._door.usage(read, written), self._door.without_key(finish)), billed, headers
        )
