"""POST /v1/embeddings: what is refused, as OpenAI refuses it, and what is answered."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tests.provider import errors
from tests.provider.embedded import Embedded
from tests.provider.http import Reply
from tests.provider.vectors import WIDTH, WIDTHS, digest, vectors
from tests.provider.work import House, Work

MAX_INPUTS = 2048
MAX_TOKENS_OF_A_TEXT = 8192
MAX_TOKENS = 300_000


def embeddings(asked: Mapping[str, Any], house: House) -> Work:
    """Raises Refused."""
    model = house.model(asked.get("model"), embeds=True)
    given = asked.get("input")
    inputs = [given] if isinstance(given, str) or _is_tokens(given) else given
    if not isinstance(inputs, list) or not all(isinstance(item, str) or _is_tokens(item) for item in inputs):
        raise errors.wrong("'$.input' is invalid. Please check the API reference.", "input")
    if not inputs:
        raise errors.wrong("Invalid 'input': input cannot be an empty array.", "input")
    if len(inputs) > MAX_INPUTS:
        raise errors.wrong(
            f"Invalid 'input': maximum array length is {MAX_INPUTS}, but got an array of length {len(inputs)}.", "input"
        )
    counts = []
    for place, item in enumerate(inputs):
        if not item:
            raise errors.wrong(f"Invalid 'input[{place}]': input cannot be an empty string.", "input")
        counts.append(house.count(item) if isinstance(item, str) else len(item))
        if counts[-1] > MAX_TOKENS_OF_A_TEXT:
            raise errors.wrong(
                f"Invalid 'input[{place}]': maximum context length is {MAX_TOKENS_OF_A_TEXT} tokens, "
                f"but it has {counts[-1]} tokens.",
                "input",
            )
    tokens = sum(counts)
    if tokens > MAX_TOKENS:
        message = f"Invalid 'input': maximum request size is {MAX_TOKENS} tokens per request, but got {tokens}."
        raise errors.Refused(400, message, "max_tokens_per_request", "max_tokens_per_request", "input")
    dimensions = _dimensions(asked, model)
    as_base64 = asked.get("encoding_format", "float") == "base64"
    texts = [item if isinstance(item, str) else json.dumps(item) for item in inputs]
    digests = [digest(text) for text in texts]

    def embedded() -> Embedded:
        return Embedded(model, vectors(model, digests, dimensions), range(len(texts)), tokens, as_base64)

    def answer() -> Reply:
        return Reply(body=embedded().body(), headers={"openai-model": model})

    return Work(model, {"requests": 1, "tokens": tokens}, tokens, 0, digests, texts, answer, embedded)


def _is_tokens(item: object) -> bool:
    return isinstance(item, list) and bool(item) and all(isinstance(token, int) for token in item)


def _dimensions(asked: Mapping[str, Any], model: str) -> int | None:
    dimensions = asked.get("dimensions")
    if dimensions is None:
        return None
    if model == "text-embedding-ada-002":
        raise errors.wrong("This model does not support specifying dimensions.", "dimensions")
    if not isinstance(dimensions, int) or not 1 <= dimensions <= WIDTHS.get(model, WIDTH):
        raise errors.wrong(f"Invalid 'dimensions': {dimensions!r}.", "dimensions")
    return dimensions
