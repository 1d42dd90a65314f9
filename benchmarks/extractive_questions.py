"""The questions that `local/extractive` is fitted on and measured with, and when an answer is right."""

from __future__ import annotations

import functools
import json
import os
import random
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rag import wiring
from rag.generation.evidence import Evidence
from rag.sync import run_sync
from rag.types import Passage

ROOT = Path(__file__).resolve().parents[1]
DATASETS = Path(os.environ.get("RAGLINE_DATASETS", ROOT.parent / "shared" / "datasets"))
ELSEWHERE = "other articles"


@dataclass(slots=True)
class Asked:
    """A question, what is right, and what was retrieved where: `arms[name]`, its own set's under its own name."""

    home: str
    question: str
    answers: Sequence[str]
    answerable: bool
    fitted: bool
    gold: Sequence[tuple[str, int, int]]
    """Document and span: any part of it may be cited."""
    holding: Callable[[str], bool]
    """Whether a cited text is right, beside touching the gold span."""
    arms: dict[str, list[Passage]] = field(default_factory=dict)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def half(ids: set[str]) -> set[str]:
    """The half that is fitted on."""
    ordered = sorted(ids)
    random.Random(0).shuffle(ordered)
    return set(ordered[: len(ordered) // 2])


def tokens(text: str) -> str:
    bare = "".join(sign for sign in text.lower() if sign not in string.punctuation)
    return f" {' '.join(word for word in bare.split() if word not in {'a', 'an', 'the'})} "


def contains(text: str, expected: Sequence[str]) -> bool:
    """SQuAD's normalisation; whole words."""
    return any(tokens(one) in tokens(text) for one in expected)


def one_space(text: str) -> str:
    return " ".join(text.split())


def overlaps(quote: str, sentences: Sequence[str]) -> bool:
    """Whether the quote is one of the sentences, a part of one, or holds one."""
    return any(one_space(quote) in one or one in one_space(quote) for one in sentences)


def questions(folder: Path) -> tuple[dict[str, Path], list[Asked]]:
    squad, clapnq = DATASETS / "squad2-dev-slice", rows(DATASETS / "clapnq-dev-a" / "clapnq.jsonl")
    corpus = folder / "clapnq.jsonl"
    passages = [{"id": row["id"], **{key: row["passages"][0][key] for key in ("title", "text")}} for row in clapnq]
    corpus.write_text("\n".join(map(json.dumps, passages)) + "\n", encoding="utf-8")
    text = {row["id"]: row["text"] for row in [*rows(squad / "passages.jsonl"), *passages]}
    asked = []
    fitted = half({row["id"] for row in rows(squad / "passages.jsonl")})
    for row in rows(squad / "questions.jsonl"):
        gold, right = row["gold_passage_id"], row["answers"]
        span = (gold, 0, len(text[gold]))
        holds = functools.partial(contains, expected=right)
        asked.append(Asked("squad", row["question"], right, row["answerable"], gold in fitted, [span], holds))
    fitted = half({row["id"] for row in clapnq})
    for row in clapnq:
        right = [one_space(one) for output in row["output"] for one in output.get("selected_sentences") or []]
        holds = functools.partial(overlaps, sentences=right)
        span = (row["id"], 0, len(text[row["id"]]))
        asked.append(Asked("clapnq", row["input"], right, row["answerable"], row["id"] in fitted, [span], holds))
    for row in rows(ROOT / "data" / "questions" / "vallorne.jsonl"):
        spans = [(gold["doc_id"], gold["start"], gold["end"]) for gold in row["gold"]]
        asked.append(Asked("shipped", row["question"], row["answers"], row["answerable"], False, spans, lambda _: True))
    return {"squad": squad / "passages.jsonl", "clapnq": corpus, "shipped": ROOT / "data" / "corpus"}, asked


def retrieve(desks: dict[str, wiring.Desk], asked: Sequence[Asked]) -> None:
    for name, desk in desks.items():
        found = run_sync(desk.aretrieve_many([one.question for one in asked]))
        for one, passages in zip(asked, found, strict=True):
            one.arms[name] = passages
    mine = [one for one in asked if one.home == "squad"]
    for one, passages in zip(
        mine, run_sync(desks["squad"].aretrieve_many([one.question for one in mine], 250)), strict=True
    ):
        article = one.gold[0][0].partition("#")[0]
        others = [passage for passage in passages if not passage.doc_id.startswith(f"{article}#")][:5]
        one.arms[ELSEWHERE] = [replace(passage, rank=rank) for rank, passage in enumerate(others, 1)]


def right(one: Asked, passage: Passage, start: int, end: int) -> bool:
    """Whether a citation of `passage.text[start:end]` touches what is right, in this passage or a copy of it."""
    places = [(passage.doc_id, passage.start + start, passage.start + end)]
    places += [(copy.doc_id, copy.start + start, copy.start + end) for copy in passage.also_in]
    touched = any(
        doc == gold and begin < high and low < stop for doc, begin, stop in places for gold, low, high in one.gold
    )
    return touched and one.holding(passage.text[start:end])


def touches(one: Asked, found: Evidence | None, places: Sequence[int]) -> bool:
    if not found:
        return False
    quoted = [found.candidates[place] for place in places]
    return any(right(one, passage, unit.start, unit.end) for passage, unit in quoted)


def right_passage(one: Asked, passage: Passage) -> bool:
    ids = {passage.doc_id, *(copy.doc_id for copy in passage.also_in)}
    return any(doc in ids and passage.start < high and low < passage.end for doc, low, high in one.gold)
