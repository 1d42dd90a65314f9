"""Hits -> passages: rows whose text sent is the same are one passage, which names the others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rag.index.search import OpenVersion
from rag.index.tables import HEADING_SEPARATOR, ChunkRow
from rag.ports import Retriever
from rag.types import Hit, Passage


def passages(hits: Sequence[Hit], version: OpenVersion, k: int | None = None) -> list[Passage]:
    """The best k distinct passages of these hits (all by default), ranked 1, 2, ...

    Of rows with the same text sent the best ranked stands for all; `also_in` names the others among the hits.
    Raises Damaged where the tables cannot be read.
    """
    chunks = version.chunks.rows([hit.row for hit in hits])
    members: dict[int, list[tuple[Hit, ChunkRow]]] = {}
    for hit, chunk in zip(hits, chunks, strict=True):
        original = chunk.row if chunk.duplicate_of is None else chunk.duplicate_of
        members.setdefault(original, []).append((hit, chunk))
    kept = list(members.values())[:k]
    documents = version.documents.get(group[0][1].doc_id for group in kept)
    found: list[Passage] = []
    for rank, group in enumerate(kept, 1):
        hit, chunk = group[0]
        found.append(
            Passage(
                rank=rank,
                score=hit.score,
                row=chunk.row,
                chunk_id=chunk.chunk_id,
                doc_id=chunk.doc_id,
                title=documents[chunk.doc_id]["title"],
                source=documents[chunk.doc_id]["source"],
                start=chunk.char_start,
                end=chunk.char_end,
                heading_path=tuple(chunk.heading_path.split(HEADING_SEPARATOR)) if chunk.heading_path else (),
                text=chunk.text,
                tokens=chunk.tokens,
                also_in=tuple(other.chunk_id for _, other in group[1:]),
                dense_rank=hit.dense_rank,
                dense_score=hit.dense_score,
                lexical_rank=hit.lexical_rank,
                lexical_score=hit.lexical_score,
            )
        )
    return found


async def retrieve_passages(
    retriever: Retriever, version: OpenVersion, question: str, k: int, rows: NDArray[np.int64] | None = None
) -> list[Passage]:
    """The best k distinct passages: goes deeper while copies of one text take the places.

    Fewer come only where the version holds no more. Raises as the retriever does, and Damaged.
    """
    depth = 2 * k
    while True:
        hits = await retriever.retrieve(question, depth, rows)
        found = passages(hits, version, k)
        if len(found) == k or len(hits) < depth:
            return found
        depth *= 4
