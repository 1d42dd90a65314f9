"""The four ways to rank: dense, lexical, hybrid (z-scores), rrf. Each takes one question or many at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rag.errors import Problem, SettingsError
from rag.ports import Floats, Retriever, VectorStore
from rag.retrieval.fusion import Ranking, candidates, one_side, reciprocal_ranks, weighted_z
from rag.retrieval.lexical import LexicalIndex
from rag.types import Hit

Embed = Callable[[Sequence[str]], Awaitable[Floats]]
"""Questions -> their vectors, float32 [n, d], in order, by the model of the version."""
Rows = NDArray[np.int64]


class BatchRetriever(Retriever, Protocol):
    """**Protocol:** a Retriever that also takes many questions at once, which is how an evaluation asks.

    `rows` is sorted and restricts the search before top k.
    """

    async def retrieve_many(self, questions: Sequence[str], k: int, rows: Rows | None = None) -> list[list[Hit]]:
        """The best k rows of each question, best first, ties by row; all vectors are searched in one batch."""
        ...


class DenseRetriever:
    """Cosine similarity of vectors."""

    def __init__(self, vectors: VectorStore, embed: Embed) -> None:
        self._vectors = vectors
        self._embed = embed

    async def rank(self, questions: Sequence[str], depth: int, rows: Rows | None) -> list[Ranking]:
        """Each question's best rows with their cosines."""
        if not questions:
            return []
        scores, found = self._vectors.search(unit(await self._embed(questions)), depth, rows)
        return [(part[row >= 0], row[row >= 0]) for part, row in zip(scores, found, strict=True)]

    async def retrieve(self, question: str, k: int, rows: Rows | None = None) -> list[Hit]:
        return (await self.retrieve_many([question], k, rows))[0]

    async def retrieve_many(self, questions: Sequence[str], k: int, rows: Rows | None = None) -> list[list[Hit]]:
        return [one_side(ranking, None) for ranking in await self.rank(questions, k, rows)]


class LexicalRetriever:
    """BM25. A row without a word of the question is no hit."""

    def __init__(self, index: LexicalIndex) -> None:
        self._index = index

    def rank(self, questions: Sequence[str], depth: int, rows: Rows | None) -> list[Ranking]:
        """Each question's best rows with their BM25."""
        return [self._index.search(question, depth, rows) for question in questions]

    async def retrieve(self, question: str, k: int, rows: Rows | None = None) -> list[Hit]:
        return (await self.retrieve_many([question], k, rows))[0]

    async def retrieve_many(self, questions: Sequence[str], k: int, rows: Rows | None = None) -> list[list[Hit]]:
        return [one_side(None, ranking) for ranking in self.rank(questions, k, rows)]


class HybridRetriever:
    """Weighted sum of z-scores over the best `pool` of both.

    The pool is fixed by the settings' k, so that an evaluation that looks deeper than a question does ranks the same;
    only what asks for more than the pool enlarges it.
    """

    fuse = staticmethod(weighted_z)

    def __init__(
        self, dense: DenseRetriever, lexical: LexicalRetriever, weights: Mapping[str, float], pool: int
    ) -> None:
        self._dense = dense
        self._lexical = lexical
        self._pool = pool
        self._weights = (weights.get("dense", 1.0), weights.get("lexical", 1.0))

    async def retrieve(self, question: str, k: int, rows: Rows | None = None) -> list[Hit]:
        return (await self.retrieve_many([question], k, rows))[0]

    async def retrieve_many(self, questions: Sequence[str], k: int, rows: Rows | None = None) -> list[list[Hit]]:
        depth = max(self._pool, k)
        near = await self._dense.rank(questions, depth, rows)
        worded = self._lexical.rank(questions, depth, rows)
        return [self.fuse(dense, lexical, k, *self._weights) for dense, lexical in zip(near, worded, strict=True)]


class RrfRetriever(HybridRetriever):
    """Reciprocal rank fusion over the best `pool` of both."""

    fuse = staticmethod(reciprocal_ranks)


Make = Callable[[VectorStore, Embed, LexicalIndex, Mapping[str, float], int], BatchRetriever]
RETRIEVERS: dict[str, Make] = {
    "hybrid": lambda vectors, embed, index, weights, pool: HybridRetriever(
        DenseRetriever(vectors, embed), LexicalRetriever(index), weights, pool
    ),
    "dense": lambda vectors, embed, _index, _weights, _pool: DenseRetriever(vectors, embed),
    "lexical": lambda _vectors, _embed, index, _weights, _pool: LexicalRetriever(index),
    "rrf": lambda vectors, embed, index, weights, pool: RrfRetriever(
        DenseRetriever(vectors, embed), LexicalRetriever(index), weights, pool
    ),
}


def retriever(
    mode: str,
    vectors: VectorStore,
    embed: Embed,
    index: LexicalIndex,
    weights: Mapping[str, float] | None = None,
    k: int = 5,
) -> BatchRetriever:
    """The retriever of a mode. `weights` has `dense` and `lexical`, 1 each where it is silent; `k` is the settings'.

    Raises SettingsError for an unknown mode.
    """
    if mode not in RETRIEVERS:
        what = f"no retrieval mode {mode!r}"
        raise SettingsError(what, [Problem("retrieval.mode", what, f"use one of {', '.join(RETRIEVERS)}")])
    return RETRIEVERS[mode](vectors, embed, index, weights or {}, candidates(k))


def unit(vectors: Floats) -> Floats:
    """Query vectors at unit length; a zero vector stays one and is near nothing."""
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return np.asarray(vectors / np.where(norms > 0, norms, 1.0), dtype=np.float32)
