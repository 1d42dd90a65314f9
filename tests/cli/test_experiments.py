"""`ragline eval` asks what is live; what it builds lies apart, and nothing of the nightly run notices it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rag import storage
from rag.clock import SystemClock

pytestmark = pytest.mark.slow

FINER = ("--set", "chunking.max_tokens=64")
QUOTE = "closed by Lucie Ferrand"


@pytest.fixture
def questions(place: Path) -> str:
    text = (place / "docs/pass.md").read_text()
    start = text.index(QUOTE)
    gold = {"doc_id": "pass.md", "start": start, "end": start + len(QUOTE), "quote": QUOTE}
    row = {"question_id": "q", "question": "Who closes the pass?", "answers": ["x"], "answerable": True, "gold": [gold]}
    (place / "q.jsonl").write_text(json.dumps(row) + "\n")
    return "q.jsonl"


def experiment(content: Any) -> str:
    """The name of the experiment that was asked."""
    name = str(content["version"])
    assert name.startswith("experiment-")
    return name.removeprefix("experiment-")


def state(store: Path) -> dict[str, bytes]:
    """Every file of a store that a run of the index reads, but the vectors."""
    found = (path for path in store.rglob("*") if path.is_file())
    names = {path.relative_to(store).as_posix(): path for path in found}
    apart = ("cache/", "indexes/main/experiments/", "indexes/main/opened/", "results/", "answers.sqlite")
    return {name: path.read_bytes() for name, path in names.items() if not name.startswith(apart)}


def test_an_experiment_is_never_published_nor_rolled_back_to_nor_counted_by_gc(
    ragline: Any, place: Path, questions: str
) -> None:
    ragline("index")
    made = experiment(ragline("eval", questions, *FINER, "--json").json)
    assert len(made) == 16
    assert ragline("publish", "--json").json["version"] == 1
    assert ragline("rollback").code == 2
    versions = ragline("versions", "--json").json
    assert ([row["version"] for row in versions["versions"]], versions["experiments"]) == ([1], [made])
    assert "never published" in ragline("versions").out
    for number in range(2, 5):
        ragline("eval", questions, "--set", f"chunking.max_tokens={40 * number}")
    (place / "docs/new.md").write_text("# New\n\nSomething new.\n")
    assert ragline("index", "--json").json["version"] == 2
    removed = ragline("gc", "--keep", "1", "--json").json
    assert (removed["removed"], len(removed["experiments"])) == ([], 3)
    assert len(ragline("versions", "--json").json["experiments"]) == 1


def test_an_experiment_needs_no_lock_and_leaves_what_the_next_index_reads(
    ragline: Any, place: Path, questions: str
) -> None:
    ragline("index")
    before = state(place / "store")
    with storage.lock(place / "store", "the night", SystemClock()):
        locked = state(place / "store")[".lock"]
        assert ragline("eval", questions, *FINER).code == 0
        assert ragline("eval", questions).code == 0
    assert state(place / "store") == {**before, ".lock": locked}
    assert ragline("index", "--json").json["reason"] == "unchanged"


def test_eval_of_what_is_live_writes_its_run_and_nothing_else(ragline: Any, place: Path, questions: str) -> None:
    ragline("index")
    ragline("eval", questions)

    def seen() -> dict[str, tuple[int, bytes]]:
        files = (path for path in (place / "store").rglob("*") if path.is_file() and "results" not in path.parts)
        return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}

    before = seen()
    said = ragline("eval", questions, "--json").json
    assert said["version"] == "v000001"
    assert seen() == before


def test_an_experiment_is_made_once_and_a_damaged_one_again(
    ragline: Any, place: Path, questions: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ragline("index")
    first = ragline("eval", questions, *FINER, "--json").json
    folder = place / "store/indexes/main/experiments" / experiment(first)

    def again() -> bool:
        same = ragline("eval", questions, *FINER, "--json").json
        return bool((same["version"], same["summary"]) == (first["version"], first["summary"]))

    made = (folder / "manifest.json").stat().st_ino
    with monkeypatch.context() as patched:
        patched.setattr("rag.pipeline.prepare", lambda *_: pytest.fail("the corpus was read again"))
        assert again()
    assert (folder / "manifest.json").stat().st_ino == made
    sound = (folder / "index.faiss").read_bytes()
    (folder / "index.faiss").write_bytes(sound[:-1] + b"!")
    assert again()
    assert (folder / "index.faiss").read_bytes() == sound


def test_a_store_begun_by_an_experiment_has_nothing_to_publish(ragline: Any, questions: str) -> None:
    assert experiment(ragline("eval", questions, "--json").json)
    assert ragline("publish").code == 2
    assert ragline("ask", "Who?").code == 2
    assert ragline("index", "--json").json["version"] == 1


def test_prune_keeps_what_an_experiment_needs_and_waits_for_one_at_work(
    ragline: Any, place: Path, questions: str
) -> None:
    ragline("index")
    ragline("eval", questions, "--set", "chunking.embed_heading_path=false")
    assert ragline("cache", "prune", "--json").json["dropped"] == []
    with storage.staging(place / "store", "experiment"):
        busy = ragline("cache", "prune", "--json")
        assert (busy.code, busy.json["error"]["type"]) == (3, "Busy")
        assert ragline("cache", "prune", "--dry-run").code == 0
