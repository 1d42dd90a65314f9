"""`structure`: sections, then blocks, items, sentences, words. What the tool uses unless told otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rag.chunking import blocks
from rag.chunking.split import Limits, Prefixes, Splitter
from rag.chunking.tokens import Tokenizer
from rag.types import Chunk, Document, Excluded, Json

VERSION = 2


class Structure:
    """Cuts at structure: a chunk never leaves its leaf section, and a fence or table is cut only when it must be."""

    name = "structure"
    levels: Sequence[blocks.Level] = blocks.STRUCTURE

    def __init__(
        self, tokenizer: Tokenizer, *, max_tokens: int, overlap_tokens: int = 0, embed_heading_path: bool = True
    ) -> None:
        """Raises SettingsError when the limits are too small or contradict each other."""
        self.limits = Limits(max_tokens, overlap_tokens, embed_heading_path)
        self.tokenizer = tokenizer
        self.prefixes = Prefixes(tokenizer, self.limits)
        self.identity: Mapping[str, Json] = {
            "strategy": self.name,
            "version": VERSION,
            "max_tokens": max_tokens,
            "overlap_tokens": overlap_tokens,
            "embed_heading_path": embed_heading_path,
            "tokenizer": dict(tokenizer.identity),
        }

    def chunk(self, document: Document) -> Iterator[Chunk | Excluded]:
        """The chunks of a document in order; none when its body is white space."""
        layout = self.layout(document)
        encoded = self.tokenizer.encode(document.text, document.body_start)
        yield from self.cut(Splitter(document, encoded, layout, self.limits, self.prefixes), layout)

    def cut(self, splitter: Splitter, layout: blocks.Layout) -> Iterator[Chunk]:
        return splitter.chunks(self.levels if layout.levels is None else layout.levels)

    def layout(self, document: Document) -> blocks.Layout:
        """The leaf sections of a document: by headings in Markdown, one in anything else."""
        read = blocks.markdown if document.media_type == "text/markdown" else blocks.plain
        return read(document.text, document.body_start, document.context)
