"""A house whose texts go to a simulator, by the batch or online, in this process or in one that is killed."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from rag import wiring
from rag.clock import SystemClock
from rag.embedding.plan import Plan
from rag.errors import RaglineError
from rag.pipeline import Options, Outcome, Reindex, plan_only, reindex
from rag.settings import load
from rag.types import RequestLimits
from tests.house import House, lexical_in_process
from tests.provider.options import KEY

from .making import ENDS, LINE

MODEL = "openai/text-embedding-3-small"


class BatchHouse(House):
    """Texts in the lines of `making`."""

    def __init__(self, root: Path, url: str) -> None:
        self.corpus, self.store = root / "corpus", root / "store"
        self.corpus.mkdir(exist_ok=True)
        self.url = url
        self.sets: list[str] = []
        self.texts_per_file = 50_000

    def run(self, **options: Any) -> Reindex:
        asked = Options(**options)
        sets = [
            f"store='{self.store}'",
            f"corpus.paths=['{self.corpus}']",
            f"embedding.model='{MODEL}'",
            f"embedding.base_url='{self.url}'",
            "embedding.api_key_env='KEY'",
            f"prices.{MODEL}={{input=0.02,batch=0.01}}",
            *self.sets,
        ]
        world = wiring.World(SystemClock(), {"KEY": KEY})
        settings = load([], {}, sets, self.corpus)
        parts = dataclasses.replace(wiring.parts(settings, world), build_lexical=lexical_in_process)
        if asked.batch:
            parts = wiring.by_batch(parts, settings, world)
            assert parts.batches
            parts.batches.limits = limits = RequestLimits(LINE, 60_000, 8192)
            parts.batches.texts_per_file = self.texts_per_file
            parts = dataclasses.replace(parts, terms=dataclasses.replace(parts.terms, limits=limits))
        return Reindex(parts, asked)

    def index(self, **options: Any) -> Outcome:
        with self.run(**options) as run:
            return reindex(run)

    def plan(self, **options: Any) -> Plan:
        with self.run(command="ragline plan", purpose="plan", **options) as run:
            return plan_only(run)

    def settled(self) -> None:
        settled(self.url)

    def published(self, most: int = 10) -> Outcome:
        """`index --batch` again and again, until nothing is under way."""
        for _ in range(most):
            outcome = self.index(batch=True)
            if not outcome.in_batches:
                return outcome
            self.settled()
        raise AssertionError(outcome.message)


def settled(url: str) -> None:
    """Wait until every batch of the simulator has ended."""
    address = url.removesuffix("/v1") + "/sim/batches"
    until = time.monotonic() + 30
    while True:
        with urllib.request.urlopen(address) as reply:
            if all(batch["status"] in ENDS for batch in json.load(reply)["data"]):
                return
        assert time.monotonic() < until
        time.sleep(0.002)


def fill(house: House) -> None:
    for number in range(24):
        house.write(f"n{number:02}.md", f"# Note {number}\n\nText number {number} of the notes.\n")


def main() -> int:
    """`root url texts_per_file`: index by the batch until it is published; what it comes to is a line on stdout."""
    house = BatchHouse(Path(sys.argv[1]), sys.argv[2])
    house.texts_per_file = int(sys.argv[3])
    try:
        outcome = house.published()
    except RaglineError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write(f"{outcome.reason} {outcome.version}\n")
    return outcome.exit_code


if __name__ == "__main__":
    raise SystemExit(main())
