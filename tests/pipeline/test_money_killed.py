"""Killed while it spends: the ledger knows all but what was under way, and knows it once."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rag.embedding import ledger
from rag.embedding.ledger import Entry
from tests.forked import forking

from .conftest import House
from .test_faults import IN_FLIGHT, WORKER, fill, words

pytestmark = pytest.mark.slow
Work = Callable[..., int]
TERMS = json.dumps({"free": False, "usd_per_million": 1_000_000.0})
"""A dollar a token, which is a letter for the worker's model."""
ENDED = ["ledger.written", "pipeline.staged"]
"""Points at which the run's line is there already."""
POINTS = ["ledger.opened", "embed.before_request", "ledger.billed", "embed.answered", "embed.stored", *ENDED]
LATER = ["embed.before_request", "ledger.billed", "embed.stored"]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Work]:
    """A re-index that pays, in a process of its own, to its end: (house, log, fault), and its exit code."""
    with forking(tmp_path_factory.mktemp("said"), WORKER) as forked:
        yield lambda house, log, fault="": forked.run(WORKER, [*words(house, log), TERMS], fault).returncode


def sent(log: Path) -> list[str]:
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def known(house: House) -> list[Entry]:
    return [line for line in ledger.spent(house.store) if isinstance(line, Entry)]


@pytest.mark.parametrize(("point", "passage"), [*((name, 1) for name in POINTS), *((name, 4) for name in LATER)])
def test_a_killed_run_is_in_the_ledger_but_for_what_was_under_way(
    tmp_path: Path, work: Work, point: str, passage: int
) -> None:
    house = House(tmp_path)
    fill(house)
    log = tmp_path / "log"
    assert work(house, log, f"{point}:{passage}:kill") == -signal.SIGKILL
    billed = sent(log)
    before = sum(line.tokens for line in known(house))
    longest = max(map(len, billed), default=0)
    assert sum(map(len, billed)) - IN_FLIGHT * longest <= before <= sum(map(len, billed))
    assert {line.outcome for line in known(house)} <= {"done" if point in ENDED else "killed"}
    finished = known(house)

    assert work(house, log) == 0
    lines = list(ledger.entries(house.store))
    assert list(ledger.open_folder(house.store).iterdir()) == []
    assert [line for line in lines if line.id in {each.id for each in finished}] == finished, "each once, as it was"
    after = sum(map(len, sent(log)))
    lost = after - sum(line.tokens for line in lines)
    assert 0 <= lost <= IN_FLIGHT * longest
    assert all(line.usd == line.tokens for line in lines)


def test_a_run_that_is_killed_again_and_again_is_in_the_ledger_with_every_try(tmp_path: Path, work: Work) -> None:
    house = House(tmp_path)
    fill(house)
    log = tmp_path / "log"
    tries = 0
    while work(house, log, "embed.stored:2:kill") == -signal.SIGKILL:
        tries += 1
    lines = list(ledger.entries(house.store))
    assert [line.outcome for line in lines] == ["killed"] * tries + ["done"] * (len(lines) - tries)
    assert tries > 1
    texts = sent(log)
    assert len(texts) - len(set(texts)) <= IN_FLIGHT * tries
    assert sum(map(len, texts)) - sum(line.tokens for line in lines) <= IN_FLIGHT * tries * max(map(len, texts))


def test_a_writer_killed_while_it_accounts_for_the_dead_leaves_each_once(tmp_path: Path, work: Work) -> None:
    house = House(tmp_path)
    fill(house)
    log = tmp_path / "log"
    assert work(house, log, "embed.stored:2:kill") == -signal.SIGKILL
    (killed,) = known(house)
    assert work(house, log, "ledger.settled:1:kill") == -signal.SIGKILL
    assert known(house) == [killed]
    assert work(house, log) == 0
    assert [line.outcome for line in ledger.entries(house.store)] == ["killed", "done"]
