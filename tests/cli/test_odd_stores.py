"""Stores that are none, stores with something else where a file belongs, and versions that nobody can mend."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

READING = [["plan"], ["status"], ["versions"], ["verify"], ["ask", "Who?"], ["gc", "--dry-run"], ["cache", "stats"],
           ["cache", "prune", "--dry-run"], ["settings", "--check"]]  # fmt: skip
WRITING = [["gc"], ["rollback"], ["publish"], ["repair"], ["cache", "compact"], ["cache", "prune"]]


def edit(place: Path, text: str = "# New\n\nSomething new happened at Gullvik Halt.\n") -> None:
    (place / "docs" / "new.md").write_text(text)


@pytest.mark.parametrize("words", [*READING, *WRITING], ids=" ".join)
def test_a_store_at_a_misspelt_path_is_not_begun(ragline: Any, place: Path, words: list[str]) -> None:
    said = ragline(*words, "--store", "stroe")
    assert not (place / "stroe").exists()
    if words in WRITING or words[-1] == "--dry-run" or words == ["verify"]:
        assert said.code == 2
        assert "stroe" in said.err
        assert "`ragline index --store stroe` begins one" in said.err


@pytest.mark.parametrize("words", [["index"], *READING, *WRITING], ids=" ".join)
def test_a_store_that_is_a_file_is_named(ragline: Any, place: Path, words: list[str]) -> None:
    (place / "notes.txt").write_text("notes")
    (place / "broken").symlink_to("nowhere")
    for name, told in (
        ("notes.txt", "is a file, not a folder"),
        ("notes.txt/store", "Not a directory"),
        ("broken", "is a link that leads nowhere"),
    ):
        said = ragline(*words, "--store", name)
        assert said.code == 2
        assert told in said.err
        assert "--store" in said.err


def test_reading_and_dry_runs_take_no_lock(ragline: Any, place: Path) -> None:
    ragline("index")
    (place / "store/.lock").unlink()
    for words in READING:
        assert ragline(*words).code == 0, words
    assert not (place / "store/.lock").exists()


WAY = [".lock", "cache", "indexes", "indexes/main/CURRENT", "indexes/main/CURRENT.backup", "ledger", "staging",
       "indexes/main/v000001/index.faiss", "indexes/main/v000001/manifest.json"]  # fmt: skip


@pytest.mark.parametrize("name", WAY)
@pytest.mark.parametrize("words", [["index"], ["status"], ["gc"], ["verify"], ["repair"]], ids=" ".join)
def test_what_stands_in_the_way_of_a_store_is_named(ragline: Any, place: Path, name: str, words: list[str]) -> None:
    ragline("index")
    path = place / "store" / name
    was_folder = path.is_dir()
    if was_folder:
        shutil.rmtree(path)
        path.write_text("in the way")
    else:
        path.unlink(missing_ok=True)
        path.mkdir()
    edit(place)
    said = ragline(*words)
    assert "mistake of ragline" not in said.err
    assert said.code in (0, 1, 5)
    if said.code == 1:
        assert str(path) in said.err
        assert "move it away" in said.err


@pytest.mark.parametrize("name", ["namespace.json", "sources.memory", "last.json", "manifest.json", "CURRENT", ".lock"])
@pytest.mark.parametrize("text", ["[" * 100_000, "null", '{"format": 1e400}'], ids=["deep", "null", "infinite"])
def test_a_file_that_holds_something_else_is_damage_or_no_matter(
    ragline: Any, place: Path, name: str, text: str
) -> None:
    ragline("index")
    (path,) = (place / "store").rglob(name)
    path.write_text(text)
    for words in (["plan"], ["status"], ["index"], ["verify"], ["repair", "--drop"], ["verify"]):
        said = ragline(*words)
        assert "mistake of ragline" not in said.err, words
        assert said.code in (0, 5), words
    assert said.code == 0


def test_a_folder_named_staging_that_is_not_ours_is_left_alone(ragline: Any, place: Path) -> None:
    (place / "staging/site").mkdir(parents=True)
    (place / "staging/site/index.html").write_text("a page")
    assert ragline("index", "--store", ".").code == 0
    assert ragline("gc", "--store", ".").code == 0
    assert (place / "staging/site/index.html").exists()


def test_a_damaged_version_that_is_not_live_can_be_dropped(ragline: Any, place: Path) -> None:
    ragline("index")
    edit(place)
    ragline("index")
    edit(place, "# Newer\n\nThe halt at Gullvik burnt down.\n")
    ragline("index")
    indexes = place / "store/indexes/main"
    (indexes / "v000001/manifest.json").write_text("{}")
    (indexes / "v000002/documents.parquet").write_bytes(b"no table")
    verified = ragline("verify", "--json")
    assert verified.code == 5
    assert all("`ragline repair --drop`" in problem["repair"] for problem in verified.json["problems"])
    assert ragline("repair").code == 5
    assert (indexes / "v000001").is_dir()
    dropped = ragline("repair", "--drop", "--json")
    assert (dropped.code, dropped.json["dropped"], dropped.json["problems"]) == (0, [1, 2], [])
    assert [path.name for path in sorted(indexes.glob("v*"))] == ["v000003"]
    assert ragline("verify").code == 0
    edit(place)
    assert ragline("index", "--json").json["version"] == 4


def test_the_live_version_and_one_that_is_being_read_are_never_dropped(ragline: Any, place: Path) -> None:
    from rag.index.versions import Versions

    ragline("index")
    edit(place)
    ragline("index")
    shutil.rmtree(place / "docs")
    (place / "docs").mkdir()
    edit(place)
    indexes = place / "store/indexes/main"
    with Versions(place / "store", "main").open(1):
        for number in (1, 2):
            (indexes / f"v00000{number}/documents.parquet").unlink()
        said = ragline("repair", "--drop", "--json")
    assert (said.code, said.json["dropped"]) == (5, [])
    assert all("have changed since" in line for line in said.json["failed"])
    assert (len(said.json["failed"]), said.json["embedded"]) == (2, 0)
    assert {path.name for path in indexes.glob("v*")} == {"v000001", "v000002"}


def test_a_repair_never_gives_an_old_version_the_manifest_of_the_live_one(ragline: Any, place: Path) -> None:
    ragline("index")
    edit(place)
    ragline("index")
    indexes = place / "store/indexes/main"
    (indexes / "v000001/manifest.json").write_text("{}")
    assert ragline("repair").code == 5
    assert (indexes / "v000001/manifest.json").read_text() == "{}"


def test_a_repair_says_what_it_embedded_again_and_why_it_could_not(ragline: Any, place: Path) -> None:
    ragline("index")
    broken = place / "store/indexes/main/v000001/index.faiss"
    sound = broken.read_bytes()

    def lose() -> None:
        for segment in (place / "store/cache").rglob("*.arrow"):
            segment.unlink()
        broken.write_bytes(b"no index")

    lose()
    assert "3 texts embedded again" in ragline("repair").out
    assert broken.read_bytes() == sound
    lose()
    told = ragline("repair", "--json").json
    assert (told["embedded"], told["usd"], told["failed"]) == (3, 0.0, [])
    lose()
    shutil.rmtree(place / "docs")
    said = ragline("repair")
    assert said.code == 5
    assert "could not be made anew" in said.err
    assert "docs" in said.err


def test_prune_names_the_version_whose_table_cannot_be_read(ragline: Any, place: Path) -> None:
    ragline("index")
    edit(place)
    ragline("index")
    path = place / "store/indexes/main/v000001/chunks.parquet"
    path.write_bytes(b"no table")
    said = ragline("cache", "prune")
    assert said.code == 5
    assert str(path) in said.err
    assert "`ragline repair --drop`" in said.err


def test_a_flipped_format_of_a_namespace_is_found_and_both_ways_out_are_named(ragline: Any, place: Path) -> None:
    ragline("index")
    (path,) = (place / "store/cache").glob("*/namespace.json")
    sound = path.read_bytes()
    path.write_bytes(sound.replace(b'"format":1', b'"format":9'))
    edit(place)
    said = ragline("index")
    assert said.code == 2
    verified = ragline("verify", "--json")
    assert verified.code == 5
    (problem,) = verified.json["problems"]
    assert problem["file"] == str(path)
    for told in (said.err, problem["repair"]):
        assert "upgrade ragline" in told
        assert "remove it" in told
    assert ragline("repair").code == 5
    assert path.read_bytes() != sound
    path.unlink()
    assert ragline("repair").code == 0
    assert path.read_bytes() == sound
    assert ragline("index").code == 0


@pytest.mark.parametrize(("old", "new"), [(b'"format":1', b'"format":0'), (b"256", b"257")])
def test_a_flipped_digit_of_a_namespace_is_mended(ragline: Any, place: Path, old: bytes, new: bytes) -> None:
    ragline("index")
    (path,) = (place / "store/cache").glob("*/namespace.json")
    sound = path.read_bytes()
    assert old in sound
    path.write_bytes(sound.replace(old, new))
    assert ragline("verify").code == 5
    assert ragline("repair").code == 0
    assert path.read_bytes() == sound


def test_a_ledger_line_that_is_none_is_named_and_the_sum_is_unknown(ragline: Any, place: Path) -> None:
    ragline("index")
    good = {"at": "2026-11-01T00:00:00Z", "command": "ragline index", "format": 1, "model": "openai/x", "outcome": "done",
            "requests": 1, "saved_usd": None, "tokens": 10, "usd": 0.5}  # fmt: skip
    bad = [
        {**good, "usd": float("nan")},
        {**good, "usd": "much"},
        {**good, "tokens": "ten"},
        {**good, "tokens": 10**400},
        {**good, "usd": -1},
        {**good, "requests": True},
        {**good, "format": "1"},
        [1],
        None,
    ]
    path = place / "store/ledger/2026-11.jsonl"
    path.parent.mkdir()
    path.write_text("".join(json.dumps(line) + "\n" for line in [good, *bad]) + json.dumps(good)[:40])
    status = ragline("status", "--json")
    assert status.code == 0
    spent = status.json["spent"]
    assert (spent["runs"], spent["tokens"], spent["usd"]) == (1, 10, None)
    assert spent["unreadable"] == [f"{path}:{number}" for number in range(2, len(bad) + 3)]
    assert f"{path}:2" in ragline("status").err
    edit(place)
    assert ragline("plan").code == 0
    assert ragline("index").code == 0


def test_a_torn_ledger_line_does_not_swallow_the_next(tmp_path: Path) -> None:
    from rag.clock import SystemClock
    from rag.embedding import ledger
    from rag.types import Usage

    now = SystemClock().utc()
    path = tmp_path / "ledger" / f"{now:%Y-%m}.jsonl"
    path.parent.mkdir()
    path.write_text('{"at": "2026-1')
    for _ in range(2):
        ledger.record(tmp_path, now, "ragline index", "openai/x", Usage(1, 5, 0, 0.1), None, "done")
    assert len(list(ledger.entries(tmp_path))) == 2
    assert [str(line) for line in ledger.lines(tmp_path) if isinstance(line, ledger.Unreadable)] == [f"{path}:1"]
