"""The least possible time: by hand where it can be worked out, and never above what any client needed."""

from __future__ import annotations

import copy
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.provider.least import Work, earliest
from tests.provider.rules import Bucket, Minute, Sliding, rule

LIMIT = 600.0  # ten a second


def test_a_full_bucket_serves_its_level_at_once_and_the_rest_at_its_rate() -> None:
    bucket = Bucket(LIMIT, 5.0)
    assert earliest(bucket, 5.0, Work(500, 100)) == 5.0
    assert earliest(bucket, 5.0, Work(500, 101)) == pytest.approx(5.1)
    assert earliest(bucket, 5.0, Work(5_500, 500)) == pytest.approx(5.0 + 540)


def test_a_drained_bucket_serves_everything_at_its_rate() -> None:
    assert earliest(Bucket(LIMIT, 0.0, drained=True), 0.0, Work(900, 100)) == pytest.approx(100.0)


def test_what_a_bucket_of_a_second_lends_the_last_request_need_not_be_waited_for() -> None:
    bucket = Bucket(LIMIT, 0.0, burst=1.0, debts=True)
    assert earliest(bucket, 0.0, Work(0, 300)) == 0.0
    # after the first 300 it owes 290, and is full again 30 s later
    assert earliest(bucket, 0.0, Work(300, 300)) == pytest.approx(30.0)
    assert earliest(bucket, 0.0, Work(300, 5)) == pytest.approx(29.5)


def test_a_bucket_whose_limit_changes_fills_at_the_new_rate() -> None:
    bucket = Bucket(LIMIT, 0.0, drained=True)
    # ten seconds at ten a second, then at twenty
    assert earliest(bucket, 0.0, Work(200, 100), limits=[(10.0, 1200.0)]) == pytest.approx(20.0)
    assert earliest(bucket, 0.0, Work(0, 100), limits=[(5.0, 0.0)]) == math.inf


def test_what_somebody_else_took_from_a_bucket_is_waited_for() -> None:
    bucket = Bucket(LIMIT, 0.0, drained=True)
    assert earliest(bucket, 0.0, Work(0, 100), others=[(2.0, 15.0), (4.0, 5.0)]) == pytest.approx(12.0)


def test_a_full_window_serves_its_limit_every_minute() -> None:
    window = Sliding(LIMIT, 3.0)
    assert earliest(window, 3.0, Work(500, 100)) == 3.0
    assert earliest(window, 3.0, Work(500, 101)) == pytest.approx(63.0)
    assert earliest(window, 3.0, Work(1_700, 100)) == pytest.approx(123.0)
    assert earliest(window, 3.0, Work(1_700, 101)) == pytest.approx(183.0)


def test_a_drained_window_comes_free_evenly() -> None:
    window = Sliding(LIMIT, 0.0, drained=True)  # one token comes free every tenth of a second
    assert earliest(window, 0.0, Work(99, 1)) == pytest.approx(10.0)
    assert earliest(window, 0.0, Work(599, 1)) == pytest.approx(60.0)
    assert earliest(window, 0.0, Work(699, 1)) == pytest.approx(70.0)


def test_a_window_part_of_which_is_used_and_whose_limit_is_raised() -> None:
    window = Sliding(LIMIT, 0.0)
    window.take(0.0, 500)
    # 100 at 20, 50 more when the limit is raised at 30, 500 when the first come free at 60, and the 100 at 80
    steps = [(30.0, 650.0)]
    for total, when in [(100, 20.0), (150, 30.0), (151, 60.0), (650, 60.0), (651, 80.0)]:
        assert earliest(window, 20.0, Work(total - 1, 1), limits=steps) == pytest.approx(when)
    assert earliest(window, 70.0, Work(0, 1)) == 70.0


def test_what_somebody_else_took_from_a_window_is_gone_for_a_minute() -> None:
    window = Sliding(LIMIT, 0.0, drained=True)
    # 100 are free after 10 s, but at 5 s somebody took 50 of them
    assert earliest(window, 0.0, Work(99, 1), others=[(5.0, 50.0)]) == pytest.approx(15.0)


def test_a_minute_serves_its_limit_when_it_begins() -> None:
    minute = Minute(LIMIT, 100.0, phase=45.0)
    assert earliest(minute, 100.0, Work(599, 1)) == 100.0
    assert earliest(minute, 100.0, Work(600, 1)) == pytest.approx(115.0)
    assert earliest(minute, 100.0, Work(1_799, 1)) == pytest.approx(175.0)
    drained = Minute(LIMIT, 100.0, phase=45.0, drained=True)
    assert earliest(drained, 100.0, Work(0, 600)) == pytest.approx(115.0)
    # 100 more in the first minute, when the limit is raised; the new limit in the second
    raised = [(110.0, 700.0)]
    assert earliest(drained, 100.0, Work(99, 1), limits=raised) == pytest.approx(110.0)
    assert earliest(drained, 100.0, Work(799, 1), limits=raised) == pytest.approx(115.0)
    assert earliest(minute, 100.0, Work(600, 1), limits=[(101.0, 0.0)]) == math.inf


sizes = st.lists(st.integers(1, 600), min_size=1, max_size=30)
others_at = st.lists(st.tuples(st.floats(0.1, 300), st.integers(1, 60)), max_size=10)
changes_at = st.lists(st.tuples(st.floats(0.1, 300), st.integers(600, 1800)), max_size=3)


@given(st.sampled_from(["bucket60", "bucket1", "sliding", "minute"]), st.booleans(), sizes, others_at, changes_at)
def test_no_client_is_quicker(
    name: str, drained: bool, amounts: list[int], others: list[tuple[float, int]], changes: list[tuple[float, int]]
) -> None:
    held = rule(name, LIMIT, 0.0, drained=drained, phase=20.0)
    begun = copy.deepcopy(held)
    events = sorted([(when, 0, amount) for when, amount in others] + [(when, 1, limit) for when, limit in changes])
    happened: tuple[list[tuple[float, float]], list[tuple[float, float]]] = ([], [])
    now = 0.0
    for amount in amounts:
        while wait := held.wait(now, amount):
            until = now + wait
            if events and events[0][0] <= until:
                until, kind, value = events.pop(0)
                if kind == 1:
                    held.change(until, value)
                    happened[1].append((until, value))
                elif not held.wait(until, value):
                    held.take(until, value)
                    happened[0].append((until, value))
            now = until
        held.take(now, amount)
    least = earliest(begun, 0.0, Work(sum(amounts[:-1]), amounts[-1]), happened[1], happened[0])
    assert least <= now + 1e-3
    if name == "bucket60" and not happened[0] and not happened[1]:
        assert least == pytest.approx(now, abs=1e-3)  # who sends as soon as he may loses nothing


@given(sizes)
def test_the_state_that_is_asked_about_is_left_as_it_was(amounts: list[int]) -> None:
    for name in ("bucket60", "bucket1", "sliding", "minute"):
        held = rule(name, LIMIT, 0.0, drained=True)
        before = copy.deepcopy(vars(held))
        earliest(held, 0.0, Work(sum(amounts), 1), [(3.0, 700.0)], [(4.0, 5.0)])
        assert vars(held) == before
