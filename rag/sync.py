"""A coroutine for callers without a loop, and for notebooks, whose thread has one running already."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

T = TypeVar("T")

_PATIENCE: Final = 10.0
_lock = threading.Lock()
_loops: dict[int, asyncio.AbstractEventLoop] = {}


def run_sync(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end and give its result, whether or not this thread has a loop running.

    All calls share one loop in one thread of its own, so that connections stay open between calls. When the caller is
    interrupted the coroutine is cancelled, and given ten seconds to end. Raises what the coroutine raises.
    """
    loop = _loop()
    if asyncio._get_running_loop() is loop:  # noqa: SLF001 - the only way to ask without an exception
        coroutine.close()
        raise RuntimeError("run_sync inside run_sync would wait for itself: await the coroutine instead")
    outcome: concurrent.futures.Future[T] = concurrent.futures.Future()
    tasks: list[asyncio.Task[T]] = []

    def begin() -> None:
        tasks.append(loop.create_task(coroutine))
        tasks[0].add_done_callback(hand_over)

    def hand_over(task: asyncio.Task[T]) -> None:
        if task.cancelled():
            give_up()
        elif error := task.exception():
            outcome.set_exception(error)
        else:
            outcome.set_result(task.result())

    def give_up() -> None:
        outcome.cancel()
        outcome.set_running_or_notify_cancel()

    def stop() -> None:
        if tasks:
            tasks[0].cancel()
        else:
            coroutine.close()
            give_up()

    try:
        loop.call_soon_threadsafe(begin)
        return outcome.result()
    except BaseException:
        if not outcome.done():
            loop.call_soon_threadsafe(stop)
            concurrent.futures.wait([outcome], _PATIENCE)
        raise


def close_sync(thing: object) -> None:
    """Let go of the connections of a model or a generator that holds any."""
    close = getattr(thing, "close", None)
    if close is not None:
        run_sync(close())


def _loop() -> asyncio.AbstractEventLoop:
    with _lock:
        # a forked child inherits the table but not the thread
        loop = _loops.get(os.getpid())
        if loop is None:
            loop = _loops[os.getpid()] = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="ragline-loop", daemon=True).start()
        return loop
