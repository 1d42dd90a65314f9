"""Ten ranking measures over 10,000 queries x 100 results, against pytrec_eval where it is installed, in one run.

CPU seconds, ratios pair by pair. pytrec_eval is no dependency of the project: make a throw-away environment with it,
numpy and this project, and run this file there. Without it the peer is a plain loop over dicts.
"""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from measure import cpu_seconds, peak_mb, ratio, save

from eval import trec
from eval.measures import registry
from eval.measures.matching import Judgements, Run, match, match_dicts
from eval.score import score

QUERIES, RESULTS, JUDGED, DOCUMENTS = 10_000, 100, 10, 100_000
MEASURES = registry.parse(["nDCG@10", "nDCG@100", "AP", "AP@100", "RR", "P@5", "P@10", "R@10", "R@100", "Success@5"])
THEIRS = {"ndcg_cut.10,100", "map", "map_cut.100", "recip_rank", "P.5,10", "recall.10,100", "success.5"}
NAMES = [
    "ndcg_cut_10",
    "ndcg_cut_100",
    "map",
    "map_cut_100",
    "recip_rank",
    "P_5",
    "P_10",
    "recall_10",
    "recall_100",
    "success_5",
]

Qrels = dict[str, dict[str, int]]
Runs = dict[str, dict[str, float]]


def made(judged_per_query: int = JUDGED) -> tuple[Judgements, Run]:
    """Half of the judged documents are retrieved; grades 0 to 3; scores fall and never tie."""
    rng = np.random.default_rng(0)
    base = rng.integers(0, DOCUMENTS - 1000, QUERIES)[:, None]
    spread = np.argsort(rng.random((QUERIES, 1000)), axis=1)[:, : RESULTS + judged_per_query // 2] + base
    retrieved = spread[:, :RESULTS]
    found = np.argsort(rng.random((QUERIES, RESULTS)), axis=1)[:, : judged_per_query // 2]
    judged = np.concatenate([np.take_along_axis(retrieved, found, 1), spread[:, RESULTS:]], axis=1)
    judged.sort(axis=1)  # as `trec.read_qrels` gives them
    scores = -np.sort(-rng.random((QUERIES, RESULTS)).astype(np.float32).astype(np.float64), axis=1)
    scores -= np.arange(RESULTS) * 1e-3
    queries, documents = [f"q{at}" for at in range(QUERIES)], [f"document-{at:06d}" for at in range(DOCUMENTS)]
    grades = rng.integers(0, 4, judged.size)
    return (
        Judgements(
            queries, documents, np.arange(QUERIES + 1) * judged_per_query, judged.ravel().astype(np.int32), grades
        ),
        Run(queries, documents, np.arange(QUERIES + 1) * RESULTS, retrieved.ravel().astype(np.int32), scores.ravel()),
    )


def shuffled(run: Run) -> Run:
    assert run.score is not None
    order = np.argsort(np.random.default_rng(1).random((QUERIES, RESULTS)), axis=1) + run.starts[:-1, None]
    return Run(run.queries, run.documents, run.starts, run.document[order.ravel()], run.score[order.ravel()])


def as_dicts(judgements: Judgements, run: Run) -> tuple[Qrels, Runs]:
    def table(part: Judgements | Run, values: list) -> dict:
        names = [part.documents[code] for code in part.document.tolist()]
        cuts = part.starts.tolist()
        return {
            query: dict(zip(names[start:end], values[start:end], strict=True))
            for query, start, end in zip(part.queries, cuts, cuts[1:], strict=False)
        }

    assert run.score is not None
    return table(judgements, judgements.grade.tolist()), table(run, run.score.tolist())


def loop(qrels: Qrels, runs: Runs) -> list[list[float]]:
    """The same ten measures, query by query, as one writes them down."""
    values = []
    for query, judged in qrels.items():
        found = runs.get(query, {})
        ranked = sorted(sorted(found, reverse=True), key=found.__getitem__, reverse=True)
        grades = [judged.get(document, 0) for document in ranked]
        ideal = sorted(judged.values(), reverse=True)
        relevant = sum(grade > 0 for grade in ideal)

        def dcg(of: list[int], cutoff: int) -> float:
            return sum(grade / math.log2(rank + 2) for rank, grade in enumerate(of[:cutoff]) if grade > 0)

        def hits(cutoff: int, of: list[int] = grades) -> int:
            return sum(grade > 0 for grade in of[:cutoff])

        total, precisions, first = 0, 0.0, 0.0
        for rank, grade in enumerate(grades):
            if grade > 0:
                total += 1
                precisions += total / (rank + 1)
                first = first or 1 / (rank + 1)
        of = relevant or 1
        ndcg = [dcg(grades, cutoff) / (dcg(ideal, cutoff) or 1) for cutoff in (10, 100)]
        rest = [hits(5) / 5, hits(10) / 10, hits(10) / of, hits(100) / of, float(hits(5) > 0)]
        values.append([*ndcg, precisions / of, precisions / of, first, *rest])
    return values


def peer(qrels: Qrels, runs: Runs) -> tuple[str, Callable[[], object], np.ndarray]:
    """Its name, the call that gives all values, and these values."""
    try:
        import pytrec_eval
    except ModuleNotFoundError:
        return "a plain loop over dicts", lambda: loop(qrels, runs), np.array(loop(qrels, runs))
    from importlib.metadata import version

    def call() -> dict[str, dict[str, float]]:
        return pytrec_eval.RelevanceEvaluator(qrels, THEIRS).evaluate(runs)

    values = np.array([[row[name] for name in NAMES] for row in map(call().__getitem__, qrels)])
    return f"pytrec_eval-terrier {version('pytrec_eval-terrier')}", call, values


def named(pair: dict[str, float], goal: float | None = None) -> dict[str, float | None]:
    """`measure.ratio` with the peer's name in place of the floor's."""
    return {
        "ours_cpu_s": pair["ours_cpu_s"],
        "peer_cpu_s": pair["floor_cpu_s"],
        "times_faster": pair["ratio"],
        "goal": goal,
        "rounds": pair["rounds"],
    }


def reading(judgements: Judgements, run: Run) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        writing = cpu_seconds(lambda: trec.write_run(path, run))
        again = trec.read_run(path)
        assert again.score is not None
        assert (again.score == run.score).all()
        assert (
            score(match(judgements, again), MEASURES).values == score(match(judgements, run), MEASURES).values
        ).all()
        return {
            "megabytes": path.stat().st_size / 1e6,
            "write_cpu_s": writing,
            "read_cpu_s": min(cpu_seconds(lambda: trec.read_run(path)) for _ in range(3)),
        }


def by_density(judged_per_query: int) -> dict[str, dict[str, float | None]]:
    judgements, run = made(judged_per_query)
    given = Run(run.queries, run.documents, run.starts, run.document, None)
    qrels, runs = as_dicts(judgements, run)
    theirs = peer(qrels, runs)[1]
    return {
        "from_dicts": named(ratio(lambda: score(match_dicts(qrels, runs), MEASURES), theirs, 3), 2),
        "from_arrays_best_first": named(ratio(lambda: score(match(judgements, given), MEASURES), theirs, 3), 15),
    }


def main() -> None:
    judgements, run = made()
    qrels, runs = as_dicts(judgements, run)
    given = Run(run.queries, run.documents, run.starts, run.document, None)
    mixed = shuffled(run)
    mixed_runs = as_dicts(judgements, mixed)[1]
    name, theirs, values = peer(qrels, runs)
    ours = score(match(judgements, run), MEASURES).values
    for other in (
        match_dicts(qrels, runs),
        match(judgements, given),
        match(judgements, mixed),
        match_dicts(qrels, mixed_runs),
    ):
        assert (score(other, MEASURES).values == ours).all()
    alone = match(judgements, run)
    results = {
        "queries": QUERIES,
        "results_per_query": RESULTS,
        "judged_per_query": JUDGED,
        "measures": [str(measure) for measure in MEASURES],
        "peer": name,
        "numpy": np.__version__,
        "largest_difference": float(np.abs(ours - values).max()),
        "by_judged_per_query": {str(count): by_density(count) for count in (2, 4, 20)},
        "from_dicts": named(ratio(lambda: score(match_dicts(qrels, runs), MEASURES), theirs), 2),
        "from_dicts_out_of_order": named(
            ratio(lambda: score(match_dicts(qrels, mixed_runs), MEASURES), peer(qrels, mixed_runs)[1])
        ),
        "from_arrays_best_first": named(ratio(lambda: score(match(judgements, given), MEASURES), theirs), 15),
        "from_arrays_scored": named(ratio(lambda: score(match(judgements, run), MEASURES), theirs), 15),
        "from_arrays_out_of_order": named(ratio(lambda: score(match(judgements, mixed), MEASURES), theirs)),
        "measures_alone_cpu_s": min(cpu_seconds(lambda: score(alone, MEASURES)) for _ in range(5)),
        "a_run_as_a_file": reading(judgements, run),
        "peak_mb": peak_mb(),
    }
    save("measures", results)


if __name__ == "__main__":
    main()
