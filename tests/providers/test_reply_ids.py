"""A reply that comes twice is never taken for the reply to another request, and connections are kept where that is sure."""

from __future__ import annotations

import asyncio
import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest

from rag.providers.openai_api import OpenAIEmbedding
from rag.providers.settings import ModelSettings, Surroundings
from tests import provider
from tests.provider import Simulator
from tests.provider.vectors import digest, vectors
from tests.servers.virtual import VirtualClock

MODEL = "text-embedding-3-small"


@pytest.fixture(scope="module")
def sim() -> Iterator[Simulator]:
    with provider.threaded() as sim:
        yield sim


async def one_after_the_other(model: OpenAIEmbedding, count: int) -> list[np.ndarray]:
    try:
        return [(await model.embed([f"text {at}"], "passage")).vectors[0] for at in range(count)]
    finally:
        await model.close()


def model_of(url: str, key: str = "sk-some-key-123") -> OpenAIEmbedding:
    settings = ModelSettings(f"openai/{MODEL}", url, "KEY", dimensions=8)
    return OpenAIEmbedding(settings, Surroundings(VirtualClock(), {"KEY": key}))


@pytest.mark.parametrize("at", [[2], [1, 2, 3], [2, 4, 5]])
def test_a_reply_that_comes_twice_is_not_taken_for_the_next(sim: Simulator, at: list[int]) -> None:
    sim.reset()
    sim.faults({"fault": "repeated", "at": at})
    found = asyncio.run(one_after_the_other(model_of(sim.url, sim.key), 6))
    assert np.array_equal(found, vectors(MODEL, [digest(f"text {number}") for number in range(6)], 8))
    assert len(sim.log()) <= 6 + len(at)


@dataclass
class Plain:
    """A server that counts connections; `ids` are given to its replies in their order, the last one again and again."""

    ids: list[str]
    url: str = ""
    connections: set[tuple[str, int]] = field(default_factory=set)
    replies: int = 0


@pytest.fixture
def plain() -> Iterator[Plain]:
    served = Plain([""])

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            served.connections.add(self.client_address)
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            made = vectors(MODEL, [digest(text) for text in asked["input"]], 8).tolist()
            data = [{"index": place, "embedding": vector} for place, vector in enumerate(made)]
            body = json.dumps({"model": MODEL, "data": data, "usage": {"prompt_tokens": 2}}).encode()
            self.send_response(200)
            if found := served.ids[min(served.replies, len(served.ids) - 1)]:
                self.send_header("x-request-id", found)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            served.replies += 1

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        served.url = f"http://127.0.0.1:{server.server_port}/v1"
        yield served
        server.shutdown()


@pytest.mark.parametrize(
    ("ids", "connections", "replies"),
    [
        (["a", "b", "c", "d", "e", "f"], 2, 6),
        ([""], 6, 6),
        (["always the same"], 7, 7),
    ],
)
def test_a_connection_is_used_again_where_replies_can_be_told_apart(
    plain: Plain, ids: list[str], connections: int, replies: int
) -> None:
    plain.ids = ids
    found = asyncio.run(one_after_the_other(model_of(plain.url), 6))
    assert np.allclose(found, vectors(MODEL, [digest(f"text {number}") for number in range(6)], 8))
    assert (len(plain.connections), plain.replies) == (connections, replies)
