from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.generation.asked import held, kind
from rag.generation.evidence import COLUMNS, MEANT, WORDED, Evidence, evidence
from rag.generation.nearness import WordVectors
from rag.ports import Floats
from rag.types import Passage
from tests.generation.hostile import HOSTILE
from tests.generation.making import passage

DEPOT = passage("The engine house burnt. Engines were built by Ida Reck.", heading_path=("Depot", "History"))


class Counted:
    """An embedding of three axes that counts the words it was given."""

    def __init__(self) -> None:
        self.words: list[str] = []

    async def __call__(self, words: Sequence[str]) -> Floats:
        self.words += words
        axes = {"engine": (1, 0, 0), "engines": (1, 0, 0), "locomotive": (0.9, 0.1, 0), "burnt": (0, 1, 0)}
        return np.array([axes.get(word, (0, 0, 1)) for word in words], dtype=np.float32)


def weighed(question: str, *passages: Passage, near: Counted | None = None) -> Evidence | None:
    vectors = WordVectors(near) if near else None
    return asyncio.run(evidence(question, passages, lambda stem: 0.5 if stem == "engin" else 1.0, vectors))


def column(found: Evidence | None, name: str) -> list[float]:
    assert found is not None
    return [round(float(value), 3) for value in found.columns[:, COLUMNS.index(name)]]


def test_each_word_of_the_question_counts_once_by_its_rarity_and_where_it_is_nearest() -> None:
    found = weighed("Who in history built the depot engine, the rack engine?", DEPOT)
    assert column(found, "own") == [0.5, 1.5]
    assert column(found, "beside") == [1.0, 1.0]
    assert column(found, "around") == [2.0, 1.0]
    assert found is not None
    assert found.found.tolist() == [3.5, 3.5]
    assert found.asked == pytest.approx(4.5)


def test_five_equal_letters_count_as_alike_and_four_do_not() -> None:
    found = weighed("thermometer gear", passage("Thermal oil is used. Gearwheels shine."))
    assert column(found, "alike") == [1.0, 0.0]


def test_a_sentence_answers_with_what_the_question_does_not_say_itself() -> None:
    found = weighed("How many wagons of 12 t?", passage("They weigh 12 t. There are 14 wagons. There are two wagons."))
    assert column(found, "number") == [0.0, 1.0, 1.0]


def test_a_word_near_in_meaning_counts_where_the_word_itself_is_missing() -> None:
    found = weighed("locomotive", DEPOT, near=Counted())
    near = column(found, "meant")
    assert near[0] == near[1] > 0.9
    assert column(found, "own") == [0.0, 0.0]
    assert column(found, "meant_around") == near


def test_a_word_is_embedded_once() -> None:
    counted = Counted()
    vectors = WordVectors(counted)
    for _ in range(2):
        asyncio.run(evidence("Which engine burnt?", [DEPOT], None, vectors))
    assert len(counted.words) == len(set(counted.words)) > 0


def test_nothing_speaks_for_anything_where_nothing_is_asked_or_given() -> None:
    assert weighed("What is it?", DEPOT) is None
    assert weighed("Which engine?") is None
    assert weighed("Which engine?", passage("# Engine")) is None


@pytest.mark.parametrize(
    ("question", "wanted"),
    [
        ("When was it built?", "date"),
        ("In which year?", "date"),
        ("At what maximum speed?", "number"),
        ("How many?", "number"),
        ("By whom?", "name"),
        ("Why?", None),
    ],
)
def test_the_words_of_a_question_tell_what_kind_of_answer_it_wants(question: str, wanted: str | None) -> None:
    assert kind(question) == wanted


def test_numbers_dates_and_names_are_seen_in_a_sentence() -> None:
    found = held("On Friday at 12:40 two cars hit Ida Reck. Nobody died in 1987.")
    assert found.number == {"12:40", "two", "1987"}
    assert found.date == {"friday", "12:40", "1987"}
    assert found.name == {"friday", "ida", "reck"}


@given(st.text() | st.sampled_from(HOSTILE), st.lists(st.text() | st.sampled_from(HOSTILE), max_size=3), st.booleans())
def test_evidence_is_finite_whatever_the_texts(question: str, texts: list[str], near: bool) -> None:
    passages = [passage(text, rank) for rank, text in enumerate(texts, 1)]
    found = weighed(" ".join([question, *texts[:1]]), *passages, near=Counted() if near else None)
    if found is not None:
        assert found.columns.shape == (len(found.candidates), len(WORDED) + near * len(MEANT))
        assert np.isfinite(found.columns).all()
        assert (found.found <= found.asked + 1e-9).all()
