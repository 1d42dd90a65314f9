"""Everything at once, by seeds: whatever replies and lines do, no wrong vector is kept and no right one is bought again."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rag.errors import ProviderFailed
from tests.provider import Options, threaded
from tests.provider.faults import DAMAGES
from tests.provider.vectors import digest

from .making import NOW, Desk, right, sentences

PATHS = ["POST /v1/files", "POST /v1/batches", "GET /v1/batches", "GET /v1/files", "DELETE /v1/files"]
FAULTS = ["lost", "half", "reset", "reset_late", "500", "502", "429", "429_after_0", "html", "empty_object", "409"]
WRONG = sorted({*DAMAGES} - {"reversed"})
TEXTS = sentences(26)


QUIET: dict[str, Any] = {"fail_every": 0, "expire": None, "damage": "", "damaged": "", "repeat": ""}


def terms(rng: random.Random) -> dict[str, Any]:
    """How the batches of one visit go."""
    made = dict(QUIET)
    match rng.randrange(6):
        case 0:
            made["fail_every"] = rng.randint(2, 4)
        case 1:
            made["expire"] = rng.random()
        case 2:
            made["damage"], made["damaged"] = rng.choice(WRONG), f"number {rng.randrange(26)} "
        case 3:
            made["repeat"] = f"number {rng.randrange(26)} "
        case 4:
            made["damage"] = "reversed"
    return {**made, "seed": rng.randrange(100)}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(50))
def test_whatever_goes_wrong_the_vectors_are_right_and_right_ones_are_bought_once(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    wrong: Counter[str] = Counter()
    with threaded(
        Options(batch={**NOW, "refuse": "number 13 ", "enqueued_tokens": rng.choice([60, 100, 10**9])})
    ) as sim:
        desk = Desk(sim, tmp_path / "store")
        desk.visits(["the first one"])  # of a model that nobody knows it says how wide vectors are
        desk.texts_per_file = rng.choice([4, 12, 50_000])
        for visit in range(40):
            calm = visit > 25
            now = QUIET if calm else terms(rng)
            sim.batches(**now)
            spoilt = now["damaged"] if now["damage"] in WRONG else now["repeat"]
            placed = [{"faults": FAULTS, "rate": 0.15, "seed": rng.randrange(10**6), "path": path} for path in PATHS]
            sim.faults(*([] if calm else placed))
            before = Counter(sim.bill()["texts"])
            try:
                found = desk.visit(TEXTS, give_up=rng.random() < 0.1 and not calm and not desk.jobs)
            except ProviderFailed as error:
                if "cannot be had by batches" in error.message:
                    break
                continue
            finally:
                desk.settled()
                for name in (Counter(sim.bill()["texts"]) - before) if spoilt else ():
                    wrong[name] += 1
            if not found.missing:
                break
        hit = desk.cache.lookup(desk.wanted(TEXTS).keys).hit
        kept = [text for text, there in zip(TEXTS, hit, strict=True) if there]
        assert np.array_equal(desk.stored(kept), right(kept)), "a wrong vector was kept"
        bill = sim.bill()["texts"]
        for text in TEXTS:
            name = digest(text).hex()
            assert bill.get(name, 0) <= 1 + wrong[name], text
        assert all(bill.get(digest(text).hex()) for text in kept)
        assert not hit[13]
        if not found.missing:
            assert hit.sum() == 25
            assert {*found.refused} <= {desk.wanted(TEXTS).keys[13].tobytes()}
