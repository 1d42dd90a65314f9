"""The words of the harness as frozen values. Offsets are those of `rag.types`: 0-based, half-open code points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from pathlib import Path
from typing import Literal

from eval.measures.names import Measure
from rag.types import Answer, Passage, Usage

Arm = Literal["retrieved", "oracle", "closed_book"]
"""What the generator is given: what was retrieved, the gold passages, nothing."""


@dataclass(frozen=True, slots=True)
class Gold:
    """A passage that proves the answer: `document.text[start:end] == quote`. It knows nothing of chunks."""

    doc_id: str
    start: int
    end: int
    quote: str


@dataclass(frozen=True, slots=True)
class Question:
    """One question with what a right answer says and where it stands."""

    question_id: str
    text: str
    expected_answers: tuple[str, ...]
    """Forms that are equally right; empty where nothing in the corpus answers, or where nobody wrote one."""
    answerable: bool
    gold: tuple[Gold, ...]
    """Every passage that is needed: two of them mean that neither is enough."""
    tags: Mapping[str, str] = field(default_factory=dict)
    about: str | None = None
    """The document that an unanswerable question was written about."""
    grades: Mapping[str, int] = field(default_factory=dict)
    """Documents that people judged, each with its grade; 0 and below are judged not relevant."""
    contexts: tuple[str, ...] = ()
    """Passages that prove the answer of which only the words are known: for the arm `oracle` alone."""
    line: int = 0
    """Where it stands in its file, from 1; 0 where a file has no lines."""

    @property
    def judgements(self) -> Mapping[str, int]:
        """Grades of documents: those given, else 1 for each document that holds gold; empty where nothing is judged."""
        return self.grades or {each.doc_id: 1 for each in self.gold}


@dataclass(frozen=True, slots=True)
class Dataset:
    """A question set as it was read."""

    path: Path
    format: str
    """`canonical`, `table`, `beir`, `trec`, `squad`, ...: the key of `eval.datasets.registry.FORMATS`."""
    sha256: str
    """Over the files that it was read from."""
    questions: tuple[Question, ...]
    notes: tuple[str, ...] = ()
    """What somebody should know who reads its figures: questions without judgements, columns that became tags."""
    corpus: tuple[Path, ...] = ()
    """Files of the corpus that it brings along, for `--corpus-from-dataset`; empty where it brings none."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no answer: the error's type and its message, without secrets."""

    type: str
    message: str


@dataclass(frozen=True, slots=True)
class Observed:
    """What became of one question in one arm and repeat: everything that its scores are computed from."""

    question: Question
    arm: Arm
    repeat: int
    ranking: tuple[Passage, ...]
    """Every passage looked at, best first, as deep as the measures need; gold in the arm `oracle`, none in `closed_book`."""
    prompt_passages: int
    """The first so many of the ranking were given to the generator."""
    answer: Answer | None
    """None where `failure` says why."""
    failure: Failure | None
    prompt: str | None
    """The exact messages as they were sent, role by role; None for a generator that takes none."""
    prompt_sha256: str | None
    cached: bool
    """Whether the completion came from the store of answers."""
    usage: Usage
    """What this observation was billed for the completion: nothing where it was cached (its tokens: `answer.usage`)."""
    usd_saved: float | None
    """What the cached completion had cost; None where no price is known."""
    retrieve_seconds: float
    generate_seconds: float | None
    """Of the call that was paid, also when it is cached now; None where nothing was generated."""
    asked_at: datetime
    """UTC."""


class Status(IntEnum):
    """What became of one measure of one question."""

    SCORED = 0
    UNSCORED = 1
    """Asked, but without a usable verdict."""
    NOT_APPLICABLE = 2
    ERROR = 3


@dataclass(frozen=True, slots=True)
class Score:
    """One measure of one observation."""

    value: float | None
    """A finite number where `status` is SCORED, else None."""
    status: Status
    reason: str | None
    """The judge's reason, or why there is no value; None for a value that needs no reason."""
    scored_by: str
    """`ragline`, or the judge's model."""


@dataclass(frozen=True, slots=True)
class Scored:
    """Every observation with a score for every measure that was asked for."""

    # asyncio.run puts a task's result into words when it ends, and would do so for every passage
    observed: tuple[Observed, ...] = field(repr=False)
    measures: tuple[Measure, ...]
    scores: tuple[tuple[Score, ...], ...] = field(repr=False)
    """`scores[o][m]`: observation o, measure m."""
    judge_seconds: tuple[float | None, ...] = field(repr=False)
    """Of each observation, summed over its judge calls; None where none was needed."""
    judge_usage: Usage
    """What all judge calls of this run were billed; nothing for cached ones."""
    judge_usd_saved: float | None
    """What the cached ones had cost; None where no price is known."""
