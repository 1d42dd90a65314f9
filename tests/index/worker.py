"""A process of its own for tests that kill: `python worker.py STORE ACTION [ARGUMENT]`."""

from __future__ import annotations

import sys
from pathlib import Path

from rag.clock import SystemClock
from rag.index.versions import Versions
from rag.storage import lock, remove_file, sweep_staging


def main() -> None:
    store, action, argument = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    versions = Versions(store, "main")
    if action == "hold":
        with versions.open(int(argument)):
            sys.stdout.write("open\n")
            sys.stdout.flush()
            sys.stdin.read()
        return
    with lock(store, action, SystemClock()):
        if action == "publish_staged":
            versions.publish_staged(Path(argument))
        elif action == "stage_only":
            versions.stage_only(Path(argument))
        elif action == "publish":
            versions.publish(int(argument))
        elif action == "rollback":
            versions.rollback(None, "worse", "tester")
        elif action == "gc":
            versions.gc(int(argument))
        sweep_staging(store)
        remove_file(store / "nothing")


if __name__ == "__main__":
    main()
