"""How strong a place is as a cut, and which of those near each other is the strongest.

Strength is a class, then a hash of the first characters of the line behind the place, then, for equals, a hash of what
follows: an edit further on does not change it, and seldom one in the same line.
"""

from __future__ import annotations

from collections.abc import Sequence
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
        self._text = text
        self.places = places
        self.weights = weights
        self._strengths = [
            rank << 28 | _beginning(text[place : place + _FIRST]) for place, rank in zip(places, ranks, strict=True)
        ]

    def peaks(self, near: int) -> list[int]:
        """Those that have no stronger one nearer than so many tokens."""
        weights, strengths = self.weights, self._strengths
        found: list[int] = []
        at, count = 0, len(strengths)
        while at < count:
            own, weight = strengths[at], weights[at]
            again = 0  # what is weaker and as near is no peak either: only an equal one is looked at again
            other = at + 1
            while other < count and weights[other] - weight < near:
                if strengths[other] >= own:
                    if strengths[other] > own or self._tie(other) > self._tie(at):
                        break
                    again = again or other
                other += 1
            else:
                if not self._put_out(at, near):
                    found.append(at)
            at = again or other
        return found

    def strongest(self, among: Sequence[int]) -> int:
        """The strongest of these; of equals the first behind their middle, so that equal lines are halved."""
        strengths = [self._strengths[at] for at in among]
        best = max(strengths)
        if strengths.count(best) > 1:
            strengths = [
                self._tie(at) if strength == best else -1 for at, strength in zip(among, strengths, strict=True)
            ]
            best = max(strengths)
        try:
            return among[strengths.index(best, len(among) // 2)]
        except ValueError:
            return among[strengths.index(best)]

    def _put_out(self, at: int, near: int) -> bool:
        """Whether a stronger one stands near before it."""
        own, weight = self._strengths[at], self.weights[at]
        for other in range(at - 1, -1, -1):
            if weight - self.weights[other] >= near:
                break
            strength = self._strengths[other]
            if strength > own or (strength == own and self._tie(other) > self._tie(at)):
                return True
        return False

    def _tie(self, at: int) -> int:
        place = self.places[at]
        return crc32(self._text[place + _FIRST : place + _CONTEXT].encode()) >> 4


def _beginning(first: str) -> int:
    """A hash of the first characters behind a place, as far as its line goes."""
    if "\n" in first:
        first = first[: first.index("\n")]
    return crc32(first.encode()) >> 4
