"""Nearness in meaning, from vectors of single words: of a question's words to a sentence's, and of whole texts.

A text's vector is the mean of its words' unit vectors, each weighted by the word's rarity. Every word is embedded once
and remembered, so that a question costs the words that were not met before.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rag.ports import Floats

Embed = Callable[[Sequence[str]], Awaitable[Floats]]
"""Texts -> vectors float32 [n, d]."""
Texts = Sequence[Sequence[str]]
Array = NDArray[np.float64]
_REMEMBERED = 20_000
_UNLIKE = 0.35
"""Cosines of single words below this say nothing."""


@dataclass(frozen=True, slots=True)
class Near:
    """Of each text, s in all, to a question of q words."""

    words: Array
    """[s, q]: from 0, the text has no word like it, to 1, it has the word."""
    sums: Array
    """[s, d]: the sum of the text's word vectors, weighted."""
    question: Array
    """[d], unit length."""

    def cosine(self, sums: Array) -> Array:
        """Cosines of sums of vectors, [n, d], with the question: [n]."""
        lengths = np.linalg.norm(sums, axis=1)
        return np.asarray(sums @ self.question / np.where(lengths > 0, lengths, 1.0))


class WordVectors:
    """Unit vectors of words through an embedding model, remembered."""

    def __init__(self, embed: Embed) -> None:
        self._embed = embed
        self._known: dict[str, NDArray[np.float32]] = {}

    async def near(self, question: Sequence[str], texts: Texts, weight: Callable[[str], float]) -> Near:
        """How near each text is; both as lower-case words. Raises what the model raises."""
        place: dict[str, int] = {}
        for word in itertools.chain(question, *texts):
            place.setdefault(word, len(place))
        vectors = await self._vectors(list(place))
        weights = np.array([weight(word) for word in place], dtype=np.float32)
        asked = [place[word] for word in question]
        like = np.maximum(vectors @ vectors[asked].T - _UNLIKE, 0) / (1 - _UNLIKE)
        weighted = vectors * weights[:, None]
        words = np.zeros((len(texts), len(question)))
        sums = np.zeros((len(texts), vectors.shape[1]))
        filled = [number for number, text in enumerate(texts) if text]
        if filled:
            flat = [place[word] for word in itertools.chain(*texts)]
            starts = np.cumsum([0, *(len(texts[number]) for number in filled[:-1])])
            words[filled] = np.maximum.reduceat(like[flat], starts, axis=0)
            sums[filled] = np.add.reduceat(weighted[flat], starts, axis=0)
        whole = weighted[asked].sum(axis=0, dtype=np.float64)
        return Near(words, sums, whole / (np.linalg.norm(whole) or 1.0))

    async def _vectors(self, words: Sequence[str]) -> NDArray[np.float32]:
        known = self._known
        new = [word for word in words if word not in known]
        if new:
            vectors = await self._embed(new)
            lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
            known.update(zip(new, vectors / np.where(lengths > 0, lengths, 1.0), strict=True))
        found = np.stack([known[word] for word in words])
        if len(known) > _REMEMBERED:
            # questions under way keep the dict they began with
            self._known = {}
        return found
