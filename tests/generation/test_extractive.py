from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.generation.extractive import ExtractiveGenerator, best
from rag.generation.prompt import ABSTENTION
from rag.types import Answer, Passage
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
        ("When did the depot burn down?", "It burnt down two years later. [1]", "It burnt down two years later."),
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


def test_coverage_is_the_share_of_the_question_that_is_found() -> None:
    found = best("When was the depot opened?", [HISTORY])
    assert found is not None
    assert found.coverage == pytest.approx(1.0)
    half = best("When was the depot demolished?", [HISTORY])
    assert half is not None
    assert 0 < half.coverage < found.coverage


def test_the_threshold_decides_and_is_the_callers_to_choose() -> None:
    asked = ("Which trams does the depot hold?", [HISTORY])
    assert ExtractiveGenerator().extract(*asked).abstained
    assert not ExtractiveGenerator(threshold=0.0).extract(*asked).abstained


@given(
    st.text() | st.sampled_from(HOSTILE), st.lists(st.text() | st.sampled_from(HOSTILE), max_size=4), st.integers(0, 9)
)
def test_whatever_the_texts_the_quote_is_an_exact_span(question: str, texts: list[str], start: int) -> None:
    passages = [passage(text, rank, start) for rank, text in enumerate(texts, 1)]
    generator = ExtractiveGenerator(threshold=0.0)
    answer = generator.extract(" ".join([question, *texts[:1]]), passages)
    assert answer == generator.extract(answer.question, passages)
    for citation in answer.citations:
        text = texts[citation.passage - 1]
        assert text[citation.start - start : citation.end - start] == citation.quote
    assert answer.abstained == (not answer.citations)
