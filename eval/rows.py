"""What was observed and scored, as the rows of `questions`, `retrieved` and `scores`, in the order of observation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from datetime import UTC
from functools import lru_cache
from typing import Any

from eval.about import redacted
from eval.causes import Wanted, causes
from eval.statistics import cluster_ids
from eval.tables import Row, whole
from eval.types import Observed, Question, Scored
from rag.index.tables import joined
from rag.types import Span

_joined = lru_cache(maxsize=1 << 14)(joined)
"""The same chunk is found by many questions."""


def question_rows(scored: Scored, run_id: str) -> Iterator[Row]:
    """A row for each observation, errors included."""
    for observed, seconds, cause in zip(scored.observed, scored.judge_seconds, causes(scored), strict=True):
        question, answer, failure = observed.question, observed.answer, observed.failure
        wanted = Wanted.of(question)
        first = next((at for at, each in enumerate(observed.ranking, 1) if wanted.is_in(each)), None)
        yield {
            **_key(observed, run_id),
            "question": whole(question.text),
            "question_sha256": hashlib.sha256(whole(question.text).encode()).hexdigest(),
            "status": status(observed),
            "error_type": failure.type if failure else None,
            "error_message": redacted(failure.message) if failure else None,
            "answer": answer.text if answer else None,
            "cause": cause,
            "model": answer.model if answer else None,
            "prompt": observed.prompt,
            "prompt_sha256": observed.prompt_sha256,
            "expected_json": _json(question.expected_answers),
            "gold_json": _json(_gold(question)),
            "citations_json": _json(
                [
                    {"doc_id": each.doc_id, "start": each.start, "end": each.end, "quote": each.quote}
                    for each in (answer.citations if answer else ())
                ]
            ),
            "tags_json": _json(dict(sorted(question.tags.items()))),
            "answerable": question.answerable,
            "abstained": bool(answer and answer.abstained),
            "answer_cached": observed.cached,
            "gold_count": wanted.count,
            "first_gold_rank": first,
            "retrieved_count": len(observed.ranking),
            "prompt_passages": observed.prompt_passages,
            "input_tokens": answer.usage.input_tokens if answer else 0,
            "output_tokens": answer.usage.output_tokens if answer else 0,
            "usd": observed.usage.usd,
            "usd_saved": observed.usd_saved,
            "retrieve_seconds": observed.retrieve_seconds,
            "generate_seconds": observed.generate_seconds,
            "judge_seconds": seconds,
            "asked_at_utc": observed.asked_at.astimezone(UTC).replace(tzinfo=None),
        }


def retrieved_rows(scored: Scored, run_id: str) -> Iterator[Row]:
    """A row for each passage that was looked at, best first; none in the arm `closed_book`."""
    for observed in scored.observed:
        key, wanted = _key(observed, run_id), Wanted.of(observed.question)
        cited = {each.passage for each in observed.answer.citations} if observed.answer else set()
        for at, passage in enumerate(observed.ranking):
            grade = wanted.grade(passage)
            yield {
                **key,
                "rank": at + 1,
                "score": passage.score,
                "dense_rank": passage.dense.rank if passage.dense else None,
                "lexical_rank": passage.lexical.rank if passage.lexical else None,
                "dense_score": passage.dense.score if passage.dense else None,
                "lexical_score": passage.lexical.score if passage.lexical else None,
                "chunk_id": Span(passage.doc_id, passage.start, passage.end).chunk_id,
                "doc_id": passage.doc_id,
                "source": passage.source,
                "heading_path": _joined(passage.heading_path),
                "text": passage.text,
                "char_start": passage.start,
                "char_end": passage.end,
                "tokens": passage.tokens,
                "judged": grade is not None,
                "grade": grade,
                "gold_chars": wanted.chars(passage),
                "in_prompt": at < observed.prompt_passages,
                "cited": passage.rank in cited,
            }


def score_rows(scored: Scored, run_id: str) -> Iterator[Row]:
    """A row for each measure of each observation."""
    names = [str(measure) for measure in scored.measures]
    for observed, scores, cluster in zip(scored.observed, scored.scores, clusters(scored.observed), strict=True):
        for measure, score in zip(names, scores, strict=True):
            yield {
                **_key(observed, run_id),
                "measure": measure,
                "value": score.value,
                "status": score.status.name.lower(),
                "reason": score.reason,
                "cluster_id": cluster,
                "scored_by": score.scored_by,
            }


def clusters(observed: Sequence[Observed]) -> list[str]:
    """The cluster of each observation: that of its question, so that repeats and arms stand together."""
    asked = {each.question.question_id: each.question for each in observed}
    found = dict(zip(asked, cluster_ids(list(asked.values())), strict=True))
    return [found[each.question.question_id] for each in observed]


def status(observed: Observed) -> str:
    """`ok`, `abstained` or `error`."""
    if observed.answer is None:
        return "error"
    return "abstained" if observed.answer.abstained else "ok"


def _key(observed: Observed, run_id: str) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "question_id": observed.question.question_id,
        "arm": observed.arm,
        "repeat": observed.repeat,
    }


def _gold(question: Question) -> list[dict[str, Any]]:
    judged = question.judgements
    found = [
        {
            "doc_id": each.doc_id,
            "start": each.start,
            "end": each.end,
            "quote": each.quote,
            "grade": judged.get(each.doc_id, 1),
        }
        for each in question.gold
    ]
    seen = {each.doc_id for each in question.gold}
    return found + [
        {"doc_id": doc_id, "start": None, "end": None, "quote": None, "grade": each}
        for doc_id, each in sorted(question.grades.items())
        if doc_id not in seen
    ]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
