"""The client's own budget against the simulator's own rules, on a clock of the tests': a minute of it takes milliseconds."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from rag.embedding.batching import Row
from rag.providers.limits import PROBE, Budget, Load
from rag.types import RequestLimits
from tests.provider.least import Work, earliest
from tests.provider.rules import Rule, rule
from tests.servers.virtual import VirtualClock

STEP = 0.1


@dataclass(frozen=True)
class Account:
    """How a provider enforces what it allows. The client is told none of this."""

    rule: str
    rpm: float
    tpm: float
    drained: bool = False
    headers: str = "exact"
    charge: str = "arrival"
    told: str = "arrival"
    """Whether headers are as of the request's arrival, or of the reply."""
    others: float = 0.0
    """Share of the limits that somebody else uses."""
    phase: float = 0.0
    cut_at: float | None = None
    """Seconds after which a quarter of the limits is left."""


@dataclass(frozen=True)
class Paced:
    """How a run went. `ratio` is its seconds to the least possible ones."""

    seconds: float
    least: float
    requests: int
    refused: tuple[float, ...]
    """When."""
    tokens: int
    sent: int

    @property
    def ratio(self) -> float:
        return self.seconds / self.least


class _Server:
    def __init__(self, account: Account, clock: VirtualClock) -> None:
        self.account, self.clock = account, clock
        self.first: float | None = None
        self.cut: float | None = None
        self.rules: dict[str, Rule] = {}
        self.at_first: dict[str, Rule] = {}
        self.used: list[tuple[float, str, float]] = []
        self.served: list[tuple[float, float, float, float]] = []
        self.refused: list[float] = []
        self._others_at = 0.0
        self._last_headers: dict[str, str] = {}

    def arrive(self, tokens: float) -> float:
        """Seconds to wait; 0 when it is admitted."""
        now, account = self.clock.monotonic(), self.account
        if self.first is None:
            self.first = self._others_at = now
            for name, limit in (("requests", account.rpm), ("tokens", account.tpm)):
                self.rules[name] = rule(account.rule, limit, now, drained=account.drained, phase=account.phase)
            self.at_first = copy.deepcopy(self.rules)
        while account.others and now - self._others_at >= STEP:
            self._others_at += STEP
            for name, each in self.rules.items():
                taken = min(STEP * each.limit / 60.0 * account.others, each.remaining(self._others_at))
                each.take(self._others_at, taken)
                self.used.append((self._others_at, name, taken))
        if account.cut_at is not None and self.cut is None and now - self.first >= account.cut_at:
            self.cut = now
            for each in self.rules.values():
                each.change(now, each.limit / 4)
        wait = max(self.rules["requests"].wait(now, 1.0), self.rules["tokens"].wait(now, tokens))
        if wait > 0:
            self.refused.append(now - self.first)
        elif account.charge == "arrival":
            self._charge(tokens)
        return wait

    def finish(self, tokens: float) -> None:
        if self.account.charge == "completion":
            self._charge(tokens)

    def _charge(self, tokens: float) -> None:
        now = self.clock.monotonic()
        self.rules["requests"].take(now, 1.0)
        self.rules["tokens"].take(now, tokens)

    def headers(self) -> dict[str, str]:
        now, made = self.clock.monotonic(), {}
        for name, each in self.rules.items():
            made[f"x-ratelimit-limit-{name}"] = str(int(each.limit))
            made[f"x-ratelimit-remaining-{name}"] = str(int(each.remaining(now)))
            made[f"x-ratelimit-reset-{name}"] = f"{each.reset(now) * 1000:.0f}ms"
        told, self._last_headers = self._last_headers or made, made
        return {"exact": made, "stale": told, "absent": {}}[self.account.headers]

    def least(self) -> float:
        """Seconds from the first arrival to the last reply, had every token gone the moment there was room."""
        assert self.first is not None
        *before, last = sorted(self.served)
        amounts = {"requests": (float(len(before)), 1.0), "tokens": (sum(tokens for _, tokens, *_ in before), last[1])}
        times = []
        for name, (done, own) in amounts.items():
            limits = [(self.cut, self.at_first[name].limit / 4)] if self.cut is not None else []
            others = [(when, amount) for when, which, amount in self.used if which == name]
            times.append(earliest(self.at_first[name], self.first, Work(done, own), limits, others))
        return max(times) - self.first + last[2]


def pace(
    account: Account,
    tokens: int,
    text: int = 330,
    *,
    concurrency: int = 16,
    told: bool = False,
    most: int = 300_000,
    obeys_tokens: bool = True,
    seed: int = 1,
) -> Paced:
    """Send texts of about so many tokens through one budget, as `Sender` does.

    `told` gives the limits as settings. `obeys_tokens` off plants a client that knows of requests only.
    """
    clock, random = VirtualClock(), Random(seed)
    server = _Server(account, clock)
    budget = Budget(clock, account.rpm if told else None, account.tpm if told else None, concurrency)
    sizes = [max(1, int(random.gauss(text, text / 4))) for _ in range(tokens // text)]
    row = Row(sizes)
    sent = 0

    def spans() -> Iterator[tuple[int, int]]:
        start = 0
        while start < len(row):
            best = budget.best_size(most)
            limits = RequestLimits(2048, best, 8192, min(best, PROBE) if budget.probing else None)
            end = row.end(start, limits)
            yield start, end
            start = end

    async def send(span: tuple[int, int]) -> None:
        nonlocal sent
        own = float(sum(sizes[slice(*span)]))
        tries = 0
        while True:
            async with budget.reserve(Load(own if obeys_tokens else 0.0), again=tries > 0) as grant:
                budget.went(grant)
                await clock.sleep(random.uniform(0.0005, 0.003))
                sent += 1
                if wait := server.arrive(own):
                    tries += 1
                    # from the second refusal on the retry loop waits for its own back-off at least
                    wait = wait if tries == 1 else max(wait, random.uniform(0.5, 1.5))
                    budget.refused(grant, wait, server.headers())
                    continue
                arrived, service = clock.monotonic(), 0.2 + 0.02 * own / 1000
                at_arrival = account.charge == "arrival" and account.told == "arrival"
                headers = server.headers() if at_arrival else {}
                await clock.sleep(service)
                server.finish(own)
                server.served.append((arrived, own, service, clock.monotonic()))
                told_now = headers if at_arrival else server.headers()
                if not obeys_tokens:
                    told_now = {name: value for name, value in told_now.items() if "tokens" not in name}
                budget.settle(grant, Load(own if obeys_tokens else 0.0), told_now)
                return

    async def worker(few: Iterator[tuple[int, int]]) -> None:
        for span in few:
            await send(span)

    async def work() -> None:
        all_of_them = spans()
        await send(next(all_of_them))
        await asyncio.gather(*(worker(all_of_them) for _ in range(concurrency)))

    asyncio.run(work())
    assert server.first is not None
    return Paced(
        seconds=max(ended for *_, ended in server.served) - server.first,
        least=server.least(),
        requests=len(server.served),
        refused=tuple(server.refused),
        tokens=int(sum(served for _, served, *_ in server.served)),
        sent=sent,
    )
