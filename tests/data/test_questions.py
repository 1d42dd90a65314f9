from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from eval.datasets.canonical import read
from eval.datasets.read import read as read_set
from eval.datasets.select import sample
from eval.run import Evaluation, evaluate
from eval.run import Options as Asked
from rag import wiring
from rag.pipeline import Options, reindex
from rag.settings import load
from tests.data.corpus import DATA, QUESTIONS, shipped


def test_there_are_enough_of_every_kind() -> None:
    questions = read(QUESTIONS)
    assert len(questions) >= 150
    assert sum(not question.answerable for question in questions) >= 25
    kinds = Counter(question.tags["type"] for question in questions)
    assert set(kinds) == {"fact", "number", "procedure", "reason", "table", "code", "comparison", "version"}
    assert kinds["version"] >= 15
    assert min(Counter(question.tags["difficulty"] for question in questions if question.answerable).values()) >= 50


def test_every_quote_stands_where_its_offsets_say_and_nowhere_else_in_its_document() -> None:
    documents, _ = shipped()
    for question in read(QUESTIONS):
        for gold in question.gold:
            text = documents[gold.doc_id].text
            assert (question.question_id, text[gold.start : gold.end]) == (question.question_id, gold.quote)
            assert (question.question_id, text.count(gold.quote)) == (question.question_id, 1)
            assert gold.start >= documents[gold.doc_id].body_start


def test_the_tag_hops_counts_the_documents_that_are_needed() -> None:
    questions = [question for question in read(QUESTIONS) if question.answerable]
    assert all(len({gold.doc_id for gold in each.gold}) == int(each.tags["hops"]) for each in questions)
    assert sum(each.tags["hops"] == "2" for each in questions) >= 15


def test_an_unanswerable_question_names_the_document_it_was_written_about() -> None:
    documents, _ = shipped()
    questions = [question for question in read(QUESTIONS) if not question.answerable]
    assert [each.question_id for each in questions if each.about not in documents] == []


def test_the_file_is_canonical_and_sorted() -> None:
    lines = QUESTIONS.read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    fields = ["question_id", "question", "answers", "answerable", "gold", "about", "tags"]
    assert all(list(row) == fields for row in rows)
    assert [json.dumps(row, ensure_ascii=False) for row in rows] == lines
    names = [row["question_id"] for row in rows]
    assert names == sorted(set(names))


def test_every_document_collection_is_asked_about() -> None:
    asked = {gold.doc_id for question in read(QUESTIONS) for gold in question.gold}
    documents, _ = shipped()
    files = {name for name in documents if "/" in name}
    assert len(asked & files) >= 0.8 * len(files)


@pytest.mark.slow
def test_the_hundred_questions_are_neither_too_easy_nor_too_hard(tmp_path: Path) -> None:
    sets = [f"store='{tmp_path / 'store'}'", f"corpus.paths=['{DATA / 'corpus'}']"]
    settings = load([], {}, [*sets, "evaluation.measures=['R@1', 'R@5']"], tmp_path)
    with wiring.reindex(settings, Options(), lambda *_: None) as run:
        version = reindex(run).version
    whole = read_set(QUESTIONS)
    dataset = replace(whole, questions=tuple(each for each in whole.questions if each.answerable))
    at: dict[tuple[str, str], float] = {}
    for mode in ("dense", "lexical", "hybrid"):
        chosen = settings.model_copy(update={"retrieval": settings.retrieval.model_copy(update={"mode": mode})})
        with Evaluation(chosen, dataset, Asked(version=version, limit=100), lambda *_: None) as asked:
            found = evaluate(asked)
        assert (found.record["counts"]["questions"], found.record["counts"]["errors"]) == (100, 0)
        rows = [row for row in found.summary if row["slice_tag"] == "all"]
        assert all(row["n"] == 100 for row in rows)
        at |= {(mode, row["measure"]): row["mean"] for row in rows}
    assert 0.40 <= at["dense", "R@1"] <= 0.80
    assert 0.45 <= at["lexical", "R@1"] <= 0.85
    assert at["hybrid", "R@5"] < 0.97


def test_the_hundred_stay_the_same_whatever_else_is_added() -> None:
    questions = [question for question in read(QUESTIONS) if question.answerable]
    hundred = {each.question_id for each in sample(questions, 100)}
    fewer = questions[::2]
    assert len(hundred) == 100
    assert {each.question_id for each in sample(fewer, 100)} >= hundred & {each.question_id for each in fewer}
