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
    return passages_many([hits], version, k)[0]


def passages_many(rankings: Sequence[Sequence[Hit]], version: OpenVersion, k: int | None = None) -> list[list[Passage]]:
    """As `passages` for each of several rankings. What many of them found is read once, and its texts are shared."""
    rows = list(dict.fromkeys(hit.row for hits in rankings for hit in hits))
    chunks = dict(zip(rows, version.chunks.rows(rows), strict=True))
    kept = [_folded(hits, chunks)[:k] for hits in rankings]
    firsts = {group[0][1].row: group[0][1] for groups in kept for group in groups}
    documents = version.documents.get(chunk.doc_id for chunk in firsts.values())
    above = {row: headings(chunk.heading_path) for row, chunk in firsts.items()}
    found: list[list[Passage]] = []
    for groups in kept:
        ranked = []
        for rank, group in enumerate(groups, 1):
            hit, chunk = group[0]
            document = documents[chunk.doc_id]
            ranked.append(
                Passage(
                    rank=rank,
                    score=hit.score,
                    doc_id=chunk.doc_id,
                    title=document["title"],
                    source=document["source"],
                    start=chunk.char_start,
                    end=chunk.char_end,
                    heading_path=above[chunk.row],
                    text=chunk.text,
                    also_in=tuple(Span(other.doc_id, other.char_start, other.char_end) for _, other in group[1:]),
                    dense=hit.dense,
                    lexical=hit.lexical,
                    tokens=chunk.tokens,
                )
            )
        found.append(ranked)
    return found


def _folded(hits: Sequence[Hit], chunks: dict[int, ChunkRow]) -> list[list[tuple[Hit, ChunkRow]]]:
    """The hits of each distinct text, in the order of the best of each."""
    members: dict[int, list[tuple[Hit, ChunkRow]]] = {}
    for hit in hits:
        chunk = chunks[hit.row]
        original = chunk.row if chunk.duplicate_of is None else chunk.duplicate_of
        members.setdefault(original, []).append((hit, chunk))
    return list(members.values())
