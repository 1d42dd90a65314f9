"""/v1/batches: a batch lives by itself, from validating to its end, and bills half."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from tests.provider import errors
from tests.provider.files import File, Files
from tests.provider.http import Reply
from tests.provider.lines import Line, Results, Terms, execute, understood
from tests.provider.log import Bill
from tests.provider.work import House

ENDPOINTS = ("/v1/embeddings", "/v1/chat/completions")
ENDS = ("completed", "failed", "expired", "cancelled")


@dataclass
class Batch:
    id: str
    endpoint: str
    input_file: File
    metadata: dict[str, str] | None
    terms: Terms
    status: str = "validating"
    times: dict[str, int] = field(default_factory=dict)
    errors: list[dict[str, Any]] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    tokens: int = 0
    """Enqueued, until it ends."""
    began: float = 0.0
    completed: int = 0
    failed: int = 0
    usage: dict[str, Any] | None = None
    output: File | None = None
    error: File | None = None
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    def becomes(self, status: str) -> None:
        self.status = status
        self.times[f"{status}_at"] = int(time.time())

    def share(self, now: float) -> float:
        """How much of its work is done by now."""
        return min(1.0, (now - self.began) / self.terms.seconds[1]) if self.terms.seconds[1] else 1.0

    def plain(self, now: float) -> dict[str, Any]:
        moments = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")
        done = int(self.share(now) * len(self.lines)) if self.status == "in_progress" else self.completed
        faulty = {"object": "list", "data": self.errors} if self.errors else None
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": self.endpoint,
            "errors": faulty,
            "input_file_id": self.input_file.id,
            "completion_window": "24h",
            "status": self.status,
            "output_file_id": self.output.id if self.output else None,
            "error_file_id": self.error.id if self.error else None,
            "created_at": self.times["created_at"],
            "expires_at": self.times["created_at"] + 86_400,
            **{f"{moment}_at": self.times.get(f"{moment}_at") for moment in moments},
            "request_counts": {"total": len(self.lines), "completed": done, "failed": self.failed},
            "metadata": self.metadata,
            "model": self.lines[0].model if self.lines else None,
            "usage": self.usage,
        }


class Batches:
    def __init__(self, house: House, files: Files, bill: Callable[[], Bill], clock: Callable[[], float]) -> None:
        self.house = house
        self.files = files
        self.bill = bill
        self.clock = clock
        self.terms = Terms.of(house.options.batch)
        self._numbers = itertools.count(1)
        self._batches: dict[str, Batch] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._pool = ThreadPoolExecutor(1)

    def create(self, asked: Mapping[str, Any]) -> Reply:
        """Raises Refused. What is wrong with the file itself shows only later, in the batch."""
        endpoint = asked.get("endpoint")
        if endpoint not in ENDPOINTS:
            raise errors.wrong(
                f"Invalid value: '{endpoint}'. Supported values are: {', '.join(ENDPOINTS)}.", "endpoint"
            )
        if asked.get("completion_window") != "24h":
            raise errors.wrong("Invalid value for 'completion_window': it must be '24h'.", "completion_window")
        file = self.files.get(str(asked.get("input_file_id")))
        if file.purpose != "batch":
            raise errors.wrong(f"Invalid file purpose: {file.purpose}.", "input_file_id")
        name = f"batch_sim{next(self._numbers):06d}"
        made = Batch(name, endpoint, file, asked.get("metadata"), self.terms)
        made.times["created_at"] = int(time.time())
        self._batches[name] = made
        task = asyncio.create_task(self._live(made))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return Reply.of(made.plain(self.clock()))

    def get(self, name: str) -> Batch:
        """Raises Refused."""
        if name not in self._batches:
            raise errors.missing("batch", name)
        return self._batches[name]

    def shown(self, name: str) -> Reply:
        """Raises Refused."""
        return Reply.of(self.get(name).plain(self.clock()))

    def listed(self, query: Mapping[str, str]) -> Reply:
        """The newest first."""
        limit = int(query.get("limit", "20"))
        names = list(reversed(self._batches))
        after = query.get("after")
        start = names.index(after) + 1 if after in names else 0
        page = [self._batches[name].plain(self.clock()) for name in names[start : start + limit]]
        ends = {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {"first_id": None, "last_id": None}
        return Reply.of({"object": "list", "data": page, **ends, "has_more": start + limit < len(names)})

    def cancel(self, name: str) -> Reply:
        """Raises Refused."""
        batch = self.get(name)
        if batch.status in {*ENDS, "finalizing"}:
            raise errors.Refused(409, f"Cannot cancel a batch with status '{batch.status}'.")
        if batch.status != "cancelling":
            batch.completed = int(batch.share(self.clock()) * len(batch.lines)) if batch.lines else 0
            batch.becomes("cancelling")
            batch.cancelled.set()
        return Reply.of(batch.plain(self.clock()))

    def forget(self, name: str) -> None:
        """As if it had never been. Raises Refused."""
        self.get(name).cancelled.set()
        del self._batches[name]

    def change(self, given: Mapping[str, Any]) -> None:
        """Terms of the batches created from now on."""
        self.terms = Terms.of({**vars(self.terms), **given})

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _live(self, batch: Batch) -> None:
        terms, loop = batch.terms, asyncio.get_running_loop()
        await self._pass(batch, terms.seconds[0])
        lines, wrong = await loop.run_in_executor(
            self._pool, understood, batch.input_file.read(), batch.endpoint, terms, self.house
        )
        tokens = sum(line.tokens for line in lines)
        wrong = wrong or self._too_much(lines[0].model, tokens)
        if wrong and not batch.cancelled.is_set():
            batch.errors = wrong
            batch.becomes("failed")
            return
        share = 1.0 if terms.expire is None else terms.expire
        if not batch.cancelled.is_set():
            batch.lines, batch.tokens = lines, tokens
            batch.began = self.clock()
            batch.becomes("in_progress")
            await self._pass(batch, terms.seconds[1])
        end = "completed" if terms.expire is None else "expired"
        if batch.cancelled.is_set():
            end, share = "cancelled", batch.completed / len(lines) if lines else 0.0
        else:
            batch.becomes("finalizing")
        output, error = (self.files.draft(f"{batch.id}_{kind}.jsonl", "batch_output") for kind in ("output", "error"))
        results = Results(output, error)
        await loop.run_in_executor(self._pool, execute, batch.lines, share, end, terms, results)
        for line in results.done:
            self.bill().add(line.model, line.tokens, line.output_tokens, line.digests, batch=True)
        batch.completed, batch.failed = len(results.done), results.failed
        batch.usage = _usage(results.done)
        await asyncio.sleep(terms.seconds[2])
        batch.output, batch.error = self.files.keep(results.output), self.files.keep(results.error)
        batch.tokens = 0
        batch.becomes(end)

    async def _pass(self, batch: Batch, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(batch.cancelled.wait(), seconds)

    def _too_much(self, model: str, tokens: int) -> list[dict[str, Any]]:
        enqueued = sum(
            batch.tokens for batch in self._batches.values() if batch.lines and batch.lines[0].model == model
        )
        if enqueued + tokens <= self.terms.enqueued_tokens:
            return []
        message = (
            f"Enqueued token limit reached for {model} in organization org-sim. Limit: {self.terms.enqueued_tokens:,} "
            "enqueued tokens. Please try again once some in_progress batches have been completed."
        )
        return [{"code": "token_limit_exceeded", "message": message, "param": None, "line": None}]


def _usage(done: Sequence[Line]) -> dict[str, Any]:
    tokens, output = sum(line.tokens for line in done), sum(line.output_tokens for line in done)
    return {
        "input_tokens": tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": tokens + output,
    }
