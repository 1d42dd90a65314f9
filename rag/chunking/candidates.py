"""How strong a place is as a cut, and which of those near each other is the strongest.

Strength is a class, then a hash of the first characters of the line behind the place, then, for equals, a hash of what
follows: an edit further on does not change it, and seldom one in the same line.
"""

from __future__ import annotations

from zlib import crc32

_FIRST = 4
_CONTEXT = 96


class Candidates:
    """The places of one level inside one span.

    Parameters
    ----------
    text
        The document.
    places, ranks, weights
        In rising order of places: where each is, its class, and the tokens that begin before it.
    """

    def __init__(self, text: str, places: list[int], ranks: list[int], weights: list[int]) -> None:
        self.places = places
        self.weights = weights
        self._strengths = _strengths(text, places, ranks)

    def peaks(self, near: int) -> list[int]:
        """Those that have no stronger one nearer than so many tokens."""
        weights, strengths = self.weights, self._strengths
        found: list[int] = []
        at, count = 0, len(strengths)
        # up to `ahead` and down to `behind` nothing is stronger than these two: equals in a row are looked at once
        ahead = behind = 0
        most_ahead = most_behind = -1
        while at < count:
            own, weight = strengths[at], weights[at]
            following = at + 1  # what is weaker and as near is no peak either, and is passed over
            while following < count and weights[following] - weight < near and strengths[following] < own:
                following += 1
            other = ahead if ahead > following and own >= most_ahead else following
            while other < count and weights[other] - weight < near and strengths[other] <= own:
                other += 1
            ahead, most_ahead = other, own
            if other == count or weights[other] - weight >= near:
                other = (behind if own >= most_behind else at) - 1
                while other >= 0 and weight - weights[other] < near and strengths[other] <= own:
                    other -= 1
                if other < 0 or weight - weights[other] >= near:
                    found.append(at)
                behind, most_behind = other + 1, own
            else:
                most_behind = max(most_behind, own)
            at = following
        return found

    def strongest(self, first: int, last: int) -> int:
        """The strongest of a range; of equals the first behind its middle, so that equal lines are halved."""
        strengths = self._strengths
        best = max(strengths[first:last])
        middle = (first + last) // 2
        try:
            return strengths.index(best, middle, last)
        except ValueError:
            return strengths.index(best, first, middle)

    def only(self, kept: list[int]) -> None:
        """Forget all but these."""
        self.places = [self.places[at] for at in kept]
        self.weights = [self.weights[at] for at in kept]
        self._strengths = [self._strengths[at] for at in kept]


def _strengths(text: str, places: list[int], ranks: list[int]) -> list[int]:
    if not places:
        return []
    begin = places[0]
    if not (span := text[begin : places[-1] + _CONTEXT]).isascii():
        return [_strength(text, place, rank) for place, rank in zip(places, ranks, strict=True)]
    # of ASCII the places are those of the bytes: one encoding serves all of them
    source = span.encode()
    found = []
    for place, rank in zip(places, ranks, strict=True):
        at = place - begin
        first = source[at : at + _FIRST]
        if b"\n" in first:
            first = first[: first.index(b"\n")]
        found.append(rank << 56 | crc32(first) >> 4 << 28 | crc32(source[at + _FIRST : at + _CONTEXT]) >> 4)
    return found


def _strength(text: str, place: int, rank: int) -> int:
    first = text[place : place + _FIRST]
    if "\n" in first:
        first = first[: first.index("\n")]
    rest = text[place + _FIRST : place + _CONTEXT]
    return rank << 56 | crc32(first.encode()) >> 4 << 28 | crc32(rest.encode()) >> 4
