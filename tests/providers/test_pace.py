"""As fast as an account allows and no faster, however the provider enforces it; the client is never told how.

Each run is one of 30 s and more on a virtual clock, against the simulator's rules. tests/providers/test_pace_http.py
does the same over real HTTP.
"""

from __future__ import annotations

import pytest

from tests.providers.paced import Account, Paced, pace

PROFILES = {
    "tokens": (Account("", 3_000, 1_000_000), 560_000, 330),
    "many tokens": (Account("", 5_000, 5_000_000), 2_800_000, 330),
    "requests": (Account("", 120, 10_000_000), 3_600_000, 20),
    "both": (Account("", 240, 1_000_000), 560_000, 330),
}
A_MINUTE = {"tokens": 1_000_000, "many tokens": 5_000_000, "requests": 120 * 2048 * 20, "both": 1_000_000}


def run(
    profile: str, rule: str, *, minutes: float = 0.0, concurrency: int = 16, seed: int = 1, **more: object
) -> Paced:
    base, tokens, text = PROFILES[profile]
    account = Account(**{**vars(base), "rule": rule, **more})
    total = int(minutes * A_MINUTE[profile]) if minutes else tokens
    if account.rule == "bucket60" and not account.drained and not minutes:
        total += A_MINUTE[profile]
    return pace(account, total, text, concurrency=concurrency, seed=seed)


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("headers", ["exact", "stale"])
@pytest.mark.parametrize("rule", ["bucket60", "bucket1"])
@pytest.mark.parametrize("profile", PROFILES)
def test_an_empty_account_is_used_to_the_last_drop(profile: str, rule: str, headers: str, seed: int) -> None:
    done = run(profile, rule, drained=True, headers=headers, seed=seed)
    assert done.least >= 30
    assert done.ratio <= 1.02
    assert len(done.refused) == 1, "an empty bucket refuses the first request, whoever sends it"


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("headers", ["exact", "stale"])
@pytest.mark.parametrize("rule", ["bucket60", "bucket1"])
@pytest.mark.parametrize("profile", PROFILES)
def test_a_full_account_is_used_at_once_and_never_trips(profile: str, rule: str, headers: str, seed: int) -> None:
    done = run(profile, rule, headers=headers, seed=seed)
    assert done.least >= 30
    assert done.ratio <= 1.05
    assert not done.refused


@pytest.mark.parametrize("concurrency", [8, 64])
@pytest.mark.parametrize("rule", ["bucket60", "bucket1"])
@pytest.mark.parametrize("profile", ["tokens", "many tokens", "both"])
def test_headers_may_be_as_of_the_reply_whatever_is_under_way(profile: str, rule: str, concurrency: int) -> None:
    done = run(profile, rule, told="reply", concurrency=concurrency)
    assert done.ratio <= 1.05
    assert not done.refused


@pytest.mark.parametrize("rule", ["bucket60", "bucket1"])
@pytest.mark.parametrize("profile", ["tokens", "many tokens", "both"])
def test_charging_when_the_reply_goes_out_changes_nothing(profile: str, rule: str) -> None:
    done = run(profile, rule, charge="completion")
    assert done.ratio <= 1.05
    assert not done.refused


@pytest.mark.parametrize("headers", ["exact", pytest.param("stale", marks=pytest.mark.slow)])
@pytest.mark.parametrize("drained", [True, False])
@pytest.mark.parametrize("rule", ["sliding", "minute"])
@pytest.mark.parametrize("profile", ["tokens", "both"])
def test_a_window_is_filled_as_it_empties(profile: str, rule: str, drained: bool, headers: str) -> None:
    done = run(profile, rule, minutes=2.4, drained=drained, headers=headers, phase=25.0 * (rule == "minute"))
    assert 1 / done.ratio >= 0.9
    assert len(done.refused) - drained <= 0.01 * done.sent


@pytest.mark.parametrize("headers", ["exact", pytest.param("stale", marks=pytest.mark.slow)])
@pytest.mark.parametrize("drained", [True, False])
@pytest.mark.parametrize("rule", ["bucket60", "bucket1", "sliding", "minute"])
@pytest.mark.parametrize("profile", ["tokens", "both"])
def test_what_somebody_else_leaves_is_used(profile: str, rule: str, drained: bool, headers: str) -> None:
    minutes, phase = (2.4, 25.0) if rule == "minute" else (2.0, 0.0)
    done = run(profile, rule, minutes=minutes, drained=drained, headers=headers, others=0.4, phase=phase)
    assert 1 / done.ratio >= 0.9
    # headers that are a reply old tell what a window holds as it was before it stopped emptying
    old = headers == "stale" and rule == "sliding"
    assert len(done.refused) - drained <= (0.02 if old else 0.01) * done.sent


@pytest.mark.parametrize("headers", ["exact", "stale"])
@pytest.mark.parametrize("rule", ["bucket60", "bucket1"])
def test_limits_cut_to_a_quarter_are_kept_within_a_window(rule: str, headers: str) -> None:
    done = run("tokens", rule, minutes=1.0, drained=True, headers=headers, cut_at=10.0)
    assert done.ratio <= 1.03
    assert len(done.refused) <= 4
    assert all(at < 70 for at in done.refused)


@pytest.mark.parametrize("rule", ["bucket60", "bucket1", "sliding", "minute"])
def test_without_headers_the_limits_of_the_settings_are_kept(rule: str) -> None:
    account = Account(rule, 3_000, 1_000_000, headers="absent", phase=25.0 * (rule == "minute"))
    done = pace(account, 600_000, told=True)
    assert len(done.refused) <= 1
    assert done.seconds <= 600_000 / 1_000_000 * 60 * 1.05


@pytest.mark.parametrize("rule", ["bucket60", "bucket1"])
def test_without_headers_or_settings_nothing_is_lost(rule: str) -> None:
    done = pace(Account(rule, 3_000, 1_000_000, headers="absent"), 1_500_000, most=64_000)
    assert done.tokens >= 0.99 * 1_500_000 - 330
    assert done.ratio <= 1.6


@pytest.mark.parametrize("rule", ["bucket60", "bucket1"])
def test_a_client_that_ignores_the_token_limit_fails_the_same_test(rule: str) -> None:
    base, tokens, text = PROFILES["tokens"]
    account = Account(**{**vars(base), "rule": rule, "drained": True})
    done = pace(account, tokens, text, obeys_tokens=False, most=4_000)
    assert done.ratio > 1.5 or len(done.refused) > 10
