"""What was sent is exactly what was planned, and nothing is ever sent twice: over a thousand random changes of a corpus."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .conftest import House

WORDS = ["rail", "snow", "pass", "summit", "brake", "tunnel", "switch", "signal", "depot", "bridge", "winter", "valve"]


def sentence(rng: random.Random) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randint(3, 9))).capitalize() + "."


def page(rng: random.Random) -> str:
    parts = [f"# {sentence(rng)}"]
    for _ in range(rng.randint(1, 4)):
        parts += [f"## {sentence(rng)}", " ".join(sentence(rng) for _ in range(rng.randint(1, 12)))]
    return "\n\n".join(parts) + "\n"


def pages(house: House) -> list[Path]:
    return sorted(house.corpus.rglob("*.md"))


def add(house: House, rng: random.Random) -> None:
    house.write(f"p{rng.randint(0, 30)}.md", page(rng))


def edit(house: House, rng: random.Random) -> None:
    path = rng.choice(pages(house))
    lines = path.read_text().split("\n")
    lines[rng.randrange(len(lines))] = rng.choice([sentence(rng), f"## {sentence(rng)}", ""])
    house.write(path.relative_to(house.corpus).as_posix(), "\n".join(lines) or "empty\n")


def delete(house: House, rng: random.Random) -> None:
    if len(pages(house)) > 3:
        rng.choice(pages(house)).unlink()


def move(house: House, rng: random.Random) -> None:
    path = rng.choice(pages(house))
    target = house.corpus / rng.choice(["x", "y/z", "."]) / f"m{rng.randint(0, 99)}.md"
    target.parent.mkdir(parents=True, exist_ok=True)
    path.rename(target)


def copy(house: House, rng: random.Random) -> None:
    house.write(f"copy{rng.randint(0, 9)}.md", rng.choice(pages(house)).read_text())


def touch(house: House, rng: random.Random) -> None:
    os.utime(rng.choice(pages(house)))


def front_matter(house: House, rng: random.Random) -> None:
    path = rng.choice(pages(house))
    body = path.read_text().split("---\n")[-1]
    house.write(path.relative_to(house.corpus).as_posix(), f"---\nlang: {rng.choice(WORDS)}\n---\n{body}")


def records(house: House, rng: random.Random) -> None:
    rows = [{"id": f"r{number}", "title": sentence(rng), "text": sentence(rng)} for number in range(rng.randint(1, 5))]
    house.write("records.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def garbage(house: House, rng: random.Random) -> None:
    (house.corpus / f"bin{rng.randint(0, 3)}.png").write_bytes(rng.randbytes(20))


CHANGES: dict[str, Callable[[House, random.Random], None]] = {
    change.__name__: change for change in (add, edit, edit, delete, move, copy, touch, front_matter, records, garbage)
}


@pytest.mark.slow
@settings(max_examples=50)
@given(st.lists(st.sampled_from(sorted(CHANGES)), min_size=20, max_size=20), st.integers(0, 2**32))
def test_what_is_sent_is_what_was_planned_and_never_sent_before(
    tmp_path_factory: pytest.TempPathFactory, changes: list[str], seed: int
) -> None:
    rng = random.Random(seed)
    house = House(tmp_path_factory.mktemp("house"))
    house.sets = ["chunking.max_tokens=48", "chunking.overlap_tokens=8", "index.max_removed_share=1.0"]
    for number in range(4):
        house.write(f"p{number}.md", page(rng))
    house.index()
    ever = set(house.sent())
    for change in changes:
        CHANGES[change](house, rng)
        plan = house.plan()
        outcome = house.index()
        sent = house.sent()
        assert len(sent) == plan.to_embed == outcome.embedded, change
        assert len(set(sent)) == len(sent), "one text was sent twice in a run"
        assert not ever & set(sent), "a text was paid for twice"
        ever.update(sent)
        assert plan.chunks == plan.texts + plan.duplicates
        assert plan.content_digest in (outcome.plan.content_digest, None)
        again = house.index()
        assert (again.reason, house.sent()) == ("unchanged", [])
