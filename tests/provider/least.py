"""The least possible time: when a rule could first have admitted the last token of a run, whoever had asked."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

from tests.provider.rules import MINUTE, NEAR, Bucket, Minute, Rule, Sliding

Steps = Sequence[tuple[float, float]]  # (when, how much), in order of time


@dataclass(frozen=True)
class Work:
    """What a run was charged before its last request, and that request's own amount."""

    before: float
    last: float


def earliest(rule: Rule, start: float, work: Work, limits: Steps = (), others: Steps = ()) -> float:
    """The first time at which `rule`, in the state it had at `start`, could have admitted the last request.

    The client that this supposes sends every token the moment there is room for it. `limits` are changes of the limit
    after the start; `others` is what somebody else used after it, at the times at which he did. No run that is charged
    on arrival can be quicker, whatever its client does.
    """
    match rule:
        case Bucket():
            return _bucket(rule, start, work, limits, others)
        case Sliding():
            return _sliding(rule, start, work, limits, others)
        case Minute():
            return _minute(rule, start, work, limits)
        case _:
            raise TypeError(f"no least time is known for {rule}")


def _bucket(rule: Bucket, start: float, work: Work, limits: Steps, others: Steps) -> float:
    """A bucket that is always used never overflows: its level is what it held, and what came in since."""
    now, level = start, rule.level
    changes = sorted([(when, 0, limit) for when, limit in limits] + [(when, 1, used) for when, used in others])
    imagined = Bucket(rule.limit, start, burst=rule.burst, debts=rule.debts)
    for when, kind, value in [*changes, (math.inf, 1, 0.0)]:
        short = work.before + imagined.needed(work.last) - level
        if short <= NEAR:
            return now
        if imagined.rate and now + short / imagined.rate <= when:
            return now + short / imagined.rate
        level += imagined.rate * (when - now) if when < math.inf else 0.0
        now = when
        if kind == 0:
            imagined.limit = value
        else:
            level -= value
    return math.inf


def _sliding(rule: Sliding, start: float, work: Work, limits: Steps, others: Steps) -> float:
    """Everything that fits is admitted at once, and comes free again 60 s later: the earliest for every token."""
    limit, used, left = rule.limit, rule.used, work.before + work.last
    happens: list[tuple[float, int, float]] = [(when + MINUTE, 0, freed) for when, freed in rule.entries]
    happens += [(when, 1, changed) for when, changed in limits]
    happens += [(when, 2, taken) for when, taken in others]
    happens.append((start, 3, 0.0))
    heapq.heapify(happens)
    now = start
    while happens:
        now = max(start, happens[0][0])
        while happens and happens[0][0] <= now + 1e-9:  # all of one moment, before anything is admitted in it
            _, kind, value = heapq.heappop(happens)
            if kind == 0:
                used -= value
            elif kind == 1:
                limit = value
            elif kind == 2:
                used += value
                heapq.heappush(happens, (now + MINUTE, 0, value))
        fits = min(left, limit - used)
        if fits > 0:
            left -= fits
            used += fits
            heapq.heappush(happens, (now + MINUTE, 0, fits))
        if left <= NEAR:
            return now
    return math.inf


def _minute(rule: Minute, start: float, work: Work, limits: Steps) -> float:
    """All of a minute's limit is admitted as it begins. Somebody else only takes what is left of it after that."""
    limit, used, left = rule.limit, rule.used, work.before + work.last
    begun, now = rule.start, start
    changes = list(limits)
    while True:
        fits = min(left, max(0.0, limit - used))
        left -= fits
        used += fits
        if left <= NEAR:
            return now
        turn = begun + MINUTE
        if changes and changes[0][0] < turn:
            when, limit = changes.pop(0)
            now = max(now, when)
        elif limit <= 0 and not changes:
            return math.inf
        else:
            begun = now = turn
            used = 0.0
