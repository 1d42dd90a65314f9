"""Several limits of one model at once: when they are charged, by whom they are used, and what is told of them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.provider import headers
from tests.provider.least import Work
from tests.provider.limiter import Limiter
from tests.provider.options import Options

LIMITS = {"requests": 60.0, "tokens": 600.0}


def asks(requests: float = 1, tokens: float = 100) -> dict[str, float]:
    return {"requests": requests, "tokens": tokens}


def test_the_limit_that_must_be_waited_for_longest_is_named_and_a_refusal_is_free() -> None:
    limiter = Limiter(Options(), 0.0, LIMITS)
    assert limiter.ask(0.0, asks(60, 550)) is None
    refused = limiter.ask(0.0, asks(1, 100))
    assert refused is not None
    assert (refused.dimension, refused.limit, refused.used, refused.requested) == ("tokens", 600, 550, 100)
    assert refused.seconds == pytest.approx(5.0)
    assert limiter.state(0.0)["tokens"] == (600, 50, 55.0)
    assert limiter.ask(5.0, asks(1, 100)) is None


def test_refused_requests_are_charged_where_that_is_the_rule() -> None:
    limiter = Limiter(Options(charge_refused=True), 0.0, LIMITS)
    assert limiter.ask(0.0, asks(1, 600)) is None
    for _ in range(3):
        assert limiter.ask(0.0, asks(1, 100)) is not None
    assert limiter.rules["tokens"].wait(0.0, 1) == pytest.approx(30.1)
    assert limiter.state(0.0)["requests"][1] == 56


def test_charged_at_completion_what_is_under_way_counts_for_nothing() -> None:
    limiter = Limiter(Options(charge="completion"), 0.0, LIMITS)
    for _ in range(3):
        assert limiter.ask(0.0, asks(1, 500)) is None  # 1,500 tokens beside each other
    assert limiter.state(0.0)["requests"][1] == 57
    for _ in range(3):
        limiter.done(1.0, asks(1, 500))
    refused = limiter.ask(1.0, asks(1, 100))
    assert refused is not None
    assert refused.seconds == pytest.approx(100.0)  # the level is -900
    # of the run's last request: 1,000 of its tokens were charged before it, had it come after two of them
    assert limiter.least({"tokens": Work(1000, 500)})["tokens"] == pytest.approx(90.0)


@pytest.mark.parametrize("rule", ["bucket60", "bucket1", "sliding"])
def test_the_second_consumer_takes_its_share_of_what_everybody_wants(rule: str) -> None:
    limiter = Limiter(Options(rule=rule, second_consumer=0.25), 0.0, LIMITS)
    now, total = 0.0, 0.0
    while now < 600.0:
        if limiter.ask(now, asks(0, 5)) is None:
            total += 5
        else:
            now += 0.05
    assert total == pytest.approx(600 * 10 * 0.75, rel=0.16)  # a full bucket at first is no share of a rate
    assert sum(amount for _, amount in limiter.others["tokens"]) == pytest.approx(
        600 * 10 * 0.25, rel=0.05
    )  # some steps come too late


def test_of_a_clock_minute_the_second_consumer_gets_what_it_comes_in_time_for() -> None:
    limiter = Limiter(Options(rule="minute", second_consumer=0.25), 0.0, LIMITS)
    limiter.advance(30.0)
    assert limiter.state(30.0)["tokens"][1] == pytest.approx(525, abs=1)
    assert limiter.ask(30.0, asks(1, 524)) is None
    limiter.advance(59.9)
    assert sum(amount for _, amount in limiter.others["tokens"]) == pytest.approx(76, abs=1)
    limiter.advance(90.0)
    assert sum(amount for _, amount in limiter.others["tokens"]) == pytest.approx(151, abs=1)


def test_the_second_consumer_shows_in_what_remains() -> None:
    limiter = Limiter(Options(rule="sliding", second_consumer=0.5), 0.0, LIMITS)
    assert limiter.state(0.0)["tokens"][1] == 300
    assert limiter.ask(0.0, asks(1, 301)) is not None
    assert limiter.state(30.0)["tokens"][1] == pytest.approx(300, abs=1)


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(1, 300)), max_size=40), st.booleans())
def test_neither_limit_is_ever_overrun(requests: list[tuple[float, int]], refused_too: bool) -> None:
    limiter = Limiter(Options(rule="sliding", charge_refused=refused_too), 0.0, {"requests": 5.0, "tokens": 600.0})
    now, found = 0.0, []
    for gap, tokens in requests:
        now += gap
        if limiter.ask(now, asks(1, tokens)) is None:
            found.append((now, tokens))
    for start, _ in found:
        inside = [tokens for when, tokens in found if start <= when < start + 59.999]
        assert len(inside) <= 5
        assert sum(inside) <= 600


def test_a_changed_limit_is_part_of_the_least_time() -> None:
    limiter = Limiter(Options(drained=True), 0.0, LIMITS)
    limiter.change(10.0, {"tokens": 1200.0, "output-tokens": 5.0})
    assert limiter.least({"requests": Work(9, 1), "tokens": Work(200, 100)}) == {
        "requests": pytest.approx(10.0),
        "tokens": pytest.approx(20.0),
    }


@pytest.mark.parametrize(
    ("seconds", "spelled"),
    [
        (0, "0ms"),
        (0.0115, "12ms"),
        (0.9995, "1s"),
        (1, "1s"),
        (1.5, "1.5s"),
        (59.9999, "1m0s"),
        (360, "6m0s"),
        (86_400, "24h0m0s"),
        (72.5, "1m12.5s"),
    ],
)
def test_durations_are_spelled_as_openai_does(seconds: float, spelled: str) -> None:
    assert headers.go_duration(seconds) == spelled


@given(st.floats(0, 1e6))
def test_a_spelled_duration_is_never_short_of_the_time(seconds: float) -> None:
    units = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
    parts = re.findall(r"([\d.]+)(ms|h|m|s)", headers.go_duration(seconds))
    assert 0 <= sum(float(number) * units[unit] for number, unit in parts) - seconds + 1e-6 <= 0.002


def test_a_wait_is_told_in_seconds_and_milliseconds_or_not_at_all() -> None:
    assert headers.retry(1.2341) == {"retry-after": "1.235", "retry-after-ms": "1235"}
    assert headers.retry(1000.0) == {"retry-after": "1000", "retry-after-ms": "1000000"}
    assert headers.retry(1234567.8914)["retry-after"] == "1234567.892"
    assert headers.retry(float("inf")) == {}
