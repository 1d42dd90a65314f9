"""Killed or failing at any moment of publish, rollback and gc: the old version or the new one, and the next try works."""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rag.errors import NotFound
from rag.index.verify import check_current, check_version
from rag.index.versions import Versions
from tests.forked import forking

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
WORKER = "tests.index.worker"
Run = Callable[..., int]
POINTS = sorted(
    {
        name
        for file in ("rag/index/versions.py", "rag/storage.py")
        for name in re.findall(r'faultpoint\("([^"]+)"\)', (ROOT / file).read_text(encoding="utf-8"))
    }
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """An action in a process of its own, to its end: (store, action, argument, fault), and its exit code."""

    def acted(store: Path, action: str, argument: str, fault: str = "") -> int:
        done = forked.run(WORKER, [str(store), action, argument], fault)
        assert done.returncode == 0 or fault, done.stderr
        return done.returncode

    with forking(tmp_path_factory.mktemp("said"), WORKER) as forked:
        yield acted


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with versions 1 to 3 published, 4 waiting in staging; copied for every case."""
    from tests.index.making import make_folder, texts, vectors

    store = tmp_path_factory.mktemp("pattern") / "store"
    versions = Versions(store, "main")
    for seed in range(1, 5):
        folder = store / "staging" / f"s{seed}"
        make_folder(folder, texts(6, seed), vectors(6, seed=seed))
        if seed < 4:
            versions.publish_staged(folder)
    (store / "staging" / "s4.owner").touch()
    return store


def sound(versions: Versions) -> bool:
    checks = [check_current(versions), *(check_version(versions, number) for number in versions.numbers())]
    return not any(check.findings for check in checks)


def live(versions: Versions) -> int | None:
    try:
        with versions.open() as opened:
            opened.chunks.rows([0, 5])
            return opened.number
    except NotFound:
        return None


ACTIONS: list[tuple[str, str, set[int | None], int]] = [
    ("publish_staged", "staging/s4", {3, 4}, 4),
    ("stage_only", "staging/s4", {3}, 3),
    ("rollback", "", {3, 2}, 2),
    ("publish", "1", {3, 1}, 1),
    ("gc", "1", {3}, 3),
]


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_point_the_old_or_the_new_version_is_live(
    run: Run, point: str, pattern: Path, tmp_path: Path
) -> None:
    passed = 0
    for action, argument, allowed, after in ACTIONS:
        for passage in (1, 2, 3):
            store = tmp_path / f"{action}-{passage}"
            shutil.copytree(pattern, store)
            versions = Versions(store, "main")
            target = str(store / argument) if argument.startswith("staging") else argument
            if run(store, action, target, f"{point}:{passage}:kill") != -signal.SIGKILL:
                break
            passed += 1
            now = live(versions)
            assert now in allowed, f"{action} at {point}:{passage}"
            assert sound(versions)
            again = store / "staging" / "again-1-00000000"
            if now != after or action in ("gc", "stage_only"):
                shutil.copytree(pattern / "staging" / "s4", again)
                run(store, action, str(again) if argument.startswith("staging") else argument)
                # a folder that had its number and was not live yet keeps it: the next try takes the next number
                assert live(versions) == (versions.numbers()[-1] if action == "publish_staged" else after)
            assert sound(versions)
            numbers = versions.numbers()
            assert versions.state().last >= numbers[-1]
            run(store, "gc", "9")
            assert [path.name for path in versions.root.iterdir() if path.name.startswith(".")] == []
            assert list((store / "staging").iterdir()) == []
            shutil.rmtree(store)
    if point.startswith(("versions.", "move_folder")):
        assert passed > 0, "this moment never came"


@pytest.mark.slow
@pytest.mark.parametrize("point", [point for point in POINTS if point.startswith(("versions.", "create.", "move_"))])
def test_a_full_disk_at_a_point_leaves_the_old_or_the_new_version(
    run: Run, point: str, pattern: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    shutil.copytree(pattern, store)
    versions = Versions(store, "main")
    assert run(store, "publish_staged", str(store / "staging" / "s4"), f"{point}:1:28") in (0, 1)
    assert live(versions) in {3, 4}
    assert sound(versions)


def test_killed_while_the_very_first_version_is_published_nothing_is_damage(
    run: Run, pattern: Path, tmp_path: Path
) -> None:
    for point in ("versions.before_swap", "versions.swapped", "versions.staged", "versions.numbered"):
        store = tmp_path / point
        folder = store / "staging" / "s"
        shutil.copytree(pattern / "staging" / "s4", folder)
        assert run(store, "publish_staged", str(folder), f"{point}:1:kill") == -signal.SIGKILL
        versions = Versions(store, "main")
        assert live(versions) is None
        shutil.copytree(pattern / "staging" / "s4", folder, dirs_exist_ok=True)
        run(store, "publish_staged", str(folder))
        assert live(versions) in {1, 2}
