"""Why an answer is wrong, in one word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from eval.causes import Wanted, causes
from eval.measures.names import Measure
from eval.types import Arm, Gold, Observed, Question, Score, Scored, Status
from rag.types import Passage, Usage
from tests.eval.made_runs import (
    BELL,
    BOTH,
    FIRST,
    GRADED,
    LINE,
    OPENED,
    PRICE,
    RANKING,
    SECOND,
    THIRD,
    answered,
    observed,
    passage,
    scored,
)

WRONG = "Nobody knows, but 42."


def held(question: Question, passages: Sequence[Passage]) -> str:
    return Wanted.of(question).held(passages)


def cause(row: Observed) -> str | None:
    (found,) = causes(scored((row,)))
    return found


def test_a_right_answer_has_no_cause_wherever_its_gold_is() -> None:
    for ranking, given in ((RANKING, 2), (RANKING, 0), ((THIRD,), 1), ((), 0)):
        assert cause(observed(OPENED, answered(OPENED, "It opened in 1911."), ranking=ranking, given=given)) is None


@pytest.mark.parametrize(
    ("ranking", "given", "wanted"),
    [
        ((THIRD, SECOND), 2, "not_retrieved"),
        ((), 0, "not_retrieved"),
        ((THIRD, SECOND, FIRST), 2, "not_in_prompt"),
        ((FIRST, SECOND, THIRD), 1, None),
    ],
)
@pytest.mark.parametrize("abstained", [False, True])
def test_a_wrong_answer_is_put_down_to_the_first_step_that_lost_the_gold(
    ranking: tuple[Passage, ...], given: int, wanted: str | None, *, abstained: bool
) -> None:
    row = observed(OPENED, answered(OPENED, WRONG, abstained=abstained), ranking=ranking, given=given)
    assert cause(row) == (wanted or ("not_answered" if abstained else "answered_wrongly"))


def test_gold_that_lies_across_chunks_needs_all_of_them() -> None:
    wrong = answered(BOTH, WRONG)
    assert cause(observed(BOTH, wrong, ranking=(FIRST, SECOND), given=2)) == "answered_wrongly"
    assert cause(observed(BOTH, wrong, ranking=(FIRST, SECOND), given=1)) == "partly_in_prompt"
    assert cause(observed(BOTH, wrong, ranking=(FIRST,), given=1)) == "partly_in_prompt"


def test_of_two_spans_neither_is_enough() -> None:
    both = replace(OPENED, gold=OPENED.gold + BELL.gold)
    assert [held(both, each) for each in ((FIRST,), (THIRD,), (FIRST, THIRD), (SECOND,))] == [
        "part",
        "part",
        "all",
        "none",
    ]


def test_only_white_space_may_be_in_no_chunk() -> None:
    assert held(BOTH, (passage(1, "line.md", LINE, 0, 31), passage(2, "line.md", LINE, 33, 60))) == "all"
    assert held(BOTH, (passage(1, "line.md", LINE, 0, 30), passage(2, "line.md", LINE, 33, 60))) == "part"
    # chunks that end before the gold begins
    some = [passage(at, "line.md", LINE, *ends) for at, ends in enumerate([(0, 5), (7, 10), (12, 14), (16, 60)], 1)]
    assert [held(BOTH, each) for each in (some, some[:3])] == ["all", "none"]
    # overlapping chunks, and one inside another, in any order
    some = [passage(at, "line.md", LINE, *ends) for at, ends in enumerate([(20, 60), (17, 40), (25, 30), (0, 22)], 1)]
    assert held(BOTH, some) == held(BOTH, some[::-1]) == "all"


def test_of_relevant_documents_any_one_will_do() -> None:
    assert [held(GRADED, each) for each in ((FIRST,), (THIRD,), ())] == ["all", "none", "none"]


def test_gold_without_a_place_is_its_document() -> None:
    placeless = replace(OPENED, gold=(Gold("line.md", 0, 0, ""),))
    assert [held(placeless, each) for each in ((SECOND,), (THIRD,))] == ["all", "none"]


def test_a_question_that_nothing_answers_is_wrong_where_it_is_answered() -> None:
    assert cause(observed(PRICE, answered(PRICE, "1911"))) == "answered_unanswerable"
    assert cause(observed(PRICE, answered(PRICE, "no", abstained=True))) is None


@pytest.mark.parametrize("arm", ["retrieved", "oracle", "closed_book"])
def test_an_error_is_its_own_cause(arm: Arm) -> None:
    assert cause(observed(OPENED, None, arm)) == "error"


def test_a_closed_book_is_not_blamed_on_retrieval() -> None:
    assert cause(observed(OPENED, answered(OPENED, WRONG), "closed_book")) == "answered_wrongly"
    assert cause(observed(OPENED, answered(OPENED, WRONG, abstained=True), "closed_book")) == "not_answered"


def test_without_accepted_answers_only_an_abstention_is_known_to_be_wrong() -> None:
    assert cause(observed(GRADED, answered(GRADED, WRONG))) is None
    assert cause(observed(GRADED, answered(GRADED, WRONG, abstained=True))) == "not_answered"


@pytest.mark.parametrize(
    ("text", "verdict", "wanted"),
    [
        ("1911", Score(0.0, Status.SCORED, "no", "judge"), "answered_wrongly"),
        (WRONG, Score(1.0, Status.SCORED, "yes", "judge"), None),
        (WRONG, Score(None, Status.UNSCORED, "unusable", "judge"), "answered_wrongly"),
        ("1911", Score(None, Status.ERROR, "503", "judge"), None),
    ],
)
def test_a_verdict_goes_before_the_words(text: str, verdict: Score, wanted: str | None) -> None:
    measures = (Measure("Contains"), Measure("Correctness"))
    contains = Score(0.5, Status.SCORED, None, "ragline")
    row = observed(OPENED, answered(OPENED, text))
    given = Scored((row,), measures, ((contains, verdict),), (None,), Usage(), 0.0)
    assert causes(given) == [wanted]
