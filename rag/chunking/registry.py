"""Every chunker by its name."""

from __future__ import annotations

from collections.abc import Callable

from rag.chunking.code import Code
from rag.chunking.fixed import Fixed
from rag.chunking.sentences import Sentences
from rag.chunking.structure import Structure
from rag.ports import Chunker

CHUNKERS: dict[str, Callable[..., Chunker]] = {
    "structure": Structure,
    "tokens": Fixed,
    "sentences": Sentences,
    "code": Code,
}
"""name -> (tokenizer, *, max_tokens, overlap_tokens, embed_heading_path) -> Chunker"""
