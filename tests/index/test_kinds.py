"""Which index is taken, and what is known of it before a vector is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.errors import SettingsError
from rag.index.kinds import INDEX_KINDS, choose, nearest_power_of_two, parameters


def test_auto_is_exact_up_to_two_hundred_million_numbers() -> None:
    assert choose("auto", 200_000, 1_000) == "flat"
    assert choose("auto", 200_001, 1_000) == "ivf_sq8"
    assert [choose(kind, 10**9, 1_000) for kind in INDEX_KINDS] == list(INDEX_KINDS)


def test_an_unknown_kind_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SettingsError, match="annoy") as caught:
        choose("annoy", 1, 1)
    assert "ivf_sq8" in caught.value.problems[0].remedy


@given(st.floats(1, 1e9))
def test_the_nearest_power_of_two_is_the_nearest(value: float) -> None:
    found = nearest_power_of_two(value)
    assert found.bit_count() == 1
    assert all(abs(value - found) <= abs(value - (1 << power)) for power in range(31))


def test_lists_are_the_nearest_power_of_two_to_four_square_roots() -> None:
    assert parameters("ivf_sq8", 100_000, 384)["nlist"] == 1_024
    assert parameters("ivf_sq8", 1_000_000, 384)["nlist"] == 4_096
    assert parameters("ivf_sq8", 1_000_000, 384)["training_rows"] == 64 * 4_096
    assert parameters("ivf_sq8", 5, 384)["nlist"] == 4
    assert parameters("auto", 10, 10) == {"factory": "Flat"}
