"""Observations to scores: one for each observation and measure, and every rule of what becomes of it, as a table."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.judge import Judge
from eval.measures.matching import match_dicts
from eval.measures.names import Measure
from eval.measures.registry import MEASURES, Depth, defaults, depth, parse, ranking_values
from eval.measures.spans import span_hit, span_precision, span_recall
from eval.scoring import Embed, score
from eval.types import Failure, Gold, Observed, Question, Scored, Status
from rag.errors import KeyMissing, ProviderFailed, UsageError
from rag.types import Answer, Citation, Completion, Message, Passage, Span, Usage

ANSWERABLE = Question("q1", "Who?", ("Ada Lovelace", "Ada"), True, (Gold("a", 10, 20, "x" * 10),))
UNANSWERABLE = Question("q2", "Why?", (), False, (), about="a")
FAILED = Failure("ProviderFailed", "the provider is down")


def passage(rank: int, doc_id: str, start: int, end: int, *also_in: Span) -> Passage:
    return Passage(rank, 1.0 / rank, doc_id, "t", "s", start, end, (), "x" * (end - start), also_in)


RANKING = (passage(1, "b", 0, 10), passage(2, "a", 0, 15), passage(3, "a", 15, 30))


def said(text: str, *citations: Citation, abstained: bool = False) -> Answer:
    return Answer("Who?", text, abstained, citations, RANKING, "m", None, Usage())


RIGHT = said("It was Ada Lovelace [2].", Citation(2, "a", 5, 12, "x" * 7))
SILENT = said("No answer in these passages.", abstained=True)


def observed(question: Question = ANSWERABLE, answer: Answer | None = RIGHT, **changes: Any) -> Observed:
    made = Observed(
        question=question,
        arm="retrieved",
        repeat=0,
        ranking=RANKING,
        prompt_passages=2,
        answer=answer,
        failure=None if answer else FAILED,
        prompt=None,
        prompt_sha256=None,
        cached=False,
        usage=Usage(),
        usd_saved=None,
        retrieve_seconds=0.0,
        generate_seconds=None,
        asked_at=datetime(2026, 11, 22, tzinfo=UTC),
    )
    return replace(made, **changes)


def scored(these: Sequence[Observed], *names: str, judge: Judge | None = None, embed: Embed | None = None) -> Scored:
    return asyncio.run(score(these, parse(names), judge, embed, lambda *_: None))


def one(observation: Observed, name: str, **given: Any) -> tuple[str, float | None, str | None]:
    ((found,),) = scored([observation], name, **given).scores
    assert (found.value is None) == (found.status != Status.SCORED)
    return found.status.name.lower(), found.value, found.reason


class Chat:
    """A chat model whose replies are given."""

    name = "test/judge"

    def __init__(self, *replies: str | Exception) -> None:
        self.replies = list(replies)
        self.asked: list[str] = []

    async def complete(self, messages: Sequence[Message], max_tokens: int) -> Completion:
        self.asked.append(messages[-1].content)
        reply = self.replies[min(len(self.asked), len(self.replies)) - 1]
        if isinstance(reply, Exception):
            raise reply
        return Completion(reply, "m", Usage(1, 10, 2, 0.5))

    def stream(self, messages: Sequence[Message], max_tokens: int) -> Any:
        raise NotImplementedError


YES = '{"reason": "it says so", "correct": true}'
CLAIMS = '{"claims": [{"claim": "one", "supported": true}, {"claim": "two", "supported": false}]}'
SAID_OF = '{"statements": [{"statement": "one", "relevant": true}]}'
PRECISE = '{"reason": "r", "relevant": [false, true]}'

GRADED = replace(ANSWERABLE, gold=(), grades={"a": 2, "z": 1, "b": 0})
NOTHING_RELEVANT = replace(ANSWERABLE, gold=(), grades={"a": 0})
BARE = replace(ANSWERABLE, gold=())
NO_EXPECTED = replace(ANSWERABLE, expected_answers=())
ORACLE: dict[str, Any] = {"arm": "oracle", "ranking": (passage(1, "a", 10, 20),), "prompt_passages": 1}
CLOSED: dict[str, Any] = {"arm": "closed_book", "ranking": (), "prompt_passages": 0}
NOT_FOUND: dict[str, Any] = {"ranking": (), "prompt_passages": 0}
UNANSWERED = "nothing in the corpus answers the question"


@pytest.mark.parametrize(
    ("name", "observation", "status", "value", "reason"),
    [
        ("R@5", observed(), "scored", 1.0, None),
        ("RR@10", observed(), "scored", 0.5, None),
        ("R@5", observed(answer=None), "scored", 1.0, None),
        ("R@5", observed(answer=None, ranking=()), "error", None, "ProviderFailed"),
        ("R@5", observed(answer=SILENT, **NOT_FOUND), "scored", 0.0, None),
        ("R@5", observed(UNANSWERABLE, SILENT), "not_applicable", None, "no document is judged for the question"),
        ("R@5", observed(UNANSWERABLE, None, ranking=()), "not_applicable", None, "no document is judged"),
        ("R@5", observed(replace(UNANSWERABLE, grades={"b": 1}), SILENT), "scored", 1.0, None),
        ("R@5", observed(NOTHING_RELEVANT), "scored", 0.0, None),
        ("R@5", observed(**ORACLE), "not_applicable", None, "the arm oracle is given the gold"),
        ("R@5", observed(**CLOSED), "not_applicable", None, "the arm closed_book retrieves nothing"),
        ("SpanR@2", observed(), "scored", 0.5, None),
        ("SpanR@3", observed(), "scored", 1.0, None),
        ("SpanP@1", observed(), "scored", 0.0, None),
        ("SpanP@2", observed(), "scored", 0.2, None),
        ("SpanHit@3", observed(), "scored", 0.0, None),
        ("SpanHit@3", observed(GRADED), "not_applicable", None, "the question has no gold span"),
        ("SpanHit@3", observed(**ORACLE), "not_applicable", None, "the arm oracle is given the gold"),
        ("SpanHit@3", observed(answer=None), "scored", 0.0, None),
        ("EM", observed(answer=said("The Ada Lovelace. [1]")), "scored", 1.0, None),
        ("Contains", observed(), "scored", 1.0, None),
        ("F1", observed(), "scored", 2 / 3, None),
        ("F1", observed(answer=SILENT), "scored", 0.0, None),
        ("Contains", observed(answer=said("Ada", abstained=True)), "scored", 0.0, None),
        ("F1", observed(answer=None), "error", None, "ProviderFailed"),
        ("F1", observed(UNANSWERABLE, SILENT), "not_applicable", None, UNANSWERED),
        ("F1", observed(UNANSWERABLE, None), "not_applicable", None, UNANSWERED),
        ("F1", observed(NO_EXPECTED), "not_applicable", None, "no expected answer is written"),
        ("F1", observed(**CLOSED), "scored", 2 / 3, None),
        ("F1", observed(answer=SILENT, arm="oracle", **NOT_FOUND), "not_applicable", None, "no gold passage to give"),
        ("F1", observed(answer=None, failure=None), "not_applicable", None, "no answer was asked for"),
        ("ROUGE-L", observed(), "scored", 2 / 3, None),
        ("WronglyAbstained", observed(), "scored", 0.0, None),
        ("WronglyAbstained", observed(answer=SILENT), "scored", 1.0, None),
        ("WronglyAbstained", observed(UNANSWERABLE, SILENT), "not_applicable", None, UNANSWERED),
        ("WronglyAbstained", observed(answer=None), "error", None, "ProviderFailed"),
        ("WronglyAnswered", observed(UNANSWERABLE, SILENT), "scored", 0.0, None),
        ("WronglyAnswered", observed(UNANSWERABLE), "scored", 1.0, None),
        ("WronglyAnswered", observed(), "not_applicable", None, "the question has an answer"),
        ("WronglyAnswered", observed(UNANSWERABLE, None), "error", None, "ProviderFailed"),
        ("CitationP", observed(), "scored", 1.0, None),
        ("CitationR", observed(), "scored", 1.0, None),
        ("CitationP", observed(answer=said("Ada.")), "scored", 0.0, None),
        ("CitationR", observed(answer=SILENT), "scored", 0.0, None),
        ("CitationP", observed(answer=SILENT), "not_applicable", None, "nothing was answered"),
        ("CitationP", observed(GRADED), "scored", 1.0, None),
        ("CitationR", observed(GRADED), "scored", 0.5, None),
        ("CitationR", observed(NOTHING_RELEVANT), "not_applicable", None, "the question has no gold"),
        ("CitationR", observed(BARE), "not_applicable", None, "the question has no gold"),
        ("CitationR", observed(**CLOSED), "not_applicable", None, "the arm closed_book has nothing to cite"),
        ("CitationR", observed(answer=None), "error", None, "ProviderFailed"),
    ],
)
def test_what_becomes_of_an_observation(
    name: str, observation: Observed, status: str, value: float | None, reason: str | None
) -> None:
    found = one(observation, name)
    assert found[:2] == (status, pytest.approx(value) if value is not None else None)
    assert found[2] == reason if reason is None else reason in (found[2] or "")


@pytest.mark.parametrize(
    ("name", "observation", "replies", "status", "value", "calls"),
    [
        ("Correctness", observed(), [YES], "scored", 1.0, 1),
        ("Correctness", observed(answer=SILENT), [YES], "scored", 0.0, 0),
        ("Correctness", observed(UNANSWERABLE), [YES], "not_applicable", None, 0),
        ("Correctness", observed(), ["I give it a 5"], "unscored", None, 2),
        ("Correctness", observed(), ["what?", YES], "scored", 1.0, 2),
        ("Correctness", observed(), [ProviderFailed("down")], "error", None, 1),
        ("Correctness", observed(answer=None), [YES], "error", None, 0),
        ("Correctness", observed(**CLOSED), [YES], "scored", 1.0, 1),
        ("Faithfulness", observed(), [CLAIMS], "scored", 0.5, 1),
        ("Faithfulness", observed(UNANSWERABLE), [CLAIMS], "scored", 0.5, 1),
        ("Faithfulness", observed(answer=SILENT), [CLAIMS], "not_applicable", None, 0),
        ("Faithfulness", observed(**CLOSED), [CLAIMS], "not_applicable", None, 0),
        ("Faithfulness", observed(), ['{"claims": []}'], "unscored", None, 1),
        ("AnswerRelevance", observed(), [SAID_OF], "scored", 1.0, 1),
        ("AnswerRelevance", observed(answer=SILENT), [SAID_OF], "scored", 0.0, 0),
        ("AnswerRelevance", observed(UNANSWERABLE, SILENT), [SAID_OF], "not_applicable", None, 0),
        ("ContextPrecision", observed(), [PRECISE], "scored", 0.5, 1),
        ("ContextPrecision", observed(answer=None), [PRECISE], "scored", 0.5, 1),
        ("ContextPrecision", observed(answer=None, ranking=()), [PRECISE], "error", None, 0),
        ("ContextPrecision", observed(answer=SILENT, **NOT_FOUND), [PRECISE], "scored", 0.0, 0),
        ("ContextPrecision", observed(**ORACLE), [PRECISE], "not_applicable", None, 0),
        ("ContextRecall", observed(), [CLAIMS], "scored", 0.5, 1),
        ("ContextRecall", observed(NO_EXPECTED), [CLAIMS], "not_applicable", None, 0),
    ],
)
def test_what_the_judge_is_asked_and_what_becomes_of_its_reply(
    name: str, observation: Observed, replies: list[str | Exception], status: str, value: float | None, calls: int
) -> None:
    chat = Chat(*replies)
    found = scored([observation], name, judge=Judge(chat))
    ((got,),) = found.scores
    assert (got.status.name.lower(), got.value, len(chat.asked)) == (status, value, calls)
    assert got.reason
    assert (got.scored_by == "test/judge") == (calls > 0)
    assert not any("[2]" in asked for asked in chat.asked if name != "ContextPrecision")
    paid = calls if status != "error" else 0
    assert found.judge_usage == Usage(paid, 10 * paid, 2 * paid, 0.5 * paid)
    assert (found.judge_seconds[0] is None) == (paid == 0)


def test_only_what_the_generator_was_given_is_shown_to_the_judge() -> None:
    chat = Chat(CLAIMS)
    first, second, third = (replace(each, text=f"text {each.rank}") for each in RANKING)
    scored([observed(ranking=(first, second, third))], "Faithfulness", judge=Judge(chat))
    assert [f"text {rank}" in chat.asked[0] for rank in (1, 2, 3)] == [True, True, False]


def test_what_no_other_question_would_escape_ends_the_scoring() -> None:
    with pytest.raises(KeyMissing):
        scored([observed(), observed()], "Correctness", judge=Judge(Chat(KeyMissing("no key"))))


def test_the_progress_goes_from_none_to_all_judgements() -> None:
    seen: list[tuple[int, int]] = []
    these = [observed(), observed(UNANSWERABLE), observed(answer=SILENT)]
    asyncio.run(
        score(these, parse(["Correctness", "F1"]), Judge(Chat(YES)), None, lambda done, of: seen.append((done, of)))
    )
    assert seen == [(0, 2), (1, 2), (2, 2)]


class Vectors:
    """A vector for each text: how often it has an a and a b."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def __call__(self, texts: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float32]]:
        self.asked += texts
        return np.array([[text.count("a"), text.count("b")] for text in texts], np.float32)


def test_similarity_takes_the_nearest_accepted_answer_and_embeds_each_text_once() -> None:
    question = replace(ANSWERABLE, expected_answers=("a", "bb", " "))
    embed = Vectors()
    these = [observed(question, said(text)) for text in ("aab [1]", "bbb", "ccc", "", "aab")]
    these += [observed(question, said("a", abstained=True)), observed(question, None), observed(UNANSWERABLE)]
    found = [row[0] for row in scored(these, "Similarity", embed=embed).scores]
    assert [each.value for each in found[:6]] == pytest.approx([2 / 5**0.5, 1.0, 0.0, 0.0, 2 / 5**0.5, 0.0])
    assert [each.status for each in found[6:]] == [Status.ERROR, Status.NOT_APPLICABLE]
    assert sorted(embed.asked) == ["a", "aab", "bb", "bbb", "ccc"]


def test_a_judge_or_an_embedding_model_that_is_needed_and_not_there_is_said_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        scored([observed()], "Correctness", "F1", "Similarity")
    assert [problem.where for problem in caught.value.problems] == ["Correctness", "Similarity"]


def test_equal_chunks_rank_and_cite_every_document_that_they_stand_in() -> None:
    folded = passage(1, "copy", 100, 115, Span("a", 0, 15))
    citation = Citation(1, "copy", 110, 114, "xxxx")
    answer = replace(said("Ada [1]", citation), passages=(folded,))
    found = scored(
        [observed(ANSWERABLE, answer, ranking=(folded, passage(2, "b", 0, 9)))], "RR", "R@1", "R@2", "CitationP"
    )
    assert [each.value for each in found.scores[0]] == [0.5, 0.0, 1.0, 1.0]


def test_nothing_observed_and_nothing_asked_are_empty() -> None:
    assert scored([], "R@5", "SpanR@5", "F1", "CitationP", "WronglyAnswered").scores == ()
    assert scored([observed()]).scores == ((),)


def test_the_result_is_short_in_words_and_the_collector_stays_on() -> None:
    found = scored([observed()] * 50, "F1")
    assert len(repr(found)) < 500
    assert gc.isenabled()


DOCUMENTS = st.sampled_from("abcdef")


@st.composite
def observations(draw: st.DrawFn) -> Observed:
    places = draw(st.lists(st.tuples(DOCUMENTS, st.integers(0, 9), st.lists(DOCUMENTS, max_size=2)), max_size=8))
    ranking = tuple(
        passage(rank, doc_id, start, start + 4, *(Span(each, start, start + 4) for each in also_in))
        for rank, (doc_id, start, also_in) in enumerate(places, 1)
    )
    gold = draw(st.lists(st.tuples(DOCUMENTS, st.integers(0, 9), st.integers(0, 5)), max_size=3))
    grades = draw(st.dictionaries(DOCUMENTS, st.integers(-1, 3), max_size=4))
    question = Question(
        "q",
        "Who?",
        tuple(draw(st.lists(st.sampled_from(["Ada", "Bob", ""]), max_size=2))),
        draw(st.booleans()),
        tuple(Gold(doc_id, start, start + size, "x" * size) for doc_id, start, size in gold),
        grades=grades,
    )
    answer = draw(st.sampled_from([RIGHT, SILENT, None]))
    return observed(
        question,
        answer,
        arm=draw(st.sampled_from(["retrieved", "oracle", "closed_book"])),
        ranking=ranking,
        prompt_passages=min(2, len(ranking)),
    )


def ranked_documents(passages: Sequence[Passage]) -> list[str]:
    """Every document at its first place, one after the other."""
    found: list[str] = []
    for each in passages:
        found += [doc_id for doc_id in [each.doc_id, *(span.doc_id for span in each.also_in)] if doc_id not in found]
    return list(dict.fromkeys(found))


FREE = ("nDCG@3", "R@2", "RR", "AP", "Judged@3", "SpanR@2", "SpanP@3", "SpanHit@1", "Contains", "F1")
MORE = ("WronglyAbstained", "WronglyAnswered", "CitationP", "CitationR", "ROUGE-L")


@settings(max_examples=60)
@given(st.lists(observations(), max_size=5))
def test_all_at_once_is_one_by_one_and_each_score_has_a_value_or_a_reason(these: list[Observed]) -> None:
    together = scored(these, *FREE, *MORE)
    assert len(together.scores) == len(these)
    for observation, row in zip(these, together.scores, strict=True):
        assert len(row) == len(FREE) + len(MORE)
        for measure, found in zip(together.measures, row, strict=True):
            entry = MEASURES[measure.name]
            if found.status == Status.SCORED:
                assert found.value is not None
                assert entry.low is not None
                assert entry.high is not None
                assert entry.low <= found.value <= entry.high
            else:
                assert found.value is None
                assert found.reason
        assert scored([observation], *FREE, *MORE).scores == (row,)


@given(st.lists(observations(), min_size=1, max_size=4))
def test_rankings_and_spans_are_those_of_the_plain_functions(these: list[Observed]) -> None:
    wanted = [each for each in these if each.arm == "retrieved" and not (each.failure and not each.ranking)]
    names = ("nDCG@3", "R@2", "RR", "AP", "Judged@3")
    for each in wanted:
        rows = scored([each], *names, "SpanR@2", "SpanP@3", "SpanHit@1").scores[0]
        judgements = dict(each.question.judgements)
        if judgements:
            matched = match_dicts({"q": judgements}, {"q": ranked_documents(each.ranking)})
            assert [found.value for found in rows[:5]] == [
                float(ranking_values(matched, measure)[0]) for measure in parse(names)
            ]
        gold = [[(span.doc_id, span.start, span.end) for span in each.question.gold]]
        chunks = [[(Span(p.doc_id, p.start, p.end), *p.also_in) for p in each.ranking]]
        plain = [span_recall(gold, chunks, 2), span_precision(gold, chunks, 3), span_hit(gold, chunks, 1)]
        assert [found.value for found in rows[5:]] == [None if np.isnan(value[0]) else value[0] for value in plain]


def test_the_defaults_are_what_the_questions_allow() -> None:
    def chosen(*questions: Question, judge: bool = False) -> list[str]:
        return [str(measure) for measure in defaults(questions, judge=judge)]

    ranking, spans, answers = ["R@5", "nDCG@10", "RR@10"], ["SpanHit@5", "SpanR@5"], ["Contains", "F1"]
    both, cited = ["WronglyAbstained", "WronglyAnswered"], ["CitationP", "CitationR"]
    assert chosen(ANSWERABLE, UNANSWERABLE) == [*ranking, *spans, *answers, *both, *cited]
    assert chosen(GRADED) == [*ranking, *answers, both[0], *cited]
    assert chosen(BARE) == [*answers, both[0]]
    assert chosen(UNANSWERABLE) == [both[1]]
    assert chosen() == []
    judged = ["Correctness", "Faithfulness", "AnswerRelevance", "ContextPrecision", "ContextRecall"]
    assert chosen(BARE, judge=True) == [*answers, both[0], *judged]
    assert chosen(UNANSWERABLE, judge=True) == [both[1], *judged[1:3]]


def test_the_depth_is_the_largest_cutoff_of_documents_and_of_chunks() -> None:
    assert depth(parse(["R@5", "nDCG@20", "SpanR@7", "F1"]), 100) == Depth(documents=20, chunks=7)
    assert depth(parse(["AP", "nDCG@20"]), 100) == Depth(documents=100, chunks=0)
    assert depth(parse(["AP", "nDCG@200"]), 100) == Depth(documents=200, chunks=0)
    assert depth([Measure("F1")], 100) == Depth(documents=0, chunks=0)
