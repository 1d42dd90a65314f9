"""A corpus of large chunks, the command over it as a customer of the simulator, and what is lost when it is killed."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rag import storage
from rag.clock import SystemClock
from rag.digest import text_keys
from rag.embedding import ledger
from rag.embedding.cache import VectorCache, namespace_name, segment_names
from rag.embedding.ledger import Entry
from rag.index.versions import Versions
from rag.types import EmbeddingIdentity
from rag.upkeep import verify_store
from tests.cli.forking import Command, Ended, Forge
from tests.provider import Simulator
from tests.provider.vectors import digest

MODEL = "text-embedding-3-small"
DIMENSIONS = 64
SIZE = 7_000
"""Letters of a chunk: so large that a request has room for nine."""
KEY = "PAYING_KEY"


def corpus(folder: Path, documents: int) -> list[str]:
    """Documents of one chunk each; gives their texts."""
    folder.mkdir()
    texts = []
    for number in range(documents):
        line = f"note {number} tells of the snow at km {number} and of the train that waits there. "
        texts.append((line * (SIZE // len(line) + 1))[:SIZE].strip())
        (folder / f"{number:03}.txt").write_text(texts[-1])
    return texts


@dataclass
class Customer:
    """A store of its own over a corpus, and what became of every text that was sent for it."""

    folder: Path
    docs: Path
    texts: list[str]
    sim: Simulator
    forge: Forge
    concurrency: int = 4
    seen: int = 0
    """Requests of the simulator's log that are accounted for."""
    lost: Counter[str] = field(default_factory=Counter)
    """How often each text was under way when its process was killed."""
    lost_requests: list[int] = field(default_factory=list)
    """How many were under way, at each kill."""
    lost_tokens: int = 0

    def __post_init__(self) -> None:
        self.folder.mkdir()
        identity = EmbeddingIdentity("openai", MODEL, self.sim.url, dimensions=DIMENSIONS)
        self._keys = text_keys(identity, "passage", self.texts)
        self._digests = [digest(text).hex() for text in self.texts]
        self._identity = identity
        settings = f"""
store = "store"
[corpus]
paths = ["{self.docs}"]
[chunking]
max_tokens = 8000
[embedding]
model = "openai/{MODEL}"
base_url = "{self.sim.url}"
api_key_env = "{KEY}"
dimensions = {DIMENSIONS}
tokenizer = "bytes"
concurrency = {self.concurrency}
[index]
kind = "flat"
[prices]
"openai/{MODEL}" = {{ input = 0.02 }}
"""
        (self.folder / "ragline.toml").write_text(settings)

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def environment(self) -> dict[str, str]:
        return {KEY: self.sim.key}

    def start(self, *words: str) -> Command:
        return self.forge.start(self.folder, *words, **self.environment)

    def run(self, *words: str) -> Ended:
        return self.start(*words).wait()

    def paying(self) -> bool:
        """Whether a living process is about to send its first request, or has."""
        with contextlib.suppress(FileNotFoundError):
            return any(map(storage.is_held, ledger.open_folder(self.store).glob("*.jsonl")))
        return False

    def segments(self) -> list[str]:
        """The files of the cache: one for each answer that was stored."""
        return segment_names(self.store / "cache" / namespace_name(self._identity))

    def stored(self) -> set[str]:
        """The digests of the texts whose vectors are kept."""
        hit = VectorCache(self.store, self._identity, SystemClock()).lookup(self._keys).hit
        return {found for found, is_there in zip(self._digests, hit.tolist(), strict=True) if is_there}

    def settled(self) -> list[dict[str, Any]]:
        """The simulator's log, once it has nothing under way."""
        while True:
            log = self.sim.log("/embeddings", texts=True)
            if all(entry["replied"] is not None for entry in log):
                return log
            time.sleep(0.005)

    def account_for_a_kill(self) -> None:
        """Find what was under way at a kill: what its process had sent, and has not stored."""
        log, stored = self.settled(), self.stored()
        lost = [entry for entry in log[self.seen :] if not stored.issuperset(entry["texts"])]
        self.seen = len(log)
        assert all(stored.isdisjoint(entry["texts"]) for entry in lost), "half of an answer is stored"
        assert len(lost) <= self.concurrency
        self.lost_requests.append(len(lost))
        self.lost_tokens += sum(entry["tokens"] for entry in lost if entry["billed"])
        for entry in lost:
            self.lost.update(entry["texts"] if entry["billed"] else [])
        self.refuse_damage()
        self.refuse_lost_money()

    def refuse_damage(self) -> None:
        assert verify_store(Versions(self.store, "main"), self.store).problems == ()

    def ledger_lacks(self) -> int:
        """Tokens that were billed and stand in no line of the ledger."""
        lines = [line for line in ledger.spent(self.store) if isinstance(line, Entry)]
        assert all(line.usd == line.tokens * 0.02 / 1e6 for line in lines)
        return int(self.sim.bill()["tokens"]) - sum(line.tokens for line in lines)

    def refuse_lost_money(self) -> None:
        """The ledger may lack what was under way at a kill, and nothing else."""
        assert 0 <= self.ledger_lacks() <= self.lost_tokens

    def refuse_double_pay(self) -> None:
        """By the simulator's bill: every text is paid once, and once more for each kill at which it was under way."""
        assert self.sim.bill()["texts"] == {text: 1 + self.lost[text] for text in self._digests}
