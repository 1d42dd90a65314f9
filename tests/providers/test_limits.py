"""The budget: never more than it promises, in order, and never stuck. No test waits: time is the tests' own."""

from __future__ import annotations

import asyncio
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.providers.limits import CREDIT, Budget, shared_budget
from tests.servers.virtual import VirtualClock

TOLERANCE = 1.0 + 1e-6


async def _run(
    budget: Budget, clock: VirtualClock, work: list[tuple[float, int, float, float]]
) -> list[tuple[float, int, float]]:
    """Do requests of (start, tokens, seconds in flight, share billed); gives (time, number, tokens) as granted."""
    granted: list[tuple[float, int, float]] = []

    async def one(number: int, start: float, tokens: int, seconds: float, billed: float) -> None:
        await clock.sleep(start)
        async with budget.reserve(tokens) as grant:
            granted.append((clock.monotonic(), number, tokens))
            await clock.sleep(seconds)
            budget.settle(grant, tokens * billed, {})

    await asyncio.gather(*(one(number, *request) for number, request in enumerate(work)))
    return granted


def _most_in_any_window(granted: list[tuple[float, float]], limit: float) -> float:
    """The largest ratio of what a window between two grants holds to what is promised for it."""
    worst = 0.0
    for first in range(len(granted)):
        total = 0.0
        for last in range(first, len(granted)):
            total += granted[last][1]
            promised = CREDIT * limit + limit * (granted[last][0] - granted[first][0]) / 60.0
            worst = max(worst, total / promised)
    return worst


request = st.tuples(st.floats(0, 90), st.integers(1, 970), st.floats(0, 5), st.just(1.0))


@given(st.lists(request, min_size=1, max_size=25), st.integers(1000, 5000), st.integers(2, 60), st.integers(1, 8))
def test_no_window_is_ever_granted_more_than_the_promise(
    work: list[tuple[float, int, float, float]], tokens: int, requests: int, concurrency: int
) -> None:
    clock = VirtualClock()
    granted = asyncio.run(_run(Budget(clock, requests, tokens, concurrency), clock, work))
    assert len(granted) == len(work)
    assert _most_in_any_window([(at, n) for at, _, n in granted], tokens) <= TOLERANCE
    # one request may always go: a limit of two a minute is credited with 1.94
    assert _most_in_any_window([(at, 1.0) for at, _, _ in granted], requests) <= TOLERANCE


@given(st.lists(st.integers(1, 300), min_size=10, max_size=20))
def test_a_steady_load_uses_nearly_all_of_the_limit(sizes: list[int]) -> None:
    clock = VirtualClock()
    asyncio.run(_run(Budget(clock, None, 1000, 4), clock, [(0.0, size, 0.2, 1.0) for size in sizes]))
    least = max(0.0, (sum(sizes) - CREDIT * 1000) * 60 / 1000)
    assert clock.monotonic() <= least + 0.5 * len(sizes)


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
        async with budget.reserve(1):
            flying += 1
            most = max(most, flying)
            await clock.sleep(1.0)
            flying -= 1

    async def all_of_them() -> None:
        await asyncio.gather(*(one() for _ in range(10)))

    asyncio.run(all_of_them())
    assert most == 3
    assert clock.monotonic() == pytest.approx(4.0)


def test_what_was_not_billed_comes_back_and_what_was_billed_beyond_is_owed() -> None:
    def seconds(share: float) -> float:
        clock = VirtualClock()
        work = [(0.0, 900, 0.0, share), (0.01, 900, 0.0, 1.0)]
        asyncio.run(_run(Budget(clock, None, 1000, 1), clock, work))
        return clock.monotonic()

    assert seconds(0.0) < 1
    assert seconds(1.0) == pytest.approx((900 - 70) * 0.06, abs=0.3)
    assert seconds(2.0) == pytest.approx((900 + 830) * 0.06, abs=0.3)


def test_a_request_over_the_capacity_waits_for_a_full_bucket_and_leaves_a_debt() -> None:
    clock = VirtualClock()
    granted = asyncio.run(_run(Budget(clock, None, 1000, 2), clock, [(0.0, 3000, 0, 1), (0.1, 1, 0, 1)]))
    assert granted[0][0] == 0.0
    assert granted[1][0] == pytest.approx((3000 - 970 + 1) * 0.06, abs=0.3)


async def _told(budget: Budget, headers: dict[str, str], tokens: int = 10) -> None:
    async with budget.reserve(tokens) as grant:
        budget.settle(grant, tokens, headers)


async def _seconds_for(budget: Budget, clock: VirtualClock, tokens: int) -> float:
    start = clock.monotonic()
    async with budget.reserve(tokens):
        return clock.monotonic() - start


@pytest.mark.parametrize(
    ("names", "seconds"),
    [
        ({"x-ratelimit-limit-tokens": "60000", "x-ratelimit-remaining-tokens": "0"}, 5.0),
        ({"anthropic-ratelimit-tokens-limit": "60000", "anthropic-ratelimit-tokens-remaining": "1000"}, 4.0),
        ({"anthropic-ratelimit-input-tokens-limit": "60000", "anthropic-ratelimit-input-tokens-remaining": "0"}, 5.0),
        ({"x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "0"}, 1.0),
        ({"x-ratelimit-limit-tokens": "60000"}, 0.0),
        ({"x-ratelimit-limit-tokens": "many", "x-ratelimit-remaining-tokens": "-1"}, 0.0),
        ({}, 0.0),
    ],
)
def test_limits_are_learned_from_the_headers_of_a_reply(names: dict[str, str], seconds: float) -> None:
    clock = VirtualClock()
    budget = Budget(clock)

    async def work() -> float:
        await _told(budget, names)
        return await _seconds_for(budget, clock, 5000)

    assert asyncio.run(work()) == pytest.approx(seconds, abs=0.3)


def test_a_header_lowers_what_we_believe_and_never_raises_it() -> None:
    clock = VirtualClock()
    budget = Budget(clock, None, 60_000)

    async def work() -> tuple[float, float]:
        await _told(budget, {"x-ratelimit-remaining-tokens": "0"})
        await _told(budget, {"x-ratelimit-remaining-tokens": "50000", "x-ratelimit-limit-tokens": "900000"}, 1000)
        first = await _seconds_for(budget, clock, 10_000)
        return first, clock.monotonic()

    first, _ = asyncio.run(work())
    assert first == pytest.approx(10.0, abs=0.3)


def test_a_limit_cut_in_mid_run_is_kept_from_the_next_reply_on() -> None:
    clock = VirtualClock()
    budget = Budget(clock, None, 60_000)

    async def work() -> float:
        await _told(budget, {"x-ratelimit-limit-tokens": "6000", "x-ratelimit-remaining-tokens": "0"})
        return await _seconds_for(budget, clock, 1000)

    assert asyncio.run(work()) == pytest.approx(10.0, abs=0.3)


def test_the_first_request_goes_alone_when_the_limits_are_to_be_told() -> None:
    clock = VirtualClock()
    granted = asyncio.run(_run(Budget(clock, concurrency=8, probe=True), clock, [(0.0, 1, 2.0, 1.0)] * 5))
    assert [at for at, _, _ in granted] == [0.0, 2.0, 2.0, 2.0, 2.0]


def test_a_pause_holds_everyone_once() -> None:
    clock = VirtualClock()
    budget = Budget(clock, concurrency=8)
    for seconds in (30.0, 5.0, 30.0):
        budget.pause(seconds)
    granted = asyncio.run(_run(budget, clock, [(0.0, 1, 0.0, 1.0)] * 5))
    assert [at for at, _, _ in granted] == [30.0] * 5


def test_a_waiter_that_is_cancelled_leaves_the_queue_and_takes_nothing() -> None:
    clock = VirtualClock()
    budget = Budget(clock, None, 1000, 1)

    async def work() -> float:
        async with budget.reserve(900):
            waiting = [asyncio.create_task(_seconds_for(budget, clock, 900)) for _ in range(3)]
            await asyncio.sleep(0)
            waiting[0].cancel()
        await asyncio.wait(waiting[:1])
        waiting[1].cancel()
        return await waiting[2]

    assert asyncio.run(work()) == pytest.approx((900 - 70) * 0.06, abs=0.3)
    assert budget._flying == 0
    assert not budget._queue


def test_one_budget_serves_several_loops_at_once() -> None:
    clock = VirtualClock()
    budget = Budget(clock, concurrency=2)
    most, flying, lock = 0, 0, threading.Lock()

    async def one() -> None:
        nonlocal most, flying
        async with budget.reserve(1):
            with lock:
                flying += 1
                most = max(most, flying)
            await asyncio.sleep(0.001)
            with lock:
                flying -= 1

    async def many() -> None:
        await asyncio.gather(*(one() for _ in range(20)))

    threads = [threading.Thread(target=asyncio.run, args=(many(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert most <= 2
    assert budget._flying == 0


def test_one_account_and_model_has_one_budget_in_a_process() -> None:
    clock = VirtualClock()
    first = shared_budget("account", clock, 10, 20, 4, probe=False)
    assert shared_budget("account", clock, 10, 20, 4, probe=False) is first
    assert shared_budget("another", clock, 10, 20, 4, probe=False) is not first
    assert shared_budget("account", VirtualClock(), 10, 20, 4, probe=False) is not first
