"""The pipeline as a library: from a folder of documents to a published index and an answer.

Read in this order: types.py (the words), ports.py (the seams), pipeline.py (the stages of a re-index in order),
wiring.py (settings become objects); then the rooms, each with its own floor plan: corpus, chunking, providers,
embedding, index, retrieval, generation. storage.py alone writes files.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rag.wiring import Desk

__all__ = ["open"]


def open(config: str | Path | None = None, version: int | None = None, **sections: Mapping[str, Any]) -> Desk:  # noqa: A001 - reads as rag.open(...)
    """Open the published index that a ragline.toml names, to `ask`, `aask` and `retrieve`. See `rag.wiring.open_desk`."""
    from rag.wiring import open_desk

    return open_desk(config, version, **sections)
