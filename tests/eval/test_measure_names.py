from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.measures.names import Measure
from eval.measures.registry import MEASURES, RANKING, parse
from rag.errors import UsageError


@pytest.mark.parametrize(
    "name", ["nDCG@10", "nDCG", "P(rel=2)@5", "R@5", "RR@10", "RR", "AP@100", "AP", "Success@5", "Judged@10", "Rprec"]
)
def test_a_name_parses_and_prints_back(name: str) -> None:
    (measure,) = parse([name])
    assert str(measure) == name
    assert parse([str(measure)]) == (measure,)


@st.composite
def measures(draw: st.DrawFn) -> Measure:
    entry = draw(st.sampled_from([entry for entry in MEASURES.values() if entry.family == "ranking"]))
    cutoffs = {"required": st.integers(1, 5000), "none": st.none(), "optional": st.none() | st.integers(1, 5000)}
    settings: list[tuple[str, int | str]] = []
    for key, parameter in sorted(entry.parameters.items()):
        values: st.SearchStrategy[int | str] = st.integers(1, 9)
        value = draw(st.sampled_from(parameter.choices) if parameter.choices else values)
        if value != parameter.default:
            settings.append((key, value))
    return Measure(entry.name, draw(cutoffs[entry.cutoff]), tuple(settings))


@given(measures())
def test_every_measure_parses_back_from_its_name(measure: Measure) -> None:
    assert parse([str(measure)]) == (measure,)


def test_defaults_quotes_aliases_and_spaces_make_no_other_measure() -> None:
    assert parse(["P(rel=1)@5", " P@5 ", "Precision@05"]) == parse(["P@5"])
    assert parse(['nDCG(dcg="exp-log2")@5', "nDCG( dcg = exp-log2 )@5"]) == parse(["nDCG(dcg='exp-log2')@5"])
    assert [str(measure) for measure in parse(["MRR@10", "MAP", "Recall@3", "NDCG"])] == ["RR@10", "AP", "R@3", "nDCG"]


def test_what_is_asked_for_by_default_can_be_parsed() -> None:
    assert [str(measure) for measure in parse(RANKING)] == list(RANKING)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("NDGC@10", "nDCG@10"),
        ("ndcg_cut_10", "nDCG@10"),
        ("recall_5", "R@5"),
        ("map", "AP"),
        ("recip_rank", "RR"),
        ("precision@3", "P@3"),
        ("sucess@5", "Success@5"),
        ("qqqqqq", "the measures are nDCG[@K]"),
        ("", "the measures are"),
        ("nDCG@ten", "nDCG"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_ones(name: str, remedy: str) -> None:
    with pytest.raises(UsageError, match="there is no measure") as caught:
        parse([name])
    assert remedy in caught.value.problems[0].remedy


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("P", "lacks its cutoff"),
        ("Rprec@5", "has no cutoff"),
        ("nDCG@0", "at least 1"),
        ("P(rel=0)@5", "rel is not '0'"),
        ("P(rel=two)@5", "rel is not 'two'"),
        ("P(level=2)@5", "is no parameter of P"),
        ("P(rel=2,rel=3)@5", "is no parameter of P"),
        ("P()@5", "is no parameter of P"),
        ("nDCG(dcg=linear)", "dcg is not 'linear'"),
        ("Judged(rel=1)@5", "is no parameter of Judged"),
    ],
)
def test_a_wrong_cutoff_or_setting_is_said_so(name: str, what: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse([name])
    assert what in caught.value.message


def test_all_bad_names_are_told_at_once() -> None:
    with pytest.raises(UsageError, match="3 measures") as caught:
        parse(["nDCG@10", "nope", "P", "AP@0"])
    assert [problem.where for problem in caught.value.problems] == ["nope", "P", "AP@0"]
