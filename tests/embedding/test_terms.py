"""Caps hold whatever is sent in which order, and the words of a refusal are true."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rag.counted import dollars, enough, plain
from rag.embedding.plan import Terms
from rag.types import RequestLimits

PRICED = Terms(RequestLimits(8, 1_000, 1_000), False, 2.0, "2026-11", None, None, None, None)
AMOUNTS = st.floats(0, 50, allow_nan=False)
TOKENS = st.integers(1, 10_000_000)


@given(st.lists(TOKENS, max_size=20), st.none() | AMOUNTS, st.none() | AMOUNTS, st.none() | TOKENS, AMOUNTS)
def test_what_is_sent_while_it_is_allowed_crosses_no_cap(
    requests: list[int], max_usd: float | None, a_month: float | None, max_tokens: int | None, before: float
) -> None:
    terms = replace(PRICED, max_usd=max_usd, max_usd_per_month=a_month, max_tokens=max_tokens, spent_this_month=before)
    sent = 0
    for more in requests:
        if not terms.crossed(sent + more):
            sent += more
    usd = sent * 2.0 / 1e6
    assert max_usd is None or usd <= max_usd
    assert max_tokens is None or sent <= max_tokens
    assert a_month is None or not sent or before + usd <= a_month


@given(TOKENS, TOKENS, TOKENS, AMOUNTS, st.sampled_from(["max_usd", "max_usd_per_month", "max_tokens"]), AMOUNTS)
def test_the_cap_that_a_refusal_names_lets_the_rest_through(
    used: int, more: int, further: int, cap: float, name: str, before: float
) -> None:
    given_cap: dict[str, Any] = {name: int(cap) if name == "max_tokens" else cap}
    terms = replace(PRICED, spent_this_month=before, **given_cap)
    if not terms.crossed(used + more):
        return
    what, remedy = terms.refusal("toy/model", used, more, more + further)
    assert what.startswith(f"the next request would cross {name} = ")
    named = re.search(r"\d+(\.\d+)?", remedy)
    assert named
    suggested: dict[str, Any] = {name: int(named[0]) if name == "max_tokens" else float(named[0])}
    raised = replace(terms, **suggested)
    # caps of a run begin anew with the next one; of the month this run's part is spent by then
    later = replace(raised, spent_this_month=before + used * 2.0 / 1e6)
    assert not later.crossed(more + further)


def test_a_model_of_this_machine_has_no_cap_and_nothing_to_send_crosses_none() -> None:
    spent = replace(PRICED, max_usd_per_month=1.0, spent_this_month=5.0)
    assert not spent.crossed(0)
    assert "max_usd_per_month = 1 (this month $5.00 spent)" in spent.crossed(1)
    assert not replace(spent, free=True).crossed(10**12)


def test_where_no_price_is_known_a_monthly_cap_asks_for_one_of_tokens() -> None:
    unknown = replace(PRICED, usd_per_million=None, max_usd_per_month=10.0)
    assert "max_tokens" in unknown.crossed(1)
    what, remedy = unknown.refusal("toy/model", 0, 5, 50)
    assert "no price is known for toy/model" in what
    assert "--max-tokens" in remedy
    assert not replace(unknown, max_tokens=50).crossed(50)


def test_a_refusal_counts_the_runs_that_are_in_no_sum() -> None:
    terms = replace(PRICED, max_usd_per_month=10.0, spent_this_month=9.5, unpriced_this_month=2)
    what, remedy = terms.refusal("toy/model", 100_000, 200_000, 1_000_000)
    assert what == (
        "the next request would cross max_usd_per_month = 10 (this month $9.50 spent, $0.2 by this run, $0.4 more; "
        "2 runs of unknown price not counted)"
    )
    assert remedy.startswith("set embedding.max_usd_per_month to 11.70 or more, or wait")
    first, _ = terms.refusal("toy/model", 0, 2_000_000, 2_000_000)
    assert first.startswith("the first request would cross max_usd_per_month = 10 (this month $9.50 spent, $4.00 more;")


@given(st.floats(1e-12, 1e9))
def test_amounts_are_told_without_exponents_and_rounded_up_where_they_must_be_enough(amount: float) -> None:
    assert float(enough(amount)) >= amount
    assert float(enough(amount)) <= max(amount * 2, amount + 0.01)
    assert re.fullmatch(r"\$[\d,]+\.\d+", dollars(amount))
    assert re.fullmatch(r"\d+(\.\d+)?", plain(amount))
    assert abs(float(plain(amount)) - amount) <= amount * 1e-9
