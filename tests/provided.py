"""A small house whose texts go to the provider of tests/provider over real HTTP, while waiting costs no time.

Everything is real but the clock: it jumps over the waits of the retry loop when no request is under way.
"""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from rag import wiring
from rag.clock import Clock, SystemClock
from rag.embedding.cache import VectorCache
from rag.errors import RaglineError
from rag.pipeline import Options, Outcome, Parts, Reindex, plan_only
from rag.providers.limits import Grant
from rag.providers.openai_api import OpenAIEmbedding
from rag.settings import Settings, load
from tests.house import WIDTH, House, lexical_in_process
from tests.provider import Simulator
from tests.provider.faults import DAMAGES
from tests.provider.vectors import digest, vectors
from tests.servers.virtual import VirtualClock

NAME = "text-embedding-3-small"
MODEL = f"openai/{NAME}"
LOST = frozenset({"lost", "half", "reset_late", "drip"})
"""Replies that are billed and do not arrive, or not before the timeout."""
WRONG = frozenset(DAMAGES) - {"reversed"}
"""Replies that are billed and must not be believed."""


class ProvidedHouse(House):
    """A corpus folder, a store, and the stages over them; texts go to a simulator, few in a request."""

    model: OpenAIEmbedding  # type: ignore[assignment]

    def __init__(self, root: Path, sim: Simulator, *, texts: int | None = 4, **embedding: Any) -> None:
        self.corpus, self.store = root / "corpus", root / "store"
        self.corpus.mkdir(parents=True)
        self.sim = sim
        self.texts = texts
        self.embedding = {"timeout_seconds": 20.0, "concurrency": 2, **embedding}
        self.sets: list[str] = []
        self.terms: dict[str, Any] = {}
        self._heard = 0.0
        self.real_clock: Clock | None = None
        """Instead of one that jumps."""
        self.clock: Clock = self.new_clock()
        self.went: list[float] = []
        """When each request of the last run went out, on its clock."""

    def new_clock(self) -> VirtualClock:
        """One whose time stands while a request is under way, or nobody is at the other end."""
        clock = VirtualClock(datetime.now(UTC).replace(microsecond=0))
        clock.may_pass = lambda: not self.model._door.budget._flying and self.listening()
        return clock

    def listening(self) -> bool:
        if time.monotonic() - self._heard > 0.05:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.sim.port), timeout=5):
                self._heard = time.monotonic()
                return True
            return False
        return True

    def settings(self) -> Settings:
        asked = {
            "model": MODEL,
            "base_url": self.sim.url,
            "api_key_env": "SIM_KEY",
            "dimensions": WIDTH,
            **self.embedding,
        }
        sets = [f"embedding.{name}={value!r}" for name, value in asked.items()]
        sets += [f"store='{self.store}'", f"corpus.paths=['{self.corpus}']", f"prices.{MODEL}={{input=0.02}}"]
        return load([], {}, [*sets, *self.sets], self.corpus)

    @property
    def world(self) -> wiring.World:
        return wiring.World(self.clock, {"SIM_KEY": self.sim.key})

    def parts(self) -> Parts:
        self.clock = self.real_clock or self.new_clock()
        parts = wiring.parts(self.settings(), self.world)
        assert isinstance(parts.model, OpenAIEmbedding)
        self.model = parts.model
        budget, self.went = self.model._door.budget, []
        went = budget.went

        def noted(grant: Grant) -> None:
            went(grant)
            self._heard = 0.0
            self.went.append(grant.sent_at)

        budget.went = noted  # type: ignore[method-assign]
        if self.texts:
            self.model._most = dataclasses.replace(self.model._most, texts=self.texts)
        terms = dataclasses.replace(parts.terms, limits=self.model.limits, **self.terms)
        return dataclasses.replace(parts, terms=terms, build_lexical=lexical_in_process)

    def run(self, **options: Any) -> Reindex:
        return Reindex(self.parts(), Options(**options))

    def index_to_the_end(self, most: int = 40, **options: Any) -> tuple[Outcome, list[RaglineError]]:
        """The same command until it ends well, and how it ended before."""
        failed: list[RaglineError] = []
        for _ in range(most):
            try:
                return self.index(**options), failed
            except RaglineError as error:
                failed.append(error)
        raise failed[-1]

    def desk(self) -> wiring.Desk:
        """The live version, to ask questions of."""
        return wiring.Desk(self.settings(), None, wiring.World(SystemClock(), self.world.environment))

    def texts_sent(self) -> dict[bytes, str]:
        """Key -> text of every chunk of the corpus, refused ones included."""
        with self.run(command="ragline plan", purpose="plan", retry_refused=True) as run:
            plan_only(run)
            prepared = run._ready()
            return {key.tobytes(): text.sent for key, text in zip(prepared.keys, prepared.spool(), strict=True)}

    def stored(self) -> dict[bytes, np.ndarray]:
        """Key -> vector of everything in the cache, each record once."""
        found: dict[bytes, np.ndarray] = {}
        for segment in VectorCache(self.store, self.parts().model.identity, self.clock).segments():
            for key, vector in zip(segment.keys, segment.vectors, strict=True):
                assert key.tobytes() not in found, "a text was stored twice"
                found[key.tobytes()] = vector
        return found

    def wrong_vectors(self, texts: dict[bytes, str]) -> list[str]:
        """The texts of which anything but the provider's right vector is stored."""
        stored = self.stored()
        assert set(stored) <= set(texts)
        right = vectors(NAME, [digest(texts[key]) for key in stored], WIDTH)
        return [
            texts[key] for key, vector in zip(stored, right, strict=True) if stored[key].tobytes() != vector.tobytes()
        ]

    def asked_of_each(self) -> Counter[str]:
        """Text (its sha256) -> how many requests held it since the simulator's log is empty."""
        return Counter(text for entry in self.sim.log(texts=True) for text in entry["texts"])

    def paid_twice_for_nothing(self) -> list[str]:
        """The texts (their sha256) that were billed more than once, and beyond what a lost or wrong reply explains.

        A reply that came twice hides the next one on its connection, which is lost with it.
        """
        log = self.sim.log(texts=True)
        explained: Counter[str] = Counter()
        for entry in log:
            if entry["billed"] and entry["fault"] in LOST | WRONG:
                explained.update(entry["texts"])
        beyond = [text for text, times in self.sim.bill()["texts"].items() if times > 1 + explained[text]]
        hidden = sum(entry["fault"] == "repeated" for entry in log)
        return beyond if len(beyond) > hidden * (self.texts or 0) else []


@contextlib.contextmanager
def struck(sim: Simulator, *placements: dict[str, Any]) -> Iterator[None]:
    """The simulator with an empty log and bill, and these faults for the block."""
    sim.reset()
    sim.faults(*placements)
    try:
        yield
    finally:
        sim.faults()
