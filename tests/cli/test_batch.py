"""`ragline index --batch` as a user meets it: what it says, what it exits with, what stands beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.batches.house import settled
from tests.batches.making import NEVER, NOW
from tests.provider import Options, Simulator, threaded

KEY = "sk-canary-5f0c1e7d9ab2"
MODEL = "openai/text-embedding-3-small"


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with threaded(Options(batch=NOW, key=KEY)) as running:
        yield running


@pytest.fixture
def batch(
    ragline: Callable[..., Any], sim: Simulator, place: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    monkeypatch.setenv("SIM_KEY", KEY)
    with (place / "ragline.toml").open("a") as file:
        file.write(f'[embedding]\nmodel = "{MODEL}"\nbase_url = "{sim.url}"\napi_key_env = "SIM_KEY"\n')
        file.write(f'[prices]\n"{MODEL}" = {{ input = 0.02, batch = 0.01 }}\n')
    return ragline


def test_submitted_told_picked_up_and_published(batch: Callable[..., Any], sim: Simulator) -> None:
    online, half = batch("plan", "--json").json, batch("plan", "--batch", "--json").json
    assert half["usd"] == pytest.approx(online["usd"] / 2)
    planned = batch("plan", "--batch")
    assert "in 1 line of batches, within a day" in planned.out
    assert "(prices of settings, by the batch)" in planned.out
    first = batch("index", "--batch", "--runner", "direct")
    assert first.code == 0
    assert "submitted 3 texts" in first.out
    assert "in 1 batch: batch_sim000001" in first.out
    assert "`ragline index --batch` again picks up what has ended" in first.out
    settled(sim.url)
    assert "batches    batch_sim000001" in batch("status").out
    second = batch("index", "--batch", "--runner", "direct", "--json").json
    assert (second["reason"], second["version"], second["embedded"], second["batches"]) == ("published", 1, 3, [])
    assert second["billed"]["usd"] == pytest.approx(second["billed"]["tokens"] * 0.01 / 1e6)
    assert "batches" not in batch("status").out
    assert "ragline index --batch" in batch("spend").out
    assert batch("ask", "Who closes the pass?").code == 0


def test_waiting_is_no_failure_and_others_may_not_pay(batch: Callable[..., Any], sim: Simulator) -> None:
    sim.batches(**NEVER)
    first = batch("index", "--batch", "--runner", "direct", "--json")
    assert (first.code, first.json["ok"], first.json["reason"], first.json["version"]) == (
        0,
        True,
        "batch_submitted",
        None,
    )
    (shown,) = first.json["batches"]
    assert (shown["batch_id"], shown["texts"], shown["state"]) == ("batch_sim000001", 3, "submitted")
    again = batch("index", "--batch", "--runner", "direct", "--json").json
    assert (again["reason"], again["published"]) == ("batch_waiting", False)
    assert batch("status", "--json").json["last_try"]["reason"] == "batch_waiting"
    refused = batch("index", "--runner", "direct", "--json")
    assert refused.code == 3
    assert refused.json["error"]["type"] == "InBatch"
    assert "--ignore-batches" in refused.json["error"]["problems"][0]["remedy"]
    planned = batch("plan")
    assert "(exit 3)" in planned.err
    assert batch("index", "--ignore-batches", "--runner", "direct").code == 0


def test_a_plan_that_was_kept_is_submitted_and_picked_up(
    batch: Callable[..., Any], sim: Simulator, place: Path
) -> None:
    planned = batch("plan", "--batch", "--out", "plan.json")
    assert "kept as plan.json: `ragline index --batch --plan plan.json` does" in planned.out
    assert batch("index", "--plan", "plan.json", "--runner", "direct").code == 1, "that would cost twice as much"
    assert batch("index", "--batch", "--plan", "plan.json", "--runner", "direct").code == 0
    settled(sim.url)
    assert "version 1 is live" in batch("index", "--batch", "--plan", "plan.json", "--runner", "direct").out


def test_what_cannot_be_is_one_clear_message(batch: Callable[..., Any], sim: Simulator, place: Path) -> None:
    local = batch("index", "--batch", "--set", "embedding.model=local/wordllama", "--set", "embedding.base_url=")
    assert local.code == 2
    assert "takes no batches" in local.err
    over = batch("index", "--batch", "--runner", "direct", "--max-tokens", "1")
    assert over.code == 4
    sim.faults({"fault": "404", "path": "POST /v1/files"})
    none = batch("index", "--batch", "--runner", "direct")
    assert none.code == 2
    assert "offers no batches" in none.err
    sim.faults({"fault": "401", "path": "POST /v1/files"})
    wrong = batch("index", "--batch", "--runner", "direct")
    assert wrong.code == 2
    sim.faults()
    sim.batches(max_bytes=10)
    large = batch("index", "--batch", "--runner", "direct")
    assert large.code == 1
    assert "413" in large.err
    assert "chunking" not in large.err, "no text is too long"
    assert sim.bill()["texts"] == {}
    for said in (local, over, none, wrong, large):
        assert KEY not in said.out + said.err
    assert not [path for path in (place / "store").rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]


def test_a_lost_batch_is_told_with_the_way_on(batch: Callable[..., Any], sim: Simulator) -> None:
    batch("index", "--batch", "--runner", "direct")
    settled(sim.url)
    sim.forget("batch_sim000001")
    lost = batch("index", "--batch", "--runner", "direct")
    assert lost.code == 1
    assert "batch_sim000001 (3 texts" in lost.err
    assert "--ignore-batches" in lost.err
    assert batch("index", "--batch", "--ignore-batches", "--runner", "direct").code == 0
    settled(sim.url)
    assert "version 1 is live" in batch("index", "--batch", "--runner", "direct").out
