"""Texts by the batch: at half the price, within a day. One visit picks up what has ended, then submits what is missing.

What to do is decided purely (`lines`, `files`, `seen`, `has_room`, `sorted_out`); a Visit does it, and notes each step in
the job (jobs.py) before the next, so that a kill between any two of them costs nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from rag import storage
from rag.clock import Clock
from rag.clock import text as moment_text
from rag.counted import counted, dollars
from rag.embedding import ledger, refusals
from rag.embedding.batching import Row
from rag.embedding.cache import VectorCache
from rag.embedding.jobs import Job, Jobs, Left, Line, in_flight, line_id, moved, new_job
from rag.embedding.plan import Terms
from rag.embedding.run import Spent, Texts, bearable
from rag.errors import Damaged, OverBudget, Problem, ProviderFailed, RaglineError, UsageError
from rag.ports import BatchState, EmbeddingBatches, Floats, LineAnswer
from rag.types import RequestLimits, Usage

ROUNDS: Final = 3
"""So many batches a text may be in that bring nothing for it."""
SEGMENT_BYTES: Final = 24 << 20
_NAMED: Final = 5
PICK_UP: Final = "`ragline index --batch`"
_GIVE_UP: Final = "`ragline index --batch --ignore-batches` gives it up, and submits its texts again"


@dataclass(frozen=True, slots=True)
class Size:
    """How large a line or a file is."""

    texts: int
    tokens: int
    bytes: int

    def __add__(self, other: Size) -> Size:
        return Size(self.texts + other.texts, self.tokens + other.tokens, self.bytes + other.bytes)

    def within(self, most: Size) -> bool:
        return self.texts <= most.texts and self.tokens <= most.tokens and self.bytes <= most.bytes


_NOTHING: Final = Size(0, 0, 0)


def lines(
    positions: Sequence[int], tokens: NDArray[np.uint32], alone: Collection[int], limits: RequestLimits
) -> list[list[int]]:
    """The texts of each line of a batch; those that must be alone come last.

    >>> lines([0, 2, 3, 5], np.array([9, 9, 9, 9, 9, 9]), {2}, RequestLimits(2, 100, 100))
    [[0, 3], [5], [2]]
    """
    together = [position for position in positions if position not in alone]
    spans = Row(tokens[together]).requests(limits)
    return [together[start:end] for start, end in spans] + [[each] for each in positions if each in alone]


def files(sizes: Sequence[Size], most: Size) -> list[tuple[int, int]]:
    """Half-open ranges of lines, in order, each as large as a file may be, and of one line at least.

    >>> files([Size(1, 5, 9)] * 5, Size(2, 99, 99))
    [(0, 2), (2, 4), (4, 5)]
    """
    found: list[tuple[int, int]] = []
    start, held = 0, _NOTHING
    for number, size in enumerate(sizes):
        if number > start and not (held + size).within(most):
            found.append((start, number))
            start, held = number, _NOTHING
        held += size
    return [*found, (start, len(sizes))] if sizes else []


Verdict = Literal["waits", "ended", "no_room", "too_large", "refused", "unknown"]


def seen(job: Job, state: BatchState | None, *, alone: bool) -> tuple[Verdict, Job]:
    """What a submitted job is after a look at it; `alone` where no other batch of ours was waiting.

    A batch that is refused for want of room in the account's queue is submitted again when there is some, or where it
    alone is too large cut into smaller ones: `queue_tokens` then says how large. One line that alone is over a queue
    whose size the provider tells will never have room.
    """
    if state is None:
        return "unknown", job
    job = replace(job, status=state.status, done=state.done, expires=_moment(state.expires_at) or job.expires)
    if state.ended:
        return "ended", moved(job, "ended", files=state.files, tokens_billed=state.tokens)
    if not state.refused:
        return "waits", job
    if not state.queue_full:
        return "refused", job
    most = state.queue_tokens or (job.tokens // 2 if alone else job.tokens)
    if job.tokens > most and len(job.lines) > 1:
        return "too_large", replace(job, queue_tokens=most)
    if job.tokens > most and alone and state.queue_tokens:
        return "refused", job
    return "no_room", moved(job, "uploaded", batch_id=None, queue_tokens=most)


def has_room(tokens: int, waiting: int, most: int | None) -> bool:
    """Whether a batch may be submitted beside what waits already; an empty queue is always tried."""
    return most is None or waiting == 0 or waiting + tokens <= most


@dataclass(frozen=True, slots=True)
class Sorted:
    """What there is to do for the texts that have no vector, by position."""

    rounds: Mapping[int, Sequence[int]]
    """To be submitted, in which round."""
    alone: Collection[int]
    """Of these, the ones that need a line of their own."""
    under_way: int
    exhausted: Mapping[int, Left]
    """Those for which batches have done nothing, and why not."""


def sorted_out(keys: Sequence[bytes], jobs: Sequence[Job]) -> Sorted:
    """Hold what is missing against what earlier batches have, or have not, brought. `keys` are by position."""
    flying = in_flight(jobs)
    before: dict[bytes, tuple[int, Left]] = {}
    for job in sorted(jobs, key=lambda each: each.round):
        for left in job.left:
            before.update(dict.fromkeys(map(bytes.fromhex, left.keys), (job.round, left)))
    rounds: dict[int, list[int]] = {}
    alone: set[int] = set()
    exhausted: dict[int, Left] = {}
    under_way = 0
    for position, key in enumerate(keys):
        if key in flying:
            under_way += 1
            continue
        if key not in before:
            rounds.setdefault(1, []).append(position)
            continue
        number, left = before[key]
        if number >= ROUNDS or left.reason == "hopeless":
            exhausted[position] = left
            continue
        rounds.setdefault(number + 1, []).append(position)
        if left.alone:
            alone.add(position)
    return Sorted(dict(sorted(rounds.items())), alone, under_way, exhausted)


def left_of(line: Line, answer: LineAnswer | None, ended_as: str) -> list[Left]:
    """What a line without vectors leaves to be asked again; not a text that was refused when it was asked for alone."""
    alone = len(line.keys) == 1  # it may be so because of what its neighbours met
    if answer is None:
        return [Left(line.keys, "expired", f"the batch ended as {ended_as!r} before it was done", alone)]
    if answer.reason != "refused":
        return [Left(line.keys, answer.reason, answer.message, alone)]
    if alone:
        return []
    named = [key for place, key in enumerate(line.keys) if place in answer.positions] or list(line.keys)
    others = tuple(key for key in line.keys if key not in named)
    rest = [Left(others, "failed", f"in one line with a text that was refused: {answer.message}")] if others else []
    return [Left(tuple(named), "refused", answer.message, alone=True), *rest]


@dataclass(frozen=True, slots=True)
class Visited:
    """How things stand after a visit."""

    missing: int
    """Texts that have no vector yet."""
    refused: Mapping[bytes, str]
    """Key -> reason of texts that the provider will not take."""
    open: tuple[Job, ...]
    submitted: tuple[Job, ...]
    """Those of `open` that this visit has submitted."""
    exhausted: int
    notes: tuple[str, ...]

    @property
    def lines(self) -> tuple[str, ...]:
        """What is submitted, what it costs, what is waited for, and how to go on."""
        parts: list[str] = []
        waiting = [job for job in self.open if job.batch_id and job not in self.submitted]
        held = [job for job in self.open if not job.batch_id and job.queue_tokens]
        unsent = [job for job in self.open if not job.batch_id and not job.queue_tokens]
        if self.submitted:
            texts, tokens = _sums(self.submitted)
            ids = ", ".join(str(job.batch_id) for job in self.submitted)
            cost = _cost(self.submitted)
            parts.append(
                f"submitted {counted(texts, 'text')} ({counted(tokens, 'token')}{cost}) in "
                f"{counted(len(self.submitted), 'batch', 'batches')}: {ids}"
            )
        if waiting:
            told = ", ".join(map(_told, waiting))
            parts.append(
                f"{counted(_sums(waiting)[0], 'text')} in {counted(len(waiting), 'batch', 'batches')} under way: {told}"
            )
        if held:
            most = min(job.queue_tokens for job in held if job.queue_tokens)
            room = f" ({counted(most, 'token')} at once)"
            parts.append(
                f"{counted(_sums(held)[0], 'text')} held back until there is room in the provider's queue{room}"
            )
        if unsent:
            parts.append(f"{counted(_sums(unsent)[0], 'text')} not submitted yet")
        if self.exhausted:
            parts.append(
                f"{counted(self.exhausted, 'text')} that batches cannot do: `ragline index` does, once no batch is open"
            )
        until = max((job.expires for job in self.open if job.expires), default=None)
        by = f" (all have ended by {until})" if until and not held + unsent else " (a batch may take 24 hours)"
        parts.append(f"{PICK_UP} again picks up what has ended{by}")
        return (*parts, *self.notes)

    @property
    def message(self) -> str:
        return "; ".join(self.lines)


class Visit:
    """One look after the batches of a model, by the holder of the store's lock."""

    def __init__(
        self,
        store: Path,
        index: str,
        cache: VectorCache,
        batches: EmbeddingBatches,
        terms: Terms,
        clock: Clock,
        spent: Spent,
        command: str,
        *,
        give_up: bool = False,
        progress: Callable[[str, int, int | None], None] = lambda *_: None,
    ) -> None:
        """`give_up` goes on without batches that cannot be picked up, and tries texts anew that earlier ones left."""
        self._store = store
        self._index = index
        self._cache = cache
        self._identity = batches.identity
        self._batches = batches
        self._terms = terms
        self._clock = clock
        self._spent = spent
        self._command = command
        self._give_up = give_up
        self._progress = progress
        self._jobs = Jobs(store)
        self._queue_tokens: int | None = None
        self._waiting = 0
        self._found = 0
        """Tokens of batches that a killed run had submitted: they count as those of this one."""
        self._refused: dict[bytes, str] = {}
        self._problems: list[Problem] = []
        self._notes: list[str] = []

    async def run(self, texts: Texts | None) -> Visited:
        """Pick up, then submit what `texts` still lack; None where nothing is wanted.

        Raises OverBudget behind what the caps allow to submit; ProviderFailed, Damaged, KeyMissing, UsageError.
        """
        self._jobs.sweep()
        wanted = {key.tobytes() for key in texts.keys} if texts else set()
        jobs: list[Job] = []
        own = self._own()
        self._waiting = sum(job.state == "submitted" for job in own)
        for job in own:
            after = await self._advanced(job, wanted)
            jobs += [after] if after else []
        if self._problems:
            self._settle(jobs, wanted)
            raise ProviderFailed(_headline(self._problems), self._problems)
        submitted: list[Job] = []
        missing: list[int] = []
        what = sorted_out([], [])
        if texts:
            hit = self._cache.lookup(texts.keys).hit
            keys = [key.tobytes() for key in texts.keys]
            missing = [at for at in np.flatnonzero(~hit).tolist() if keys[at] not in self._refused]
            part = _chosen(texts, missing)
            what = sorted_out([keys[at] for at in missing], jobs)
            jobs, submitted = await self._submit(part, what, jobs)
            if what.exhausted and not what.under_way and not submitted:
                raise _exhausted(what.exhausted, part)
        jobs = self._settle(jobs, {keys[at] for at in missing} if texts else set())
        still = tuple(job for job in jobs if job.in_flight)
        return Visited(len(missing), self._refused, still, tuple(submitted), len(what.exhausted), tuple(self._notes))

    # -- picking up

    def _own(self) -> list[Job]:
        """The jobs of this model. Raises Damaged, unless one may be given up."""
        jobs, broken = self._jobs.found()
        if broken and not self._give_up:
            raise broken[0]
        for error in broken:
            path = Path(error.problems[0].where)
            self._book(path.stem, Usage(0, 0, 0, None), "lost")  # what it cost it says no more
            self._jobs.forget_file(path)
            self._notes.append(f"{path} was damaged, and is given up, at a price that nobody knows")
        return [job for job in jobs if job.embedding == self._identity]

    async def _advanced(self, job: Job, wanted: AbstractSet[bytes]) -> Job | None:
        """A job as far as it goes by now; None where nothing is left of it."""
        if job.state == "uploaded" and (found := await self._batches.find(job.digest, job.since)):
            job = self._submitted(job, found)
            self._found += job.tokens
        if job.state in ("written", "uploaded"):
            return await self._unsent(job, wanted)
        if job.state == "submitted":
            looked = await self._looked(job)
            if looked is None or looked.state != "ended":
                return looked
            job = looked
        if job.state == "ended":
            try:
                job = await self._merged(job)
            except (_FileDamaged, ProviderFailed) as error:
                if isinstance(error, ProviderFailed) and not error.unusable:
                    raise
                what = f"batch {job.batch_id} ({counted(job.texts, 'text')}) has ended, and cannot be read: {error.message}"
                return self._without(job, what, f"run {PICK_UP} later; if that does not help, {_GIVE_UP}")
        if job.state == "merged":
            self._account(job, job.tokens_billed or 0, "done")
            job = await self._cleaned(job)
        if job.state == "cleaned" and (self._give_up or not job.left):
            self._jobs.forget(job)
            return None
        return job

    async def _unsent(self, job: Job, wanted: AbstractSet[bytes]) -> Job | None:
        """A job that nobody has paid for yet, if it is still right as it is; else its texts are written anew."""
        keys = {*job.text_keys()}
        if job.index != self._index and not keys & wanted:
            return job  # that is for a run of its own index
        try:
            self._jobs.check_texts(job)
        except Damaged as error:
            self._notes.append(f"{error.message}: nothing of it was sent, and its texts are written anew")
            keys = set()
        if not keys or not wanted >= keys:
            await self._withdraw(job)
            return None
        return job if job.index == self._index else self._jobs.save(replace(job, index=self._index))

    async def _looked(self, job: Job) -> Job | None:
        assert job.batch_id is not None
        state = await self._batches.look(job.batch_id)
        verdict, after = seen(job, state, alone=self._waiting <= 1)
        if state is None or verdict == "unknown":
            what = (
                f"batch {job.batch_id} ({counted(job.texts, 'text')}, submitted {job.made}) is not known to the provider: "
                "it is gone, or of another account or project than this key"
            )
            return self._without(job, what, f"use the key that it was submitted with; if it is gone, {_GIVE_UP}")
        if verdict == "refused":
            reasons = "; ".join(state.reasons) or "no reason given"
            what = f"batch {job.batch_id} was refused, and nothing of it was done or billed: {reasons}"
            again = f"{PICK_UP} submits its {counted(job.texts, 'text')} again"
            remedy = f"mend what it names; then {again}"
            if state.queue_full:
                remedy = f"`ragline index` without --batch sends its texts online; with a larger queue {again}"
            self._problems.append(Problem(job.batch_id, what, remedy))
        if verdict in ("refused", "too_large"):
            self._queue_tokens = after.queue_tokens or self._queue_tokens
            await self._withdraw(after)
            return None
        if after != job:
            self._jobs.save(after)
        if verdict == "ended":
            storage.faultpoint("batch.ended")
        return after

    async def _merged(self, job: Job) -> Job:
        """Keep every sound vector of a batch that has ended. Raises Damaged, ProviderFailed, StorageFailed."""
        try:
            self._jobs.check_texts(job)
        except Damaged as error:  # and not one of a segment of the cache, which is no fault of the batch
            raise _FileDamaged(error.message, error.problems) from error
        self._progress("fetch", 0, None)
        with storage.staging(self._store, "batch") as folder:
            paths = [folder / f"{number}.jsonl" for number in range(len(job.files))]
            for file_id, path in zip(job.files, paths, strict=True):
                if not await self._batches.fetch(file_id, path, job.texts):
                    raise _unusable(f"its file {file_id} is gone")
            read = self._read(job, paths)
        if read.done < (job.done or 0):
            raise _unusable(f"its files tell of {counted(read.done, 'line')}, and {job.done:,} were done")
        storage.faultpoint("batch.stored")
        if not bearable(len(read.refused), len(read.refused) + sum(map(len, self._cache.segments()))):
            read.left += [Left((key.hex(),), "hopeless", why, alone=True) for key, why in read.refused.items()]
            read.refused = {}
        refusals.remember(self._cache.folder, read.refused, self._clock.utc())
        self._refused |= read.refused
        tokens = job.tokens_billed or read.tokens
        self._spent.requests += read.done
        self._spent.tokens += tokens
        job = self._jobs.save(moved(job, "merged", done=read.done, tokens_billed=tokens, left=tuple(read.left)))
        storage.faultpoint("batch.merged")
        return job

    def _read(self, job: Job, paths: Sequence[Path]) -> _Read:
        """Check and keep what came of every line; many lines are one segment of the cache."""
        read = _Read()
        waiting = {line.custom_id: line for line in job.lines}
        rows: list[tuple[Line, Floats]] = []
        held = 0
        with _texts_of(job, self._jobs.texts_path(job), self._batches.texts) as texts:
            segments = self._cache.segments()
            width = segments[0].dimensions if segments else None
            for answer in self._batches.answers(paths, texts, width):
                line = waiting.pop(answer.custom_id)
                read.done += bool(answer.vectors is not None or answer.reason == "wrong")
                if answer.vectors is None:
                    read.tokens += answer.tokens
                    read.left += left_of(line, answer, job.status or "")
                    if answer.reason == "refused" and len(line.keys) == 1:
                        read.refused[bytes.fromhex(line.keys[0])] = answer.message
                    continue
                read.tokens += answer.tokens or sum(line.tokens)
                rows.append((line, answer.vectors))
                held += answer.vectors.nbytes
                if held >= SEGMENT_BYTES:
                    self._keep(rows)
                    rows, held = [], 0
        self._keep(rows)
        for line in waiting.values():
            read.left += left_of(line, None, job.status or "")
        return read

    def _keep(self, rows: Sequence[tuple[Line, Floats]]) -> None:
        """Store the vectors that the cache has not got: after a kill it has some already. Raises StorageFailed."""
        if not rows:
            return
        keys = _keys(key for line, _ in rows for key in line.keys)
        tokens = np.fromiter((own for line, _ in rows for own in line.tokens), np.uint32, len(keys))
        vectors = np.concatenate([vectors for _, vectors in rows])
        new = ~self._cache.lookup(keys).hit
        self._cache.add(keys[new], vectors[new], tokens[new])
        self._spent.texts += len(keys)
        storage.faultpoint("batch.part_stored")

    def _account(self, job: Job, tokens: int, outcome: str) -> None:
        """A line in the ledger for a batch that was billed, once. Raises StorageFailed."""
        if tokens:
            self._book(job.digest, Usage(job.done or 0, tokens, 0, self._terms.usd(tokens)), outcome)

    def _book(self, digest: str, usage: Usage, outcome: str) -> None:
        entry_id = f"batch-{digest}"
        if all(entry.id != entry_id for entry in ledger.entries(self._store)):
            name, now = self._identity.name, self._clock.utc()
            ledger.record(self._store, now, self._command, name, usage, None, outcome, entry_id)
            storage.faultpoint("batch.accounted")

    async def _cleaned(self, job: Job) -> Job:
        """Remove from the provider what was merged; where that fails the next visit tries again."""
        try:
            for file_id in filter(None, (job.file_id, *job.files)):
                await self._batches.remove(file_id)
        except RaglineError as error:  # a key may be allowed less than it takes, and what was bought is here
            self._notes.append(f"the files of batch {job.batch_id} could not be removed there: {error.message}")
            return job
        storage.faultpoint("batch.removed_there")
        job = self._jobs.save(moved(job, "cleaned", file_id=None, files=()))
        storage.faultpoint("batch.cleaned")
        storage.remove_file(self._jobs.texts_path(job))
        return job

    def _without(self, job: Job, what: str, remedy: str) -> Job | None:
        """A batch that cannot be picked up: a problem, or, where that is asked for, given up as if it had been billed."""
        if not self._give_up:
            self._problems.append(Problem(job.batch_id or job.name, what, remedy))
            return job
        self._account(job, job.tokens if job.tokens_billed is None else job.tokens_billed, "lost")
        self._jobs.forget(job)
        self._notes.append(f"{what}; it is given up, and counted as spent")
        return None

    async def _withdraw(self, job: Job) -> None:
        """Forget a batch of which nothing was done, here and at the provider."""
        if job.file_id:
            try:
                await self._batches.remove(job.file_id)
            except RaglineError as error:
                self._notes.append(f"the file {job.name} could not be removed there: {error.message}")
            storage.faultpoint("batch.withdrawn")
        self._jobs.forget(job)

    def _settle(self, jobs: Sequence[Job], missing: Collection[bytes]) -> list[Job]:
        """Forget what batches have left undone where nobody needs to know it any more; gives the other jobs."""
        kept = []
        for job in jobs:
            left = {bytes.fromhex(key) for each in job.left for key in each.keys}
            if job.state == "cleaned" and job.index == self._index and not left & {*missing}:
                self._jobs.forget(job)
            else:
                kept.append(job)
        return kept

    # -- submitting

    async def _submit(self, texts: Texts, what: Sorted, jobs: Sequence[Job]) -> tuple[list[Job], list[Job]]:
        """Submit what is written already, and what is missing, as far as caps and the queue allow.

        Gives all jobs, and those of them that were submitted. Raises OverBudget behind what was within the caps.
        """
        limits = [self._queue_tokens, *(job.queue_tokens for job in jobs)]
        most = min((limit for limit in limits if limit), default=None)
        mine = [job for job in jobs if job.state in ("written", "uploaded") and job.index == self._index]
        others = [job for job in jobs if job not in mine]
        submitted: list[Job] = []
        used = self._found
        ready: list[tuple[Job, bool]] = []
        rest, more = 0, 0  # tokens that a cap leaves behind, and the first of them
        for job in mine:
            if self._terms.crossed(used + job.tokens):
                rest, more = rest + job.tokens, more or job.tokens
                others.append(job)
            else:
                used += job.tokens
                ready.append((job, True))
        for number, positions in what.rounds.items():
            cut = lines(positions, texts.tokens, what.alone, self._batches.limits)
            sums = np.cumsum([int(texts.tokens[line].sum()) for line in cut])
            allowed = next((at for at, own in enumerate(sums) if self._terms.crossed(used + int(own))), len(cut))
            ready += [(job, False) for job in self._written(texts, number, cut[:allowed], most)]
            if allowed < len(cut):
                more = more or int(texts.tokens[cut[allowed]].sum())
                rest += int(sums[-1] - (sums[allowed - 1] if allowed else 0))
            used += int(sums[allowed - 1]) if allowed else 0
        waiting = sum(job.tokens for job in others if job.state == "submitted")
        for done, (job, again) in enumerate(ready):
            if not has_room(job.tokens, waiting, most):
                others.append(job if job.queue_tokens == most else self._jobs.save(replace(job, queue_tokens=most)))
                continue
            self._progress("submit", done, len(ready))
            try:
                after = await self._sent(job, again=again)
            except UsageError:  # the server takes none of them: what is not there is not waited for
                for unsent, _ in ready[done + 1 :]:
                    await self._withdraw(unsent)
                raise
            waiting += job.tokens
            submitted.append(after)
        if rest:
            raise self._over(used, more, rest, submitted)
        return [*others, *submitted], submitted

    def _written(self, texts: Texts, number: int, cut: Sequence[Sequence[int]], queue: int | None) -> list[Job]:
        """New jobs of these lines, noted with their files, none larger than the provider's queue."""
        keys = [[texts.keys[at].tobytes() for at in line] for line in cut]
        ids = list(map(line_id, keys))

        def rendered(at: int) -> bytes:
            return self._batches.line(ids[at], [texts.read(place, place + 1)[0] for place in cut[at]])

        sizes = [Size(len(line), int(texts.tokens[line].sum()), len(rendered(at))) for at, line in enumerate(cut)]
        tokens = queue or sum(size.tokens for size in sizes)
        most = Size(self._batches.texts_per_file, tokens, self._batches.bytes_per_file)
        made: list[Job] = []
        for start, end in files(sizes, most):
            held = [
                Line(ids[at], tuple(key.hex() for key in keys[at]), tuple(texts.tokens[cut[at]].tolist()))
                for at in range(start, end)
            ]
            job = new_job(self._index, self._identity, self._clock.utc(), number, held)
            sha256 = _write(self._jobs.texts_path(job), map(rendered, range(start, end)))
            storage.faultpoint("batch.file_written")
            job = replace(job, sha256=sha256, usd=self._terms.usd(job.tokens), queue_tokens=queue)
            made.append(self._jobs.save(job))
            storage.faultpoint("batch.written")
        return made

    async def _sent(self, job: Job, *, again: bool) -> Job:
        """Upload and submit a job; `again` where that may have been done without our noting it.

        Raises UsageError where the server takes no batches, with nothing left of the job.
        """
        try:
            for _ in range(2):
                if job.state == "written":
                    file_id = await self._batches.upload(self._jobs.texts_path(job), job.name, again=again)
                    storage.faultpoint("batch.uploaded_there")
                    job = self._jobs.save(moved(job, "uploaded", file_id=file_id))
                    storage.faultpoint("batch.uploaded")
                assert job.file_id is not None
                if batch_id := await self._batches.create(job.file_id, job.digest, job.since):
                    storage.faultpoint("batch.submitted_there")
                    return self._submitted(job, batch_id)
                job = self._jobs.save(moved(job, "written", file_id=None))
        except UsageError:
            await self._withdraw(job)
            raise
        what = f"the file {job.name} was uploaded, and is not known when its batch is created"
        raise ProviderFailed.at(job.name, what, f"run {PICK_UP} later, or `ragline index` without --batch")

    def _submitted(self, job: Job, batch_id: str) -> Job:
        job = self._jobs.save(moved(job, "submitted", batch_id=batch_id, status=None, done=None))
        storage.faultpoint("batch.submitted")
        return job

    def _over(self, used: int, more: int, rest: int, submitted: Sequence[Job]) -> OverBudget:
        what, remedy = self._terms.refusal(self._identity.name, used, more, rest)
        if submitted:
            what += f"; {counted(_sums(submitted)[0], 'text')} submitted by this run"
        return OverBudget.at("embedding", what, remedy)


class _FileDamaged(Damaged):
    """The file that was sent is not what it was, so that nobody knows which answer is whose."""


@dataclass(slots=True)
class _Read:
    """What the files of a batch said."""

    done: int = 0
    """Lines that were answered, rightly or not: they are billed."""
    tokens: int = 0
    left: list[Left] = field(default_factory=list)
    refused: dict[bytes, str] = field(default_factory=dict)


def pending_usd(jobs: Iterable[Job], index: str) -> tuple[float, int]:
    """What open batches will have cost as planned, and how many have no known price: no ledger has them yet.

    Those that a run of this index has yet to submit are left out: it counts them itself.
    """
    flying = [job.usd for job in jobs if job.in_flight and not (job.index == index and job.batch_id is None)]
    known = [usd for usd in flying if usd is not None]
    return sum(known), len(flying) - len(known)


@contextmanager
def _texts_of(job: Job, path: Path, parse: Callable[[bytes], list[str]]) -> Iterator[Callable[[str], list[str] | None]]:
    """The texts of a line by its custom_id, read from the file that was sent when they are asked for."""
    with path.open("rb") as file:
        offsets: dict[str, int] = {}
        for line in job.lines:
            offsets[line.custom_id] = file.tell()
            file.readline()

        def texts(custom_id: str) -> list[str] | None:
            if custom_id not in offsets:
                return None
            file.seek(offsets[custom_id])
            return parse(file.readline())

        yield texts


def _write(path: Path, parts: Iterable[bytes]) -> str:
    """Write a file, durable when this returns; gives its sha256. Raises StorageFailed."""
    state = hashlib.sha256()
    with storage.failures_named(path), storage.create(path) as file:
        for part in parts:
            state.update(part)
            file.write(part)
    return state.hexdigest()


def _keys(keys: Iterable[str]) -> NDArray[np.uint8]:
    return np.frombuffer(bytes.fromhex("".join(keys)), np.uint8).reshape(-1, 32)


def _chosen(texts: Texts, positions: Sequence[int]) -> Texts:
    """Some of the texts, which are cheapest in ascending order."""

    def read(start: int, end: int) -> list[str]:
        return [text for at in positions[start:end] for text in texts.read(at, at + 1)]

    return Texts(texts.keys[positions], texts.tokens[positions], read, lambda at: texts.name(positions[at]))


def _moment(unix: int | None) -> str | None:
    """A moment as every file of ours has it; None where a provider's is none."""
    try:
        return None if unix is None else moment_text(datetime.fromtimestamp(unix, UTC))
    except (OverflowError, ValueError, OSError):
        return None


def _unusable(what: str) -> ProviderFailed:
    error = ProviderFailed(what)
    error.unusable = True
    return error


def _headline(problems: Sequence[Problem]) -> str:
    if len(problems) == 1:
        return problems[0].what
    return f"{counted(len(problems), 'batch', 'batches')} cannot be picked up; nothing was submitted"


def _exhausted(exhausted: Mapping[int, Left], texts: Texts) -> ProviderFailed:
    """The error of texts for which batches have done what they can."""
    problems = [
        Problem(texts.name(at), f"{left.reason}: {left.message}", "`ragline index` without --batch sends it online")
        for at, left in list(exhausted.items())[:_NAMED]
    ]
    what = (
        f"{counted(len(exhausted), 'text')} cannot be had by batches, after up to {ROUNDS} of them; the first are named"
    )
    return ProviderFailed(what, problems)


def _sums(jobs: Iterable[Job]) -> tuple[int, int]:
    """Texts and tokens."""
    listed = list(jobs)
    return sum(job.texts for job in listed), sum(job.tokens for job in listed)


def _cost(jobs: Sequence[Job]) -> str:
    known = [job.usd for job in jobs if job.usd is not None]
    return f", {dollars(sum(known))} at the price of batches" if len(known) == len(jobs) else ", of unknown price"


def _told(job: Job) -> str:
    done = "" if job.done is None else f", {job.done:,} of {counted(len(job.lines), 'line')} done"
    return f"{job.batch_id} {job.status or 'submitted'}{done}"
