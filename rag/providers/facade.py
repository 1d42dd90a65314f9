"""A coroutine for callers without a loop, and for notebooks, whose thread has one running already."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_lock = threading.Lock()
_loops: dict[int, asyncio.AbstractEventLoop] = {}


def run_sync(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end and give its result, whether or not this thread has a loop running.

    All calls share one loop in one thread of its own, so that connections stay open between calls. When the caller is
    interrupted the coroutine is cancelled, and given ten seconds to end.
    """
    future = asyncio.run_coroutine_threadsafe(coroutine, _loop())
    try:
        return future.result()
    except BaseException:
        if not future.done():
            future.cancel()
        raise


def _loop() -> asyncio.AbstractEventLoop:
    with _lock:
        # a forked child inherits the table but not the thread
        loop = _loops.get(os.getpid())
        if loop is None:
            loop = _loops[os.getpid()] = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="ragline-loop", daemon=True).start()
        return loop
