"""How well each retrieval mode finds what it should, on public sets, through the whole pipeline.

SQuAD slice (answerable questions, the passage is the document) and Cranfield (graded judgements), default settings,
local/wordllama. Documents rank by their best chunk. Intervals: paired bootstrap of the difference to lexical, 2,000 draws,
percentile, over clusters (questions that share a gold document; Cranfield: queries). RAGLINE_DATASETS names the folder.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from measure import save

from rag import wiring
from rag.pipeline import Options, reindex
from rag.settings import load

ROOT = Path(__file__).resolve().parents[1]
DATASETS = Path(os.environ.get("RAGLINE_DATASETS", ROOT.parent / "shared" / "datasets"))
MODES = ("lexical", "dense", "hybrid", "rrf")
MEASURES = ("R@1", "R@5", "nDCG@10")
Grades = dict[str, int]


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def squad() -> tuple[Path, list[tuple[str, Grades]], list[str]]:
    folder = DATASETS / "squad2-dev-slice"
    asked = [row for row in rows(folder / "questions.jsonl") if row["answerable"]]
    questions = [(row["question"], {str(row["gold_passage_id"]): 1}) for row in asked]
    return folder / "passages.jsonl", questions, [str(row["gold_passage_id"]) for row in asked]


def cranfield() -> tuple[Path, list[tuple[str, Grades]], list[str]]:
    folder = DATASETS / "cranfield"
    grades: dict[str, Grades] = {}
    for line in (folder / "qrels.graded.trec").read_text(encoding="utf-8").splitlines():
        query, _, document, grade = line.split()
        grades.setdefault(query, {})[document] = int(grade)
    asked = [row for row in rows(folder / "queries.jsonl") if str(row["id"]) in grades]
    questions = [(row["text"], grades[str(row["id"])]) for row in asked]
    return folder / "corpus.jsonl", questions, [str(row["id"]) for row in asked]


def scores(ranking: list[str], grades: Grades) -> list[float]:
    """R@1, R@5, nDCG@10 with gain = grade and discount log2(rank + 1), as trec_eval."""
    relevant = {document for document, grade in grades.items() if grade > 0}
    recall = [len(relevant & set(ranking[:k])) / len(relevant) for k in (1, 5)]
    discounts = 1 / np.log2(np.arange(2, 12))
    gains = [max(grades.get(document, 0), 0) for document in ranking[:10]]
    best = sorted((grade for grade in grades.values() if grade > 0), reverse=True)[:10]
    ndcg = float(np.dot(gains, discounts[: len(gains)]) / np.dot(best, discounts[: len(best)]))
    return [*recall, ndcg]


def difference(ours: np.ndarray, theirs: np.ndarray, clusters: list[str]) -> tuple[float, float, float]:
    """Mean paired difference and its 95 % interval over clusters."""
    names = {name: number for number, name in enumerate(dict.fromkeys(clusters))}
    which = np.array([names[name] for name in clusters])
    sums = np.bincount(which, ours - theirs, len(names))
    counts = np.bincount(which, minlength=len(names))
    draws = np.random.Generator(np.random.PCG64(0)).integers(0, len(names), (2000, len(names)))
    means = sums[draws].sum(1) / counts[draws].sum(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float((ours - theirs).mean()), float(low), float(high)


def measure(make: Callable[[], tuple[Path, list[tuple[str, Grades]], list[str]]]) -> dict:
    corpus, questions, clusters = make()
    with tempfile.TemporaryDirectory() as store:
        sets = [f"store='{store}'", f"corpus.paths=['{corpus}']"]
        with wiring.reindex(load([], {}, sets, Path(store)), Options(), lambda *_: None) as run:
            reindex(run)
        found: dict[str, np.ndarray] = {}
        seconds: dict[str, float] = {}
        for mode in MODES:
            with wiring.Desk(load([], {}, [*sets, f"retrieval.mode='{mode}'"], Path(store))) as desk:
                began = time.process_time()
                passages = wiring_many(desk, [question for question, _ in questions])
                seconds[mode] = time.process_time() - began
                ranked = [list(dict.fromkeys(passage.doc_id for passage in part)) for part in passages]
                found[mode] = np.array([scores(r, grades) for r, (_, grades) in zip(ranked, questions, strict=True)])
            chunks = desk.opened.manifest.counts["chunks"]
    table = {}
    for mode in MODES:
        table[mode] = {"cpu_s": round(seconds[mode], 2)}
        for column, name in enumerate(MEASURES):
            entry = {"mean": round(float(found[mode][:, column].mean()), 4)}
            if mode != "lexical":
                delta = difference(found[mode][:, column], found["lexical"][:, column], clusters)
                entry["minus_lexical"] = [round(value, 4) for value in delta]
            table[mode][name] = entry
    better = {}
    for column, name in enumerate(MEASURES):
        single = max(("lexical", "dense"), key=lambda mode: found[mode][:, column].mean())
        delta = difference(found["hybrid"][:, column], found[single][:, column], clusters)
        better[name] = {"better_single": single, "hybrid_minus_it": [round(value, 4) for value in delta]}
    return {"questions": len(questions), "chunks": chunks, "modes": table, "hybrid_against_the_better_single": better}


def wiring_many(desk: wiring.Desk, questions: list[str]) -> list:
    from rag.sync import run_sync

    return run_sync(desk.aretrieve_many(questions, 30))


if __name__ == "__main__":
    save("retrieval", {"squad2-dev-slice": measure(squad), "cranfield": measure(cranfield)})
