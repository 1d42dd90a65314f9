"""The extractive generator on SQuAD 2.0, without vectors: what it finds, and what it gets wrong.

The passages are cut into two halves by a seeded shuffle; the constants were fitted on the questions of the first (and
of CLAPNQ: benchmarks/fit_extractive.py), and the figures are those of the second. An *absent* question is asked of the
passages of the other articles: nothing there can answer it. An *unanswerable* one is SQuAD's own, written to look
answerable from its passage.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import string
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest

from rag.generation.citations import without_markers
from rag.generation.evidence import parse
from rag.generation.extractive import PLAIN, WITH_VECTORS, ExtractiveGenerator
from rag.retrieval.lexical import LexicalIndex, build
from rag.types import Answer, Passage
from rag.wiring import World, word_vectors
from tests.generation.making import passage

pytestmark = pytest.mark.slow


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


Rows = list[dict[str, str]]


@pytest.fixture(scope="module")
def passages(datasets: Path) -> Rows:
    lines = (datasets / "squad2-dev-slice" / "passages.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def index(passages: Rows, tmp_path_factory: pytest.TempPathFactory) -> LexicalIndex:
    place = tmp_path_factory.mktemp("lexical")
    build((one["text"] for one in passages), place)
    return LexicalIndex(lambda name: place / name)


@pytest.fixture(scope="module")
def asked(datasets: Path, passages: Rows, index: LexicalIndex) -> list[Asked]:
    lines = (datasets / "squad2-dev-slice" / "questions.jsonl").read_text("utf-8").splitlines()
    questions = [json.loads(line) for line in lines]
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


def answers(
    generator: ExtractiveGenerator, asked: Sequence[Asked], arm: str = "retrieved"
) -> Iterator[tuple[Asked, Answer]]:
    async def every() -> list[Answer]:
        return [await generator.complete(one.question, getattr(one, arm)) for one in asked]

    return zip(asked, asyncio.run(every()), strict=True)


def figures(generator: ExtractiveGenerator, asked: Sequence[Asked], arm: str) -> dict[str, float]:
    """Means over answerable questions of the second half (an abstention counts 0), and how often it abstained."""
    given = list(answers(generator, [one for one in asked if not one.chosen_on], arm))
    texts = [
        ("" if answer.abstained else without_markers(answer.text), one.answers)
        for one, answer in given
        if one.answerable
    ]
    return {
        "contains": round(fmean(contains(text, expected) for text, expected in texts), 3),
        "f1": round(fmean(max(f1(text, one) for one in expected) if text else 0.0 for text, expected in texts), 3),
        "abstained_answerable": round(fmean(answer.abstained for one, answer in given if one.answerable), 3),
        "answered_unanswerable": round(fmean(not answer.abstained for one, answer in given if not one.answerable), 3),
    }


def test_figures_with_the_gold_passage(asked: list[Asked], index: LexicalIndex) -> None:
    assert figures(ExtractiveGenerator(index.rarity), asked, "gold") == {
        "contains": 0.856,
        "f1": 0.214,
        "abstained_answerable": 0.073,
        "answered_unanswerable": 0.862,
    }


def test_figures_with_five_retrieved_passages(asked: list[Asked], index: LexicalIndex) -> None:
    assert figures(ExtractiveGenerator(index.rarity), asked, "retrieved") == {
        "contains": 0.798,
        "f1": 0.196,
        "abstained_answerable": 0.056,
        "answered_unanswerable": 0.882,
    }


def test_without_an_index_rarity_among_the_passages_does_as_well_here(asked: list[Asked]) -> None:
    assert figures(ExtractiveGenerator(), asked, "retrieved") == {
        "contains": 0.803,
        "f1": 0.201,
        "abstained_answerable": 0.042,
        "answered_unanswerable": 0.911,
    }


def test_questions_whose_article_is_absent_are_mostly_refused(asked: list[Asked], index: LexicalIndex) -> None:
    held_out = [one for one in asked if not one.chosen_on]
    answered = [not answer.abstained for _, answer in answers(ExtractiveGenerator(index.rarity), held_out, "absent")]
    assert round(fmean(answered), 3) == 0.055


def test_every_citation_is_an_exact_span_of_its_passage(asked: list[Asked]) -> None:
    for one, answer in answers(ExtractiveGenerator(always=True), asked[::5]):
        for citation in answer.citations:
            assert one.retrieved[citation.passage - 1].text[citation.start : citation.end] == citation.quote


@pytest.mark.parametrize(("near", "wanted"), [(False, 500), (True, 100)])
def test_it_answers_so_many_questions_a_second(
    asked: list[Asked],
    index: LexicalIndex,
    near: bool,
    wanted: int,
) -> None:
    generator = ExtractiveGenerator(index.rarity, word_vectors(World.real()) if near else None)
    parse.cache_clear()
    started = time.process_time()
    list(answers(generator, asked[::3]))
    assert len(asked[::3]) / (time.process_time() - started) > wanted


def test_the_constants_are_those_that_the_fit_reports() -> None:
    report = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "extractive.json"
    results = json.loads(report.read_text("utf-8"))["results"]
    for name, constants in (("PLAIN", PLAIN), ("WITH_VECTORS", WITH_VECTORS)):
        assert results[name]["fitted"] == json.loads(json.dumps(asdict(constants)))
