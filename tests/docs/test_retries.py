"""What docs/operations.md says of retries and limits is what the code does."""

from __future__ import annotations

import math
import re
from dataclasses import fields
from pathlib import Path

from rag.embedding import run
from rag.providers import limits, meter, retry
from rag.providers.openai_api import BYTES_PER_NUMBER, OpenAIEmbedding
from rag.providers.retry import MOST, TABLE, Rule
from rag.providers.settings import ModelSettings, Surroundings
from tests.servers.virtual import VirtualClock

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """A section in one line, so that a sentence is found wherever it is broken."""
    (found,) = re.findall(rf"^## {title}\n(.*?)(?=^## )", PAGE, re.MULTILINE | re.DOTALL)
    return " ".join(found.split())


def row(rule: Rule) -> str:
    if rule.attempts == 1:
        return f"| {rule.what} | once | | |"
    after = "back-off" if rule.kind in ("connection", "reply") else "its `Retry-After`, else back-off"
    return f"| {rule.what} | {rule.attempts} times | {after} | {rule.waits} |"


def test_the_table_of_retries_is_that_of_the_code() -> None:
    (table,) = re.findall(r"^\| answer \| sent at most .*\n\|[-|]+\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    assert table.splitlines() == [row(rule) for rule in TABLE.values()]


def requests_of(base_url: str | None) -> tuple[int, int]:
    """Texts of the largest request, and in how many requests one of them may be."""
    model = OpenAIEmbedding(ModelSettings("openai/text-embedding-3-small", base_url), Surroundings(VirtualClock(), {}))
    return model.limits.texts, 1 + math.ceil(math.log2(model.limits.texts))


def test_the_numbers_of_retries_are_those_of_the_code() -> None:
    own, others = requests_of(None), requests_of("http://127.0.0.1:1/v1")
    patience = next(field.default for field in fields(ModelSettings) if field.name == "patience")
    said = section("Retries")
    for sentence in (
        f"one request is sent at most {MOST} times",
        f"a text is in at most {own[1]} requests where {own[0]:,} are sent at once, and in {others[1]} of {others[0]}",
        f"a run sends a text at most {MOST * own[1]} times, and {MOST} times where nothing is refused",
        f"honoured to the full, up to {patience:,.0f} s",
        f"drawn between {retry._BASE} s and three times the last one, and never over {retry._CAP:.0f} s",
        f"{BYTES_PER_NUMBER} bytes a number",
    ):
        assert sentence in said


def test_the_numbers_of_limits_and_refused_texts_are_those_of_the_code() -> None:
    assert f"The first request is small ({limits.PROBE} tokens)" in section("Limits")
    assert (limits._MORE, meter.SHARED_RESERVE) == (1.0, 1.0), "up to a second is added, and a second's worth kept back"
    assert run._BEARABLE_SHARE == 1 / 20
    assert f"over {run.BEARABLE} texts and a twentieth of those answered" in section("Texts that a provider refuses")
