"""Each rule admits what it should, and not a token more in its own terms."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.provider.rules import MINUTE, Bucket, Minute, Rule, Sliding, rule

NAMES = ("bucket60", "bucket1", "sliding", "minute")
LIMIT = 600.0  # ten a second
gaps = st.sampled_from([0.0, 0.001, 0.1, 0.5, 1.0, 7.3, 30.0, 59.9, 60.0, 61.0])
asked = st.lists(st.tuples(gaps, st.integers(1, 600)), max_size=40)


def admitted(held: Rule, requests: list[tuple[float, int]], start: float = 0.0) -> list[tuple[float, float]]:
    """When and how much, of requests that are so many seconds apart."""
    now, found = start, []
    for gap, amount in requests:
        now += gap
        if not held.wait(now, amount):
            held.take(now, amount)
            found.append((now, float(amount)))
    return found


def test_a_bucket_of_a_minute_gives_its_limit_at_once_and_then_refills_evenly() -> None:
    bucket = Bucket(LIMIT, 100.0)
    assert bucket.wait(100.0, 600) == 0
    bucket.take(100.0, 600)
    assert bucket.wait(100.0, 5) == pytest.approx(0.5)
    assert bucket.wait(100.5, 5) == 0
    assert bucket.reset(100.5) == pytest.approx(59.5)
    assert bucket.wait(100.0, 601) == math.inf


def test_a_bucket_of_a_second_lends_what_a_large_request_is_over_its_capacity() -> None:
    bucket = rule("bucket1", LIMIT, 0.0)
    assert bucket.wait(0.0, 50) == 0
    bucket.take(0.0, 50)  # it held 10, and owes 40
    assert bucket.remaining(0.0) == 0
    assert bucket.wait(0.0, 1) == pytest.approx(4.1)
    assert bucket.wait(0.0, 50) == pytest.approx(5.0)  # full again
    assert bucket.wait(1000.0, 10) == 0
    assert bucket.wait(1000.0, 11) == 0


def test_a_sliding_window_gives_back_each_amount_a_minute_after_it_was_taken() -> None:
    window = Sliding(LIMIT, 0.0)
    window.take(0.0, 400)
    window.take(20.0, 200)
    assert window.wait(20.0, 1) == pytest.approx(40.0)
    assert window.wait(60.0, 400) == 0
    assert window.wait(60.0, 401) == pytest.approx(20.0)
    assert window.reset(60.0) == pytest.approx(20.0)


def test_a_clock_minute_starts_anew_at_its_phase() -> None:
    minute = Minute(LIMIT, 5.0, phase=45.0)
    minute.take(5.0, 600)
    assert minute.wait(5.0, 1) == pytest.approx(15.0)
    assert minute.wait(20.0, 600) == 0
    minute.take(20.0, 600)
    assert minute.wait(20.0, 1) == pytest.approx(60.0)


@pytest.mark.parametrize(("name", "seconds"), [("bucket60", 0.1), ("bucket1", 0.1), ("sliding", 0.1), ("minute", 45.0)])
def test_a_drained_rule_has_nothing_at_first(name: str, seconds: float) -> None:
    held = rule(name, LIMIT, 0.0, drained=True, phase=15.0)
    assert held.remaining(0.0) == 0
    assert held.wait(0.0, 1) == pytest.approx(seconds)


@pytest.mark.parametrize("name", NAMES)
def test_a_changed_limit_holds_from_then_on(name: str) -> None:
    held = rule(name, LIMIT, 0.0)
    held.take(0.0, held.remaining(0.0))
    held.change(0.0, 2 * LIMIT)
    assert held.limit == 2 * LIMIT
    held.change(1.0, 60.0)
    assert held.remaining(1000.0) <= 60.0


def test_a_bucket_that_gets_smaller_loses_what_it_can_not_hold() -> None:
    bucket = Bucket(LIMIT, 0.0)
    bucket.change(0.0, 60.0)
    bucket.change(0.0, LIMIT)
    assert bucket.wait(0.0, 61) == pytest.approx(0.1)


@given(asked)
def test_a_bucket_never_admits_more_than_it_held_and_what_came_in(requests: list[tuple[float, int]]) -> None:
    found = admitted(Bucket(LIMIT, 0.0), requests)
    for first, last in combinations(range(len(found) + 1), 2):
        part = found[first:last]
        assert sum(amount for _, amount in part) <= LIMIT + LIMIT / 60 * (part[-1][0] - part[0][0]) + 1e-3


@given(asked)
def test_a_bucket_with_debts_is_at_most_one_request_over(requests: list[tuple[float, int]]) -> None:
    found = admitted(rule("bucket1", LIMIT, 0.0), requests)
    for first, last in combinations(range(len(found) + 1), 2):
        part = found[first:last]
        paid = sum(amount for _, amount in part[:-1]) + min(part[-1][1], LIMIT / 60)
        assert paid <= LIMIT / 60 + LIMIT / 60 * (part[-1][0] - part[0][0]) + 1e-3


@given(asked, st.booleans())
def test_no_window_of_a_minute_holds_more_than_the_limit(requests: list[tuple[float, int]], drained: bool) -> None:
    found = admitted(Sliding(LIMIT, 0.0, drained=drained), requests)
    for start, _ in found:
        assert sum(amount for when, amount in found if start <= when < start + MINUTE - 1e-6) <= LIMIT + 1e-3


@given(asked, st.floats(0, 59.9))
def test_no_minute_of_the_clock_holds_more_than_the_limit(requests: list[tuple[float, int]], phase: float) -> None:
    totals: dict[int, float] = {}
    for when, amount in admitted(Minute(LIMIT, 0.0, phase=phase), requests):
        turn = math.floor((when + phase) / MINUTE + 1e-7)
        totals[turn] = totals.get(turn, 0.0) + amount
    assert all(total <= LIMIT + 1e-3 for total in totals.values())


@given(st.sampled_from(NAMES), asked, st.integers(1, 600), st.booleans())
def test_the_wait_is_honest(name: str, requests: list[tuple[float, int]], amount: int, drained: bool) -> None:
    held = rule(name, LIMIT, 0.0, drained=drained, phase=13.0)
    admitted(held, requests)
    now = sum(gap for gap, _ in requests)
    wait = held.wait(now, amount)
    if wait > 1e-3:
        assert held.wait(now + wait * 0.999 - 1e-4, amount) > 0
    assert held.wait(now + wait + 1e-6, amount) == 0
