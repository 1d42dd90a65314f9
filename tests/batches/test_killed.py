"""Killed between any two steps of a batch: the next run goes on, no text is billed twice, and every vector is the same."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from rag.embedding import ledger
from rag.index.versions import Versions
from rag.upkeep import verify_store
from tests.forked import forking
from tests.provider import Options, Simulator, threaded

from .house import BatchHouse, fill
from .making import NOW

WORKER = "tests.batches.house"
Work = Callable[..., subprocess.CompletedProcess[str]]
POINTS = [
    "batch.file_written",
    "batch.written",
    "batch.uploaded_there",
    "batch.uploaded",
    "batch.submitted_there",
    "batch.submitted",
    "batch.ended",
    "batch.part_stored",
    "batch.stored",
    "batch.merged",
    "batch.accounted",
    "batch.removed_there",
    "batch.cleaned",
    "batch.forgotten",
]
REFUSING = {**NOW, "refuse": "Text number 7 "}
"""Three files, and a fourth that asks for four texts one by one."""
SMALL_QUEUE = {**NOW, "enqueued_tokens": 100}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Work]:
    """`published` in a process of its own, to its end: (house, fault, texts_per_file)."""

    def worked(house: BatchHouse, fault: str = "", texts_per_file: int = 8) -> subprocess.CompletedProcess[str]:
        return forked.run(WORKER, [str(house.corpus.parent), house.url, str(texts_per_file)], fault)

    with forking(tmp_path_factory.mktemp("said"), WORKER, "openai") as forked:
        yield worked


def filled(root: Path, url: str) -> BatchHouse:
    house = BatchHouse(root, url)
    fill(house)
    return house


def outcome(house: BatchHouse, sim: Simulator) -> Mapping[str, Any]:
    """What must be the same however often a run was killed."""
    versions = Versions(house.store, "main")
    live = versions.state().version
    assert live is not None
    assert not verify_store(versions, house.store).problems
    assert list((house.store / "batches").iterdir()) == []
    bill = sim.bill()
    entries = list(ledger.entries(house.store))
    assert sum(entry.tokens for entry in entries) == bill["tokens"], "the ledger has each batch once"
    return {
        "index": (versions.folder(live) / "index.faiss").read_bytes(),
        "texts": bill["texts"],
        "batches": len([batch for batch in sim.all_batches() if batch["status"] != "failed"]),
        "entries": len(entries),
        "files": sim.all_files(),
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, work: Work) -> Mapping[str, Any]:
    with threaded(Options(batch=REFUSING)) as sim:
        house = filled(tmp_path_factory.mktemp("undisturbed"), sim.url)
        done = work(house)
        assert done.stdout.split() == ["published", "1"], done.stderr
        found = outcome(house, sim)
    assert set(found["texts"].values()) == {1}
    assert (len(found["texts"]), found["batches"], found["entries"], found["files"]) == (23, 4, 4, [])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("passage", [1, 3])
def test_killed_at_any_step_the_next_run_goes_on_and_nothing_is_billed_twice(
    tmp_path: Path, work: Work, undisturbed: Mapping[str, Any], point: str, passage: int
) -> None:
    with threaded(Options(batch=REFUSING)) as sim:
        house = filled(tmp_path, sim.url)
        died = work(house, f"{point}:{passage}:kill")
        assert died.returncode == -signal.SIGKILL, f"{point} is not passed {passage} times: {died.stderr}"
        finished = work(house)
        assert finished.stdout.split() == ["published", "1"], finished.stderr
        assert outcome(house, sim) == undisturbed


@pytest.mark.slow
def test_killed_at_every_step_one_after_the_other(tmp_path: Path, work: Work, undisturbed: Mapping[str, Any]) -> None:
    with threaded(Options(batch=REFUSING)) as sim:
        house = filled(tmp_path, sim.url)
        killed = [work(house, f"{point}:1:kill").returncode for point in POINTS]
        assert killed.count(-signal.SIGKILL) >= len(POINTS) - 2, "some are passed for the last time in the run before"
        finished = work(house)
        assert finished.returncode == 0, finished.stderr
        assert outcome(house, sim) == undisturbed


@pytest.mark.slow
def test_killed_when_a_batch_that_was_too_large_is_withdrawn(
    tmp_path: Path, work: Work, undisturbed: Mapping[str, Any]
) -> None:
    with threaded(Options(batch=SMALL_QUEUE)) as sim:
        house = filled(tmp_path, sim.url)
        died = work(house, "batch.withdrawn:1:kill", texts_per_file=24)
        assert died.returncode == -signal.SIGKILL
        finished = work(house, texts_per_file=24)
        assert finished.stdout.split() == ["published", "1"], finished.stderr
        found = outcome(house, sim)
    assert set(found["texts"].values()) == {1}
    assert len(found["texts"]) == 24
    assert found["files"] == []
