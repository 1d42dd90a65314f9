"""A store, a simulator and texts: visits to its Batch API, one after the other."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rag.clock import SystemClock
from rag.digest import text_keys
from rag.embedding import ledger
from rag.embedding.batches import Visit, Visited
from rag.embedding.cache import VectorCache
from rag.embedding.jobs import Job, Jobs
from rag.embedding.plan import Terms
from rag.embedding.run import Spent, Texts
from rag.ports import Floats
from rag.providers.openai_batches import OpenAIBatches
from rag.providers.settings import ModelSettings, Surroundings
from rag.sync import close_sync, run_sync
from rag.types import RequestLimits
from tests.provider import Simulator
from tests.provider.vectors import digest, vectors

MODEL = "text-embedding-3-small"
NOW = {"seconds": [0, 0, 0]}
"""Batches that end as fast as they can."""
NEVER = {"seconds": [0, 3600, 0]}
LINE = 4
"""Texts of a line."""
ENDS = ("completed", "failed", "expired", "cancelled")


def sentences(count: int, word: str = "text") -> list[str]:
    return [f"{word} number {number} of the notes" for number in range(count)]


class Hasty(SystemClock):
    """A clock by which nobody waits."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(min(seconds, 0.005))


class Desk:
    """Who visits a simulator's batches with some texts, each time as a process of its own would."""

    def __init__(self, sim: Simulator, store: Path, **terms: Any) -> None:
        self.sim = sim
        self.store = store
        self.key = sim.key
        asked = ModelSettings(f"openai/{MODEL}", base_url=sim.url, api_key_env="KEY", timeout=20.0)
        self.asked = asked
        free = Terms(RequestLimits(LINE, 10_000, 8192), False, 0.01, "2026-11", 5.0, None, None, None)
        self.terms = dataclasses.replace(free, **terms)
        self.texts_per_file = 50_000
        self.bytes_per_file = 200_000_000
        self.spent = Spent()

    @property
    def cache(self) -> VectorCache:
        return VectorCache(self.store, self.batches().identity, SystemClock())

    @property
    def jobs(self) -> list[Job]:
        return Jobs(self.store).all()

    def batches(self) -> OpenAIBatches:
        made = OpenAIBatches(self.asked, Surroundings(Hasty(), {"KEY": self.key}))
        made.limits = RequestLimits(LINE, 10_000, 8192)
        made.texts_per_file = self.texts_per_file
        made.bytes_per_file = self.bytes_per_file
        return made

    def visit(self, texts: Sequence[str] | None, *, index: str = "main", give_up: bool = False) -> Visited:
        self.spent = Spent()
        batches = self.batches()
        made = Visit(
            self.store,
            index,
            self.cache,
            batches,
            self.terms,
            SystemClock(),
            self.spent,
            "ragline index --batch",
            give_up=give_up,
        )
        try:
            return run_sync(made.run(self.wanted(texts) if texts is not None else None))
        finally:
            close_sync(batches)

    def wanted(self, texts: Sequence[str]) -> Texts:
        keys = text_keys(self.batches().identity, "passage", texts)
        tokens = np.array([len(text.split()) for text in texts], np.uint32)
        return Texts(keys, tokens, lambda start, end: list(texts[start:end]), lambda at: f"notes.md@{at}-{at + 1}")

    def settled(self) -> None:
        """Wait until every batch of the simulator has ended."""
        until = time.monotonic() + 30
        while any(batch["status"] not in ENDS for batch in self.sim.all_batches()):
            assert time.monotonic() < until
            time.sleep(0.002)

    def visits(self, texts: Sequence[str], most: int = 12) -> Visited:
        """Visit until nothing is missing."""
        for _ in range(most):
            found = self.visit(texts)
            if not found.missing:
                return found
            self.settled()
        raise AssertionError(found.message)

    def stored(self, texts: Sequence[str]) -> Floats:
        found = self.cache.lookup(self.wanted(texts).keys)
        assert found.hit.all()
        return found.gather(np.arange(len(texts)))

    def spending(self) -> list[tuple[Any, ...]]:
        """(requests, tokens, usd, outcome) of each line of the ledger."""
        return [(each.requests, each.tokens, each.usd, each.outcome) for each in ledger.entries(self.store)]

    def billed(self) -> set[int]:
        """How often texts were billed."""
        return set(self.sim.bill()["texts"].values())


def right(texts: Sequence[str]) -> Floats:
    """What the simulator answers online."""
    return vectors(MODEL, [digest(text) for text in texts])
