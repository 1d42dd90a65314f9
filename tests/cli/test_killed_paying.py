"""`ragline index` stopped at any moment while it pays: the next run pays for what was under way, and for nothing else."""

from __future__ import annotations

import itertools
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rag.index.versions import Versions
from tests.cli.forking import Command, Ended, Forge, forging
from tests.cli.paying import Customer, corpus
from tests.provider import Options, Simulator, running

pytestmark = pytest.mark.slow
KILLS = 100
BY_TIME = 0.3
"""The share of kills that come at any time from the first request to the end."""
LATE = 3
"""Kills of one corpus after which all was paid for."""
BETWEEN, WHOLE = 0.03, 1.5
"""Seconds: from one answer to the next, and from the first request until all is published."""
STOPPED = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 143}


@pytest.fixture(scope="module")
def sim() -> Iterator[Simulator]:
    with running(Options(base_ms=20, per_ktoken_ms=2)) as simulator:
        yield simulator


@pytest.fixture(scope="module")
def slow_sim() -> Iterator[Simulator]:
    with running(Options(base_ms=1000)) as simulator:
        yield simulator


@pytest.fixture
def slow(slow_sim: Simulator) -> Simulator:
    slow_sim.reset()
    slow_sim.faults()
    return slow_sim


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    with forging(tmp_path_factory.mktemp("said")) as made:
        yield made


@pytest.fixture(scope="module")
def docs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The corpus, and its texts."""
    folder = tmp_path_factory.mktemp("corpus") / "docs"
    return folder, corpus(folder, 450)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A corpus of six requests, the first of them small."""
    folder = tmp_path_factory.mktemp("few") / "docs"
    return folder, corpus(folder, 40)


def version_bytes(customer: Customer) -> dict[str, bytes]:
    """Every file of the live version but build.json, which tells of one run."""
    live = Versions(customer.store, "main").state().version
    folder = customer.store / "indexes/main" / f"v{live:06d}"
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "build.json")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def killed(customer: Customer, chance: random.Random) -> bool:
    """One run, killed at a moment drawn from the time after its first request; False where it ended before.

    Most moments are drawn by the answers that are stored by then: on a busy machine time alone would miss the requests.
    """
    before = len(customer.segments())
    left = len(customer.texts) - len(customer.stored())
    command = customer.start("index", "--json", "--runner", "direct")
    answers = chance.randrange(12) if chance.random() > BY_TIME else 0
    while left and not command.ended and (len(customer.segments()) < before + answers or not customer.paying()):
        time.sleep(0.0005)
    time.sleep(chance.uniform(0.0, BETWEEN if left and answers else WHOLE))
    command.send(signal.SIGKILL)
    ended = command.wait()
    if ended.code == -signal.SIGKILL:
        customer.account_for_a_kill()
        return True
    assert ended.json["reason"] in ("published", "unchanged")
    return False


def test_a_hundred_kills_cost_what_was_under_way_and_not_a_text_more(
    tmp_path: Path, sim: Simulator, forge: Forge, docs: tuple[Path, list[str]]
) -> None:
    undisturbed = Customer(tmp_path / "undisturbed", *docs, sim, forge)
    assert undisturbed.run("index", "--json", "--runner", "direct").code == 0
    undisturbed.refuse_double_pay()
    right = version_bytes(undisturbed)
    kills: list[int] = []
    twice = 0
    for seed, concurrency in zip(itertools.count(), itertools.cycle([4, 8, 2]), strict=False):
        if len(kills) >= KILLS:
            break
        sim.reset()
        chance = random.Random(seed)
        customer = Customer(tmp_path / f"seed{seed}", *docs, sim, forge, concurrency)
        late = 0
        while late < LATE and len(kills) + len(customer.lost_requests) < KILLS and killed(customer, chance):
            late += len(customer.stored()) == len(customer.texts)
        kills += customer.lost_requests
        twice += sum(customer.lost.values())
        done = customer.run("index", "--json", "--runner", "direct")
        assert done.code == 0, (seed, done.err)
        customer.settled()
        customer.refuse_double_pay()
        customer.refuse_lost_money()
        assert customer.run("verify").code == 0
        assert version_bytes(customer) == right, seed
    assert len(kills) == KILLS
    assert sum(count > 0 for count in kills) > KILLS / 4, "hardly a kill came while anything was under way"
    print(f"texts paid for twice: {twice}, of {len(kills)} kills with {sum(kills)} requests under way")  # noqa: T201


def paying(customer: Customer, requests: int) -> Command:
    """An index that has sent so many requests and waits for most of them."""
    command = customer.start("index", "--runner", "direct")
    until = time.monotonic() + 60
    while len(customer.sim.log("/embeddings")) < requests:
        assert time.monotonic() < until
        assert not command.ended, command.wait()
        time.sleep(0.01)
    return command


def ends(command: Command, number: int, within: float) -> Ended:
    start = time.monotonic()
    ended = command.wait()
    assert time.monotonic() - start < within
    assert ended.code == STOPPED[signal.Signals(number)], ended
    assert "Traceback" not in ended.err
    return ended


def finishes(customer: Customer) -> None:
    """The same command ends the work, and all in all no text was paid for twice that was not under way."""
    customer.sim.faults()
    assert customer.run("index", "--json", "--runner", "direct").json["reason"] == "published"
    customer.settled()
    customer.refuse_double_pay()
    customer.refuse_lost_money()
    customer.refuse_damage()


@pytest.mark.parametrize("number", STOPPED)
def test_a_signal_lets_what_is_under_way_come_in_sends_nothing_more_and_loses_nothing(
    tmp_path: Path, slow: Simulator, forge: Forge, few: tuple[Path, list[str]], number: signal.Signals
) -> None:
    customer = Customer(tmp_path / "one", *few, slow, forge)
    command = paying(customer, 5)
    command.send(number)
    # what `make` or `uv run` hands on is the same Ctrl-C
    time.sleep(0.1)
    command.send(number)
    ended = ends(command, number, 10.0)
    assert "what was answered and paid for is kept, and the same command continues" in ended.err
    customer.account_for_a_kill()
    assert (customer.seen, customer.lost_requests) == (5, [0])
    assert customer.ledger_lacks() == 0
    finishes(customer)


def test_what_does_not_answer_is_abandoned_within_ten_seconds(
    tmp_path: Path, slow: Simulator, forge: Forge, few: tuple[Path, list[str]]
) -> None:
    slow.add_fault(fault="hang", at=[2, 3])
    customer = Customer(tmp_path / "one", *few, slow, forge)
    command = paying(customer, 5)
    command.send(signal.SIGTERM)
    ends(command, signal.SIGTERM, 10.0)
    customer.account_for_a_kill()
    assert customer.lost_requests == [2]
    assert customer.ledger_lacks() == 0, "the two that hung were never billed, the others came in"
    finishes(customer)


def test_who_waits_for_the_limit_is_stopped_at_once(
    tmp_path: Path, slow: Simulator, forge: Forge, few: tuple[Path, list[str]]
) -> None:
    slow.add_fault(fault="429_after_3600", at=[2])
    customer = Customer(tmp_path / "one", *few, slow, forge)
    command = paying(customer, 5)
    customer.settled()
    time.sleep(0.2)
    command.send(signal.SIGINT)
    ends(command, signal.SIGINT, 2.0)
    customer.account_for_a_kill()
    assert customer.lost_requests == [1]
    finishes(customer)


def test_a_second_ctrl_c_ends_it_at_once_and_costs_what_was_under_way(
    tmp_path: Path, slow: Simulator, forge: Forge, few: tuple[Path, list[str]]
) -> None:
    at_once = 0
    for seed in range(6):
        slow.reset()
        chance = random.Random(seed)
        customer = Customer(tmp_path / f"seed{seed}", *few, slow, forge)
        command = customer.start("index", "--runner", "direct")
        time.sleep(chance.uniform(0.1, 2.5))
        first, second = chance.choices([*STOPPED], k=2)
        command.send(first)
        time.sleep(chance.uniform(0.35, 0.8))
        at_once += not command.ended
        number = first if command.ended else second
        command.send(second)
        ends(command, number, 1.0)
        customer.account_for_a_kill()
    assert at_once > 2
    finishes(customer)
