"""The rules a provider may hold a limit by. Pure: time, in seconds, comes in by argument and never goes back."""

from __future__ import annotations

import math
from collections import deque
from typing import Protocol

MINUTE = 60.0
NEAR = 1e-6  # of a token: what rounding may take


class Rule(Protocol):
    """One limit per minute, of requests or of tokens."""

    limit: float

    def wait(self, now: float, amount: float) -> float:
        """Seconds until this amount could be admitted; 0 means now, infinity never."""

    def take(self, now: float, amount: float) -> None:
        """Charge it, whether there is room or not."""

    def remaining(self, now: float) -> float: ...

    def reset(self, now: float) -> float:
        """Seconds until the whole limit is there again."""

    def change(self, now: float, limit: float) -> None: ...


class Bucket:
    """Refills evenly, and holds what comes in `burst` seconds.

    With `debts`, an amount over the capacity is admitted when the bucket is full, and the level goes below zero.
    """

    def __init__(
        self, limit: float, now: float, *, burst: float = MINUTE, debts: bool = False, drained: bool = False
    ) -> None:
        self.limit = limit
        self.burst = burst
        self.debts = debts
        self.at = now
        self.level = 0.0 if drained else self.capacity

    @property
    def rate(self) -> float:
        return self.limit / MINUTE

    @property
    def capacity(self) -> float:
        return self.rate * self.burst

    def needed(self, amount: float) -> float:
        """The level at which this amount is admitted."""
        if amount <= self.capacity + NEAR:
            return amount
        return self.capacity if self.debts else math.inf

    def _settle(self, now: float) -> None:
        if now > self.at:
            self.level = min(self.capacity, self.level + (now - self.at) * self.rate)
            self.at = now

    def wait(self, now: float, amount: float) -> float:
        self._settle(now)
        short = self.needed(amount) - self.level
        if short <= NEAR:
            return 0.0
        return short / self.rate if self.rate else math.inf

    def take(self, now: float, amount: float) -> None:
        self._settle(now)
        self.level -= amount

    def remaining(self, now: float) -> float:
        self._settle(now)
        return max(0.0, self.level)

    def reset(self, now: float) -> float:
        self._settle(now)
        return (self.capacity - self.level) / self.rate if self.rate else 0.0

    def change(self, now: float, limit: float) -> None:
        self._settle(now)
        self.limit = limit
        self.level = min(self.level, self.capacity)


class Sliding:
    """What was charged in the last 60 s is at most the limit. A drained one was charged evenly until now."""

    def __init__(self, limit: float, now: float, *, drained: bool = False) -> None:
        self.limit = limit
        self.entries: deque[tuple[float, float]] = deque()  # when, how much; in order of time
        self.used = 0.0
        if drained:
            self.before(now, limit)

    def before(self, now: float, amount: float) -> None:
        """Charge an amount evenly over the 60 s before now, in steps of a tenth of a second."""
        steps = round(MINUTE * 10)
        for step in range(steps):
            self.entries.append((now - MINUTE + (step + 1) / 10, amount / steps))
        self.entries = deque(sorted(self.entries))
        self.used += amount

    def _expire(self, now: float) -> None:
        while self.entries and self.entries[0][0] + MINUTE <= now + 1e-9:
            self.used -= self.entries.popleft()[1]
        if not self.entries:
            self.used = 0.0

    def wait(self, now: float, amount: float) -> float:
        self._expire(now)
        if amount > self.limit + NEAR:
            return math.inf
        over = self.used + amount - self.limit
        if over <= NEAR:
            return 0.0
        for when, freed in self.entries:
            over -= freed
            if over <= NEAR:
                return when + MINUTE - now
        return math.inf

    def take(self, now: float, amount: float) -> None:
        self._expire(now)
        self.entries.append((now, amount))
        self.used += amount

    def remaining(self, now: float) -> float:
        self._expire(now)
        return max(0.0, self.limit - self.used)

    def reset(self, now: float) -> float:
        self._expire(now)
        return self.entries[-1][0] + MINUTE - now if self.entries else 0.0

    def change(self, now: float, limit: float) -> None:
        self._expire(now)
        self.limit = limit


class Minute:
    """What was charged in one minute of the clock is at most the limit; `phase` seconds of the first one are over."""

    def __init__(self, limit: float, now: float, *, phase: float = 0.0, drained: bool = False) -> None:
        self.limit = limit
        self.start = now - phase
        self.used = limit if drained else 0.0

    def _turn(self, now: float) -> None:
        minutes = math.floor((now - self.start) / MINUTE + 1e-9)
        if minutes > 0:
            self.start += minutes * MINUTE
            self.used = 0.0

    def wait(self, now: float, amount: float) -> float:
        self._turn(now)
        if amount > self.limit + NEAR:
            return math.inf
        return 0.0 if self.used + amount <= self.limit + NEAR else self.start + MINUTE - now

    def take(self, now: float, amount: float) -> None:
        self._turn(now)
        self.used += amount

    def remaining(self, now: float) -> float:
        self._turn(now)
        return max(0.0, self.limit - self.used)

    def reset(self, now: float) -> float:
        self._turn(now)
        return self.start + MINUTE - now

    def change(self, now: float, limit: float) -> None:
        self._turn(now)
        self.limit = limit


def rule(name: str, limit: float, now: float, *, drained: bool = False, phase: float = 0.0) -> Rule:
    match name:
        case "bucket60":
            return Bucket(limit, now, drained=drained)
        case "bucket1":
            return Bucket(limit, now, burst=1.0, debts=True, drained=drained)
        case "sliding":
            return Sliding(limit, now, drained=drained)
        case "minute":
            return Minute(limit, now, phase=phase, drained=drained)
        case _:
            raise ValueError(f"no rule {name!r}")
