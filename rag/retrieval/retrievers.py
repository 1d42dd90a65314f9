"""The four ways to rank: dense, lexical, hybrid (z-scores), rrf. Each takes many questions at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rag.errors import Problem, SettingsError
from rag.ports import Floats, Retriever, VectorStore
from rag.retrieval.fusion import Ranking, Weights, candidates, places, reciprocal_ranks, weighted_z
from rag.retrieval.lexical import LexicalIndex
from rag.types import Hit

Embed = Callable[[Sequence[str]], Awaitable[Floats]]
"""Questions -> their vectors, float32 [n, d], in order, by the model of the version."""
Rows = NDArray[np.int64]
_DEEPER = 4
"""How many times deeper the next pool is."""


class DenseRetriever:
    """Cosine similarity of vectors; those of all questions are searched in one batch."""

    def __init__(self, vectors: VectorStore, embed: Embed) -> None:
        self._vectors = vectors
        self._embed = embed

    async def rank(self, questions: Sequence[str], depth: int, rows: Rows | None) -> list[Ranking]:
        """Each question's best rows with their cosines."""
        if not questions:
            return []
        scores, found = self._vectors.search(unit(await self._embed(questions)), depth, rows)
        return [(part[row >= 0], row[row >= 0]) for part, row in zip(scores, found, strict=True)]

    async def retrieve_many(self, questions: Sequence[str], k: int, rows: Rows | None = None) -> list[list[Hit]]:
        return [
            [Hit(row, place.score, dense=place) for row, place in places(ranking).items()]
            for ranking in await self.rank(questions, k, rows)
        ]


class LexicalRetriever:
    """BM25. A row without a word of the question is no hit."""

    def __init__(self, index: LexicalIndex) -> None:
        self._index = index

    def rank(self, questions: Sequence[str], depth: int, rows: Rows | None) -> list[Ranking]:
        """Each question's best rows with their BM25."""
        return [self._index.search(question, depth, rows) for question in questions]

    async def retrieve_many(self, questions: Sequence[str], k: int, rows: Rows | None = None) -> list[list[Hit]]:
        return [
            [Hit(row, place.score, lexical=place) for row, place in places(ranking).items()]
            for ranking in self.rank(questions, k, rows)
        ]


class FusedRetriever:
    """Both, fused over the best `pool` of each.

    The pool is fixed by the settings' k, so that an evaluation that looks deeper than a question does ranks the same.
    Whoever asks for more than a pool holds is given the rest of a deeper one behind it, at scores below it: the rank of
    a row never depends on how many are asked for.
    """

    def __init__(
        self,
        fuse: Callable[[Ranking, Ranking, int, Weights], list[Hit]],
        dense: DenseRetriever,
        lexical: LexicalRetriever,
        weights: Weights,
        pool: int,
    ) -> None:
        self._fuse = fuse
        self._dense = dense
        self._lexical = lexical
        self._weights = weights
        self._pool = pool

    async def retrieve_many(self, questions: Sequence[str], k: int, rows: Rows | None = None) -> list[list[Hit]]:
        depth = self._pool
        found = await self._fused(questions, depth, rows)
        # a side that has less than it was asked for has no more
        while short := [place for place, hits in enumerate(found) if depth <= len(hits) < k]:
            depth *= _DEEPER
            for place, hits in zip(short, await self._fused([questions[at] for at in short], depth, rows), strict=True):
                found[place] += _behind(found[place], hits)
        return [hits[:k] for hits in found]

    async def _fused(self, questions: Sequence[str], depth: int, rows: Rows | None) -> list[list[Hit]]:
        near = await self._dense.rank(questions, depth, rows)
        worded = self._lexical.rank(questions, depth, rows)
        return [self._fuse(*sides, 2 * depth, self._weights) for sides in zip(near, worded, strict=True)]


def _behind(above: Sequence[Hit], deeper: Sequence[Hit]) -> list[Hit]:
    """The hits of a deeper ranking that are not above, in its order, lowered where the best of them would stand higher."""
    seen = {hit.row for hit in above}
    rest = [hit for hit in deeper if hit.row not in seen]
    lower = max(0.0, rest[0].score - above[-1].score) if rest else 0.0
    return [replace(hit, score=hit.score - lower) for hit in rest]


Make = Callable[[DenseRetriever, LexicalRetriever, Weights, int], Retriever]
RETRIEVERS: dict[str, Make] = {
    "dense": lambda dense, *_: dense,
    "lexical": lambda _, lexical, *__: lexical,
    "hybrid": lambda *both: FusedRetriever(weighted_z, *both),
    "rrf": lambda *both: FusedRetriever(reciprocal_ranks, *both),
}
"""mode -> (dense, lexical, weights, how many of each side are fused) -> Retriever"""


def retriever(
    mode: str,
    vectors: VectorStore,
    embed: Embed,
    index: LexicalIndex,
    weights: Weights = Weights(),  # noqa: B008 - a value
    k: int = 5,
) -> Retriever:
    """The retriever of a mode; `k` is the settings'. Raises SettingsError for an unknown mode."""
    if mode not in RETRIEVERS:
        what = f"no retrieval mode {mode!r}"
        raise SettingsError(what, [Problem("retrieval.mode", what, f"use one of {', '.join(RETRIEVERS)}")])
    return RETRIEVERS[mode](DenseRetriever(vectors, embed), LexicalRetriever(index), weights, candidates(k))


def unit(vectors: Floats) -> Floats:
    """Query vectors at unit length; a zero vector stays one and is near nothing."""
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return np.asarray(vectors / np.where(norms > 0, norms, 1.0), dtype=np.float32)
