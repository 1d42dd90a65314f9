"""What was paid for is not asked for again: one call for equal calls, whenever and however many, and none for errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.answers import FILE, AnswerStore
from eval.cached import Asked, CachedChat, Call
from rag.errors import KeyMissing, ProviderFailed, StorageFailed
from rag.types import Completion, Message, Usage
from tests.servers.virtual import VirtualClock

ASKED = (Message("system", "Be brief."), Message("user", "When does it leave?"))


class Counting:
    """A chat model that counts, takes a second of virtual time, and answers what it is told to."""

    name = "test/counting"

    def __init__(self, clock: VirtualClock) -> None:
        self.calls = 0
        self.under_way = 0
        self.reply: Callable[[int], Completion] = lambda number: Completion(f"At {number}.", "c", Usage(1, 8, 2, 0.5))
        self._clock = clock

    async def complete(self, messages: Sequence[Message], max_tokens: int) -> Completion:
        self.calls += 1
        number = self.calls
        self.under_way += 1
        try:
            await self._clock.sleep(1.0)
        finally:
            self.under_way -= 1
        return self.reply(number)

    async def stream(self, messages: Sequence[Message], max_tokens: int) -> AsyncIterator[str | Completion]:
        yield await self.complete(messages, max_tokens)


class Place:
    """A model and a store, and as many cached models over both as are wanted."""

    opened: ClassVar[list[AnswerStore]] = []

    def __init__(self, path: Path | None = None) -> None:
        self.clock = VirtualClock()
        self.model = Counting(self.clock)
        self.store = AnswerStore(path, self.clock)
        self.opened.append(self.store)

    def chat(self, repeat: int = 0, **given: Any) -> CachedChat:
        return CachedChat(self.model, self.store, "", "f" * 64, {"temperature": 0}, repeat, **given)

    def ask(self, chat: CachedChat, messages: Sequence[Message] = ASKED) -> Call:
        return asyncio.run(chat.ask(messages, 50))


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while Place.opened:
        Place.opened.pop().close()


def test_a_reply_is_paid_for_once_and_tells_what_it_cost_then(tmp_path: Path) -> None:
    place = Place(tmp_path / FILE)
    first, second = place.ask(place.chat()), place.ask(place.chat())
    assert place.model.calls == 1
    assert first.completion == second.completion == Completion("At 1.", "c", Usage(1, 8, 2, 0.5))
    assert (first.cached, first.seconds, first.usage, first.usd_saved) == (False, 1.0, Usage(1, 8, 2, 0.5), 0.0)
    assert (second.cached, second.seconds, second.usage, second.usd_saved) == (True, 1.0, Usage(), 0.5)
    with AnswerStore(tmp_path / FILE, place.clock) as other:
        assert other.get(place.chat().key(ASKED, 50)) is not None, "it is durable before anybody sees it"
    place.store.close()


def test_a_reply_of_unknown_price_saves_an_unknown_sum() -> None:
    place = Place()
    place.model.reply = lambda _: Completion("At six.", "c", Usage(1, 8, 2, None))
    assert (place.ask(place.chat()).usd_saved, place.ask(place.chat()).usd_saved) == (0.0, None)


KEYED: dict[str, tuple[Any, ...]] = {
    "model": ("openai/a", "", "f" * 64, {}, 0, ASKED, 50),
    "address": ("test/counting", "http://box/v1", "f" * 64, {}, 0, ASKED, 50),
    "prompt": ("test/counting", "", "e" * 64, {}, 0, ASKED, 50),
    "parameters": ("test/counting", "", "f" * 64, {"max_tokens": 50}, 0, ASKED, 50),
    "repeat": ("test/counting", "", "f" * 64, {}, 1, ASKED, 50),
    "messages": ("test/counting", "", "f" * 64, {}, 0, ASKED[1:], 50),
    "role": ("test/counting", "", "f" * 64, {}, 0, (ASKED[0], Message("assistant", ASKED[1].content)), 50),
    "length": ("test/counting", "", "f" * 64, {}, 0, ASKED, 51),
    "itself": ("test/counting", "", "f" * 64, {}, 0, ASKED, 50),
}


def test_whatever_decides_a_reply_is_in_its_key() -> None:
    place = Place()
    keys = []
    for name, *identity, messages, max_tokens in KEYED.values():
        place.model.name = name
        keys.append(CachedChat(place.model, place.store, *identity).key(messages, max_tokens))
    assert len(set(keys)) == len(KEYED)
    assert all(len(key) == 64 for key in keys)


turns = st.lists(st.builds(Message, st.sampled_from(["system", "user"]), st.text(max_size=3)), max_size=3)


@given(turns, turns)
def test_only_equal_messages_have_equal_keys(one: list[Message], other: list[Message]) -> None:
    chat = Place().chat()
    assert (chat.key(one, 50) == chat.key(other, 50)) == (one == other)


def test_equal_calls_at_once_are_one_call_and_are_billed_once() -> None:
    place = Place()
    chat = place.chat()

    async def work() -> list[Call]:
        return await asyncio.gather(*(chat.ask(ASKED, 50) for _ in range(5)), chat.ask(ASKED[1:], 50))

    calls = asyncio.run(work())
    assert place.model.calls == 2
    assert [call.cached for call in calls] == [False, True, True, True, True, False]
    assert sum((call.usage for call in calls), Usage()).usd == 1.0


async def turned() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_one_who_gives_up_takes_nobodys_reply_away_and_the_last_one_ends_the_call() -> None:
    place = Place()
    place.clock.may_pass = lambda: False
    chat = place.chat()

    async def work() -> Call:
        tasks = [asyncio.create_task(chat.ask(ASKED, 50)) for _ in range(2)]
        await turned()
        tasks[0].cancel()
        await turned()
        assert place.model.under_way == 1
        tasks[1].cancel()
        # who comes now must not be given what is being ended
        again = asyncio.create_task(chat.ask(ASKED, 50))
        await turned()
        assert [task.cancelled() for task in tasks] == [True, True]
        assert (place.model.calls, place.model.under_way) == (2, 1)
        place.clock.may_pass = lambda: True
        return await again

    assert asyncio.run(work()).completion.text == "At 2."


NOT_KEPT = [
    Completion("I cannot.", "c", Usage(1, 8, 2), "refusal"),
    Completion("", "c", Usage(1, 8, 2), "content_filter"),
    Completion(" \n", "c", Usage(1, 8, 2), "length"),
]


@pytest.mark.parametrize("completion", NOT_KEPT, ids=lambda completion: completion.finish_reason)
def test_what_is_no_answer_is_given_once_and_asked_for_again(completion: Completion) -> None:
    place = Place()
    place.model.reply = lambda _: completion
    for _ in range(2):
        call = place.ask(place.chat())
        assert (call.completion, call.cached, call.usage) == (completion, False, completion.usage)
    assert place.model.calls == 2


def test_a_reply_that_was_cut_off_after_some_words_is_kept() -> None:
    place = Place()
    place.model.reply = lambda _: Completion("At", "c", Usage(1, 8, 2), "length")
    assert [place.ask(place.chat()).cached for _ in range(2)] == [False, True]


@pytest.mark.parametrize("error", [ProviderFailed("the server is down"), KeyMissing("no key")])
def test_an_error_reaches_all_who_wait_and_is_not_kept(error: Exception) -> None:
    place = Place()
    chat = place.chat()

    def fail(_: int) -> Completion:
        raise error

    async def work() -> list[Any]:
        return await asyncio.gather(*(chat.ask(ASKED, 50) for _ in range(3)), return_exceptions=True)

    place.model.reply = fail
    assert asyncio.run(work()) == [error] * 3
    assert place.model.calls == 1
    place.model.reply = Counting(place.clock).reply
    assert place.ask(chat).completion.text == "At 2."


def test_a_fresh_one_believes_only_itself_and_leaves_its_replies_to_others() -> None:
    place = Place()
    place.ask(place.chat())
    fresh = place.chat(fresh=True)
    assert [place.ask(fresh).completion.text for _ in range(2)] == ["At 2.", "At 2."]
    assert place.ask(place.chat()).completion.text == "At 2."
    assert place.model.calls == 2


def test_a_reply_that_cannot_be_kept_is_not_shown(tmp_path: Path) -> None:
    place = Place(tmp_path / FILE)
    place.store._connection.execute("PRAGMA max_page_count = 1")
    place.model.reply = lambda _: Completion("x" * 100_000, "c", Usage())
    with pytest.raises(StorageFailed, match="No space left"):
        place.ask(place.chat())
    place.store.close()


def test_it_is_a_chat_model_that_shows_a_stream_when_it_is_kept() -> None:
    place = Place()

    async def work(chat: CachedChat | Asked) -> list[str | Completion]:
        return [item async for item in chat.stream(ASKED, 50)]

    asked = Asked(place.chat())
    assert (asked.messages, asked.call) == ((), None)
    assert (
        asyncio.run(work(place.chat())) == asyncio.run(work(asked)) == [Completion("At 1.", "c", Usage(1, 8, 2, 0.5))]
    )
    assert asked.name == place.chat().name == "test/counting"
    assert asked.messages == ASKED
    assert asked.call is not None
    assert asked.call.cached


def test_what_was_asked_in_vain_is_known_too() -> None:
    place = Place()

    def fail(_: int) -> Completion:
        raise ProviderFailed("too long")

    place.model.reply = fail
    asked = Asked(place.chat())
    with pytest.raises(ProviderFailed):
        asyncio.run(asked.complete(ASKED, 50))
    assert (asked.messages, asked.call) == (ASKED, None)
