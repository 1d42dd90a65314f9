"""A paid embedding over real HTTP: the sender, the door and a cache on disk, against the simulator in its own process."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np

from rag.clock import SystemClock
from rag.digest import text_keys
from rag.embedding.cache import VectorCache
from rag.embedding.plan import Terms
from rag.embedding.run import Sender, Texts
from rag.providers.openai_api import OpenAIEmbedding
from rag.providers.settings import ModelSettings, Surroundings
from tests import provider

MODEL = "text-embedding-3-small"
WIDTH = 256


@dataclass(frozen=True)
class Ran:
    """What the simulator's own log and bill say of a run."""

    least: float
    seconds: float
    requests: int
    refused: tuple[float, ...]
    """Seconds after the first request at which one met a limit."""
    texts: int
    lost: int
    billed_twice: int
    cpu_seconds: float
    """Of the client."""

    @property
    def ratio(self) -> float:
        return self.seconds / self.least


def made_texts(tokens: int, each: int, seed: int = 1) -> list[str]:
    """Texts of about so many words each, all different."""
    random = Random(seed)
    sizes = [max(3, int(random.gauss(each, each / 4))) for _ in range(tokens // each)]
    return [f"number {position} " + "w " * (size - 2) for position, size in enumerate(sizes)]


def ours(sim: provider.Simulator, texts: list[str], concurrency: int, *, told: bool = False) -> None:
    """The whole way of a text into the cache; `told` gives the limits as settings."""
    options = sim.options
    asked = ModelSettings(
        f"openai/{MODEL}",
        base_url=sim.url,
        api_key_env="KEY",
        dimensions=WIDTH,
        requests_per_minute=options.rpm if told else None,
        tokens_per_minute=options.tpm if told else None,
        concurrency=concurrency,
    )
    model = OpenAIEmbedding(asked, Surroundings(SystemClock(), {"KEY": sim.key}, count=lambda text: len(text.split())))
    tokens = np.array([len(text.split()) for text in texts], np.uint32)
    keys = text_keys(model.identity, "passage", texts)
    terms = Terms(model.limits, True, None, None, None, None, None, None)

    async def work(store: Path) -> None:
        cache = VectorCache(store, model.identity, SystemClock())
        sender = Sender(model, cache, terms, concurrency)
        await sender.send(Texts(keys, tokens, lambda start, end: texts[start:end], str), lambda: None)
        await model.close()
        assert cache.lookup(keys).hit.all()

    with tempfile.TemporaryDirectory() as store:
        asyncio.run(work(Path(store)))


def run(
    options: provider.Options,
    tokens: int,
    each: int,
    *,
    concurrency: int = 16,
    client: Callable[[provider.Simulator, list[str], int], None] = ours,
    cut_after: float | None = None,
) -> Ran:
    """One run of a client; `cut_after` seconds a quarter of the limits is left."""
    import threading

    texts = made_texts(tokens, each)
    with provider.running(options) as sim:
        cutter = threading.Timer(cut_after or 0, lambda: sim.limits(rpm=options.rpm // 4, tpm=options.tpm // 4))
        if cut_after is not None:
            cutter.start()
        before = time.process_time()
        client(sim, texts, concurrency)
        used = time.process_time() - before
        cutter.cancel()
        span, log, bill = sim.span(MODEL), sim.log("/embeddings"), sim.bill()["texts"]
        first = min(entry["arrived"] for entry in log)
        return Ran(
            least=span["least"],
            seconds=span["actual"],
            requests=len(log),
            refused=tuple(round(entry["arrived"] - first, 2) for entry in sim.refusals()),
            texts=len(texts),
            lost=len(texts) - len(bill),
            billed_twice=sum(times > 1 for times in bill.values()),
            cpu_seconds=used,
        )
