"""One loop behind every synchronous call."""

from __future__ import annotations

import asyncio
import signal
import threading
import time

import pytest

from rag.sync import run_sync


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
