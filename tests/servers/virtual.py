"""A clock whose time passes only when somebody sleeps, and then at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta


class VirtualClock:
    """Sleepers wake in the order of their times, and `slept` holds how long they asked for.

    Time stands while `may_pass` says no: a reply may still be on its way.
    """

    def __init__(self, start: datetime = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)) -> None:
        self._start = start
        self._now = 0.0
        self._wakes: list[float] = []
        self.slept: list[float] = []
        self.may_pass: Callable[[], bool] = lambda: True

    def utc(self) -> datetime:
        return self._start + timedelta(seconds=self._now)

    def monotonic(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        until = self._now + seconds
        self._wakes.append(until)
        try:
            # a few turns of the loop let everyone who is about to sleep do so before time jumps to the earliest
            for _ in range(5):
                await asyncio.sleep(0)
            while self._now < until:
                if until <= min(self._wakes) and self.may_pass():
                    self._now = until
                else:
                    await asyncio.sleep(0)
        finally:
            self._wakes.remove(until)
