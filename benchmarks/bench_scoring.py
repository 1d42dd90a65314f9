"""The whole scoring of 10,000 questions in a warm interpreter: observations to scores, and scores to means with intervals.

Each question has 100 passages, one text in ten stands in two documents, a sentence as answer with a citation, one gold
span; one in ten is unanswerable, one in fifty failed. Goal: a second.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

import numpy as np
from bench_answers import made
from measure import cpu_seconds, peak_mb, save

from eval.measures import registry
from eval.scoring import score
from eval.statistics import cluster_ids, summarise
from eval.types import Failure, Gold, Observed, Question, Scored, Status
from rag.types import Answer, Citation, Passage, Span, Usage

QUESTIONS, PASSAGES, DOCUMENTS = 10_000, 100, 50_000
MORE = ("EM", "ROUGE-L", "AP@100", "Success@5", "P@5", "Judged@10", "SpanP@5", "nDCG@100")


def observations() -> list[Observed]:
    rng = np.random.default_rng(0)
    answers, accepted = made(QUESTIONS)
    document = rng.integers(0, DOCUMENTS, (QUESTIONS, PASSAGES)).tolist()
    starts = (rng.integers(0, 20, (QUESTIONS, PASSAGES)) * 400).tolist()
    twice = (rng.random((QUESTIONS, PASSAGES)) < 0.1).tolist()
    found = rng.integers(0, 30, QUESTIONS).tolist()
    names = [f"folder/document-{at:05d}.md" for at in range(DOCUMENTS)]
    when, text = datetime(2026, 11, 22, tzinfo=UTC), "a passage " * 40
    every = []
    for at in range(QUESTIONS):
        ranking = tuple(
            Passage(
                rank + 1,
                1.0 - rank / 100,
                names[document[at][rank]],
                "title",
                "source",
                start := starts[at][rank],
                start + 400,
                ("heading",),
                text,
                (Span(names[rank], start, start + 400),) if twice[at][rank] else (),
            )
            for rank in range(PASSAGES)
        )
        best = ranking[found[at]]
        answerable = at % 10 > 0
        gold = (Gold(best.doc_id, best.start + 100, best.start + 160, "x" * 60),) if answerable else ()
        question = Question(f"q{at}", "what?", tuple(accepted[at]) if answerable else (), answerable, gold)
        citation = Citation(1, ranking[0].doc_id, ranking[0].start + 90, ranking[0].start + 180, "y" * 90)
        said = f"{answers[at]} [1]"
        answer = Answer("what?", said, at % 7 == 0, (citation,), ranking[:5], "m", None, Usage())
        failed = at % 50 == 1
        every.append(
            Observed(
                question,
                "retrieved",
                0,
                ranking,
                5,
                None if failed else answer,
                Failure("ProviderFailed", "no") if failed else None,
                None,
                None,
                cached=False,
                usage=Usage(),
                usd_saved=None,
                retrieve_seconds=0.0,
                generate_seconds=None,
                asked_at=when,
            )
        )
    return every


def main() -> None:
    observed = observations()
    measures = registry.defaults([each.question for each in observed], judge=False)

    def scored(which: tuple[registry.Measure, ...]) -> Scored:
        return asyncio.run(score(observed, which, None, None, lambda *_: None))

    def summed(found: Scored) -> object:
        values = np.array([[np.nan if each.value is None else each.value for each in row] for row in found.scores])
        status = np.array([[int(each.status) for each in row] for row in found.scores])
        return summarise(values, cluster_ids([each.question for each in observed]), status)

    def wall(which: tuple[registry.Measure, ...]) -> float:
        began = time.perf_counter()
        summed(scored(which))
        return time.perf_counter() - began

    every = (*measures, *registry.parse(MORE))
    assert sum(each.status == Status.ERROR for row in scored(measures).scores for each in row) > 0
    alone = {}
    for measure in every:
        alone[str(measure)] = min(cpu_seconds(lambda measure=measure: scored((measure,))) for _ in range(3))
    save(
        "scoring",
        {
            "questions": QUESTIONS,
            "passages_per_question": PASSAGES,
            "measures": [str(measure) for measure in measures],
            "scores_wall_s": min(_timed(lambda: scored(measures)) for _ in range(3)),
            "scores_and_summary_wall_s": min(wall(measures) for _ in range(3)),
            "goal_s": 1.0,
            "with_more_measures": len(every),
            "with_more_scores_wall_s": min(_timed(lambda: scored(every)) for _ in range(3)),
            "with_more_and_summary_wall_s": min(wall(every) for _ in range(3)),
            "each_measure_alone_cpu_s": alone,
            "peak_mb": peak_mb(),
        },
    )


def _timed(call: object) -> float:
    began = time.perf_counter()
    call()  # type: ignore[operator]
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
