"""Citations against gold: equal to sets of characters, and by documents where there are no spans."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from eval.measures.citations import Citing, citation_precision, citation_recall
from eval.measures.registry import MEASURES
from rag.types import Span

DOCUMENTS = st.sampled_from("abc")
spans = st.builds(
    lambda doc_id, start, size: Span(doc_id, start, start + size), DOCUMENTS, st.integers(0, 9), st.integers(1, 5)
)


def characters(span: tuple[str, int, int]) -> set[tuple[str, int]]:
    doc_id, start, end = span
    return {(doc_id, at) for at in range(start, end)}


@given(st.lists(st.lists(spans, min_size=1, max_size=2), max_size=4), st.lists(spans, min_size=1, max_size=3))
def test_a_citation_is_right_that_shares_a_character_with_gold(cited: list[list[Span]], gold: list[Span]) -> None:
    answer = Citing(cited, gold, {"a"})
    every = set().union(*map(characters, gold))
    reached = set().union(*(characters(place) for each in cited for place in each))
    right = [each for each in cited if any(characters(place) & every for place in each)]
    assert citation_precision([answer]).tolist() == [len(right) / len(cited) if cited else 0.0]
    assert citation_recall([answer]).tolist() == [sum(bool(characters(each) & reached) for each in gold) / len(gold)]


@given(st.lists(st.lists(spans, min_size=1, max_size=2), max_size=4), st.sets(DOCUMENTS, min_size=1))
def test_without_spans_the_documents_decide(cited: list[list[Span]], relevant: set[str]) -> None:
    answer = Citing(cited, [], relevant)
    right = sum(any(place.doc_id in relevant for place in each) for each in cited)
    reached = {place.doc_id for each in cited for place in each}
    assert citation_precision([answer]).tolist() == [right / len(cited) if cited else 0.0]
    assert citation_recall([answer]).tolist() == [len(relevant & reached) / len(relevant)]


def test_touching_is_not_overlapping() -> None:
    answer = Citing([[Span("a", 0, 5)]], [("a", 5, 9)], ())
    assert (citation_precision([answer])[0], citation_recall([answer])[0]) == (0.0, 0.0)


def test_what_is_good_is_high_but_for_the_two_errors_of_abstention() -> None:
    assert [entry.name for entry in MEASURES.values() if not entry.higher_is_better] == [
        "WronglyAbstained",
        "WronglyAnswered",
    ]
