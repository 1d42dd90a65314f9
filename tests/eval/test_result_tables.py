"""The tables of a run keep their columns and their rules, and equal runs make equal tables."""

from __future__ import annotations

import io
import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from eval import tables
from eval.about import redacted
from eval.record import KEYS, fingerprint
from eval.rows import question_rows, retrieved_rows, score_rows
from eval.tables import TABLES
from rag.errors import Damaged, FormatTooNew
from tests.eval.made_runs import (
    BELL,
    FIRST,
    GRADED,
    HUT,
    ID,
    MEASURES,
    OPENED,
    PRICE,
    THIRD,
    answered,
    everything,
    info,
    observed,
    saved,
    scored,
)

ROOT = Path(__file__).resolve().parents[2]
KEY = "run_id question_id arm repeat:int64"
COLUMNS_OF_VERSION_1 = {
    "questions": f"""{KEY} question question_sha256 status error_type? error_message? answer? cause? model? prompt?
        prompt_sha256? expected_json gold_json citations_json tags_json answerable:bool abstained:bool
        answer_cached:bool gold_count:int64 first_gold_rank:int64? retrieved_count:int64 prompt_passages:int64
        input_tokens:int64 output_tokens:int64 usd:float64? usd_saved:float64? retrieve_seconds:float64
        generate_seconds:float64? judge_seconds:float64? asked_at_utc:timestamp[us]""",
    "retrieved": f"""{KEY} rank:int64 score:float64 dense_rank:int64? lexical_rank:int64? dense_score:float64?
        lexical_score:float64? chunk_id doc_id source heading_path text char_start:int64 char_end:int64 tokens:int64
        judged:bool grade:int64? gold_chars:int64 in_prompt:bool cited:bool""",
    "scores": f"{KEY} measure value:float64? status reason? cluster_id scored_by",
    "summary": """run_id run_name index_name index_version dataset arm measure slice_tag slice_value n:int64
        unscored:int64 errors:int64 clusters:int64 mean:float64? low:float64? high:float64? mean_errors_zero:float64?
        confidence:float64 interval higher_is_better:bool enough:bool""",
}
VOLATILE = {
    *("run_id", "answer_cached", "usd", "usd_saved", "retrieve_seconds", "generate_seconds", "judge_seconds"),
    "asked_at_utc",
}


@pytest.mark.parametrize("table", TABLES)
def test_the_columns_of_version_1_stay_first_and_as_they_are(table: str) -> None:
    wanted = []
    for word in COLUMNS_OF_VERSION_1[table].split():
        name, _, kind = word.removesuffix("?").partition(":")
        wanted.append((name, kind or "string", word.endswith("?")))
    shape = tables.schema(table)
    assert [(field.name, str(field.type).replace("double", "float64"), field.nullable) for field in shape][
        : len(wanted)
    ] == wanted
    assert shape.metadata == {b"ragline.table": table.encode(), b"ragline.schema_version": b"1"}


def test_the_files_are_compressed_and_carry_page_checksums(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    for table in TABLES:
        path = folder / f"{table}.parquet"
        file = pq.ParquetFile(path)
        assert file.schema_arrow.equals(tables.schema(table), check_metadata=True)
        assert {file.metadata.row_group(0).column(at).compression for at in range(len(TABLES[table]))} == {"ZSTD"}
        data = bytearray(path.read_bytes())
        # a bit of the first page's data, behind its header
        offset = file.metadata.row_group(0).column(0).dictionary_page_offset or 4
        data[offset + 40] ^= 1
        with pytest.raises(OSError, match=r"CRC|checksum|[Cc]orrupt"):
            pq.read_table(pa.BufferReader(bytes(data)), page_checksum_verification=True)


def test_names_that_end_json_hold_json_and_those_that_end_utc_are_times(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    for table, columns in TABLES.items():
        rows = pq.read_table(folder / f"{table}.parquet").to_pylist()
        for column in columns:
            assert column.name.endswith("_utc") == (column.kind == "timestamp[us]")
            if column.name.endswith("_json"):
                for row in rows:
                    json.loads(row[column.name])
            if column.kind == "float64":
                assert all(row[column.name] is None or math.isfinite(row[column.name]) for row in rows)


def rows_of(table: str) -> list[dict[str, Any]]:
    of = {"questions": question_rows, "retrieved": retrieved_rows, "scores": score_rows}[table]
    return [dict(row) for row in of(scored(), ID)]


def test_there_is_a_row_for_every_question_arm_and_repeat_and_for_every_measure_of_them() -> None:
    keys = [(each.question.question_id, each.arm, each.repeat) for each in everything()]
    found = [(row["question_id"], row["arm"], row["repeat"]) for row in rows_of("questions")]
    assert found == keys
    scores = [(row["question_id"], row["arm"], row["repeat"], row["measure"]) for row in rows_of("scores")]
    assert scores == [(*key, str(measure)) for key in keys for measure in MEASURES]


def test_an_error_is_a_row_with_its_reason_and_without_secrets() -> None:
    row = next(row for row in rows_of("questions") if row["question_id"] == GRADED.question_id)
    assert (row["status"], row["error_type"], row["cause"]) == ("error", "ProviderFailed", "error")
    assert row["error_message"] == "503 from http://host/v1 [key]"
    assert (row["answer"], row["model"], row["abstained"], row["input_tokens"]) == (None, None, False, 0)


def test_an_address_loses_its_user_password_and_query_and_nothing_else() -> None:
    text = 'see http://a:b@h:80/v1/?x=1&y=2, "https://h/p?q=z" and why? a=b; me@home'
    assert redacted(text) == 'see http://h:80/v1/ "https://h/p" and why? a=b; me@home'


def test_tokens_are_those_of_the_call_that_was_paid_also_when_it_is_cached() -> None:
    first, again = (observed(OPENED, answered(OPENED, "1911"), seconds=each) for each in (0.25, 0.0))
    rows = list(question_rows(scored((first, again)), ID))
    assert [(row["answer_cached"], row["input_tokens"], row["output_tokens"], row["usd"]) for row in rows] == [
        (False, 120, 7, 0.002),
        (True, 120, 7, 0.0),
    ]


def test_the_first_gold_is_looked_for_beyond_the_prompt() -> None:
    row = next(iter(question_rows(scored((observed(BELL, answered(BELL, "a bell")),)), ID)))
    assert (row["prompt_passages"], row["retrieved_count"], row["first_gold_rank"]) == (2, 3, 3)
    without = next(iter(question_rows(scored((observed(PRICE, answered(PRICE, "1")),)), ID)))
    assert without["first_gold_rank"] is None


def test_retrieved_says_what_is_judged_gold_given_and_cited() -> None:
    answer = answered(OPENED, "1911", cites=(FIRST,))
    rows = list(retrieved_rows(scored((observed(OPENED, answer), observed(OPENED, answer, "closed_book"))), ID))
    facts = ("rank", "chunk_id", "judged", "grade", "gold_chars", "in_prompt", "cited", "dense_rank", "lexical_rank")
    assert [tuple(row[name] for name in facts) for row in rows] == [
        (1, "line.md@0-31", True, 1, 31, True, True, 1, None),
        (2, "line.md@33-60", True, 1, 0, True, False, None, 2),
        (3, "hut.md@0-35", False, None, 0, False, False, 3, 3),
    ]
    assert rows[0]["heading_path"] == r"The line > a \> b"
    graded = list(retrieved_rows(scored((observed(GRADED, None),)), ID))
    assert [(row["judged"], row["grade"], row["gold_chars"]) for row in graded] == [
        (True, 2, 0),
        (True, 2, 0),
        (True, 0, 0),
    ]


def test_gold_is_covered_at_every_place_of_a_folded_chunk() -> None:
    moved = replace(
        BELL, gold=tuple(replace(each, doc_id="bell.md", start=each.start + 5, end=each.end + 5) for each in BELL.gold)
    )
    (row,) = (
        row
        for row in retrieved_rows(scored((observed(moved, answered(moved, "a bell"), ranking=(THIRD,), given=1),)), ID)
    )
    assert (row["gold_chars"], row["judged"], row["grade"]) == (len("a bell rings."), True, 1)


def test_the_json_of_gold_holds_spans_and_judged_documents() -> None:
    rows = {row["question_id"]: row for row in rows_of("questions")}
    gold = {name: json.loads(row["gold_json"]) for name, row in rows.items()}
    start = HUT.index("a bell rings.")
    span = {"doc_id": "hut.md", "start": start, "end": start + 13, "quote": "a bell rings.", "grade": 1}
    assert gold["q-bell"] == [span]
    assert gold["q-graded"] == [
        {"doc_id": name, "start": None, "end": None, "quote": None, "grade": grade}
        for name, grade in (("gone.md", 1), ("hut.md", 0), ("line.md", 2))
    ]
    both = replace(BELL, grades={"hut.md": 3, "line.md": 0})
    (row,) = question_rows(scored((observed(both, answered(both, "a bell")),)), ID)
    assert [(each["doc_id"], each["start"], each["grade"]) for each in json.loads(row["gold_json"])] == [
        ("hut.md", start, 3),
        ("line.md", None, 0),
    ]
    assert [rows[name]["gold_count"] for name in ("q-opened", "q-price", "q-graded")] == [1, 0, 2]


def test_text_that_no_file_can_hold_is_replaced_and_all_other_text_is_kept(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    asked = {row["question_id"]: row for row in pq.read_table(folder / "questions.parquet").to_pylist()}
    assert asked["q-bell"]["question"] == "What rings � under the hut?"
    assert asked["q-price"]["answer"] == "It cost � 1911 crowns."
    texts = pq.read_table(folder / "retrieved.parquet")["text"].to_pylist()
    assert HUT in texts
    assert tables.whole("\ud83c\udfd4") == "\U0001f3d4"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_refused_and_leaves_no_file(value: float, tmp_path: Path) -> None:
    rows = rows_of("scores")
    rows[-1]["value"] = value
    with pytest.raises(ValueError, match=r"scores\.value"):
        tables.write(tmp_path, "scores", rows)
    assert list(tmp_path.iterdir()) == []


def test_a_null_key_and_a_row_of_other_columns_are_refused(tmp_path: Path) -> None:
    rows = rows_of("scores")
    with pytest.raises(ValueError, match=r"scores\.arm"):
        tables.write(tmp_path, "scores", [{**rows[0], "arm": None}])
    with pytest.raises(TypeError):
        tables.write(tmp_path, "scores", [{**rows[0], "repeat": 0.5}])
    with pytest.raises(ValueError, match="more"):
        tables.write(tmp_path, "scores", [rows[0], {**rows[0], "more": 1}])


def test_a_table_of_many_row_groups_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "GROUP_ROWS", 7)
    rows = rows_of("scores")
    line = tables.write(tmp_path, "scores", iter(rows))
    assert pq.ParquetFile(tmp_path / "scores.parquet").metadata.num_row_groups == math.ceil(len(rows) / 7)
    assert tables.read(tmp_path, line).to_pylist() == rows


def test_a_changed_file_is_damaged_and_a_newer_one_is_refused(tmp_path: Path) -> None:
    line = tables.write(tmp_path, "scores", rows_of("scores"))
    path = tmp_path / "scores.parquet"
    with pytest.raises(FormatTooNew, match="has format 2; this ragline reads up to 1"):
        tables.read(tmp_path, {**line, "schema_version": 2})
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(Damaged, match=r"scores\.parquet is damaged"):
        tables.read(tmp_path, line)
    path.unlink()
    with pytest.raises(Damaged, match="No such file"):
        tables.read(tmp_path, line)


def stable(folder: Path, table: str) -> bytes:
    """The Parquet of a table without its volatile columns."""
    read = pq.read_table(folder / f"{table}.parquet")
    names = json.loads((folder / "run.json").read_text())["volatile"]
    sink = io.BytesIO()
    pq.write_table(read.drop_columns([name for name in names if name in read.column_names]), sink)
    return sink.getvalue()


def test_two_runs_of_the_same_thing_differ_in_volatile_columns_alone(tmp_path: Path) -> None:
    assert set(tables.volatile()) == VOLATILE
    one = saved(tmp_path, 0, rows=everything(0.25))
    two = saved(tmp_path, 1, rows=everything(0.0))
    for table in TABLES:
        assert (one / f"{table}.parquet").read_bytes() != (two / f"{table}.parquet").read_bytes()
        assert stable(one, table) == stable(two, table)
    records = [json.loads((folder / "run.json").read_text()) for folder in (one, two)]
    assert records[0]["fingerprint"] == records[1]["fingerprint"]
    left = [
        {key: record[key] for key in KEYS if key not in ("run_id", "usage", "seconds", "tables")} for record in records
    ]
    assert left[0] == left[1]


def test_the_fingerprint_follows_what_the_figures_depend_on_and_nothing_else() -> None:
    given = info()
    here = fingerprint(given, scored())
    settings: dict[str, Any] = json.loads(json.dumps(given.settings))

    def changed(section: str, key: str, value: Any) -> dict[str, Any]:
        return {**settings, section: {**settings[section], key: value}}

    same = [
        replace(given, run_id="x", name="other", command=(), priced_on=None, unpriced=("m",)),
        replace(given, settings=changed("generation", "concurrency", 99)),
        replace(given, settings=changed("generation", "api_key_env", "OTHER")),
        replace(given, settings={**settings, "store": "elsewhere", "prices": []}),
        replace(given, dataset=replace(given.dataset, path="moved.jsonl")),
        replace(given, index=replace(given.index, version=8, published=False)),
    ]
    assert {fingerprint(each, scored()) for each in same} == {here}
    other = [
        replace(given, settings=changed("retrieval", "k", 6)),
        replace(given, settings=changed("generation", "model", "openai/other")),
        replace(given, settings=changed("judge", "model", "openai/other")),
        replace(given, settings=changed("judge", "max_tokens", 7)),
        replace(given, settings=changed("generation", "max_tokens", 7)),
        replace(given, arms=("retrieved",)),
        replace(given, repeats=3),
        replace(given, search_depth=50),
        replace(given, seed=1),
        replace(given, dataset=replace(given.dataset, sha256="00" * 32)),
        replace(given, dataset=replace(given.dataset, limit=3)),
        replace(given, dataset=replace(given.dataset, where=None)),
        replace(given, index=replace(given.index, content_sha256="00" * 32)),
        replace(given, prompts=()),
        replace(given, ragline_version="0.2.0"),
        replace(given, commit="abc"),
        replace(given, dirty=True),
    ]
    prints = [fingerprint(each, scored()) for each in other] + [fingerprint(given, scored(measures=MEASURES[:1]))]
    assert len({here, *prints}) == len(prints) + 1


THREADS = """
import os, sys
from pathlib import Path
import pyarrow.parquet
from eval import record, tables
run = Path(sys.argv[1])
before = len(os.listdir("/proc/self/task"))
for line in record.tables(record.read(run)).values():
    tables.read(run, line)
print(len(os.listdir("/proc/self/task")) - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_reading_a_table_wakes_no_thread_that_could_hold_its_bytes_when_python_ends(tmp_path: Path) -> None:
    # such a thread lets go of Python's bytes under an interpreter that is gone, and the process is aborted
    command = [sys.executable, "-c", THREADS, str(saved(tmp_path))]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "0"
