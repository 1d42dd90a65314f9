"""An evaluation in a process of its own, to be killed: `python observing_child.py STORE CORPUS URL`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from eval.answers import FILE, AnswerStore
from eval.observe import observe
from rag.clock import SystemClock
from rag.settings import load
from rag.wiring import Desk, World
from tests.eval.observing import MANY, MANY_PLAN, chat_settings


async def work(desk: Desk, store: Path) -> None:
    with AnswerStore(store / FILE, SystemClock()) as answers:
        await observe(desk, MANY, {}, MANY_PLAN, answers, lambda *_: None)


def main() -> None:
    store, corpus, url = sys.argv[1:4]
    settings = load([], {}, [f"store='{store}'", f"corpus.paths=['{corpus}']"], Path(store))
    with Desk(chat_settings(settings, url), None, World(SystemClock(), {})) as desk:
        asyncio.run(work(desk, Path(store)))


if __name__ == "__main__":
    main()
