"""The rows of the summary: their slices, their denominators, and when they say too little."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from eval.measures.names import Measure
from eval.statistics import resample
from eval.summary import rows
from eval.tables import TABLES
from eval.types import Observed, Question, Score, Scored, Status
from rag.types import Usage
from tests.eval.made_runs import ID, MEASURES, OPENED, answered, everything, info, observed, scored

R5 = Measure("R", 5)


def asked(count: int, repeats: int = 1, tags: dict[str, str] | None = None) -> list[Observed]:
    """Questions about documents of their own."""
    found = []
    for at in range(count):
        gold = tuple(replace(each, doc_id=f"{at}.md") for each in OPENED.gold)
        question = replace(OPENED, question_id=f"q{at:03}", gold=gold, tags=tags or {"half": str(at % 2)})
        found += [observed(question, answered(question, "1911"), repeat=repeat) for repeat in range(repeats)]
    return found


def made(observations: list[Observed], scores: list[Score]) -> list[dict[str, object]]:
    given = Scored(tuple(observations), (R5,), tuple((each,) for each in scores), (None,) * len(scores), Usage(), 0.0)
    return [dict(row) for row in rows(given, info())]


def value(number: float) -> Score:
    return Score(number, Status.SCORED, None, "ragline")


FAILED = Score(None, Status.ERROR, "503", "ragline")
UNSCORED = Score(None, Status.UNSCORED, "unusable", "ragline")
ELSEWHERE = Score(None, Status.NOT_APPLICABLE, "no gold", "ragline")


def test_there_is_a_row_for_each_arm_slice_and_measure_in_a_fixed_order() -> None:
    found = [dict(row) for row in rows(scored(), info())]
    assert all(row.keys() == {column.name for column in TABLES["summary"]} for row in found)
    keys = [(row["arm"], row["slice_tag"], row["slice_value"], row["measure"]) for row in found]
    slices = [("all", "all"), ("hops", "1"), ("hops", "2"), ("tag:all", "yes")]
    slices += [("type", "fact"), ("type", "odd"), ("type", "trap")]
    assert keys == [
        (arm, *each, str(measure))
        for arm in ("retrieved", "oracle", "closed_book")
        for each in slices
        for measure in MEASURES
    ]
    assert len(set(keys)) == len(keys)
    assert {(row["run_id"], row["run_name"], row["index_version"]) for row in found} == {(ID, "", "v000007")}
    other = replace(info(), index=replace(info().index, version="00e1"))
    assert {row["index_version"] for row in rows(scored(), other)} == {"experiment-00e1"}


def test_every_kind_of_absence_is_counted_by_itself() -> None:
    row = made(asked(6), [value(1.0), value(0.5), FAILED, UNSCORED, ELSEWHERE, value(0.0)])[0]
    assert (row["n"], row["unscored"], row["errors"], row["clusters"]) == (3, 1, 1, 3)
    assert (row["mean"], row["mean_errors_zero"]) == (0.5, 0.375)


def test_nothing_scored_is_null_and_never_a_zero() -> None:
    row = made(asked(2), [UNSCORED, ELSEWHERE])[0]
    assert (row["n"], row["mean"], row["low"], row["high"], row["mean_errors_zero"]) == (0, None, None, None, None)
    assert (row["interval"], row["enough"]) == ("none", False)


@pytest.mark.parametrize(("clusters", "enough"), [(19, False), (20, True)])
def test_under_twenty_clusters_are_too_few_to_conclude(clusters: int, *, enough: bool) -> None:
    whole, *halves = made(asked(clusters, repeats=2), [value(at % 2) for at in range(2 * clusters)])
    assert (whole["clusters"], whole["enough"], whole["interval"]) == (clusters, enough, "bootstrap_clustered")
    assert [half["enough"] for half in halves] == [False, False]


def test_repeats_and_shared_gold_are_one_cluster() -> None:
    row = made(asked(1, repeats=30), [value(at % 2) for at in range(30)])[0]
    assert (row["n"], row["clusters"], row["low"], row["interval"]) == (30, 1, None, "none")
    shared = [replace(each, question=replace(each.question, gold=OPENED.gold)) for each in asked(5)]
    assert made(shared, [value(1.0)] * 5)[0]["clusters"] == 1


def test_the_interval_is_the_percentiles_of_two_thousand_seeded_draws_of_clusters() -> None:
    numbers = np.random.default_rng(5).random(60).tolist()
    row = made(asked(30, repeats=2), [value(each) for each in numbers])[0]
    sums = np.array(numbers).reshape(30, 2).sum(axis=1, keepdims=True)
    draws = resample(sums, np.full((30, 1), 2.0), draws=2_000, seed=info().seed)
    assert (row["low"], row["high"]) == tuple(np.quantile(draws[:, 0], [0.025, 0.975]))
    assert row["confidence"] == 0.95


def test_a_rate_of_errors_is_said_to_be_better_low() -> None:
    question = Question("q", "?", (), answerable=False, gold=())
    given = Scored(
        (observed(question, answered(question, "1")),),
        (Measure("WronglyAnswered"), R5),
        ((value(1.0), ELSEWHERE),),
        (None,),
        Usage(),
        0.0,
    )
    assert [row["higher_is_better"] for row in rows(given, info())] == [False, True]


def test_a_tag_with_a_value_for_every_question_costs_no_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    from eval import statistics

    drawn: list[int] = []

    def counting(*args: object, **kwargs: object) -> object:
        drawn.append(int(str(args[2] if len(args) > 2 else kwargs["draws"])))
        return resample(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(statistics, "resample", counting)
    questions = [
        replace(each, question=replace(each.question, tags={"id": str(at)})) for at, each in enumerate(asked(50))
    ]
    assert len(made(questions, [value(1.0)] * 50)) == 51
    assert sorted(drawn) == [0] * 50 + [2_000]


def test_no_observation_makes_no_row() -> None:
    assert len(everything()) == 30
    assert made([], []) == []
