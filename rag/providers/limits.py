"""Requests and tokens per minute as one budget: reserved before sending, corrected by what the provider answers.

The ledger is a pair of buckets that fill continuously, as the hosted providers describe theirs. It is credited to at
most 97 % of capacity: a server charges a request later than it is debited here, and what its full bucket lets run over
must not be counted on. The promise: in any w seconds at most 0.97 L + L w / 60 tokens (and requests) are granted under
a limit of L a minute.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import AsyncIterator, Hashable, Mapping
from dataclasses import dataclass
from typing import Final
from weakref import WeakValueDictionary

from rag.clock import Clock

CREDIT: Final = 0.97
# the first in the queue looks again this often: a reply may have given tokens back or told of a new limit
_LOOK: Final = 0.25
_LEAST: Final = 1e-4


class Bucket:
    """One limit a minute, filling continuously. Arithmetic over the times it is given, nothing else."""

    __slots__ = ("_at", "_ceiling", "_level", "limit")

    def __init__(self, limit: float | None, now: float) -> None:
        self._ceiling = limit
        self.limit = limit
        self._level = CREDIT * (limit or 0.0)
        self._at = now

    def wait(self, amount: float, now: float) -> float:
        """Seconds until the amount is there. More than the capacity waits for a full bucket and leaves a debt."""
        if self.limit is None:
            return 0.0
        self._fill(now)
        lacking = min(amount, CREDIT * self.limit) - self._level
        return max(0.0, lacking * 60.0 / self.limit)

    def take(self, amount: float, now: float) -> None:
        """Debit (credit, when negative). The level may go below zero, never over the credited share."""
        if self.limit is not None:
            self._fill(now)
            self._level = min(self._level - amount, CREDIT * self.limit)

    def learn(self, limit: float | None, remaining: float | None, flying: float, now: float) -> None:
        """What a reply says: the account's limit, and what was left, perhaps without what is still in flight.

        A limit from the settings stays the ceiling: the account may allow more than we were told to use. `remaining`
        only ever lowers the level, so that a header that is one reply old cannot raise it wrongly.
        """
        self._fill(now)
        if limit is not None and limit > 0:
            new = limit if self._ceiling is None else min(self._ceiling, limit)
            if self.limit is None:
                self._level = CREDIT * new - flying
            self.limit = new
        if self.limit is not None:
            left = CREDIT * self.limit if remaining is None else min(CREDIT * self.limit, remaining - flying)
            self._level = min(self._level, left)

    def drain(self, now: float) -> None:
        """Refused for want of this: whatever we believed, nothing is left."""
        self._fill(now)
        self._level = min(self._level, 0.0)

    def _fill(self, now: float) -> None:
        if self.limit is not None:
            self._level = min(CREDIT * self.limit, self._level + max(0.0, now - self._at) * self.limit / 60.0)
        self._at = max(self._at, now)


@dataclass(slots=True)
class Grant:
    """A reservation in flight."""

    tokens: float


class Budget:
    """What may be sent now, shared by all callers of one account and model, in the order in which they ask.

    Works from several event loops and threads at once: a lock guards the arithmetic, and a waiter is woken in the loop
    that it waits in. With `probe`, the first request goes alone, so that its reply can tell the limits.
    """

    def __init__(
        self,
        clock: Clock,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        concurrency: int = 8,
        *,
        probe: bool = False,
    ) -> None:
        now = clock.monotonic()
        self._clock = clock
        self._requests = Bucket(requests_per_minute, now)
        self._tokens = Bucket(tokens_per_minute, now)
        self._concurrency = concurrency
        self._probing = probe
        self._flying = 0
        self._flying_tokens = 0.0
        self._paused_until = now
        self._queue: deque[asyncio.Future[None]] = deque()
        self._lock = threading.Lock()

    @contextlib.asynccontextmanager
    async def reserve(self, tokens: float) -> AsyncIterator[Grant]:
        """Wait for the turn, a place in flight, one request and this many tokens; keep the place to the block's end."""
        grant = await self._granted(tokens)
        try:
            yield grant
        finally:
            with self._lock:
                self._flying -= 1
                self._flying_tokens -= grant.tokens
                self._probing = False
                self._wake()

    def settle(self, grant: Grant, tokens: float, headers: Mapping[str, str]) -> None:
        """Correct a reservation by what was billed, and the ledger by what the reply's headers say."""
        told = {name: _number(headers, kinds) for name, kinds in _HEADERS.items()}
        with self._lock:
            now = self._clock.monotonic()
            self._tokens.take(tokens - grant.tokens, now)
            self._flying_tokens += tokens - grant.tokens
            grant.tokens = tokens
            self._requests.learn(told["limit_requests"], told["remaining_requests"], self._flying - 1, now)
            others = self._flying_tokens - grant.tokens
            self._tokens.learn(told["limit_tokens"], told["remaining_tokens"], others, now)

    def pause(self, seconds: float) -> None:
        """Let nobody send for so long. Ten refusals at once pause once: the latest end counts, not the sum."""
        with self._lock:
            self._paused_until = max(self._paused_until, self._clock.monotonic() + seconds)

    def refused(self, seconds: float) -> None:
        """Too many requests: nothing is left, and everyone waits."""
        self.pause(seconds)
        with self._lock:
            now = self._clock.monotonic()
            self._requests.drain(now)
            self._tokens.drain(now)

    async def _granted(self, tokens: float) -> Grant:
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._lock:
            self._queue.append(place)
            self._wake()
        try:
            await place
            while True:
                with self._lock:
                    wait = self._wait(tokens)
                    if wait <= 0.0:
                        return self._take(tokens)
                await self._clock.sleep(max(_LEAST, min(wait, _LOOK)))
        finally:
            with self._lock:
                self._queue.remove(place)
                self._wake()

    def _wait(self, tokens: float) -> float:
        now = self._clock.monotonic()
        return max(self._paused_until - now, self._requests.wait(1.0, now), self._tokens.wait(tokens, now))

    def _take(self, tokens: float) -> Grant:
        now = self._clock.monotonic()
        self._requests.take(1.0, now)
        self._tokens.take(tokens, now)
        self._flying += 1
        self._flying_tokens += tokens
        return Grant(tokens)

    def _wake(self) -> None:
        """Call the first in the queue when there is room in flight. Under the lock."""
        if not self._queue or self._flying >= (1 if self._probing else self._concurrency):
            return
        place = self._queue[0]
        # a loop that was closed over its waiters will never take the turn; they are forgotten with it
        while place.get_loop().is_closed():
            self._queue.popleft()
            if not self._queue:
                return
            place = self._queue[0]
        place.get_loop().call_soon_threadsafe(_call, place)


def _call(place: asyncio.Future[None]) -> None:
    if not place.done():
        place.set_result(None)


_HEADERS: Mapping[str, tuple[str, ...]] = {
    "limit_requests": ("x-ratelimit-limit-requests", "anthropic-ratelimit-requests-limit"),
    "remaining_requests": ("x-ratelimit-remaining-requests", "anthropic-ratelimit-requests-remaining"),
    "limit_tokens": (
        "x-ratelimit-limit-tokens",
        "anthropic-ratelimit-tokens-limit",
        "anthropic-ratelimit-input-tokens-limit",
    ),
    "remaining_tokens": (
        "x-ratelimit-remaining-tokens",
        "anthropic-ratelimit-tokens-remaining",
        "anthropic-ratelimit-input-tokens-remaining",
    ),
}


def _number(headers: Mapping[str, str], names: tuple[str, ...]) -> float | None:
    """The first of these headers that holds a number of at least zero, or None."""
    for name in names:
        with contextlib.suppress(ValueError):
            value = float(headers.get(name, ""))
            if 0.0 <= value < float("inf"):
                return value
    return None


_shared: WeakValueDictionary[Hashable, Budget] = WeakValueDictionary()
_shared_lock = threading.Lock()


def shared_budget(
    account: Hashable,
    clock: Clock,
    requests_per_minute: float | None,
    tokens_per_minute: float | None,
    concurrency: int,
    *,
    probe: bool,
) -> Budget:
    """The one budget of this process for an account and model under these limits."""
    key = (account, id(clock), requests_per_minute, tokens_per_minute, concurrency)
    with _shared_lock:
        budget = _shared.get(key)
        if budget is None:
            budget = Budget(clock, requests_per_minute, tokens_per_minute, concurrency, probe=probe)
            _shared[key] = budget
        return budget
