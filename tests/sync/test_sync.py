"""One loop behind every synchronous call."""

from __future__ import annotations

import asyncio
import signal
import threading
import time

import pytest

from rag.sync import run_sync, seen_through, together


async def _answer() -> tuple[int, int]:
    await asyncio.sleep(0)
    return 42, threading.get_ident()


async def _fail() -> None:
    raise LookupError("not here")


def test_it_runs_without_a_loop_and_with_one_running_in_the_same_thread() -> None:
    async def notebook_cell() -> tuple[int, int]:
        return run_sync(_answer())

    first, second = run_sync(_answer()), asyncio.run(notebook_cell())
    assert first == second
    assert first[1] != threading.get_ident()


def test_errors_come_through_and_the_loop_lives_on() -> None:
    with pytest.raises(LookupError, match="not here"):
        run_sync(_fail())
    assert run_sync(_answer())[0] == 42


def test_a_call_inside_a_call_is_refused_before_it_waits_for_itself() -> None:
    async def inside() -> None:
        run_sync(_answer())

    with pytest.raises(RuntimeError, match="await the coroutine"):
        run_sync(inside())


def test_an_interrupt_cancels_the_coroutine_and_waits_for_its_end() -> None:
    ended = threading.Event()
    main = threading.main_thread().ident
    assert main is not None

    async def long() -> None:
        try:
            threading.Timer(0.1, signal.pthread_kill, (main, signal.SIGINT)).start()
            await asyncio.sleep(60)
        finally:
            ended.set()

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_sync(long())
    assert ended.is_set()
    assert time.monotonic() - start < 30


def test_a_second_interrupt_cancels_again_and_still_waits_for_the_end() -> None:
    ended = threading.Event()
    main = threading.main_thread().ident
    assert main is not None

    async def stubborn() -> None:
        for seconds in (0.1, 0.3):
            threading.Timer(seconds, signal.pthread_kill, (main, signal.SIGINT)).start()
        try:
            await asyncio.sleep(60)
        finally:
            try:
                await asyncio.sleep(60)
            finally:
                ended.set()

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_sync(stubborn())
    assert ended.is_set()
    assert time.monotonic() - start < 5


async def _cancelled_after(seconds: float, work: asyncio.Task[str], *, times: int = 1) -> asyncio.Task[str]:
    for _ in range(times):
        await asyncio.sleep(seconds)
        work.cancel()
    await asyncio.wait([work])
    return work


async def _paid(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "answer"


def _until(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


def test_who_is_cancelled_still_gets_what_is_paid_for() -> None:
    async def run() -> None:
        work = asyncio.create_task(seen_through(_paid(0.2), _until(60)))
        done = await _cancelled_after(0.05, work)
        assert (done.result(), done.cancelling()) == ("answer", 1)

    asyncio.run(run())


@pytest.mark.parametrize(("until", "times"), [(0.0, 1), (60.0, 2)], ids=["no time is left", "cancelled twice"])
def test_what_takes_too_long_or_is_cancelled_twice_is_given_up(until: float, times: int) -> None:
    given_up: list[bool] = []

    async def long() -> str:
        try:
            return await _paid(60)
        except asyncio.CancelledError:
            given_up.append(True)
            raise

    async def run() -> None:
        work = asyncio.create_task(seen_through(long(), _until(until)))
        done = await _cancelled_after(0.05, work, times=times)
        assert done.cancelled()
        await asyncio.sleep(0)
        assert given_up == [True]

    asyncio.run(run())


def test_what_fails_after_the_cancel_is_no_answer() -> None:
    async def fails() -> str:
        await asyncio.sleep(0.1)
        raise LookupError

    async def run() -> None:
        done = await _cancelled_after(0.05, asyncio.create_task(seen_through(fails(), _until(60))))
        assert done.cancelled()

    asyncio.run(run())


def test_together_waits_for_all_whoever_is_cancelled_and_raises_what_one_raised() -> None:
    ended: list[str] = []

    async def work(name: str, seconds: float) -> None:
        try:
            await seen_through(_paid(seconds), _until(60))
        finally:
            ended.append(name)

    async def all_of_them() -> str:
        await together([work("late", 0.3), work("early", 0.1)])
        return "not cancelled"

    async def run() -> None:
        done = await _cancelled_after(0.05, asyncio.create_task(all_of_them()))
        assert done.cancelled()
        assert ended == ["early", "late"]
        with pytest.raises(LookupError):
            await together([work("fine", 0.01), _fail()])
        assert ended[-1] == "fine"

    asyncio.run(run())


def test_calls_from_many_threads_run_side_by_side() -> None:
    barrier = asyncio.Barrier(3)

    async def meet() -> int:
        async with asyncio.timeout(30):
            return await barrier.wait()

    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(run_sync(meet()))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [0, 1, 2]
