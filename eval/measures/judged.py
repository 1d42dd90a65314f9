"""Measures that a chat model judges: what of an observation each of them shows to the judge."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from eval.measures.conditions import CLAIMS, CONTEXT, EXPECTED, SPOKEN
from eval.measures.gathered import said
from eval.measures.names import Entry

if TYPE_CHECKING:
    from eval.judge import Judge, Verdict
    from eval.types import Observed
    from rag.types import Passage


def _given(observed: Observed) -> tuple[Passage, ...]:
    return observed.ranking[: observed.prompt_passages]


def _correctness(judge: Judge, observed: Observed) -> Awaitable[Verdict]:
    return judge.correctness(observed.question.text, observed.question.expected_answers, said(observed))


def _faithfulness(judge: Judge, observed: Observed) -> Awaitable[Verdict]:
    return judge.faithfulness(observed.question.text, _given(observed), said(observed))


def _answer_relevance(judge: Judge, observed: Observed) -> Awaitable[Verdict]:
    return judge.answer_relevance(observed.question.text, said(observed))


def _context_precision(judge: Judge, observed: Observed) -> Awaitable[Verdict]:
    return judge.context_precision(observed.question.text, observed.question.expected_answers, _given(observed))


def _context_recall(judge: Judge, observed: Observed) -> Awaitable[Verdict]:
    return judge.context_recall(observed.question.text, observed.question.expected_answers, _given(observed))


_UNUSABLE = "unusable reply of the judge: unscored, counted; a call that failed: error"
_ANSWER = "no answer for an error: error"
_RAGAS = "Ragas (Es and others, EACL 2024), with prompts of our own"
CORRECTNESS = Entry(
    name="Correctness",
    family="judged",
    when=EXPECTED,
    says="whether the answer says what an accepted answer says, in whatever words",
    formula="1 if the judge finds it so, else 0",
    needs="a judge, answers, and accepted answers of answerable questions",
    source="reference-guided grading by a model (Zheng and others, NeurIPS 2023; Kamalloo and others, ACL 2023); "
    "`ragline eval --calibrate` measures how far the judge agrees with people",
    missing=f"abstained: 0, without a call; unanswerable, or no accepted answer: not applicable; {_UNUSABLE}; {_ANSWER}",
    values=_correctness,
    aliases=("AnswerCorrectness",),
)
FAITHFULNESS = Entry(
    name="Faithfulness",
    family="judged",
    when=CLAIMS,
    says="how many of the answer's claims the passages that it was given support",
    formula="supported claims / claims of the answer",
    needs="a judge, and answers from passages",
    source=_RAGAS,
    missing=f"abstained, or arm closed_book: not applicable; no claim in it: unscored; {_UNUSABLE}; {_ANSWER}",
    values=_faithfulness,
)
ANSWER_RELEVANCE = Entry(
    name="AnswerRelevance",
    family="judged",
    when=SPOKEN,
    says="how much of the answer is about the question, whether it is right or wrong",
    formula="statements that bear on the question / statements of the answer",
    needs="a judge, and answers",
    source="answer relevancy of DeepEval; that of Ragas is another, the likeness of the question to questions made "
    "from the answer",
    missing="abstained: 0 for an answerable question, without a call; not applicable for an unanswerable one; no statement "
    f"in it: unscored; {_UNUSABLE}; {_ANSWER}",
    values=_answer_relevance,
    aliases=("AnswerRelevancy", "ResponseRelevancy"),
)
CONTEXT_PRECISION = Entry(
    name="ContextPrecision",
    family="judged",
    when=CONTEXT,
    says="how high those of the generator's passages stand that help to the accepted answer",
    formula="mean of precision@i over the ranks i of the relevant ones among the passages given",
    needs="a judge, rankings, and accepted answers of answerable questions",
    source=_RAGAS,
    missing="no relevant passage, or none at all: 0; unanswerable, no accepted answer, other arms: not applicable; "
    f"{_UNUSABLE}; no retrieval for an error: error",
    values=_context_precision,
)
CONTEXT_RECALL = Entry(
    name="ContextRecall",
    family="judged",
    when=CONTEXT,
    says="how much of the accepted answer the generator's passages support",
    formula="supported claims / claims of the accepted answer; of several the best supported counts",
    needs="a judge, rankings, and accepted answers of answerable questions",
    source=_RAGAS,
    missing="no passage: 0; unanswerable, no accepted answer, other arms: not applicable; no claim in it: unscored; "
    f"{_UNUSABLE}; no retrieval for an error: error",
    values=_context_recall,
)
