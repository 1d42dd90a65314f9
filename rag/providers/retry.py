"""One retry loop. Its table says what is asked again, how often, and who waits.

The clients' own loops are off: two loops multiply. Whatever happens, one request is sent at most `MOST` times.
"""

from __future__ import annotations

import email.utils
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any, Final, Literal

from rag.providers.check import BadReply

MOST: Final = 8
_BASE: Final = 0.5
_CAP: Final = 60.0
Who = Literal["everyone", "this request"]


@dataclass(frozen=True, slots=True)
class Rule:
    """How one kind of failure is treated: `attempts` counts the first; `waits` says who waits before the next.

    `what` it is stands in docs/operations.md, which has this table.
    """

    kind: str
    attempts: int
    waits: Who
    what: str


TABLE: Mapping[str, Rule] = {
    rule.kind: rule
    for rule in (
        Rule("quota", 1, "this request", "429 and others that tell of quota or credit (`insufficient_quota`)"),
        Rule("rate", MOST, "everyone", "429"),
        Rule("busy", 6, "everyone", "503, 529 with `Retry-After`"),
        Rule("server", 6, "this request", "408, 409, 425, all others from 500 up"),
        Rule("connection", 6, "this request", "no connection, a broken one, half a body, a timeout"),
        Rule("reply", 3, "this request", "200 with anything but what was asked for"),
        Rule("key", 1, "this request", "401, 403"),
        Rule("model", 1, "this request", "404, 405, 501"),
        Rule("input", 1, "this request", "400, 413, 422, 500 for what a text holds"),
        Rule("request", 1, "this request", "every other 4xx, and 3xx"),
    )
}


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed try, in words of ours. `after` is what the server asked to wait, in seconds."""

    rule: Rule
    message: str
    status: int | None = None
    after: float | None = None
    positions: tuple[int, ...] = ()
    """Which inputs it is about, as far as that is known."""
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # JSON may hold half a surrogate pair, which no file and no database takes
        object.__setattr__(self, "message", self.message.encode("utf-8", "replace").decode())


def of_status(status: int, headers: Mapping[str, str], body: str, now: datetime) -> Failure:
    """Classify an HTTP status of 300 or more with its headers and body."""
    error = _error_of(body)
    message = f"{status}: {error.get('message') or _readable(body) or 'no reason given'}"
    code = f"{error.get('code')} {error.get('type')}"
    after = retry_after(headers, now)
    kind = "request"
    positions: tuple[int, ...] = ()
    if re.search(r"insufficient_quota|credit balance|billing_hard_limit", f"{code} {message}"):
        kind = "quota"
    elif status == 429:
        kind = "rate"
    elif status in (503, 529) and after is not None:
        kind = "busy"
    elif status in (400, 413, 422, 500) and _blames_input(status, error, message):
        kind = "input"
        positions = tuple(sorted({int(n) for n in re.findall(r"input\[(\d+)\]", f"{error.get('param')} {message}")}))
    elif status in (404, 405, 501):  # 405 and 501: at this address nobody is asked by POST
        kind = "model"
    elif status >= 500 or status in (408, 409, 425):
        kind = "server"
    elif status in (401, 403):
        kind = "key"
    return Failure(TABLE[kind], message, status, after, positions, headers)


def of_exception(error: Exception) -> Failure | None:
    """Classify what is not a status. None for what is no failure of the provider: it must not be swallowed."""
    if isinstance(error, BadReply | json.JSONDecodeError | UnicodeDecodeError):
        positions = error.positions if isinstance(error, BadReply) else ()
        return Failure(TABLE["reply"], f"the reply cannot be used: {error}", positions=positions)
    if isinstance(error, ValueError) and "No embedding data" in str(error):
        return Failure(TABLE["reply"], f"the reply cannot be used: {error}")
    if isinstance(error, OSError):
        return Failure(TABLE["connection"], f"no connection: {error}")
    return None


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds that the server asks to wait: retry-after-ms, or Retry-After in seconds, with fraction, or as a date.

    None where there is no such header or it is garbage.
    """
    for name, scale in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * scale
        except ValueError:
            continue
        if math.isfinite(seconds):
            return max(0.0, seconds)
    try:
        when = email.utils.parsedate_to_datetime(headers.get("retry-after", ""))
    except (ValueError, TypeError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - now).total_seconds())


class Backoff:
    """Decorrelated jitter: each wait is drawn between the base and three times the last, at most a minute.

    Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self._last = _BASE

    def next(self) -> float:
        self._last = min(_CAP, self._random.uniform(_BASE, self._last * 3.0))
        return self._last


def _error_of(body: str) -> Mapping[str, Any]:
    """The `error` object of OpenAI's and Anthropic's replies, or what compatible servers send for it."""
    try:
        parsed = json.loads(body)
    except ValueError:
        return {}
    if not isinstance(parsed, dict):
        return {}
    error = parsed.get("error", parsed)
    if isinstance(error, str):
        return {"message": error}
    if not isinstance(error, dict):
        return {}
    if not error.get("message") and error.get("detail"):
        return {**error, "message": str(error["detail"])}
    return error


def _readable(body: str) -> str:
    text = " ".join(body.split())
    return "a page of HTML" if text.lower().startswith(("<!doctype", "<html")) else text[:300]


_TOO_LONG = re.compile(
    r"context.?(length|size)|maximum.{0,20}(context|length|tokens)|too (long|large|many tokens)|string_above_max",
    re.IGNORECASE,
)


def _blames_input(status: int, error: Mapping[str, Any], message: str) -> bool:
    """Whether a refusal is about what a text holds: its length, most of all. llama.cpp says that with a 500."""
    if status == 413 or _TOO_LONG.search(f"{error.get('code')} {error.get('type')} {message}"):
        return True
    blamed = str(error.get("param") or "")
    return status != 500 and (blamed.startswith("input") or (not blamed and "$.input" in message))
