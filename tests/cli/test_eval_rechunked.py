"""Gold is of documents: cut into other chunks, the same questions are asked, and none is lost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from eval import record, tables
from tests.cli.conftest import ROOT, Said
from tests.cli.evaluating import ROWS, furnish

pytestmark = pytest.mark.slow
SIZES = (32, 64, 128)


def questions_of(run: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = tables.read(run, record.tables(record.read(run))["questions"]).to_pylist()
    return found


def held(content: Any) -> tuple[Path, int]:
    """The run of an experiment, and how many chunks it has."""
    run = Path(content["path"])
    return run, record.read(run)["index"]["chunks"]


def test_another_size_of_chunk_is_an_experiment_with_the_same_gold_and_nothing_is_published(
    ragline: Any, place: Path
) -> None:
    shutil.rmtree(place / "docs")
    furnish(place / "own")
    shutil.copytree(place / "own/docs", place / "docs")
    shutil.copy(place / "own/q.jsonl", place / "q.jsonl")
    assert ragline("index", "--json").json["version"] == 1
    live = held(ragline("eval", "q.jsonl", "--json").json)
    seen = [live]
    for size in SIZES:
        said: Said = ragline(
            "eval", "q.jsonl", "--json", "--set", f"chunking.max_tokens={size}", "--set", "chunking.overlap_tokens=0"
        )
        content = said.json
        assert (said.code, content["questions"], content["errors"]) == (0, ROWS, 0)
        assert content["version"].startswith("experiment-")
        assert record.read(Path(content["path"]))["index"]["published"] is False
        seen.append(held(content))
    assert len({chunks for _, chunks in seen}) > 2, "no other chunks, nothing tried"
    assert len({run for run, _ in seen}) == len(seen)
    gold = [[(row["question_id"], row["gold_json"]) for row in questions_of(run)] for run, _ in seen]
    assert gold == [gold[0]] * len(seen)
    for run, _ in seen:
        missing = [row["question_id"] for row in questions_of(run) if row["answerable"] and not row["first_gold_rank"]]
        assert missing == [], "gold of every answerable question lies in some chunk that is found"
    versions = ragline("versions", "--json").json
    assert ([row["version"] for row in versions["versions"]], len(versions["experiments"])) == ([1], len(SIZES))
    status = ragline("status", "--json").json
    assert status["version"] == 1
    assert ragline("index", "--json").json["reason"] == "unchanged"


def test_the_shipped_questions_hold_for_chunks_of_128_tokens(ragline: Any) -> None:
    paths = ("--set", f"corpus.paths=['{ROOT / 'data/corpus'}']", "--set", "chunking.max_tokens=128")
    said: Said = ragline("eval", str(ROOT / "data/questions/vallorne.jsonl"), "--json", *paths)
    asked = [json.loads(line) for line in (ROOT / "data/questions/vallorne.jsonl").read_text().splitlines()]
    assert (said.code, said.json["questions"], said.json["errors"]) == (0, len(asked), 0)
    rows = {row["question_id"]: row for row in questions_of(Path(said.json["path"]))}
    for each in asked:
        row = rows[each["question_id"]]
        spans = [(span["doc_id"], span["start"], span["end"]) for span in json.loads(row["gold_json"]) if span["quote"]]
        assert spans == [(span["doc_id"], span["start"], span["end"]) for span in each["gold"]]
    assert not Path("store/indexes/main/CURRENT").exists()
