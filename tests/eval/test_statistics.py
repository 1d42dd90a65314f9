"""Clusters, intervals, paired differences: against a plain loop, against scipy, and on data whose truth is known."""

from __future__ import annotations

import random
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.statistics import FEW, Summary, cluster_ids, components, paired, resample, slices, summarise
from eval.types import Gold, Question, Status


def question(name: str, *documents: str, about: str | None = None) -> Question:
    gold = tuple(Gold(doc_id, 0, 1, "x") for doc_id in documents)
    return Question(name, "?", (), bool(gold), gold, {}, about)


def by_loop(values: np.ndarray, clusters: list[str], draws: int, seed: int) -> np.ndarray:
    """A draw at a time, a cluster at a time, a question at a time."""
    members = defaultdict(list)
    for at, name in enumerate(clusters):
        members[name].append(at)
    names = list(members)
    rng = np.random.Generator(np.random.PCG64(seed))
    estimates = []
    for _ in range(draws):
        drawn = [at for pick in rng.integers(0, len(names), len(names)) for at in members[names[pick]]]
        row = []
        for column in values.T:
            found = [column[at] for at in drawn if not np.isnan(column[at])]
            row.append(sum(found) / len(found) if found else np.nan)
        estimates.append(row)
    return np.array(estimates)


def simulated(seed: int, clusters: int = 40, size: int = 6) -> tuple[np.ndarray, list[str]]:
    """Measures of questions that resemble each other within a cluster; the expected value is 0.5."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, size + 1, clusters)
    level = np.repeat(rng.random(clusters), sizes)
    value = (rng.random(sizes.sum()) < level).astype(float)
    return np.stack([value, level], axis=1), [str(at) for at in np.repeat(np.arange(clusters), sizes)]


def test_questions_that_share_a_document_by_way_of_another_are_one_cluster() -> None:
    several = [
        question("1", "b.md"),
        question("2", "c.md", "a.md"),
        question("3", "b.md", "c.md"),
        question("4", "z.md"),
        question("5", about="z.md"),
        question("6", about="other.md"),
        question("7"),
        question("8"),
    ]
    assert cluster_ids(several) == ["a.md", "a.md", "a.md", "z.md", "z.md", "other.md", "7", "8"]


def test_a_question_alone_never_falls_into_a_cluster_of_its_name() -> None:
    names = ["a.md", "x", "question:a.md"]
    assert components(names, [[], ["a.md"], []]) == ["question:question:a.md", "a.md", "question:a.md"]


@given(st.lists(st.frozensets(st.sampled_from("abcdefgh"), max_size=3), max_size=9))
def test_clusters_are_the_connected_components(documents: list[frozenset[str]]) -> None:
    names = [str(at) for at in range(len(documents))]
    found = components(names, documents)
    groups = [set(each) for each in documents if each]
    merged = True
    while merged:
        merged = False
        for one in groups:
            for other in groups:
                if one is not other and one & other:
                    one.update(other)
                    groups.remove(other)
                    merged = True
                    break
            if merged:
                break
    expected = [
        min(next(group for group in groups if each <= group)) if each else name
        for name, each in zip(names, documents, strict=True)
    ]
    assert found == expected


@pytest.mark.parametrize("seed", range(4))
def test_the_clustered_draws_are_those_of_a_plain_loop(seed: int) -> None:
    values, clusters = simulated(seed, clusters=3 + 5 * seed)
    rng = np.random.default_rng(seed)
    values[rng.random(values.shape) < 0.3] = np.nan
    expected = by_loop(values, clusters, draws=200, seed=seed)
    for at, each in enumerate(summarise(values, clusters, draws=200, seed=seed)):
        drawn = expected[:, at][~np.isnan(expected[:, at])]
        assert each.mean == pytest.approx(np.nanmean(values[:, at]), abs=1e-12)
        assert [each.low, each.high] == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=1e-12)
        named = {name for name, value in zip(clusters, values[:, at], strict=True) if not np.isnan(value)}
        assert each.clusters == len(named)
        assert each.n + each.unscored == len(values)


def test_draws_do_not_depend_on_how_many_go_through_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sums = np.random.default_rng(0).random((50, 3))
    whole = resample(sums, np.ones_like(sums), 100, 7)
    monkeypatch.setattr("eval.statistics._BLOCK", 1)
    assert resample(sums, np.ones_like(sums), 100, 7) == pytest.approx(whole, abs=1e-14)


@pytest.mark.parametrize("confidence", [0.95, 0.9])
def test_without_clusters_every_draw_is_that_of_scipy(confidence: float) -> None:
    bootstrap = pytest.importorskip("scipy.stats").bootstrap
    values = np.random.default_rng(1).random((300, 4)) ** 2
    theirs = bootstrap(
        (values.T,), np.mean, axis=-1, n_resamples=500, method="percentile", confidence_level=confidence,
        rng=np.random.default_rng(11),
    )  # fmt: skip
    drawn = resample(values, np.ones_like(values), 500, 11).T
    assert drawn == pytest.approx(theirs.bootstrap_distribution, abs=1e-13)
    alone = [str(at) for at in range(len(values))]
    ours = summarise(values, alone, draws=500, seed=11, confidence=confidence)
    assert [each.low for each in ours] == pytest.approx(list(theirs.confidence_interval.low), abs=1e-13)
    assert [each.high for each in ours] == pytest.approx(list(theirs.confidence_interval.high), abs=1e-13)


def test_what_is_missing_leaves_the_denominator_and_an_error_is_missing_or_zero() -> None:
    values = [[1.0], [1.0], [0.5], [np.nan], [np.nan], [np.nan]]
    statuses = [[Status.SCORED]] * 3 + [[Status.UNSCORED], [Status.NOT_APPLICABLE], [Status.ERROR]]
    clusters = ["a", "a", "b", "c", "d", "e"]
    (missing,) = summarise(values, clusters, statuses)
    assert (missing.n, missing.unscored, missing.errors, missing.clusters) == (3, 1, 1, 2)
    assert missing.mean == pytest.approx(2.5 / 3)
    (zero,) = summarise(values, clusters, statuses, errors="zero")
    assert (zero.n, zero.unscored, zero.errors, zero.clusters) == (4, 1, 1, 3)
    assert zero.mean == zero.mean_errors_zero == missing.mean_errors_zero == 2.5 / 4
    assert missing.low is not None
    assert zero.low is not None
    assert zero.low < missing.low


def test_an_interval_needs_two_clusters_and_a_conclusion_twenty() -> None:
    (one,) = summarise([[1.0], [0.0]], ["a", "a"])
    assert one == Summary(2, 0, 0, 0.5, None, None, 1, 0.5)
    assert one.few_clusters
    (none,) = summarise([[np.nan]], ["a"])
    assert none == Summary(0, 1, 0, None, None, None, 0, None)
    assert summarise(np.zeros((0, 1)), []) == [Summary(0, 0, 0, None, None, None, 0, None)]
    assert summarise(np.zeros((2, 0)), ["a", "b"]) == []
    for size, few in ((FEW - 1, True), (FEW, False)):
        (found,) = summarise(np.ones((size, 1)), [str(at) for at in range(size)])
        assert found.few_clusters == few
        assert found.low == found.high == 1.0


def test_the_same_seed_gives_the_same_interval_and_another_one_another() -> None:
    values, clusters = simulated(3)
    assert summarise(values, clusters, seed=4) == summarise(values, clusters, seed=4)
    assert summarise(values, clusters, seed=4) != summarise(values, clusters, seed=5)


def test_questions_that_resemble_each_other_widen_the_interval() -> None:
    level = np.random.default_rng(0).random((30, 1))
    values = np.repeat(level, 10, axis=0)
    (together,) = summarise(values, [str(at // 10) for at in range(300)])
    (apart,) = summarise(values, [str(at) for at in range(300)])
    assert together.mean == apart.mean
    assert None not in (together.low, together.high, apart.low, apart.high)
    widths = [float(each.high or 0) - float(each.low or 0) for each in (together, apart)]
    assert widths[0] > 2.5 * widths[1]


def test_a_paired_difference_counts_only_what_both_runs_have() -> None:
    first = np.array([[1.0], [0.0], [0.5], [np.nan], [0.2]])
    second = np.array([[1.0], [1.0], [np.nan], [1.0], [0.0]])
    ok, gone, failed = Status.SCORED, Status.UNSCORED, Status.ERROR
    statuses = ([[ok], [ok], [ok], [gone], [ok]], [[ok], [ok], [gone], [ok], [failed]])
    (found,) = paired(first, second, list("abcde"), statuses)
    assert (found.n, found.unscored, found.errors, found.clusters) == (2, 2, 1, 2)
    assert (found.first, found.second, found.difference) == (0.5, 1.0, 0.5)
    (zero,) = paired(first, second, list("abcde"), statuses, errors="zero")
    assert (zero.n, zero.errors) == (3, 1)
    assert zero.first == pytest.approx(0.4)
    assert zero.second == pytest.approx(2 / 3)
    assert found.few_clusters


def test_the_interval_of_a_difference_is_that_of_the_differences() -> None:
    values, clusters = simulated(1)
    other, _ = simulated(2, clusters=60)
    other = other[: len(values)]
    for both, alone in zip(paired(values, other, clusters), summarise(other - values, clusters), strict=True):
        assert (both.difference, both.low, both.high) == (alone.mean, alone.low, alone.high)
        assert both.second is not None
        assert both.first is not None
        assert both.difference == pytest.approx(both.second - both.first)
    for same in paired(values, values, clusters):
        assert (same.difference, same.low, same.high) == (0, 0, 0)


def test_slices_are_the_questions_of_each_value_of_a_tag() -> None:
    tags = [{"type": "who", "hops": "1"}, {"type": "when"}, {}, {"type": "who"}]
    assert slices(tags) == {("hops", "1"): [0], ("type", "when"): [1], ("type", "who"): [0, 3]}
    assert slices(tags, ["hops"]) == {("hops", "1"): [0]}


def test_values_that_do_not_fit_or_are_no_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="there are 2 questions"):
        summarise([[1.0]], ["a", "b"])
    with pytest.raises(ValueError, match="their statuses"):
        summarise([[1.0]], ["a"], [[0, 0]])
    with pytest.raises(ValueError, match="question 1 is scored inf in measure 0"):
        summarise([[1.0], [np.inf]], ["a", "b"])
    with pytest.raises(ValueError, match="question 0 is scored nan"):
        summarise([[np.nan]], ["a"], [[Status.SCORED]])
    with pytest.raises(ValueError, match="the runs have the shapes"):
        paired([[1.0]], [[1.0, 2.0]], ["a"])


@pytest.mark.slow
def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    clustered = apart = trials = 0
    for seed in range(400):
        values, clusters = simulated(seed, clusters=60)
        for each in summarise(values, clusters, draws=500, seed=seed):
            assert each.low is not None
            assert each.high is not None
            clustered += each.low <= 0.5 <= each.high
            trials += 1
        for each in summarise(values, [str(at) for at in range(len(clusters))], draws=500, seed=seed):
            assert each.low is not None
            assert each.high is not None
            apart += each.low <= 0.5 <= each.high
    assert 0.92 < clustered / trials < 0.97
    assert apart / trials < 0.85


def test_clusters_do_not_depend_on_the_order_of_the_questions() -> None:
    rng = random.Random(0)
    several = [question(str(at), *rng.sample("abcdefghijklmnopqrstuvwxyz", rng.randint(0, 2))) for at in range(20)]
    found = dict(zip([each.question_id for each in several], cluster_ids(several), strict=True))
    rng.shuffle(several)
    assert cluster_ids(several) == [found[each.question_id] for each in several]
