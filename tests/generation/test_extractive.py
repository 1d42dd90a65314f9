from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.clock import SystemClock
from rag.generation.extractive import ExtractiveGenerator
from rag.generation.prompt import ABSTENTION
from rag.types import Answer, Passage
from rag.wiring import World, word_vectors
from tests.generation.hostile import HOSTILE
from tests.generation.making import heard, passage

HISTORY = passage(
    "# The depot\n\nThe depot was opened in 1987. It burnt down two years later. **Repairs** cost 3.5 million francs.",
    1,
    start=40,
    title="Lower Tessen",
)
FARES = passage(
    "| Traveller | Fare |\n|---|---|\n| Dogs | 2 francs |\n| Bicycles | 3 francs |", 2, heading_path=("Fares", "Summer")
)


def ask(question: str, *passages: Passage) -> Answer:
    streamed, answer = asyncio.run(heard(ExtractiveGenerator().answer(question, passages or (HISTORY, FARES))))
    assert streamed == answer.text
    assert asyncio.run(ExtractiveGenerator().complete(question, passages or (HISTORY, FARES))) == answer
    return answer


@pytest.mark.parametrize(
    ("question", "text", "quote"),
    [
        ("When was the depot opened?", "The depot was opened in 1987. [1]", "The depot was opened in 1987."),
        ("What burnt down later?", "It burnt down two years later. [1]", "It burnt down two years later."),
        ("What did the repairs cost?", "Repairs cost 3.5 million francs. [1]", "**Repairs** cost 3.5 million francs."),
        ("What is the summer fare for dogs?", "Traveller: Dogs; Fare: 2 francs [2]", "| Dogs | 2 francs |"),
    ],
)
def test_the_answer_is_the_sentence_and_the_citation_its_exact_span(question: str, text: str, quote: str) -> None:
    answer = ask(question)
    assert (answer.text, answer.abstained, answer.model, answer.prompt) == (text, False, "local/extractive", None)
    (citation,) = answer.citations
    source = answer.passages[citation.passage - 1]
    assert citation.quote == quote == source.text[citation.start - source.start : citation.end - source.start]
    assert (citation.doc_id, citation.heading_path) == (source.doc_id, source.heading_path)


@pytest.mark.parametrize("question", ["Who painted the harbour of Rotterdam?", "What is it?", "", "?!", "仓库何时开放"])
def test_it_abstains_when_the_passages_speak_of_something_else(question: str) -> None:
    answer = ask(question)
    assert (answer.text, answer.abstained, answer.citations) == (ABSTENTION, True, ())


def test_it_abstains_without_passages() -> None:
    assert asyncio.run(ExtractiveGenerator().complete("When was the depot opened?", [])).abstained


def test_a_heading_speaks_for_its_sentences_and_is_no_answer_itself() -> None:
    text = "## Speed on the rack\n\nIt is 12 km/h.\n\n## Speed on the plain\n\nIt is 60 km/h."
    assert ask("What is the speed on the plain?", passage(text)).text == "It is 60 km/h. [1]"
    cut_below = passage("It is very steep. It is 12 km/h.", heading_path=("Rules", "Speed on the rack"))
    assert ask("How many km/h on the rack?", cut_below).text == "It is 12 km/h. [1]"


def test_two_sentences_are_given_when_the_second_is_nearly_as_likely_and_in_the_order_of_the_passage() -> None:
    text = "The depot lies in Tessen. Snow fell. The depot was opened by Ida Reck. The depot was opened in May."
    answer = ask("How was the depot opened?", passage(text))
    assert answer.text == "The depot was opened by Ida Reck. [1] The depot was opened in May. [1]"
    assert [citation.quote for citation in answer.citations] == [
        "The depot was opened by Ida Reck.",
        "The depot was opened in May.",
    ]


def test_a_sentence_that_stands_in_two_passages_is_given_once() -> None:
    twice = "The depot was opened in 1987."
    assert ask("When was the depot opened?", passage(twice), passage(f"**{twice}**", 2)).text == f"{twice} [1]"


def test_a_sentence_that_holds_what_is_asked_for_is_the_better_one() -> None:
    text = "The depot was opened with a feast. The depot was opened in 1987. The depot was opened by old Ida Reck."
    assert ask("When was the depot opened?", passage(text)).text == "The depot was opened in 1987. [1]"
    assert ask("Who opened the depot?", passage(text)).text == "The depot was opened by old Ida Reck. [1]"


def test_a_row_is_read_under_its_header_and_below_the_sentence_before_its_table() -> None:
    table = "Fares in summer:\n\n| Traveller | Fare |\n|---|---|\n| Adults | 9 francs |\n| Dogs | 2 francs |"
    winter = "Fares in winter:\n\n| Traveller | Fare |\n|---|---|\n| Adults | 7 francs |\n| Dogs | 1 franc |"
    answer = ask("What is the winter fare for dogs?", passage(f"{table}\n\n{winter}"))
    assert answer.text == "Traveller: Dogs; Fare: 1 franc [1]"


def test_always_answers_whatever_there_is() -> None:
    asked = ("Which trams does the hangar hold?", [passage("The trams stand outside. It rains.")])
    assert asyncio.run(ExtractiveGenerator().complete(*asked)).abstained
    assert not asyncio.run(ExtractiveGenerator(always=True).complete(*asked)).abstained


def test_words_near_in_meaning_are_found_with_vectors() -> None:
    rooms = passage("The kitchen faces south. The car is kept in the yard. Paint is sold on Mondays.")
    embed = word_vectors(World(SystemClock(), {}))
    assert embed is not None
    question = "Where is the automobile?"
    with_vectors = asyncio.run(ExtractiveGenerator(embed=embed, always=True).complete(question, [rooms]))
    assert "The car is kept in the yard." in with_vectors.text


@given(
    st.text() | st.sampled_from(HOSTILE), st.lists(st.text() | st.sampled_from(HOSTILE), max_size=4), st.integers(0, 9)
)
def test_whatever_the_texts_the_quote_is_an_exact_span(question: str, texts: list[str], start: int) -> None:
    passages = [passage(text, rank, start) for rank, text in enumerate(texts, 1)]
    generator = ExtractiveGenerator(always=True)
    answer = asyncio.run(generator.complete(" ".join([question, *texts[:1]]), passages))
    assert answer == asyncio.run(generator.complete(answer.question, passages))
    for citation in answer.citations:
        text = texts[citation.passage - 1]
        assert text[citation.start - start : citation.end - start] == citation.quote
    assert answer.abstained == (not answer.citations)
