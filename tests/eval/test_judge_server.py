"""A real model behind a real server as judge: so small a model judges badly, but the road holds to the last figure."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from eval.answers import AnswerStore
from eval.calibrate import Calibration, calibrate, keep, stored
from eval.judge import Judge, Verdict
from rag.clock import SystemClock
from rag.ports import ChatModel
from rag.providers.registry import chat_model
from rag.providers.settings import ModelSettings, Surroundings
from rag.types import Usage
from tests.generation.making import passage

pytestmark = [pytest.mark.server, pytest.mark.slow]
TABLE = "question,expected,answer,human\nWhen did it open?,1987,In 1987.,yes\nWhen did it open?,1987,In 1999.,no\n"
TOKENS = 32


def test_a_real_model_judges_and_every_verdict_is_a_value_or_counted(model_server: str, tmp_path: Path) -> None:
    settings = ModelSettings("openai/smollm2", f"{model_server}/v1", timeout=300)
    path = tmp_path / "judged.csv"
    path.write_text(TABLE)
    given = [passage("The depot opened in 1987."), passage("Dogs travel free on Sundays.", 2)]

    async def judged(chat: ChatModel, store: AnswerStore) -> tuple[list[Verdict], Calibration]:
        judge = Judge(chat, store=store, base_url=model_server, max_tokens=TOKENS)
        verdicts = [
            await judge.correctness("When did the depot open?", ["1987"], "In 1987."),
            await judge.faithfulness("When did the depot open?", given, "In 1987."),
            await judge.answer_relevance("When did the depot open?", "In 1987."),
            await judge.context_precision("When did the depot open?", ["1987"], given),
            await judge.context_recall("When did the depot open?", ["1987"], given),
        ]
        calibration = await calibrate(path, judge, concurrency=1)
        keep(tmp_path, calibration)
        assert stored(tmp_path, judge) == calibration
        return verdicts, calibration

    async def twice() -> tuple[tuple[list[Verdict], Calibration], tuple[list[Verdict], Calibration]]:
        chat = chat_model(settings, Surroundings(SystemClock(), {}))
        try:
            with AnswerStore(tmp_path / "answers.sqlite", SystemClock()) as store:
                return await judged(chat, store), await judged(chat, store)
        finally:
            await chat.close()  # type: ignore[attr-defined]

    (first, made), (again, found) = asyncio.run(twice())
    assert all(each.usage.requests in (1, 2) and each.usage.input_tokens > 300 and each.seconds > 0 for each in first)
    for verdict in first:
        assert verdict.value is None or 0 <= verdict.value <= 1
        assert (verdict.value is None) == verdict.reason.startswith("no usable reply: ") or "finds no" in verdict.reason
        assert verdict.value is not None or verdict.usage.requests == 2
    judge = made.of()
    assert judge is not None
    assert judge.n + judge.unscored == made.answers == 2
    assert made.usage.requests >= 2 + judge.unscored
    assert all(each.cached and each.usage == Usage() for each in again)
    assert [(each.value, each.reason, each.seconds) for each in again] == [
        (each.value, each.reason, each.seconds) for each in first
    ]
    assert (found.agreements, found.cached, found.usage) == (made.agreements, 2, Usage())
