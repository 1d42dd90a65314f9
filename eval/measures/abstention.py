"""Who was answered and who was not: the two errors that pull at each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from eval.measures.conditions import ANSWERABLE, UNANSWERABLE
from eval.measures.names import Entry, Floats


@dataclass(frozen=True, slots=True)
class Abstention:
    """Who was answered, of the answerable questions and of the others."""

    answerable_answered: int
    answerable_abstained: int
    unanswerable_answered: int
    unanswerable_abstained: int

    @property
    def wrongly_abstained(self) -> float | None:
        """Share of the answerable questions that got no answer; None without any."""
        return _share(self.answerable_abstained, self.answerable_answered)

    @property
    def wrongly_answered(self) -> float | None:
        """Share of the unanswerable questions that got an answer; None without any."""
        return _share(self.unanswerable_answered, self.unanswerable_abstained)


def abstention(answerable: Iterable[bool], abstained: Iterable[bool]) -> Abstention:
    """The 2x2 table of answerable against abstained. A question that failed belongs in neither list."""
    counts = Counter((bool(can), bool(not_said)) for can, not_said in zip(answerable, abstained, strict=True))
    return Abstention(counts[True, False], counts[True, True], counts[False, False], counts[False, True])


def abstention_errors(answerable: Iterable[bool], abstained: Iterable[bool]) -> tuple[Floats, Floats]:
    """Both errors question by question, (wrongly abstained, wrongly answered): 1 or 0, NaN where it can not happen."""
    can, silent = np.array(list(answerable), dtype=bool), np.array(list(abstained), dtype=bool)
    if can.shape != silent.shape:
        raise ValueError(f"{len(can):,} questions, but {len(silent):,} answers")
    return np.where(can, silent.astype(np.float64), np.nan), np.where(can, np.nan, (~silent).astype(np.float64))


def _share(part: int, rest: int) -> float | None:
    return part / (part + rest) if part + rest else None


_SOURCE = "the 2x2 of answerable and answered, as in Rajpurkar, Jia and Liang, ACL 2018, and in RGB (AAAI 2024)"
WRONGLY_ABSTAINED = Entry(
    name="WronglyAbstained",
    family="abstention",
    when=ANSWERABLE,
    says="whether a question got no answer although the corpus has one",
    formula="1 if the system abstained, else 0; its mean is the share of the answerable questions",
    needs="answers to answerable questions",
    source=_SOURCE,
    missing="unanswerable: not applicable; no answer for an error: error",
    values=lambda asked, _: abstention_errors(*asked)[0],
    higher_is_better=False,
)
WRONGLY_ANSWERED = Entry(
    name="WronglyAnswered",
    family="abstention",
    when=UNANSWERABLE,
    says="whether a question got an answer although the corpus has none",
    formula="1 if the system answered, else 0; its mean is the share of the unanswerable questions",
    needs="answers to unanswerable questions",
    source=_SOURCE,
    missing="answerable: not applicable; no answer for an error: error",
    values=lambda asked, _: abstention_errors(*asked)[1],
    higher_is_better=False,
)
