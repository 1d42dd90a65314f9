"""What is no question set, or one that was damaged on its way: one message with the place, whatever stands there."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from eval.datasets.read import read
from eval.trec import read_qrels
from rag.errors import Problem, UsageError

ROW: dict[str, Any] = {
    "question_id": "q-1",
    "question": "Who closes the pass?",
    "answers": ["Lucie Ferrand"],
    "answerable": True,
    "gold": [],
}


def mistakes(path: Path) -> list[Problem]:
    with pytest.raises(UsageError) as caught:
        read(path)
    return list(caught.value.problems)


def test_a_parquet_file_with_a_damaged_page_behind_a_whole_footer_is_one_mistake(tmp_path: Path) -> None:
    path = tmp_path / "q.parquet"
    pq.write_table(pa.table({"question": ["Who?"] * 99, "expected_answer": ["I"] * 99}), path)
    data = bytearray(path.read_bytes())
    data[4:24] = b"\xff" * 20
    path.write_bytes(data)
    (problem,) = mistakes(path)
    assert "damaged in the rows from 1 on" in problem.what


@pytest.mark.parametrize("text", ["question,answer\n", "{}", "null", "[{}]"])
def test_what_has_no_row_with_a_column_says_that_there_is_no_question(tmp_path: Path, text: str) -> None:
    path = tmp_path / "q"
    path.write_text(text)
    assert [each.what for each in mistakes(path)] == ["there is not one question in it"]


def test_a_table_of_no_rows_says_that_there_is_no_question(tmp_path: Path) -> None:
    path = tmp_path / "q.parquet"
    pq.write_table(pa.table({"question": pa.array([], pa.string())}), path)
    assert [each.what for each in mistakes(path)] == ["there is not one question in it"]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"question": "who " * 250_001}, "question is 1,000,004 characters long, more than 1,000,000"),
        ({"answers": ["x" * 1_000_001]}, "an expected answer is 1,000,001 characters long, more than 1,000,000"),
        ({"question_id": "x" * 1_001}, "question_id is 1,001 characters long, more than 1,000"),
        ({"grades": {"a.md": 10**30}}, "a grade is above 999,999,999, or below its negative"),
        ({"grades": {"a.md": -(10**9)}}, "a grade is above 999,999,999, or below its negative"),
    ],
)
def test_what_is_larger_than_anything_meant_is_a_mistake_with_its_line(
    tmp_path: Path, change: dict[str, Any], what: str
) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(json.dumps(ROW) + "\n" + json.dumps({**ROW, "question_id": "q-2", **change}) + "\n")
    (problem,) = mistakes(path)
    assert (problem.where, problem.what) == (f"{path}:2", what)


def test_what_is_as_large_as_may_be_is_read(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(json.dumps({**ROW, "question": "w" * 1_000_000, "grades": {"a.md": 999_999_999}}) + "\n")
    assert len(read(path).questions[0].text) == 1_000_000


@pytest.mark.parametrize("place", ["/dev/zero", "/dev/null", "x" * 5_000, "a\0b"])
def test_a_device_and_a_name_that_no_file_has_are_refused_at_once(place: str) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read(Path(place))
    with pytest.raises(UsageError, match="cannot be read"):
        read_qrels(Path(place))


def test_a_pipe_is_read_as_a_file_is() -> None:
    out, into = os.pipe()
    try:
        os.write(into, json.dumps(ROW).encode() + b"\n")
        os.close(into)
        assert [each.question_id for each in read(Path(f"/dev/fd/{out}")).questions] == ["q-1"]
    finally:
        os.close(out)
