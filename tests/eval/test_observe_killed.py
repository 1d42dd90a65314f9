"""Killed at any moment, an evaluation asks for nothing again that had been answered and kept."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

from eval.answers import FILE, AnswerStore
from eval.observe import observe
from eval.types import Observed
from rag.clock import SystemClock
from rag.settings import Settings
from rag.wiring import Desk, World
from tests.eval.observing import MANY, MANY_PLAN, chat_settings, lasting, reply
from tests.servers import faults
from tests.servers.faults import Answer, Asked

ROOT = Path(__file__).resolve().parents[2]
CALLS = len(MANY) * MANY_PLAN.repeats


def observed(settings: Settings, folder: Path) -> list[Observed]:
    async def work(desk: Desk) -> list[Observed]:
        with AnswerStore(folder / FILE, SystemClock()) as answers:
            found = await observe(desk, MANY, {}, MANY_PLAN, answers, lambda *_: None)
        await desk.generator.close()  # type: ignore[attr-defined]
        return found

    with Desk(settings, None, World(SystemClock(), {})) as desk:
        return asyncio.run(work(desk))


@pytest.mark.slow
@pytest.mark.parametrize("after", [1, 13, 30])
def test_a_killed_run_goes_on_without_a_stored_call_and_ends_as_an_undisturbed_one(
    after: int, small_index: Settings, tmp_path: Path
) -> None:
    reached = threading.Event()
    with faults.serving() as served:

        def counting(asked: Asked) -> Answer:
            if len(served.asked) > after + MANY_PLAN.concurrency:
                reached.set()
            # one who is past the kill waits for it, so that the kill is in the middle
            return Answer(hang=True) if reached.is_set() else reply(asked)

        served.always = counting
        (corpus,) = small_index.corpus.paths
        store = small_index.store
        (store / FILE).unlink(missing_ok=True)
        words = [sys.executable, "-m", "tests.eval.observing_child", str(store), str(corpus), served.url]
        child = subprocess.Popen(words, cwd=ROOT)
        assert reached.wait(60)
        child.kill()
        assert child.wait() == -9
        with AnswerStore(store / FILE, SystemClock()) as answers:
            rows = answers._connection.execute("SELECT count(*) FROM answers").fetchone()
            kept = int(rows[0])
            assert answers.notes == []
        assert after <= kept < CALLS

        first = Counter(json.dumps(asked) for asked in served.asked)
        served.asked.clear()
        served.released.set()
        served.always = reply
        found = observed(chat_settings(small_index, served.url), store)
        # what is asked for again was under way when the kill came
        assert len(served.asked) == CALLS - kept
        both = first + Counter(json.dumps(asked) for asked in served.asked)
        assert both.total() - CALLS <= MANY_PLAN.concurrency
        assert len(both) == len(MANY)

        served.asked.clear()
        assert lasting(observed(chat_settings(small_index, served.url), store)) == lasting(found)
        assert served.asked == []
        assert lasting(observed(chat_settings(small_index, served.url), tmp_path)) == lasting(found)
        assert len(served.asked) == CALLS
    (store / FILE).unlink()
