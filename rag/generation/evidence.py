"""What speaks for each sentence of some passages as the answer to a question, as numbers.

The unit of evidence is a word that stands in one passage of the index alone: each word of the question counts by its
rarity, from about 0.1 (in every passage) to 1. Evidence is a sum, not a share: three rare words found say as much in a
long question as in a short one.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rag.generation.asked import Held, held, kind, plain_words
from rag.generation.nearness import Near, WordVectors
from rag.generation.sentences import Unit, units
from rag.generation.words import content, stem
from rag.types import Passage

Rarity = Callable[[str], float]
"""Stem -> 0 to 1."""
Array = NDArray[np.float64]
WORDED = ("own", "beside", "around", "alike", "pairs", "rank", "length", "number", "date", "name")
"""The columns without vectors: rarity of the question's words in the sentence itself, in what stands beside it (the
sentence before, the nearest heading), elsewhere in the passage or its headings, and of those of which only the first
five letters are in the sentence; share of the question's neighbouring words that are neighbours here; minus the
logarithm of the passage's rank; logarithm of the words; whether it holds a number, a date, a name when one is asked."""
MEANT = ("meant", "meant_around", "cosine", "cosine_headed", "cosine_passage")
"""The further columns with vectors: rarity of the words not in the sentence times their nearness to its nearest word;
the same for the passage; cosine of the question with the sentence, with sentence and headings, with the passage."""
COLUMNS = (*WORDED, *MEANT)
_PREFIX = 5
_LONGEST = 40
_PRIOR_SENTENCES, _PRIOR_HOLDING = 30, 3


@dataclass(frozen=True, slots=True)
class Part:
    """A unit of a passage with what it says. A table row says its header too."""

    unit: Unit
    words: tuple[str, ...]
    stems: frozenset[str]
    prefixes: frozenset[str]
    pairs: frozenset[tuple[str, str]]
    held: Held
    length: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """Of each quotable unit, s in all, in the order of the passages."""

    candidates: Sequence[tuple[Passage, Unit]]
    columns: Array
    """[s, 10] as WORDED, or with vectors [s, 15] as COLUMNS."""
    found: Array
    """[s]: rarity of the question's words found in the passage with its headings."""
    asked: float
    """Rarity of all the question's words: what `found` can reach."""


async def evidence(
    question: str, passages: Sequence[Passage], rarity: Rarity | None, vectors: WordVectors | None
) -> Evidence | None:
    """The evidence for every sentence; None where question or passages say nothing. Raises what the model raises."""
    said = content(question)
    wanted = {stem(word): word for word in said}
    parts = [parse(passage.text) for passage in passages]
    places = [
        (number, place)
        for number, of_passage in enumerate(parts)
        for place, part in enumerate(of_passage)
        if part.unit.kind != "heading"
    ]
    if not wanted or not places:
        return None
    rare = rarity or _rarity_here(parts)
    weights = np.array([rare(one) for one in wanted])
    above = [content(" ".join((passage.title, *passage.heading_path))) for passage in passages]
    stemmed = [stem(word) for word in said]
    pairs = frozenset(itertools.pairwise(stemmed))
    repeated = plain_words(question)
    asked_for = kind(question)
    beside = [_beside(passage, of_passage) for passage, of_passage in zip(passages, parts, strict=True)]
    inside = [
        frozenset(map(stem, words)).union(*(part.stems for part in of_passage))
        for words, of_passage in zip(above, parts, strict=True)
    ]
    rows = [[one in stems for one in wanted] for stems in inside]
    in_passage = np.array(rows, dtype=float)[[number for number, _ in places]]
    found = [parts[number][place] for number, place in places]
    own = np.array([[one in part.stems for one in wanted] for part in found], dtype=float)
    near = np.array([[one in beside[number][place] for one in wanted] for number, place in places], dtype=float)
    alike = np.array([[one[:_PREFIX] in part.prefixes for one in wanted] for part in found], dtype=float)
    columns = [
        own @ weights,
        (near * (1 - own)) @ weights,
        (in_passage * (1 - np.maximum(own, near))) @ weights,
        (alike * (1 - own)) @ weights,
        [len(pairs & part.pairs) / max(1, len(pairs)) for part in found],
        [-math.log(passages[number].rank) for number, _ in places],
        [math.log1p(min(part.length, _LONGEST)) for part in found],
        *(
            [float(asked_for == one and part.held.answers(one, repeated)) for part in found]
            for one in ("number", "date", "name")
        ),
    ]
    if vectors is not None:
        texts = [*(part.words for part in found), *above]
        close = await vectors.near(list(wanted.values()), texts, lambda word: rare(stem(word)))
        columns += _meant(close, np.array([number for number, _ in places]), weights, own, in_passage)
    return Evidence(
        [(passages[number], part.unit) for (number, _), part in zip(places, found, strict=True)],
        np.column_stack(columns),
        in_passage @ weights,
        float(weights.sum()),
    )


def _meant(near: Near, passage: NDArray[np.intp], weights: Array, own: Array, in_passage: Array) -> list[Array]:
    many = len(passage)
    words, sums = near.words[many:].copy(), near.sums[many:].copy()
    headed = near.sums[:many] + sums[passage] / 2
    np.maximum.at(words, passage, near.words[:many])
    np.add.at(sums, passage, near.sums[:many])
    return [
        (near.words[:many] * (1 - own)) @ weights,
        (words[passage] * (1 - in_passage)) @ weights,
        near.cosine(near.sums[:many]),
        near.cosine(headed),
        near.cosine(sums)[passage],
    ]


def _beside(passage: Passage, parts: Sequence[Part]) -> list[frozenset[str]]:
    """Of each part the stems of its heading and of the sentence before; of a row those before its table."""
    heading = frozenset(map(stem, content(" ".join(passage.heading_path[-1:]))))
    before: frozenset[str] = frozenset()
    found = []
    for part in parts:
        found.append(before | heading)
        if part.unit.kind == "heading":
            heading, before = part.stems, frozenset()
        elif part.unit.kind != "row":
            before = part.stems
    return found


def _rarity_here(parts: Sequence[Sequence[Part]]) -> Rarity:
    """Rarity among the sentences at hand, for want of an index."""
    holding = Counter(one for of_passage in parts for part in of_passage for one in part.stems)
    many = sum(map(len, parts)) + _PRIOR_SENTENCES
    return lambda one: math.log1p(many / (holding[one] + _PRIOR_HOLDING)) / math.log1p(many / _PRIOR_HOLDING)


@functools.lru_cache(maxsize=4096)
def parse(text: str) -> tuple[Part, ...]:
    """The units of a passage with what they say."""
    return tuple(_part(text[unit.start : unit.end], unit) for unit in units(text))


def _part(text: str, unit: Unit) -> Part:
    own = content(text)
    words = (*content(unit.above), *own)
    stems = frozenset(map(stem, words))
    prefixes = frozenset(one[:_PREFIX] for one in stems if len(one) >= _PREFIX)
    pairs = frozenset(itertools.pairwise(map(stem, own)))
    return Part(unit, words, stems, prefixes, pairs, held(text), len(text.split()))
