"""What a reply says of the limits, in the words of either provider."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

State = Mapping[str, tuple[int, int, float]]  # see limiter.Limiter.state


def go_duration(seconds: float) -> str:
    """As OpenAI writes them: `12ms`, `1s`, `1.5s`, `6m0s`."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms" if seconds * 1000 <= 999 else "1s"
    milliseconds = math.ceil(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    spelled = f"{rest / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + spelled


def openai(state: State) -> dict[str, str]:
    made = {}
    for name in ("requests", "tokens"):
        limit, remaining, reset = state[name]
        made[f"x-ratelimit-limit-{name}"] = str(limit)
        made[f"x-ratelimit-remaining-{name}"] = str(remaining)
        made[f"x-ratelimit-reset-{name}"] = go_duration(reset)
    return made


def anthropic(state: State) -> dict[str, str]:
    """`tokens` stands for whichever of input and output tokens is nearer to its end."""
    named = {"requests": state["requests"], "input-tokens": state["tokens"], "output-tokens": state["output-tokens"]}
    named["tokens"] = min(state["tokens"], state["output-tokens"], key=lambda held: held[1])
    made = {}
    for name, (limit, remaining, reset) in named.items():
        when = datetime.now(UTC) + timedelta(seconds=reset)
        made[f"anthropic-ratelimit-{name}-limit"] = str(limit)
        made[f"anthropic-ratelimit-{name}-remaining"] = str(remaining)
        made[f"anthropic-ratelimit-{name}-reset"] = when.strftime("%Y-%m-%dT%H:%M:%SZ")
    return made


def retry(seconds: float) -> dict[str, str]:
    """Rounded up, so that who waits this long is not a millisecond early; nothing when waiting can not help."""
    if math.isinf(seconds):
        return {}
    milliseconds = max(1, math.ceil(seconds * 1000))
    seconds_told = f"{milliseconds / 1000:.3f}".rstrip("0").rstrip(".")
    return {"retry-after": seconds_told, "retry-after-ms": str(milliseconds)}
