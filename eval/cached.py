"""A chat model that looks into the store before it asks, and puts there what it paid for before anybody sees it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

from eval.answers import AnswerStore, Kept
from rag.digest import digest
from rag.generation.answer import REFUSED
from rag.ports import ChatModel
from rag.types import Completion, Json, Message, Usage

KEY_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Call:
    """What became of one call of a chat model that looks into the store first."""

    completion: Completion
    """With the usage of the call that paid."""
    seconds: float
    """Of the call that paid, from asking to the whole reply: waiting for the limits, and retries, are in it."""
    cached: bool
    """Whether it was paid before, or by another call at the same time."""

    @property
    def usage(self) -> Usage:
        """What was billed now."""
        return Usage() if self.cached else self.completion.usage

    @property
    def usd_saved(self) -> float | None:
        """What a reply that was there had cost; None where no price is known."""
        return self.completion.usage.usd if self.cached else 0.0


class _Flight:
    """A call under way, for all who want the same."""

    def __init__(self, task: asyncio.Task[Kept]) -> None:
        self.task = task
        self.waiting = 0
        self.billed = False


class CachedChat:
    """**ChatModel** over a chat model: what was paid for before is not asked for again.

    A reply depends on model, server, prompt file, parameters, messages and `repeat`, and its key on all of these. Equal
    calls under way at once are one call. Errors, refusals and empty replies that were cut off are not kept.

    It remembers nothing of a call: `ask` returns what `complete` leaves out, and `Asked` gathers it for one question.
    """

    def __init__(
        self,
        chat: ChatModel,
        store: AnswerStore,
        base_url: str,
        prompt_sha256: str,
        parameters: Mapping[str, Json],
        repeat: int = 0,
        *,
        fresh: bool = False,
    ) -> None:
        """`base_url` as `rag.wiring.chat_address` gives it; `parameters` beside max_tokens, which each call brings.

        `fresh` believes only what this very object has paid for, and keeps it.
        """
        self.name = chat.name
        self._chat = chat
        self._store = store
        self._identity: dict[str, Json] = {
            "format": KEY_FORMAT,
            "model": chat.name,
            "base_url": base_url,
            "prompt_sha256": prompt_sha256,
            "parameters": dict(parameters),
            "repeat": repeat,
        }
        self._fresh = fresh
        self._paid: set[str] = set()
        self._flying: dict[str, _Flight] = {}

    def key(self, messages: Sequence[Message], max_tokens: int) -> str:
        """The key of a call: sha256, hex."""
        turns: list[Json] = [[message.role, message.content] for message in messages]
        return digest({**self._identity, "max_tokens": max_tokens, "messages": turns})

    async def ask(self, messages: Sequence[Message], max_tokens: int) -> Call:
        """The reply, and whether it was there. Raises what the chat model raises; StorageFailed, Busy."""
        key = self.key(messages, max_tokens)
        if (not self._fresh or key in self._paid) and (kept := self._store.get(key)):
            return Call(kept.completion, kept.seconds, cached=True)
        flight = self._flying.get(key)
        if flight is None:
            flight = self._flying[key] = _Flight(asyncio.create_task(self._pay(key, messages, max_tokens)))
        flight.waiting += 1
        try:
            # one who gives up must not take the others' call away
            kept = await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if not flight.waiting:
                flight.task.cancel()
                if self._flying.get(key) is flight:
                    del self._flying[key]
        cached, flight.billed = flight.billed, True
        return Call(kept.completion, kept.seconds, cached)

    async def complete(self, messages: Sequence[Message], max_tokens: int) -> Completion:
        """The reply alone. Raises as `ask`."""
        return (await self.ask(messages, max_tokens)).completion

    async def stream(self, messages: Sequence[Message], max_tokens: int) -> AsyncIterator[str | Completion]:
        """The reply as one item: no piece of it is seen before all of it is kept. Raises as `ask`."""
        yield await self.complete(messages, max_tokens)

    async def _pay(self, key: str, messages: Sequence[Message], max_tokens: int) -> Kept:
        clock = self._store.clock
        begun = clock.monotonic()
        completion = await self._chat.complete(messages, max_tokens)
        # nothing is awaited from here to the end: no cancellation can come between the reply and the store
        kept = Kept(completion, clock.monotonic() - begun)
        cut_off_empty = completion.finish_reason == "length" and not completion.text.strip()
        if completion.finish_reason not in REFUSED and not cut_off_empty:
            self._store.put(key, kept)
            self._paid.add(key)
        return kept


class Asked:
    """**ChatModel** for one question over a CachedChat: it remembers what was sent and what came of it."""

    def __init__(self, chat: CachedChat) -> None:
        self.name = chat.name
        self._chat = chat
        self.messages: tuple[Message, ...] = ()
        """As they were sent last; empty where nothing was."""
        self.call: Call | None = None
        """The last call; None where there was none, or it failed."""

    async def complete(self, messages: Sequence[Message], max_tokens: int) -> Completion:
        """As CachedChat."""
        self.messages, self.call = tuple(messages), None
        self.call = await self._chat.ask(messages, max_tokens)
        return self.call.completion

    async def stream(self, messages: Sequence[Message], max_tokens: int) -> AsyncIterator[str | Completion]:
        """As CachedChat."""
        yield await self.complete(messages, max_tokens)
