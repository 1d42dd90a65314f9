"""Which of the places are taken: a local rule, so that an edit changes only the cuts around it.

Of places near each other only the strongest counts, and none near the ends of the span. A span over the limit is cut at
its strongest place, and so on in the parts: a place is a cut just when the span that it dominates is over the limit.
Strength is a class and a hash of the few characters behind the place, never how well the parts are filled: a rule that
looks at weights moves cuts whenever a word is added (measured: twice the edits that change three chunks or more).
"""

from __future__ import annotations

import bisect
import itertools
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from zlib import crc32

from rag.chunking.blocks import LINE, SENTENCE, Layout, Level, Section, Span
from rag.chunking.candidates import Candidates
from rag.chunking.tokens import NO_PREFIX, Encoded, Prefix, Tokenizer
from rag.errors import Problem, SettingsError
from rag.types import Chunk, Document

SMALLEST = 16
LONGEST = 32
"""Characters a token above which a span counts as over the limit: a long run of spaces may be one token."""
_EDGE = 3
"""A place within a third of the limit from the ends of a span is taken only when there is no other."""
_NEAR = 6
"""Within a sixth of the limit a stronger place puts out a weaker."""
_SLACK = 8
"""Tokens by which a window of the document's encoding may differ from the span encoded alone."""
_NEVER = 1 << 40
_FAR = 4096

_BEGINNINGS = (SENTENCE, LINE, re.compile(r"\s+"))
_JOINERS = frozenset("\u200d\ufe0e\ufe0f\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a chunk may hold. Raises SettingsError with every mistake."""

    max_tokens: int
    overlap_tokens: int
    embed_heading_path: bool

    def __post_init__(self) -> None:
        problems = []
        if self.max_tokens < SMALLEST:
            what, remedy = f"{self.max_tokens} tokens cannot hold a text", f"give at least {SMALLEST}"
            problems.append(Problem("[chunking] max_tokens", what, remedy))
        if not 0 <= self.overlap_tokens <= max(0, self.max_tokens // 2):
            what = f"{self.overlap_tokens} is not between 0 and half of max_tokens"
            remedy = f"give at most {max(0, self.max_tokens // 2)}"
            problems.append(Problem("[chunking] overlap_tokens", what, remedy))
        if problems:
            raise SettingsError("; ".join(f"{p.where}: {p.what}" for p in problems), problems)


class Prefixes:
    """Heading paths as they stand before a text, as far as they fit into a quarter of the limit."""

    def __init__(self, tokenizer: Tokenizer, limits: Limits) -> None:
        self._tokenizer = tokenizer
        self._most = limits.max_tokens // 4 if limits.embed_heading_path else 0
        self._seen: dict[tuple[str, ...], Prefix] = {}

    def of(self, path: tuple[str, ...]) -> Prefix:
        """The prefix of a path."""
        found = self._seen.get(path)
        if found is None:
            if len(self._seen) > 10_000:
                self._seen.clear()
            found = self._seen[path] = self._fitted(path)
        return found

    def _fitted(self, path: tuple[str, ...]) -> Prefix:
        if self._most:
            # more characters than this cannot fit, and a path of long titles is not encoded once for each of them
            first = max(0, len(path) - self._most)
            for at in range(first, len(path)):
                prefix = self._tokenizer.prefix(" > ".join(path[at:]) + "\n\n")
                if prefix.tokens <= self._most:
                    return prefix
        return NO_PREFIX


class Splitter:
    """Cuts one document into chunks of at most the limit."""

    def __init__(
        self, document: Document, encoded: Encoded, layout: Layout, limits: Limits, prefixes: Prefixes
    ) -> None:
        self._document = document
        self.text = document.text
        self.layout = layout
        self.encoded = encoded
        self._limits = limits
        self._prefixes = prefixes
        self._section = Section(0, 0, (), ())
        self._known: dict[int, Prefix] = {}
        self._last = 0
        self._slack = _SLACK

    def chunks(self, levels: Sequence[Level]) -> Iterator[Chunk]:
        """All chunks in order."""
        ordinal = 0
        most = self._limits.max_tokens
        for section in self.layout.sections:
            start, end = self.trimmed(section.start, section.end)
            if start == end:
                continue
            self.enter(section)
            if end - start <= LONGEST * most:
                whole = self.chunk(ordinal, start, end)
                if whole.tokens <= most:
                    ordinal += 1
                    yield whole
                    continue
            found = self._filled(start, end, levels, ordinal)
            if max([chunk.tokens for chunk in found]) > most:
                self._slack = _NEVER  # nothing is taken for near: every span is counted
                found = self._filled(start, end, levels, ordinal)
                self._slack = _SLACK
            ordinal += len(found)
            yield from found

    def enter(self, section: Section) -> None:
        """Make this the section whose path stands before the chunks."""
        self._section = section
        self._known = {}
        self._last = section.places[-1] if section.places else -1

    def prefix(self, start: int) -> Prefix:
        """What stands before a chunk that starts here; headings not yet passed are left out."""
        places = self._section.places
        passed = len(places) if start > self._last else bisect.bisect_left(places, start)
        found = self._known.get(passed)
        if found is None:
            found = self._known[passed] = self._prefixes.of(self._section.path[:passed])
        return found

    def trimmed(self, start: int, end: int) -> Span:
        """The span without white space at its ends."""
        text = self.text
        while start < end and text[end - 1].isspace():
            end -= 1
        while start < end and text[start].isspace():
            start += 1
        return start, end

    def chunk(self, ordinal: int, start: int, end: int) -> Chunk:
        """The span as a chunk of the section entered."""
        prefix = self.prefix(start)
        tokens = self.encoded.count(prefix, start, end)
        path = self._section.path
        return Chunk(self._document.doc_id, ordinal, start, end, path, self.text[start:end], prefix.text, tokens)

    def _filled(self, start: int, end: int, levels: Sequence[Level], ordinal: int) -> list[Chunk]:
        """The chunks of a section over the limit: its parts, each from the second on with what precedes it."""
        places = [start, *self._cuts(start, end, levels), end]
        chunks: list[Chunk] = []
        previous = end
        for left, right in itertools.pairwise(places):
            begin, stop = self.trimmed(left, right)
            if begin == stop:
                continue
            earlier = self._overlap(previous + 1, begin, stop) if self._limits.overlap_tokens else begin
            chunk = self.chunk(ordinal + len(chunks), earlier, stop)
            if chunk.tokens > self._limits.max_tokens and earlier < begin:
                chunk = self.chunk(chunk.ordinal, begin, stop)
            chunks.append(chunk)
            previous = begin
        return chunks

    def _cuts(self, start: int, end: int, levels: Sequence[Level]) -> Iterator[int]:
        """The cuts of a span over the limit, in order, with finer levels in what the coarser leave over the limit."""
        if not levels:
            yield from self._code_points(start, end)
            return
        places, ranks = levels[0](self.text, start, end, self.layout)
        for left, right, fits in self._parts(start, end, places, ranks) if places else [(start, end, False)]:
            if left > start:
                yield left
            if not fits:
                yield from self._cuts(left, right, levels[1:])

    def _parts(self, start: int, end: int, places: list[int], ranks: list[int]) -> Iterator[tuple[int, int, bool]]:
        """The spans between the places that are taken, and whether each fits."""
        before = self.encoded.before
        weights = self.encoded.before_each(places)
        low, high = before(start), before(end)
        room = self._limits.max_tokens - self.prefix(end).tokens
        first = bisect.bisect_left(weights, low + room // _EDGE)
        last = bisect.bisect_right(weights, high - room // _EDGE, first)
        if first < last:
            found = Candidates(self.text, places[first:last], ranks[first:last], weights[first:last])
            found.only(found.peaks(room // _NEAR))
        else:
            found = Candidates(self.text, places, ranks, weights)
            found.only([found.strongest(0, len(places))])
        places, weights = found.places, found.weights
        stack = [(start, low, 0, end, high, len(places))]
        while stack:
            left, low, first, right, high, last = stack.pop()
            fits = right - left < end - start and self._fits(left, right, high - low)  # the whole is known not to
            if fits or first == last:
                yield left, right, fits
                continue
            cut = found.strongest(first, last)
            stack.append((places[cut], weights[cut], cut + 1, right, high, last))
            stack.append((left, low, first, places[cut], weights[cut], cut))

    def _code_points(self, start: int, end: int) -> Iterator[int]:
        """The last resort: cuts between tokens, each at the strongest place of the second half of what fits."""
        encoded, text = self.encoded, self.text
        longest = LONGEST * self._limits.max_tokens // 2
        room = self._limits.max_tokens - encoded.specials - self.prefix(end).tokens - _SLACK
        while not self._fits(start, end):
            first, span = encoded.before(start), max(1, room)
            while True:
                tokens = range(first + (span + 1) // 2, first + span + 1)
                places = [p for p in map(encoded.place, tokens) if start < p < end and p - start <= longest]
                places = places or [min(start + max(1, longest * span // max(1, room)), end - 1)]
                cut = max(places, key=lambda p: (not joins(text, p), crc32(text[p : p + 8].encode()), p))
                if span == 1 or self._fits(start, cut):
                    break
                span //= 2
            start = cut
            yield cut

    def _overlap(self, floor: int, start: int, end: int) -> int:
        """Where a chunk may begin earlier: at a sentence, a line or a word within the overlap, or where it is."""
        if floor >= start:
            return start
        encoded, limits = self.encoded, self._limits
        first = encoded.before(start)
        held = encoded.specials + self.prefix(start).tokens + encoded.before(end) - first
        reach = min(limits.overlap_tokens, limits.max_tokens - held - 2)
        if reach < 2:
            return start
        place = max(floor, encoded.place(max(0, first - reach)), start - LONGEST * limits.overlap_tokens)
        fence = self.layout.block_over(place)
        if fence is not None and fence[1] <= start:
            place = fence[1]
        # a few words that begin in mid-sentence help nobody: they come only with half the overlap
        for pattern in _BEGINNINGS if 2 * reach >= limits.overlap_tokens else _BEGINNINGS[:2]:
            found = pattern.search(self.text, place - 1, start)
            if found and place <= found.end() < start:
                return self._outside(found.end(), start)
        return start

    def _outside(self, place: int, start: int) -> int:
        """The place, or the front of the fence it would tear, or no overlap where it would tear a table."""
        fence = self.layout.block_over(place)
        if fence is not None and fence[1] <= start:
            return fence[0]
        line = self.text.rfind("\n", max(0, place - _FAR), place) + 1
        if self.text[line] != "|":
            return place
        above = self.text.rfind("\n", max(0, line - _FAR), max(0, line - 1)) + 1
        continued = self.text[start] == "|" and "\n\n" not in self.text[place:start]
        return start if line < place or (self.text[above] == "|" and not continued) else place

    def _fits(self, start: int, end: int, weight: int | None = None) -> bool:
        """Whether the span with its prefix is within the limit: counted only when it is near."""
        limit = self._limits.max_tokens
        if end - start > LONGEST * limit:
            return False
        encoded = self.encoded
        prefix = self.prefix(start)
        if weight is None:
            weight = encoded.before(end) - encoded.before(start)
        near = encoded.specials + prefix.tokens + weight - limit
        if near > self._slack:
            return False
        if near < -self._slack:
            return True
        start, end = self.trimmed(start, end)
        return encoded.count(prefix, start, end) <= limit


def joins(text: str, place: int) -> bool:
    """Whether a place lies inside what is read as one character: CR LF, a combining mark, a joined emoji."""
    following, preceding = text[place], text[place - 1]
    return (
        (following == "\n" and preceding == "\r")
        or following in _JOINERS
        or preceding == "\u200d"
        or unicodedata.combining(following) != 0
    )
