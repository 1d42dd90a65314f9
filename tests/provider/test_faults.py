"""Every fault, seen over a bare socket, where no client can hide it; and where faults strike."""

from __future__ import annotations

import base64
import json
import math
import socket
import time
from email.utils import parsedate_to_datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import provider
from tests.provider import Options, Simulator
from tests.provider.faults import DAMAGES, DELIVERIES, INSTEAD, NAMES
from tests.provider.placement import Placement
from tests.provider.wire import MODEL, Came, ask, connected, embed, post

TEXTS = ("one", "two", "three")


def struck(fault: str, *texts: str, **placed: Any) -> tuple[Came, Came, dict[str, Any], dict[str, int]]:
    """A right reply, then the one with the fault, its entry in the log, and the bill for the second."""
    with provider.threaded() as sim:
        right = embed(sim, *(texts or TEXTS), encoding_format="base64")
        sim.reset()
        sim.faults({"fault": fault, **placed})
        came = embed(sim, *(texts or TEXTS), encoding_format="base64")
        return right, came, sim.log()[0], sim.bill()["texts"]


def rows(came: Came) -> list[np.ndarray]:
    return [np.frombuffer(base64.b64decode(item["embedding"]), np.float32) for item in came.json()["data"]]


STATUSES = {
    "429": 429,
    "429_quota": 429,
    "429_after_0": 429,
    "429_after_1": 429,
    "429_after_0.5": 429,
    "429_after_date": 429,
    "429_after_3600": 429,
    "429_after_garbage": 429,
    "500": 500,
    "502": 502,
    "503": 503,
    "529": 529,
    "400_context": 400,
    "400_nameless": 400,
    "401": 401,
    "403": 403,
    "404": 404,
    "408": 408,
    "409": 409,
}


@pytest.mark.parametrize("fault", STATUSES)
def test_a_refusal_by_fault_is_neither_charged_nor_billed(fault: str) -> None:
    _, came, entry, bill = struck(fault)
    assert came.status == entry["status"] == STATUSES[fault]
    assert (entry["fault"], entry["refused"], entry["admitted"], entry["billed"]) == (fault, "fault", None, False)
    assert bill == {}
    if fault.startswith("429_after"):
        after = came.headers["retry-after"]
        if fault == "429_after_date":
            assert 0 <= parsedate_to_datetime(after).timestamp() - time.time() <= 2
        else:
            assert after == {"garbage": "soon, we hope"}.get(fault.removeprefix("429_after_"), after)
            assert fault.endswith((after, "garbage"))
    elif fault.startswith("429"):
        assert "retry-after" not in came.headers
    if fault == "429_quota":
        assert came.json()["error"]["code"] == "insufficient_quota"
    if fault == "401":
        assert provider.KEY in came.json()["error"]["message"]
    if fault == "404":
        assert MODEL in came.json()["error"]["message"]


def test_the_anthropic_form_of_a_refusal() -> None:
    with provider.threaded(Options(faults=({"fault": "529"},))) as sim:
        asked = {"model": "claude-opus-5", "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]}
        assert ask(sim, asked, "/v1/messages").json()["error"]["type"] == "overloaded_error"


@pytest.mark.parametrize(("fault", "body"), [("html", b"<html>"), ("empty_object", b"{}"), ("error_inside", b"error")])
def test_a_status_of_200_that_is_no_answer(fault: str, body: bytes) -> None:
    _, came, entry, bill = struck(fault)
    assert came.status == 200
    assert body in came.body
    assert (entry["billed"], bill) == (False, {})


def test_the_damages_of_vectors() -> None:
    for fault in DAMAGES:
        right, came, entry, bill = struck(fault)
        assert (entry["fault"], entry["billed"], len(bill)) == (fault, True, 3)
        given, good = came.json()["data"], right.json()["data"]
        indexes, values = [item.get("index") for item in given], rows(came)
        match fault:
            case "reversed":
                assert given == good[::-1]
            case "short":
                assert given == good[:2]
            case "long":
                assert given[:3] == good
                assert indexes == [0, 1, 2, 3]
            case "duplicate":
                assert indexes == [0, 1, 0]
            case "missing_index":
                assert indexes == [0, 1, None]
            case "nan":
                assert math.isnan(values[1][0])
            case "inf":
                assert math.isinf(values[1][0])
            case "zero":
                assert not values[1].any()
            case "float16":
                assert [len(row) for row in values] == [768] * 3
            case "wrong_dimension":
                assert [len(row) for row in values] == [1535] * 3
            case "other_model":
                assert came.json()["model"] != MODEL
            case "same_vector":
                assert indexes == [0, 1, 2]
                assert len({item["embedding"] for item in given}) == 1
            case _:
                pytest.fail(f"nobody looked at {fault}")


def test_a_nan_also_travels_as_a_number() -> None:
    with provider.threaded(Options(faults=({"fault": "nan"},))) as sim:
        assert b"[NaN," in embed(sim, "one").body


def test_one_input_alone_can_be_damaged_too() -> None:
    _, came, _, _ = struck("duplicate", "one")
    assert [item["index"] for item in came.json()["data"]] == [0, 0]
    _, came, _, _ = struck("short", "one")
    assert came.json()["data"] == []


def test_the_deliveries_of_a_reply_that_is_billed() -> None:
    for fault in DELIVERIES:
        right, came, entry, bill = struck(fault, seconds=0.05)
        assert (entry["fault"], entry["billed"], len(bill)) == (fault, True, 3)
        match fault:
            case "reset_late":
                assert came.ended == "reset"
                assert b"HTTP/1.1 200" in came.raw
                assert len(came.body) < len(right.body)
            case "half":
                assert came.ended == "closed"
                assert came.body == right.body[: len(right.body) // 2]
                assert int(came.headers["content-length"]) == len(right.body)
            case "drip":
                assert came.body == right.body
                assert entry["replied"] - entry["admitted"] >= 0.05
            case "lost":
                assert (came.raw, came.ended) == (b"", "closed")
            case "repeated":
                assert came.raw.count(b"HTTP/1.1 200") == 2
                assert came.raw.endswith(right.body)
            case _:
                pytest.fail(f"nobody looked at {fault}")


def test_a_reset_before_the_body_is_not_billed() -> None:
    _, came, entry, bill = struck("reset")
    assert (came.raw, came.ended) == (b"", "reset")
    assert (entry["billed"], bill) == (False, {})


def test_a_hang_says_nothing_until_the_client_gives_up() -> None:
    with provider.threaded(Options(faults=({"fault": "hang", "times": 1},))) as sim:
        came = ask(sim, {"model": MODEL, "input": "a"}, quiet=0.1)
        assert (came.raw, came.ended) == (b"", "quiet")
        assert embed(sim, "a").status == 200


def test_connections_are_refused_for_a_moment_and_idle_ones_dropped() -> None:
    with provider.threaded(Options(faults=({"fault": "refused", "at": [2], "seconds": 0.2},))) as sim:
        with connected(sim) as idle:
            idle.sendall(post("/v1/embeddings", {"model": MODEL, "input": "a"}, sim.key, keep=True))
            assert idle.recv(100).startswith(b"HTTP/1.1 200")
            assert embed(sim, "a").ended == "reset"
            with pytest.raises(ConnectionRefusedError):
                embed(sim, "a")
            assert _drained(idle).endswith(b"}"), "what was on its way arrives before it ends"
        _until_it_is_back(sim)
        assert embed(sim, "a").status == 200


def _drained(line: socket.socket) -> bytes:
    found = b""
    while more := line.recv(1 << 16):
        found += more
    return found


def _until_it_is_back(sim: Simulator) -> None:
    for _ in range(100):
        try:
            connected(sim).close()
        except ConnectionRefusedError:
            time.sleep(0.02)
        else:
            return
    pytest.fail("it did not come back")


def test_a_poisoned_text_brings_down_every_request_that_holds_it() -> None:
    faults = ({"fault": "400_context", "text": "poison"}, {"fault": "400_nameless", "text": "venom"})
    with provider.threaded(Options(faults=faults)) as sim:
        assert embed(sim, "a", "b").status == 200
        named = embed(sim, "a", "b", "some poison here")
        assert named.status == 400
        assert "input[2]" in named.json()["error"]["message"]
        nameless = embed(sim, "venom", "b")
        assert nameless.status == 400
        assert "[" not in nameless.json()["error"]["message"]


def test_faults_strike_where_they_are_placed() -> None:
    with provider.threaded(Options(faults=({"fault": "500", "at": [1, 3]},))) as sim:
        assert [embed(sim, "a").status for _ in range(4)] == [500, 200, 500, 200]
        sim.faults({"fault": "503", "times": 2})
        sim.add_fault(fault="409", path="/v1/files")
        assert [embed(sim, "a").status for _ in range(3)] == [503, 503, 200]
        assert ask(sim, {}, "/v1/files").status == 409
        sim.faults()
        assert embed(sim, "a").status == 200
        with pytest.raises(ValueError, match="no such faults"):
            sim.faults({"fault": "flood"})
        with pytest.raises(ValueError, match="a placement has no"):
            sim.faults({"fault": "500", "when": 3})


@given(st.integers(0, 1000), st.floats(0.1, 0.9))
def test_a_seeded_mix_is_the_same_every_time(seed: int, rate: float) -> None:
    def drawn() -> list[object]:
        placed = Placement(faults=["500", "lost", "nan"], rate=rate, seed=seed)
        return [placed.strikes("POST /v1/embeddings", ["a"]) for _ in range(200)]

    assert drawn() == drawn()
    assert sum(each is not None for each in drawn()) == pytest.approx(200 * rate, abs=45)


def test_every_fault_has_one_name() -> None:
    assert len(NAMES) == len(INSTEAD) + len(DELIVERIES) + len(DAMAGES)
    assert set(INSTEAD) == {*STATUSES, "html", "empty_object", "error_inside", "reset", "hang", "refused"}


def test_a_chat_stream_can_be_cut() -> None:
    with provider.threaded(Options(faults=({"fault": "half"},))) as sim:
        asked = {"model": "gpt-4o", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
        came = ask(sim, asked, "/v1/chat/completions")
        assert came.headers["content-type"].startswith("text/event-stream")
        assert b"data: " in came.body
        assert b"[DONE]" not in came.body
        assert json.loads(came.body.split(b"data: ")[1].split(b"\n")[0])["object"] == "chat.completion.chunk"
