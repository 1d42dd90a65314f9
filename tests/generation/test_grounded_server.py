"""A real model behind a real server, asked with the shipped prompt: the road holds, whatever so small a model says."""

from __future__ import annotations

import asyncio

import pytest

from rag.clock import SystemClock
from rag.generation.answer import CUT, GroundedGenerator
from rag.generation.prompt import load_prompt
from rag.providers.registry import chat_model
from rag.providers.settings import ModelSettings, Surroundings
from rag.types import Answer
from tests.generation.making import heard, passage

pytestmark = [pytest.mark.server, pytest.mark.slow]
PASSAGES = [passage("The depot opened in 1987."), passage("Dogs travel free on Sundays.", 2)]


def test_a_real_model_is_asked_and_its_reply_becomes_an_answer(model_server: str) -> None:
    settings = ModelSettings("openai/smollm2", f"{model_server}/v1", timeout=300)

    async def ask() -> tuple[str, Answer]:
        chat = chat_model(settings, Surroundings(SystemClock(), {}))
        try:
            return await heard(GroundedGenerator(chat, load_prompt(), 24).answer("When did the depot open?", PASSAGES))
        finally:
            await chat.close()  # type: ignore[attr-defined]

    streamed, answer = asyncio.run(ask())
    assert streamed == answer.text != ""
    assert answer.usage.input_tokens > 300
    assert answer.abstained or len(answer.text) > len(CUT)
    assert all(PASSAGES[c.passage - 1].text[c.start : c.end] == c.quote for c in answer.citations)
