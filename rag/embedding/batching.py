"""Requests within a provider's limits.

>>> limits = RequestLimits(texts=3, tokens=100, tokens_per_text=60)
>>> pack([40, 50, 20, 5, 5, 5], limits)
[(0, 2), (2, 5), (5, 6)]
"""

from __future__ import annotations

from collections.abc import Sequence

from rag.types import RequestLimits


def pack(tokens: Sequence[int], limits: RequestLimits) -> list[tuple[int, int]]:
    """Cut a row of texts into requests, in order, each as full as `limits` allow.

    Returns half-open ranges. Raises ValueError for a text that is over the limit by itself.
    """
    requests: list[tuple[int, int]] = []
    start = used = 0
    for position, own in enumerate(tokens):
        if own > min(limits.tokens, limits.tokens_per_text):
            raise ValueError(f"text {position} has {own} tokens, over the limit of {limits.tokens_per_text} a text")
        if position > start and (position - start >= limits.texts or used + own > limits.tokens):
            requests.append((start, position))
            start, used = position, 0
        used += own
    if start < len(tokens):
        requests.append((start, len(tokens)))
    return requests
