"""What a plan foresees is what the provider bills: tokens and dollars exactly, requests where limits are known, minutes."""

from __future__ import annotations

import json
import shutil
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rag.clock import SystemClock
from rag.embedding import ledger
from rag.embedding.plan import Plan
from rag.index.manifest import BUILD
from rag.index.versions import Versions
from rag.pipeline import Outcome
from rag.sealed import read_sealed
from tests import provider
from tests.provided import MODEL, ProvidedHouse
from tests.provider import Options, Simulator

ROOT = Path(__file__).resolve().parents[2]
USD_PER_MILLION = 0.0213
"""Not the simulator's own price, and no round number of anything."""
ODD = (
    "Emoji 👩‍👩‍👧‍👦 and 🇫🇮, Ελληνικά, русский, 日本語の文章です。 ไม่มีช่องว่าง",
    "<|endoftext|> is a word here, and so are <|im_start|> and <|fim_prefix|>.",
    "1234567890123456789012345678901234567890 3.14159 0x7fff 1e-9",
    "tabs\tand   runs    of     spaces \u00a0 and\u2003wide ones",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "def f(x):\n    return {k: v for k, v in x.items() if v != 0}  # it's we'll I'M",
    "e\u0301 is not \u00e9, and \ufeff is a mark, \u200b is nothing",
)


@pytest.fixture(autouse=True)
def no_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """To read the machine's certificates takes a client longer than all its requests on loopback, which need none."""
    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", lambda *_, **__: None)


@pytest.fixture(scope="module", params=["exact", "absent"])
def sim(request: pytest.FixtureRequest) -> Iterator[Simulator]:
    """One whose limits nobody meets, but a client that is told of them cuts its requests for them."""
    options = Options(tokens="cl100k", headers=request.param, rpm=3_000, tpm=100_000_000)
    with provider.running(options) as running:
        yield running


def house_of(root: Path, sim: Simulator, **embedding: Any) -> ProvidedHouse:
    """The mountain and the people of the shipped corpus, and texts that are hard to count."""
    house = ProvidedHouse(root, sim, texts=None, tokenizer="cl100k_base", **embedding)
    for part in ("mountain", "people"):
        shutil.copytree(ROOT / "data/corpus" / part, house.corpus / part)
    for number, text in enumerate(ODD):
        house.write(f"odd/{number}.txt", text)
    house.sets = [f"prices.{MODEL}={{input={USD_PER_MILLION}}}"]
    return house


def billed_as_planned(house: ProvidedHouse, plan: Plan, outcome: Outcome) -> None:
    bill = house.sim.bill()
    assert plan.tokens_exact
    assert plan.tokens == bill["tokens"] == outcome.usage.input_tokens
    assert set(bill["texts"].values()) == {1}
    assert len(bill["texts"]) == plan.to_embed == outcome.embedded
    usd = bill["tokens"] * USD_PER_MILLION / 1e6
    (line,) = ledger.entries(house.store)
    build = read_sealed(Versions(house.store, "main").folder(1) / BUILD)
    assert plan.usd == outcome.usage.usd == line.usd == build["usd"] == usd
    assert (line.tokens, build["tokens"]) == (plan.tokens, plan.tokens)
    assert outcome.usage.requests == line.requests == build["requests"] == len(house.sim.log())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limits", "requests"),
    [
        ({}, 3),
        ({"tokens_per_minute": 600_000}, 20),
        ({"requests_per_minute": 240, "tokens_per_minute": 600_000}, 16),
        ({"requests_per_minute": 600}, 3),
    ],
)
def test_tokens_and_dollars_are_exact_and_requests_where_the_settings_say_the_limits(
    tmp_path: Path, sim: Simulator, limits: dict[str, int], requests: int
) -> None:
    sim.reset()
    house = house_of(tmp_path, sim, **limits)
    plan = house.plan()
    assert sim.log() == []
    outcome = house.index()
    billed_as_planned(house, plan, outcome)
    assert requests <= plan.requests
    if limits or sim.options.headers == "absent":
        assert outcome.usage.requests == plan.requests
    again = house.plan()
    assert (again.tokens, again.usd, again.requests, again.minutes) == (0, 0.0, 0, 0.0)


@pytest.mark.slow
def test_limits_that_a_server_tells_in_the_first_run_are_in_the_plan_of_the_second(tmp_path: Path) -> None:
    with provider.running(Options(tokens="cl100k", rpm=3_000, tpm=900_000)) as sim:
        house = house_of(tmp_path / "first", sim)
        plan = house.plan()
        assert plan.minutes is None
        outcome = house.index()
        billed_as_planned(house, plan, outcome)
        assert outcome.usage.requests > plan.requests, "they were cut for the limits that the first reply told"
        told = json.loads((house.store / "limits.json").read_text())
        sim.reset()
        other = house_of(tmp_path / "second", sim)
        other.store.mkdir()
        shutil.copy(house.store / "limits.json", other.store)
        foreseen = other.plan()
        assert foreseen.requests == outcome.usage.requests
        assert foreseen.minutes == pytest.approx(plan.tokens / 900_000)
        billed_as_planned(other, foreseen, other.index())
        assert len(sim.log()) == foreseen.requests
        assert json.loads((other.store / "limits.json").read_text()) == told


@pytest.mark.slow
def test_minutes_are_within_a_tenth_where_the_limits_are_what_takes_the_time(tmp_path: Path) -> None:
    options = Options(tokens="cl100k", rpm=3_000, tpm=360_000, drained=True, base_ms=60, per_ktoken_ms=20)
    with provider.running(options) as sim:
        house = ProvidedHouse(tmp_path, sim, texts=None, tokenizer="cl100k_base", tokens_per_minute=360_000)
        house.real_clock = SystemClock()
        shutil.copytree(ROOT / "data/corpus", house.corpus, dirs_exist_ok=True)
        plan = house.plan()
        assert plan.minutes is not None
        began = time.monotonic()
        outcome = house.index()
        whole = time.monotonic() - began
        assert outcome.reason == "published"
        assert plan.tokens == sim.bill()["tokens"]
        assert outcome.usage.requests == plan.requests
        sending = sim.span()["actual"]
        assert 18 < sending < 42
        assert sending == pytest.approx(plan.minutes * 60, rel=0.1)
        assert sending <= whole
        assert len(sim.refusals()) <= 1, "a drained account refuses the first request, whoever sends it"
