"""The pace over real HTTP and in real time: what test_pace.py shows on a virtual clock holds with sockets, JSON and disks.

Two runs of half a minute; benchmarks/bench_limits.py has all rules and profiles, limits that change, and other clients. The bounds here
leave room for a machine that does other things too.
"""

from __future__ import annotations

import pytest

from tests import provider
from tests.providers.paced_http import run

pytestmark = [pytest.mark.slow]


def account(rule: str, rpm: int, *, drained: bool = False) -> provider.Options:
    return provider.Options(rule=rule, rpm=rpm, tpm=1_000_000, drained=drained, base_ms=200.0, per_ktoken_ms=20.0)


def test_an_empty_account_that_fills_evenly_is_used_as_it_fills() -> None:
    done = run(account("bucket60", 3_000, drained=True), 520_000, 330)
    assert done.least >= 30
    assert done.ratio <= 1.06
    assert len(done.refused) == 1, "an empty bucket refuses the first request, whoever sends it"
    assert (done.lost, done.billed_twice) == (0, 0)


def test_a_bucket_of_one_second_is_never_tripped_by_whoever_has_it_alone() -> None:
    done = run(account("bucket1", 240), 520_000, 330)
    assert done.least >= 30
    assert done.ratio <= 1.2
    assert not done.refused
    assert (done.lost, done.billed_twice) == (0, 0)
