"""One model's limits as an account meets them: requests, tokens, and for some output tokens, admitted or refused."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.provider.least import Steps, Work, earliest
from tests.provider.options import Options
from tests.provider.rules import MINUTE, Minute, Rule, Sliding, rule

STEP = 0.1  # seconds between two requests of the second consumer


@dataclass(frozen=True)
class Refusal:
    """Why a request was not admitted, and after how many seconds it could be."""

    dimension: str
    limit: float
    used: float
    requested: float
    seconds: float


@dataclass
class Limiter:
    """Made when the first request of its model arrives: full, or drained, at that moment.

    Tokens are charged at admission, or with `charge = "completion"` when the reply goes out: a request is then admitted
    when there is room for it beside what has been charged so far, and what is still being worked on counts for nothing.
    Requests are always charged at admission.

    The second consumer asks for its share of a minute every tenth of a second; what finds no room is refused and not
    asked for again: of a clock minute, who comes first may take all. It was there for a minute before the first request.
    """

    options: Options
    start: float
    dimensions: Mapping[str, float]
    """The limit of each: `requests`, `tokens`, perhaps `output-tokens`."""
    rules: dict[str, Rule] = field(init=False)
    begun: dict[str, Rule] = field(init=False)
    """The rules as they stood when the first request arrived."""
    changes: dict[str, list[tuple[float, float]]] = field(init=False)
    others: dict[str, list[tuple[float, float]]] = field(init=False)

    def __post_init__(self) -> None:
        options = self.options
        self.rules = {
            name: rule(options.rule, limit, self.start, drained=options.drained, phase=options.phase % MINUTE)
            for name, limit in self.dimensions.items()
        }
        for held in self.rules.values():
            if options.second_consumer and isinstance(held, Sliding) and not options.drained:
                held.before(self.start, options.second_consumer * held.limit)
            if options.second_consumer and isinstance(held, Minute) and not options.drained:
                held.used = options.second_consumer * held.limit * (options.phase % MINUTE) / MINUTE
        self.begun = copy.deepcopy(self.rules)
        self.changes = {name: [] for name in self.rules}
        self.others = {name: [] for name in self.rules}
        self._next = self.start + STEP

    def advance(self, now: float) -> None:
        """Let the second consumer ask for all it wanted until now."""
        while self.options.second_consumer and self._next <= now:
            wanted = {
                name: self.options.second_consumer * held.limit * STEP / MINUTE for name, held in self.rules.items()
            }
            if not any(self.rules[name].wait(self._next, amount) for name, amount in wanted.items()):
                for name, amount in wanted.items():
                    self.rules[name].take(self._next, amount)
                    self.others[name].append((self._next, amount))
            self._next += STEP

    def ask(self, now: float, amounts: Mapping[str, float]) -> Refusal | None:
        """Admit a request, or say why not. A refused one is charged nothing unless the options say so."""
        self.advance(now)
        waits = {name: self.rules[name].wait(now, amount) for name, amount in amounts.items()}
        worst = max(waits, key=lambda name: waits[name])
        if not waits[worst]:
            self._charge(now, amounts, all_of_it=self.options.charge == "arrival")
            return None
        held = self.rules[worst]
        refusal = Refusal(worst, held.limit, held.limit - held.remaining(now), amounts[worst], waits[worst])
        if self.options.charge_refused:
            self._charge(now, amounts, all_of_it=True)
        return refusal

    def done(self, now: float, amounts: Mapping[str, float]) -> None:
        """The reply goes out."""
        self.advance(now)
        if self.options.charge == "completion":
            for name in amounts.keys() - {"requests"}:
                self.rules[name].take(now, amounts[name])

    def _charge(self, now: float, amounts: Mapping[str, float], *, all_of_it: bool) -> None:
        for name, amount in amounts.items():
            if all_of_it or name == "requests":
                self.rules[name].take(now, amount)

    def change(self, now: float, limits: Mapping[str, float]) -> None:
        self.advance(now)
        for name, limit in limits.items():
            if name in self.rules:
                self.rules[name].change(now, limit)
                self.changes[name].append((now, limit))

    def least(self, work: Mapping[str, Work]) -> dict[str, float]:
        """Seconds from the first request's arrival until each dimension could have admitted the last request."""
        found = {}
        for name, done in work.items():
            others: Steps = self.others[name]
            found[name] = earliest(self.begun[name], self.start, done, self.changes[name], others) - self.start
        return found

    def state(self, now: float) -> dict[str, tuple[int, int, float]]:
        """Of each dimension: limit, remaining, seconds until it is all there again."""
        self.advance(now)
        return {
            name: (int(held.limit), math.floor(held.remaining(now) + 1e-6), max(0.0, held.reset(now)))
            for name, held in self.rules.items()
        }
