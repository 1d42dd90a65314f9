"""Killed, out of space, or two at once: the last version stays right, what was answered stays paid, and the next run ends the work."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rag.index.versions import Versions
from rag.storage import lock_holder
from rag.upkeep import verify_store
from tests.forked import forking

from .conftest import House
from .test_reindex import version_bytes

ROOT = Path(__file__).resolve().parents[2]
WORKER = "tests.pipeline.worker"
IN_FLIGHT = 2 * 4
"""Concurrency times texts a request of the worker's model."""
POINTS = [
    "lock.held",
    "tables.group_written",
    "create.before_fsync",
    "create.before_rename",
    "embed.before_request",
    "embed.answered",
    "cache.add.before_write",
    "cache.add.after_write",
    "embed.stored",
    "build.written",
    "pipeline.before_manifest",
    "pipeline.staged",
    "versions.before_swap",
    "versions.swapped",
    "versions.backed_up",
    "versions.staged",
    "move_folder.before_rename",
    "move_folder.after_rename",
    "versions.numbered",
]


def words(house: House, log: Path) -> list[str]:
    return [str(house.corpus.parent), str(house.store), str(log)]


Work = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Work]:
    """A re-index in a process of its own, to its end: (house, log, fault)."""
    with forking(tmp_path_factory.mktemp("said"), WORKER) as forked:
        yield lambda house, log, fault="": forked.run(WORKER, words(house, log), fault)


def sent(log: Path) -> Counter[str]:
    return Counter(json.loads(line) for line in log.read_text().splitlines()) if log.exists() else Counter()


def fill(house: House) -> None:
    for number in range(24):
        house.write(f"n{number:02}.md", f"# Note {number}\n\nText number {number} of the notes.\n")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, work: Work) -> tuple[dict[str, bytes], set[str]]:
    house = House(tmp_path_factory.mktemp("undisturbed"))
    fill(house)
    log = house.corpus.parent / "log"
    assert work(house, log).returncode == 0
    return version_bytes(house, 1), set(sent(log))


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("passage", [1, 3])
def test_killed_at_any_point_the_next_run_finishes_and_pays_only_what_was_in_flight(
    tmp_path: Path, work: Work, undisturbed: tuple[dict[str, bytes], set[str]], point: str, passage: int
) -> None:
    house = House(tmp_path)
    fill(house)
    log = tmp_path / "log"
    died = work(house, log, f"{point}:{passage}:kill")
    assert died.returncode in (-signal.SIGKILL, 0), died.stderr
    if passage == 1:
        assert died.returncode == -signal.SIGKILL, f"{point} is never passed"
    assert not verify_store(Versions(house.store, "main"), house.store).problems
    finished = work(house, log)
    assert finished.returncode == 0, finished.stderr
    counts = sent(log)
    assert set(counts) == undisturbed[1]
    assert sum(counts.values()) - len(counts) <= IN_FLIGHT
    versions = Versions(house.store, "main")
    live = versions.state().version
    assert live is not None
    assert version_bytes(house, live) == undisturbed[0]
    assert not verify_store(versions, house.store).problems
    leftovers = [path.name for path in (house.store / "staging").glob("*")]
    assert leftovers == []


@pytest.mark.slow
def test_a_killed_second_publish_leaves_the_old_or_the_new_version(tmp_path: Path, work: Work) -> None:
    house = House(tmp_path)
    fill(house)
    log = tmp_path / "log"
    assert work(house, log).returncode == 0
    old = version_bytes(house, 1)
    for number, point in enumerate(
        ("versions.staged", "versions.numbered", "versions.before_swap", "versions.swapped")
    ):
        house.write("changed.md", f"# Changed\n\nFor the {number}th time.\n")
        work(house, log, f"{point}:1:kill")
        versions = Versions(house.store, "main")
        with versions.open() as opened:
            assert opened.number == versions.state().version
        assert version_bytes(house, 1) == old
        assert not verify_store(versions, house.store).problems
    assert work(house, log).returncode == 0


@pytest.mark.slow
def test_of_two_runs_at_once_one_works_and_the_other_names_it(tmp_path: Path, work: Work) -> None:
    house = House(tmp_path)
    fill(house)
    log = tmp_path / "log"
    environment = {**os.environ, "RAGLINE_FAULT": "embed.answered:1:pause"}
    first = subprocess.Popen(
        [sys.executable, "-m", WORKER, *words(house, log)], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + 60
        while not stopped(first.pid):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        holder = lock_holder(house.store)
        assert holder is not None
        assert holder.pid == first.pid
        second = work(house, log)
        assert second.returncode == 3
        assert f"pid {first.pid}" in second.stderr
        assert "--wait" in second.stderr
    finally:
        os.kill(first.pid, signal.SIGCONT)
    out, _ = first.communicate(timeout=120)
    assert out.split() == ["published", "1"]
    assert work(house, log).stdout.split() == ["unchanged", "1"]
    assert max(sent(log).values()) == 1


def stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a tmpfs needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
def test_on_a_full_disk_one_clear_error_and_after_space_is_made_the_same_command_continues(
    tmp_path: Path, small_disk: Path, work: Work
) -> None:
    house = House(tmp_path)
    fill(house)
    house.store = small_disk / "store"
    log = tmp_path / "log"
    refusals = 0
    for size in range(24, 4000, 24):
        subprocess.run(["mount", "-o", f"remount,size={size}k", str(small_disk)], check=True)
        done = work(house, log)
        if done.returncode == 0:
            break
        refusals += 1
        assert done.returncode == 1
        assert "No space left on device" in done.stderr
        assert str(small_disk) in done.stderr
        assert "bytes free" in done.stderr
        assert "Traceback" not in done.stderr
        assert not verify_store(Versions(house.store, "main"), house.store).problems
    assert refusals > 3
    assert done.stdout.split() == ["published", "1"]
    counts = sent(log)
    assert max(counts.values()) == 1, "what there is no room for is not paid for"


@pytest.mark.slow
def test_a_read_only_store_is_named_and_nothing_is_lost(tmp_path: Path, work: Work) -> None:
    house = House(tmp_path)
    fill(house)
    log = tmp_path / "log"
    assert work(house, log).returncode == 0
    bound = subprocess.run(["mount", "--bind", str(house.store), str(house.store)], capture_output=True, check=False)
    if bound.returncode:
        pytest.skip("a read-only mount needs root")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(house.store)], check=True)
        house.write("more.md", "# More\n\nOne more.\n")
        done = work(house, log)
        assert done.returncode == 1
        assert "Read-only file system" in done.stderr
        with Versions(house.store, "main").open() as opened:
            assert opened.number == 1
    finally:
        subprocess.run(["umount", "-l", str(house.store)], check=True)
    assert work(house, log).stdout.split() == ["published", "2"]
