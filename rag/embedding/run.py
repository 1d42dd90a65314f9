"""Sending exactly what was planned: concurrent, within the caps, each answer durable before it counts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rag import storage
from rag.counted import counted
from rag.embedding.cache import VectorCache
from rag.embedding.plan import Terms
from rag.errors import OverBudget
from rag.ports import EmbeddingModel
from rag.types import Usage


@dataclass(slots=True)
class Spent:
    """What a run has been billed so far. Mutable on purpose: it must be right even when the run dies of an error."""

    requests: int = 0
    tokens: int = 0
    texts: int = 0

    def usage(self, terms: Terms) -> Usage:
        return Usage(self.requests, self.tokens, 0, terms.usd(self.tokens))


@dataclass(frozen=True, slots=True)
class Request:
    """One request: the positions of its texts among all that is sent, and their tokens."""

    start: int
    end: int
    tokens: NDArray[np.uint32]


@dataclass(slots=True)
class Sender:
    """Embeds texts request by request and stores every answer before the next one counts as progress."""

    model: EmbeddingModel
    cache: VectorCache
    terms: Terms
    concurrency: int
    spent: Spent = field(default_factory=Spent)
    billed: Callable[[], None] = lambda: None
    """Called as soon as an answer is counted in `spent`, before it is stored: the ledger's open entry hangs on it."""
    _reserved: int = 0
    _left: int = 0
    """Tokens whose requests have not begun."""

    async def send(
        self,
        requests: Sequence[Request],
        keys: NDArray[np.uint8],
        texts: Callable[[int, int], list[str]],
        progress: Callable[[], None],
    ) -> None:
        """Send the requests in order, at most `concurrency` at once.

        `keys` uint8 [n, 32] and `texts(start, end)` are by position. The first failure stops new requests; those in
        flight are finished and stored, then it is raised. Raises OverBudget, ProviderFailed, StorageFailed.
        """
        waiting = iter(requests)
        self._left = sum(int(request.tokens.sum()) for request in requests)
        failure: list[BaseException] = []

        async def worker() -> None:
            for request in waiting:
                if failure:
                    return
                try:
                    await self._send(request, keys, texts(request.start, request.end))
                    progress()
                except Exception as error:  # noqa: BLE001 - kept, and raised when the others have stored theirs
                    failure.append(error)
                    return

        await asyncio.gather(*(worker() for _ in range(min(self.concurrency, len(requests)))))
        if failure:
            raise failure[0]

    async def _send(self, request: Request, keys: NDArray[np.uint8], texts: list[str]) -> None:
        planned = int(request.tokens.sum())
        # reserved before sending, so that requests in flight can never cross the cap together
        if not self.terms.allows(self.spent.tokens + self._reserved + planned):
            raise self._over(planned)
        self._reserved += planned
        self._left -= planned
        try:
            storage.faultpoint("embed.before_request")
            answer = await self.model.embed(texts, "passage")
        finally:
            self._reserved -= planned
        self.spent.requests += 1
        self.spent.tokens += answer.tokens
        self.billed()
        storage.faultpoint("embed.answered")
        self.cache.add(keys[request.start : request.end], answer.vectors, request.tokens)
        self.spent.texts += len(texts)
        storage.faultpoint("embed.stored")

    def _over(self, planned: int) -> OverBudget:
        used = self.spent.tokens + self._reserved
        what, remedy = self.terms.refusal(self.model.identity.name, used, planned, self._left)
        if self.spent.requests:
            what += f"; {counted(self.spent.texts, 'text')} of this run paid and kept"
        return OverBudget.at("embedding", what, remedy)
