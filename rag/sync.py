"""A coroutine for callers without a loop, and for notebooks, whose thread has one running already."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import threading
from collections.abc import Coroutine, Iterable
from typing import Any, Final, TypeVar

T = TypeVar("T")

_PATIENCE: Final = 9.0
_GRACE: Final = 8.0
"""What remains of that is for storing the answers."""
_HASTE: Final = 1.0
_lock = threading.Lock()
_loops: dict[int, asyncio.AbstractEventLoop] = {}


def run_sync(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end and give its result, whether or not this thread has a loop running.

    All calls share one loop in one thread of its own, so that connections stay open between calls. When the caller is
    interrupted the coroutine is cancelled, and given nine seconds to end; interrupted once more it is cancelled
    again, and given one. Raises what the coroutine raises.
    """
    loop = _loop()
    if asyncio._get_running_loop() is loop:  # noqa: SLF001 - the only way to ask without an exception
        coroutine.close()
        raise RuntimeError("run_sync inside run_sync would wait for itself: await the coroutine instead")
    # no lock is held while this thread waits: a signal's exception in the midst of one would leave it locked
    tasks: list[asyncio.Task[T]] = []
    ended: list[asyncio.Task[T]] = []
    told: queue.SimpleQueue[None] = queue.SimpleQueue()

    def begin() -> None:
        tasks.append(loop.create_task(coroutine))
        tasks[0].add_done_callback(hand_over)

    def hand_over(task: asyncio.Task[T]) -> None:
        ended.append(task)
        told.put(None)

    def stop() -> None:
        if tasks:
            tasks[0].cancel()
        else:
            coroutine.close()
            told.put(None)

    def give_up(patience: float) -> None:
        if not ended:
            loop.call_soon_threadsafe(stop)
            with contextlib.suppress(queue.Empty):
                told.get(timeout=patience)

    try:
        try:
            loop.call_soon_threadsafe(begin)
            told.get()
        except BaseException:
            give_up(_PATIENCE)
            raise
    except BaseException:  # whatever came meanwhile: who closes the books next must not be paid behind
        give_up(_HASTE)
        raise
    return ended[0].result()


async def seen_through(work: Coroutine[Any, Any, T], until: float) -> T:
    """Await what is paid for whether or not anybody takes the answer.

    A caller who is cancelled gets the answer all the same if it comes within eight seconds, and by `until` of the
    loop's time: it asks its task whether it is `cancelling`, and goes on to nothing else. A second cancel ends this.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=max(0.0, min(_GRACE, until - task.get_loop().time())))
        if task.done() and not task.cancelled() and not task.exception():
            return task.result()
        raise
    finally:
        task.cancel()


async def together(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Await all of them. Who is cancelled cancels each, every time, and still waits for all. Raises what the first raises."""
    tasks = [asyncio.ensure_future(work) for work in works]
    cancelled: asyncio.CancelledError | None = None
    while not all(task.done() for task in tasks):
        try:
            await asyncio.wait(tasks)
        except asyncio.CancelledError as error:
            cancelled = error
            for task in tasks:
                task.cancel()
    for task in tasks:
        if not task.cancelled():
            task.result()
    if cancelled:
        raise cancelled


def close_sync(thing: object) -> None:
    """Let go of the connections of a model or a generator that holds any."""
    close = getattr(thing, "close", None)
    if close is not None:
        run_sync(close())


def _loop() -> asyncio.AbstractEventLoop:
    # a forked child inherits the table but not the thread
    if loop := _loops.get(os.getpid()):
        return loop
    with _lock:
        loop = _loops.get(os.getpid())
        if loop is None:
            loop = _loops[os.getpid()] = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="ragline-loop", daemon=True).start()
        return loop
