"""A run.json that somebody changed by hand, and a folder of runs that something stands in the way of."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from eval import record, results, runs
from eval.report.render import render
from rag.errors import Damaged, StorageFailed
from tests.eval.made_runs import saved


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("made")
    saved(store)
    return store


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "store"))


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"counts": None, "index": 3}, "index, counts is not"),
        ({"dataset": {}}, "dataset is not"),
        ({"run_id": 5, "agreement": {}}, "run_id, agreement is not"),
        ({"schema_version": "1"}, "schema_version is not"),
        ({"tables": 5}, "does not tell of every table"),
    ],
)
def test_a_run_json_whose_parts_are_something_else_is_damaged_for_all_who_read_it(
    store: Path, changes: dict[str, Any], what: str
) -> None:
    (run_id,) = results.run_ids(store / "results")
    folder = store / "results" / run_id
    path = folder / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    for reading in (record.read, runs.opened, render):
        with pytest.raises(Damaged, match=what):
            reading(folder)
    assert [what in each.what for each in runs.listed(store).damaged] == [True]


@pytest.mark.parametrize("text", ["[" * 100_000, "", "\x00"])
def test_a_run_json_that_is_no_json_is_damaged_for_the_report_too(store: Path, text: str) -> None:
    (run_id,) = results.run_ids(store / "results")
    (store / "results" / run_id / "run.json").write_text(text)
    with pytest.raises(Damaged, match=r"run\.json is damaged: it is no JSON"):
        render(store / "results" / run_id)


def test_a_run_is_kept_and_named_where_latest_cannot_be_written(store: Path) -> None:
    latest = store / "results" / "LATEST"
    latest.unlink()
    latest.mkdir()
    with pytest.raises(StorageFailed, match=r"is whole and kept, but cannot write .*LATEST") as caught:
        saved(store, 1)
    newest = results.run_ids(store / "results")[-1]
    assert newest in caught.value.message
    assert runs.opened(store / "results" / newest).run_id == newest
