"""Every fault of a provider, over real HTTP and through the whole pipeline: nothing wrong is stored, and nothing is lost.

Each run is held against an undisturbed one of the same corpus: the vectors in the cache, the bytes of the version, the
bill. Only the clock is not real; see tests/provided.py.
"""

from __future__ import annotations

import math
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rag.errors import KeyMissing, ProviderFailed, RaglineError, UnknownModel
from rag.index.versions import Versions
from rag.providers.retry import MOST
from rag.upkeep import verify_store
from tests import provider
from tests.provided import LOST, WRONG, ProvidedHouse, struck
from tests.provider import Simulator
from tests.provider.faults import DAMAGES, DELIVERIES, INSTEAD, NAMES

from .test_reindex import version_bytes

TEXTS = 4
"""Of a request."""
DOCUMENTS, REQUESTS = 38, 10
BOUND = MOST * (1 + int(math.log2(TEXTS)))
"""How often a run sends a text at most; docs/operations.md has it for the largest requests."""
FATAL: dict[str, type[RaglineError]] = {
    "429_quota": ProviderFailed,
    "401": KeyMissing,
    "403": KeyMissing,
    "404": UnknownModel,
}
RETRY_AFTER = {"429_after_0.5": 0.5, "429_after_1": 1.0, "429_after_date": 1.0, "429_after_3600": 3600.0}
HARMLESS = {"reversed", "repeated"}
SLOW = {"hang", "drip"}
TIMEOUT = 3.0
"""Seconds, of the machine's clock: what SLOW faults take, and ample for every right reply."""
POSITIONS = {"first": 1, "middle": REQUESTS // 2, "last": REQUESTS}


def fill(house: ProvidedHouse) -> None:
    for number in range(DOCUMENTS):
        house.write(f"n{number:02}.md", f"# Note {number}\n\nText number {number} of the notes.\n")
    house.write("twin.md", "# Note 7\n\nText number 7 of the notes.\n")


@dataclass(frozen=True)
class Undisturbed:
    sim: Simulator
    version: dict[str, bytes]
    texts: dict[bytes, str]

    def house(self, root: Path, **embedding: Any) -> ProvidedHouse:
        made = ProvidedHouse(root, self.sim, texts=TEXTS, timeout_seconds=TIMEOUT, **embedding)
        fill(made)
        return made

    def held_against(self, house: ProvidedHouse) -> None:
        """Whatever happened before, the store is the one of the undisturbed run, and nothing was paid for nothing."""
        live = Versions(house.store, "main").state().version
        assert live is not None
        assert version_bytes(house, live) == self.version
        assert not verify_store(Versions(house.store, "main"), house.store).problems
        assert house.stored().keys() == self.texts.keys()
        assert house.wrong_vectors(self.texts) == []
        assert house.paid_twice_for_nothing() == []


@pytest.fixture(autouse=True)
def no_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """To read the machine's certificates takes a client longer than all its requests on loopback, which need none."""
    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", lambda *_, **__: None)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Undisturbed]:
    with provider.running() as sim:
        house = ProvidedHouse(tmp_path_factory.mktemp("undisturbed"), sim, texts=TEXTS)
        fill(house)
        planned = house.plan()
        outcome = house.index()
        assert (outcome.reason, outcome.embedded, outcome.plan.duplicates) == ("published", DOCUMENTS, 1)
        assert len(sim.log()) == REQUESTS == planned.requests
        made = Undisturbed(sim, version_bytes(house, 1), house.texts_sent())
        made.held_against(house)
        assert house.clock.monotonic() == 0.0
        yield made


def test_the_kinds_are_all_there() -> None:
    assert {*INSTEAD, *DELIVERIES, *DAMAGES} == NAMES
    assert len(NAMES) >= 42
    assert {*FATAL, *RETRY_AFTER, *HARMLESS} <= NAMES


@pytest.mark.slow
@pytest.mark.parametrize("where", POSITIONS)
@pytest.mark.parametrize("fault", sorted(NAMES))
def test_one_fault_changes_nothing_but_what_it_takes(
    tmp_path: Path, undisturbed: Undisturbed, fault: str, where: str
) -> None:
    house, position = undisturbed.house(tmp_path), POSITIONS[where]
    house.embedding["timeout_seconds"] = TIMEOUT if fault in SLOW else 60.0
    with struck(house.sim, {"fault": fault, "at": [position]}):
        if fault in FATAL:
            with pytest.raises(FATAL[fault]) as caught:
                house.index()
            told(caught.value)
            asked = house.sim.log()
            assert len(asked) <= position + 1, "no new request once it has failed: one more was under way"
            assert house.clock.monotonic() == 0.0
            assert len(house.stored()) == len(house.sim.bill()["texts"]), "what was paid is kept"
        outcome = house.index()
        assert (outcome.reason, outcome.excluded_chunks) == ("published", 0)
        assert [entry["fault"] for entry in house.sim.log()].count(fault) == 1
        most = 3 if fault.startswith("400") else 1 if fault in HARMLESS and where == "last" else 2
        assert max(house.asked_of_each().values()) <= most
        if fault in WRONG | LOST:
            assert len(house.sim.log()) == REQUESTS + 1, "it was billed, and is asked for again"
        if fault in RETRY_AFTER:
            wait = RETRY_AFTER[fault]
            pause = max(later - earlier for earlier, later in zip(house.went, house.went[1:], strict=False))
            assert wait <= pause <= wait + 4.0, "nobody sends in the meantime, and then they do"
        if fault in HARMLESS:
            assert house.clock.monotonic() < 2.0
        undisturbed.held_against(house)


def told(error: RaglineError) -> None:
    """One clear message with a way out, and the exit code of the manual."""
    assert error.exit_code == {ProviderFailed: 1, KeyMissing: 2, UnknownModel: 2}[type(error)]
    assert "\n" not in error.message
    assert error.message.startswith("openai/text-embedding-3-small: ")
    assert all(problem.where and problem.remedy for problem in error.problems)
    assert provider.KEY not in str(error)
    if isinstance(error, ProviderFailed):
        assert error.problems[-1].where == "texts"


def mixed(undisturbed: Undisturbed, root: Path, seed: int) -> None:
    house = undisturbed.house(root)
    with struck(house.sim, {"faults": sorted(NAMES), "rate": 0.3, "seed": seed}):
        outcome = None
        for _ in range(60):
            before = house.asked_of_each()
            try:
                outcome = house.index(retry_refused=bool(outcome))
            except RaglineError as error:
                told(error)
            assert max((house.asked_of_each() - before).values(), default=0) <= BOUND
            # two faults may meet in one text, and then it is refused like any other: it is asked for once more
            if outcome and not outcome.excluded_chunks:
                break
        assert outcome
        assert outcome.reason == "published"
        undisturbed.held_against(house)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(50))
def test_a_mix_of_all_faults_changes_nothing_in_the_end(tmp_path: Path, undisturbed: Undisturbed, seed: int) -> None:
    mixed(undisturbed, tmp_path, seed)


@pytest.mark.parametrize("seed", [120, 123])
def test_a_mix_of_faults_changes_nothing_in_the_end(tmp_path: Path, undisturbed: Undisturbed, seed: int) -> None:
    mixed(undisturbed, tmp_path, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_a_text_that_is_searched_for_among_faults_is_sent_a_bounded_number_of_times(
    tmp_path: Path, undisturbed: Undisturbed, seed: int
) -> None:
    house = undisturbed.house(tmp_path)
    house.sets = ["corpus.max_failed_share=0.2"]
    passing = ["429", "429_after_0", "500", "502", "lost", "nan", "short"]
    poison = {"fault": "400_nameless", "text": "number 17 "}
    with struck(house.sim, {"faults": passing, "rate": 0.5, "seed": seed}, poison):
        for _ in range(30):
            before = house.asked_of_each()
            try:
                outcome = house.index()
            except ProviderFailed as error:
                told(error)
            else:
                break
            finally:
                assert max((house.asked_of_each() - before).values()) <= BOUND
        assert (outcome.reason, outcome.excluded_chunks) == ("published", 1)
        assert house.wrong_vectors(undisturbed.texts) == []
        assert house.paid_twice_for_nothing() == []
