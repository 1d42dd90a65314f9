"""Prices as dated data: US dollars for a million tokens. An unknown model has no price, never a price of zero."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from rag.providers.address import other_server


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for a million tokens, when that was so, and who said it."""

    input: float
    output: float = 0.0
    as_of: str = ""
    source: str = "[prices]"

    def usd(self, input_tokens: int, output_tokens: int = 0) -> float:
        return (input_tokens * self.input + output_tokens * self.output) / 1e6


_OPENAI = "openai.com/api/pricing"
_ANTHROPIC = "docs.anthropic.com, models and pricing"
_HERE = Price(0.0, 0.0, "2026-11", "computed on this machine")

PRICES: Mapping[str, Price] = {
    "local/wordllama": _HERE,
    "local/minilm": _HERE,
    "local/extractive": _HERE,
    "openai/text-embedding-3-small": Price(0.02, 0.0, "2026-10", _OPENAI),
    "openai/text-embedding-3-large": Price(0.13, 0.0, "2026-10", _OPENAI),
    "openai/text-embedding-ada-002": Price(0.10, 0.0, "2025-06", _OPENAI),
    "openai/gpt-4o": Price(2.50, 10.00, "2025-06", _OPENAI),
    "openai/gpt-4o-mini": Price(0.15, 0.60, "2025-06", _OPENAI),
    "openai/gpt-4.1": Price(2.00, 8.00, "2025-06", _OPENAI),
    "openai/gpt-4.1-mini": Price(0.40, 1.60, "2025-06", _OPENAI),
    "openai/gpt-4.1-nano": Price(0.10, 0.40, "2025-06", _OPENAI),
    "openai/o4-mini": Price(1.10, 4.40, "2025-06", _OPENAI),
    "openai/gpt-5.6-luna": Price(0.20, 1.20, "2026-10", _OPENAI),
    "openai/gpt-6-luna": Price(0.10, 0.50, "2026-10", _OPENAI),
    "openai/gpt-6-sol": Price(2.00, 10.00, "2026-10", _OPENAI),
    "openai/gpt-6.1-sol": Price(2.00, 10.00, "2026-10", _OPENAI),
    "anthropic/claude-sonnet-5": Price(2.00, 10.00, "2026-10", _ANTHROPIC),
    "anthropic/claude-opus-5": Price(5.00, 25.00, "2026-10", _ANTHROPIC),
    "anthropic/claude-haiku-4-5": Price(1.00, 5.00, "2026-10", _ANTHROPIC),
}

_SNAPSHOT = re.compile(r"-(\d{4}-?\d{2}-?\d{2}|latest)$")


def price(model: str, base_url: str | None = None, overrides: Mapping[str, Price] | None = None) -> Price | None:
    """The price of `provider/name`, or None where none is known.

    A dated snapshot (`-2024-08-06`, `-20250929`, `-latest`) costs what its model costs. Another server (`base_url`) has
    no known price; an override always counts.
    """
    names = (model, _SNAPSHOT.sub("", model))
    for name in names:
        if overrides and name in overrides:
            return overrides[name]
    if other_server(model.partition("/")[0], base_url):
        return None
    return next((PRICES[name] for name in names if name in PRICES), None)
