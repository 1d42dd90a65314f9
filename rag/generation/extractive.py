"""`local/extractive`: the sentence of the passages that best fits the question, quoted. Offline and deterministic.

Two linear scores over the evidence (see evidence.py). `CHOICE` picks the sentence; `TRUST` says whether the passages
speak of what is asked at all: at or below 0 it abstains. Each has a table of constants with word vectors and one
without. benchmarks/fit_extractive.py fits them, on public questions only, and tells how well they do on others.

The answer is a sentence, or two of them, not a span inside. Tried on SQuAD: a number picked because the question asks
"how many" was the right one in 33 % of the sentences chosen, while 90 % of them held it; names 31 and 83 %, dates 82
and 92 %.

It finds what is said in the question's words, or in words near them. It does not reason, and it cannot see that a
question about what the passages are about has no answer there.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rag.generation.citations import span
from rag.generation.evidence import COLUMNS, Array, Evidence, Rarity, evidence
from rag.generation.nearness import Embed, WordVectors
from rag.generation.prompt import ABSTENTION
from rag.generation.sentences import shown
from rag.types import Answer, Passage, Usage


@dataclass(frozen=True, slots=True)
class Constants:
    """What was fitted. `choice` has a weight for each column of the evidence, `trust` for each of `signs`."""

    choice: tuple[float, ...]
    trust: tuple[float, ...]
    offset: float


SECOND = 0.5
"""Where the second sentence is half as likely as the first, both are given: on SQuAD 24 % more sentences, 5 points more
answers that hold an expected one."""
PLAIN = Constants(
    choice=(3.07, 1.68, 0.67, 1.75, 0.75, 1.58, 0.04, 1.34, 1.37, 0.77),
    trust=(1.64, 4.53, 1.5),
    offset=-4.41,
)
WITH_VECTORS = Constants(
    choice=(2.69, 1.7, 0.8, 0.76, 0.57, 1.06, 0.36, 1.16, 1.28, 1.0, 1.68, 1.37, 1.23, 1.98, 1.61),
    trust=(1.4, 3.4, 1.17, 4.9),
    offset=-4.73,
)


class ExtractiveGenerator:
    """**Generator** without a model. `prompt` of its answers is None, their usage zero."""

    name = "local/extractive"

    def __init__(self, rarity: Rarity | None = None, embed: Embed | None = None, *, always: bool = False) -> None:
        """`rarity` of a stem in the index (without it, among the passages), `embed` of single words (without it, none).

        `always` answers whatever there is, which measures how well it chooses.
        """
        self._rarity = rarity
        self._vectors = WordVectors(embed) if embed else None
        fitted = WITH_VECTORS if embed else PLAIN
        self._constants = replace(fitted, offset=math.inf) if always else fitted

    async def answer(self, question: str, passages: Sequence[Passage]) -> AsyncIterator[str | Answer]:
        """The text in one piece, then the Answer. Raises what the embedding model raises."""
        answer = await self.complete(question, passages)
        yield answer.text
        yield answer

    async def complete(self, question: str, passages: Sequence[Passage]) -> Answer:
        """The best sentence as it reads without marks, with its citation; or the abstention."""
        weighed = await evidence(question, passages, self._rarity, self._vectors)
        quoted = [weighed.candidates[place] for place in pick(weighed, self._constants)] if weighed else []
        return Answer(
            question=question,
            text=" ".join(f"{shown(passage.text, unit)} [{passage.rank}]" for passage, unit in quoted) or ABSTENTION,
            abstained=not quoted,
            citations=tuple(span(passage, unit.start, unit.end) for passage, unit in quoted),
            passages=tuple(passages),
            model=self.name,
            prompt=None,
            usage=Usage(),
        )


def pick(weighed: Evidence, constants: Constants) -> list[int]:
    """The places of what is quoted: the best, and the second where it is at least `SECOND` times as likely.

    Of one passage in its order. Nothing where the passages are not trusted to answer.
    """
    best = choose(weighed, constants.choice)
    if float(signs(weighed, best) @ constants.trust) + constants.offset <= 0:
        return []
    likely = weighed.columns @ np.asarray(constants.choice)
    likely = np.exp(likely - likely[best])
    (passage, unit), said = weighed.candidates[best], _words(weighed, best)
    for place in np.argsort(-likely, kind="stable").tolist():
        if likely[place] < SECOND:
            break
        if place != best and _words(weighed, place) != said:
            other, behind = weighed.candidates[place]
            return [place, best] if other is passage and behind.start < unit.start else [best, place]
    return [best]


def _words(weighed: Evidence, place: int) -> list[str]:
    passage, unit = weighed.candidates[place]
    return shown(passage.text, unit).split()


def choose(weighed: Evidence, choice: Sequence[float]) -> int:
    """The place of the best sentence, ties by passage order and place."""
    return int(np.argmax(np.round(weighed.columns @ np.asarray(choice), 9)))


def signs(weighed: Evidence, best: int) -> Array:
    """What speaks for an answer at all, seen from the chosen sentence, in the order of `trust`.

    Rarity found in its passage, the share this is of what is asked, neighbouring words; with vectors also the cosine of
    passage and question.
    """
    found = weighed.found[best]
    row = dict(zip(COLUMNS, weighed.columns[best].tolist(), strict=False))
    near = [row["cosine_passage"]] if "cosine_passage" in row else []
    return np.array([found, found / weighed.asked, row["pairs"], *near])
