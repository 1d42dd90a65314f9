"""`local/extractive`: the sentence of the passages that best fits the question, quoted. Offline and deterministic.

A sentence scores by how much of the question it covers. Each informative word of the question weighs
log(1 + (n + 30) / (df + 3)), n sentences in all passages and df that hold it. A word counts whole in the sentence
itself, half in the sentence before or the nearest heading, and 0.3 elsewhere in the passage, its headings or its
title. The share that is found is the *coverage*: below `THRESHOLD` it abstains. Among sentences one thing counts
besides: neighbouring words of the question that are neighbours in the sentence too.

The answer is the sentence, not a span inside it. Tried on SQuAD: a number picked because the question asks "how many"
was the right one in 33 % of the sentences chosen, while 90 % of them held it; names 31 and 83 %, dates 82 and 92 %.

It finds what is said in the question's words. It does not reason, and it cannot see that a question which uses a
passage's words has no answer there: coverage tells apart what the passages are about from what they are not.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from rag.generation.citations import span
from rag.generation.prompt import ABSTENTION
from rag.generation.sentences import Unit, shown, units
from rag.generation.words import stems, words
from rag.types import Answer, Passage, Usage

NAME = "local/extractive"
THRESHOLD = 0.42
"""Coverage below which it abstains; tests/generation/test_extractive_squad.py shows how it was chosen, and both errors."""
BEFORE, AROUND = 0.5, 0.3
NEIGHBOURS = 0.2
_PRIOR_SENTENCES, _PRIOR_HOLDING = 30, 3


@dataclass(frozen=True, slots=True)
class _Part:
    """A unit of a passage with its words."""

    unit: Unit
    stems: frozenset[str]
    pairs: frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Found:
    """The best sentence for a question."""

    passage: Passage
    unit: Unit
    coverage: float
    """Of the question's informative words, weighted: 0 to 1."""


class ExtractiveGenerator:
    """**Generator** without a model. `prompt` of its answers is None, their usage zero."""

    name = NAME

    def __init__(self, threshold: float = THRESHOLD) -> None:
        self._threshold = threshold

    async def answer(self, question: str, passages: Sequence[Passage]) -> AsyncIterator[str | Answer]:
        """The text in one piece, then the Answer."""
        answer = self.extract(question, passages)
        yield answer.text
        yield answer

    async def complete(self, question: str, passages: Sequence[Passage]) -> Answer:
        """The same answer, whole."""
        return self.extract(question, passages)

    def extract(self, question: str, passages: Sequence[Passage]) -> Answer:
        """The best sentence as it reads without marks, with its citation; or the abstention."""
        found = best(question, passages)
        if found is None or found.coverage < self._threshold:
            return Answer(question, ABSTENTION, True, (), tuple(passages), NAME, None, Usage())  # noqa: FBT003
        passage, unit = found.passage, found.unit
        return Answer(
            question=question,
            text=f"{shown(passage.text, unit)} [{passage.rank}]",
            abstained=False,
            citations=(span(passage, unit.start, unit.end),),
            passages=tuple(passages),
            model=NAME,
            prompt=None,
            usage=Usage(),
        )


def best(question: str, passages: Sequence[Passage]) -> Found | None:
    """The sentence that fits best, ties by passage order and place; None where no word is shared."""
    asked = words(question)
    wanted = frozenset(asked)
    pairs = frozenset(itertools.pairwise(asked))
    parts = [_parts(passage.text) for passage in passages]
    holding = Counter(stem for of_passage in parts for part in of_passage for stem in part.stems & wanted)
    many = sum(map(len, parts)) + _PRIOR_SENTENCES
    weight = {stem: math.log1p(many / (holding[stem] + _PRIOR_HOLDING)) for stem in asked}
    total = math.fsum(weight.values())
    winner: Found | None = None
    highest = 0.0
    for passage, of_passage in zip(passages, parts, strict=True):
        above = _above(passage.title, passage.heading_path)
        around = wanted & above.union(*(part.stems for part in of_passage))
        before: frozenset[str] = frozenset()
        heading = _above("", passage.heading_path[-1:])
        for part in of_passage:
            own = wanted & part.stems
            near = (wanted & (before | heading)) - own
            if part.unit.kind != "heading" and (own or near):
                far = around - own - near
                sums = [math.fsum(weight[stem] for stem in group) for group in (own, near, far)]
                coverage = (sums[0] + BEFORE * sums[1] + AROUND * sums[2]) / total
                score = coverage + NEIGHBOURS * len(pairs & part.pairs) / max(1, len(pairs))
                if score > highest + 1e-9:
                    winner, highest = Found(passage, part.unit, coverage), score
            if part.unit.kind == "heading":
                heading, before = part.stems, frozenset()
            else:
                before = part.stems
    return winner


@functools.lru_cache(maxsize=4096)
def _parts(text: str) -> tuple[_Part, ...]:
    parts = []
    for unit in units(text):
        found = words(text[unit.start : unit.end])
        pairs = frozenset(itertools.pairwise(found))
        parts.append(_Part(unit, frozenset(found) | stems(unit.above), pairs))
    return tuple(parts)


@functools.lru_cache(maxsize=4096)
def _above(title: str, heading_path: tuple[str, ...]) -> frozenset[str]:
    return stems(" ".join((title, *heading_path)))
