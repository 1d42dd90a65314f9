from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.errors import ProviderFailed
from rag.generation.answer import CUT, GroundedGenerator
from rag.generation.citations import without_markers
from rag.generation.prompt import ABSTENTION, load_prompt
from rag.types import Answer
from tests.generation.making import Scripted, heard, passage

PROMPT = load_prompt()
PASSAGES = [
    passage("The depot opened in 1987. Dogs travel free on Sundays.", 1, start=100, heading_path=("Depot",)),
    passage("Bicycles cost three francs.", 2),
]


def said(*pieces: str, finish: str = "stop", said_at_once: bool = False) -> tuple[str, Answer]:
    """The answer both ways, which must be the same."""
    streamed, answer = asyncio.run(
        heard(
            GroundedGenerator(Scripted(*pieces, finish=finish, said_at_once=said_at_once), PROMPT, 99).answer(
                "q", PASSAGES
            )
        )
    )
    whole = asyncio.run(GroundedGenerator(Scripted(*pieces, finish=finish), PROMPT, 99).complete("q", PASSAGES))
    assert whole == answer
    assert streamed == answer.text
    return streamed, answer


def test_an_answer_cites_the_sentence_that_supports_it() -> None:
    _, answer = said("Dogs are ", "free on Sun", "days [1", "], bicycles cost three francs [2].")
    assert answer.text == "Dogs are free on Sundays [1], bicycles cost three francs [2]."
    assert [(c.passage, c.doc_id, c.start, c.end, c.quote) for c in answer.citations] == [
        (1, "d1", 126, 154, "Dogs travel free on Sundays."),
        (2, "d2", 0, 27, "Bicycles cost three francs."),
    ]
    assert answer.citations[0].heading_path == ("Depot",)
    assert (answer.abstained, answer.model, answer.prompt) == (False, "scripted-1", "answer.v1")
    assert answer.usage.usd == 0.001


@pytest.mark.parametrize("passages", [[], PASSAGES])
def test_without_passages_or_question_the_model_is_not_called(passages: list[object]) -> None:
    chat = Scripted("yes")
    generator = GroundedGenerator(chat, PROMPT, 99)
    question = "" if passages else "q"
    streamed, answer = asyncio.run(heard(generator.answer(question, passages)))  # type: ignore[arg-type]
    whole = asyncio.run(generator.complete(question, passages))  # type: ignore[arg-type]
    assert whole == answer
    assert (streamed, answer.abstained, answer.usage.requests, len(chat.calls)) == (ABSTENTION, True, 0, 0)


@pytest.mark.parametrize(
    "reply",
    [
        ABSTENTION,
        "the passages do not answer this",
        f"**{ABSTENTION}**",
        f'"{ABSTENTION}"\n\nThey speak of dogs [1].',
        "The passages do not\nanswer this [1].",
        "",
        " \n ",
        "...",
    ],
)
def test_a_reply_that_says_so_or_says_nothing_is_an_abstention(reply: str) -> None:
    streamed, answer = said(*reply)
    assert (streamed, answer.text, answer.abstained, answer.citations) == (ABSTENTION, ABSTENTION, True, ())
    assert answer.usage.requests == 1


@pytest.mark.parametrize(
    "reply",
    [
        "The passages do not answer this question directly, but dogs are free [1].",
        "The passages do not answer this, yet dogs are free [1].",
        "The passages say dogs are free [1]. The passages do not answer this.",
        "The pass",
    ],
)
def test_a_reply_that_only_begins_like_the_abstention_is_an_answer(reply: str) -> None:
    assert said(*reply)[1].abstained is False


def test_a_cut_reply_shows_that_it_was_cut() -> None:
    assert said("Dogs travel free [1] on ", finish="length")[0] == "Dogs travel free [1] on" + CUT


def test_an_empty_cut_reply_is_a_failure_and_says_what_to_raise() -> None:
    with pytest.raises(ProviderFailed, match="max_tokens = 99") as caught:
        said("", finish="length")
    assert "generation.max_tokens" in caught.value.problems[0].remedy


@pytest.mark.parametrize("finish", ["refusal", "content_filter"])
def test_a_refusal_is_a_failure_and_no_abstention(finish: str) -> None:
    with pytest.raises(ProviderFailed, match="refused"):
        said("I cannot help with that.", finish=finish)


def test_a_stored_reply_that_comes_whole_is_streamed_all_the_same() -> None:
    assert said("Dogs travel free [1].", said_at_once=True)[0] == "Dogs travel free [1]."


def test_the_beginning_is_shown_as_soon_as_it_cannot_be_the_abstention() -> None:
    async def first_piece() -> object:
        return await anext(aiter(GroundedGenerator(Scripted("Dogs", " are free."), PROMPT, 9).answer("q", PASSAGES)))

    assert asyncio.run(first_piece()) == "Dogs"


@given(
    st.lists(st.text(max_size=8) | st.sampled_from(["The passages ", "do not answer", " this", ".", " [1]", "İ", "ſ"]))
)
def test_the_answer_does_not_depend_on_how_the_reply_was_cut_into_pieces(pieces: list[str]) -> None:
    assert said(*pieces)[1] == said("".join(pieces))[1] == said(*"".join(pieces))[1]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("Dogs travel free [1, 2].", [1, 2]),
        ("Dogs travel free [1][2].", [1, 2]),
        ("Dogs travel free [1-2].", [1, 2]),
        ("Dogs travel free [2; 7; 99].", [2]),
        ("Dogs travel free [3] [0] [1 2] [x] [2024].", []),
        ("Dogs travel free [1]. Dogs travel free [1].", [1]),
        ("Dogs travel free. [1]", [1]),
        ("[1] Dogs travel free.", [1]),
        ("Use `a[1]` here.", []),
        ("```\na[1]\n```", []),
        ("Dogs [9-9999999].", []),
    ],
)
def test_markers_name_passages_that_are_there(text: str, numbers: list[int]) -> None:
    assert [citation.passage for citation in said(text)[1].citations] == numbers


def test_each_marker_is_held_against_what_was_said_before_it() -> None:
    _, answer = said("The depot opened in 1987 [1] and dogs travel free on Sundays [1].")
    assert [c.quote for c in answer.citations] == ["The depot opened in 1987.", "Dogs travel free on Sundays."]


def test_a_claim_that_shares_no_word_with_the_passage_quotes_all_of_it() -> None:
    assert said("Hunde fahren gratis [1].")[1].citations[0].quote == PASSAGES[0].text


@given(st.text(), st.text() | st.text(" .!?|-#*`\n[]12aB", max_size=60), st.integers(0, 50))
def test_every_quote_is_an_exact_span_of_its_document(reply: str, text: str, start: int) -> None:
    document = "x" * start + text
    given_ = [passage(text, start=start)]
    answer = asyncio.run(GroundedGenerator(Scripted(reply, " [1]. ", text, "[1]"), PROMPT, 9).complete("q", given_))
    for citation in answer.citations:
        assert document[citation.start : citation.end] == citation.quote


def test_an_answer_reads_on_without_its_markers() -> None:
    assert without_markers("It opened in 1987 [1][2, 3] and closed [4].") == "It opened in 1987 and closed."
