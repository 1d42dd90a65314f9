"""What the headers of a reply say of limits, in the words of either provider."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime

from rag.providers.meter import Told

_NAMES: Mapping[str, tuple[str, ...]] = {
    "requests": ("x-ratelimit-{}-requests", "anthropic-ratelimit-requests-{}"),
    "tokens": ("x-ratelimit-{}-tokens", "anthropic-ratelimit-tokens-{}"),
    "project-tokens": ("x-ratelimit-{}-project-tokens",),
    "input-tokens": ("anthropic-ratelimit-input-tokens-{}",),
    "output-tokens": ("anthropic-ratelimit-output-tokens-{}",),
}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|us|\u00b5s|ns|[dhms])")
_SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "\u00b5s": 1e-6, "ns": 1e-9}


def told_by(headers: Mapping[str, str], now: datetime) -> dict[str, Told]:
    """What is told of each limit: `requests`, `tokens`, `input-tokens` and so on; only those of which anything is."""
    found = {}
    for limit, names in _NAMES.items():
        for name in names:
            told = Told(
                number(headers.get(name.format("limit"), "")),
                number(headers.get(name.format("remaining"), "")),
                seconds(headers.get(name.format("reset"), ""), now),
            )
            if told.limit is not None or told.remaining is not None:
                found[limit] = told
                break
    return found


def number(text: str) -> float | None:
    """A finite number of at least zero, or None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0.0 <= value < math.inf else None


def seconds(text: str, now: datetime) -> float | None:
    """Seconds of a reset: `12ms`, `1s`, `6m0s`, a bare number, or a moment of RFC 3339; None for anything else.

    >>> [seconds(text, datetime.now(UTC)) for text in ("12ms", "1s", "6m0s", "1h2m3.5s", "0.5", "soon")]
    [0.012, 1.0, 360.0, 3723.5, 0.5, None]
    """
    text = text.strip()
    if not text or (plain := number(text)) is not None:
        return plain if text else None
    parts = _PART.findall(text)
    if parts and "".join(map("".join, parts)) == text:
        return sum(float(amount) * _SECONDS[unit] for amount, unit in parts)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return max(0.0, ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - now).total_seconds())
