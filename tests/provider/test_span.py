"""The least time of whole runs, from the log: no client is quicker, and one that does it right is nearly as quick."""

from __future__ import annotations

import asyncio
import heapq
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import provider
from tests.provider import Options
from tests.provider.least import Work
from tests.provider.limiter import Limiter
from tests.provider.log import Entry, work
from tests.provider.wire import MODEL


def entry(number: int, admitted: float, tokens: float, charged: float | None = None) -> Entry:
    amounts = {"requests": 1.0, "tokens": tokens}
    made = Entry(number, "POST", "/v1/embeddings", admitted, amounts=amounts, admitted=admitted)
    made.charged = admitted if charged is None else charged
    return made


def test_what_was_charged_before_the_last_request() -> None:
    run = [entry(1, 0.0, 100), entry(2, 5.0, 30), entry(3, 2.0, 40)]
    assert work(run) == {"requests": Work(2, 1), "tokens": Work(140, 30)}
    late = [entry(1, 0.0, 100, 4.0), entry(2, 5.0, 30, 9.0), entry(3, 2.0, 40, 6.0)]
    assert work(late) == {"requests": Work(2, 1), "tokens": Work(100, 30)}


@given(
    st.sampled_from(["bucket60", "bucket1", "sliding", "minute"]),
    st.booleans(),
    st.sampled_from([0.0, 0.3]),
    st.lists(st.tuples(st.integers(1, 300), st.floats(0, 20)), min_size=1, max_size=30),
    st.integers(1, 6),
)
def test_no_run_of_workers_is_quicker(
    rule: str, completion: bool, share: float, requests: list[tuple[int, float]], workers: int
) -> None:
    completion = completion and rule.startswith("bucket")  # a window forgets what it was overdrawn by
    options = Options(rule=rule, charge="completion" if completion else "arrival", second_consumer=share, drained=True)
    limiter = Limiter(options, 0.0, {"requests": 30.0, "tokens": 600.0})
    free = [0.0] * workers
    run: list[Entry] = []
    replies: list[tuple[float, int]] = []
    left, now = list(requests), 0.0
    while left:
        now = max(now, heapq.heappop(free))
        while replies and replies[0][0] <= now:
            when, place = heapq.heappop(replies)
            limiter.done(when, run[place].amounts)
        tokens, service = left[0]
        refused = limiter.ask(now, {"requests": 1, "tokens": tokens})
        if refused:
            heapq.heappush(free, now + refused.seconds + 1e-6)
            continue
        left.pop(0)
        run.append(entry(len(run), now, tokens, now + service if completion else None))
        heapq.heappush(replies, (now + service, len(run) - 1))
        heapq.heappush(free, now + service)
    assert max(limiter.least(work(run)).values()) <= now + 1e-3


@pytest.mark.parametrize("rule", ["bucket60", "bucket1"])
def test_a_client_that_waits_as_told_is_nearly_as_quick_as_can_be(rule: str) -> None:
    async def send(client: httpx2.AsyncClient, left: list[int], key: str) -> None:
        while left:
            number = left.pop()
            body: dict[str, Any] = {"model": MODEL, "input": f"n{number} " + "word " * 4999}
            while True:
                reply = await client.post("embeddings", json=body, headers={"authorization": f"Bearer {key}"})
                if reply.status_code == 200:
                    break
                await asyncio.sleep(float(reply.headers["retry-after"]))

    async def run() -> None:
        async with httpx2.AsyncClient(base_url=sim.url) as client:
            left = list(range(24))
            await asyncio.gather(*(send(client, left, sim.key) for _ in range(4)))

    # 120,000 tokens at 200,000 a second, and what the first second may hold
    with provider.running(Options(rule=rule, tpm=12_000_000, drained=True, base_ms=20)) as sim:
        asyncio.run(run())
        span = sim.span()
        assert span["admitted_tokens"] == 120_000
        assert span["least"] == pytest.approx(0.62, abs=0.001)
        assert span["least"] <= span["actual"] < 5 * span["least"]
