"""The providers' own clients work against it, whole and streamed; and what they are refused they are refused properly."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator

import anthropic
import numpy as np
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from tests import provider
from tests.provider import Options, Simulator
from tests.provider.tokens import counter
from tests.provider.vectors import digest, vectors
from tests.provider.wire import MODEL, ask, embed

SAID = "You asked about When does it leave?."


@pytest.fixture(scope="module")
def sim() -> Iterator[Simulator]:
    with provider.running(Options(tokens="cl100k", forbidden_models=("gpt-secret",))) as sim:
        yield sim


def test_openai_embeds_in_both_encodings_and_fewer_dimensions(sim: Simulator) -> None:
    async def run() -> None:
        async with openai.AsyncOpenAI(base_url=sim.url, api_key=sim.key, max_retries=0) as client:
            both = await client.embeddings.create(model=MODEL, input=["tiktoken is great!", "fish"])
            assert [item.index for item in both.data] == [0, 1]
            assert both.usage.prompt_tokens == 6 + 1  # counted by hand with tiktoken
            right = vectors(MODEL, [digest("tiktoken is great!"), digest("fish")])
            assert np.array_equal(np.array([item.embedding for item in both.data], np.float32), right)
            floats = await client.embeddings.create(model=MODEL, input="fish", encoding_format="float")
            assert np.array_equal(np.array(floats.data[0].embedding, np.float32), right[1])
            short = await client.embeddings.create(model=MODEL, input="fish", dimensions=256)
            assert np.linalg.norm(short.data[0].embedding) == pytest.approx(1.0)
            first = right[1, :256] / np.linalg.norm(right[1, :256])
            assert np.allclose(short.data[0].embedding, first, atol=1e-6)
            tokens = await client.embeddings.create(model=MODEL, input=[[1, 2, 3], [4]])
            assert (len(tokens.data), tokens.usage.total_tokens) == (2, 4)
            assert "text-embedding-3-large" in [model.id async for model in client.models.list()]

    asyncio.run(run())


def test_openai_chats_whole_and_streamed(sim: Simulator) -> None:
    async def run() -> None:
        async with openai.AsyncOpenAI(base_url=sim.url, api_key=sim.key, max_retries=0) as client:
            asked: list[ChatCompletionMessageParam] = [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "When does it leave?"},
            ]
            whole = await client.chat.completions.create(model="gpt-4o", messages=asked)
            assert whole.choices[0].message.content == SAID
            assert whole.choices[0].finish_reason == "stop"
            stream = await client.chat.completions.create(
                model="gpt-4o",
                messages=asked,
                stream=True,
                stream_options={"include_usage": True},
                max_completion_tokens=2,
            )
            events = [event async for event in stream]
            said = "".join(event.choices[0].delta.content or "" for event in events if event.choices)
            assert said == "You asked"
            assert events[-2].choices[0].finish_reason == "length"
            assert events[-1].usage is not None
            assert whole.usage is not None
            assert events[-1].usage.prompt_tokens == whole.usage.prompt_tokens

    asyncio.run(run())


def test_anthropic_answers_whole_and_streamed(sim: Simulator) -> None:
    async def run() -> None:
        async with anthropic.AsyncAnthropic(base_url=sim.anthropic_url, api_key=sim.key, max_retries=0) as client:
            raw = await client.messages.with_raw_response.create(
                model="claude-haiku-4-5",
                max_tokens=100,
                system="Be brief.",
                messages=[{"role": "user", "content": "When does it leave?"}],
            )
            assert raw.headers["anthropic-ratelimit-input-tokens-limit"] == str(Options().tpm)
            assert raw.headers["anthropic-ratelimit-tokens-reset"].endswith("Z")
            whole = await raw.parse()
            assert whole.content[0].type == "text"
            assert whole.content[0].text == SAID
            async with client.messages.stream(
                model="claude-haiku-4-5", max_tokens=3, messages=[{"role": "user", "content": "When does it leave?"}]
            ) as stream:
                assert "".join([text async for text in stream.text_stream]) == "You asked about"
                final = await stream.get_final_message()
            assert final.stop_reason == "max_tokens"
            assert final.usage.output_tokens == 3

    asyncio.run(run())


@pytest.mark.parametrize(
    ("asked", "status", "words"),
    [
        ({"model": MODEL, "input": ["a", ""]}, 400, "input[1]"),
        ({"model": MODEL, "input": []}, 400, "empty array"),
        ({"model": MODEL, "input": ["a"] * 2049}, 400, "2049"),
        ({"model": MODEL, "input": ["a", " fish" * 8193]}, 400, "'input[1]': maximum context length is 8192 tokens"),
        ({"model": MODEL, "input": [" fish" * 8192] * 37}, 400, "300000 tokens per request"),
        ({"model": MODEL, "input": {"a": 1}}, 400, "input"),
        ({"model": MODEL, "input": "a", "dimensions": 1537}, 400, "dimensions"),
        ({"model": "text-embedding-ada-002", "input": "a", "dimensions": 8}, 400, "dimensions"),
        ({"model": "text-embedding-9", "input": "a"}, 404, "`text-embedding-9` does not exist"),
        ({"model": "gpt-4o", "input": "a"}, 404, "gpt-4o"),
        ({"model": "gpt-secret", "input": "a"}, 403, "does not have access"),
        ({"input": "a"}, 400, "model"),
        ([], 400, "object"),
    ],
)
def test_a_wrong_request_is_refused_as_openai_does(sim: Simulator, asked: object, status: int, words: str) -> None:
    came = ask(sim, asked)
    assert came.status == status
    assert words in came.json()["error"]["message"]
    assert sim.log()[-1]["refused"] == "request"


def test_a_wrong_key_is_quoted_in_the_refusal(sim: Simulator) -> None:
    came = ask(sim, {"model": MODEL, "input": "a"}, key="sk-wrong-1234")
    assert came.status == 401
    assert "Incorrect API key provided: sk-wrong-1234." in came.json()["error"]["message"]
    anthropics = ask(sim, {}, "/v1/messages", key="sk-wrong-1234")
    assert anthropics.json()["error"]["type"] == "authentication_error"


def test_the_log_and_the_bill_count_every_text(sim: Simulator) -> None:
    sim.reset()
    embed(sim, "one", "two")
    embed(sim, "two")
    embed(sim, "")
    first, second, wrong = sim.log(texts=True)
    hashed = {text: hashlib.sha256(text.encode()).hexdigest() for text in ("one", "two")}
    assert first["texts"] == [hashed["one"], hashed["two"]]
    assert first["arrived"] <= first["admitted"] <= first["replied"] <= second["arrived"]
    assert (first["billed"], wrong["billed"], wrong["status"]) == (True, False, 400)
    bill = sim.bill()
    assert [sim.billed(text) for text in ("one", "two", "three")] == [1, 2, 0]
    assert bill["texts"] == {hashed["one"]: 1, hashed["two"]: 2}
    assert bill["models"][MODEL]["requests"] == 2
    assert bill["usd"] == pytest.approx(bill["tokens"] * 0.02 / 1e6)


def test_cl100k_counts_as_tiktoken_defines_it() -> None:
    count = counter("cl100k")
    # from OpenAI's cookbook, "How to count tokens with tiktoken"
    assert [count(text) for text in ("tiktoken is great!", "antidisestablishmentarianism", "お誕生日おめでとう")] == [
        6,
        6,
        9,
    ]
    assert count("<|endoftext|>") == 7  # as text, not as the token of that name


def test_vectors_are_of_unit_length_distinct_and_always_the_same() -> None:
    digests = [digest(f"text {number}") for number in range(5_000)]
    made = vectors(MODEL, digests)
    assert made.shape == (5_000, 1536)
    assert made.dtype == np.float32
    assert np.allclose(np.linalg.norm(made, axis=1), 1, atol=1e-6)
    assert np.array_equal(made[7:9], vectors(MODEL, digests[7:9]))
    assert len(np.unique(vectors(MODEL, digests, 16), axis=0)) == 5_000
    assert not np.allclose(made[0, :16], vectors("text-embedding-ada-002", digests[:1])[0, :16])
    assert vectors("text-embedding-3-large", digests[:1]).shape == (1, 3072)


def test_texts_that_draw_the_same_slices_have_vectors_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.provider.vectors._table", lambda width: np.zeros((1 << 16, width), np.float32))
    assert len(np.unique(vectors(MODEL, [digest("one"), digest("two")]), axis=0)) == 2
