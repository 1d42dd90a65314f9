"""What a path is, is told by what stands in it; what is no question set is refused with what to do."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from eval.datasets.known import KNOWN
from eval.datasets.read import read
from eval.datasets.registry import FORMATS
from rag.errors import UsageError

MANUAL = Path(__file__).resolve().parents[2] / "docs" / "datasets.md"


def refused(path: Path, qrels: str | None = None) -> UsageError:
    with pytest.raises(UsageError) as caught:
        read(path, qrels)
    return caught.value


def jsonl(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "row",
    [
        {"question": "A?", "answer": "a", "ground_truth": "b"},
        {"question": "A?", "answer": "a", "contexts": ["c"]},
    ],
)
def test_a_file_that_can_be_read_in_two_ways_is_refused_with_both(row: dict[str, Any], tmp_path: Path) -> None:
    error = refused(jsonl(tmp_path / "q.jsonl", row))
    assert error.message.endswith("can be read as table and as ragas")
    assert [each.what.partition(":")[0] for each in error.problems] == ["`table`", "`ragas`"]
    assert all("expected_answer" in each.remedy for each in error.problems)


@pytest.mark.parametrize(
    ("name", "row"),
    [
        (
            "HotpotQA",
            {"_id": "1", "question": "A?", "answer": "a", "supporting_facts": [["T", 0]], "context": [["T", ["s"]]]},
        ),
        ("MuSiQue", {"id": "1", "question": "A?", "paragraphs": [], "question_decomposition": [], "answer": "a"}),
        ("MultiHop-RAG", {"query": "A?", "answer": "a", "question_type": "x", "evidence_list": []}),
        ("KILT", {"id": "1", "input": "A?", "output": [{"answer": "a", "provenance": []}]}),
        ("RGB", {"id": 0, "query": "A?", "answer": ["a"], "positive": ["p"], "negative": ["n"]}),
        ("AutoRAG", {"qid": "1", "query": "A?", "retrieval_gt": [["d"]], "generation_gt": ["a"]}),
        ("FlashRAG", {"id": "1", "question": "A?", "golden_answers": ["a"], "metadata": {}}),
        ("DeepEval", {"input": "A?", "expected_output": "a", "actual_output": "b", "retrieval_context": ["c"]}),
        ("LangSmith", {"inputs": {"question": "A?"}, "outputs": {"answer": "a"}}),
        ("RAGChecker", {"results": [{"query_id": "1", "query": "A?", "gt_answer": "a"}]}),
        ("LlamaIndex", {"examples": [{"query": "A?", "reference_contexts": ["c"], "reference_answer": "a"}]}),
        ("OpenAI Evals samples", {"input": [{"role": "user", "content": "A?"}], "ideal": "a"}),
        ("promptfoo", {"prompts": [], "tests": [{"vars": {"q": "A?"}}]}),
    ],
)
@pytest.mark.parametrize("shape", ["lines", "array", "pretty"])
def test_a_format_that_is_not_read_is_named_with_the_way_to_one_that_is(
    name: str, row: dict[str, Any], shape: str, tmp_path: Path
) -> None:
    path = tmp_path / "data"
    if shape == "lines":
        jsonl(path, row, {**row, "id": "2"})
    elif shape == "array":
        path.write_text(json.dumps([row]), encoding="utf-8")
    else:
        path.write_text(json.dumps(row, indent=2), encoding="utf-8")
    error = refused(path)
    assert f"looks like {name}" in error.message
    assert len(error.problems) == 1
    assert len(error.problems[0].remedy) > 20


def test_promptfoo_is_known_as_yaml_and_as_a_table(tmp_path: Path) -> None:
    path = tmp_path / "promptfooconfig.yaml"
    path.write_text("description: x\nprompts: [a]\ntests:\n  - vars: {q: 'A?'}\n", encoding="utf-8")
    assert "looks like promptfoo" in refused(path).message
    path = tmp_path / "tests.csv"
    path.write_text("question,__expected\nA?,equals: a\n", encoding="utf-8")
    assert "looks like promptfoo" in refused(path).message


def test_mtrag_is_known(datasets: Path) -> None:
    assert "looks like MTRAG" in refused(datasets / "mtrag-human-eval-a" / "tasks.jsonl").message


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("cranfield/queries.jsonl", "queries or a corpus alone"),
        ("cranfield/corpus.jsonl", "queries or a corpus alone"),
        ("cranfield/qrels.graded.trec", "judgements"),
        ("squad2-dev-slice/questions.jsonl", "the questions of a folder"),
        ("trec-eval-vectors/results.test", "a TREC run"),
    ],
)
def test_a_part_of_a_set_names_the_whole(name: str, what: str, datasets: Path) -> None:
    error = refused(datasets / name)
    assert what in error.message
    assert "folder" in error.problems[0].remedy or "ragline score" in error.problems[0].remedy


def test_a_pointer_of_git_lfs_is_named(tmp_path: Path) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"
    (tmp_path / "q.jsonl").write_bytes(pointer)
    assert "Git LFS pointer" in refused(tmp_path / "q.jsonl").message
    assert "Git LFS pointer" in refused(tmp_path).message


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf \n", "is empty"),
        (b"PK\x03\x04rest", "archive or a workbook"),
        (bytes(2000), "holds no text"),
        (b"PAR1 not really", "not a readable Parquet file"),
        (b"\x1f\x8b\x08broken", "cannot be unpacked"),
        (b"\x28\xb5\x2f\xfdbroken", "cannot be unpacked"),
        (b'{"question": "A?",\n "answer": ', "not JSON"),
        (b'["A?", "B?"]', "without one object"),
        (b"# A page\n\nwith words, and more\n", "no format"),
    ],
)
def test_what_holds_no_questions_is_one_clear_mistake(data: bytes, what: str, tmp_path: Path) -> None:
    path = tmp_path / "q"
    path.write_bytes(data)
    error = refused(path)
    assert any(what in each for each in [error.message, *(problem.what for problem in error.problems)])
    assert str(path) in error.problems[0].where


def test_broken_lines_are_told_beside_the_mistakes_of_the_others(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    rows = [
        '{"question": "A?", "answer": "a"}',
        '{"question": "B?", "answer": NaN}',
        '{"question": "C?", "answer": ""}',
        "{",
    ]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    found = [(each.where.rpartition(":")[2], each.what.partition(":")[0]) for each in refused(path).problems]
    assert found == [("2", "not JSON"), ("3", "answer is empty"), ("4", "not JSON")]


def test_a_table_that_is_not_utf_8_says_which_row(tmp_path: Path) -> None:
    path = tmp_path / "q.csv"
    path.write_bytes("question,answer\nA?,a\nWo?,Pässe\n".encode("latin-1"))
    (problem,) = refused(path).problems
    assert (problem.where, problem.what) == (f"{path}:3", "a cell is not UTF-8; convert the file to UTF-8")


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("text", ["question;answer\r\nWo?;Pässe\r\n", '{"question": "Wo?", "answer": "Pässe"}\n'])
def test_a_byte_order_mark_changes_nothing(codec: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "q"
    path.write_bytes(text.encode(codec))
    assert read(path).questions[0].expected_answers == ("Pässe",)


def test_a_folder_of_one_file_is_that_file_and_of_several_names_them(tmp_path: Path, datasets: Path) -> None:
    jsonl(tmp_path / "q.jsonl", {"question": "A?", "answer": "a"})
    (tmp_path / "README.md").write_text("question, answer", encoding="utf-8")
    assert read(tmp_path).path == tmp_path / "q.jsonl"
    assert len(refused(datasets / "xquad-a").problems) == 5
    assert "holds no question set" in refused(datasets / "docs-tldr").message
    assert "has no queries" in refused(datasets / "trec-eval-vectors").message


def test_a_folder_of_two_sets_is_refused_with_both(tmp_path: Path) -> None:
    for name in ("questions.jsonl", "passages.jsonl", "queries.jsonl"):
        jsonl(tmp_path / name, {"id": "1", "text": "A?"})
    (tmp_path / "qrels.trec").write_text("1 0 d 1\n", encoding="utf-8")
    assert refused(tmp_path).message.endswith("can be read as trec and as passages")


def test_choosing_judgements_where_there_are_none_is_a_mistake(tmp_path: Path, datasets: Path) -> None:
    path = jsonl(tmp_path / "q.jsonl", {"question": "A?", "answer": "a"})
    assert "without judgements" in refused(path, "test").message
    assert "no judgements" in refused(datasets / "squad2-dev-slice", "test").message


def test_naughty_strings_survive_as_questions_answers_and_tags(datasets: Path, tmp_path: Path) -> None:
    strings = json.loads((datasets / "hostile-text" / "blns.json").read_text(encoding="utf-8"))
    texts = [each for each in strings if each.strip()]
    rows = [{"id": str(at), "question": each, "answers": [each], "tag": each} for at, each in enumerate(texts)]
    dataset = read(jsonl(tmp_path / "q.jsonl", *rows))
    # a text that looks like a printed list is one only in a cell, not in a list
    assert [(each.text, each.expected_answers) for each in dataset.questions] == [(each, (each,)) for each in texts]


def test_the_recipe_of_the_manual_works(tmp_path: Path) -> None:
    row = {
        "_id": "5a",
        "question": "A?",
        "answer": "a",
        "supporting_facts": [["T", 0]],
        "type": "bridge",
        "level": "hard",
    }
    (tmp_path / "hotpot_dev.json").write_text(json.dumps([row]), encoding="utf-8")
    (recipe,) = re.findall(r"```python\n(.*?)```", MANUAL.read_text(encoding="utf-8"), re.DOTALL)
    subprocess.run([sys.executable, "-c", recipe], cwd=tmp_path, check=True)
    dataset = read(tmp_path / "hotpot.jsonl")
    assert (dataset.format, dataset.questions[0].grades) == ("canonical", {"T": 1})


def test_the_manual_names_every_format_and_what_is_only_known() -> None:
    text = " ".join(MANUAL.read_text(encoding="utf-8").split())
    assert [name for name in FORMATS if f"`{name}`" not in text] == []
    assert [each.name for each in KNOWN if each.name not in text and not each.name.startswith("the ")] == []
