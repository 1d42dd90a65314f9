"""Hits -> passages: rows whose text sent is the same are one passage, which names the others."""

from __future__ import annotations

from collections.abc import Sequence

from rag.index.search import OpenVersion
from rag.index.tables import ChunkRow, headings
from rag.types import Hit, Passage, Span


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
                doc_id=chunk.doc_id,
                title=documents[chunk.doc_id]["title"],
                source=documents[chunk.doc_id]["source"],
                start=chunk.char_start,
                end=chunk.char_end,
                heading_path=headings(chunk.heading_path),
                text=chunk.text,
                also_in=tuple(Span(other.doc_id, other.char_start, other.char_end) for _, other in group[1:]),
                dense=hit.dense,
                lexical=hit.lexical,
                tokens=chunk.tokens,
            )
        )
    return found
