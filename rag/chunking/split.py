"""Which of the places are taken: a local rule, so that an edit changes only the cuts around it.

A span over the limit is cut at its strongest place that leaves both sides a share of the limit, and so on in the parts.
A place is thus a cut exactly when the span that it dominates is over the limit; strength is a class and a hash of the
few characters behind the place, so nothing far away decides.
"""

from __future__ import annotations

import bisect
import itertools
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from zlib import crc32

from rag.chunking.blocks import Cuts, Layout, Level, Section, Span
from rag.chunking.tokens import Encoded, Tokenizer
from rag.errors import Problem, SettingsError
from rag.types import Chunk, Document

SMALLEST = 16
LONGEST = 32
"""Characters a token, above which a span counts as over the limit: a run of spaces may be one token."""
_SLACK = 8
_MARGIN = 3
JOIN = True
SMALL = 1.0
_BEGINNINGS = (
    re.compile(r"\n[ \t\r]*\n\s*|[.!?\u2026][\"'\u201d\u2019)\]*_`]*\s+(?=[^\sa-z])|[\u3002\uff01\uff1f]\s*"),
    re.compile(r"\n\s*"),
    re.compile(r"\s+"),
)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a chunk may hold."""

    max_tokens: int
    overlap_tokens: int
    embed_heading_path: bool

    def __post_init__(self) -> None:
        problems = []
        if self.max_tokens < SMALLEST:
            problems.append(
                Problem(
                    "[chunking] max_tokens",
                    f"{self.max_tokens} is too small to hold a text",
                    f"give at least {SMALLEST}",
                )
            )
        if not 0 <= self.overlap_tokens <= self.max_tokens // 2:
            problems.append(
                Problem(
                    "[chunking] overlap_tokens",
                    f"{self.overlap_tokens} is not between 0 and half of max_tokens",
                    f"give at most {max(0, self.max_tokens // 2)}",
                )
            )
        if problems:
            raise SettingsError("; ".join(f"{p.where}: {p.what}" for p in problems), problems)


class Prefixes:
    """The heading path before a text, as far as it fits into a quarter of the limit."""

    def __init__(self, tokenizer: Tokenizer, limits: Limits) -> None:
        self._tokenizer = tokenizer
        self._most = limits.max_tokens // 4 if limits.embed_heading_path else 0
        self._seen: dict[tuple[str, ...], str] = {}

    def of(self, section: Section, start: int) -> str:
        """What stands before a chunk that starts here: headings inside the chunk's own span are left out."""
        if not self._most:
            return ""
        path = section.path[: bisect.bisect_left(section.places, start)]
        found = self._seen.get(path)
        if found is None:
            if len(self._seen) > 10_000:
                self._seen.clear()
            found = self._seen[path] = self._fitted(path)
        return found

    def _fitted(self, path: tuple[str, ...]) -> str:
        for first in range(len(path)):
            prefix = " > ".join(path[first:]) + "\n\n"
            if self._tokenizer.count(prefix) <= self._most:
                return prefix
        return ""


class Splitter:
    """Cuts one document."""

    def __init__(
        self, document: Document, encoded: Encoded, layout: Layout, limits: Limits, prefixes: Prefixes
    ) -> None:
        self._document = document
        self._text = document.text
        self._encoded = encoded
        self._layout = layout
        self._limits = limits
        self._prefixes = prefixes

    def chunks(self, levels: tuple[Level, ...]) -> Iterator[Chunk]:
        """All chunks in order."""
        ordinal = 0
        for section in self._layout.sections:
            start, end = self._trimmed(section.start, section.end)
            if start == end:
                continue
            previous = end
            for left, right in self._parts(section, start, end, levels):
                yield self._chunk(section, ordinal, left, right, previous)
                previous = left
                ordinal += 1

    def _trimmed(self, start: int, end: int) -> tuple[int, int]:
        span = self._text[start:end]
        kept = span.lstrip()
        return end - len(kept), end - len(kept) + len(kept.rstrip())

    def _chunk(self, section: Section, ordinal: int, start: int, end: int, previous: int) -> Chunk:
        prefix = self._prefixes.of(section, start)
        tokens = 0
        if self._limits.overlap_tokens and previous < start:
            earlier = self._overlap(prefix, start, end, previous + 1)
            if earlier < start:
                before = self._prefixes.of(section, earlier)
                tokens = self._encoded.count(before, earlier, end)
                if tokens <= self._limits.max_tokens:
                    start, prefix = earlier, before
                else:
                    tokens = 0
        if not tokens:
            tokens = self._encoded.count(prefix, start, end)
        return Chunk(self._document.doc_id, ordinal, start, end, section.path, self._text[start:end], prefix, tokens)

    def _overlap(self, prefix: str, start: int, end: int, floor: int) -> int:
        """Where a chunk may begin earlier: a sentence, a line or a word in the tokens before it, or where it is."""
        encoded = self._encoded
        first = encoded.before(start)
        room = self._limits.max_tokens - self._encoded.tokenizer.piece(prefix) - (encoded.before(end) - first) - _SLACK
        reach = min(self._limits.overlap_tokens, room)
        if reach < 2:
            return start
        place = max(floor, encoded.place(max(0, first - reach)))
        fence = self._layout.fence_over(place)
        if fence is not None and fence[1] <= start:
            place = fence[1]
        for pattern in _BEGINNINGS:
            found = pattern.search(self._text, max(floor, place) - 1, start)
            if found and found.end() < start:
                return found.end()
        return start

    def _parts(self, section: Section, start: int, end: int, levels: tuple[Level, ...]) -> list[Span]:
        """The cores of a section's chunks: disjoint, in order, all that is not white space."""
        if self._fits(section, start, end):
            return [(start, end)]
        cuts: list[tuple[int, int]] = []
        self._divide(section, start, end, levels, cuts)
        if JOIN:
            cuts = self._kept(section, start, end, cuts)
        places = [start, *(place for place, _ in cuts), end]
        return [self._trimmed(left, right) for left, right in itertools.pairwise(places)]

    def _divide(
        self, section: Section, start: int, end: int, levels: tuple[Level, ...], cuts: list[tuple[int, int]]
    ) -> None:
        if not levels:
            cuts.extend((left, 0) for left, _ in itertools.islice(self._pieces(section, start, end), 1, None))
            return
        level, *finer = levels
        found = level(self._text, start, end, self._layout)
        for left, right, fits, strength in self._carved(section, start, end, found):
            if left > start:
                cuts.append((left, (len(levels) << 40) + strength))
            if not fits:
                self._divide(section, left, right, tuple(finer), cuts)

    def _kept(self, section: Section, start: int, end: int, cuts: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """The cuts without those between two small parts that fit together; the weakest go first."""
        before = {place: (cuts[at - 1][0] if at else start) for at, (place, _) in enumerate(cuts)}
        after = {place: (cuts[at + 1][0] if at + 1 < len(cuts) else end) for at, (place, _) in enumerate(cuts)}
        gone = set()
        for _, place in sorted((strength, place) for place, strength in cuts):
            left, right = before[place], after[place]
            b=self._encoded.before
            if min(b(place)-b(left),b(right)-b(place)) < SMALL*self._limits.max_tokens and self._fits(section, left, right):
                gone.add(place)
                if left in after:
                    after[left] = right
                if right in before:
                    before[right] = left
        return [cut for cut in cuts if cut[0] not in gone]

    def _carved(self, section: Section, start: int, end: int, cuts: Cuts) -> Iterator[tuple[int, int, bool, int]]:
        """Spans between the cuts that are taken, whether each fits, and the strength of the cut before it."""
        places, strengths = cuts
        if not places:
            yield start, end, False, 0
            return
        weights = self._encoded.before_each(places)
        limit = self._limits.max_tokens - self._encoded.tokenizer.piece(self._prefixes.of(section, end))
        margin = int(limit // _MARGIN)
        before = self._encoded.before
        stack = [(start, before(start), 0, end, before(end), len(places), 0)]
        while stack:
            left, low, first, right, high, last, strength = stack.pop()
            fits = self._fits(section, left, right, high - low)
            if fits or first == last:
                yield left, right, fits, strength
                continue
            inner = bisect.bisect_left(weights, low + margin, first, last)
            outer = bisect.bisect_right(weights, high - margin, inner, last)
            if inner < outer:
                cut = _strongest(strengths, inner, outer)
            else:
                cut = min(max(first, bisect.bisect_left(weights, (low + high) // 2, first, last) - 1), last - 1)
                if cut + 1 < last and weights[cut + 1] - low < high - weights[cut]:
                    cut += 1
            stack.append((places[cut], weights[cut], cut + 1, right, high, last, strengths[cut]))
            stack.append((left, low, first, places[cut], weights[cut], cut, strength))

    def _pieces(self, section: Section, start: int, end: int) -> Iterator[Span]:
        """The last resort: between tokens that begin at a code point, at the strongest place of each second half."""
        encoded, text, limit = self._encoded, self._text, self._limits.max_tokens
        room = limit - encoded.tokenizer.specials - encoded.tokenizer.piece(self._prefixes.of(section, end)) - _SLACK
        while not self._fits(section, start, end):
            first = encoded.before(start)
            span = max(1, room)
            while True:
                places = [
                    p for p in map(encoded.place, range(first + (span + 1) // 2, first + span + 1)) if start < p < end
                ]
                places = [p for p in places if p - start <= LONGEST * limit] or [
                    start + min(LONGEST * limit // 2, end - start - 1)
                ]
                cut = max(places, key=lambda p: (not joins(text, p), crc32(text[p : p + 8].encode()), p))
                if span == 1 or self._fits(section, start, cut):
                    break
                span //= 2
            yield start, cut
            start = cut
        yield start, end

    def _fits(self, section: Section, start: int, end: int, weight: int | None = None) -> bool:
        limit = self._limits.max_tokens
        if end - start > LONGEST * limit:
            return False
        encoded = self._encoded
        prefix = self._prefixes.of(section, start)
        if weight is None:
            weight = encoded.before(end) - encoded.before(start)
        near = encoded.tokenizer.specials + encoded.tokenizer.piece(prefix) + weight
        if near > limit + _SLACK:
            return False
        if near < limit - _SLACK:
            return True
        start, end = self._trimmed(start, end)
        return encoded.count(prefix, start, end) <= limit


def _strongest(strengths: list[int], first: int, last: int) -> int:
    """The strongest of a range; of equals the first behind its middle, so that equal lines are halved."""
    best = max(strengths[first:last])
    middle = (first + last) // 2
    try:
        return strengths.index(best, middle, last)
    except ValueError:
        return strengths.index(best, first, middle)


def joins(text: str, place: int) -> bool:
    """Whether a place lies inside what is read as one character: CR LF, a combining mark, a joined emoji."""
    following = text[place]
    return (
        (following == "\n" and text[place - 1] == "\r")
        or unicodedata.combining(following) != 0
        or following in _JOINERS
        or text[place - 1] == "\u200d"
    )


_JOINERS = frozenset("\u200d\ufe0e\ufe0f\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff")
