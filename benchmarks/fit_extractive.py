"""Fits the constants of `local/extractive`, and tells how well it does on questions that nothing was fitted on.

    RAGLINE_DATASETS=... PYTHONPATH=. python benchmarks/fit_extractive.py

Fitted on one half (seeded, by gold passage) of the SQuAD slice and of CLAPNQ, each set with half the weight, through
the whole pipeline with default settings. Told of the other halves and of the shipped questions, which no constant has
seen. An absent question is asked of passages that cannot answer it: of another set, or of SQuAD's other articles.

The choice is a conditional logit: the chance of each sentence is exp(score) over the sum of all, and the chance that a
sentence holding the answer is picked is maximised. Trust is a logistic regression of answerable against absent
questions. Both by Newton's method with a small ridge. The offset lets `ABSENT` of the absent questions be answered.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import string
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from measure import save

from rag import wiring
from rag.generation import extractive
from rag.generation.evidence import Evidence, Rarity, evidence, parse
from rag.generation.extractive import Constants, ExtractiveGenerator, choose, pick, signs
from rag.generation.nearness import Embed, WordVectors
from rag.generation.sentences import Unit, shown
from rag.pipeline import Options, reindex
from rag.providers.facade import run_sync
from rag.retrieval.lexical import lexical_index
from rag.settings import load
from rag.types import Passage

ROOT = Path(__file__).resolve().parents[1]
DATASETS = Path(os.environ.get("RAGLINE_DATASETS", ROOT.parent / "shared" / "datasets"))
RIDGE = 1e-3
ABSENT = 0.10
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
        holds = (lambda quote, right=right: contains(quote, right))
        asked.append(Asked("squad", row["question"], right, row["answerable"], gold in fitted, [span], holds))
    fitted = half({row["id"] for row in clapnq})
    for row in clapnq:
        right = [one_space(one) for output in row["output"] for one in output.get("selected_sentences") or []]
        holds = (
            lambda quote, right=right: any(one_space(quote) in one or one in one_space(quote) for one in right)
        )
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
    for one, passages in zip(mine, run_sync(desks["squad"].aretrieve_many([one.question for one in mine], 250)), strict=True):
        article = one.gold[0][0].partition("#")[0]
        others = [passage for passage in passages if not passage.doc_id.startswith(f"{article}#")][:5]
        one.arms[ELSEWHERE] = [replace(passage, rank=rank) for rank, passage in enumerate(others, 1)]


def right(one: Asked, passage: Passage, start: int, end: int) -> bool:
    """Whether a citation of `passage.text[start:end]` touches what is right, in this passage or a copy of it."""
    places = [(passage.doc_id, passage.start + start, passage.start + end)]
    for copy in passage.also_in:
        doc_id, _, where = copy.rpartition("@")
        begin = int(where.partition("-")[0])
        places.append((doc_id, begin + start, begin + end))
    touched = any(
        doc == gold and begin < high and low < stop for doc, begin, stop in places for gold, low, high in one.gold
    )
    return touched and one.holding(passage.text[start:end])


Weighed = dict[tuple[int, str], Evidence | None]


async def weigh(asked: Sequence[Asked], rarity: dict[str, Rarity], vectors: WordVectors | None) -> Weighed:
    """The evidence of every question in every arm, by the question's number and the arm."""
    return {
        (number, arm): await evidence(one.question, passages, rarity.get(arm, rarity["squad"]), vectors)
        for number, one in enumerate(asked)
        for arm, passages in one.arms.items()
    }


def newton(step: Callable[[Any], tuple[Any, Any]], width: int) -> Any:
    """The minimum of a convex loss whose gradient and Hessian `step` gives."""
    weights = np.zeros(width)
    for _ in range(50):
        gradient, hessian = step(weights)
        change = np.linalg.solve(hessian, gradient)
        weights = weights - change
        if np.abs(change).max() < 1e-8:
            break
    return weights


def fit_choice(asked: Sequence[Asked], weighed: Weighed) -> Any:
    seen = []
    for number, one in enumerate(asked):
        found = weighed[number, one.home]
        if one.fitted and one.answerable and found:
            good = np.array([right(one, passage, unit.start, unit.end) for passage, unit in found.candidates])
            if good.any():
                seen.append((one.home, found.columns, good))
    many = Counter(home for home, _, _ in seen)

    def step(weights: Any) -> tuple[Any, Any]:
        gradient, hessian = 2 * RIDGE * weights, 2 * RIDGE * np.eye(len(weights))
        for home, columns, good in seen:
            score = columns @ weights
            chance = np.exp(score - score.max())
            chance /= chance.sum()
            among = chance * good / (chance @ good)
            mean, mean_good = chance @ columns, among @ columns
            share = 0.5 / many[home]
            gradient = gradient + share * (mean - mean_good)
            # only the convex part of the Hessian, so that every step goes down
            hessian = hessian + share * ((columns * chance[:, None]).T @ columns - np.outer(mean, mean))
        return gradient, hessian

    return np.round(newton(step, seen[0][1].shape[1]), 2)


def fit_trust(asked: Sequence[Asked], weighed: Weighed, choice: Any) -> tuple[Any, float]:
    groups: dict[tuple[str, str], list[Any]] = {}
    for number, one in enumerate(asked):
        for arm in one.arms:
            found = weighed[number, arm]
            if not one.fitted or arm == "shipped" or (arm == one.home and not one.answerable):
                continue
            if found:
                groups.setdefault((one.home, arm), []).append(signs(found, choose(found, choice)))
    present = {key for key in groups if key[0] == key[1]}
    kinds = Counter((home, (home, arm) in present) for home, arm in groups)
    inputs, labels, shares = [], [], []
    for key, found_signs in groups.items():
        share = 0.25 / kinds[key[0], key in present] / len(found_signs)
        inputs += [np.array([*one, 1.0]) for one in found_signs]
        labels += [float(key in present)] * len(found_signs)
        shares += [share] * len(found_signs)
    x, y, a = np.array(inputs), np.array(labels), np.array(shares)
    ridge = RIDGE * np.diag([*np.ones(x.shape[1] - 1), 0.0])

    def step(weights: Any) -> tuple[Any, Any]:
        chance = 1 / (1 + np.exp(-x @ weights))
        hessian = (x * (a * chance * (1 - chance))[:, None]).T @ x
        return x.T @ (a * (chance - y)) + 2 * ridge @ weights, hessian + 2 * ridge

    trust = np.round(newton(step, x.shape[1])[:-1], 2)
    absent = {key: np.array(found) @ trust for key, found in groups.items() if key not in present}
    offsets = np.arange(-1000, 1) / 100
    answered = [np.mean([(scores + offset > 0).mean() for scores in absent.values()]) for offset in offsets]
    return trust, float(offsets[np.flatnonzero(np.array(answered) <= ABSENT).max()])


def told(asked: Sequence[Asked], weighed: Weighed, constants: Constants) -> dict[str, dict[str, float]]:
    """The figures of each set on questions that were not fitted on; Contains counts an abstention as a miss."""
    table: dict[str, dict[str, float]] = {}
    for home in ("squad", "clapnq", "shipped"):
        seen: dict[str, list[float]] = {}
        for number, one in enumerate(asked):
            if one.home != home or one.fitted:
                continue
            for arm in one.arms:
                found = weighed[number, arm]
                quoted = pick(found, constants) if found else []
                if arm != home:
                    seen.setdefault(f"answered, absent ({arm})", []).append(bool(quoted))
                elif not one.answerable:
                    seen.setdefault("answered, unanswerable", []).append(bool(quoted))
                else:
                    hit = touches(one, found, quoted)
                    text = " ".join(shown(*textual(found, place)) for place in quoted) if found else ""
                    seen.setdefault("contains", []).append(contains(text, one.answers))
                    seen.setdefault("citation touches gold", []).append(hit)
                    seen.setdefault("abstained, answerable", []).append(not quoted)
                    whatever = [choose(found, constants.choice)] if found else []
                    seen.setdefault("touches gold, never abstaining", []).append(touches(one, found, whatever))
                    if quoted:
                        seen.setdefault("touches gold, of those answered", []).append(hit)
                        seen.setdefault("sentences, of those answered", []).append(len(quoted))
                    if any(right_passage(one, passage) for passage in one.arms[arm][:2]):
                        seen.setdefault("touches gold, gold passage first or second", []).append(hit)
        table[home] = {name: round(float(np.mean(values)), 3) for name, values in sorted(seen.items())}
    return table


def textual(found: Evidence, place: int) -> tuple[str, Unit]:
    passage, unit = found.candidates[place]
    return passage.text, unit


def touches(one: Asked, found: Evidence | None, places: Sequence[int]) -> bool:
    if not found:
        return False
    quoted = [found.candidates[place] for place in places]
    return any(right(one, passage, unit.start, unit.end) for passage, unit in quoted)


def right_passage(one: Asked, passage: Passage) -> bool:
    ids = {passage.doc_id, *(copy.rpartition("@")[0] for copy in passage.also_in)}
    return any(doc in ids and passage.start < high and low < passage.end for doc, low, high in one.gold)


def per_second(asked: Sequence[Asked], rarity: dict[str, Rarity], embed: Embed | None) -> int:
    """Questions a CPU-second with five passages, over all held-out questions of all sets, nothing remembered at first."""
    many, seconds = 0, 0.0
    for home in rarity:
        parse.cache_clear()
        mine = [one for one in asked if one.home == home and not one.fitted]
        generator = ExtractiveGenerator(rarity[home], embed)

        async def run(mine: Sequence[Asked] = mine, home: str = home, generator: ExtractiveGenerator = generator) -> None:
            for one in mine:
                await generator.complete(one.question, one.arms[home])

        began = time.process_time()
        asyncio.run(run())
        seconds += time.process_time() - began
        many += len(mine)
    return round(many / seconds)


def main() -> None:
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        corpora, asked = questions(Path(folder))
        desks = {}
        for name, corpus in corpora.items():
            settings = load([], {}, [f"store='{folder}/{name}'", f"corpus.paths=['{corpus}']"], Path(folder))
            with wiring.reindex(settings, Options(), lambda *_: None) as run:
                reindex(run)
            desks[name] = wiring.Desk(settings)
        retrieve(desks, asked)
        rarity = {name: lexical_index(desk.opened.path).rarity for name, desk in desks.items()}
        for name, embed in (("PLAIN", None), ("WITH_VECTORS", wiring.word_vectors(wiring.World.real()))):
            weighed = asyncio.run(weigh(asked, rarity, WordVectors(embed) if embed else None))
            choice = fit_choice(asked, weighed)
            trust, offset = fit_trust(asked, weighed, choice)
            fitted = Constants(tuple(choice.tolist()), tuple(trust.tolist()), offset)
            same = fitted == getattr(extractive, name)
            results[name] = {
                "fitted": {"choice": fitted.choice, "trust": fitted.trust, "offset": offset},
                "is_what_the_code_holds": same,
                "questions_per_cpu_second": per_second(asked, rarity, embed) if same else None,
                "held_out": told(asked, weighed, fitted),
            }
        for desk in desks.values():
            desk.close()
    save("extractive", results)


if __name__ == "__main__":
    main()
