"""Time comes in by argument: durations and limits from a monotonic clock, dates from UTC."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol

_TEXT = "%Y-%m-%dT%H:%M:%SZ"


class Clock(Protocol):
    """**Protocol:** what the rooms may know of time."""

    def utc(self) -> datetime: ...

    def monotonic(self) -> float:
        """Seconds that never jump."""
        ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's clock."""

    def utc(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def text(moment: datetime) -> str:
    """A moment of UTC as every file of ours has it: `2026-11-22T16:49:30Z`."""
    return moment.strftime(_TEXT)


def moment(written: str) -> datetime:
    """What `text` has written. Raises ValueError."""
    return datetime.strptime(written, _TEXT).replace(tzinfo=UTC)
