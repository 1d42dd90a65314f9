"""What each arm is answered from: a ranking as deep as it must be, and the chunks that hold the gold."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.context import Cut, covering, gold, retrieved
from eval.measures.gathered import documents
from eval.types import Gold, Question
from rag.settings import Settings
from rag.types import Passage
from rag.wiring import Desk
from tests.eval.observing import TEXTS, quoted


@pytest.fixture(scope="module")
def desk(small_index: Settings) -> Iterator[Desk]:
    with Desk(small_index) as desk:
        yield desk


cuts = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 12)), max_size=6).map(
    lambda pairs: [Cut(start, start + length, row) for row, (start, length) in enumerate(sorted(pairs))]
)


@given(cuts, st.integers(0, 30), st.integers(1, 20))
def test_a_span_is_covered_by_as_few_chunks_as_any_choice_of_them(cuts: list[Cut], start: int, length: int) -> None:
    def held(chosen: tuple[Cut, ...]) -> set[int]:
        return {place for cut in chosen for place in range(cut.start, cut.end)} & set(range(start, start + length))

    rows = covering(cuts, start, start + length)
    assert held(tuple(cut for cut in cuts if cut.row in rows)) == held(tuple(cuts))
    assert len(set(rows)) == len(rows)
    fewest = next(
        count for count in range(7) if any(held(c) == held(tuple(cuts)) for c in itertools.combinations(cuts, count))
    )
    assert len(rows) == fewest


def question(text: str = "?", quotes: tuple[Gold, ...] = (), **given: object) -> Question:
    return Question("q", text, ("yes",), True, quotes, **given)  # type: ignore[arg-type]


def held_by(desk: Desk, asked: Question, k: int = 5) -> tuple[Passage, ...]:
    return gold(desk.opened, [asked], k)[0]


def test_gold_is_given_by_the_chunks_of_the_version_that_hold_all_of_it(desk: Desk) -> None:
    spans = (quoted("bridge.md", "renewed in 2019"), quoted("goats.md", "Tuesday freight"))
    found = held_by(desk, question(quotes=spans))
    assert [passage.rank for passage in found] == [1, 2]
    assert [passage.doc_id for passage in found] == ["bridge.md", "goats.md"]
    for passage, span in zip(found, spans, strict=True):
        assert span.quote in passage.text == TEXTS[passage.doc_id][passage.start : passage.end]
        assert (passage.source.endswith(passage.doc_id), passage.tokens > 0, passage.dense) == (True, True, None)
    assert held_by(desk, question(quotes=(spans[0], spans[0]))) == found[:1]


def test_gold_that_is_cut_by_chunks_is_given_whole_and_without_neighbours(desk: Desk) -> None:
    text = TEXTS["line.md"]
    span = Gold(
        "line.md", text.index("Stop 2 "), text.index("Stop 9 "), text[text.index("Stop 2 ") : text.index("Stop 9 ")]
    )
    found = held_by(desk, question(quotes=(span,)), k=1)
    assert len(found) > 2, "k does not cut what is needed"
    assert found[0].start <= span.start
    assert found[-1].end >= span.end
    for before, after in itertools.pairwise(found):
        assert before.start < after.start
        assert not text[before.end : after.start].strip()
    assert found[1].start > span.start
    assert found[-2].end < span.end


def test_graded_documents_without_spans_give_their_chunks_best_grade_first(desk: Desk) -> None:
    found = held_by(desk, question(grades={"soup.md": 1, "line.md": 2, "bridge.md": 0, "goats.md": -1}), k=3)
    assert [passage.doc_id for passage in found] == ["line.md"] * 3
    assert [passage.start for passage in found] == sorted(passage.start for passage in found)
    found = held_by(desk, question(grades={"soup.md": 1, "line.md": 2, "bridge.md": 0}), k=100)
    assert list(documents(found)) == ["line.md", "soup.md"]


def test_words_without_a_place_are_passages_of_their_own_and_a_question_without_gold_has_none(desk: Desk) -> None:
    first, second = held_by(desk, question(contexts=("It is so.", "Or so.")))
    assert (first.rank, first.text, first.start, first.end) == (1, "It is so.", 0, 9)
    assert first.doc_id != second.doc_id
    assert {first.doc_id, second.doc_id}.isdisjoint(TEXTS)
    assert held_by(desk, question()) == ()
    assert held_by(desk, question(grades={"soup.md": 0})) == ()


@pytest.mark.parametrize(("distinct", "least"), [(1, 1), (3, 1), (1, 7), (4, 3), (100, 1), (1, 10_000)])
def test_a_ranking_is_as_long_as_it_must_be_and_begins_as_a_question_would_find_it(
    distinct: int, least: int, desk: Desk
) -> None:
    texts = ["When was the steel bridge renewed?", "What does lentil soup cost?", "Stop 4"]
    whole = asyncio.run(desk.aretrieve_many(texts, desk.opened.rows))
    found = asyncio.run(retrieved(desk, texts, distinct, least))
    for text, ranking, every in zip(texts, found, whole, strict=True):
        assert [passage.text for passage in ranking] == [passage.text for passage in every[: len(ranking)]]
        for k in (1, 2, 5):
            top = asyncio.run(desk.aretrieve(text, k))
            assert [(p.rank, p.score, p.text) for p in ranking[:k]] == [
                (p.rank, p.score, p.text) for p in top[: len(ranking)]
            ]
        enough = len(documents(ranking)) >= distinct and len(ranking) >= least
        assert enough or len(ranking) == len(every)
        assert len(documents(ranking[:-1])) < distinct or len(ranking) <= least
