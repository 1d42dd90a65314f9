"""Requests within a provider's limits, cut one by one, because the limits may be learned on the way.

>>> limits = RequestLimits(texts=3, tokens=100, tokens_per_text=60)
>>> Row([40, 50, 20, 5, 5, 5]).requests(limits)
[(0, 1), (1, 4), (4, 6)]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rag.types import RequestLimits


class Row:
    """A row of texts to be sent in order, by the tokens of each."""

    def __init__(self, tokens: Sequence[int] | NDArray[np.uint32]) -> None:
        self.tokens = np.asarray(tokens, np.int64)
        self._before = np.concatenate([np.zeros(1, np.int64), np.cumsum(self.tokens)])

    def __len__(self) -> int:
        return len(self.tokens)

    def end(self, start: int, limits: RequestLimits) -> int:
        """Where a request that begins at `start` ends: as full as the limits allow, with one text at least.

        What is left is shared out evenly: a small last request would come back before the ones that are waited for.
        Raises ValueError for a text that is over the limit by itself.
        """
        before, tokens = self._before, limits.tokens
        rest = int(before[-1] - before[start])
        if start == 0 and limits.first_tokens is not None and rest > limits.first_tokens:
            tokens = limits.first_tokens
        full = int(np.searchsorted(before, before[start] + tokens, "right")) - 1
        if rest > tokens:
            even = before[start] + rest / -(-rest // tokens)
            near = int(np.searchsorted(before, even))
            full = min(full, near if before[near] - even <= even - before[near - 1] else near - 1)
        end = min(max(full, start + 1), start + limits.texts, len(self))
        if (wrong := np.flatnonzero(self.tokens[start:end] > limits.tokens_per_text)).size:
            text = start + int(wrong[0])
            own = int(self.tokens[text])
            raise ValueError(f"text {text} has {own} tokens, over the limit of {limits.tokens_per_text} a text")
        return end

    def requests(self, limits: RequestLimits) -> list[tuple[int, int]]:
        """All requests under limits that do not change, half-open. Raises ValueError."""
        found: list[tuple[int, int]] = []
        start = 0
        while start < len(self):
            end = self.end(start, limits)
            found.append((start, end))
            start, limits = end, replace(limits, first_tokens=None)
        return found
