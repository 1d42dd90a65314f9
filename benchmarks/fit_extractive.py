"""Fits the constants of `local/extractive`, and tells how well it does on questions that nothing was fitted on.

    RAGLINE_DATASETS=... PYTHONPATH=. python benchmarks/fit_extractive.py

Fitted on one half (seeded, by gold passage) of the SQuAD slice and of CLAPNQ, each set with half the weight, through
the whole pipeline with default settings. Told of the other halves and of the shipped questions, on which no
constant is fitted; but the columns, the signs and SECOND were chosen with their figures in view. An absent question is asked of passages that cannot answer it: of another set, or of SQuAD's other articles.

The choice is a conditional logit: the chance of each sentence is exp(score) over the sum of all, and the chance that a
sentence holding the answer is picked is maximised. Trust is a logistic regression of answerable against absent
questions. Both by Newton's method with a small ridge. The offset lets `ABSENT` of the absent questions be answered.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from extractive_questions import Asked, contains, questions, retrieve, right, right_passage, touches
from measure import save

from rag import wiring
from rag.generation import extractive
from rag.generation.evidence import Evidence, Rarity, evidence, parse
from rag.generation.extractive import Constants, ExtractiveGenerator, choose, pick, signs
from rag.generation.nearness import Embed, WordVectors
from rag.generation.sentences import shown
from rag.pipeline import Options, reindex
from rag.retrieval.lexical import lexical_index
from rag.settings import load

RIDGE = 1e-3
ABSENT = 0.10

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
                    text = " ".join(
                        shown(found.candidates[place][0].text, found.candidates[place][1]) for place in quoted
                    )
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


def per_second(asked: Sequence[Asked], rarity: dict[str, Rarity], embed: Embed | None) -> int:
    """Questions a CPU-second with five passages, over all held-out questions of all sets, beginning with nothing."""
    many, seconds = 0, 0.0
    for home, rare in rarity.items():
        parse.cache_clear()
        mine = [one for one in asked if one.home == home and not one.fitted]
        generator = ExtractiveGenerator(rare, embed)

        async def run(
            mine: Sequence[Asked] = mine, home: str = home, generator: ExtractiveGenerator = generator
        ) -> None:
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
