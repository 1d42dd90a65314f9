"""How much of one limit a minute may be used now. Arithmetic over the times it is given, nothing else.

Nobody says how a limit is enforced: a bucket that fills all the time and holds a minute's or a second's worth, a window
that slides, a minute of the clock; and others may use the same account. What all of them tell is `remaining`. Of it and
of what we have sent we know the *line* `remaining + sent`. It rises at the limit where a bucket fills, more slowly where
others draw from it too, not at all in a window, and then in a jump. So the slope of the line is what may be counted on,
whatever the rule: no more than the limit, and where the line is flat, what comes back at a told reset, or a minute after
it was sent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

MINUTE: Final = 60.0
RESERVE: Final = 0.15
"""Seconds' worth that stay untouched: a request arrives later than it is sent, and `remaining` was true earlier."""
SHARED_RESERVE, SMALL_RESERVE = 1.0, 0.3
"""Where others use the account, who may send in a burst too; the second of a bucket that holds a few seconds' worth."""
_MARGIN: Final = 0.25
"""Seconds by which a minute of ours may end later at the server."""
_SPAN: Final = 6.0
"""Seconds of observations that a slope is taken from, more where requests are few."""
_MANY: Final = 120
"""Observations that are enough."""
_STEADY, _SHARED, _JUMPY = 0.85, 0.25, 1.6
"""Slopes, in parts of the limit: from the first on it is ours alone; below the second and above the last a window."""
_ENOUGH, _GROWTH = 10, 0.01
"""Requests, and seconds of them, that a limit is guessed from which nobody tells; and how it grows in a second."""
_SMALL, _START, _TOP = 5.0, 0.35, 0.6
"""Seconds below which a bucket is small; and the shares of one that are believed in at first, and at most."""
_CLEARLY: Final = 0.5
"""So much less must the best reading leave than the second, to be believed."""
_SURE, _TRY, _GAP = 12, 15.0, 5.0
"""Observations that it takes to call a line flat, seconds after which that is tried out, and that make two points a line."""
_AGREE: Final = 4
"""So many replies in a row must say that there is more than we believe: one of them may be a reply old."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a reply says of one limit; None where it does not. `reset` in seconds from then."""

    limit: float | None = None
    remaining: float | None = None
    reset: float | None = None


class _Seen(NamedTuple):
    """`remaining` and all that it has taken off, in the three ways in which it may be meant.

    As of when the request arrived; as of the reply, with all that was under way taken off already; or with only what is
    done taken off. Nobody says which: it is the one in which the points lie most nearly on a line.
    """

    sent_at: float
    at: float
    as_sent: float
    as_replied: float
    as_done: float


class Meter:
    """One limit a minute, of requests or of tokens.

    Before a server has told what remains, no more than a second's worth goes at once. A limit of the settings is a
    ceiling: the account may allow more.
    """

    def __init__(self, limit: float | None, now: float, expected: float | None = None) -> None:
        """`limit` is the settings', and a ceiling; `expected` what an earlier run was told."""
        ceiling, limit = limit, min((each for each in (limit, expected) if each is not None), default=None)
        self.limit = limit
        self.account: float | None = None
        """What a server has told of the account."""
        self.total = 0.0
        """All that was sent so far, as far as it counts."""
        self._ceiling = ceiling
        self._at = now
        self._told = False
        self._guessed = False
        self._refill = (limit or 0.0) / MINUTE
        self._capacity = self._refill
        self._level = self._capacity
        self._flat = False
        self._others = 0.0
        self._wary_until = now
        """A window empties as it was filled, so that it seems ours alone where others are: for a minute that is not believed."""
        self._biggest = 0.0
        self._sent: deque[tuple[float, float]] = deque()
        self._in_minute = 0.0
        self._lag = 0.0
        self._seen_at = now
        self._line: deque[_Seen] = deque()
        self._reading: int | None = None
        self._above: deque[float] = deque(maxlen=_AGREE)
        self._reset: tuple[float, float] | None = None
        """When all comes back that had been sent by then."""
        self._promised: tuple[float, float] | None = None
        self._after_refusal = False
        """No reply has come since the last one."""

    @property
    def settled(self) -> bool:
        """Whether what was last told may be counted on after a pause: not where a window or others decide."""
        return not self._flat and self._refill >= _STEADY * self._rate and self._at >= self._wary_until

    def wait(self, amount: float, now: float) -> float:
        """Seconds until the amount is there. More than can ever be there waits for all of it, and leaves a debt."""
        if self.limit is None:
            return 0.0
        self._biggest = max(self._biggest, amount)
        self._advance(now)
        # full must be full at the server too, whose clock is not ours
        needed = min(amount + self._reserve, self._capacity + 0.03 * self._rate)
        if self._promised:
            if now < self._promised[0]:
                return self._promised[0] - now
            needed = min(needed, self._promised[1])
        if self._level >= needed:
            return 0.0
        waits = [MINUTE]
        if self._refill > 0.0:
            waits.append((needed - self._level) / self._refill)
        if self._reset:
            waits.append(self._reset[0] - now)
        if self._flat:
            waits += [self._expiry(needed) - now, self._seen_at + _TRY - now]
            # it may be no window after all: one request asks, and if it is refused, the server says when
            if waits[-1] <= 0.0 and not self._promised:
                return 0.0
        return max(1e-3, min(waits))

    def take(self, amount: float, now: float) -> None:
        """Debit what is sent now. The level may go below zero."""
        self._advance(now)
        self._promised = None
        self._seen_at = now  # one that is tried out is one
        self._level -= amount
        self.total += amount
        self._biggest = max(amount, 0.9 * self._biggest)
        self._sent.append((now, amount))
        self._in_minute += amount

    def correct(self, more: float, sent_at: float, now: float) -> None:
        """Debit so much more for what was sent then; give back where it is less than nothing."""
        self._advance(now)
        self._level -= more
        self.total += more
        self._sent.append((sent_at, more))
        self._in_minute += more

    def observe(
        self, told: Told, own: float, after: float, beside: float, flying: float, sent_at: float, now: float
    ) -> None:
        """What a reply says.

        Parameters
        ----------
        own, sent_at : what its request counted, and when it went
        after : what was sent behind it, which `remaining` cannot know of
        beside : what of it went so soon that it may have arrived first
        flying : all the others that are under way
        """
        self._seen_at = now
        self._lag = max(0.9 * self._lag, now - sent_at)
        self._advance(now)
        if told.limit:
            self.account = told.limit
            self._learn_limit(told.limit)
        if told.remaining is None or self.limit is None or (self._ceiling and (told.limit or 0.0) > self._ceiling):
            # under a ceiling of ours the account's own level says nothing, except that others have used it up
            if told.remaining is not None and self.limit is not None:
                self._level = min(self._level, told.remaining - after)
            return
        rate, remaining = self._rate, min(told.remaining, self.limit)
        holds = self.limit if told.reset is None else min(self.limit, remaining + rate * told.reset)
        unknown = (after, 0.0, flying)
        least = remaining - max(unknown)
        if self._told:
            self._capacity = max(self._capacity, holds)
            highest = (remaining - after + beside + self._refill * (now - sent_at), remaining, remaining - flying)
            self._believe(least, max(highest) if self._reading is None else highest[self._reading])
        else:
            self._told, self._capacity = True, holds
            self._level = min(remaining, _START * holds if self._small else remaining) - max(unknown)
        seen = _Seen(sent_at, now, *(remaining + self.total - each for each in unknown))
        self._after_a_gap(least, seen)
        self._follow(remaining, own, seen)
        if self._flat:
            self._wary_until = now + MINUTE
            used = sum(amount for at, amount in self._sent if at > sent_at - MINUTE) - after
            self._others = max(0.0, self._capacity - remaining - used)
        if self._flat and self._after_refusal:
            self._seen_at -= _TRY  # its word may be as of before the pause: one more asks
        self._after_refusal = False
        # in a window of ours alone the earliest one told stands: a later one may be a reply old
        if not (self._reset and self._flat and self._others < 0.02 * self._capacity):
            self._reset = None if told.reset is None else (now + told.reset + 0.05, self.total - after)

    def refuse(self, amount: float, until: float, now: float, *, surprising: bool) -> None:
        """Too many: nothing is left, until the server's own word for this amount; `surprising` where others had been taken."""
        self._advance(now)
        if self.limit is None:
            self._guess(now)
        if surprising:
            self._refill = min(self._refill, self._rate / 2)  # until the line says what it is
            self._wary_until = now + MINUTE
        self._level = min(self._level, 0.0)
        self._told = False  # the next reply tells anew
        self._promised = (until, amount)
        self._after_refusal = True

    # -- what it is made of

    @property
    def _small(self) -> bool:
        """Whether it holds a few seconds' worth, so that a moment's error is a refusal: then it is never used to the full."""
        return self._capacity < _SMALL * self._rate

    @property
    def _reserve(self) -> float:
        shared = SMALL_RESERVE if self._small else SHARED_RESERVE
        return (RESERVE if self.settled else shared) * self._rate

    @property
    def _top(self) -> float:
        """What the level never goes over; whatever a request waits for is below it."""
        top = self._capacity + 0.05 * self._rate
        if self._small:
            top = min(top, max(_TOP * self._capacity, self._biggest + self._reserve + RESERVE * self._rate))
        return max(top, self._promised[1] if self._promised else 0.0)

    @property
    def _rate(self) -> float:
        return (self.limit or 0.0) / MINUTE

    def _advance(self, now: float) -> None:
        """Bring the level to a time."""
        while self._sent and self._sent[0][0] <= now - MINUTE - _MARGIN - self._lag:
            self._in_minute -= self._sent.popleft()[1]
        # of a pause the server's word is known at its end only
        since = max(self._at, self._promised[0]) if self._promised else self._at
        passed = max(0.0, now - since)
        if self._promised and self._at < self._promised[0] <= now:
            self._level = self._promised[1]
        self._at = max(self._at, now)
        if self.limit is None:
            return
        self._level += passed * self._refill
        if self._guessed:
            self.limit *= 1.0 + passed * _GROWTH
            self._refill = self._capacity = self._rate
        if self._reset and now >= self._reset[0]:
            self._level = max(self._level, self._capacity - (self.total - self._reset[1]))
            self._reset = None
        if self._flat:
            self._level = max(self._level, self._capacity - self._others - self._in_minute)
        self._level = min(self._level, self._top)

    def _learn_limit(self, limit: float) -> None:
        new = limit if self._ceiling is None else min(self._ceiling, limit)
        if self.limit is not None and not self._guessed and abs(new - self.limit) <= 1e-3 * new:
            return
        known = self.limit is not None and not self._guessed
        self.limit, self._guessed = new, False
        self._refill = self._capacity = self._rate
        self._level = min(self._level, self._capacity) if known else self._capacity
        self._told = self._flat = False  # what remains under another limit is to be told anew
        self._line.clear()
        self._above.clear()
        self._reset = None

    def _believe(self, lowest: float, highest: float) -> None:
        """Lower the level at once where a reply says less; raise it where all of the last ones said more."""
        before = self._level
        self._level = min(self._level, highest + 1.0)  # what remains is told in whole numbers
        if self._level < before:
            self._above.clear()
        self._above.append(lowest - self._level)
        if len(self._above) == _AGREE and (least := min(self._above) - self._biggest) > 0.0:
            self._level += least
            self._above.clear()

    def _after_a_gap(self, low: float, seen: _Seen) -> None:
        """What one request tells that was tried out in what seemed a window: whether the line has risen all the same."""
        if not (self._flat and self._line) or seen.sent_at - self._line[-1].sent_at < _GAP:
            return
        before = self._line[-1]
        slope = (seen.as_sent - before.as_sent) / (seen.sent_at - before.sent_at) / self._rate
        if slope >= _SHARED:
            self._level = max(self._level, low)
        if _SHARED <= slope <= _JUMPY:
            self._flat, self._refill = False, self._rate * min(1.0, slope)
            self._line.clear()

    def _follow(self, remaining: float, own: float, seen: _Seen) -> None:
        """Take the slope of the line, which is what comes in while we send."""
        rate = self._rate
        if remaining + own >= 0.95 * self._capacity:  # full: what would come in is lost, and says nothing
            self._line.clear()
            self._refill, self._flat = min(rate, 1.25 * max(self._refill, rate / 4)), False
            return
        if len(self._line) >= _MANY and seen.at - self._line[-1].at < _SPAN / _MANY:
            return
        self._line.append(seen)
        least = max(1.5, 8.0 * self._biggest / rate)
        while self._line[0].at < seen.at - max(_SPAN, 1.5 * least):
            self._line.popleft()
        if len(self._line) < 4 or seen.at - self._line[0].at < least:
            return
        fits = [_fitted(points) for points in _readings(self._line)]
        best, second, *_ = sorted(range(len(fits)), key=lambda reading: fits[reading][1])
        clear = len(self._line) >= _SURE and fits[best][1] < _CLEARLY * fits[second][1]
        self._reading = best if clear else None
        slope = fits[best][0] / rate
        self._flat = len(self._line) >= _SURE and not _SHARED <= slope <= _JUMPY
        self._refill = 0.0 if self._flat else rate * (1.0 if slope >= _STEADY else max(slope, _SHARED))

    def _expiry(self, needed: float) -> float:
        """When enough of what we sent is a minute old."""
        lacking = needed - (self._capacity - self._others - self._in_minute)
        for at, amount in self._sent:
            lacking -= amount
            if lacking <= 0.0:
                return at + MINUTE + _MARGIN + self._lag
        return self._at + MINUTE

    def _guess(self, now: float) -> None:
        """A server that refuses and tells nothing: what it took is about what it takes, and more is tried by and by."""
        passed = now - self._sent[0][0] if self._sent else 0.0
        if len(self._sent) >= _ENOUGH and passed >= _ENOUGH and self._in_minute > 0.0:
            self._guessed = True
            self.limit = self._in_minute * MINUTE / min(passed, MINUTE)
            self._refill = self._capacity = self._rate
            self._level = 0.0
            self._at = now


def _readings(line: Sequence[_Seen]) -> tuple[list[tuple[float, float]], ...]:
    return (
        [(seen.sent_at, seen.as_sent) for seen in line],
        [(seen.at, seen.as_replied) for seen in line],
        [(seen.at, seen.as_done) for seen in line],
    )


def _fitted(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The slope of the line with the least squares, and the mean square that it leaves; 0 where all times are one."""
    count = len(points)
    middle_x = sum(x for x, _ in points) / count
    middle_y = sum(y for _, y in points) / count
    spread = sum((x - middle_x) ** 2 for x, _ in points)
    slope = sum((x - middle_x) * (y - middle_y) for x, y in points) / spread if spread else 0.0
    return slope, sum((y - middle_y - slope * (x - middle_x)) ** 2 for x, y in points) / count
