"""Every value that trec_eval printed in its own tests, for the measures we have, to the printed digits."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest

from eval import trec
from eval.measures import certificate
from eval.measures.certificate import DIGESTS, FIXTURES, Fixture
from eval.measures.document import PAGE, page
from eval.measures.matching import Judgements, Run, best_first, match
from eval.measures.registry import MEASURES, parse
from eval.score import score

CUT = {"ndcg_cut": "nDCG", "map_cut": "AP", "P": "P", "recall": "R", "success": "Success"}
WHOLE = {"ndcg": "nDCG", "map": "AP", "recip_rank": "RR", "Rprec": "Rprec", "bpref": "Bpref"}


def ours(theirs: str, level: int) -> str | None:
    """Our name of a measure of trec_eval."""
    cut = re.fullmatch(r"(\w+)_([0-9]+)", theirs)
    name, cutoff = (CUT.get(cut[1]), f"@{cut[2]}") if cut else (WHOLE.get(theirs), "")
    if name is None:
        return None
    return f"{name}(rel={level}){cutoff}" if level > 1 and "rel" in MEASURES[name].parameters else name + cutoff


def cut_off(run: Run, depth: int) -> Run:
    """As trec_eval's -M: the best of each query."""
    rows = best_first(run, np.arange(len(run.document)))
    rank = rows * 0 + np.arange(len(rows)) - np.repeat(run.starts[:-1], np.diff(run.starts))
    kept = rows[rank < depth]
    starts = np.concatenate([[0], np.cumsum(np.minimum(np.diff(run.starts), depth))])
    assert run.score is not None
    return Run(run.queries, run.documents, starts, run.document[kept], run.score[kept])


def printed(path: Path) -> list[tuple[str, str, str]]:
    rows = (line.split() for line in path.read_text().splitlines())
    return [(row[0], row[1], row[2]) for row in rows]


def compared(folder: Path, fixture: Fixture) -> int:
    """How many values were compared; all are equal."""
    judgements, run = trec.read_qrels(folder / fixture.qrels), trec.read_run(folder / fixture.run)
    if fixture.depth is not None:
        run = cut_off(run, fixture.depth)
    wanted = [
        (name, query, value)
        for theirs, query, value in printed(folder / fixture.printed)
        if (name := ours(theirs, fixture.level))
    ]
    scores = score(match(judgements, run), parse(name for name, _, _ in wanted))
    names = [str(measure) for measure in scores.measures]
    values = dict(zip(scores.queries, scores.values.tolist(), strict=True)) | {"all": list(scores.means)}
    wrong = [
        (name, query, value) for name, query, value in wanted if f"{values[query][names.index(name)]:.4f}" != value
    ]
    assert wrong == []
    return len(wanted)


def test_every_printed_value_is_equal_and_the_certificate_says_how_many(datasets: Path) -> None:
    folder = datasets / "trec-eval-vectors"
    files = {name for each in FIXTURES for name in (each.printed, each.qrels, each.run)}
    assert {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files} == DIGESTS
    counts = [compared(folder, fixture) for fixture in FIXTURES]
    assert min(counts) > 10
    assert sum(counts) == certificate.VALUES


def test_what_trec_eval_counts_as_unjudged_is_the_rest_of_what_is_judged(datasets: Path) -> None:
    folder = datasets / "trec-eval-vectors"
    judgements, run = trec.read_qrels(folder / "qrels.test"), trec.read_run(folder / "results.test")
    scores = score(match(judgements, run), parse(["Judged@5", "Judged@10", "Judged@20"]))
    shares = {f"unj_{measure.cutoff}": 1 - scores.values[:, at] for at, measure in enumerate(scores.measures)}
    rows = [row for row in printed(folder / "out.test.aq") if row[0] in shares and row[1] != "all"]
    assert len(rows) == 9
    for name, query, value in rows:
        assert f"{shares[name][scores.queries.index(query)]:.4f}" == value


# ir_measures reads its names by what Python 3.14 has no more
@pytest.mark.filterwarnings(r"ignore:(ast\.\w+|Attribute [ns]) is deprecated:DeprecationWarning")
def test_the_reference_packages_agree(datasets: Path) -> None:
    ir_measures = pytest.importorskip("ir_measures")
    folder = datasets / "trec-eval-vectors"
    qrels, run = folder / "ir_measures.compat.qrels", folder / "ir_measures.compat.run"
    names = ["nDCG@10", "nDCG", "P@5", "P(rel=2)@5", "R@10", "R(rel=2)@10", "RR", "RR@10"]
    names += ["AP", "AP@100", "AP(rel=2)", "Success@5", "Judged@10", "Rprec", "Bpref"]
    scores = score(match(trec.read_qrels(qrels), trec.read_run(run)), parse(names))
    theirs: dict[tuple[str, str], float] = {}
    for name in names:
        try:
            found = list(
                ir_measures.iter_calc(
                    [ir_measures.parse_measure(name)],
                    list(ir_measures.read_trec_qrels(str(qrels))),
                    list(ir_measures.read_trec_run(str(run))),
                )
            )
        except ValueError:  # no package installed that computes it
            continue
        theirs |= {(each.query_id, name): each.value for each in found}
    assert len(theirs) == len(names) * len(scores.queries)
    values = {
        (query, name): value
        for query, row in zip(scores.queries, scores.values.tolist(), strict=True)
        for name, value in zip(names, row, strict=True)
    }
    assert {key: values[key] for key in theirs} == pytest.approx(theirs, abs=1e-12)


def test_the_page_of_the_measures_is_what_the_registry_makes() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m eval.measures.document"


def as_dicts(judgements: Judgements, run: Run) -> tuple[dict[str, dict[str, int]], dict[str, dict[str, float]]]:
    assert run.score is not None
    qrels: dict[str, dict[str, int]] = {query: {} for query in judgements.queries}
    for query, start, end in zip(judgements.queries, judgements.starts, judgements.starts[1:], strict=False):
        for row in range(start, end):
            qrels[query][judgements.documents[judgements.document[row]]] = int(judgements.grade[row])
    runs: dict[str, dict[str, float]] = {query: {} for query in run.queries}
    for query, start, end in zip(run.queries, run.starts, run.starts[1:], strict=False):
        for row in range(start, end):
            runs[query][run.documents[run.document[row]]] = float(run.score[row])
    return qrels, runs


def test_pytrec_eval_agrees(datasets: Path) -> None:
    pytrec_eval = pytest.importorskip("pytrec_eval")
    folder = datasets / "trec-eval-vectors"
    judgements, run = trec.read_qrels(folder / "qrels.test"), trec.read_run(folder / "results.test")
    wanted = {
        "ndcg_cut.5,10",
        "map",
        "map_cut.100",
        "P.5",
        "recall.10,100",
        "recip_rank",
        "Rprec",
        "bpref",
        "success.5",
    }
    theirs = pytrec_eval.RelevanceEvaluator(as_dicts(judgements, run)[0], wanted).evaluate(as_dicts(judgements, run)[1])
    for query, row in theirs.items():
        names = [ours(name, 1) or "" for name in row]
        scores = score(match(judgements, run), parse(names))
        assert scores.values[scores.queries.index(query)].tolist() == pytest.approx(list(row.values()), abs=1e-12)
