"""Each format on its real file, or on one written as its makers describe it."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from eval.datasets.corpus import corpus_records, write_corpus
from eval.datasets.read import read
from eval.types import Dataset, Gold
from rag.corpus.read import Reading
from rag.corpus.snapshot import snapshot
from rag.corpus.spec import CorpusSpec
from rag.errors import UsageError
from rag.types import Document


def jsonl(path: Path, *rows: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def table(path: Path, *rows: dict[str, Any]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        out = csv.DictWriter(file, list(rows[0]))
        out.writeheader()
        out.writerows(rows)
    return path


def parquet(path: Path, *rows: dict[str, Any]) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), path)
    return path


def mistakes(path: Path, qrels: str | None = None) -> list[tuple[str, str]]:
    with pytest.raises(UsageError) as caught:
        read(path, qrels)
    return [(each.where.removeprefix(str(path)), each.what) for each in caught.value.problems]


def indexed(path: Path) -> dict[str, Document]:
    """The documents that our own reader makes of a corpus."""
    spec = CorpusSpec((path,))
    return {each.doc_id: each for each in Reading(snapshot(spec, None, 0), spec) if isinstance(each, Document)}


def quotes_that_differ(dataset: Dataset, documents: dict[str, Document]) -> list[str]:
    return [
        question.question_id
        for question in dataset.questions
        for gold in question.gold
        if documents[gold.doc_id].text[gold.start : gold.end] != gold.quote
    ]


@pytest.mark.parametrize("question", ["question", "query", "input", "user_input", "prompt", "Question"])
@pytest.mark.parametrize("answer", ["answer", "expected", "ground_truth", "expected_output", "Expected Answer"])
def test_a_table_is_read_under_the_usual_names(question: str, answer: str, tmp_path: Path) -> None:
    rows = [{question: "Who closes the pass?", answer: "the forecaster", "level": "easy"}]
    for path in (table(tmp_path / "q.csv", *rows), jsonl(tmp_path / "q.jsonl", *rows), parquet(tmp_path / "q", *rows)):
        dataset = read(path)
        (only,) = dataset.questions
        assert dataset.format == "table"
        assert (only.text, only.expected_answers, only.tags) == (
            "Who closes the pass?",
            ("the forecaster",),
            {"level": "easy"},
        )
        assert f"read as question: {question}, answers: {answer}" in dataset.notes


def test_a_table_without_ids_gives_each_question_one_that_its_place_does_not_change(tmp_path: Path) -> None:
    first, second = {"question": "A?", "answer": "a"}, {"question": "B?", "answer": "b"}
    ids = {each.text: each.question_id for each in read(table(tmp_path / "q.csv", first, second)).questions}
    later = {each.text: each.question_id for each in read(table(tmp_path / "p.csv", second, first)).questions}
    assert ids == later
    assert len(set(ids.values())) == 2


def test_ids_stay_text(tmp_path: Path) -> None:
    rows = [{"id": "007", "question": "A?", "answer": "a", "doc_id": "01"}]
    (only,) = read(table(tmp_path / "q.csv", *rows)).questions
    assert (only.question_id, only.grades) == ("007", {"01": 1})
    (only,) = read(jsonl(tmp_path / "q.jsonl", {"id": 7, "question": "A?", "answer": "a"})).questions
    assert only.question_id == "7"
    assert mistakes(parquet(tmp_path / "q.parquet", {"id": 7.0, "question": "A?", "answer": "a"})) == [
        (" row 1", "id is a decimal number, not text")
    ]


def test_columns_become_tags_up_to_fifty_values_and_objects_of_metadata_are_opened(tmp_path: Path) -> None:
    rows = [
        {
            "question": f"{n}?",
            "answer": "a",
            "part": n % 50,
            "serial": n,
            "hard": n == 0,
            "words": [str(n)],
            "metadata": {"hops": 2},
        }
        for n in range(60)
    ]
    dataset = read(jsonl(tmp_path / "q.jsonl", *rows))
    assert dataset.questions[0].tags == {"part": "0", "hard": "true", "hops": "2"}
    assert "columns that became tags: part, hard, hops" in dataset.notes
    assert "columns that are no tags: serial (60 values), words (not text)" in dataset.notes


def test_answers_may_be_a_list_or_a_list_printed_into_a_cell(tmp_path: Path) -> None:
    for cell in ('["one", "1"]', "['one', '1']"):
        (only,) = read(table(tmp_path / "q.csv", {"question": "A?", "answers": cell})).questions
        assert only.expected_answers == ("one", "1")
    (only,) = read(jsonl(tmp_path / "q.jsonl", {"question": "A?", "answer": ["one", "1", "one"]})).questions
    assert only.expected_answers == ("one", "1")
    for text in ("[1] says the pass is closed", "[1, 2]", "[" * 5000):
        (only,) = read(table(tmp_path / "q.csv", {"question": "A?", "answers": text})).questions
        assert only.expected_answers == (text,)


def test_a_list_without_commas_is_refused_because_python_would_join_it(tmp_path: Path) -> None:
    found = mistakes(table(tmp_path / "q.csv", {"question": "A?", "answers": "['one' 'two']"}))
    assert found == [(":2", "answers is a list without commas, as NumPy prints it: its parts cannot be told apart")]


def test_an_unanswerable_question_says_so_and_an_empty_answer_is_a_mistake(tmp_path: Path) -> None:
    good = [
        {"question": "A?", "answer": "a", "answerable": "yes"},
        {"question": "B?", "answer": "", "answerable": "no"},
    ]
    assert [each.answerable for each in read(table(tmp_path / "q.csv", *good)).questions] == [True, False]
    bad = [
        {"id": "1", "question": "A?", "answer": "", "answerable": "true"},
        {"id": "2", "question": "B?", "answer": "b", "answerable": "false"},
        {"id": "2", "question": "", "answer": "c", "answerable": "perhaps"},
    ]
    assert mistakes(table(tmp_path / "p.csv", *bad)) == [
        (":2", "answer is empty: give an answer"),
        (":3", "not answerable, but answer holds an answer"),
        (":4", "question is empty"),
        (":4", "answerable is 'perhaps', not true or false"),
        (":4", "not answerable, but answer holds an answer"),
        (":4", "question_id '2' stands on line 3 already"),
    ]


@pytest.mark.parametrize("empty", ["", " ", [], "[]", [""], None])
def test_no_answer_in_any_form_is_empty(empty: object, tmp_path: Path) -> None:
    ((place, told),) = mistakes(jsonl(tmp_path / "q.jsonl", {"question": "A?", "answers": empty}))
    assert place == ":1"
    assert told.startswith("answers is empty")


def test_nan_and_wrong_types_of_a_parquet_file_are_named_by_row(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "q.parquet"
    pq.write_table(pa.table({"question": ["A?", "B?", None], "answer": pa.array([1.0, float("nan"), 2.0])}), path)
    assert mistakes(path) == [
        (" row 1", "answer is a decimal number, not text"),
        (" row 2", "answer is NaN"),
        (" row 3", "question is empty"),
        (" row 3", "answer is a decimal number, not text"),
    ]


def test_two_columns_that_could_be_the_answer_are_refused(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "q.jsonl", {"question": "A?", "expected": "a", "reference": "b"})
    assert mistakes(path) == [("", "'expected' and 'reference' could each be the expected answer")]


def test_questions_without_answers_are_kept_and_counted(datasets: Path) -> None:
    dataset = read(datasets / "pubmedqa-dev500")
    assert (dataset.format, len(dataset.questions)) == ("table", 500)
    assert all(each.contexts for each in dataset.questions)
    assert {each.tags["final_decision"] for each in dataset.questions} == {"yes", "no", "maybe"}
    assert "500 of 500 answerable questions have no expected answer: in no mean of answers" in dataset.notes


def test_lists_of_answers_as_natural_questions_has_them(datasets: Path) -> None:
    dataset = read(datasets / "openqa-nq301-human" / "NQ301_text-davinci-003_zeroshot.jsonl")
    assert dataset.questions[0].expected_answers == ("Bobby Scott", "Bob Russell")
    assert len(dataset.questions) == 301


def beir(folder: Path) -> Path:
    jsonl(
        folder / "corpus.jsonl", {"_id": "d1", "title": "T", "text": "one"}, {"_id": "d2", "title": "", "text": "two"}
    )
    jsonl(
        folder / "queries.jsonl",
        {"_id": "1", "text": "one?", "metadata": {"kind": "x"}},
        {"_id": "2", "text": "two?"},
        {"_id": "3", "text": "three?"},
    )
    (folder / "qrels").mkdir()
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n1\td1\t2\n1\td2\t0\n", encoding="utf-8")
    return folder


def test_a_folder_of_beir_keeps_what_is_not_judged(tmp_path: Path) -> None:
    dataset = read(beir(tmp_path))
    assert dataset.format == "beir"
    assert [dict(each.grades) for each in dataset.questions] == [{"d1": 2, "d2": 0}, {}, {}]
    assert dataset.questions[0].tags == {"kind": "x"}
    assert dataset.corpus == (tmp_path / "corpus.jsonl",)
    assert "2 of 3 answerable questions have no judged documents: in no mean of a ranking" in dataset.notes
    assert [row["id"] for row in corpus_records(dataset)] == ["d1", "d2"]


def test_several_splits_are_named_and_what_another_one_judges_is_left_out(tmp_path: Path) -> None:
    folder = beir(tmp_path)
    (folder / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\n2\td2\t1\n", encoding="utf-8")
    with pytest.raises(UsageError, match="2 files of judgements") as caught:
        read(folder)
    assert [each.remedy for each in caught.value.problems] == [
        "choose it with --qrels test",
        "choose it with --qrels train",
    ]
    for name in ("test", "test.tsv", "qrels/test.tsv"):
        assert [each.question_id for each in read(folder, name).questions] == ["1", "3"]
    assert "queries that are judged in another file alone, and left out: 1" in read(folder, "test").notes
    with pytest.raises(UsageError, match="'dev' is no one of them"):
        read(folder, "dev")


def test_parquet_judgements_read_as_tables_do(tmp_path: Path) -> None:
    folder = beir(tmp_path)
    plain = [dict(each.grades) for each in read(folder).questions]
    (folder / "qrels" / "test.tsv").unlink()
    rows = [("1", "d1", 2.0), ("1", "d2", 0.0)]
    names = ("query-id", "corpus-id", "score")
    parquet(folder / "qrels" / "test-00000-of-00001.parquet", *(dict(zip(names, row, strict=True)) for row in rows))
    assert [dict(each.grades) for each in read(folder).questions] == plain


def test_every_mistake_of_judgements_has_its_line(tmp_path: Path) -> None:
    folder = beir(tmp_path)
    (folder / "qrels" / "test.tsv").write_text(
        "query-id\tcorpus-id\tscore\n1\td1\tgood\n1\td1\t1\n1\td1\t2\n1\td1\n", encoding="utf-8"
    )
    assert mistakes(folder) == [
        ("/qrels/test.tsv:2", "score 'good' is not a whole number"),
        ("/qrels/test.tsv:4", "document 'd1' of query '1' has another score above"),
        ("/qrels/test.tsv:5", "2 cells where the header has 3"),
    ]


def test_judgements_joined_by_the_wrong_id_are_refused(tmp_path: Path) -> None:
    folder = beir(tmp_path)
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n001\td1\t1\n", encoding="utf-8")
    assert mistakes(folder) == [("", "no judged query is among the queries: '001' is judged, '1' is a query")]


def test_cranfield_reads_with_its_grades(datasets: Path) -> None:
    with pytest.raises(UsageError, match="2 files of judgements"):
        read(datasets / "cranfield")
    dataset = read(datasets / "cranfield", "graded")
    assert (dataset.format, len(dataset.questions)) == ("trec", 225)
    assert sum(len(each.grades) for each in dataset.questions) == 1837
    assert dataset.questions[0].grades["184"] == 3
    assert dataset.corpus == (datasets / "cranfield" / "corpus.jsonl",)
    documents = indexed(dataset.corpus[0])
    assert {doc_id for each in dataset.questions for doc_id in each.grades} - documents.keys() == {"995"}
    records = {row["id"]: row["text"] for row in corpus_records(dataset)}
    assert {doc_id: text for doc_id, text in records.items() if text} == {
        doc_id: document.text for doc_id, document in documents.items()
    }


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("queries.tsv", '7\twhat is "one"\n8\ttwo\n'),
        (
            "topics.txt",
            '<top>\n<num> Number: 7\n<title> what is\n "one"\n<desc> no\n</top>\n\n<top>\n<num> 8\n<title>two\n</top>\n',
        ),
    ],
)
def test_queries_of_trec_are_lines_or_topics(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "qrels.txt").write_text("7 0 d1 1\n7 0 d2 -1\n8 0 d1 0\n", encoding="utf-8")
    dataset = read(tmp_path)
    assert dataset.format == "trec"
    assert [(each.question_id, each.text) for each in dataset.questions] == [("7", 'what is "one"'), ("8", "two")]
    assert dataset.questions[0].grades == {"d1": 1, "d2": -1}
    assert dataset.corpus == ()


def squad(version: str, qas: list[dict[str, Any]]) -> dict[str, Any]:
    paragraph = {"context": "Snow falls 🏔 on the Sornhorn. The Sornhorn is high.", "qas": qas}
    return {"version": version, "data": [{"title": "Pass", "paragraphs": [paragraph]}]}


def test_squad_gives_spans_and_its_contexts_become_the_corpus(tmp_path: Path) -> None:
    qas: list[dict[str, Any]] = [
        {
            "id": "1",
            "question": "Where?",
            "is_impossible": False,
            "answers": [{"text": "the Sornhorn", "answer_start": 16}, {"text": "Sornhorn", "answer_start": 20}],
        },
        {"id": "2", "question": "When?", "is_impossible": True, "answers": [], "plausible_answers": [{"text": "on"}]},
        {"id": "3", "question": "Which?", "answers": [{"text": "high", "answer_start": 9}]},
    ]
    path = tmp_path / "dev-v2.0.json"
    path.write_text(json.dumps(squad("v2.0", qas)), encoding="utf-8")
    dataset = read(path)
    first, second, third = dataset.questions
    assert dataset.format == "squad"
    assert first.gold == (Gold("Pass#000", 16, 28, "the Sornhorn"),)
    assert first.expected_answers == ("the Sornhorn", "Sornhorn")
    assert (second.answerable, second.about, second.gold) == (False, "Pass#000", ())
    assert third.gold[0].quote == "high"
    assert "answers that stand elsewhere in their context than answer_start says: 1; found again" in dataset.notes
    assert write_corpus(dataset, tmp_path / "corpus.jsonl") == 1
    assert quotes_that_differ(dataset, indexed(tmp_path / "corpus.jsonl")) == []


def test_mistakes_of_squad_name_their_place(tmp_path: Path) -> None:
    qas: list[dict[str, Any]] = [
        {"id": "1", "question": "Where?", "answers": [{"text": "the Moon", "answer_start": 0}]},
        {"id": "1", "question": "", "answers": [{"text": "high"}]},
        {"id": "3", "question": "Why?", "answers": [], "is_impossible": False},
    ]
    path = tmp_path / "train.json"
    path.write_text(json.dumps(squad("1.1", qas), indent=1), encoding="utf-8")
    at = " data[0].paragraphs[0].qas"
    assert mistakes(path) == [
        (f"{at}[0]", "the context does not hold 'the Moon'"),
        (f"{at}[1]", "answers is not a list of texts, each with the whole number at which it begins"),
        (f"{at}[1]", "question is empty"),
        (f"{at}[1]", f"question_id '1' stands at {path}{at}[0] already"),
        (f"{at}[2]", "answers is empty"),
    ]


def test_squad_in_rows_reads_as_nested(tmp_path: Path) -> None:
    answers = {"text": ["Sornhorn"], "answer_start": [20]}
    context = squad("", [])["data"][0]["paragraphs"][0]["context"]
    row = {"id": "1", "title": "Pass", "context": context, "question": "Where?", "answers": answers}
    dataset = read(parquet(tmp_path / "validation.parquet", row))
    assert dataset.format == "squad"
    assert dataset.questions[0].gold == (Gold("Pass#000", 20, 28, "Sornhorn"),)


@pytest.mark.parametrize("language", ["en", "hi", "zh"])
def test_spans_of_xquad_hold_in_every_script(language: str, datasets: Path, tmp_path: Path) -> None:
    dataset = read(datasets / "xquad-a" / f"xquad.{language}.jsonl.gz")
    assert (dataset.format, len(dataset.questions)) == ("squad", 619)
    write_corpus(dataset, tmp_path / "corpus.jsonl")
    assert quotes_that_differ(dataset, indexed(tmp_path / "corpus.jsonl")) == []
    assert all(each.gold for each in dataset.questions)


def test_every_gold_span_of_the_squad_slice_is_in_the_text_that_our_reader_makes(datasets: Path) -> None:
    dataset = read(datasets / "squad2-dev-slice")
    assert dataset.format == "passages"
    assert len(dataset.questions) == 2559
    assert sum(each.answerable for each in dataset.questions) == 1190
    documents = indexed(dataset.corpus[0])
    assert len(documents) == 253
    assert quotes_that_differ(dataset, documents) == []
    assert all(len(each.gold) == 1 for each in dataset.questions if each.answerable)
    assert all(each.about in documents for each in dataset.questions if not each.answerable)


def test_mistakes_of_questions_and_passages_come_together(tmp_path: Path) -> None:
    jsonl(tmp_path / "passages.jsonl", {"id": "p", "title": "", "text": "one two"}, {"id": "p", "text": "three"})
    good = {"id": "1", "question": "A?", "answerable": True, "answers": ["two"], "answer_starts": [4]}
    jsonl(
        tmp_path / "questions.jsonl",
        {**good, "gold_passage_id": "q"},
        {**good, "id": "2", "answers": ["ten"], "gold_passage_id": "p"},
        {**good, "id": "3", "answers": [], "answer_starts": [], "gold_passage_id": "p"},
        {**good, "id": "4", "answer_starts": [4, 5], "gold_passage_id": "p"},
    )
    assert mistakes(tmp_path) == [
        ("/passages.jsonl:2", "passage 'p' stands above already"),
        ("/questions.jsonl:1", "there is no passage 'q'"),
        ("/questions.jsonl:2", "passage 'p' does not hold 'ten'"),
        ("/questions.jsonl:3", "answerable, but answers is empty"),
        ("/questions.jsonl:4", "1 answers, but 2 places where they begin"),
    ]


def test_clapnq_gives_the_sentences_that_its_answers_are_made_of(datasets: Path, tmp_path: Path) -> None:
    dataset = read(datasets / "clapnq-dev-a")
    assert (dataset.format, len(dataset.questions)) == ("clapnq", 275)
    assert sum(each.answerable for each in dataset.questions) == 143
    first = dataset.questions[0]
    assert [each.quote for each in first.gold] == [
        "They see three women washing clothes and singing .",
        "Delmar is convinced the women were Sirens and transformed Pete into the toad .",
    ]
    assert len(first.expected_answers) == 2
    assert all(each.about for each in dataset.questions if not each.answerable)
    assert all(each.judgements for each in dataset.questions if each.answerable)
    write_corpus(dataset, tmp_path / "corpus.jsonl")
    assert quotes_that_differ(dataset, indexed(tmp_path / "corpus.jsonl")) == []


def test_ragas_takes_the_reference_and_not_what_a_system_said(tmp_path: Path) -> None:
    row = {
        "user_input": "A?",
        "retrieved_contexts": ["x"],
        "reference_contexts": ["it is a"],
        "response": "b",
        "reference": "a",
        "synthesizer_name": "single_hop",
    }
    printed = {name: str(value) if isinstance(value, list) else value for name, value in row.items()}
    for path in (jsonl(tmp_path / "r.jsonl", row), table(tmp_path / "r.csv", printed), parquet(tmp_path / "r", row)):
        dataset = read(path)
        (only,) = dataset.questions
        assert dataset.format == "ragas"
        assert (only.expected_answers, only.contexts, only.tags) == (
            ("a",),
            ("it is a",),
            {"synthesizer_name": "single_hop"},
        )


def test_ragas_of_the_first_generation(tmp_path: Path) -> None:
    run = {"question": "A?", "contexts": "['x', 'y']", "answer": "b", "ground_truth": "a"}
    (only,) = read(table(tmp_path / "run.csv", run)).questions
    assert (only.expected_answers, only.contexts) == (("a",), ())
    old = {"question": "A?", "contexts": ["x"], "answer": "b", "ground_truths": ["a", "aa"]}
    (only,) = read(jsonl(tmp_path / "old.jsonl", old)).questions
    assert (only.expected_answers, only.contexts) == (("a", "aa"), ())
    made = {"question": "A?", "contexts": "['x', 'y']", "ground_truth": "a", "evolution_type": "simple"}
    (only,) = read(table(tmp_path / "made.csv", made)).questions
    assert (only.expected_answers, only.contexts, only.tags) == (("a",), ("x", "y"), {"evolution_type": "simple"})


def test_openai_evals_open_the_item(tmp_path: Path) -> None:
    rows = [
        {"item": {"input": "A?", "ideal": "a", "topic": "x"}, "sample": {"output_text": "b"}},
        {"item": {"input": "B?", "ideal": ["b", "bb"], "topic": "y"}},
    ]
    dataset = read(jsonl(tmp_path / "evals.jsonl", *rows))
    assert dataset.format == "openai-evals"
    assert [each.expected_answers for each in dataset.questions] == [("a",), ("b", "bb")]
    assert [each.tags for each in dataset.questions] == [{"topic": "x"}, {"topic": "y"}]
    assert mistakes(jsonl(tmp_path / "e.jsonl", {"item": {"text": "A?"}}, {"item": "A?"})) == [
        ("", "no column holds the question"),
        (":2", "item is not an object"),
    ]


@pytest.mark.parametrize("packing", ["gz", "zst"])
def test_a_packed_file_is_read_whatever_it_is_called(packing: str, tmp_path: Path) -> None:
    plain = jsonl(tmp_path / "q.jsonl", {"question": "A?", "answer": "a"})
    data = plain.read_bytes()
    if packing == "zst":
        import pyarrow as pa

        data = pa.Codec("zstd").compress(data, asbytes=True)
    else:
        data = gzip.compress(data)
    packed = tmp_path / "q.bin"
    packed.write_bytes(data)
    assert read(packed).questions == read(plain).questions
    assert read(packed).sha256 == read(plain).sha256
