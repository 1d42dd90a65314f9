"""The whole road with a real model as judge: so small a one judges badly, and every figure says how often it was of no use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eval import record, tables
from tests.cli.evaluating import Place, furnish, lasting

pytestmark = [pytest.mark.server, pytest.mark.slow]
JUDGED = ("Correctness", "AnswerRelevance")
ASKED = 3


@pytest.fixture
def place(tmp_path: Path, model_server: str) -> Place:
    judge = ["[judge]", 'model = "openai/smollm2"', f'base_url = "{model_server}/v1"', "max_tokens = 48"]
    furnish(tmp_path / "place", *judge, "timeout_seconds = 300", "concurrency = 1")
    return Place(tmp_path / "place")


def test_a_run_with_a_real_judge_ends_and_counts_what_it_could_not_score(place: Place) -> None:
    words = ("--limit", str(ASKED), "--measures", ",".join(("R@5", *JUDGED)))
    content = place.evaluate(*words)
    assert (content["questions"], content["errors"], content["status"]) == (ASKED, 0, "complete")
    whole = {row["measure"]: row for row in content["summary"] if row["slice_tag"] == "all"}
    run = Path(content["path"])
    kept = record.read(run)
    scores = tables.read(run, record.tables(kept)["scores"]).to_pylist()
    for measure in JUDGED:
        rows = [row for row in scores if row["measure"] == measure]
        unscored = [row for row in rows if row["status"] == "unscored"]
        assert (whole[measure]["unscored"], len(rows)) == (len(unscored), ASKED)
        assert whole[measure]["n"] == sum(row["status"] == "scored" for row in rows)
        assert all(row["value"] is None and row["reason"] for row in unscored)
        assert all(0 <= row["value"] <= 1 for row in rows if row["status"] == "scored")
    unusable = sum(row["unscored"] for row in whole.values())
    assert unusable, "so small a model gives no JSON that holds; else the rest of this test shows nothing"
    assert any(row["scored_by"] == "openai/smollm2" for row in scores)
    assert content["usage"]["requests"] > unusable
    assert content["usage"]["usd"] is None
    (role,) = (model for model in kept["models"] if model["role"] == "judge")
    assert (role["id"], role["base_url"]) == ("openai/smollm2", kept["settings"]["judge"]["base_url"])

    shown = place.run("show", "@latest").stdout
    for measure in JUDGED:
        line = next(line for line in shown.splitlines() if line.startswith(measure))
        assert (f"{whole[measure]['unscored']} unscored" in line) == bool(whole[measure]["unscored"])
    assert "without a usable verdict are " in (run / "report.html").read_text()

    again = place.evaluate(*words)
    assert again["usage"]["requests"] == 0
    assert lasting(again["path"]) == lasting(run)


def test_a_real_judge_is_calibrated_and_a_later_run_says_how_far_it_agrees(place: Place) -> None:
    table = "question,expected,answer,human\nWhen did it open?,1987,In 1987.,yes\nWhen did it open?,1987,In 1999.,no\n"
    (place.folder / "judged.csv").write_text(table)
    done = place.run("eval", "--calibrate", "judged.csv", "--json")
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    (judge,) = (each for each in content["agreements"] if each["rater"] == "judge")
    assert judge["n"] + judge["unscored"] == content["answers"] == 2
    assert Path(content["kept"]).is_file()
    said = place.run("eval", "--calibrate", "judged.csv").stdout
    assert any(line.startswith("judge ") for line in said.splitlines())
    ledger = [
        json.loads(line) for path in (place.store / "ledger").glob("*.jsonl") for line in path.read_text().splitlines()
    ]
    assert [(entry["model"], entry["requests"]) for entry in ledger] == [
        ("openai/smollm2", content["usage"]["requests"])
    ]
