"""The command killed where only the real one passes: the same command again ends the work."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
POINTS = ["build.added", "lexical.built", "cache.merge.before_unlink", "verify.put_back"]


class Place:
    """A corpus and a store, worked on by the real command in processes of their own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = root / "store"
        (root / "docs").mkdir()
        self.add(0)

    def add(self, number: int) -> None:
        (self.root / "docs" / f"{number}.md").write_text(
            f"# Note {number}\n\nNote {number} tells of snow at km {number}.\n"
        )

    def run(self, *words: str, fault: str = "") -> subprocess.CompletedProcess[str]:
        flags = [
            "--store",
            str(self.store),
            "--set",
            f"corpus.paths=['{self.root / 'docs'}']",
            "--set",
            "index.kind=hnsw",
        ]
        environment = {**os.environ, "RAGLINE_FAULT": fault, "PREFECT_API_URL": ""}
        command = [sys.executable, "-m", "flows.cli", *words, *flags, "--json"]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize("point", POINTS[:2])
def test_a_build_killed_in_its_middle_is_finished_by_the_next_run(place: Place, point: str) -> None:
    assert place.run("index", fault=f"{point}:1:kill").returncode == -signal.SIGKILL
    again = json.loads(place.run("index").stdout)
    assert (again["reason"], again["embedded"]) == ("published", 0)
    assert place.run("verify").returncode == 0


def test_a_merge_killed_before_its_sources_go_loses_no_vector(place: Place) -> None:
    for number in range(3):
        place.add(number)
        assert place.run("index").returncode == 0
    assert place.run("cache", "compact", fault=f"{POINTS[2]}:1:kill").returncode == -signal.SIGKILL
    assert place.run("verify").returncode == 0
    assert place.run("cache", "compact").returncode == 0
    (stats,) = json.loads(place.run("cache", "stats").stdout)["namespaces"]
    assert (stats["segments"], stats["vectors"]) == (1, 3)


def test_a_repair_killed_in_its_middle_is_finished_by_the_next_one(place: Place) -> None:
    assert place.run("index").returncode == 0
    folder = place.store / "indexes/main/v000001"
    sound = {name: (folder / name).read_bytes() for name in ("index.faiss", "lexical/data.npy")}
    for name, data in sound.items():
        (folder / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert place.run("repair", fault=f"{POINTS[3]}:1:kill").returncode == -signal.SIGKILL
    assert place.run("repair").returncode == 0
    assert {name: (folder / name).read_bytes() for name in sound} == sound
