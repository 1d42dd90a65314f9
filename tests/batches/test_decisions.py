"""What is decided about batches, without any: lines, files, what a look means, what is left to do."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.embedding.batches import Size, files, has_room, left_of, lines, seen, sorted_out
from rag.embedding.jobs import Job, Left, Line, line_id, moved, new_job
from rag.ports import BatchState, LineAnswer
from rag.types import EmbeddingIdentity, RequestLimits

WHEN = datetime(2026, 11, 29, tzinfo=UTC)
IDENTITY = EmbeddingIdentity("openai", "text-embedding-3-small")


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


def job(*numbers: int, tokens: int = 10, **changes: Any) -> Job:
    """Submitted, two texts a line."""
    pairs = [numbers[at : at + 2] for at in range(0, len(numbers), 2)]
    held = [Line(line_id(map(key, pair)), tuple(key(n).hex() for n in pair), (tokens,) * len(pair)) for pair in pairs]
    made = moved(new_job("main", IDENTITY, WHEN, 1, held), "submitted", batch_id="batch_1")
    return replace(made, **changes)


def state(status: str = "in_progress", **changes: Any) -> BatchState:
    ended, refused = status in ("completed", "expired", "cancelled"), status == "failed"
    return replace(BatchState(status, ended, refused), **changes)


@given(
    st.lists(st.builds(Size, st.integers(1, 64), st.integers(1, 900), st.integers(1, 9_000)), max_size=40),
    st.builds(Size, st.integers(64, 200), st.integers(900, 2_000), st.integers(9_000, 20_000)),
)
def test_files_hold_every_line_once_in_order_within_all_limits_and_no_two_neighbours_would_fit(
    sizes: list[Size], most: Size
) -> None:
    def size(start: int, end: int) -> Size:
        return sum(sizes[start:end], Size(0, 0, 0))

    cut = files(sizes, most)
    assert [at for start, end in cut for at in range(start, end)] == list(range(len(sizes)))
    for start, end in cut:
        assert size(start, end).within(most)
    for start, end in cut[:-1]:
        assert not size(start, end + 1).within(most)


def test_a_line_over_every_limit_is_a_file_of_its_own() -> None:
    assert files([Size(1, 1, 1), Size(1, 1, 99), Size(1, 1, 1)], Size(9, 9, 10)) == [(0, 1), (1, 2), (2, 3)]


def test_texts_that_must_be_alone_are_alone() -> None:
    tokens = np.full(10, 7, np.uint32)
    cut = lines([1, 2, 3, 5, 8, 9], tokens, {2, 9}, RequestLimits(3, 100, 100))
    assert cut == [[1, 3, 5], [8], [2], [9]]
    assert lines([], tokens, set(), RequestLimits(3, 100, 100)) == []


def test_a_line_is_named_by_its_texts_and_a_job_by_chance_too() -> None:
    assert line_id([key(1), key(2)]) == line_id([key(1), key(2)]) != line_id([key(2), key(1)])
    assert job(1, 2).digest != job(1, 2).digest


@pytest.mark.parametrize(
    ("found", "verdict", "then"),
    [
        (None, "unknown", "submitted"),
        (state("validating"), "waits", "submitted"),
        (state("a word of next year"), "waits", "submitted"),
        (state("completed", files=("f",)), "ended", "ended"),
        (state("expired"), "ended", "ended"),
        (state("cancelled", files=("f", "g")), "ended", "ended"),
        (state("failed", reasons=("line 3 is no JSON",)), "refused", "submitted"),
        (state("failed", queue_full=True, queue_tokens=100), "no_room", "uploaded"),
        (state("failed", queue_full=True, queue_tokens=39), "too_large", "submitted"),
        (state("failed", queue_full=True), "too_large", "submitted"),
    ],
)
def test_a_look_at_a_batch_says_what_comes_next(found: BatchState | None, verdict: str, then: str) -> None:
    got, after = seen(job(1, 2, 3, 4), found, alone=True)
    assert (got, after.state) == (verdict, then)


def test_a_batch_without_room_is_submitted_anew_under_the_same_name_and_told_limits_are_kept() -> None:
    before = job(1, 2, 3, 4)
    _, after = seen(before, state("failed", queue_full=True, queue_tokens=100), alone=True)
    assert (after.batch_id, after.queue_tokens, after.digest) == (None, 100, before.digest)
    _, halved = seen(before, state("failed", queue_full=True), alone=True)
    assert halved.queue_tokens == 20
    verdict, waits = seen(before, state("failed", queue_full=True), alone=False)
    assert (verdict, waits.queue_tokens) == ("no_room", 40), "others were in the queue: nothing says it is too large"
    for told, alone, then in (
        (None, True, "no_room"),
        (9, False, "no_room"),
        (9, True, "refused"),
        (10, True, "no_room"),
    ):
        verdict, _ = seen(job(2), state("failed", queue_full=True, queue_tokens=told), alone=alone)
        assert verdict == then, "one line is not cut, and not sent for ever where it can have no room"


def test_an_empty_queue_is_tried_and_a_full_one_is_not() -> None:
    assert has_room(10, 0, 5)
    assert has_room(5, 5, 10)
    assert not has_room(6, 5, 10)
    assert has_room(10**12, 10**12, None)


def test_what_is_under_way_is_not_sent_what_was_left_is_and_what_was_left_thrice_is_named() -> None:
    once = job(3, 4, state="cleaned", left=(Left((key(3).hex(), key(4).hex()), "expired", "late"),))
    thrice = job(5, state="cleaned", round=3, left=(Left((key(5).hex(),), "failed", "500"),))
    before_that = job(5, state="cleaned", round=2, left=(Left((key(5).hex(),), "failed", "500"),))
    alone = job(6, state="merged", left=(Left((key(6).hex(),), "refused", "400", alone=True),))
    never = job(7, state="cleaned", left=(Left((key(7).hex(),), "hopeless", "401"),))
    flying = job(1, 2)
    found = sorted_out(list(map(key, range(8))), [thrice, before_that, once, alone, never, flying])
    assert found.rounds == {1: [0], 2: [3, 4, 6]}
    assert set(found.alone) == {6}
    assert found.under_way == 2
    assert {at: left.reason for at, left in found.exhausted.items()} == {5: "failed", 7: "hopeless"}


def test_a_text_that_is_under_way_again_is_not_sent_for_what_an_earlier_batch_left() -> None:
    left = job(1, 2, state="cleaned", left=(Left((key(1).hex(),), "expired", "late"),))
    assert sorted_out([key(1)], [left, job(1, round=2)]).under_way == 1


LINE = Line("n", tuple(key(n).hex() for n in range(3)), (1, 1, 1))


def test_what_a_line_without_vectors_leaves() -> None:
    assert [left.reason for left in left_of(LINE, None, "expired")] == ["expired"]
    (failed,) = left_of(LINE, LineAnswer("n", reason="failed", message="500"), "completed")
    assert (failed.keys, failed.alone) == (LINE.keys, False)
    (all_three,) = left_of(LINE, LineAnswer("n", reason="refused", message="400"), "completed")
    assert (all_three.keys, all_three.alone) == (LINE.keys, True)
    named, others = left_of(LINE, LineAnswer("n", reason="refused", message="400", positions=(1,)), "completed")
    assert (named.keys, named.alone) == (LINE.keys[1:2], True)
    assert (others.keys, others.alone) == ((LINE.keys[0], LINE.keys[2]), False)
    one = replace(LINE, keys=LINE.keys[:1], tokens=(1,))
    assert left_of(one, LineAnswer("n", reason="refused", message="400"), "completed") == []
    for answer in (None, LineAnswer("n", reason="failed", message="500")):
        (again,) = left_of(one, answer, "expired")
        assert again.alone, "one that was suspected stays by itself"
