from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from eval.datasets.canonical import read
from eval.types import Gold, Question
from rag.errors import UsageError

GOOD: dict[str, Any] = {
    "question_id": "q-1",
    "question": "Who closes the pass?",
    "answers": ["the forecaster"],
    "answerable": True,
    "gold": [{"doc_id": "a.md", "start": 3, "end": 13, "quote": "forecaster"}],
    "about": None,
    "tags": {"type": "fact"},
}
EMPTY = {**GOOD, "question_id": "q-2", "answers": [], "answerable": False, "gold": [], "about": "a.md"}


def written(path: Path, *rows: object) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def mistakes(path: Path) -> list[tuple[str, str]]:
    with pytest.raises(UsageError) as caught:
        read(path)
    return [(problem.where.rpartition(":")[2], problem.what) for problem in caught.value.problems]


def test_a_file_is_read_in_its_order_and_blank_lines_do_not_count(tmp_path: Path) -> None:
    path = written(tmp_path / "q.jsonl", EMPTY, "", GOOD)
    assert read(path) == [
        Question(
            "q-2", "Who closes the pass?", (), answerable=False, gold=(), tags={"type": "fact"}, about="a.md", line=1
        ),
        Question(
            "q-1",
            "Who closes the pass?",
            ("the forecaster",),
            answerable=True,
            gold=(Gold("a.md", 3, 13, "forecaster"),),
            tags={"type": "fact"},
            line=3,
        ),
    ]


def test_a_packed_file_reads_as_the_plain_one(tmp_path: Path) -> None:
    plain = written(tmp_path / "q.jsonl", GOOD, EMPTY)
    packed = tmp_path / "q.jsonl.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert read(packed) == read(plain)


def test_all_mistakes_come_at_once_with_their_lines(tmp_path: Path) -> None:
    span = GOOD["gold"][0]
    path = written(
        tmp_path / "q.jsonl",
        GOOD,
        '{"question_id": "q-3",',
        {name: value for name, value in GOOD.items() if name not in {"question", "gold"}} | {"question_id": "q-4"},
        {**GOOD, "question": "again"},
        {**GOOD, "question_id": "q-5", "gold": [{**span, "end": 3}]},
        {**GOOD, "question_id": "q-6", "gold": [{"doc_id": "a.md"}]},
        {**GOOD, "question_id": "q-7", "answers": [], "gold": []},
        {**GOOD, "question_id": "q-8", "answers": [" "]},
        {**EMPTY, "question_id": "q-9", "answers": ["a guess"]},
        {**GOOD, "question_id": "q-10", "gold": [{**span, "end": 14}]},
        {**GOOD, "question_id": "q-11", "answerable": 1},
        "[1]",
    )
    found = mistakes(path)
    assert found[0][0] == "2"
    assert found[0][1].startswith("not JSON: ")
    assert found[1:] == [
        ("3", "question is missing"),
        ("3", "gold is missing"),
        ("4", "question_id 'q-1' stands on line 1 already"),
        ("5", "gold[0] has no span: start 3, end 3"),
        ("6", "gold[0].start is missing"),
        ("6", "gold[0].end is missing"),
        ("6", "gold[0].quote is missing"),
        ("7", "answerable, but with neither answers nor gold"),
        ("8", "answers holds something that is no text, or empty text"),
        ("9", "not answerable, but with answers or gold"),
        ("10", "gold[0]: the span is 11 long, its quote 10"),
        ("11", "answerable is not true or false"),
        ("12", "list, not an object"),
    ]


def test_a_file_that_is_not_there_or_not_whole_is_one_mistake(tmp_path: Path) -> None:
    broken = tmp_path / "q.jsonl.gz"
    broken.write_bytes(gzip.compress(b"x" * 1000)[:-20])
    for path in (tmp_path / "none.jsonl", broken, written(tmp_path / "empty.jsonl")):
        with pytest.raises(UsageError) as caught:
            read(path)
        assert len(caught.value.problems) == 1
        assert caught.value.problems[0].where == str(path)


def test_a_question_may_have_grades_or_contexts_in_place_of_gold(tmp_path: Path) -> None:
    bare = {name: value for name, value in GOOD.items() if name != "gold"} | {"answers": []}
    path = written(
        tmp_path / "q.jsonl",
        {**bare, "question_id": "q-1", "grades": {"a": 2, "7": -1}},
        {**bare, "question_id": "q-2", "gold": [], "contexts": ["The forecaster closes it."]},
        {**bare, "question_id": "q-3", "grades": {}},
    )
    first, second, third = read(path)
    assert first.judgements == {"a": 2, "7": -1}
    assert second.contexts == ("The forecaster closes it.",)
    assert third.judgements == {}


def test_grades_and_contexts_of_wrong_types_are_mistakes(tmp_path: Path) -> None:
    path = written(
        tmp_path / "q.jsonl",
        {**GOOD, "question_id": "q-1", "grades": {"a": 1.5}},
        {**GOOD, "question_id": "q-2", "grades": [1]},
        {**GOOD, "question_id": "q-3", "contexts": [""]},
        {**GOOD, "question_id": "q-4", "tags": {"hops": 2}},
        {**GOOD, "question_id": 5},
    )
    assert mistakes(path) == [
        ("1", "grades is not an object of whole numbers by doc_id"),
        ("2", "grades is not an object of whole numbers by doc_id"),
        ("3", "contexts is not a list of texts"),
        ("4", "tags is not an object of texts"),
        ("5", "question_id is not text"),
    ]
