"""What `status` says of an index, with a clock that is told the time."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rag.clock import SystemClock
from rag.pipeline import Options, Reindex, reindex
from rag.status import Status, status
from tests.house import House


class Told(SystemClock):
    """A clock whose date is set by hand."""

    def __init__(self) -> None:
        self.date = datetime(2026, 11, 1, 3, 15, tzinfo=UTC)

    def utc(self) -> datetime:
        return self.date


def test_a_quiet_corpus_is_as_old_as_the_last_run_that_found_nothing_new(tmp_path: Path) -> None:
    house, clock = House(tmp_path), Told()
    house.write("a.md", "# A\n\nOne paragraph.")

    def night(days: int) -> Status:
        clock.date += timedelta(days=days)
        with Reindex(dataclasses.replace(house.parts(), clock=clock), Options()) as run:
            reindex(run)
        return status(house.store, "main", clock.date + timedelta(hours=5))

    assert night(0).older_than(4 * 3600)
    quiet = night(3)
    assert quiet.age_seconds == 5 * 3600
    assert quiet.published_at is not None
    assert quiet.published_at.startswith("2026-11-01")


def test_a_run_that_failed_makes_nothing_younger(tmp_path: Path) -> None:
    house, clock = House(tmp_path), Told()
    house.write("a.md", "# A\n\nOne paragraph.")
    with Reindex(dataclasses.replace(house.parts(), clock=clock), Options()) as run:
        reindex(run)
    clock.date += timedelta(days=3)
    house.write("b.md", "# B\n\nAnother paragraph.")
    with Reindex(dataclasses.replace(house.parts(), clock=clock), Options(publish=False)) as run:
        reindex(run)
    assert status(house.store, "main", clock.date).age_seconds == 3 * 86_400
