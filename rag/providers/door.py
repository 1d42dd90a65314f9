"""One request through the door: budget before, retry around, no key in what comes out."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from random import Random
from types import ModuleType
from typing import Any, Final, Generic, TypeVar
from weakref import WeakKeyDictionary

from rag.errors import KeyMissing, ProviderFailed, RaglineError, UnknownModel
from rag.providers import retry
from rag.providers.address import on_this_machine, other_server, plain_url
from rag.providers.check import BadReply
from rag.providers.limits import PROBE, Budget, Grant, Load, shared_budget
from rag.providers.models import PROVIDERS
from rag.providers.prices import price
from rag.providers.reply_ids import ReplyIds
from rag.providers.retry import MOST, Backoff, Failure
from rag.providers.secrets import Key, Veil, key_variable, read_key
from rag.providers.settings import ModelSettings, Surroundings
from rag.sync import seen_through
from rag.types import Usage

V = TypeVar("V")
_BYTES_PER_TOKEN: Final = 3.0
STREAM_TIMES: Final = 10.0
"""A reply in pieces may take `timeout` from piece to piece, and this many times that in all."""
_SAID: Final = 1000
"""Letters of what a server says that are told on."""
FREE_ROOM: Final = 1 << 20
"""Bytes that any reply may have, whatever was asked: a refusal may be a page."""
_room: ContextVar[int] = ContextVar("_room", default=FREE_ROOM)
_grant: ContextVar[Grant | None] = ContextVar("_grant", default=None)


@dataclass(frozen=True, slots=True)
class Reply(Generic[V]):
    """A good answer: its value, what it counts for (None where the server does not say) and its headers."""

    value: V
    billed: Load | None
    headers: Mapping[str, str]


class Door:
    """All requests of one model to one server pass here. The provider's library is imported with the first."""

    def __init__(self, settings: ModelSettings, around: Surroundings) -> None:
        self._settings = settings
        self._around = around
        self._provider = PROVIDERS[settings.provider]
        self._url = settings.base_url or self._provider.url
        self.base_url = other_server(settings.provider, settings.base_url)
        self._key: Key | None = None
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = WeakKeyDictionary()
        self._bytes = 0
        self._billed = 0
        account = (settings.provider, self.base_url, key_variable(settings), settings.name)
        self.budget: Budget = shared_budget(
            account,
            around.clock,
            settings.requests_per_minute,
            settings.tokens_per_minute,
            settings.concurrency,
            around.allowed,
        )

    def client(self) -> Any:
        """The library's client for the running loop: a connection cannot move to another. Raises KeyMissing."""
        loop = asyncio.get_running_loop()
        for other in [known for known in self._clients if known.is_closed()]:
            del self._clients[other]
        client = self._clients.get(loop)
        if client is None:
            client = self._clients[loop] = self._new_client()
        return client

    async def close(self) -> None:
        """Close the connections that the running loop holds."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.close()

    def usage(self, input_tokens: int | None, output_tokens: int | None) -> Usage:
        """What one reply was billed. Tokens that the server does not tell leave the dollars unknown."""
        known = price(self._settings.model, self.base_url or None, self._settings.prices)
        told = input_tokens is not None and output_tokens is not None
        usd = known.usd(input_tokens or 0, output_tokens or 0) if known and told else None
        return Usage(1, input_tokens or 0, output_tokens or 0, usd)

    def without_key(self, text: str) -> str:
        """What a server says, without the key that it was sent."""
        return self._key.hide_itself(text) if self._key else text

    def request_tokens(self, most: int) -> tuple[int, int | None]:
        """Tokens that one request should hold, of at most so many, and the first of several, while none was answered."""
        best = self.budget.best_size(most)
        return best, min(best, PROBE) if self.budget.probing else None

    def estimate(self, texts: Iterable[str]) -> int:
        """Tokens to reserve: exact where a counter was given, else from bytes at the rate of what was billed so far."""
        if self._around.count is not None:
            return sum(map(self._around.count, texts))
        size = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
        rate = self._bytes / self._billed if self._billed else _BYTES_PER_TOKEN
        return int(size / rate) + 1

    def learn(self, texts: Iterable[str], billed: int) -> None:
        """Remember how many bytes a billed token had."""
        self._bytes += sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
        self._billed += billed

    async def send(
        self, load: Load, room: int, call: Callable[[], Coroutine[Any, Any, Reply[V]]], *, kept: bool = False
    ) -> V:
        """Send one request and give its value; the reply is whole within `timeout`.

        With `kept` a caller who is cancelled while it is under way gets its answer all the same: see `seen_through`.
        Raises as `stream` does.
        """

        async def once() -> AsyncGenerator[str | Reply[V]]:
            until = asyncio.get_running_loop().time() + self._settings.timeout
            yield await (seen_through(call(), until) if kept else call())

        async with contextlib.aclosing(self.stream(load, room, once)) as items:
            async for item in items:
                if not isinstance(item, str):
                    return item.value
        raise AssertionError("a stream ends with a reply or an error")

    async def stream(
        self, load: Load, room: int, start: Callable[[], AsyncGenerator[str | Reply[V]]]
    ) -> AsyncGenerator[str | Reply[V]]:
        """Pieces as they come, then the Reply; tried again, by the table, only before the first piece.

        Parameters
        ----------
        load : what to reserve
        room : bytes that a right reply may have at most, beside FREE_ROOM

        Raises ProviderFailed, KeyMissing, UnknownModel.
        """
        tries = _Tries(self._around.random)
        while True:
            begun = False
            veil: Veil | None = None
            async with self.budget.reserve(load, again=tries.counts["rate"] > 0) as grant:
                try:
                    _room.set(FREE_ROOM + room)
                    _grant.set(grant)
                    end = asyncio.get_running_loop().time() + STREAM_TIMES * self._settings.timeout
                    async with contextlib.aclosing(start()) as items:
                        while (item := await self._next(items, end)) is not None:
                            if isinstance(item, str):
                                begun = True
                                veil = veil or Veil(self._hider())
                                if shown := veil.next(item):
                                    yield shown
                                continue
                            if veil and (rest := veil.rest()):
                                yield rest
                            self.budget.settle(grant, item.billed, item.headers)
                            yield item
                            return
                    raise BadReply("it ended before it was whole")  # noqa: TRY301 - one place judges all failures
                except RaglineError:
                    raise
                except Exception as error:  # noqa: BLE001 - the table decides what it is
                    cause, failure = error, self._classified(error)
                wait = tries.failed(failure)
                if failure.rule.kind == "rate":
                    self.budget.refused(grant, wait, failure.headers)
                elif failure.rule.waits == "everyone":
                    self.budget.pause(wait)
            if begun or tries.over(failure) or wait > self._settings.patience:
                break
            if failure.rule.waits != "everyone":
                await self._around.clock.sleep(wait)
        raise self._final(failure, tries.counts.total(), wait, cause)

    async def ask(self, room: int, seconds: float, call: Callable[[], Awaitable[V]]) -> V:
        """Send one request that is no work of a model, so that no budget counts it; tried again by the same table.

        Parameters
        ----------
        room : bytes that a right reply may have at most, beside FREE_ROOM
        seconds : what it may take beyond `timeout`

        Raises ProviderFailed, KeyMissing, UnknownModel.
        """
        tries = _Tries(self._around.random)
        while True:
            try:
                _room.set(FREE_ROOM + room)
                _grant.set(None)
                async with asyncio.timeout(self._settings.timeout + seconds):
                    return await call()
            except RaglineError:
                raise
            except Exception as error:  # noqa: BLE001 - the table decides what it is
                cause, failure = error, self._classified(error)
            if failure.rule.kind == "input":  # no text of ours is in it
                failure = replace(failure, rule=retry.TABLE["request"])
            wait = tries.failed(failure)
            if tries.over(failure) or wait > self._settings.patience:
                break
            await self._around.clock.sleep(wait)
        raise self._final(failure, tries.counts.total(), wait, cause)

    async def _next(self, items: AsyncGenerator[V], end: float) -> V | None:
        """The next item, or None at the end. A server that drips keeps every read short: only a clock around it helps."""
        until = min(end, asyncio.get_running_loop().time() + self._settings.timeout)
        async with asyncio.timeout_at(until):
            return await anext(items, None)

    def _new_client(self) -> Any:
        import importlib

        from rag.providers.measured import hook

        ids = ReplyIds()
        module, _, client = self._provider.client.partition(":")
        library: Any = importlib.import_module(module)
        if self._key is None:
            self._key = read_key(self._settings, self._around.environment)
        # a proxy from the environment cannot reach this machine; base_url is always given, or the library would read it
        # from a variable that our identity does not know of
        http = library.DefaultAsyncHttpxClient(
            trust_env=not on_this_machine(self._url),
            follow_redirects=False,  # a text goes to the server that was named, and to no other
            headers={"accept-encoding": "identity"},
            event_hooks={"request": [ids.sends, self._went], "response": [ids.comes, hook(_room.get)]},
        )
        return getattr(library, client)(
            api_key=self._key.reveal(),
            base_url=self._url,
            timeout=self._settings.timeout,
            max_retries=0,
            http_client=http,
        )

    async def _went(self, _: object) -> None:
        """The clients call this when a request is made up and goes out."""
        if grant := _grant.get():
            self.budget.went(grant)

    def _classified(self, error: Exception) -> Failure:
        if isinstance(error.__cause__, BadReply):  # anthropic's library calls whatever a hook raises a lost connection
            error = error.__cause__
        where = plain_url(self._url)
        allowed = f"timeout_seconds = {self._settings.timeout:g}"
        if isinstance(error, TimeoutError):
            return Failure(
                retry.TABLE["connection"], f"no whole reply from {where} in the time it may take ({allowed})"
            )
        known = retry.of_exception(error)
        if known is not None:
            return known
        import httpx2

        library: ModuleType | None = sys.modules.get(self._provider.library)
        if library is None:
            raise error
        if isinstance(error, library.APIResponseValidationError):
            return Failure(retry.TABLE["reply"], f"the reply cannot be used: {error}")
        if isinstance(error, library.APIStatusError) and error.status_code >= 300:
            response = error.response
            said = self._hider().hide(response.text)  # before anything is cut off: half a key is not found
            return retry.of_status(error.status_code, response.headers, said, self._around.clock.utc())
        if isinstance(error, library.APITimeoutError | httpx2.TimeoutException):
            return Failure(retry.TABLE["connection"], f"no reply from {where} in time ({allowed})")
        if isinstance(error, library.APIConnectionError | httpx2.HTTPError):
            why = str(error.__cause__ or error) or "the connection broke"
            return Failure(retry.TABLE["connection"], f"no whole reply from {where}: {why}")
        if isinstance(error, library.APIError):
            return Failure(retry.TABLE["server"], f"the reply tells of an error: {error}")
        if self._hider().is_in(error):
            return Failure(retry.TABLE["request"], f"{type(error).__name__}: {error}")
        raise error

    def _final(self, failure: Failure, times: int, wait: float, cause: Exception) -> RaglineError:
        """What to raise, outside the except block: inside it the cause would hang on as context, key and all."""
        raised = self._error(failure, times, wait)
        raised.__cause__ = None if self._hider().is_in(cause) else cause
        return raised

    def _hider(self) -> Key:
        return self._key or Key("")

    def _error(self, failure: Failure, times: int, wait: float) -> RaglineError:
        model, kind = self._settings.model, failure.rule.kind
        # the reason of a refused text is kept, and is the same however it was found
        sent = "" if times == 1 or kind == "input" else f" (sent {times} times)"
        if wait > self._settings.patience:
            sent += f"; it asks to wait {wait:,.0f} s, over the {self._settings.patience:,.0f} s that are waited for"
        said = self._hider().hide(failure.message)
        what = f"{model}: {said[:_SAID]}{'...' if len(said) > _SAID else ''}{sent}"
        where = plain_url(self._url)
        if kind == "key":
            variable, usual = key_variable(self._settings), self._provider.key
            remedy = "check the key, and its access to this model"
            if not variable:
                remedy = f"name the variable that holds this server's key with api_key_env ({usual} is sent to its own service only)"
            return KeyMissing.at(variable or where, what, remedy)
        if kind == "model":
            remedy = "check the model's name; the base_url of an OpenAI-compatible server usually ends in /v1"
            return UnknownModel.at(where, what, remedy)
        error = ProviderFailed.at(where, what, _REMEDIES[kind])
        error.splittable = kind == "input"
        error.positions = failure.positions
        error.unusable = kind == "reply"
        return error


class _Tries:
    """How one request has failed so far, and when the table lets it be tried again."""

    def __init__(self, random: Random) -> None:
        self.counts: Counter[str] = Counter()
        self._backoff = Backoff(random)

    def failed(self, failure: Failure) -> float:
        """Seconds to the next try: what the server asks, in full; from its second refusal on at least a back-off."""
        self.counts[failure.rule.kind] += 1
        if failure.rule.attempts == 1:
            return 0.0
        if failure.after and self.counts[failure.rule.kind] == 1:
            return failure.after
        return max(failure.after or 0.0, self._backoff.next())

    def over(self, failure: Failure) -> bool:
        """Whether the last failure was one too many, of its kind or in all."""
        return self.counts[failure.rule.kind] >= failure.rule.attempts or self.counts.total() >= MOST


_REMEDIES: Mapping[str, str] = {
    "quota": "add credit to the account; what was paid for is kept",
    "rate": "lower requests_per_minute, tokens_per_minute or concurrency, or run the same command later",
    "busy": "run the same command later: it continues where it stopped",
    "server": "run the same command later: it continues where it stopped",
    "connection": "check that the server runs, that base_url is right, and that timeout_seconds is enough; then run the same command again",
    "reply": "run the same command again; if it stays so, check what answers at base_url, and that model is the name that it answers with",
    "input": "make chunking.max_tokens smaller, or leave the text out",
    "request": "check the settings of this model against what the provider takes",
}
