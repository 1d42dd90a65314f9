"""The budget: in order, never stuck, and what a reply says is heeded. How fast it lets through is test_pace.py's.

No test waits: time is the tests' own.
"""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.providers.limits import Budget, Load, best_size, shared_budget
from rag.providers.settings import Allowed
from rag.providers.told import seconds, told_by
from tests.servers.virtual import VirtualClock


async def _run(
    budget: Budget, clock: VirtualClock, work: list[tuple[float, int, float, float]]
) -> list[tuple[float, int, float]]:
    """Do requests of (start, tokens, seconds in flight, share billed); gives (time, number, tokens) as granted."""
    granted: list[tuple[float, int, float]] = []

    async def one(number: int, start: float, tokens: int, service: float, billed: float) -> None:
        await clock.sleep(start)
        async with budget.reserve(Load(tokens)) as grant:
            granted.append((clock.monotonic(), number, tokens))
            await clock.sleep(service)
            budget.settle(grant, Load(tokens * billed), {})

    await asyncio.gather(*(one(number, *request) for number, request in enumerate(work)))
    return granted


def _most_in_any_window(granted: list[tuple[float, float]], limit: float) -> float:
    """By how much a window between two grants holds more than its share of the limit and the largest of it."""
    worst = 0.0
    for first in range(len(granted)):
        total = largest = 0.0
        for last in range(first, len(granted)):
            total += granted[last][1]
            largest = max(largest, granted[last][1])
            share = limit * (granted[last][0] - granted[first][0] + 1.0) / 60.0
            worst = max(worst, total - share - largest)
    return worst


request = st.tuples(st.floats(0, 90), st.integers(1, 970), st.floats(0, 5), st.just(1.0))


@pytest.mark.slow
@given(st.lists(request, min_size=1, max_size=25), st.integers(1000, 5000), st.integers(2, 60), st.integers(1, 8))
def test_what_no_server_has_told_of_is_granted_evenly_whatever_the_rule(
    work: list[tuple[float, int, float, float]], tokens: int, requests: int, concurrency: int
) -> None:
    clock = VirtualClock()
    granted = asyncio.run(_run(Budget(clock, requests, tokens, concurrency), clock, work))
    assert len(granted) == len(work)
    assert _most_in_any_window([(at, n) for at, _, n in granted], tokens) <= 0.1 * tokens / 60
    assert _most_in_any_window([(at, 1.0) for at, _, _ in granted], requests) <= 0.1 * requests / 60


def test_turns_are_given_in_the_order_in_which_they_were_asked_for() -> None:
    clock = VirtualClock()
    work = [(0.001 * n, 900 if n % 2 else 10, 0.5, 1.0) for n in range(12)]
    granted = asyncio.run(_run(Budget(clock, 600, 1000, 3), clock, work))
    assert [number for _, number, _ in granted] == list(range(12))


def test_no_more_are_in_flight_than_allowed() -> None:
    clock = VirtualClock()
    budget = Budget(clock, concurrency=3)
    flying, most = 0, 0

    async def one() -> None:
        nonlocal flying, most
        async with budget.reserve(Load(1)) as grant:
            flying += 1
            most = max(most, flying)
            await clock.sleep(1.0)
            flying -= 1
            budget.settle(grant, None, {})

    async def all_of_them() -> None:
        await asyncio.gather(*(one() for _ in range(10)))

    asyncio.run(all_of_them())
    assert most == 3
    assert clock.monotonic() == pytest.approx(4.0)  # the first goes alone


def test_what_was_not_billed_comes_back_and_what_was_billed_beyond_is_owed() -> None:
    def needed(share: float) -> float:
        clock = VirtualClock()
        work = [(0.0, 900, 0.0, share), (0.01, 900, 0.0, 1.0)]
        asyncio.run(_run(Budget(clock, None, 1000, 1), clock, work))
        return clock.monotonic()

    # one that is more than a second's worth waits for that, and leaves a debt
    assert needed(0.0) < 2
    assert needed(1.0) == pytest.approx(900 * 0.06, abs=1.0)
    assert needed(2.0) == pytest.approx(1800 * 0.06, abs=1.0)


async def _told(budget: Budget, headers: dict[str, str], tokens: int = 10) -> None:
    async with budget.reserve(Load(tokens)) as grant:
        budget.settle(grant, Load(tokens), headers)


async def _seconds_for(budget: Budget, clock: VirtualClock, tokens: int) -> float:
    start = clock.monotonic()
    async with budget.reserve(Load(tokens)):
        return clock.monotonic() - start


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({"x-ratelimit-limit-tokens": "60000", "x-ratelimit-remaining-tokens": "0"}, 5.0),
        ({"x-ratelimit-limit-tokens": "60000", "x-ratelimit-remaining-tokens": "9000"}, 0.0),
        ({"anthropic-ratelimit-tokens-limit": "60000", "anthropic-ratelimit-tokens-remaining": "1000"}, 4.0),
        ({"anthropic-ratelimit-input-tokens-limit": "60000", "anthropic-ratelimit-input-tokens-remaining": "0"}, 5.0),
        ({"x-ratelimit-limit-project-tokens": "60000", "x-ratelimit-remaining-project-tokens": "0"}, 5.0),
        ({"anthropic-ratelimit-output-tokens-limit": "60000", "anthropic-ratelimit-output-tokens-remaining": "0"}, 0.2),
        ({"x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "0"}, 1.0),
        ({"x-ratelimit-limit-tokens": "many", "x-ratelimit-remaining-tokens": "-1"}, 0.0),
        ({}, 0.0),
    ],
)
def test_limits_are_learned_from_the_headers_of_a_reply(names: dict[str, str], expected: float) -> None:
    clock = VirtualClock()
    budget = Budget(clock)

    async def work() -> float:
        await _told(budget, names)
        return await _seconds_for(budget, clock, 5000)

    assert asyncio.run(work()) == pytest.approx(expected, abs=0.3)


def test_an_answer_that_is_to_come_counts_under_the_limit_of_output_tokens() -> None:
    clock = VirtualClock()
    budget = Budget(clock)
    name = "anthropic-ratelimit-output-tokens-"

    async def work() -> float:
        await _told(budget, {f"{name}limit": "6000", f"{name}remaining": "100", f"{name}reset": "2026-11-22T12:00:59Z"})
        start = clock.monotonic()
        async with budget.reserve(Load(5000, 600)):
            return clock.monotonic() - start

    assert asyncio.run(work()) == pytest.approx(5.0, abs=0.3)


def test_a_limit_cut_in_mid_run_is_kept_from_the_next_reply_on() -> None:
    clock = VirtualClock()
    budget = Budget(clock, None, 60_000)

    async def work() -> float:
        await _told(budget, {"x-ratelimit-limit-tokens": "6000", "x-ratelimit-remaining-tokens": "0"})
        return await _seconds_for(budget, clock, 1000)

    assert asyncio.run(work()) == pytest.approx(10.0, abs=0.3)


def test_a_limit_of_the_settings_is_a_ceiling_below_the_account_s_own() -> None:
    clock = VirtualClock()
    budget = Budget(clock, None, 6_000)

    async def work() -> float:
        await _told(budget, {"x-ratelimit-limit-tokens": "60000", "x-ratelimit-remaining-tokens": "59000"}, 100)
        return await _seconds_for(budget, clock, 500)

    assert asyncio.run(work()) == pytest.approx(1.0, abs=0.3)
    assert budget.limits == Allowed(None, 6_000)
    assert budget.told == Allowed(None, 60_000)


def test_the_first_request_goes_alone_and_as_long_as_none_is_answered() -> None:
    clock = VirtualClock()
    granted = asyncio.run(_run(Budget(clock, concurrency=8), clock, [(0.0, 1, 2.0, 1.0)] * 5))
    assert [at for at, _, _ in granted] == [0.0, 2.0, 2.0, 2.0, 2.0]


def test_a_pause_holds_everyone_once() -> None:
    clock = VirtualClock()
    budget = Budget(clock, concurrency=8)
    for pause in (30.0, 5.0, 30.0):
        budget.pause(pause)
    granted = asyncio.run(_run(budget, clock, [(0.0, 1, 0.0, 1.0)] * 5))
    assert [at for at, _, _ in granted] == pytest.approx([30.0] * 5, abs=0.01)


def test_a_refused_request_goes_before_those_that_were_not_sent_yet() -> None:
    clock = VirtualClock()
    budget = Budget(clock, concurrency=2)
    order: list[str] = []

    async def refused() -> None:
        async with budget.reserve(Load(1)) as grant:
            await clock.sleep(1.0)
            budget.refused(grant, 5.0, {})
        async with budget.reserve(Load(1), again=True) as grant:
            order.append("the refused one")
            await clock.sleep(1.0)
            budget.settle(grant, None, {})

    async def other(number: int) -> None:
        await clock.sleep(0.5)
        async with budget.reserve(Load(1)) as grant:
            order.append(f"number {number}")
            budget.settle(grant, None, {})

    async def all_of_them() -> None:
        await asyncio.gather(refused(), *(other(number) for number in range(3)))

    asyncio.run(all_of_them())
    assert order[0] == "the refused one"
    assert len(order) == 4


def test_a_waiter_that_is_cancelled_leaves_the_queue_and_takes_nothing() -> None:
    clock = VirtualClock()
    budget = Budget(clock, None, 1000, 1)

    async def work() -> float:
        async with budget.reserve(Load(900)):
            waiting = [asyncio.create_task(_seconds_for(budget, clock, 900)) for _ in range(3)]
            await asyncio.sleep(0)
            waiting[0].cancel()
        await asyncio.wait(waiting[:1])
        waiting[1].cancel()
        return await waiting[2]

    assert asyncio.run(work()) == pytest.approx(900 * 0.06, abs=1.0)
    assert not budget._flying
    assert not budget._queue


def test_one_budget_serves_several_loops_at_once() -> None:
    clock = VirtualClock()
    budget = Budget(clock, concurrency=2)
    most, flying, lock = 0, 0, threading.Lock()

    async def one() -> None:
        nonlocal most, flying
        async with budget.reserve(Load(1)) as grant:
            with lock:
                flying += 1
                most = max(most, flying)
            await asyncio.sleep(0.001)
            with lock:
                flying -= 1
            budget.settle(grant, None, {})

    async def many() -> None:
        await asyncio.gather(*(one() for _ in range(20)))

    threads = [threading.Thread(target=asyncio.run, args=(many(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert most <= 2
    assert not budget._flying


def test_one_account_and_model_has_one_budget_in_a_process() -> None:
    clock = VirtualClock()
    first = shared_budget("account", clock, 10, 20, 4)
    assert shared_budget("account", clock, 10, 20, 4) is first
    assert shared_budget("another", clock, 10, 20, 4) is not first
    assert shared_budget("account", VirtualClock(), 10, 20, 4) is not first


NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12ms", 0.012),
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("1h2m3.5s", 3723.5),
        ("17.4s", 17.4),
        ("0.5", 0.5),
        ((NOW + timedelta(seconds=9)).isoformat(), 9.0),
        ("2026-11-22T12:00:59Z", 59.0),
        ("2026-11-22T11:00:00Z", 0.0),
        ("soon", None),
        ("6m0", None),
        ("", None),
        ("-3s", None),
    ],
)
def test_a_reset_is_read_in_every_form(text: str, expected: float | None) -> None:
    assert seconds(text, NOW) == (None if expected is None else pytest.approx(expected))


@given(st.dictionaries(st.sampled_from(["x-ratelimit-limit-tokens", "x-ratelimit-reset-tokens"]), st.text(max_size=12)))
def test_no_header_however_odd_is_more_than_passed_over(headers: dict[str, str]) -> None:
    for told in told_by(headers, NOW).values():
        assert told.limit is None or told.limit >= 0
        assert told.reset is None or told.reset >= 0


@given(st.integers(1, 300_000), st.none() | st.integers(1, 100_000), st.none() | st.integers(1, 10**9))
def test_the_size_of_a_request_uses_neither_limit_up_before_the_other(
    most: int, requests: int | None, tokens: int | None
) -> None:
    size = best_size(most, requests, tokens)
    assert 1 <= size <= most
    if requests and tokens and size < most:
        assert size * requests >= tokens - requests, "all tokens of a minute fit into its requests"
