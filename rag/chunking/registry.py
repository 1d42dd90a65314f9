"""Every chunker by its name."""

from __future__ import annotations

from collections.abc import Callable

from rag.chunking.structure import Structure
from rag.ports import Chunker

CHUNKERS: dict[str, Callable[..., Chunker]] = {
    "structure": Structure,
}
