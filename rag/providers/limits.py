"""Requests and tokens per minute as one budget: reserved before sending, corrected by what the provider answers.

One budget serves all callers of an account and model, in the order in which they ask; what it may grant is what the
meters of all its limits allow (meter.py). The first request goes alone and small, so that its reply can tell the limits.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import AsyncIterator, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Final
from weakref import WeakValueDictionary

from rag.clock import Clock
from rag.providers.meter import MINUTE, Meter
from rag.providers.settings import UNTOLD, Allowed
from rag.providers.told import told_by

# the first in the queue looks again this often: a reply may have given tokens back or told of a new limit
_LOOK: Final = 0.25
_LEAST: Final = 1e-4
_MORE: Final = 1.0
_IDLE: Final = 5.0
"""After so many seconds without a reply what a window or others left is unknown: one request goes first."""
_BESIDE: Final = 0.05
"""Seconds within which requests may arrive in another order than they went."""
PROBE: Final = 256
"""Tokens of the first request of several: a bucket that is nearly empty has room for them too."""
_A_SECOND: Final = 4
"""Requests: small enough for a bucket of one second's worth, few enough to cost little."""
_SMALLEST: Final = 2048


@dataclass(frozen=True, slots=True)
class Load:
    """What a request counts for under each limit."""

    input: float
    output: float = 0.0

    def of(self, limit: str) -> float:
        match limit:
            case "requests":
                return 1.0
            case "input-tokens":
                return self.input
            case "output-tokens":
                return self.output
        return self.input + self.output


@dataclass(eq=False, slots=True)
class Grant:
    """A reservation in flight."""

    load: Load
    sent_at: float
    """When it was granted, or, once that is known, went out."""
    marks: dict[str, float] = field(default_factory=dict)
    """For each limit all that was sent so far, this request included."""
    counted: bool = True


class _Place:
    """A place in the queue."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.turn: asyncio.Future[None] = self.loop.create_future()


class Budget:
    """What may be sent now, shared by all callers of one account and model, in the order in which they ask.

    Works from several event loops and threads at once: a lock guards the arithmetic, and a waiter is woken in the loop
    that it waits in. A request that was refused goes before those that were not sent yet.
    """

    def __init__(
        self,
        clock: Clock,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        concurrency: int = 8,
        expected: Allowed = UNTOLD,
    ) -> None:
        now = clock.monotonic()
        self._clock = clock
        self._meters = {
            "requests": Meter(requests_per_minute, now, expected.requests),
            "tokens": Meter(tokens_per_minute, now, expected.tokens),
        }
        self._concurrency = concurrency
        self._probing = True
        self._replied = now
        self._flying: list[Grant] = []
        self._paused_until = now
        self._again: deque[_Place] = deque()
        self._queue: deque[_Place] = deque()
        self._lock = threading.Lock()

    @property
    def probing(self) -> bool:
        """Whether nothing has been answered yet."""
        return self._probing

    @property
    def limits(self) -> Allowed:
        """What is known by now: the tightest of each kind."""
        with self._lock:
            tokens = [m.limit for name, m in self._meters.items() if name != "requests" and m.limit is not None]
            return Allowed(self._meters["requests"].limit, min(tokens, default=None))

    @property
    def told(self) -> Allowed:
        """What a server has told of the account itself."""
        with self._lock:
            return Allowed(self._meters["requests"].account, self._meters["tokens"].account)

    def best_size(self, most: int) -> int:
        """Tokens that a request should hold, of at most so many: where requests are the scarcer, more."""
        known = self.limits
        return best_size(most, known.requests, known.tokens)

    @contextlib.asynccontextmanager
    async def reserve(self, load: Load, *, again: bool = False) -> AsyncIterator[Grant]:
        """Wait for the turn, a place in flight and room under every limit; keep the place to the block's end."""
        grant = await self._granted(load, again=again)
        try:
            yield grant
        finally:
            with self._lock:
                self._flying.remove(grant)
                self._wake()

    def settle(self, grant: Grant, billed: Load | None, headers: Mapping[str, str]) -> None:
        """Correct a reservation by what was billed, and the meters by what the reply's headers say."""
        with self._lock:
            now = self._replied = self._clock.monotonic()
            self._probing = False
            if billed is not None:
                self._count(grant, billed, now)
            self._learn(grant, headers, now)
            self._wake()

    def refused(self, grant: Grant, seconds: float, headers: Mapping[str, str]) -> None:
        """Too many requests: it did not count, and everyone waits, once: the latest end holds, not the sum."""
        with self._lock:
            now = self._replied = self._clock.monotonic()
            told = told_by(headers, self._clock.utc())
            left = {name: told[name].remaining if name in told else None for name in self._meters}
            short = [name for name, rest in left.items() if rest is None or rest < grant.load.of(name)]
            wanted = {name: grant.load.of(name) for name in self._meters}
            self._count(grant, None, now)
            self._learn(grant, headers, now)
            if not self._probing and any(self._meters[name].limit for name in short):
                seconds += min(seconds, _MORE)  # the server's word supposes that nobody else uses the account
            until = now + seconds
            self._paused_until = max(self._paused_until, until)
            for name in short or self._meters:
                self._meters[name].refuse(wanted[name], until, now, surprising=not self._probing)

    def pause(self, seconds: float) -> None:
        """Let nobody send for so long. Ten refusals at once pause once."""
        with self._lock:
            self._paused_until = max(self._paused_until, self._clock.monotonic() + seconds)

    def went(self, grant: Grant) -> None:
        """The request is on its way now: the time from which the server's word counts."""
        grant.sent_at = self._clock.monotonic()

    async def _granted(self, load: Load, *, again: bool) -> Grant:
        place = _Place()
        queue = self._again if again else self._queue
        with self._lock:
            queue.append(place)
            self._wake()
        try:
            while True:
                await place.turn
                with self._lock:
                    if self._head() is place:
                        wait = self._wait(load)
                        if wait <= 0.0:
                            return self._take(load)
                    else:  # a refused one came before it
                        place.turn = place.loop.create_future()
                        continue
                await self._clock.sleep(max(_LEAST, min(wait, _LOOK)))
        finally:
            with self._lock:
                queue.remove(place)
                self._wake()

    def _wait(self, load: Load) -> float:
        now = self._clock.monotonic()
        waits = [meter.wait(load.of(name), now) for name, meter in self._meters.items()]
        return max(self._paused_until - now, *waits)

    def _take(self, load: Load) -> Grant:
        now = self._clock.monotonic()
        grant = Grant(load, now)
        for name, meter in self._meters.items():
            meter.take(load.of(name), now)
            grant.marks[name] = meter.total
        self._flying.append(grant)
        return grant

    def _count(self, grant: Grant, billed: Load | None, now: float) -> None:
        """Count a request as it was billed; None: it was not taken at all."""
        for name, meter in self._meters.items():
            more = (billed.of(name) if billed else 0.0) - grant.load.of(name)
            if more and name in grant.marks:
                meter.correct(more, grant.sent_at, now)
                for other in self._flying[self._flying.index(grant) :]:
                    if name in other.marks:
                        other.marks[name] += more
        if billed is not None:
            grant.load = billed
        grant.counted = billed is not None

    def _learn(self, grant: Grant, headers: Mapping[str, str], now: float) -> None:
        for name, told in told_by(headers, self._clock.utc()).items():
            meter = self._meters.get(name)
            if meter is None:
                if told.limit is None:
                    continue
                meter = self._meters[name] = Meter(None, now)
            after = meter.total - grant.marks.get(name, meter.total)
            beside = sum(
                other.load.of(name)
                for other in self._flying
                if 0.0 <= other.sent_at - grant.sent_at < _BESIDE and other is not grant
            )
            flying = sum(other.load.of(name) for other in self._flying if other is not grant)
            own = grant.load.of(name) if grant.counted else 0.0
            meter.observe(told, own, after, min(beside, after), flying, grant.sent_at, now)

    def _head(self) -> _Place | None:
        return self._again[0] if self._again else self._queue[0] if self._queue else None

    def _wake(self) -> None:
        """Call the first in the queue when there is room in flight. Under the lock."""
        # a loop that was closed over its waiters will never take the turn; they are forgotten with it
        for queue in (self._again, self._queue):
            while queue and queue[0].loop.is_closed():
                queue.popleft()
        place = self._head()
        if place is not None and len(self._flying) < (1 if self._alone() else self._concurrency):
            place.loop.call_soon_threadsafe(_call, place)

    def _alone(self) -> bool:
        """Whether the next request is to go alone, to tell what may follow."""
        if self._probing:
            return True
        idle = not self._flying and self._clock.monotonic() - self._replied > _IDLE
        return idle and not all(meter.settled for meter in self._meters.values() if meter.limit is not None)


def _call(place: _Place) -> None:
    if not place.turn.done():
        place.turn.set_result(None)


def best_size(most: int, requests: float | None, tokens: float | None) -> int:
    """Tokens that a request should hold under limits a minute.

    >>> best_size(300_000, 3_000, 1_000_000), best_size(300_000, 60, 5_000_000), best_size(300_000, None, None)
    (4166, 104166, 300000)
    """
    if tokens is None:
        return most
    a_second = tokens / MINUTE
    size = max(a_second / _A_SECOND, min(_SMALLEST, a_second))
    if requests:
        size = max(size, 1.25 * tokens / requests)
    return max(1, min(most, int(size)))


_shared: WeakValueDictionary[Hashable, Budget] = WeakValueDictionary()
_shared_lock = threading.Lock()


def shared_budget(
    account: Hashable,
    clock: Clock,
    requests_per_minute: float | None,
    tokens_per_minute: float | None,
    concurrency: int,
    expected: Allowed = UNTOLD,
) -> Budget:
    """The one budget of this process for an account and model under these limits."""
    key = (account, id(clock), requests_per_minute, tokens_per_minute, concurrency)
    with _shared_lock:
        budget = _shared.get(key)
        if budget is None:
            budget = _shared[key] = Budget(clock, requests_per_minute, tokens_per_minute, concurrency, expected)
        return budget
