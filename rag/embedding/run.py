"""Sending exactly what was planned: concurrent, within the caps, each answer durable before it counts."""

from __future__ import annotations

import asyncio
import bisect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rag import storage
from rag.counted import counted
from rag.embedding.batching import Row
from rag.embedding.cache import VectorCache
from rag.embedding.plan import Terms
from rag.errors import OverBudget, Problem, ProviderFailed
from rag.ports import EmbeddingModel
from rag.sync import together
from rag.types import Usage

Span = tuple[int, int]

BEARABLE: Final = 20
_BEARABLE_SHARE: Final = 0.05
_NAMED: Final = 3


@dataclass(slots=True)
class Spent:
    """What a run has been billed so far. Mutable on purpose: it must be right even when the run dies of an error."""

    requests: int = 0
    tokens: int = 0
    texts: int = 0

    def usage(self, terms: Terms) -> Usage:
        return Usage(self.requests, self.tokens, 0, terms.usd(self.tokens))


@dataclass(frozen=True, slots=True)
class Texts:
    """What is sent, by position: the cache key of each, its tokens, and where the texts and their names come from."""

    keys: NDArray[np.uint8]
    """uint8 [n, 32]"""
    tokens: NDArray[np.uint32]
    """uint32 [n]"""
    read: Callable[[int, int], list[str]]
    """The texts of a half-open range of positions."""
    name: Callable[[int], str]
    """The chunk_id of a position, for people."""


@dataclass(slots=True)
class Sender:
    """Embeds texts request by request and stores every answer before the next one counts as progress."""

    model: EmbeddingModel
    cache: VectorCache
    terms: Terms
    concurrency: int
    spent: Spent = field(default_factory=Spent)
    refused: dict[int, str] = field(default_factory=dict)
    """The positions of texts that the provider will not take, and its reason. Empty where it takes none: then it is not they."""
    billed: Callable[[], None] = lambda: None
    """Called as soon as an answer is counted in `spent`, before it is stored: the ledger's open entry hangs on it."""
    _reserved: int = 0
    _planned: int = 0
    """Tokens of all that is to be sent."""
    _awaited: int = 0
    """Texts of requests under way."""
    _width: int = 0
    """Numbers of a vector, once one has come."""
    _failure: BaseException | None = None
    """What ended it; no new request goes out."""

    async def send(self, texts: Texts, progress: Callable[[], None]) -> None:
        """Send all texts in order, at most `concurrency` requests at once.

        A request that is refused for what a text holds is split until that text is found; it goes to `refused`, and the
        rest goes on. The first other failure, or being cancelled, stops new requests; those in flight are finished and
        stored, then it is raised. Raises OverBudget, ProviderFailed, StorageFailed.
        """
        row = Row(texts.tokens)
        self._planned = int(row.tokens.sum())
        spans = self._spans(row)

        async def worker(few: Iterator[Span]) -> None:
            for span in few:
                if self._failure:
                    return
                try:
                    await self._send(span, texts)
                    progress()
                except Exception as error:  # noqa: BLE001 - kept, and raised when the others have stored theirs
                    self._failure = self._failure or error
                    return

        if self.model.limits.first_tokens is not None and (first := next(spans, None)):
            await worker(iter([first]))  # alone: what it learns decides how large the others are
        await together(worker(spans) for _ in range(min(self.concurrency, len(row))))
        if isinstance(self._failure, _CapReached):
            raise self._over(self._failure.tokens)  # now that all that was under way is counted
        if self._failure:
            raise self._failure

    def _spans(self, row: Row) -> Iterator[Span]:
        start = 0
        while start < len(row):
            end = row.end(start, self.model.limits)
            yield start, end
            start = end

    async def _send(self, span: Span, texts: Texts) -> None:
        """Send a request, and where a text of it is refused, its parts, none of them over half as large.

        Of one that would cross a cap as much is sent as is within it.
        """
        start, end = span
        fits = self._within_caps(texts.tokens[start:end])
        if fits < end - start:
            if fits:
                await self._send((start, start + fits), texts)
            raise _CapReached(int(texts.tokens[start + fits]))
        try:
            await self._ask(span, texts)
        except ProviderFailed as error:
            if not error.splittable:
                raise self._named(error, span, texts) from error
            if end - start == 1:
                self._refuse(start, error, texts)
                return
            parts = _parts(span, error.positions)
        else:
            return
        for part in parts:
            if self._failure:
                return
            await self._send(part, texts)

    async def _ask(self, span: Span, texts: Texts) -> None:
        start, end = span
        planned = int(texts.tokens[start:end].sum())
        self.cache.refuse_without_room(self._awaited + end - start, self._width)
        self._reserved += planned  # before sending, so that requests in flight can never cross a cap together
        self._awaited += end - start
        try:
            storage.faultpoint("embed.before_request")
            answer = await self.model.embed(texts.read(start, end), "passage")
        finally:
            self._reserved -= planned
            self._awaited -= end - start
        self._width = answer.vectors.shape[1]
        self.spent.requests += 1
        self.spent.tokens += answer.tokens
        self.billed()
        storage.faultpoint("embed.answered")
        self.cache.add(texts.keys[start:end], answer.vectors, texts.tokens[start:end])
        self.spent.texts += end - start
        storage.faultpoint("embed.stored")
        if (task := asyncio.current_task()) and task.cancelling():
            self._failure = self._failure or asyncio.CancelledError()

    def _within_caps(self, tokens: NDArray[np.uint32]) -> int:
        """How many of these texts, from the first on, may be sent beside what is billed and reserved."""
        used = self.spent.tokens + self._reserved
        sums = np.cumsum(tokens, dtype=np.int64).tolist()
        if not self.terms.crossed(used + sums[-1]):
            return len(sums)
        return bisect.bisect_left(sums, 1, key=lambda own: int(bool(self.terms.crossed(used + own))))

    def _refuse(self, position: int, error: ProviderFailed, texts: Texts) -> None:
        if self._failure:
            return
        self.refused[position] = error.message
        refused, done = len(self.refused), self.spent.texts + len(self.refused)
        if not bearable(refused, done):
            self.refused = {}
            last = f"the last, {texts.name(position)}: {error.message}"
            what = f"{refused:,} of {counted(done, 'text')} were refused, {last}"
            raise ProviderFailed.at(self.model.identity.name, what, error.problems[0].remedy) from error

    @staticmethod
    def _named(error: ProviderFailed, span: Span, texts: Texts) -> ProviderFailed:
        """The same error, with the texts that were asked for."""
        start, end = span
        about = [f"text {at} is {texts.name(start + at)}" for at in error.positions[:_NAMED] if 0 <= at < end - start]
        names = ", ".join(texts.name(at) for at in range(start, min(end, start + _NAMED)))
        more = f" and {end - start - _NAMED:,} more" if end - start > _NAMED else ""
        what = "; ".join([*about, f"{counted(end - start, 'text')} of this request: {names}{more}"])
        remedy = "they are not stored, what was answered is; the next run sends them again"
        return ProviderFailed(error.message, [*error.problems, Problem("texts", what, remedy)])

    def _over(self, planned: int) -> OverBudget:
        used = self.spent.tokens + self._reserved
        rest = max(planned, self._planned - used)
        what, remedy = self.terms.refusal(self.model.identity.name, used, planned, rest)
        if used:
            what += f"; {counted(self.spent.texts, 'text')} of this run paid and kept"
        return OverBudget.at("embedding", what, remedy)


class _CapReached(Exception):
    """The next text, of so many tokens, is not within a cap."""

    def __init__(self, tokens: int) -> None:
        super().__init__(tokens)
        self.tokens = tokens


def bearable(refused: int, done: int) -> bool:
    """Whether so many texts refused, of `done` in all, may be the fault of the texts.

    A few are borne whatever their share; one in each request would otherwise be looked for to the end.
    """
    return refused <= max(BEARABLE, _BEARABLE_SHARE * done)


def _parts(span: Span, positions: Sequence[int]) -> list[Span]:
    """What to send in place of a refused request: the texts that were named each alone, and the rest; else halves.

    None is over half as large, so that a text of n is in at most 1 + log2 n requests, whatever is refused.

    >>> _parts((10, 18), []), _parts((10, 18), [3]), _parts((10, 18), [0])
    ([(10, 14), (14, 18)], [(10, 13), (13, 14), (14, 18)], [(10, 11), (11, 14), (14, 18)])
    """
    start, end = span
    half = (end - start + 1) // 2
    parts: list[Span] = []

    def rest(until: int) -> None:
        middle = (start + until) // 2
        cut = [(start, middle), (middle, until)] if until - start > half else [(start, until)]
        parts.extend(part for part in cut if part[0] < part[1])

    for at in sorted({start + at for at in positions if 0 <= at < end - start}):
        rest(at)
        parts.append((at, at + 1))
        start = at + 1
    rest(end)
    return parts
