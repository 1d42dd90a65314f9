"""What an account was told to allow is known to the next run, and is no ceiling for it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from rag.clock import SystemClock
from rag.providers.limits import Budget, Load
from rag.providers.openai_api import OpenAIEmbedding
from rag.providers.remembered import NAME, allowed, remember
from rag.providers.settings import UNTOLD, Allowed, ModelSettings, Surroundings
from rag.sealed import read_sealed, write_sealed
from tests.servers.virtual import VirtualClock

AT = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
MODEL = ModelSettings("openai/text-embedding-3-small", "http://127.0.0.1:9/v1", "KEY")


def test_what_was_told_is_there_for_the_same_account_and_no_other(tmp_path: Path) -> None:
    assert allowed(tmp_path, MODEL) == UNTOLD
    remember(tmp_path, MODEL, Allowed(3000, 1_000_000), AT)
    assert allowed(tmp_path, MODEL) == Allowed(3000, 1_000_000)
    for other in (
        replace(MODEL, model="openai/text-embedding-3-large"),
        replace(MODEL, base_url="http://127.0.0.1:10/v1"),
        replace(MODEL, api_key_env="ANOTHER"),
    ):
        assert allowed(tmp_path, other) == UNTOLD
        remember(tmp_path, other, Allowed(1, None), AT)
        assert allowed(tmp_path, other) == Allowed(1, None)
    assert allowed(tmp_path, MODEL) == Allowed(3000, 1_000_000)


def test_nothing_is_written_for_nothing_told_or_nothing_new(tmp_path: Path) -> None:
    remember(tmp_path, MODEL, UNTOLD, AT)
    assert not (tmp_path / NAME).exists()
    remember(tmp_path, MODEL, Allowed(10, 20), AT)
    before = (tmp_path / NAME).stat().st_mtime_ns
    remember(tmp_path, MODEL, Allowed(10, 20), AT)
    assert (tmp_path / NAME).stat().st_mtime_ns == before


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"format": 1, "accounts": []}'])
def test_a_damaged_memory_is_forgotten_and_written_anew(content: bytes, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(content)
    assert allowed(tmp_path, MODEL) == UNTOLD
    remember(tmp_path, MODEL, Allowed(5, 6), AT)
    assert allowed(tmp_path, MODEL) == Allowed(5, 6)


def test_the_memory_of_a_newer_program_is_left_as_it_is(tmp_path: Path) -> None:
    write_sealed(tmp_path / NAME, {"format": 2, "accounts": {}})
    before = (tmp_path / NAME).read_bytes()
    assert allowed(tmp_path, MODEL) == UNTOLD
    remember(tmp_path, MODEL, Allowed(5, 6), AT)
    assert (tmp_path / NAME).read_bytes() == before


def test_no_password_is_in_it(tmp_path: Path) -> None:
    remember(tmp_path, replace(MODEL, base_url="http://user:secret@127.0.0.1:9/v1"), Allowed(1, 2), AT)
    assert "secret" not in (tmp_path / NAME).read_text()
    assert read_sealed(tmp_path / NAME)["accounts"]


def test_the_next_run_packs_its_requests_for_what_the_last_was_told() -> None:
    around = Surroundings(SystemClock(), {"KEY": "k"}, allowed=Allowed(3000, 1_000_000))
    limits = OpenAIEmbedding(MODEL, around).limits
    assert (limits.tokens, limits.first_tokens) == (4166, 256)


def test_a_raised_limit_is_believed_from_the_first_reply_on() -> None:
    clock = VirtualClock()
    budget = Budget(clock, expected=Allowed(None, 6_000))

    async def work() -> float:
        headers = {"x-ratelimit-limit-tokens": "60000", "x-ratelimit-remaining-tokens": "59000"}
        async with budget.reserve(Load(10)) as grant:
            budget.settle(grant, Load(10), headers)
        async with budget.reserve(Load(50_000)):
            return clock.monotonic()

    assert budget.limits == Allowed(None, 6_000)
    assert asyncio.run(work()) < 1.0
    assert budget.limits == Allowed(None, 60_000)
