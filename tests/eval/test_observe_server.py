"""All three arms against a real model server: whatever so small a model says, it is asked once and kept."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from eval.answers import FILE, AnswerStore
from eval.observe import Observing, observe
from eval.types import Observed
from rag.clock import SystemClock
from rag.settings import Settings
from rag.wiring import Desk, World
from tests.eval.observing import QUESTIONS, chat_settings

pytestmark = [pytest.mark.server, pytest.mark.slow]
PLAN = Observing(("retrieved", "oracle", "closed_book"), 1, documents=2, search_depth=5, k=2, concurrency=2)


def test_a_real_model_is_observed_and_the_second_run_needs_no_server(
    model_server: str, small_index: Settings, tmp_path: Path
) -> None:
    given = {"model": "openai/smollm2", "max_tokens": 24, "timeout_seconds": 300.0}

    async def work(desk: Desk) -> list[Observed]:
        with AnswerStore(tmp_path / FILE, SystemClock()) as answers:
            found = await observe(desk, QUESTIONS, {}, PLAN, answers, lambda *_: None)
        await desk.generator.close()  # type: ignore[attr-defined]
        return found

    def run() -> list[Observed]:
        with Desk(chat_settings(small_index, f"{model_server}/v1", **given), None, World(SystemClock(), {})) as desk:
            return asyncio.run(work(desk))

    first, second = run(), run()
    assert [each.failure for each in first] == [None] * 9
    for before, now in zip(first, second, strict=True):
        assert (before.answer, before.prompt, before.generate_seconds) == (now.answer, now.prompt, now.generate_seconds)
        assert (before.cached, now.cached) == (False, now.prompt is not None)
        assert before.answer is not None
        assert before.answer.usage.input_tokens > 20 or before.prompt is None
    # a server of one's own has no known price: neither what was billed nor what was saved is a number
    assert {each.usage.usd for each in first if each.prompt} == {None}
    assert {each.usd_saved for each in second if each.prompt} == {None}
