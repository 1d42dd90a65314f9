"""POST /v1/chat/completions, whole or as it comes."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tests.provider import errors
from tests.provider.http import Reply
from tests.provider.vectors import digest
from tests.provider.work import House, Work

EVENTS = {"content-type": "text/event-stream; charset=utf-8"}
_numbers = itertools.count(1)


def flat(content: object) -> str:
    """The text of a message's content, which may be a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return ""


def said(messages: object) -> list[str]:
    """The texts of the messages. Raises Refused when they are none."""
    if not isinstance(messages, list) or not messages or not all(isinstance(item, dict) for item in messages):
        raise errors.wrong("Invalid type for 'messages': expected an array of objects.", "messages")
    return [flat(item.get("content")) for item in messages]


def spoken(house: House, texts: Sequence[str], limit: object) -> tuple[list[str], bool]:
    """The answer in pieces of a word, and whether it was cut at the most tokens asked for."""
    answer = house.options.answer or f"You asked about {' '.join(texts[-1].split()[-12:])}."
    pieces = re.findall(r"\s*\S+|\s+", answer)
    whole = len(pieces)
    while pieces and isinstance(limit, int) and house.count("".join(pieces)) > limit:
        pieces.pop()
    return pieces, len(pieces) < whole


def chat(asked: Mapping[str, Any], house: House) -> Work:
    """Raises Refused. Against the limit it counts what it may at most answer, when that is given."""
    model = house.model(asked.get("model"), embeds=False)
    texts = said(asked.get("messages"))
    limit = asked.get("max_completion_tokens") or asked.get("max_tokens")
    pieces, cut = spoken(house, texts, limit)
    content = "".join(pieces)
    tokens = sum(map(house.count, texts)) + 4 * len(texts) + 3
    output = house.count(content)
    usage = {"prompt_tokens": tokens, "completion_tokens": output, "total_tokens": tokens + output}
    common = {"id": f"chatcmpl-sim{next(_numbers)}", "created": 1_795_000_000, "model": model}
    finish = "length" if cut else "stop"

    def whole() -> Reply:
        message = {"role": "assistant", "content": content, "refusal": None}
        choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": None}
        return Reply.of({**common, "object": "chat.completion", "choices": [choice], "usage": usage})

    def stream() -> Reply:
        options = asked.get("stream_options") or {}
        with_usage = bool(options.get("include_usage"))

        def event(choices: list[dict[str, Any]], used: dict[str, int] | None = None) -> bytes:
            body = {**common, "object": "chat.completion.chunk", "choices": choices}
            return b"data: " + json.dumps({**body, "usage": used} if with_usage else body).encode() + b"\n\n"

        def choice(delta: dict[str, str], finished: str | None = None) -> list[dict[str, Any]]:
            return [{"index": 0, "delta": delta, "finish_reason": finished, "logprobs": None}]

        events = [event(choice({"role": "assistant", "content": ""}))]
        events += [event(choice({"content": piece})) for piece in pieces]
        events.append(event(choice({}, finish)))
        if with_usage:
            events.append(event([], usage))
        return Reply(pieces=[*events, b"data: [DONE]\n\n"], headers=EVENTS)

    amount = tokens + (limit if isinstance(limit, int) else output)
    amounts = {"requests": 1, "tokens": amount}
    inputs = [digest("\n".join(texts))]
    return Work(model, amounts, tokens, output, inputs, texts, stream if asked.get("stream") else whole)
