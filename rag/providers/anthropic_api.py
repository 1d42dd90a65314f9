"""`anthropic/<model>` messages, whole or as they come."""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

from rag.providers.chat import DoorChat
from rag.providers.check import BadReply
from rag.providers.door import Reply
from rag.providers.limits import Load
from rag.providers.models import unknown
from rag.providers.openai_api import count_of
from rag.providers.settings import ModelSettings, Surroundings
from rag.types import Completion, Message

_FINISH: Mapping[str, str] = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length"}


class AnthropicChat(DoorChat):
    """A chat model behind POST /v1/messages; `finish_reason` is told in the words of OpenAIChat."""

    def __init__(self, settings: ModelSettings, around: Surroundings) -> None:
        """Nothing is sent or read from the environment yet. Raises UnknownModel without the extra, SettingsError."""
        if importlib.util.find_spec("anthropic") is None:
            what = f"{settings.model} needs the package anthropic, which is not installed"
            raise unknown(settings.model, what, ".venv/bin/python -m pip install -e '.[anthropic]'", "chat")
        super().__init__(settings, around)

    def _create(self) -> Any:
        return self._door.client().messages.with_raw_response.create

    def _asked(self, messages: Sequence[Message], max_tokens: int) -> dict[str, Any]:
        system = "\n\n".join(message.content for message in messages if message.role == "system")
        turns = [{"role": m.role, "content": m.content} for m in messages if m.role != "system"]
        asked: dict[str, Any] = {"model": self._model, "messages": turns, "max_tokens": max_tokens}
        return {**asked, "system": system} if system else asked

    def _whole(self, payload: dict[str, Any], headers: Any) -> Reply[Completion]:
        content = payload.get("content")
        if not isinstance(content, list) or not payload.get("stop_reason"):
            raise BadReply("no message with a content")
        blocks = [block for block in content if isinstance(block, dict) and block.get("type") == "text"]
        text = "".join(str(block.get("text") or "") for block in blocks)
        return self._reply(text, payload.get("model"), str(payload["stop_reason"]), payload.get("usage"), headers)

    async def _pieces(self, asked: dict[str, Any]) -> AsyncGenerator[str | Reply[Completion]]:
        raw = await self._create()(**asked, stream=True)
        text: list[str] = []
        usage: dict[str, Any] = {}
        model, finish = None, ""
        events = await raw.parse()
        try:
            async for event in events:
                seen = event.model_dump()
                message = seen.get("message") or {}
                model = message.get("model") or model
                for told in (message.get("usage"), seen.get("usage")):
                    usage.update({name: n for name, n in (told or {}).items() if n is not None})
                delta = seen.get("delta") or {}
                finish = delta.get("stop_reason") or finish
                if delta.get("type") == "text_delta" and delta.get("text"):
                    text.append(delta["text"])
                    yield delta["text"]
        finally:
            await events.close()
        if finish:
            yield self._reply("".join(text), model, finish, usage, raw.headers)

    def _reply(self, text: str, model: Any, finish: str, usage: Any, headers: Any) -> Reply[Completion]:
        read, written = count_of(usage, "input_tokens"), count_of(usage, "output_tokens")
        billed = None
        if read is not None:
            # what a cache of the provider served is counted apart, and not under its limits
            read += count_of(usage, "cache_creation_input_tokens") or 0
            billed = None if written is None else Load(read, written)
            read += count_of(usage, "cache_read_input_tokens") or 0
        completion = Completion(
            self._door.without_key(text),
            self._door.without_key(str(model or self._model)),
            self._door.usage(read, written),
            self._door.without_key(_FINISH.get(finish, finish)),
        )
        return Reply(completion, billed, headers)
