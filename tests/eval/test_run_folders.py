"""Run folders come whole or not at all, are found by any of their names, and are read in spite of bad neighbours."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from eval import load_runs, results, runs
from eval.about import new_run_id
from eval.record import KEYS, run_json
from eval.results import VIEWS_SQL, save
from eval.tables import SCHEMA_VERSION, TABLES
from rag.errors import Damaged, FormatTooNew, NotFound, StorageFailed, UsageError
from rag.storage import write
from tests.eval.made_runs import NOW, OPENED, answered, info, observed, saved, scored

ROOT = Path(__file__).resolve().parents[2]
FILES = {"run.json", "report.html", *(f"{name}.parquet" for name in TABLES)}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("made")
    for number, name in enumerate(("base", "", "base")):
        saved(store, number, name)
    return store


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    """Three runs: two named base, one without a name in between."""
    return Path(shutil.copytree(made, tmp_path / "store"))


def ids(store: Path) -> list[str]:
    return results.run_ids(store / "results")


def rewrite(folder: Path, **values: Any) -> None:
    path = folder / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_run_is_whole_and_nothing_else_is_left(store: Path) -> None:
    for run_id in ids(store):
        assert {path.name for path in (store / "results" / run_id).iterdir()} == FILES
    assert {path.name for path in (store / "results").iterdir()} == {*ids(store), "LATEST", "views.sql"}
    assert list((store / "staging").iterdir()) == []
    assert (store / "results/LATEST").read_text() == f"{ids(store)[-1]}\n"
    assert (store / "results/views.sql").read_text() == VIEWS_SQL


def test_a_run_id_is_its_moment_and_something_random_so_that_runs_of_one_second_sort_by_time() -> None:
    moments = [NOW.replace(microsecond=each) for each in range(0, 1_000_000, 4_000)]
    ids = [new_run_id(each) for each in moments]
    assert ids == sorted(ids)
    names = {new_run_id(NOW) for _ in range(3)}
    assert len(names) == 3
    assert all(results._RUN_ID.fullmatch(name) and name.startswith("20261122T080000Z-") for name in names)


def test_run_json_has_every_key_and_tells_of_every_table(store: Path) -> None:
    folder = store / "results" / ids(store)[0]
    record = json.loads((folder / "run.json").read_text())
    assert tuple(record) == KEYS
    assert (record["name"], record["git"]) == ("base", {"commit": None, "dirty": None})
    assert json.loads((folder.parent / ids(store)[1] / "run.json").read_text())["name"] is None
    assert record["counts"] == {"questions": 5, "rows": 30, "ok": 18, "abstained": 6, "errors": 6}
    assert record["models"][0]["reported"] == ["smol-1"]
    assert record["models"][1]["reported"] == ["judge-1"]
    assert record["settings"]["prices"] == [{"model": "openai/smol", "input": 1.0, "output": 0.0, "batch": None}]
    assert record["usage"]["requests"] == 24 + 3
    assert record["usage"]["usd"] == pytest.approx(24 * 0.002 + 0.01)
    for line in record["tables"]:
        path = folder / line["file"]
        assert (line["bytes"], line["rows"]) == (path.stat().st_size, pq.ParquetFile(path).metadata.num_rows)


def test_no_secret_is_in_any_file_of_a_run(store: Path) -> None:
    for path in (store / "results").rglob("*"):
        data = path.read_bytes() if path.is_file() else b""
        assert not [each for each in (b"me:pass", b"key=abc", b"sk-abcdef") if each in data], path
    text = "".join(load_runs(store)["error_message"].dropna())
    assert "[key]" in text
    assert not [each for each in ("me:pass", "key=abc", "sk-abcdef") if each in text]


def test_a_failing_report_leaves_nothing(tmp_path: Path) -> None:
    def broken(folder: Path) -> str:
        assert {path.name for path in folder.iterdir()} == FILES - {"report.html"}
        raise RuntimeError("no report")

    with pytest.raises(RuntimeError, match="no report"):
        save(tmp_path, scored(), info(), broken)
    assert not (tmp_path / "results").exists()
    assert list((tmp_path / "staging").iterdir()) == []


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.eval.made_runs import saved
saved(Path(sys.argv[1]), 0)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("point", "kept"),
    [
        ("create.before_rename:1", 0),
        ("create.before_rename:6", 0),
        ("move_folder.before_rename:1", 0),
        ("move_folder.after_rename:1", 1),
        ("create.before_rename:7", 1),
        ("create.before_rename:8", 1),
    ],
)
def test_killed_at_any_point_a_run_is_whole_or_not_there(point: str, kept: int, tmp_path: Path) -> None:
    code = [sys.executable, "-c", KILLED, str(tmp_path), str(ROOT)]
    done = subprocess.run(code, env={**os.environ, "RAGLINE_FAULT": f"{point}:kill"}, check=False)
    assert done.returncode == -9
    assert len(runs.listed(tmp_path).runs) == len(ids(tmp_path)) == kept
    if kept:
        assert len(load_runs(tmp_path)) == 30
    saved(tmp_path, 1)
    assert list((tmp_path / "staging").iterdir()) == []
    assert len(load_runs(tmp_path)) == 30 * (kept + 1)
    assert (tmp_path / "results/LATEST").read_text() == f"{ids(tmp_path)[-1]}\n"


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAGLINE_FAULT", "move_folder.before_rename:1:28")
    monkeypatch.setattr("rag.storage._passed", {})
    with pytest.raises(StorageFailed, match="No space left"):
        saved(tmp_path)
    assert ids(tmp_path) == []
    assert list((tmp_path / "staging").iterdir()) == []


def test_latest_names_the_newest_run_whichever_ends_last(store: Path) -> None:
    saved(store, 30)
    saved(store, 20)
    assert (store / "results/LATEST").read_text() == "20261122T080030Z-3f9a1c\n"
    assert runs.find(store, "@latest").name == "20261122T080030Z-3f9a1c"


def test_latest_is_looked_at_again_where_another_process_came_between(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(path: Path, data: bytes) -> None:
        write(path, data)
        (store / "results" / "20261122T080059Z-ffffff").mkdir(exist_ok=True)

    monkeypatch.setattr(results, "write", late)
    saved(store, 5)
    assert (store / "results/LATEST").read_text() == "20261122T080059Z-ffffff\n"


def test_what_was_saved_is_unknown_where_a_part_of_it_is(tmp_path: Path) -> None:
    one = observed(OPENED, answered(OPENED, "1911"))
    for rows, wanted in (((one, one), 0.5), ((one, replace(one, usd_saved=None)), None)):
        given = replace(scored(rows), judge_usd_saved=0.5)
        assert run_json(info(), given, [])["usage"]["usd_saved"] == wanted  # type: ignore[call-overload, index]


def test_an_old_views_sql_is_brought_up_to_date(store: Path) -> None:
    (store / "results/views.sql").write_text("-- of an older release")
    saved(store, 3)
    assert (store / "results/views.sql").read_text() == VIEWS_SQL


def test_a_run_is_found_by_any_of_its_names(store: Path, tmp_path: Path) -> None:
    first, second, third = (store / "results" / run_id for run_id in ids(store))
    for name, wanted in {
        first.name: first,
        "@latest": third,
        "@previous": second,
        "base": third,
        "20261122T080001": second,
        str(second): second,
    }.items():
        assert runs.find(store, name) == wanted
    (copied,) = runs.export(store, tmp_path / "away", [second.name])
    assert runs.find(store, str(copied)) == copied
    assert runs.find(tmp_path / "away", "@latest") == copied


@pytest.mark.parametrize(
    ("name", "kind", "says"),
    [
        ("bose", NotFound, "did you mean base"),
        ("nothing-like-it", NotFound, "did you mean 20261122T080000Z-3f9a1c, 2026"),
        ("", NotFound, "there is no run ''"),
        ("2026", UsageError, "the beginning of 3 runs: 20261122T080000Z-3f9a1c, "),
    ],
)
def test_what_is_not_found_is_said_with_what_there_is(
    store: Path, name: str, kind: type[NotFound | UsageError], says: str
) -> None:
    with pytest.raises(kind) as caught:
        runs.find(store, name)
    assert says in str(caught.value)


def test_a_store_without_runs_says_how_to_make_one(tmp_path: Path) -> None:
    for name in ("@latest", "@previous", "base"):
        with pytest.raises(NotFound, match="run `ragline eval`"):
            runs.find(tmp_path, name)
    with pytest.raises(NotFound, match="run `ragline eval`"):
        load_runs(tmp_path)
    with pytest.raises(NotFound, match="run `ragline eval`"):
        runs.export(tmp_path, tmp_path / "away")
    assert runs.listed(tmp_path) == runs.Listing((), (), ())
    saved(tmp_path)
    with pytest.raises(NotFound, match="holds 1"):
        runs.find(tmp_path, "@previous")


def test_load_runs_is_one_frame_over_all_runs_as_pandas_reads_it(store: Path) -> None:
    for table in TABLES:
        frame = load_runs(str(store), table)
        parts = [pd.read_parquet(store / "results" / run_id / f"{table}.parquet") for run_id in ids(store)]
        pd.testing.assert_frame_equal(frame, pd.concat(parts, ignore_index=True))
        assert frame.attrs == {"skipped": []}


def test_load_runs_has_a_row_for_each_run(store: Path) -> None:
    frame = load_runs(store, "runs")
    assert frame["run_id"].tolist() == ids(store)
    assert frame["settings.retrieval.k"].tolist() == [5, 5, 5]
    assert json.loads(frame["arms"][0]) == ["retrieved", "oracle", "closed_book"]


def test_load_runs_takes_the_store_of_the_nearest_settings(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (store.parent / "ragline.toml").write_text('store = "store"\n')
    monkeypatch.chdir(store.parent)
    assert load_runs()["run_id"].nunique() == 3


def test_another_table_is_refused_with_those_that_there_are(store: Path) -> None:
    with pytest.raises(UsageError, match="questions, retrieved, scores, summary, runs"):
        load_runs(store, "question")


def test_importing_eval_imports_nothing_heavy() -> None:
    code = (
        "import sys; from eval import load_runs; print({'pandas', 'pyarrow', 'numpy', 'pydantic'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_saving_finding_and_showing_a_run_needs_no_pandas(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from tests.eval.made_runs import saved
from eval import runs
saved(Path(sys.argv[1]))
runs.one(runs.find(Path(sys.argv[1]), "@latest"), "q-opened")
runs.export(Path(sys.argv[1]), Path(sys.argv[1]) / "away")
print({"pandas"} & set(sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def garbage(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n1")


def shorter(path: Path) -> None:
    """A file that is sound, and not the one that was written."""
    if path.suffix == ".json":
        path.write_text("{}")
    else:
        pq.write_table(pq.read_table(path).slice(1), path)


@pytest.mark.parametrize("harm", [half, garbage, shorter, Path.unlink])
@pytest.mark.parametrize("file", ["run.json", "questions.parquet"])
def test_a_damaged_run_is_named_and_the_others_are_read(store: Path, file: str, harm: Any) -> None:
    bad = store / "results" / ids(store)[1]
    harm(bad / file)
    frame = load_runs(store)
    assert frame["run_id"].unique().tolist() == [ids(store)[0], ids(store)[2]]
    (says,) = frame.attrs["skipped"]
    assert says.startswith(f"{bad / file} is damaged: ")
    with pytest.raises(Damaged, match="is damaged"):
        runs.one(bad, "q-opened")
    with pytest.raises(Damaged, match="is damaged"):
        runs.export(store, store.parent / "away")
    assert not (store.parent / "away").exists()


@pytest.mark.parametrize("text", ["[]", "null", "{}", '{"tables": 1}'])
def test_a_run_json_of_another_shape_is_damaged(store: Path, text: str) -> None:
    bad = store / "results" / ids(store)[0]
    (bad / "run.json").write_text(text)
    with pytest.raises(Damaged):
        runs.opened(bad)
    assert len(runs.listed(store).damaged) == 1


@pytest.mark.parametrize("tables", [[], 5, [{"file": "questions.parquet"}], ["questions"]])
def test_a_run_json_without_its_tables_is_damaged(store: Path, tables: Any) -> None:
    bad = store / "results" / ids(store)[0]
    rewrite(bad, tables=tables)
    with pytest.raises(Damaged, match="does not tell of every table"):
        runs.opened(bad)


def test_a_folder_that_tells_of_another_run_is_not_counted_twice(store: Path) -> None:
    rewrite(store / "results" / ids(store)[0], run_id=ids(store)[1])
    assert load_runs(store)["run_id"].nunique() == 2
    assert "it tells of another run" in runs.listed(store).damaged[0].what


def newer_record(folder: Path) -> None:
    rewrite(folder, schema_version=SCHEMA_VERSION + 1, tables="of another kind")


def newer_table(folder: Path) -> None:
    lines = json.loads((folder / "run.json").read_text())["tables"]
    rewrite(folder, tables=[{**line, "schema_version": SCHEMA_VERSION + 1} for line in lines])


@pytest.mark.parametrize("newer", [newer_record, newer_table])
def test_a_run_of_a_newer_release_is_refused_with_one_message(store: Path, newer: Any) -> None:
    folder = store / "results" / ids(store)[0]
    newer(folder)
    calls: list[Callable[[], object]] = [
        lambda: load_runs(store),
        lambda: runs.one(folder, "q-opened"),
        lambda: runs.export(store, store / "away"),
    ]
    for call in calls:
        with pytest.raises(FormatTooNew, match=r"has format 2; this ragline reads up to 1.*upgrade ragline"):
            call()
    listing = runs.listed(store)
    assert (len(listing.runs), len(listing.newer), len(listing.damaged)) == (2, 1, 0)
    assert not (store / "away").exists()


def test_a_later_release_reads_old_runs_with_its_own(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from eval import record, rows, tables

    more = tables.Column("later", "int64", "a column of later", nullable=True)
    monkeypatch.setattr(tables, "SCHEMA_VERSION", 2)
    monkeypatch.setattr(record, "SCHEMA_VERSION", 2)
    monkeypatch.setitem(tables.TABLES, "scores", (*tables.SCORES, more))
    made = rows.score_rows
    monkeypatch.setattr(rows, "score_rows", lambda *given: ({**row, "later": 1} for row in made(*given)))
    saved(store, 9)
    frame = load_runs(store, "scores")
    assert frame.columns[-1] == "later"
    assert frame.groupby("run_id")["later"].count().tolist() == [0, 0, 0, 60]


def test_everything_of_one_question_comes_together(store: Path) -> None:
    found = runs.one(runs.find(store, "@latest"), "q-op")
    assert (found["run_id"], found["question_id"]) == (ids(store)[-1], "q-opened")
    assert [(each["row"]["arm"], each["row"]["repeat"]) for each in found["observations"]] == [
        (arm, repeat) for arm in ("retrieved", "oracle", "closed_book") for repeat in (0, 1)
    ]
    first, last = found["observations"][0], found["observations"][-1]
    assert first["row"]["prompt"].endswith("When did the summit line open?")
    assert first["row"]["asked_at_utc"] == "2026-11-22T08:00:00.250000Z"
    assert [row["rank"] for row in first["retrieved"]] == [1, 2, 3]
    assert [row["measure"] for row in first["scores"]] == ["R@5", "nDCG@10"]
    assert last["retrieved"] == []
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
    ("question", "kind", "says"),
    [("q-open", None, ""), ("q-b", UsageError, "2 questions: q-both, q-bell"), ("q-prize", NotFound, "q-price")],
)
def test_a_question_is_named_by_its_beginning_where_it_is_the_only_one(
    store: Path, question: str, kind: type[Exception] | None, says: str
) -> None:
    folder = runs.find(store, "@latest")
    if kind is None:
        assert runs.one(folder, question)["question_id"] == "q-opened"
        return
    with pytest.raises(kind, match=says):
        runs.one(folder, question)


def test_an_export_is_whole_and_stands_alone(store: Path, tmp_path: Path) -> None:
    away = tmp_path / "deep" / "away"
    copied = runs.export(store, away, ["@latest", "base", "@previous"])
    assert [path.name for path in copied] == [ids(store)[2], ids(store)[1]]
    assert {path.name for path in away.iterdir()} == {*ids(store)[1:], "views.sql"}
    for copy in copied:
        for path in (store / "results" / copy.name).iterdir():
            assert (copy / path.name).read_bytes() == path.read_bytes()
    assert load_runs(away)["run_id"].nunique() == 2
    runs.export(store, away, [ids(store)[0]])
    assert load_runs(away)["run_id"].nunique() == 3


def test_an_export_overwrites_nothing(store: Path, tmp_path: Path) -> None:
    away = tmp_path / "away"
    runs.export(store, away, [ids(store)[0]])
    (away / "views.sql").write_text("-- mine")
    before = {path: path.stat().st_mtime_ns for path in away.rglob("*")}
    with pytest.raises(UsageError) as caught:
        runs.export(store, away)
    assert [Path(problem.where).name for problem in caught.value.problems] == [ids(store)[0], "views.sql"]
    assert {path: path.stat().st_mtime_ns for path in away.rglob("*")} == before


def test_an_export_says_every_run_that_is_not_there(store: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound) as caught:
        runs.export(store, tmp_path / "away", ["bose", "base", "2026"])
    assert [problem.where for problem in caught.value.problems] == ["bose", "2026"]
    assert not (tmp_path / "away").exists()
