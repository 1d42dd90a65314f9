"""From a request to its reply: key, form, fault, limits, work, bill. The state of the account is here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from tests.provider import errors, headers
from tests.provider.batches import Batches
from tests.provider.chat import chat
from tests.provider.delivery import SILENT
from tests.provider.embeddings import embeddings
from tests.provider.errors import Refused
from tests.provider.faults import DAMAGES, DELIVERIES, INSTEAD, Asked
from tests.provider.files import Files
from tests.provider.http import Reply, Request
from tests.provider.limiter import Limiter
from tests.provider.log import Bill, Entry, work
from tests.provider.messages import messages
from tests.provider.options import Options
from tests.provider.placement import Placement
from tests.provider.tokens import counter
from tests.provider.work import House, Work

WORK: Mapping[str, Callable[[Mapping[str, Any], House], Work]] = {
    "/v1/embeddings": embeddings,
    "/v1/chat/completions": chat,
    "/v1/messages": messages,
}


class Account:
    """What the provider knows of its one customer."""

    def __init__(self, options: Options, clock: Callable[[], float] = time.monotonic) -> None:
        self.options = options
        self.clock = clock
        self.house = House(options, counter(options.tokens))
        self.limits = {"requests": options.rpm, "tokens": options.tpm, "output-tokens": options.otpm}
        self.placements = [Placement.of(given) for given in options.faults]
        self.files = Files()
        self.batches = Batches(self.house, self.files, lambda: self.bill, clock)
        self._stale: dict[str, headers.State] = {}
        self._pool = ThreadPoolExecutor(1)
        self.reset()

    def reset(self) -> None:
        """Forget every request, charge and limiter; keep the limits and the faults."""
        self.entries: list[Entry] = []
        self.bill = Bill()
        self.limiters: dict[str, Limiter] = {}
        self._stale.clear()

    async def close(self) -> None:
        await self.batches.close()
        self.files.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def key_of(self, request: Request) -> str:
        bearer = request.headers.get("authorization", "")
        return request.headers.get("x-api-key") or bearer.removeprefix("Bearer ").strip()

    def admit_key(self, request: Request) -> None:
        """Raises Refused."""
        if self.key_of(request) != self.options.key:
            raise errors.wrong_key(self.key_of(request))

    def struck(self, request: Request, inputs: Sequence[str], seen: Entry) -> tuple[Placement, int] | None:
        """The placement that strikes this request; what it does stands in the entry."""
        for placement in self.placements:
            if found := placement.strikes(f"{request.method} {request.path}", inputs):
                seen.fault = found[0]
                return placement, found[1]
        return None

    async def work(self, request: Request) -> Reply:
        """Answer a request for a model's work."""
        entry = self._noted(request)
        try:
            return self._replied(await self._answer(request, entry), entry)
        except Refused as refused:
            return self._refused(refused, entry)

    def other(self, request: Request, answer: Callable[[Request], Reply]) -> Reply:
        """Answer anything else: it has no limits and no price, but may be struck by faults placed on its path."""
        entry = self._noted(request)
        try:
            self.admit_key(request)
            struck = self.struck(request, [], entry)
            if struck and entry.fault in INSTEAD:
                return self._replied(self._instead(request, entry, *struck), entry)
            reply = answer(request)
            if struck and entry.fault in DELIVERIES:
                reply.delivery, reply.seconds = DELIVERIES[entry.fault], struck[0].seconds
            else:
                entry.fault = ""  # a damage that only vectors can have
            return self._replied(reply, entry)
        except Refused as refused:
            return self._refused(refused, entry)

    def _noted(self, request: Request) -> Entry:
        entry = Entry(len(self.entries) + 1, request.method, request.path, request.arrived)
        self.entries.append(entry)
        return entry

    def _refused(self, refused: Refused, entry: Entry) -> Reply:
        entry.refused = entry.refused or "request"
        return self._replied(refused.reply(entry.path), entry)

    def _replied(self, reply: Reply, entry: Entry) -> Reply:
        entry.status = 0 if reply.delivery in SILENT else reply.status
        name = "request-id" if entry.path == "/v1/messages" else "x-request-id"
        reply.headers.setdefault(name, f"req_sim{entry.number}")

        def sent() -> None:
            entry.replied = self.clock()

        reply.sent = sent
        return reply

    def _instead(self, request: Request, entry: Entry, placement: Placement, place: int) -> Reply:
        """Raises Refused."""
        entry.refused = "fault"
        instead = INSTEAD[entry.fault](Asked(request.path, self.key_of(request), entry.model, place))
        if isinstance(instead, Refused):
            raise instead
        return replace(instead, seconds=placement.seconds)

    async def _answer(self, request: Request, entry: Entry) -> Reply:
        self.admit_key(request)
        asked = await self._understood(request)
        entry.model, entry.tokens, entry.output_tokens = asked.model, asked.tokens, asked.output_tokens
        entry.texts, entry.amounts = asked.digests, dict(asked.amounts)
        limiter = self._limiter(asked, entry.arrived)
        struck = self.struck(request, asked.inputs, entry)
        if struck and entry.fault in INSTEAD:
            return self._instead(request, entry, *struck)
        now = self.clock()
        if refusal := limiter.ask(now, asked.amounts):
            entry.refused = refusal.dimension
            raise errors.limited(asked.model, refusal, self._told(request, asked.model, limiter.state(now)))
        entry.admitted = now
        entry.charged = now if self.options.charge == "arrival" else None
        entry.service = (self.options.base_ms + self.options.per_ktoken_ms * asked.tokens / 1000) / 1000
        reply = self._made(asked, entry)
        reply.seconds = struck[0].seconds if struck else None
        # what the simulator itself took is part of the service time, not on top of it
        await asyncio.sleep(max(0.0, entry.admitted + entry.service - self.clock()))
        now = self.clock()
        limiter.done(now, asked.amounts)
        entry.charged = entry.charged if entry.charged is not None else now
        entry.billed = True
        self.bill.add(asked.model, asked.tokens, asked.output_tokens, asked.digests)
        reply.headers.update(self._told(request, asked.model, limiter.state(now)))
        if request.path != "/v1/messages":
            reply.headers["openai-processing-ms"] = str(round((now - entry.arrived) * 1000))
        return reply

    def _made(self, asked: Work, entry: Entry) -> Reply:
        if entry.fault in DAMAGES and asked.embedded:
            return Reply(body=DAMAGES[entry.fault](asked.embedded()).body())
        reply = asked.answer()
        if entry.fault in DELIVERIES:
            reply.delivery = DELIVERIES[entry.fault]
        elif entry.fault:  # a damage that only vectors can have
            entry.fault = ""
        return reply

    async def _understood(self, request: Request) -> Work:
        def read() -> Work:
            try:
                body = request.json()
            except ValueError as error:
                raise errors.wrong("We could not parse the JSON body of your request.") from error
            if not isinstance(body, dict):
                raise errors.wrong("The body of your request must be an object.")
            return WORK[request.path](body, self.house)

        if self.options.tokens == "words" or len(request.body) < 20_000:
            return read()
        return await asyncio.get_running_loop().run_in_executor(self._pool, read)

    def _limiter(self, asked: Work, now: float) -> Limiter:
        if asked.model not in self.limiters:
            limits = {name: float(limit) for name, limit in self.limits.items()}
            self.limiters[asked.model] = Limiter(self.options, now, limits)
        return self.limiters[asked.model]

    def _told(self, request: Request, model: str, state: headers.State) -> dict[str, str]:
        if self.options.headers == "absent":
            return {}
        told = self._stale.get(model, self._full(state)) if self.options.headers == "stale" else state
        self._stale[model] = state
        return headers.anthropic(told) if request.path == "/v1/messages" else headers.openai(told)

    def _full(self, state: headers.State) -> headers.State:
        return {name: (limit, limit, 0.0) for name, (limit, _, _) in state.items()}

    def change_limits(self, given: Mapping[str, float]) -> None:
        """`rpm`, `tpm`, `otpm`: from now on, for every model."""
        names = {"rpm": "requests", "tpm": "tokens", "otpm": "output-tokens"}
        if unknown := sorted(set(given) - set(names)):
            raise ValueError(f"no limits {unknown}; there are {sorted(names)}")
        changed = {names[name]: float(limit) for name, limit in given.items()}
        self.limits.update({name: int(limit) for name, limit in changed.items()})
        for limiter in self.limiters.values():
            limiter.change(self.clock(), changed)

    def span(self, model: str = "") -> dict[str, float]:
        """The least possible seconds of the run so far, of what they consist, and the seconds it took.

        From the arrival of the first well-formed request for this model until its rule could first have admitted the
        last token of all that it admitted, whatever it answered, plus the service time of the request that was admitted
        last; see least.earliest and log.work. Without a model there must be only one.
        """
        admitted = [entry for entry in self.entries if entry.admitted is not None]
        models = sorted({entry.model for entry in admitted})
        if not model and len(models) == 1:
            model = models[0]
        if model not in models:
            raise ValueError(f"name one of the models that were admitted: {models}")
        run = [entry for entry in admitted if entry.model == model]
        limiter = self.limiters[model]
        parts = limiter.least(work(run))
        service = max(run, key=lambda entry: entry.admitted or 0.0).service
        ended = max(entry.replied or self.clock() for entry in run)
        return {
            "least": max(parts.values()) + service,
            **parts,
            "service": service,
            "actual": ended - limiter.start,
            "admitted_requests": len(run),
            "admitted_tokens": sum(entry.amounts["tokens"] for entry in run),
        }
