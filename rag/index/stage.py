"""What a run writes into the folder of a new version beside its index: the tables, the counts, the record of the run."""

from __future__ import annotations

from pathlib import Path

from rag.index.prepare import Prepared
from rag.index.tables import ChunkRow, ExcludedRow, joined, writing
from rag.types import Json


def write_tables(prepared: Prepared, folder: Path) -> None:
    """chunks.parquet and excluded.parquet; documents.parquet is there already. Raises StorageFailed."""
    with writing(ChunkRow, folder / "chunks.parquet") as table:
        for row, chunk in enumerate(prepared.spool()):
            first = int(prepared.first[row])
            table.add(
                ChunkRow(
                    row,
                    chunk.chunk_id,
                    chunk.doc_id,
                    chunk.ordinal,
                    chunk.start,
                    chunk.end,
                    joined(chunk.heading_path),
                    chunk.text,
                    chunk.tokens,
                    prepared.keys[row].tobytes().hex(),
                    None if first == row else first,
                )
            )
    with writing(ExcludedRow, folder / "excluded.parquet") as excluded:
        for item in prepared.excluded:
            excluded.add(
                ExcludedRow(item.source, item.doc_id, item.start, item.end, item.stage, item.reason, item.detail)
            )


def counts(prepared: Prepared) -> dict[str, int]:
    """The `counts` of a manifest."""
    return {
        "documents": prepared.documents,
        "chunks": prepared.chunks,
        "duplicates": prepared.chunks - len(prepared.originals),
        "excluded": len({row.source for row in prepared.excluded if row.stage == "read"}),
        "excluded_chunks": sum(row.stage != "read" for row in prepared.excluded),
    }


def libraries() -> dict[str, Json]:
    """The releases that the bytes of a version depend on."""
    from importlib.metadata import version

    return {name: version(name) for name in ("faiss-cpu", "numpy", "pyarrow", "bm25s")}
