"""What a model is asked for with, and what it may know of the world around it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random

from rag.clock import Clock
from rag.providers.models import Price


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """One model as the settings describe it. `None` always means: the provider's own."""

    model: str
    """`provider/name`; the name may hold slashes."""
    base_url: str | None = None
    api_key_env: str | None = None
    """The variable that holds the key; an empty string sends none."""
    dimensions: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int = 8
    timeout: float = 120.0
    """Seconds that one request may take, whole; in a stream, from piece to piece (see STREAM_TIMES in door.py)."""
    patience: float = 7200.0
    """Seconds of one Retry-After that are waited for; a server that asks for more is not asked again."""
    prices: Mapping[str, Price] = field(default_factory=dict)
    """Overrides of the dated table, by `provider/name`."""

    @property
    def provider(self) -> str:
        return self.model.partition("/")[0]

    @property
    def name(self) -> str:
        return self.model.partition("/")[2]


@dataclass(frozen=True, slots=True)
class Allowed:
    """What an account may do in a minute; None where that is not known."""

    requests: float | None = None
    tokens: float | None = None


UNTOLD = Allowed()


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a provider takes from the world: time, chance, the environment and the exact token count of a text."""

    clock: Clock
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    random: Random = field(default_factory=Random)
    count: Callable[[str], int] | None = None
    """Tokens of one text; without it requests are reserved by an estimate that learns from what was billed."""
    allowed: Allowed = UNTOLD
    """What an earlier run was told: believed until a reply says more, and no ceiling."""
