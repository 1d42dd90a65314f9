"""`tokens`: windows of the limit over the document's tokens, blind to structure: the base line of the field."""

from __future__ import annotations

from collections.abc import Iterator

from rag.chunking import blocks
from rag.chunking.split import LONGEST, Splitter, joins
from rag.chunking.structure import Structure
from rag.types import Chunk


class Fixed(Structure):
    """Windows of max_tokens that share overlap_tokens, across headings; the path is that of where a chunk starts."""

    name = "tokens"

    def cut(self, splitter: Splitter, layout: blocks.Layout) -> Iterator[Chunk]:
        """Each window ends at the last token that keeps the text within the limit."""
        text, encoded, limits = splitter.text, splitter.encoded, self.limits
        start, end = splitter.trimmed(layout.sections[0].start, len(text))
        sections = iter(layout.sections)
        section = next(sections)
        splitter.enter(section)
        ordinal = reached = 0
        while start < end:
            while start >= section.end:
                section = next(sections)
                splitter.enter(section)
            first = encoded.before(start)
            room = limits.max_tokens - encoded.specials - splitter.prefix(start).tokens
            while True:
                stop = min(encoded.place(first + max(1, room)), start + LONGEST * limits.max_tokens, end)
                stop = stop if stop > start else start + 1
                while stop < end and stop > start + 1 and joins(text, stop):
                    stop -= 1
                chunk = splitter.chunk(ordinal, *splitter.trimmed(start, stop))
                if chunk.tokens <= limits.max_tokens or stop == start + 1:
                    break
                room -= max(1, chunk.tokens - limits.max_tokens)
            if chunk.end <= reached:  # another edge made the overlap as long as the window
                start = splitter.trimmed(reached, end)[0]
                continue
            yield chunk
            reached = chunk.end
            ordinal += 1
            if reached >= end:
                return
            again = encoded.place(max(first + 1, encoded.before(stop) - limits.overlap_tokens))
            while again > start and joins(text, again):
                again -= 1
            start = splitter.trimmed(again if start < again < stop else stop, end)[0]
