"""Limits as a client meets them over HTTP: admitted, refused, told, and the least time from the log."""

from __future__ import annotations

import time

import pytest

from tests import provider
from tests.provider.options import Options
from tests.provider.wire import MODEL, ask, embed


def test_what_is_over_the_limit_is_refused_with_an_honest_wait() -> None:
    with provider.threaded(Options(tpm=600, rpm=60_000)) as sim:
        assert embed(sim, "word " * 600).status == 200
        refused = embed(sim, "a b c d e")
        assert refused.status == 429
        wait = float(refused.headers["retry-after"])
        assert 0 < wait <= 0.5
        assert refused.headers["retry-after-ms"] == str(round(wait * 1000))
        error = refused.json()["error"]
        assert (error["code"], error["type"]) == ("rate_limit_exceeded", "tokens")
        assert f"Rate limit reached for {MODEL}" in error["message"]
        assert "Limit 600, " in error["message"]
        assert f"Please try again in {round(wait * 1000)}ms." in error["message"]
        time.sleep(wait)
        assert embed(sim, "a b c d e").status == 200
        assert [entry["refused"] for entry in sim.refusals()] == ["tokens"]
        span = sim.span()
        assert span["least"] == pytest.approx(0.5, abs=1e-4)
        assert span["least"] <= span["actual"]


def test_what_can_never_be_admitted_is_not_told_to_wait() -> None:
    with provider.threaded(Options(tpm=100)) as sim:
        refused = embed(sim, "word " * 101)
        assert refused.status == 429
        assert "Request too large" in refused.json()["error"]["message"]
        assert "retry-after" not in refused.headers


def test_requests_are_limited_too_and_limits_change_while_it_runs() -> None:
    with provider.threaded(Options(rule="bucket1", rpm=60, drained=True)) as sim:
        assert embed(sim, "a").status == 429
        sim.limits(rpm=6_000_000)
        time.sleep(0.02)
        assert embed(sim, "a").status == 200
        assert [entry["refused"] for entry in sim.log()] == ["requests", ""]
        assert sim.span()["least"] < 1.0
        with pytest.raises(ValueError, match="no limits"):
            sim.limits(tps=5)


def test_headers_are_exact_or_one_reply_old_or_absent() -> None:
    told = {}
    for mode in ("exact", "stale", "absent"):
        with provider.threaded(Options(rule="minute", tpm=1000, rpm=100, headers=mode)) as sim:
            came = [embed(sim, "word " * 100).headers for _ in range(3)]
            told[mode] = [headers.get("x-ratelimit-remaining-tokens") for headers in came]
            if mode == "exact":
                assert came[0]["x-ratelimit-limit-tokens"] == "1000"
                assert came[2]["x-ratelimit-remaining-requests"] == "97"
                assert came[2]["x-ratelimit-reset-requests"].endswith("s")
    assert told == {"exact": ["900", "800", "700"], "stale": ["1000", "900", "800"], "absent": [None, None, None]}


def test_each_model_has_limits_of_its_own() -> None:
    with provider.threaded(Options(tpm=100)) as sim:
        for model in (MODEL, "text-embedding-3-large"):
            asked = {"model": model, "input": "word " * 100}
            assert ask(sim, asked).status == 200
            assert ask(sim, asked).status == 429
        with pytest.raises(ValueError, match="name one of the models"):
            sim.least_span()
        assert sim.least_span(MODEL) == 0.0
        sim.reset()
        assert sim.log() == []
        assert embed(sim, "word " * 100).status == 200


def test_anthropic_has_a_limit_of_output_tokens() -> None:
    with provider.threaded(Options(otpm=6, rule="minute", answer="one two three four")) as sim:
        asked = {"model": "claude-haiku-4-5", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]}
        came = ask(sim, asked, "/v1/messages")
        assert came.headers["anthropic-ratelimit-output-tokens-remaining"] == "2"
        refused = ask(sim, asked, "/v1/messages")
        assert refused.status == 429
        assert refused.json()["error"]["type"] == "rate_limit_error"
        assert float(refused.headers["retry-after"]) > 0
        assert sim.refusals()[0]["refused"] == "output-tokens"
        assert ask(sim, asked, "/v1/chat/completions").status == 200  # where output has no limit of its own
        assert sim.log("/v1/messages") == sim.log()[:2]


def test_the_service_takes_its_time_and_is_part_of_the_least_time() -> None:
    with provider.threaded(Options(base_ms=30, per_ktoken_ms=20)) as sim:
        begun = time.monotonic()
        embed(sim, "word " * 1000)
        assert time.monotonic() - begun >= 0.05
        assert sim.least_span() == pytest.approx(0.05)


def test_charged_at_completion_two_at_once_pass_where_one_after_the_other_would_not() -> None:
    from concurrent.futures import ThreadPoolExecutor

    def both(charge: str) -> list[int]:
        with (
            provider.threaded(Options(tpm=100, base_ms=300, charge=charge)) as sim,
            ThreadPoolExecutor(2) as pool,
        ):
            asked = [pool.submit(embed, sim, "word " * 80) for _ in range(2)]
            return [*sorted(each.result().status for each in asked), embed(sim, "word").status]

    assert both("completion") == [200, 200, 429]
    assert both("arrival") == [200, 429, 200]
