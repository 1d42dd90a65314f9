"""The extractive generator on SQuAD 2.0: where its threshold comes from, and what it gets wrong.

The passages are cut into two halves by a seeded shuffle; constants and threshold were chosen on the questions of the
first, and the figures are those of the second. An *absent* question is asked of the passages of the other articles:
nothing there can answer it. An *unanswerable* one is SQuAD's own, written to look answerable from its passage.
"""

from __future__ import annotations

import json
import random
import re
import string
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest

from rag.generation.citations import without_markers
from rag.generation.extractive import THRESHOLD, ExtractiveGenerator, best
from rag.retrieval.lexical import LexicalIndex, build
from rag.types import Passage
from tests.generation.making import passage


@dataclass(frozen=True)
class Asked:
    """A question with what each arm gives the generator."""

    question: str
    answers: tuple[str, ...]
    answerable: bool
    chosen_on: bool
    gold: Sequence[Passage]
    retrieved: Sequence[Passage]
    absent: Sequence[Passage]


@pytest.fixture(scope="module")
def asked(datasets: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Asked]:
    folder = datasets / "squad2-dev-slice"
    passages = [json.loads(line) for line in (folder / "passages.jsonl").read_text("utf-8").splitlines()]
    questions = [json.loads(line) for line in (folder / "questions.jsonl").read_text("utf-8").splitlines()]
    place = tmp_path_factory.mktemp("lexical")
    build((one["text"] for one in passages), place)
    index = LexicalIndex(lambda name: place / name)
    row = {one["id"]: number for number, one in enumerate(passages)}
    ids = sorted(row)
    random.Random(0).shuffle(ids)
    chosen_on = set(ids[: len(ids) // 2])
    title = np.array([one["title"] for one in passages])
    everywhere = np.arange(len(passages))

    def some(rows: Sequence[int]) -> list[Passage]:
        return [
            passage(
                passages[row]["text"], rank, doc_id=passages[row]["id"], title=passages[row]["title"].replace("_", " ")
            )
            for rank, row in enumerate(rows, 1)
        ]

    def one(question: dict[str, object]) -> Asked:
        text, gold = str(question["question"]), str(question["gold_passage_id"])
        elsewhere = everywhere[title != title[row[gold]]]
        return Asked(
            text,
            tuple(question["answers"]),  # type: ignore[arg-type]
            bool(question["answerable"]),
            gold in chosen_on,
            some([row[gold]]),
            some(index.search(text, 5)[1].tolist()),
            some(index.search(text, 5, elsewhere)[1].tolist()),
        )

    return [one(question) for question in questions]


def tokens(text: str) -> list[str]:
    bare = "".join(sign for sign in text.lower() if sign not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", bare).split()


def contains(answer: str, expected: Sequence[str]) -> bool:
    return any(f" {' '.join(tokens(one))} " in f" {' '.join(tokens(answer))} " for one in expected)


def f1(answer: str, expected: str) -> float:
    said, wanted = tokens(answer), tokens(expected)
    shared = (Counter(said) & Counter(wanted)).total()
    return 2 * shared / (len(said) + len(wanted))


def figures(asked: Sequence[Asked], arm: str, threshold: float = THRESHOLD) -> dict[str, float]:
    """Means over answerable questions (an abstention counts 0), and how often it abstained on which."""
    generator = ExtractiveGenerator(threshold)
    answers = [(one, generator.extract(one.question, getattr(one, arm))) for one in asked]
    texts = [
        ("" if answer.abstained else without_markers(answer.text), one.answers)
        for one, answer in answers
        if one.answerable
    ]
    return {
        "contains": round(fmean(contains(text, expected) for text, expected in texts), 3),
        "f1": round(fmean(max(f1(text, one) for one in expected) if text else 0.0 for text, expected in texts), 3),
        "abstained_answerable": round(fmean(answer.abstained for one, answer in answers if one.answerable), 3),
        "answered_unanswerable": round(fmean(not answer.abstained for one, answer in answers if not one.answerable), 3),
    }


def test_figures_with_the_gold_passage(asked: list[Asked]) -> None:
    held_out = [one for one in asked if not one.chosen_on]
    assert figures(held_out, "gold") == {
        "contains": 0.808,
        "f1": 0.218,
        "abstained_answerable": 0.063,
        "answered_unanswerable": 0.904,
    }
    assert figures(held_out, "gold", threshold=0.0)["contains"] == 0.847


def test_figures_with_five_retrieved_passages(asked: list[Asked]) -> None:
    held_out = [one for one in asked if not one.chosen_on]
    assert figures(held_out, "retrieved") == {
        "contains": 0.742,
        "f1": 0.2,
        "abstained_answerable": 0.058,
        "answered_unanswerable": 0.907,
    }
    assert figures(held_out, "retrieved", threshold=0.0)["contains"] == 0.763


def test_questions_whose_article_is_absent_are_mostly_refused(asked: list[Asked]) -> None:
    generator = ExtractiveGenerator()
    answered = [not generator.extract(one.question, one.absent).abstained for one in asked if not one.chosen_on]
    assert round(fmean(answered), 3) == 0.088


def test_the_threshold_is_the_one_that_parts_present_from_absent_best(asked: list[Asked]) -> None:
    chosen_on = [one for one in asked if one.chosen_on]

    def coverage(question: str, passages: Sequence[Passage]) -> float:
        found = best(question, passages)
        return found.coverage if found else 0.0

    present = np.array([coverage(one.question, one.retrieved) for one in chosen_on if one.answerable])
    absent = np.array([coverage(one.question, one.absent) for one in chosen_on])
    thresholds = np.arange(20, 81) / 100
    parted = [(absent < threshold).mean() - (present < threshold).mean() for threshold in thresholds]
    assert thresholds[int(np.argmax(parted))] == pytest.approx(THRESHOLD)


def test_every_citation_is_an_exact_span_of_its_passage(asked: list[Asked]) -> None:
    generator = ExtractiveGenerator(threshold=0.0)
    for one in asked[::5]:
        for citation in generator.extract(one.question, one.retrieved).citations:
            assert one.retrieved[citation.passage - 1].text[citation.start : citation.end] == citation.quote


def test_it_answers_five_hundred_questions_a_second(asked: list[Asked]) -> None:
    generator = ExtractiveGenerator()
    started = time.process_time()
    for one in asked:
        generator.extract(one.question, one.retrieved)
    assert len(asked) / (time.process_time() - started) > 500
