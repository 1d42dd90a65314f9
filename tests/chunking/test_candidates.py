"""Which places are peaks: equal to their definition, and as quick where all are alike."""

from __future__ import annotations

import itertools
import time

from hypothesis import given
from hypothesis import strategies as st

from rag.chunking.candidates import Candidates

steps = st.tuples(st.integers(0, 5), st.integers(0, 3))


def candidates(weights: list[int], strengths: list[int]) -> Candidates:
    made = Candidates("", [], [], [])
    made.weights, made._strengths = weights, strengths
    return made


@given(st.lists(steps, max_size=40), st.integers(1, 30))
def test_a_peak_has_no_stronger_one_nearer_than_that(places: list[tuple[int, int]], near: int) -> None:
    weights = list(itertools.accumulate(step for step, _ in places))
    strengths = [strength for _, strength in places]
    peaks = [
        at
        for at, (weight, own) in enumerate(zip(weights, strengths, strict=True))
        if all(other <= own for there, other in zip(weights, strengths, strict=True) if abs(there - weight) < near)
    ]
    assert candidates(weights, strengths).peaks(near) == peaks


def test_of_equals_in_a_row_each_is_looked_at_once() -> None:
    def seconds(near: int) -> float:
        made = candidates(list(range(100_000)), [7] * 100_000)
        began = time.process_time()
        assert len(made.peaks(near)) == 100_000
        return time.process_time() - began

    assert seconds(1_000) < 0.1 + 5 * seconds(2)
