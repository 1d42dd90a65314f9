"""What a failure is called, and how long a refusal is waited for."""

from __future__ import annotations

import email.utils
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.providers.check import BadReply
from rag.providers.retry import MOST, TABLE, Backoff, of_exception, of_status, retry_after

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@given(
    st.integers(300, 599),
    st.text(max_size=60),
    st.dictionaries(st.sampled_from(["retry-after", "x"]), st.text(max_size=9)),
)
def test_every_status_has_a_rule_whatever_its_body_and_headers(status: int, body: str, headers: dict[str, str]) -> None:
    failure = of_status(status, headers, body, NOW)
    assert failure.rule is TABLE[failure.rule.kind]
    assert failure.status == status
    assert failure.after is None or failure.after >= 0


def test_no_kind_is_tried_more_often_than_the_stated_number() -> None:
    assert all(1 <= rule.attempts <= MOST for rule in TABLE.values())
    assert {kind for kind, rule in TABLE.items() if rule.attempts == 1} == {"quota", "key", "model", "input", "request"}


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (429, '{"error": {"code": "insufficient_quota"}}', "quota"),
        (429, '{"error": {"code": "rate_limit_exceeded"}}', "rate"),
        (429, "", "rate"),
        (400, '{"error": "dimension 99 is not offered"}', "request"),
        (400, '{"error": {"message": "maximum context length is 512 tokens"}}', "input"),
        (
            400,
            '{"error": {"message": "encoding_format: input should be float", "param": "encoding_format"}}',
            "request",
        ),
        (401, "", "key"),
        (403, "", "key"),
        (404, "<html>", "model"),
        (405, "", "model"),
        (501, "<!DOCTYPE html><title>Unsupported method ('POST')</title>", "model"),
        (408, "", "server"),
        (413, "", "input"),
        (422, '{"detail": "unknown field"}', "request"),
        (500, "", "server"),
        (500, '{"error": {"message": "input is too large to process"}}', "input"),
        (529, '{"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}', "server"),
    ],
)
def test_statuses_are_told_apart_by_what_their_bodies_say(status: int, body: str, kind: str) -> None:
    assert of_status(status, {}, body, NOW).rule.kind == kind


def test_the_message_is_the_servers_sentence_and_never_a_page() -> None:
    assert of_status(500, {}, '{"error": {"message": "the disk is full"}}', NOW).message == "500: the disk is full"
    assert of_status(422, {}, '{"detail": "no such field"}', NOW).message == "422: no such field"
    assert of_status(502, {}, "<!DOCTYPE html><html>" + "x" * 5000, NOW).message == "502: a page of HTML"
    assert len(of_status(502, {}, "x" * 5000, NOW).message) < 400
    assert of_status(500, {}, "", NOW).message == "500: no reason given"


def test_half_a_surrogate_pair_gets_into_no_message() -> None:
    refused = of_status(400, {}, r'{"error": {"message": "no \ud800 text", "param": "input"}}', NOW)
    assert refused.message == "400: no ? text"
    told = of_exception(BadReply("it is of the model \ud83d"))
    assert told
    assert told.message == "the reply cannot be used: it is of the model ?"


@given(st.floats(0, 1e6))
def test_seconds_and_milliseconds_are_read_to_the_fraction(seconds: float) -> None:
    assert retry_after({"retry-after": repr(seconds)}, NOW) == seconds
    assert retry_after({"retry-after-ms": repr(seconds * 1000), "retry-after": "1"}, NOW) == pytest.approx(seconds)


@given(st.integers(-100_000, 100_000))
def test_a_date_is_waited_for_and_a_past_one_is_over(seconds: int) -> None:
    date = email.utils.format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)
    assert retry_after({"retry-after": date}, NOW) == max(0, seconds)


@pytest.mark.parametrize("value", ["", "soon", "nan", "inf", "1 s", "Thu, 99 Foo"])
def test_garbage_is_no_retry_after(value: str) -> None:
    assert retry_after({"retry-after": value}, NOW) is None
    assert retry_after({"retry-after-ms": value, "retry-after": "2"}, NOW) == 2.0


@given(st.integers())
def test_back_off_is_bounded_and_the_same_for_the_same_chance(seed: int) -> None:
    waits = [Backoff(Random(seed)).next() for _ in range(3)]
    assert len(set(waits)) == 1
    backoff = Backoff(Random(seed))
    assert all(0.5 <= backoff.next() <= 60.0 for _ in range(20))


def test_a_mistake_of_ours_is_no_failure_of_the_provider() -> None:
    assert of_exception(TypeError("ours")) is None
    assert of_exception(ValueError("ours")) is None
    bad, lost = of_exception(BadReply("short")), of_exception(ConnectionResetError("gone"))
    assert bad is not None
    assert lost is not None
    assert (bad.rule.kind, lost.rule.kind) == ("reply", "connection")
