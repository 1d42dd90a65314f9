"""POST /v1/messages, Anthropic's, whole or as it comes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from typing import Any

from tests.provider import errors
from tests.provider.chat import EVENTS, flat, said, spoken
from tests.provider.http import Reply
from tests.provider.vectors import digest
from tests.provider.work import House, Work

_numbers = itertools.count(1)


def messages(asked: Mapping[str, Any], house: House) -> Work:
    """Raises Refused. Input and output have limits of their own; output counts as produced."""
    model = house.model(asked.get("model"), embeds=False)
    limit = asked.get("max_tokens")
    if not isinstance(limit, int) or limit < 1:
        raise errors.wrong("max_tokens: Field required")
    texts = [flat(asked.get("system", "")), *said(asked.get("messages"))]
    pieces, cut = spoken(house, texts, limit)
    content = "".join(pieces)
    tokens = sum(house.count(text) for text in texts if text) + 4 * len(texts)
    output = house.count(content)
    finish = {"stop_reason": "max_tokens" if cut else "end_turn", "stop_sequence": None}
    common = {"id": f"msg_sim{next(_numbers)}", "type": "message", "role": "assistant", "model": model}

    def whole() -> Reply:
        usage = {"input_tokens": tokens, "output_tokens": output}
        return Reply.of({**common, "content": [{"type": "text", "text": content}], **finish, "usage": usage})

    def stream() -> Reply:
        begun = {"stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": tokens, "output_tokens": 1}}
        events: list[dict[str, Any]] = [
            {"type": "message_start", "message": {**common, "content": [], **begun}},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {"type": "ping"},
            *(
                {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}}
                for piece in pieces
            ),
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": finish, "usage": {"output_tokens": output}},
            {"type": "message_stop"},
        ]
        lines = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events]
        return Reply(pieces=lines, headers=EVENTS)

    amounts = {"requests": 1, "tokens": tokens, "output-tokens": output}
    inputs = [digest("\n".join(texts))]
    return Work(model, amounts, tokens, output, inputs, texts, stream if asked.get("stream") else whole)
