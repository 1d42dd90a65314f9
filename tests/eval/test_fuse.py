"""A chat model that does nothing but fail is given up, and one that fails now and then is not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from eval.fuse import MOST, Fused
from rag.errors import KeyMissing, ProviderFailed
from rag.types import Completion, Message, Usage

ASKED = (Message("user", "When does it leave?"),)


class Failing:
    """Fails while it is told to."""

    name = "test/failing"

    def __init__(self) -> None:
        self.calls = 0
        self.error: Exception | None = ProviderFailed("test/failing: a page of HTML")

    async def complete(self, messages: Sequence[Message], max_tokens: int) -> Completion:
        self.calls += 1
        if self.error:
            raise self.error
        return Completion("At nine.", "failing-1", Usage(1), "stop")

    async def stream(self, messages: Sequence[Message], max_tokens: int) -> AsyncIterator[str | Completion]:
        yield await self.complete(messages, max_tokens)


def ask(chat: Fused) -> str:
    try:
        return asyncio.run(chat.complete(ASKED, 9)).text
    except ProviderFailed as error:
        return error.message


def test_after_so_many_failures_in_a_row_nothing_is_sent_and_the_last_of_them_is_said() -> None:
    model = Failing()
    chat = Fused(model)
    said = [ask(chat) for _ in range(MOST + 5)]
    assert model.calls == MOST
    assert set(said[:MOST]) == {"test/failing: a page of HTML"}
    assert set(said[MOST:]) == {
        f"not asked: the {MOST} requests before it failed, the last of them: test/failing: a page of HTML"
    }


def test_one_reply_in_between_starts_the_count_anew() -> None:
    model = Failing()
    chat = Fused(model)
    failing = model.error
    for _ in range(3):
        model.error = failing
        assert {ask(chat) for _ in range(MOST - 1)} == {"test/failing: a page of HTML"}
        model.error = None
        assert ask(chat) == "At nine."
    assert model.calls == 3 * MOST


def test_what_is_the_same_for_every_question_passes_as_it_is() -> None:
    model = Failing()
    model.error = KeyMissing("no key")
    with pytest.raises(KeyMissing):
        asyncio.run(Fused(model).complete(ASKED, 9))
