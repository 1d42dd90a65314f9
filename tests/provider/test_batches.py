"""The Batch API from end to end, through OpenAI's own client."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import numpy as np
import openai
import pytest
from openai.types import Batch

from tests import provider
from tests.provider import Options, Simulator
from tests.provider.vectors import digest, vectors
from tests.provider.wire import MODEL

QUICK = {"seconds": [0.01, 0.02, 0.01]}


def line(name: str, given: object = "a b", **changed: object) -> dict[str, object]:
    body = {"model": MODEL, "input": given, "encoding_format": "base64"}
    return {"custom_id": name, "method": "POST", "url": "/v1/embeddings", "body": body, **changed}


LINES = [line(f"n{number}", [f"text {number}", "shared"]) for number in range(10)]


async def created(client: openai.AsyncOpenAI, lines: Sequence[object]) -> Batch:
    content = "\n".join(each if isinstance(each, str) else json.dumps(each) for each in lines).encode()
    file = await client.files.create(file=("lines.jsonl", content), purpose="batch")
    return await client.batches.create(input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h")


async def ended(client: openai.AsyncOpenAI, batch: Batch, *also: str) -> Batch:
    while batch.status not in {"completed", "failed", "expired", "cancelled", *also}:
        await asyncio.sleep(0.005)
        batch = await client.batches.retrieve(batch.id)
    return batch


async def read(client: openai.AsyncOpenAI, name: str | None) -> list[Any]:
    assert name is not None
    return [json.loads(each) for each in (await client.files.content(name)).text.splitlines()]


def run(sim: Simulator, story: Callable[[openai.AsyncOpenAI], Coroutine[Any, Any, None]]) -> None:
    async def told() -> None:
        async with openai.AsyncOpenAI(base_url=sim.url, api_key=sim.key, max_retries=0) as client:
            await story(client)

    asyncio.run(told())


def test_a_batch_completes_in_any_order_and_is_billed_at_half() -> None:
    async def story(client: openai.AsyncOpenAI) -> None:
        batch = await created(client, LINES)
        assert batch.status == "validating"
        for status in ("in_progress", "finalizing", "completed"):
            batch = await ended(client, batch, status)
            assert batch.status == status
        assert batch.request_counts is not None
        assert batch.request_counts.model_dump() == {"total": 10, "completed": 10, "failed": 0}
        assert batch.error_file_id is None
        results = await read(client, batch.output_file_id)
        names = [result["custom_id"] for result in results]
        assert sorted(names) == [each["custom_id"] for each in LINES]
        assert names != sorted(names)
        body = next(result for result in results if result["custom_id"] == "n3")["response"]["body"]
        assert body["usage"]["total_tokens"] == 3
        got = np.frombuffer(base64.b64decode(body["data"][0]["embedding"]), np.float32)
        assert np.array_equal(got, vectors(MODEL, [digest("text 3")])[0])

    with provider.threaded(Options(batch={"seconds": [0.1, 0.1, 0.1]})) as sim:
        run(sim, story)
        bill = sim.bill()
        assert bill["models"][MODEL]["batch_tokens"] == 30
        assert bill["usd"] == pytest.approx(30 * 0.02 / 1e6 / 2)
        assert bill["texts"][digest("shared").hex()] == 10


def test_lines_that_fail_stand_in_the_error_file() -> None:
    async def story(client: openai.AsyncOpenAI) -> None:
        batch = await ended(client, await created(client, [*LINES, line("empty", "")]))
        assert batch.status == "completed"
        assert batch.request_counts is not None
        assert (batch.request_counts.completed, batch.request_counts.failed) == (7, 4)
        failures = {
            each["custom_id"]: each["response"]["status_code"] for each in await read(client, batch.error_file_id)
        }
        assert failures == {"n1": 500, "n4": 500, "n9": 500, "empty": 400}

    with provider.threaded(Options(batch={**QUICK, "fail": ["n1"], "fail_every": 5})) as sim:
        run(sim, story)
        assert sim.bill()["models"][MODEL]["batch_tokens"] == 21


def test_lines_are_refused_damaged_and_repeated_by_their_texts() -> None:
    async def story(client: openai.AsyncOpenAI) -> None:
        batch = await ended(client, await created(client, LINES))
        (refused,) = await read(client, batch.error_file_id)
        assert refused["custom_id"] == "n3"
        assert "input[0]" in refused["response"]["body"]["error"]["message"]
        results = await read(client, batch.output_file_id)
        assert sorted(each["custom_id"] for each in results) == [
            f"n{number}" for number in (0, 1, 2, 4, 5, 5, 6, 7, 8, 9)
        ]
        lengths = {each["custom_id"]: len(each["response"]["body"]["data"]) for each in results}
        assert {name for name, length in lengths.items() if length != 2} == {"n7"}

    terms = {"refuse": "text 3", "refusal": "400_context", "damage": "short", "damaged": "text 7", "repeat": "text 5"}
    with provider.threaded(Options(batch={**QUICK, **terms})) as sim:
        run(sim, story)
        assert sim.billed("text 5") == 1


def test_a_window_that_closes_leaves_a_part() -> None:
    async def story(client: openai.AsyncOpenAI) -> None:
        batch = await ended(client, await created(client, LINES))
        assert batch.status == "expired"
        done = await read(client, batch.output_file_id)
        left = await read(client, batch.error_file_id)
        assert (len(done), len(left)) == (4, 6)
        assert {each["error"]["code"] for each in left} == {"batch_expired"}
        assert {each["custom_id"] for each in done + left} == {each["custom_id"] for each in LINES}

    with provider.threaded(Options(batch=QUICK)) as sim:
        sim.batches(expire=0.4)
        run(sim, story)
        assert sim.bill()["models"][MODEL]["batch_tokens"] == 12


def test_a_cancelled_batch_keeps_what_was_done() -> None:
    async def story(client: openai.AsyncOpenAI) -> None:
        batch = await created(client, LINES)
        while batch.request_counts is None or batch.request_counts.completed < 2:
            await asyncio.sleep(0.005)
            batch = await client.batches.retrieve(batch.id)
        assert (await client.batches.cancel(batch.id)).status == "cancelling"
        batch = await ended(client, batch)
        assert batch.status == "cancelled"
        assert 2 <= len(await read(client, batch.output_file_id)) < 10
        with pytest.raises(openai.ConflictError):
            await client.batches.cancel(batch.id)
        early = await client.batches.cancel((await created(client, LINES)).id)
        assert (await ended(client, early)).output_file_id is None

    with provider.threaded(Options(batch={"seconds": [0.1, 1.0, 0.01]})) as sim:
        run(sim, story)


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ([LINES[0], LINES[0]], "duplicate_custom_id"),
        (["{"], "invalid_json_line"),
        ([], "empty_file"),
        ([line("a", custom_id=None)], "missing_required_parameter"),
        ([line("a", body=None)], "missing_required_parameter"),
        ([line("a", url="/v1/chat/completions")], "mismatched_endpoint"),
        ([line("a", method="GET")], "invalid_method"),
        ([line("a"), line("b", body={"model": "text-embedding-3-large", "input": "a"})], "mismatched_model"),
        ([line("a", ["x"] * 31)], "too_many_inputs"),
        ([line(f"a{number}") for number in range(21)], "too_many_requests"),
        ([line("a", ["x y z"] * 30)], "token_limit_exceeded"),
    ],
)
def test_a_wrong_file_fails_the_batch_later_and_costs_nothing(lines: list[object], code: str) -> None:
    async def story(client: openai.AsyncOpenAI) -> None:
        batch = await ended(client, await created(client, lines))
        assert batch.status == "failed"
        assert batch.errors is not None
        assert batch.errors.data is not None
        assert batch.errors.data[0].code == code

    terms = {**QUICK, "max_inputs": 30, "max_requests": 20, "enqueued_tokens": 80}
    with provider.threaded(Options(batch=terms)) as sim:
        run(sim, story)
        assert sim.bill()["tokens"] == 0


def test_enqueued_tokens_come_free_when_a_batch_ends() -> None:
    async def story(client: openai.AsyncOpenAI) -> None:
        first = await ended(client, await created(client, LINES), "in_progress")
        assert (await ended(client, await created(client, LINES))).status == "failed"
        await ended(client, first)
        assert (await ended(client, await created(client, LINES))).status == "completed"

    with provider.threaded(Options(batch={"seconds": [0.01, 0.4, 0.01], "enqueued_tokens": 50})) as sim:
        run(sim, story)


def test_files_and_batches_are_listed_deleted_and_forgotten() -> None:
    async def story(client: openai.AsyncOpenAI) -> None:
        batches = [await created(client, LINES[:1]) for _ in range(5)]
        pages = await client.batches.list(limit=2)
        assert [batch.id for batch in pages.data] == [batches[4].id, batches[3].id]
        assert [batch.id async for batch in pages] == [batch.id for batch in batches[::-1]]
        sim.forget(batches[0].id)
        with pytest.raises(openai.NotFoundError):
            await client.batches.retrieve(batches[0].id)
        name = batches[1].input_file_id
        assert (await client.files.retrieve(name)).filename == "lines.jsonl"
        assert name in [file.id async for file in client.files.list()]
        assert (await client.files.delete(name)).deleted
        with pytest.raises(openai.NotFoundError):
            await client.files.content(name)
        with pytest.raises(openai.BadRequestError):
            await client.files.create(file=("x", b"{}"), purpose="fine-tune")
        with pytest.raises(openai.NotFoundError):
            await client.batches.create(input_file_id="file-9", endpoint="/v1/embeddings", completion_window="24h")
        sim.batches(max_bytes=10)
        with pytest.raises(openai.APIStatusError, match="too large"):
            await created(client, LINES)

    with provider.threaded(Options(batch=QUICK)) as sim:
        run(sim, story)


def test_a_batch_whose_reply_was_lost_is_there_all_the_same() -> None:
    async def story(client: openai.AsyncOpenAI) -> None:
        with pytest.raises(openai.APIConnectionError):
            await created(client, LINES)
        assert len((await client.batches.list()).data) == 1

    with provider.threaded(Options(batch=QUICK, faults=({"fault": "lost", "path": "POST /v1/batches"},))) as sim:
        run(sim, story)
