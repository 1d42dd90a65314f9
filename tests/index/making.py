"""A small real version: texts -> vectors -> index, tables, lexical, manifest, in a staging folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from rag.digest import text_keys
from rag.index import build, kinds, tables
from rag.index.manifest import Manifest, describe
from rag.ports import Floats
from rag.retrieval import lexical
from rag.sealed import write_sealed
from rag.storage import sync_tree
from rag.types import EmbeddingIdentity, Json

IDENTITY = EmbeddingIdentity("test", "hashed-words")
WORDS = ("glacier", "moraine", "cirque", "arete", "serac", "crevasse", "firn", "icefall", "col", "ridge", "valley")


def texts(count: int, seed: int = 1) -> list[str]:
    """Sentences of seeded words."""
    rng = np.random.default_rng(seed)
    return [f"{' '.join(rng.choice(WORDS, 8))} number {number}" for number in range(count)]


def vectors(count: int, dimensions: int = 32, seed: int = 1) -> Floats:
    """Clustered vectors, not of unit length."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((12, dimensions))
    found = centres[rng.integers(0, 12, count)] + 0.5 * rng.standard_normal((count, dimensions))
    return np.asarray(found * rng.uniform(0.5, 3, (count, 1)), dtype=np.float32)


def blocks_of(array: Floats, size: int = 100) -> Callable[[], Iterator[Floats]]:
    return lambda: (array[start : start + size] for start in range(0, len(array), size))


def make_folder(
    folder: Path,
    passages: Sequence[str],
    raw: Floats,
    *,
    kind: str = "flat",
    metadata: Sequence[Mapping[str, Json]] | None = None,
) -> Manifest:
    """Write a whole version's folder; two passages make a document, a repeated passage is a duplicate."""
    folder.mkdir(parents=True, exist_ok=True)
    facts = build.build(blocks_of(raw), len(raw), raw.shape[1], kind, folder / "index.faiss")
    keys = text_keys(IDENTITY, "passage", passages)
    first: dict[bytes, int] = {}
    counts = {"documents": 0, "chunks": len(passages), "duplicates": 0, "excluded": 0}
    with (
        tables.writing(tables.ChunkRow, folder / "chunks.parquet") as chunk_table,
        tables.writing(tables.DocumentRow, folder / "documents.parquet") as document_table,
        tables.writing(tables.ExcludedRow, folder / "excluded.parquet") as excluded_table,
    ):
        excluded_table.add(tables.ExcludedRow("bad.bin", None, None, None, "read", "encoding", "not UTF-8"))
        for number, start in enumerate(range(0, len(passages), 2)):
            members = passages[start : start + 2]
            doc_id, text = f"doc-{number:05d}", "\n".join(members)
            sha = hashlib.sha256(text.encode()).hexdigest()
            extra = metadata[number % len(metadata)] if metadata else {}
            document_table.add(
                tables.DocumentRow(
                    doc_id,
                    f"Title {number}",
                    f"{doc_id}.md",
                    sha,
                    sha,
                    text,
                    "markdown/1",
                    json.dumps(dict(extra)),
                    len(members),
                )
            )
            counts["documents"] += 1
            at = 0
            for ordinal, member in enumerate(members):
                row = start + ordinal
                key = keys[row].tobytes()
                copy = first.setdefault(key, row)
                counts["duplicates"] += copy != row
                chunk_table.add(
                    tables.ChunkRow(
                        row,
                        f"{doc_id}@{at}-{at + len(member)}",
                        doc_id,
                        ordinal,
                        at,
                        at + len(member),
                        "",
                        member,
                        len(member.split()),
                        key.hex(),
                        copy if copy != row else None,
                    )
                )
                at += len(member) + 1
    lexical.build(lexical.read_texts(folder / "chunks.parquet"), folder / "lexical")
    manifest = Manifest(
        content_digest=hashlib.sha256(
            repr((passages, kind, kinds.parameters(kind, len(raw), 32))).encode()
        ).hexdigest(),
        embedding=IDENTITY,
        dimensions=raw.shape[1],
        readers=("markdown/1",),
        chunker={"strategy": "test"},
        tokenizer={"name": "words"},
        tokens_exact=True,
        index=facts,
        lexical=lexical.parameters(),
        counts=counts,
        rows=len(raw),
        files=describe(folder),
    )
    write_sealed(folder / "build.json", {"created": "2026-11-22T00:00:00Z"})
    manifest.save(folder)
    sync_tree(folder)
    return manifest
