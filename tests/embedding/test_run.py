"""The search for the texts that a provider will not take: how a refused request is split, and when it ends."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.clock import SystemClock
from rag.digest import text_keys
from rag.embedding.cache import VectorCache
from rag.embedding.plan import Terms
from rag.embedding.run import BEARABLE, Sender, Texts, _parts
from rag.errors import KeyMissing, OverBudget, ProviderFailed
from rag.ports import Embedded
from rag.types import EmbeddingIdentity, RequestLimits, Role

Span = tuple[int, int]


@given(st.integers(2, 3000), st.lists(st.integers(-2, 3001), max_size=8), st.integers(0, 50))
def test_the_parts_of_a_request_are_its_texts_in_order_and_none_is_over_half(
    size: int, named: list[int], start: int
) -> None:
    parts = _parts((start, start + size), named)
    assert [at for part in parts for at in range(*part)] == list(range(start, start + size))
    assert all(0 < end - begin <= (size + 1) // 2 for begin, end in parts)
    alone = {begin for begin, end in parts if end - begin == 1}
    assert {start + at for at in named if 0 <= at < size} <= alone


class Choosy:
    """Refuses a request for the poisoned texts in it, naming the first of them where it `names`."""

    def __init__(self, poisoned: set[str], *, names: bool, texts: int) -> None:
        self.identity = EmbeddingIdentity("test", "choosy")
        self.limits = RequestLimits(texts, 100_000, 8_192)
        self.poisoned = poisoned
        self.names = names
        self.asked: list[list[str]] = []
        self.fails_at: int | None = None

    async def embed(self, texts: Sequence[str], _role: Role) -> Embedded:
        self.asked.append(list(texts))
        await asyncio.sleep(0)
        if len(self.asked) == self.fails_at:
            raise KeyMissing("no key any more")
        if found := [at for at, text in enumerate(texts) if text in self.poisoned]:
            error = ProviderFailed.at("here", f"400: input[{found[0]}]", "leave it out")
            error.splittable, error.positions = True, (found[0],) if self.names else ()
            raise error
        return Embedded(np.ones((len(texts), 4), np.float32), len(texts))


def sender(model: Choosy, folder: Path, *, concurrency: int = 1) -> Sender:
    cache = VectorCache(folder, model.identity, SystemClock())
    return Sender(model, cache, Terms(model.limits, True, None, None, None, None, None, None), concurrency)


def texts_of(model: Choosy, names: Sequence[str]) -> Texts:
    keys = text_keys(model.identity, "passage", names)
    tokens = np.ones(len(names), np.uint32)
    return Texts(keys, tokens, lambda start, end: list(names[start:end]), lambda at: names[at])


@pytest.mark.parametrize("names", [True, False])
@pytest.mark.parametrize("poisoned", [{7}, {0, 63}, {3, 4, 5, 6}, set(range(0, 64, 4)), set(range(44, 64))])
def test_every_refused_text_is_found_and_no_text_is_in_more_than_its_share_of_requests(
    tmp_path: Path, poisoned: set[int], *, names: bool
) -> None:
    every = [f"text {at}" for at in range(64)]
    model = Choosy({every[at] for at in poisoned}, names=names, texts=64)
    sending = sender(model, tmp_path)
    asyncio.run(sending.send(texts_of(model, every), lambda: None))
    assert set(sending.refused) == poisoned
    assert sending.spent.texts == 64 - len(poisoned)
    assert max(Counter(text for asked in model.asked for text in asked).values()) <= 1 + 6
    if len(poisoned) == 1:
        assert len(model.asked) <= (6 if names else 1 + 2 * 6)


@pytest.mark.parametrize("concurrency", [1, 8])
def test_all_that_a_cap_allows_is_sent_and_counted(tmp_path: Path, concurrency: int) -> None:
    every = [f"text {at}" for at in range(64)]
    model = Choosy(set(), names=False, texts=16)
    sending = sender(model, tmp_path, concurrency=concurrency)
    sending.terms = replace(sending.terms, free=False, max_tokens=43)
    with pytest.raises(OverBudget) as caught:
        asyncio.run(sending.send(texts_of(model, every), lambda: None))
    assert [text for asked in model.asked for text in asked] == every[:43]
    assert "max_tokens = 43 (43 used, 1 more); 43 texts of this run paid and kept" in caught.value.message
    assert "`--max-tokens 21` or more" in caught.value.problems[0].remedy


def test_where_everything_is_refused_the_search_ends_and_no_text_is_blamed(tmp_path: Path) -> None:
    every = [f"text {at}" for at in range(640)]
    model = Choosy(set(every), names=False, texts=64)
    sending = sender(model, tmp_path, concurrency=2)
    with pytest.raises(ProviderFailed, match=r"21 of 21 texts were refused, the last, text \d+: 400: ") as caught:
        asyncio.run(sending.send(texts_of(model, every), lambda: None))
    assert sending.refused == {}
    assert len(model.asked) < 6 * BEARABLE
    assert caught.value.problems[0].remedy == "leave it out"


def test_a_search_sends_nothing_more_once_another_request_has_failed(tmp_path: Path) -> None:
    every = [f"text {at}" for at in range(128)]
    model = Choosy({every[5]}, names=False, texts=64)
    model.fails_at = 2
    sending = sender(model, tmp_path, concurrency=2)
    with pytest.raises(KeyMissing):
        asyncio.run(sending.send(texts_of(model, every), lambda: None))
    assert len(model.asked) <= 3
    assert sending.refused == {}
