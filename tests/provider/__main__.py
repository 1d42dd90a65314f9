"""`python -m tests.provider --help`: the simulator as a process. The first line it prints is its address, as JSON."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import sys

from tests.provider.options import parse
from tests.provider.simulator import serve

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Linux sends the signal when the thread that started this process ends: start it from one that lasts."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent or parent == 1:
        sys.exit("the parent is gone")


def main() -> None:
    arguments = sys.argv[1:]
    if arguments[:1] == ["--with-parent"]:
        die_with_parent()
        arguments = json.loads(sys.stdin.readline())  # a key among them is in no list of processes
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(parse(arguments)))


main()
