"""Where a fault strikes: at given requests, now and then by a seed, or wherever a text is sent."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.provider.faults import NAMES

WORK = ("POST /v1/embeddings", "POST /v1/chat/completions", "POST /v1/messages")


@dataclass
class Placement:
    """`{"fault": "nan", "at": [1, 17]}`, `{"faults": ["500", "lost"], "rate": 0.1, "seed": 7}`, `{"text": "poison", ...}`.

    It looks at well-formed requests to its `path` (part of `POST /v1/embeddings`; empty: all three that ask models for
    work) that hold its `text`, and numbers them from 1. Of these it strikes those `at` the numbers given, a share of
    `rate`, or all, but not more than `times`. With several `faults` the seed draws one.
    """

    fault: str = ""
    faults: Sequence[str] = ()
    at: Sequence[int] = ()
    rate: float | None = None
    seed: int = 0
    text: str = ""
    times: int | None = None
    path: str = ""
    seconds: float | None = None
    """For how long it hangs, drips, or refuses connections."""
    seen: int = field(default=0, init=False)
    struck: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.faults = [self.fault, *self.faults] if self.fault else list(self.faults)
        unknown = sorted(set(self.faults) - NAMES)
        if unknown or not self.faults:
            raise ValueError(f"no such faults: {unknown}; there are {', '.join(sorted(NAMES))}")
        self._random = random.Random(self.seed)

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Placement:
        known = {field.name for field in dataclasses.fields(cls) if field.init}
        if unknown := sorted(set(given) - known):
            raise ValueError(f"a placement has no {unknown}; it has {sorted(known)}")
        return cls(**given)

    def strikes(self, target: str, inputs: Sequence[str]) -> tuple[str, int] | None:
        """The fault for this request, and the input that brought it down."""
        if self.path not in target or (not self.path and target not in WORK):
            return None
        holders = [place for place, text in enumerate(inputs) if self.text in text] if self.text else [0]
        if not holders:
            return None
        self.seen += 1
        drawn, chosen = self._random.random(), self._random.choice(self.faults)
        struck = self.seen in self.at if self.at else self.rate is None or drawn < self.rate
        if not struck or (self.times is not None and self.struck >= self.times):
            return None
        self.struck += 1
        return chosen, holders[0]
