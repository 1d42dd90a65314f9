"""A small house to re-index: real files, a real store, and an embedding model that counts what it is sent."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rag import wiring
from rag.embedding.plan import Plan, Terms
from rag.errors import Problem, ProviderFailed
from rag.index.tables import ChunkTable
from rag.pipeline import Options, Outcome, Parts, Reindex, plan_only, reindex
from rag.ports import Embedded
from rag.retrieval import lexical
from rag.settings import load
from rag.types import EmbeddingIdentity, Json, RequestLimits, Role

WIDTH = 16


def vector_of(text: str) -> np.ndarray:
    """A vector that depends on the text alone."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    return np.random.default_rng(seed).standard_normal(WIDTH).astype(np.float32)


def lexical_in_process(chunks: Path, folder: Path) -> dict[str, Json]:
    """What the child builds, without the half second that a process of its own takes to start."""
    lexical.build(lexical.read_texts(chunks), folder)
    return {}


class CountingModel:
    """An EmbeddingModel that remembers every text it was sent, and fails when told to."""

    def __init__(self, name: str = "counting", texts: int = 8) -> None:
        self.identity = EmbeddingIdentity("test", name)
        self.limits = RequestLimits(texts=texts, tokens=100_000, tokens_per_text=8_192)
        self.sent: list[str] = []
        self.requests = 0
        self.fail_at: int | None = None
        self.refused: set[str] = set()
        """It takes no text that begins with one of these."""

    async def embed(self, texts: Sequence[str], role: Role) -> Embedded:
        assert role == "passage"
        self.requests += 1
        if self.fail_at == self.requests:
            raise ProviderFailed("the server has had enough")
        if any(text.startswith(word) for text in texts for word in self.refused):
            error = ProviderFailed("400: not acceptable", [Problem("here", "400: not acceptable", "leave it out")])
            error.splittable = True
            raise error
        self.sent += texts
        return Embedded(np.stack([vector_of(text) for text in texts]), sum(len(text) for text in texts))


class House:
    """A corpus folder, a store, and the stages over them."""

    def __init__(self, root: Path) -> None:
        self.corpus = root / "corpus"
        self.store = root / "store"
        self.corpus.mkdir()
        self.model = CountingModel()
        self.sets: list[str] = []
        self.terms: dict[str, Any] = {}

    def write(self, name: str, text: str) -> Path:
        path = self.corpus / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        # as old as files of yesterday, so that their stat is believed
        os.utime(path, (1_700_000_000, 1_700_000_000 + len(text)))
        return path

    def parts(self) -> Parts:
        settings = load([], {}, [f"store='{self.store}'", f"corpus.paths=['{self.corpus}']", *self.sets], self.corpus)
        parts = wiring.parts(settings, wiring.World.real())
        free = Terms(self.model.limits, True, None, None, None, None, None, None)

        return dataclasses.replace(
            parts,
            model=self.model,
            dimensions=None,
            terms=dataclasses.replace(free, **self.terms),
            build_lexical=lexical_in_process,
            concurrency=2,
        )

    def run(self, **options: Any) -> Reindex:
        return Reindex(self.parts(), Options(**options))

    def index(self, **options: Any) -> Outcome:
        with self.run(**options) as run:
            return reindex(run)

    def plan(self) -> Plan:
        with self.run(command="ragline plan", purpose="plan") as run:
            return plan_only(run)

    def sent(self) -> list[str]:
        """What was sent since this was last asked."""
        sent, self.model.sent = self.model.sent, []
        return sent

    def chunks(self, version: int) -> list[dict[str, object]]:
        table = ChunkTable(self.store / "indexes/main" / f"v{version:06d}" / "chunks.parquet")
        return [dataclasses.asdict(row) for row in table]
