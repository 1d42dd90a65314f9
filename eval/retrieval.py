"""How well passages are found: the same questions put to one version in each way of retrieving."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from eval.context import documents, retrieved, spans
from eval.datasets.select import sample
from eval.types import Gold, Question
from rag.errors import Problem, UsageError
from rag.retrieval.retrievers import RETRIEVERS
from rag.settings import Generation, Settings
from rag.sync import run_sync
from rag.types import Passage
from rag.wiring import Desk

MODES = tuple(RETRIEVERS)
MEASURES = ("R@1", "R@5", "RR@10", "SpanHit@5")
_DOCUMENTS = 10
"""Distinct documents that the measures need."""
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Row:
    """The means of one way of retrieving, in the order of the measures."""

    mode: str
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class RetrievalResult:
    """The figures of one run. `questions` counts the answerable ones that were asked."""

    index: str
    version: int | str
    """The number of a version, or the name of an experiment."""
    questions: int
    measures: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def of(self) -> str:
        """What was asked, as a person reads it."""
        return _named(self.version)

    def as_json(self) -> dict[str, Any]:
        """The fields of `ragline eval --json`; intervals are not known yet."""
        same = {"arm": "retrieved", "slice_tag": "all", "slice_value": "all", "n": self.questions}
        unknown = {"low": None, "high": None}
        summary = [
            {"measure": measure, "mode": row.mode, **same, "unscored": 0, "errors": 0, "mean": value, **unknown}
            for row in self.rows
            for measure, value in zip(self.measures, row.values, strict=True)
        ]
        return {
            "index": self.index,
            "version": self.version if isinstance(self.version, int) else None,
            "experiment": self.version if isinstance(self.version, str) else None,
            "questions": self.questions,
            "errors": 0,
            "summary": summary,
        }


def evaluate_retrieval(
    settings: Settings,
    questions: Sequence[Question],
    dataset: Path,
    version: int | str | None = None,
    limit: int | None = None,
) -> RetrievalResult:
    """Ask the answerable questions in every mode, and say how well their gold is found.

    Parameters
    ----------
    settings
        The index, and the choices at query time other than the mode.
    questions, dataset
        What `eval.datasets.canonical.read` gave, and the file that messages name.
    version
        The number of a version, the name of an experiment; None takes the published version.
    limit
        At most so many answerable questions, drawn with `evaluation.seed`.

    Raises UsageError where no question is answerable, and for gold that the version does not hold; else as Desk does.
    """
    asked = [question for question in questions if question.answerable and question.gold]
    if limit is not None:
        asked = sample(asked, limit, settings.evaluation.seed)
    if not asked:
        what = "there is no answerable question to ask"
        raise UsageError.at(str(dataset), what, "name another question set, or a higher --limit")
    rows: list[Row] = []
    # each desk stays open to the end, so that all modes ask what the first one opened
    with contextlib.ExitStack() as held:
        for mode in MODES:
            # no chat model is asked, so that none of its keys is needed
            chosen = {"retrieval": settings.retrieval.model_copy(update={"mode": mode}), "generation": Generation()}
            desk = held.enter_context(Desk(settings.model_copy(update=chosen), version, command="ragline eval"))
            version = desk.version if version is None else version
            if not rows:
                _refuse_missing(desk, asked, dataset, _named(version))
            found = run_sync(retrieved(desk, [question.text for question in asked], _DOCUMENTS, 4 * _DOCUMENTS))
            scores = [score(question.gold, passages) for question, passages in zip(asked, found, strict=True)]
            rows.append(Row(mode, tuple(fmean(each[measure] for each in scores) for measure in MEASURES)))
    assert version is not None
    return RetrievalResult(settings.corpus.name, version, len(asked), MEASURES, tuple(rows))


def _named(version: int | str) -> str:
    return f"experiment {version}" if isinstance(version, str) else f"version {version}"


def score(gold: Sequence[Gold], passages: Sequence[Passage]) -> Mapping[str, float]:
    """The measures of one question: {measure: value}. Passages are in order, best first.

    R@k: the share of the gold documents among the first k documents, a document ranked by its best chunk. RR@10: one
    over the rank of the first gold document, 0 beyond the tenth. SpanHit@5: 1 where one of the first five chunks holds
    a whole gold span.
    """
    wanted = {each.doc_id for each in gold}
    ranked = documents(passages)
    rank = next((place for place, doc_id in enumerate(ranked[:10], 1) if doc_id in wanted), None)
    found = [span for passage in passages[:5] for span in spans(passage)]
    hit = any(
        doc_id == each.doc_id and start <= each.start and each.end <= end
        for doc_id, start, end in found
        for each in gold
    )
    return {
        "R@1": len(wanted & set(ranked[:1])) / len(wanted),
        "R@5": len(wanted & set(ranked[:5])) / len(wanted),
        "RR@10": 1 / rank if rank else 0.0,
        "SpanHit@5": float(hit),
    }


def _refuse_missing(desk: Desk, questions: Sequence[Question], dataset: Path, version: str) -> None:
    """Gold that the version does not hold would only look like bad retrieval."""
    texts = desk.opened.documents.get({each.doc_id for question in questions for each in question.gold}, ("text",))
    problems: list[Problem] = []
    for question in questions:
        for each in question.gold:
            where = f"{dataset} {question.question_id}"
            if each.doc_id not in texts:
                what = f"its document {each.doc_id!r} is not in {version}"
                problems.append(Problem(where, what, "index the corpus that the questions were written for"))
            elif texts[each.doc_id]["text"][each.start : each.end] != each.quote:
                what = f"{each.doc_id!r} has another text at {each.start}-{each.end} in {version}"
                problems.append(Problem(where, what, "write the new start and end of the quote into the question set"))
    if problems:
        what = f"{len(problems):,} gold passages are not in {version}; the first: {problems[0].what}"
        raise UsageError(what, problems[:_SHOWN])
