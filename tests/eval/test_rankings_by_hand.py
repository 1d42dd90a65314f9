"""R@k, RR@10 and SpanHit@5 of one question, worked by hand, as a run scores them."""

from __future__ import annotations

from datetime import UTC, datetime

from eval.measures.gathered import documents
from eval.measures.registry import parse
from eval.scoring import score
from eval.types import Gold, Observed, Question
from rag.sync import run_sync
from rag.types import Answer, Passage, Span, Usage


def passage(doc_id: str, start: int, end: int, also_in: tuple[Span, ...] = ()) -> Passage:
    return Passage(1, 1.0, doc_id, "", "", start, end, (), "", also_in)


def gold(doc_id: str, start: int, end: int) -> Gold:
    return Gold(doc_id, start, end, "x" * (end - start))


def scored(wanted: list[Gold], passages: list[Passage]) -> tuple[float | None, ...]:
    question = Question("q", "?", ("a",), answerable=True, gold=tuple(wanted), line=1)
    seen = Observed(
        question=question,
        arm="retrieved",
        repeat=0,
        ranking=tuple(passages),
        prompt_passages=0,
        answer=Answer("?", "", True, (), (), "none", None, Usage()),
        failure=None,
        prompt=None,
        prompt_sha256=None,
        cached=False,
        usage=Usage(),
        usd_saved=0.0,
        retrieve_seconds=0.0,
        generate_seconds=None,
        asked_at=datetime(2026, 11, 22, tzinfo=UTC),
    )
    found = run_sync(score([seen], parse(("R@1", "R@5", "RR@10", "SpanHit@5")), None, None, lambda *_: None))
    return tuple(each.value for each in found.scores[0])


def test_the_right_chunk_first_is_perfect() -> None:
    assert scored([gold("a", 5, 9)], [passage("a", 0, 10), passage("b", 0, 10)]) == (1, 1, 1, 1)


def test_the_right_document_by_another_chunk_is_found_without_its_span() -> None:
    assert scored([gold("a", 15, 19)], [passage("a", 0, 10)]) == (1, 1, 1, 0)


def test_a_span_that_is_cut_by_two_chunks_is_no_hit() -> None:
    assert scored([gold("a", 8, 12)], [passage("a", 0, 10), passage("a", 10, 20)]) == (1, 1, 1, 0)


def test_ranks_count_documents_and_not_chunks() -> None:
    ranking = [passage("b", 0, 10), passage("b", 10, 20), passage("c", 0, 10), passage("a", 0, 10)]
    assert list(documents(ranking)) == ["b", "c", "a"]
    assert scored([gold("a", 0, 10)], ranking) == (0, 1, 1 / 3, 1)


def test_a_span_hit_counts_chunks_and_not_documents() -> None:
    ranking = [*(passage("b", at, at + 1) for at in range(5)), passage("a", 0, 10)]
    assert scored([gold("a", 0, 10)], ranking) == (0, 1, 1 / 2, 0)


def test_of_two_gold_documents_the_share_that_is_found_counts() -> None:
    wanted = [gold("a", 0, 5), gold("b", 0, 5)]
    assert scored(wanted, [passage("a", 0, 10), passage("c", 0, 10)]) == (0.5, 0.5, 1, 1)
    far = [passage("c", 0, 10), passage("b", 90, 99), *(passage(name, 0, 10) for name in "defga")]
    assert scored(wanted, far) == (0, 0.5, 1 / 2, 0)


def test_two_spans_in_one_document_are_one_document() -> None:
    assert scored([gold("a", 0, 5), gold("a", 50, 55)], [passage("a", 40, 60)]) == (1, 1, 1, 1)


def test_the_eleventh_document_is_no_answer_at_all() -> None:
    ranking = [passage(name, 0, 10) for name in "bcdefghijka"]
    assert scored([gold("a", 0, 5)], ranking) == (0, 0, 0, 0)


def test_nothing_found_is_zero() -> None:
    assert scored([gold("a", 0, 5)], []) == (0, 0, 0, 0)


def test_a_copy_that_was_folded_into_another_passage_is_found_with_it() -> None:
    ranking = [passage("b", 0, 10, also_in=(Span("a", 5, 15), Span("folder/c@d.md", 0, 10))), passage("e", 0, 10)]
    assert list(documents(ranking)) == ["b", "a", "folder/c@d.md", "e"]
    assert scored([gold("a", 6, 15)], ranking) == (0, 1, 1 / 2, 1)
