"""A clock whose time passes only when somebody sleeps and nobody else has anything to do, and then at once."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

_QUIET_TURNS = 10


class VirtualClock:
    """Sleepers wake in the order of their times.

    The loop must have turned ten times without a new sleeper before time jumps to the earliest. Time stands while
    `may_pass` says no: a reply may still be on its way.
    """

    def __init__(self, start: datetime = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)) -> None:
        self.may_pass: Callable[[], bool] = lambda: True
        self._start = start
        self._now = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = 0
        self._quiet = 0
        self._driven_by: asyncio.AbstractEventLoop | None = None

    def utc(self) -> datetime:
        return self._start + timedelta(seconds=self._now)

    def monotonic(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        woken: asyncio.Future[None] = loop.create_future()
        self._count += 1
        heapq.heappush(self._sleepers, (self._now + seconds, self._count, woken))
        self._quiet = 0
        if self._driven_by is not loop:
            self._driven_by = loop
            loop.call_soon(self._turn, loop)
        await woken

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)
        if not self._sleepers:
            self._driven_by = None
            return
        self._quiet += 1
        if self._quiet > _QUIET_TURNS and self.may_pass():
            until, _, woken = heapq.heappop(self._sleepers)
            self._now = max(self._now, until)
            self._quiet = 0
            woken.set_result(None)
        loop.call_soon(self._turn, loop)
