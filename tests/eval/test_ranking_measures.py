"""The ranking measures against a twin that goes document by document, and by hand."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.measures.matching import Judgements, Matched, Run, match, match_dicts
from eval.measures.registry import MEASURES, parse, ranking_values
from eval.score import score
from rag.errors import UsageError

NAMES = ["nDCG", "nDCG@3", "nDCG(dcg='exp-log2')@4", "P@1", "P@4", "P(rel=2)@4", "R@3", "R(rel=2)@5", "RR", "RR@2"]
NAMES += ["RR(rel=3)", "AP", "AP@3", "AP(rel=2)", "Success@2", "Success(rel=2)@3", "Judged@1", "Judged@4", "Rprec"]
NAMES += ["Rprec(rel=2)", "Bpref", "Bpref(rel=2)"]

Qrels = dict[str, dict[str, int]]
Runs = dict[str, dict[str, float]]


def twin(name: str, judged: dict[str, int], ranking: list[str]) -> float:
    """One measure of one query, step by step."""
    (measure,) = parse([name])
    settings = dict(measure.settings)
    level = int(settings.get("rel", 1))
    cutoff = measure.cutoff or len(ranking)
    relevant = [document for document in judged if judged[document] >= level]

    def precision(depth: int) -> float:
        return sum(document in relevant for document in ranking[:depth]) / depth

    def dcg(grades: list[int]) -> float:
        total = 0.0
        for rank, grade in enumerate(grades, 1):
            if grade > 0:
                total += (2**grade - 1 if settings.get("dcg") == "exp-log2" else grade) / math.log2(rank + 1)
        return total

    match measure.name:
        case "nDCG":
            ideal = dcg(sorted(judged.values(), reverse=True)[: measure.cutoff])
            return dcg([judged.get(document, 0) for document in ranking[:cutoff]]) / ideal if ideal else 0.0
        case "P":
            return precision(cutoff)
        case "R":
            return precision(cutoff) * cutoff / len(relevant) if relevant else 0.0
        case "RR":
            ranks = [rank for rank, document in enumerate(ranking[:cutoff], 1) if document in relevant]
            return 1 / ranks[0] if ranks else 0.0
        case "AP":
            ranks = [rank for rank, document in enumerate(ranking[:cutoff], 1) if document in relevant]
            return sum(map(precision, ranks)) / len(relevant) if relevant else 0.0
        case "Success":
            return float(any(document in relevant for document in ranking[:cutoff]))
        case "Judged":
            top = ranking[:cutoff]
            return sum(document in judged for document in top) / len(top) if top else 0.0
        case "Rprec":
            return precision(len(relevant)) if relevant else 0.0
        case "Bpref":
            others = [document for document in judged if 0 <= judged[document] < level]
            total, above = 0.0, 0
            for document in ranking:
                above += document in others
                if document in relevant:
                    lost = min(above, len(relevant)) / min(len(others), len(relevant)) if above else 0.0
                    total += 1 - lost
            return total / len(relevant) if relevant else 0.0
    raise AssertionError(name)


def ranked(scored: dict[str, float]) -> list[str]:
    """Best score first, ties by document id descending."""
    by_id = sorted(scored.items(), key=lambda item: item[0].encode(), reverse=True)
    return [document for document, _ in sorted(by_id, key=lambda item: -item[1])]


def coded(qrels: Qrels, runs: Runs, *, shared: bool) -> tuple[Judgements, Run]:
    """As arrays; with `shared` both name queries and documents by the same lists."""
    ids = sorted({document for tables in (qrels.values(), runs.values()) for table in tables for document in table})
    of_run = sorted({document for table in runs.values() for document in table})
    queries = list(dict.fromkeys([*qrels, *runs]))
    documents = ids if shared else of_run
    asked = queries if shared else list(runs)

    def starts(tables: list[dict[str, int]] | list[dict[str, float]]) -> np.ndarray:
        return np.concatenate([[0], np.cumsum([len(table) for table in tables])]).astype(np.int64)

    judged = [qrels[query] for query in qrels]
    found = [runs.get(query, {}) for query in asked]
    codes = [documents.index(document) for table in found for document in table]
    scores = [value for table in found for value in table.values()]
    known = ids if shared else ids[::-1]
    return (
        Judgements(
            list(qrels),
            known,
            starts(judged),
            np.array([known.index(document) for table in judged for document in table], np.int32),
            np.array([grade for table in judged for grade in table.values()], np.int64),
        ),
        Run(asked, documents, starts(found), np.array(codes, np.int32), np.array(scores, np.float64)),
    )


def expect(matched: Matched, qrels: Qrels, rankings: dict[str, list[str]]) -> None:
    assert matched.queries == tuple(qrels)
    assert matched.retrieved.tolist() == [len(rankings.get(query, [])) for query in qrels]
    scores = score(matched, parse(NAMES))
    for row, query in zip(scores.values.tolist(), qrels, strict=True):
        wanted = [twin(name, qrels[query], rankings.get(query, [])) for name in NAMES]
        assert dict(zip(NAMES, row, strict=True)) == pytest.approx(dict(zip(NAMES, wanted, strict=True)), abs=1e-12)
    assert scores.without_results == tuple(query for query in qrels if not rankings.get(query))


documents = st.sampled_from(["a", "b", "c", "d", "e", "f", "A", "é", "10", "9", "中"])
queries = st.sampled_from(["q1", "q2", "q3", "q4"])
some_qrels = st.dictionaries(queries, st.dictionaries(documents, st.integers(-2, 4), min_size=1), min_size=1)
# few values, so that most scores tie
some_runs = st.dictionaries(queries, st.dictionaries(documents, st.sampled_from([-1.0, 0.0, 0.5, 2.0, math.inf])))


@given(some_qrels, some_runs)
def test_scored_runs_equal_the_twin_from_dicts_and_from_arrays(qrels: Qrels, runs: Runs) -> None:
    before = copy.deepcopy((qrels, runs))
    rankings = {query: ranked(table) for query, table in runs.items()}
    expect(match_dicts(qrels, runs), qrels, rankings)
    for shared in (False, True):
        matched = match(*coded(qrels, runs, shared=shared))
        expect(matched, qrels, rankings)
    assert (qrels, runs) == before


@given(some_qrels, st.dictionaries(queries, st.lists(documents)))
def test_a_given_order_with_repeats_equals_the_twin_without_them(qrels: Qrels, orders: dict[str, list[str]]) -> None:
    rankings = {query: list(dict.fromkeys(order)) for query, order in orders.items()}
    expect(match_dicts(qrels, orders), qrels, rankings)
    judgements, run = coded(
        qrels, {query: dict.fromkeys(order, 0.0) for query, order in rankings.items()}, shared=False
    )
    given_order = Run(run.queries, run.documents, run.starts, run.document, None)
    expect(match(judgements, given_order), qrels, rankings)


@given(st.integers(0, 2**32 - 1))
def test_many_queries_of_unequal_length_equal_the_twin(seed: int) -> None:
    rng = np.random.default_rng(seed)
    names = [f"d{at}" for at in range(60)]
    qrels: Qrels = {}
    runs: Runs = {}
    for number in range(6):
        judged = rng.choice(60, rng.integers(1, 20), replace=False).tolist()
        found = rng.choice(60, rng.integers(0, 50), replace=False).tolist()
        qrels[f"q{number}"] = {names[at]: int(rng.integers(-1, 4)) for at in judged}
        runs[f"q{number}"] = {names[at]: float(rng.integers(0, 40)) for at in found}
    rankings = {query: ranked(table) for query, table in runs.items()}
    expect(match_dicts(qrels, runs), qrels, rankings)
    expect(match(*coded(qrels, runs, shared=False)), qrels, rankings)


@given(some_qrels, some_runs)
def test_every_measure_is_within_its_range(qrels: Qrels, runs: Runs) -> None:
    matched = match_dicts(qrels, runs)
    for measure in parse(NAMES):
        entry = MEASURES[measure.name]
        values = ranking_values(matched, measure)
        assert values.dtype == np.float64
        assert entry.low is not None
        assert entry.high is not None
        assert ((values >= entry.low) & (values <= entry.high + 1e-12)).all()


@given(some_qrels, st.lists(documents, unique=True))
def test_a_relevant_document_at_the_end_never_lowers_recall(qrels: Qrels, order: list[str]) -> None:
    longer = [*order, *(document for document in ("a", "b") if document not in order)]
    recall = parse(["R@5", "R@100"])
    less = score(match_dicts(qrels, dict.fromkeys(qrels, order)), recall).values
    more = score(match_dicts(qrels, dict.fromkeys(qrels, longer)), recall).values
    assert (more >= less).all()


def test_a_case_worked_by_hand() -> None:
    qrels = {"q": {"a": 3, "b": 0, "c": 1, "d": 2}}
    scores = score(
        match_dicts(qrels, {"q": ["b", "a", "x", "c"]}), parse(["nDCG@4", "AP", "RR", "P@2", "R@4", "Bpref"])
    )
    dcg = 3 / math.log2(3) + 1 / math.log2(5)
    ideal = 3 + 2 / math.log2(3) + 1 / 2
    assert scores.means == pytest.approx((dcg / ideal, (1 / 2 + 2 / 4) / 3, 1 / 2, 1 / 2, 2 / 3, 0.0))


def test_ties_are_broken_by_document_id_descending() -> None:
    matched = match_dicts({"q": {"a": 1}}, {"q": {"a": 1.0, "b": 1.0, "c": 1.0}})
    assert matched.rank.tolist() == [2]


def test_queries_of_the_run_without_judgements_are_named_and_in_no_mean() -> None:
    matched = match_dicts({"q": {"a": 1}, "empty": {}}, {"q": ["a"], "empty": ["a"], "other": ["a"]})
    scores = score(matched, parse(["P@1"]))
    assert (scores.queries, scores.unjudged, scores.means) == (("q",), ("empty", "other"), (1.0,))
    judgements, run = coded({"q": {"a": 1}}, {"other": {"a": 1.0}, "q": {"a": 1.0}}, shared=False)
    assert match(judgements, run).unjudged == ("other",)


def test_an_empty_run_scores_nothing_but_zeros() -> None:
    scores = score(match_dicts({"q": {"a": 1}, "r": {"b": 0}}, {}), parse(NAMES))
    assert not scores.values.any()
    assert scores.without_results == ("q", "r")


def test_a_score_that_is_no_number_is_refused() -> None:
    with pytest.raises(UsageError, match="NaN"):
        match_dicts({"q": {"a": 1}}, {"q": {"a": math.nan}})


def test_judgements_that_drive_each_other_out_of_the_table_are_found_all_the_same() -> None:
    rng = np.random.default_rng(0)
    documents = [f"d{at:04d}" for at in range(3000)]
    queries = [f"q{at}" for at in range(20)]
    # one query with most of the judgements: its part of the table is too small for them
    counts = np.array([1500, *[3] * 19])
    judged = np.concatenate([rng.permutation(3000)[:count] for count in counts]).astype(np.int32)
    found = np.concatenate([rng.permutation(3000)[:900] for _ in queries]).astype(np.int32)
    grade = rng.integers(-1, 4, len(judged))
    starts = np.concatenate([[0], np.cumsum(counts)])
    judgements = Judgements(queries, documents, starts, judged, grade)
    run = Run(queries, documents, np.arange(21) * 900, found, None)
    qrels = {
        query: {documents[judged[at]]: int(grade[at]) for at in range(starts[number], starts[number + 1])}
        for number, query in enumerate(queries)
    }
    rankings = {
        query: [documents[code] for code in found[at * 900 : at * 900 + 900]] for at, query in enumerate(queries)
    }
    got, plain = match(judgements, run), match_dicts(qrels, rankings)
    assert len(got.query) == sum(len(qrels[query].keys() & set(rankings[query])) for query in queries) > 300
    for name in ("query", "rank", "grade", "retrieved", "judged_grade"):
        assert getattr(got, name).tolist() == getattr(plain, name).tolist(), name
