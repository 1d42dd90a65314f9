"""Every measure of the house. A new one is its function and entry in a file of this folder, a test, and a line here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from eval.measures import abstention, answers, citations, judged, names, ranking, similarity, spans
from eval.measures.matching import Matched
from eval.measures.names import Entry, Floats, Measure

if TYPE_CHECKING:
    from eval.types import Question

MEASURES: Mapping[str, Entry] = {
    entry.name: entry
    for entry in (
        ranking.NDCG,
        ranking.RR,
        ranking.AP,
        ranking.R,
        ranking.P,
        ranking.SUCCESS,
        ranking.RPREC,
        ranking.BPREF,
        ranking.JUDGED,
        spans.SPAN_R,
        spans.SPAN_P,
        spans.SPAN_HIT,
        answers.EM,
        answers.F1,
        answers.CONTAINS,
        answers.ROUGE_L,
        similarity.SIMILARITY,
        abstention.WRONGLY_ABSTAINED,
        abstention.WRONGLY_ANSWERED,
        citations.CITATION_P,
        citations.CITATION_R,
        judged.CORRECTNESS,
        judged.FAITHFULNESS,
        judged.ANSWER_RELEVANCE,
        judged.CONTEXT_PRECISION,
        judged.CONTEXT_RECALL,
    )
}
RANKING = ("nDCG@10", "RR@10", "AP@100", "R@5", "P@5", "Success@5", "Judged@10")
"""What a ranking is scored with where nothing else is asked for."""


@dataclass(frozen=True, slots=True)
class Depth:
    """How deep a ranking must go for some measures."""

    documents: int
    """Distinct documents."""
    chunks: int


def parse(wanted: Iterable[str]) -> tuple[Measure, ...]:
    """The measures of these names in their order, each once. Raises UsageError, with every bad name in it."""
    return names.parse_all(wanted, MEASURES)


def ranking_values(matched: Matched, measure: Measure) -> Floats:
    """The measure for each of `matched.queries`."""
    return cast("Floats", MEASURES[measure.name].values(matched, measure))


def defaults(questions: Sequence[Question], *, judge: bool) -> tuple[Measure, ...]:
    """What the questions allow, the measures first that people look at first; judged ones only with a judge."""
    answerable = [each for each in questions if each.answerable]
    documents = any(each.grades or each.gold for each in questions)
    has_spans = any(gold.start < gold.end for each in questions for gold in each.gold)
    cites = has_spans or any(grade > 0 for each in answerable for grade in each.grades.values())
    expected = any(each.expected_answers for each in answerable)
    chosen = [
        *(("R@5", "nDCG@10", "RR@10") if documents else ()),
        *(("SpanHit@5", "SpanR@5") if has_spans else ()),
        *(("Contains", "F1") if expected else ()),
        *(("WronglyAbstained",) if answerable else ()),
        *(("WronglyAnswered",) if len(answerable) < len(questions) else ()),
        *(("CitationP", "CitationR") if cites else ()),
        *(("Correctness",) if judge and expected else ()),
        *(("Faithfulness", "AnswerRelevance") if judge else ()),
        *(("ContextPrecision", "ContextRecall") if judge and expected else ()),
    ]
    return parse(chosen)


def depth(measures: Iterable[Measure], uncut: int) -> Depth:
    """How deep a ranking must go: the largest cutoffs; `uncut` documents for a ranking measure without one."""
    deepest = {"ranking": 0, "span": 0}
    for measure in measures:
        family = MEASURES[measure.name].family
        if family in deepest:
            deepest[family] = max(deepest[family], measure.cutoff or uncut)
    return Depth(deepest["ranking"], deepest["span"])
