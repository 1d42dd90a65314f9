"""The stages of a re-index in order. Both runners, direct and Prefect, call exactly these; read this file first.

    with Reindex(parts, options) as run:
        run.look()      # has anything changed at all? if not, the rest does nothing
        run.read()      # documents -> chunks and keys, spooled to the run's own folder
        run.plan()      # what is missing in the cache, what it costs, why
        run.embed()     # send exactly that; every answer is durable before it counts (or visit the batches)
        run.build()     # index, tables, lexical index, manifest; opened and searched before anybody sees it
        run.publish()   # its number, then CURRENT: one step, and the last

The invariant: every chunk is embedded, a duplicate, or excluded with a reason, or the run fails.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import socket
import tempfile
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from rag import storage
from rag.clock import Clock, text
from rag.corpus.read import Reading, reading_identity
from rag.corpus.reasons import CLOSED, HARMLESS
from rag.corpus.snapshot import Snapshot, snapshot
from rag.corpus.spec import CorpusSpec
from rag.counted import counted
from rag.digest import digest, identity_json
from rag.embedding import ledger, refusals
from rag.embedding.account import Account
from rag.embedding.batches import PICK_UP, Visit, Visited, pending_usd
from rag.embedding.batching import Row
from rag.embedding.cache import Found, VectorCache
from rag.embedding.jobs import Job, Jobs, in_flight
from rag.embedding.plan import DocumentChanges, Plan, Terms, summed
from rag.embedding.run import Sender, Spent, Texts
from rag.errors import (
    CorpusFailed,
    CorpusMissing,
    Damaged,
    InBatch,
    KeyMissing,
    OverBudget,
    Problem,
    RaglineError,
    StorageFailed,
)
from rag.index import build as index_build
from rag.index import plan_file
from rag.index.current import Current
from rag.index.differences import causes, document_changes, vanished_sources
from rag.index.experiments import Experiments
from rag.index.kinds import parameters
from rag.index.manifest import BUILD, MANIFEST_FORMAT, Manifest, describe
from rag.index.memory import Memory, Remembered
from rag.index.plan_file import NO_TEXTS, Agreed, PlanFile
from rag.index.prepare import Prepared, prepare, without
from rag.index.search import OpenVersion
from rag.index.stage import counts, libraries, write_tables
from rag.index.tables import SCHEMA_VERSION, DocumentTable
from rag.index.trial import try_out
from rag.index.versions import Versions
from rag.ports import Chunker, EmbeddingBatches, EmbeddingModel, Floats, Tokenizer
from rag.release import release
from rag.sealed import write_sealed
from rag.sync import close_sync, run_sync
from rag.types import Excluded, Json, Usage

Reason = Literal[
    "published", "unchanged", "held", "refused", "no_publish", "experiment", "batch_submitted", "batch_waiting"
]
Purpose = Literal["index", "plan", "experiment", "repair"]
Progress = Callable[[str, int, int | None], None]
"""Told (stage, done so far, of how many if that is known)."""

BLOCK_BYTES = 8 << 20
NOT_PUBLISHED = 6
"""The exit code of a run whose version waits for somebody's word."""
WAY_ON: Mapping[str, str] = {
    "no_publish": "`ragline publish {version}` makes it live",
    "held": "`ragline publish {version}` makes it live and lifts the hold",
    "refused": "if that is right, run `ragline index --allow-removed` or `ragline publish {version}`",
}
LAST = "last.json"
"""How the last try to re-index ended, sealed, beside CURRENT."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything that a re-index works with, made by `rag.wiring` from settings."""

    store: Path
    name: str
    spec: CorpusSpec
    tokenizer: Tokenizer
    chunker: Chunker
    model: EmbeddingModel
    dimensions: int | None
    """What the model's vectors will have; None where that shows with the first answer only."""
    terms: Terms
    concurrency: int
    index_kind: str
    find_key: Callable[[], object]
    """Raises KeyMissing where the model needs a key that is not there."""
    lexical: Mapping[str, Json]
    build_lexical: Callable[[Path, Path], Mapping[str, Json]]
    """(chunks.parquet, folder) -> what it took."""
    max_failed_share: float
    max_removed_share: float
    clock: Clock
    batches: EmbeddingBatches | None = None
    """Where texts go by the batch; `terms` are of batches then, too."""
    keep_limits: Callable[[], None] = lambda: None
    """Keeps what the model's server has told of the account's limits, for the next plan."""


@dataclass(frozen=True, slots=True)
class Options:
    """What is asked of this one run.

    `index` is the store's one writer to its end. `plan` sends and writes nothing. `experiment` makes a version that is
    never published, beside a writer if need be. `repair` makes the files anew for who holds the lock already.
    """

    command: str = "ragline index"
    publish: bool = True
    allow_removed: bool = False
    rehash: bool = False
    retry_refused: bool = False
    """Send the texts again that the provider refused before."""
    wait: float = 0.0
    batch: bool = False
    """Pick up what batches have brought, submit what is missing, and build once nothing is missing any more."""
    ignore_batches: bool = False
    """Send what a batch holds all the same; with `batch` give up those that cannot be picked up."""
    plan_file: Path | None = None
    """Carry out exactly the plan that `ragline plan --out` has written there, or nothing."""
    purpose: Purpose = "index"


@dataclass(frozen=True, slots=True)
class Planned:
    """The plan, and what carrying it out needs."""

    plan: Plan
    excluded_chunks: int
    missing: NDArray[np.int64]
    """Rows whose text is sent."""


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why `ragline index` would not carry a plan out, or not publish what it makes."""

    reason: Literal["key_missing", "in_batch", "over_budget", "held", "refused"]
    exit_code: int
    message: str


@dataclass(frozen=True, slots=True)
class Loss:
    """How many of what the live version was made from are not there any more."""

    gone: int
    before: int
    of: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a re-index ended."""

    run_id: str
    plan: Plan
    version: int | None
    experiment: str | None
    """The name of the experiment that holds the content; None where a version does."""
    reason: Reason
    told: tuple[str, ...]
    """What became of it, one thing each."""
    embedded: int
    excluded_chunks: int
    usage: Usage
    """What this run was billed."""
    seconds: float
    batches: tuple[Job, ...] = ()
    """Those that are open, of a run by the batch."""

    @property
    def message(self) -> str:
        return "; ".join(self.told)

    @property
    def published(self) -> bool:
        return self.reason == "published"

    @property
    def in_batches(self) -> bool:
        """Whether nothing was built, because texts are under way in batches."""
        return self.reason in ("batch_submitted", "batch_waiting")

    @property
    def exit_code(self) -> int:
        return NOT_PUBLISHED if self.reason in ("held", "refused") else 0

    def as_json(self) -> dict[str, Json]:
        """The fields of `ragline index --json`."""
        own: dict[str, Json] = {
            "run_id": self.run_id,
            "version": self.version,
            "previous_version": self.plan.current_version,
            "published": self.published,
            "reason": self.reason,
            "embedded": self.embedded,
            "billed": {
                "requests": self.usage.requests,
                "tokens": self.usage.input_tokens + self.usage.output_tokens,
                "usd": self.usage.usd,
            },
            "saved_usd": self.plan.saved_usd,
            "excluded_documents": self.plan.documents.excluded,
            "excluded_chunks": self.excluded_chunks,
            "seconds": round(self.seconds, 3),
            "batches": [job.shown() for job in self.batches],
        }
        return {**self.plan.as_json(), **own}


class Reindex:
    """One run of the stages."""

    def __init__(self, parts: Parts, options: Options, progress: Progress = lambda *_: None) -> None:
        self._parts = parts
        self._options = options
        self._progress = progress
        self._held = contextlib.ExitStack()
        self._held.callback(close_sync, parts.model)
        self._held.callback(close_sync, parts.batches)
        self._versions = Versions(parts.store, parts.name, parts.clock)
        self._experiments = Experiments(parts.store, parts.name)
        self._memory = Memory(parts.store, parts.name)
        self._started = parts.clock.monotonic()
        self._began = parts.clock.utc()
        self.run_id = f"{self._began:%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:6]}"
        self.spent = Spent()
        self.staged: Path | None = None
        """The finished folder of a new version, once `build` has made one."""
        self._writer = False
        self._live: OpenVersion | None = None
        self._damage = ""
        self._remembered: Remembered | None = None
        self._snapshot: Snapshot | None = None
        self._stale = False
        self._prepared: Prepared | None = None
        self._planned: Planned | None = None
        self._wanted: PlanFile | None = None
        self._digest: str | None = None
        self._known: int | None = None
        self._experiment: str | None = None
        self._visited: Visited | None = None
        self._ended: Outcome | None = None

    # -- the frame

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer:
            self._record(error)
        self._held.close()

    def _record(self, error: BaseException | None) -> None:
        """Keep how this try ended, for `ragline status`; harmless if the disk refuses."""
        ended = self._ended
        why = error.message if isinstance(error, RaglineError) else str(error)
        values: dict[str, Json] = {
            "format": 1,
            "run_id": self.run_id,
            "at": text(self._parts.clock.utc()),
            "reason": ended.reason if ended else type(error).__name__,
            "message": ended.message if ended else why or "stopped before its end",
            "version": ended.version if ended else None,
        }
        with contextlib.suppress(RaglineError, OSError):
            write_sealed(self._parts.store / "indexes" / self._parts.name / LAST, values)

    # -- the stages

    def look(self) -> bool:
        """List the sources and compare with what the live version was made from: True when nothing changed.

        Then a plan is there already, and every later stage does nothing. Raises Busy, CorpusMissing, Damaged, and
        KeyMissing before the first run reads a byte; PlanOutdated and what PlanFile.load raises for a plan to carry out.
        """
        purpose = self._options.purpose
        if path := self._options.plan_file:
            self._wanted = wanted = PlanFile.load(path)
            plan_file.refuse(path, wanted.created, plan_file.set_apart(wanted.agreed, self._agreed()))
        if purpose == "index":
            self._lock()
        self._count_the_month()
        parts = self._parts
        if purpose != "repair" and self._versions.state().version:
            try:
                self._live = self._held.enter_context(self._versions.open(remember=purpose != "plan"))
            except Damaged as error:
                # the corpus and the cache are all that a new version needs
                self._damage = f"the live version was no help: {error.message}"
        self._remembered = remembered = self._memory.load()
        if remembered is None:  # then no stat is believed, and to list the sources is to read them all
            self._need_key()
        now_ns = int(parts.clock.utc().timestamp() * 1e9)
        known = remembered.snapshot if remembered else None
        self._snapshot = snapshot(parts.spec, known, now_ns, rehash=self._options.rehash)
        same = None if self._options.retry_refused or self._batch_open() else self._same()
        if same is None:
            return False
        self._planned = _nothing_to_do(parts, self._live.number if self._live else None, same)
        if purpose == "index" and self._snapshot.hashed:
            self._memory.save(self._snapshot, self._fingerprint(), same.content_digest)
        return True

    def read(self) -> None:
        """Read every source, cut it into chunks, and key what would be sent.

        Raises KeyMissing before it begins; CorpusMissing for a corpus without a document, CorpusFailed above
        max_failed_share or for equal ids.
        """
        if self._planned:
            return
        self._need_key()
        parts = self._parts
        assert self._snapshot is not None
        folder = self._held.enter_context(self._folder())
        reading = Reading(self._snapshot, parts.spec, folder)
        done = 0

        def count(documents: int) -> None:
            nonlocal done
            done += documents
            self._progress("read", done, None)

        prepared = prepare(reading, parts.chunker, parts.model.identity, folder, count)
        refused = {} if self._options.retry_refused else refusals.known(self._cache.folder)
        self._prepared = without(prepared, refused)
        self._stale = reading.stale
        _enough_taken(self._prepared, parts)
        _enough_read(self._prepared, parts)

    def plan(self) -> Plan:
        """What would be sent, what it costs and why. Sends nothing.

        Raises PlanOutdated where another plan was to be carried out.
        """
        if self._planned is None:
            self._planned = made = self._made_plan(self._ready())
            self._planned = replace(made, plan=replace(made.plan, counted_already=self._counted_already()))
        if (path := self._options.plan_file) and (wanted := self._wanted):
            plan_file.refuse(path, wanted.created, plan_file.differences(wanted, self._as_file(self._planned)))
            self._wanted = None
        return self._planned.plan

    def plan_to_keep(self) -> PlanFile:
        """The plan as `Options.plan_file` takes it."""
        self.plan()
        assert self._planned is not None
        return self._as_file(self._planned, self.obstacles())

    @property
    def usage(self) -> Usage:
        """What this run has been billed so far."""
        return self.spent.usage(self._parts.terms)

    @property
    def unchanged(self) -> bool:
        """Whether the content is that of the live version; `plan` knows."""
        return self._live is not None and self.plan().content_digest == self._live.manifest.content_digest

    def obstacles(self) -> tuple[Obstacle, ...]:
        """What an `index` with this plan would meet on its way to be published, in the order of the stages."""
        parts, found = self._parts, list[Obstacle]()
        plan = self.plan()
        if self._prepared is None:
            return ()
        try:
            parts.find_key()
        except KeyMissing as error:
            what = f"`ragline index` would end before it reads anything: {error.message}"
            found.append(Obstacle("key_missing", error.exit_code, what))
        under_way: Mapping[bytes, Job] = {}
        try:
            under_way = self._under_way()
        except Damaged as error:
            found.append(Obstacle("in_batch", error.exit_code, f"`ragline index` would end: {error.message}"))
        if under_way and not self._options.batch:
            what = f"`ragline index` would send nothing: {self._told_under_way(under_way)}; {PICK_UP} picks them up"
            found.append(Obstacle("in_batch", InBatch.exit_code, what))
        if cap := plan.crossed:
            what = f"`ragline index` would stop at {cap}, and keep what it has paid for by then"
            found.append(Obstacle("over_budget", OverBudget.exit_code, what))
        if not self.unchanged:
            reason, why = self._verdict(Options())
            if reason in ("held", "refused"):
                way_on = WAY_ON[reason].replace(" {version}", "")
                what = f"`ragline index` would leave the new version staged, {why}; {way_on}"
                found.append(Obstacle(reason, NOT_PUBLISHED, what))
        return tuple(found)

    def embed(self) -> int:
        """Send what the plan says, no more and no less; gives how many texts were answered.

        By the batch it is what has ended since, and `build` waits for the rest. Raises InBatch for texts that a batch
        holds; OverBudget, ProviderFailed, KeyMissing, UnknownModel, StorageFailed. What was answered is kept.
        """
        if self._parts.batches is not None:
            return self._visit(self._parts.batches)
        if self._prepared is None or not self.plan().to_embed:
            return 0
        self._pay_nothing_twice()
        parts, texts = self._parts, self._texts()
        self._forget_refused(texts)
        sender = Sender(parts.model, self._cache, parts.terms, parts.concurrency, self.spent)
        self._progress("embed", 0, len(texts.keys))

        def sent() -> None:
            self._progress("embed", self.spent.texts, len(texts.keys))

        try:
            with self._booked() as sender.billed:
                run_sync(sender.send(texts, sent))
        finally:
            with contextlib.suppress(StorageFailed):  # harmless if lost
                parts.keep_limits()
            refused = {texts.keys[at].tobytes(): why for at, why in sender.refused.items()}
            refusals.remember(self._cache.folder, refused, parts.clock.utc())
        if self._options.purpose != "experiment":  # only a writer may merge: another's sources would vanish
            self._cache.merge()
        self._go_on_without(refused)
        return self.spent.texts

    def build(self) -> None:
        """Make all files of the new version in the run's own folder, its manifest last, and try it out.

        Nothing is made when the live version, or one that waits unpublished, holds the same content already.
        """
        if self._prepared is None or (self._visited and self._visited.missing):
            return
        parts, prepared = self._parts, self._prepared
        found = self._cache.lookup(prepared.keys)
        if not found.hit.all():
            raise self._incomplete(found)
        self._digest = self._content_digest(prepared, found)
        assert self._digest is not None
        if self._is_there(self._digest):
            return
        dimensions = int(found.segments[0].dimensions)
        folder = prepared.folder
        write_tables(prepared, folder)
        rows_a_block = max(1, BLOCK_BYTES // (4 * dimensions))

        def blocks() -> Iterator[Floats]:
            for start in range(0, prepared.chunks, rows_a_block):
                self._progress("build", start, prepared.chunks)
                yield found.gather(np.arange(start, min(start + rows_a_block, prepared.chunks)))
                found.release()

        index = index_build.build(blocks, prepared.chunks, dimensions, parts.index_kind, folder / "index.faiss")
        self._progress("lexical", 0, None)
        took = parts.build_lexical(folder / "chunks.parquet", folder / "lexical")
        storage.remove_file(folder / "spool.arrow")
        manifest = Manifest(
            content_digest=self._digest,
            embedding=parts.model.identity,
            dimensions=dimensions,
            readers=prepared.readers,
            chunker=parts.chunker.identity,
            tokenizer=parts.tokenizer.identity,
            tokens_exact=parts.tokenizer.exact,
            index=index,
            lexical=parts.lexical,
            counts=counts(prepared),
            rows=prepared.chunks,
            files=describe(folder),
        )
        self._progress("verify", 0, None)
        try_out(folder / "index.faiss", manifest.rows, manifest.kind, found)
        write_sealed(folder / BUILD, self._build_record(took))
        storage.faultpoint("pipeline.before_manifest")
        manifest.save(folder)
        storage.faultpoint("pipeline.staged")
        self.staged = folder

    def publish(self) -> Outcome:
        """Give the version its number and make it live, or say why not. The last step, and an atomic one."""
        if self._options.purpose == "experiment":
            return self._set_apart()
        if self._visited and self._visited.missing:
            reason: Reason = "batch_submitted" if self._visited.submitted else "batch_waiting"
            return self._outcome(None, reason, *self._visited.lines)
        known = self._known
        if known is not None and self._live and known == self._live.number:
            self._remember()
            message = "the content is that of the live version" if self._prepared else "nothing has changed"
            return self._outcome(known, "unchanged", message)
        reason, why = self._verdict(self._options)
        if reason != "published":
            version = known if known is not None else self._versions.stage_only(self._staged_folder())
            way_on = WAY_ON[reason].replace("{version}", str(version))
            return self._outcome(version, reason, f"version {version} is staged, {why}; {way_on}")
        if known is not None:
            version = self._versions.publish(known)
        else:
            version = self._versions.publish_staged(self._staged_folder())
        self._remember()
        return self._outcome(version, "published", f"version {version} is live")

    # -- what the stages are made of

    def _texts(self) -> Texts:
        """What the plan says is missing."""
        prepared = self._ready()
        assert self._planned is not None
        missing, spool = self._planned.missing, prepared.spool()
        return Texts(
            prepared.keys[missing],
            prepared.tokens[missing],
            lambda start, end: spool.sent(missing[start:end].tolist()),
            lambda position: spool.chunk(int(missing[position])).chunk_id,
        )

    def _visit(self, batches: EmbeddingBatches) -> int:
        """Pick up what batches have brought, and submit what is missing."""
        parts, options = self._parts, self._options
        wanted = self._texts() if self._prepared is not None and self.plan().to_embed else None
        if wanted:
            self._forget_refused(wanted)
        visit = Visit(
            parts.store,
            parts.name,
            self._cache,
            batches,
            parts.terms,
            parts.clock,
            self.spent,
            options.command,
            give_up=options.ignore_batches,
            progress=self._progress,
        )
        self._visited = run_sync(visit.run(wanted))
        self._cache.merge()
        if self._prepared is not None:
            self._go_on_without(self._visited.refused)
        return self.spent.texts

    def _forget_refused(self, texts: Texts) -> None:
        """Where that is asked for, the next runs are to find refused what this one finds refused, and no more."""
        if self._options.retry_refused:
            refusals.forget(self._cache.folder, {key.tobytes() for key in texts.keys})

    def _under_way(self) -> dict[bytes, Job]:
        """Key -> the batch that may bring its vector, of the texts that the plan says are missing.

        Raises Damaged, FormatTooNew.
        """
        if self._prepared is None or self._planned is None:
            return {}
        wanted = {self._prepared.keys[row].tobytes() for row in self._planned.missing}
        there = [job for job in Jobs(self._parts.store).all() if job.may_be_paid]
        return {key: job for key, job in in_flight(there).items() if key in wanted}

    def _pay_nothing_twice(self) -> None:
        """Raise InBatch where a text to be sent may be paid for already."""
        if self._options.ignore_batches:
            return
        if under_way := self._under_way():
            what = f"nothing was sent: {self._told_under_way(under_way)}"
            remedy = f"{PICK_UP} picks them up when they have ended"
            if self._options.purpose == "index":
                remedy += "; --ignore-batches sends them now, and pays for them twice"
            raise InBatch.at("embedding", what, remedy)

    def _counted_already(self) -> int:
        """Tokens to embed that are in batches which a run would not count: those of its own that it submits it does."""
        prepared = self._ready()
        assert self._planned is not None
        try:
            under_way = self._under_way()
        except Damaged:  # an obstacle of its own
            return 0
        submitted = {key for key, job in under_way.items() if job.batch_id or job.index != self._parts.name}
        rows = [row for row in self._planned.missing.tolist() if prepared.keys[row].tobytes() in submitted]
        return int(prepared.tokens[rows].sum())

    def _told_under_way(self, under_way: Mapping[bytes, Job]) -> str:
        jobs = {job.digest: job for job in under_way.values()}.values()
        ids = ", ".join(job.batch_id or f"one that is {job.state}" for job in jobs)
        others = {job.index for job in jobs} - {self._parts.name}
        whose = f" of index {', '.join(sorted(others))}" if others else ""
        texts = counted(self.plan().to_embed, "text")
        return f"{len(under_way):,} of {texts} to embed are under way in {counted(len(jobs), 'batch', 'batches')}{whose} ({ids})"

    def _need_key(self) -> None:
        """Find out before the work whether its texts could be sent; what is mended may be all in the cache."""
        if self._options.purpose in ("index", "experiment"):
            self._parts.find_key()

    def _lock(self) -> None:
        """Be the store's one writer until the end of the run. Raises Busy."""
        parts = self._parts
        self._held.enter_context(storage.lock(parts.store, self._options.command, parts.clock, self._options.wait))
        storage.sweep_staging(parts.store)
        ledger.settle(parts.store)
        self._writer = True

    def _count_the_month(self) -> None:
        """Learn what this month has cost before this run, where a cap hangs on it. Raises FormatTooNew, StorageFailed."""
        parts, terms = self._parts, self._parts.terms
        if terms.max_usd_per_month is None or terms.free:
            return
        month = ledger.month(parts.store, parts.clock.utc())
        # what is in batches is no line yet, and is as good as spent
        pending, unknown = pending_usd(Jobs(parts.store).found()[0], parts.name)
        terms = replace(terms, spent_this_month=month.usd + pending, unpriced_this_month=month.unpriced + unknown)
        self._parts = replace(parts, terms=terms)

    @contextlib.contextmanager
    def _booked(self) -> Iterator[Callable[[], None]]:
        """The ledger knows of this run before it pays, and of every answer once what is given here is called."""
        parts = self._parts
        if parts.terms.free:
            yield lambda: None
            return
        model, saved = parts.model.identity.name, self.plan().saved_usd
        account = Account(parts.store, parts.clock, self._options.command, model, saved, self.run_id)

        def billed() -> None:
            account.bill_in_all(self.usage)

        with account:
            try:
                yield billed
            finally:
                billed()

    @functools.cached_property
    def _cache(self) -> VectorCache:
        return VectorCache(self._parts.store, self._parts.model.identity, self._parts.clock)

    def _ready(self) -> Prepared:
        if self._prepared is None:
            raise RuntimeError("read() comes before this stage")
        return self._prepared

    def _staged_folder(self) -> Path:
        if self.staged is None:
            raise RuntimeError("build() comes before publish()")
        return self.staged

    @contextlib.contextmanager
    def _folder(self) -> Iterator[Path]:
        """Where this run keeps what is unfinished: in the store's staging, a plan in a temporary folder."""
        if self._options.purpose == "plan":
            with tempfile.TemporaryDirectory(prefix="ragline-plan-") as name:
                yield Path(name)
        else:
            with storage.staging(self._parts.store, self._options.purpose) as folder:
                yield folder

    def _identities(self) -> dict[str, Json]:
        """All that decides the content of a version beside the documents."""
        parts = self._parts
        return {
            "formats": {"manifest": MANIFEST_FORMAT, "tables": SCHEMA_VERSION},
            "embedding": identity_json(parts.model.identity),
            "chunker": dict(parts.chunker.identity),
            "tokenizer": dict(parts.tokenizer.identity),
            "lexical": dict(parts.lexical),
        }

    def _agreed(self) -> Agreed:
        """What a plan stands and falls with before anything is read."""
        parts = self._parts
        settings = {**self._identities(), "index_kind": parts.index_kind, "reading": parts.spec.identity()}
        if self._options.batch:  # half the price shows that only where a price is known
            settings["--batch"] = "given"
        price = None if parts.terms.free else parts.terms.usd_per_million
        return Agreed(parts.name, str(parts.store.resolve()), settings, price)

    def _as_file(self, planned: Planned, obstacles: Sequence[Obstacle] = ()) -> PlanFile:
        plan, prepared, rows = planned.plan, self._prepared, planned.missing
        if prepared:
            with contextlib.closing(DocumentTable(prepared.folder / "documents.parquet")) as table:
                changed = plan_file.documents(plan.documents, table)
        else:
            changed = plan_file.documents(plan.documents, None)
        live = self._live.manifest.readers if self._live else ()
        return PlanFile(
            created=text(self._began),
            ragline=release(),
            agreed=self._agreed(),
            plan=plan_file.kept(plan, [asdict(obstacle) for obstacle in obstacles]),
            texts_sha256=plan_file.texts_sha256(prepared.keys[rows], prepared.tokens[rows]) if prepared else NO_TEXTS,
            left_out_sha256=plan_file.left_out_sha256(prepared.excluded) if prepared else None,
            readers=prepared.readers if prepared else live,
            documents=changed,
        )

    def _fingerprint(self) -> str:
        """Equal fingerprints mean equal content: it is the content digest's input before anything is read."""
        assert self._snapshot is not None
        parts = self._parts
        return digest(
            {
                **self._identities(),
                "sources": self._snapshot.digest,
                "reading": reading_identity(self._snapshot, parts.spec),
                "index_kind": parts.index_kind,
            }
        )

    def _content_digest(self, prepared: Prepared, found: Found) -> str | None:
        """Of everything that a version is made of; None while nobody knows how wide the vectors will be."""
        dimensions = self._parts.dimensions or (found.segments[0].dimensions if found.segments else None)
        if dimensions is None:
            return None
        kind = parameters(self._parts.index_kind, prepared.chunks, dimensions)
        return digest({**self._identities(), "index": kind, "rows": prepared.chunks, "documents": prepared.digest})

    def _same(self) -> Manifest | None:
        """The manifest of what was made of these sources and settings already: the live version, or an experiment."""
        live, remembered, fingerprint = self._live, self._remembered, self._fingerprint()
        known = remembered.content_digest if remembered and remembered.fingerprint == fingerprint else None
        if live and live.manifest.content_digest == known:
            self._known = live.number
            return live.manifest
        if self._options.purpose == "experiment":
            self._experiment = self._experiments.made_of(fingerprint)
        if self._experiment is None:
            return None
        with self._experiments.open(self._experiment) as opened:
            return opened.manifest

    def _batch_open(self) -> bool:
        """Whether a batch of this index is to be picked up: it may hold texts that the version of this content lacks."""
        parts = self._parts
        return parts.batches is not None and any(
            job.in_flight and job.index == parts.name and job.embedding == parts.model.identity
            for job in Jobs(parts.store).found()[0]
        )

    def _is_there(self, content_digest: str) -> bool:
        """Whether a version holds the content: the live one, else the newest other one, else an experiment."""
        if self._options.purpose == "repair":  # it needs the files, not a version
            return False
        if self._live and self._live.manifest.content_digest == content_digest:
            self._known = self._live.number
        else:
            self._known = self._versions.find(content_digest)
        if self._known is not None or self._options.purpose != "experiment":
            return self._known is not None
        self._experiment = content_digest[:16]
        return self._experiments.sound(self._experiment)

    def _made_plan(self, prepared: Prepared) -> Planned:
        parts, originals = self._parts, prepared.originals
        found = self._cache.lookup(prepared.keys[originals])
        missing = originals[~found.hit]
        tokens = prepared.tokens[missing]
        requests = Row(tokens).requests(parts.terms.limits)
        changes = document_changes(self._live, prepared)
        labels = causes(self._live, prepared, missing, changes, parts.tokenizer.identity)
        plan = Plan(
            index=parts.name,
            current_version=self._live.number if self._live else None,
            content_digest=self._content_digest(prepared, found),
            documents=changes,
            chunks=prepared.chunks,
            duplicates=prepared.chunks - len(originals),
            cached=len(originals) - len(missing),
            to_embed=len(missing),
            tokens=int(tokens.sum()),
            tokens_exact=parts.tokenizer.exact,
            requests=len(requests),
            cached_tokens=int(prepared.tokens[originals].sum() - tokens.sum()),
            causes=summed(labels, tokens, parts.terms),
            terms=parts.terms,
        )
        return Planned(plan, counts(prepared)["excluded_chunks"], missing)

    def _loss(self) -> Loss | None:
        """What vanished since the live version; None where that is damaged and nobody remembers its sources."""
        if self._live:
            return Loss(self.plan().documents.vanished, self._live.manifest.counts["documents"], "document")
        if not self._damage:
            return Loss(0, 0, "document")
        if self._remembered is None or self._snapshot is None:
            return None
        before = self._remembered.snapshot
        return Loss(vanished_sources(before, self._snapshot), len(before.paths), "source")

    def _verdict(self, options: Options) -> tuple[Reason, str]:
        """`verdict`; where nothing is left of what was there, it may be another corpus."""
        loss = self._loss()
        reason, why = verdict(self._versions.state(), loss, self._parts.max_removed_share, options)
        if reason == "refused" and loss and loss.gone == loss.before:
            why += f" (nothing of it is left: is {', '.join(map(str, self._parts.spec.paths))} its corpus?)"
        return reason, why

    def _build_record(self, lexical: Mapping[str, Json]) -> dict[str, Json]:
        """build.json: what is true of this run only."""
        plan, usage = self.plan(), self.usage
        return {
            "format": 1,
            "run_id": self.run_id,
            "created": text(self._began),
            "seconds": round(self._parts.clock.monotonic() - self._started, 3),
            "host": socket.gethostname(),
            "command": self._options.command,
            "previous_version": plan.current_version,
            "fingerprint": None if self._stale else self._fingerprint(),
            "libraries": libraries(),
            "texts": plan.texts,
            "cached": plan.cached,
            "embedded": self.spent.texts,
            "requests": usage.requests,
            "tokens": usage.input_tokens,
            "usd": usage.usd,
            "saved_usd": plan.saved_usd,
            "lexical_build": dict(lexical),
            "added": list(plan.documents.added),
            "changed": list(plan.documents.changed),
            "removed": list(plan.documents.removed),
        }

    def _remember(self) -> None:
        """Keep what the sources of the live version looked like, for the next run's first look; harmless if lost."""
        if self._snapshot and self._digest and not self._stale:
            self._memory.save(self._snapshot, self._fingerprint(), self._digest)

    def _go_on_without(self, refused: Mapping[bytes, str]) -> None:
        """Leave out the texts that the provider will not take. Raises CorpusFailed where they are too many."""
        assert self._planned is not None
        self._prepared = left = without(self._ready(), refused)
        self._planned = replace(self._planned, excluded_chunks=counts(left)["excluded_chunks"])
        _enough_taken(left, self._parts)

    def _set_apart(self) -> Outcome:
        """The end of an experiment: nothing that `index` reads or writes has changed."""
        if self._known is not None:
            return self._outcome(self._known, "unchanged", f"version {self._known} is made of these settings")
        assert self._experiment is not None
        if self.staged:
            self._experiments.keep(self.staged, self._experiment)
        word = "was made" if self.staged else "is there already"
        return self._outcome(None, "experiment", f"experiment {self._experiment} {word}; nothing was published")

    def _outcome(self, version: int | None, reason: Reason, *told: str) -> Outcome:
        plan = self.plan()
        if plan.content_digest and self._digest:  # a text that was refused since is not in it
            plan = replace(plan, content_digest=self._digest)
        assert self._planned is not None
        self._ended = Outcome(
            run_id=self.run_id,
            plan=plan,
            version=version,
            experiment=None if version is not None else self._experiment,
            reason=reason,
            told=tuple(filter(None, [*told, self._damage, *self._noted()])),
            embedded=self.spent.texts,
            excluded_chunks=self._planned.excluded_chunks,
            usage=self.usage,
            seconds=self._parts.clock.monotonic() - self._started,
            batches=self._visited.open if self._visited else (),
        )
        return self._ended

    def _noted(self) -> Sequence[str]:
        """What somebody should know of the batches, where the message is not theirs."""
        visited = self._visited
        return visited.notes if visited and not visited.missing else ()

    def _incomplete(self, found: Found) -> RaglineError:
        row = int(np.flatnonzero(~found.hit)[0])
        what = f"no vector for {counted(int((~found.hit).sum()), 'chunk')}, the first is row {row}"
        return RaglineError(what, [Problem(self._parts.name, what, "run the same command again")])


STAGES = (Reindex.look, Reindex.read, Reindex.plan, Reindex.embed, Reindex.build, Reindex.publish)
"""What both runners call, in this order."""


def reindex(run: Reindex) -> Outcome:
    """All stages, in this process: what the direct runner does."""
    *stages, publish = STAGES
    for stage in stages:
        stage(run)
    return publish(run)


def plan_only(run: Reindex) -> Plan:
    """The stages of `ragline plan`: nothing is sent, and with purpose `plan` nothing is written to the store."""
    run.look()
    run.read()
    return run.plan()


def verdict(state: Current, loss: Loss | None, max_removed_share: float, options: Options) -> tuple[Reason, str]:
    """Whether a new version may go live, and why not."""
    if not options.publish:
        return "no_publish", "as asked"
    if hold := state.hold:
        why = hold.reason or "no reason given"
        return "held", f"not published: {hold.by} rolled back version {hold.from_version} on {hold.at} ({why})"
    if options.allow_removed:
        return "published", ""
    if loss is None:
        return "refused", f"not published: nobody knows how many documents vanished since version {state.version}"
    share = loss.gone / loss.before if loss.before else 0.0
    if share <= max_removed_share:
        return "published", ""
    return "refused", (
        f"not published: {loss.gone:,} of {counted(loss.before, loss.of)} ({share:.0%}) vanished, more than "
        f"index.max_removed_share = {max_removed_share:.0%}"
    )


def _nothing_to_do(parts: Parts, current: int | None, same: Manifest) -> Planned:
    there = same.counts
    plan = Plan(
        index=parts.name,
        current_version=current,
        content_digest=same.content_digest,
        documents=DocumentChanges((), (), (), there["documents"], there["excluded"], 0),
        chunks=there["chunks"],
        duplicates=there["duplicates"],
        cached=there["chunks"] - there["duplicates"],
        to_embed=0,
        tokens=0,
        tokens_exact=same.tokens_exact,
        requests=0,
        cached_tokens=0,
        causes=(),
        terms=parts.terms,
    )
    return Planned(plan, there["excluded_chunks"], np.zeros(0, np.int64))


def _enough_read(prepared: Prepared, parts: Parts) -> None:
    rows = [row for row in prepared.excluded if row.stage == "read"]
    if not prepared.documents or not prepared.chunks:
        what = f"the corpus has no document to index ({_told(rows) or 'nothing was found'})"
        where = ", ".join(map(str, parts.spec.paths))
        raise CorpusMissing(
            what, [Problem(where, what, "check [corpus] paths, include and exclude"), *_first(prepared)]
        )
    failed = [row for row in rows if row.reason not in HARMLESS]
    if closed := [row for row in rows if row.reason == CLOSED]:
        # what lies in it is unknown, not gone: to publish without it would drop its documents unseen
        folders = counted(len(closed), "folder")
        what = f"{folders} of the corpus cannot be entered; nobody knows how many documents lie there"
        problems = [
            Problem(row.source, row.detail, "give this user the right, or name it in corpus.exclude") for row in closed
        ]
        raise CorpusFailed(what, problems[:20])
    share = len(failed) / (prepared.documents + len(failed))
    if share > parts.max_failed_share:
        what = (
            f"{len(failed):,} of {counted(prepared.documents + len(failed), 'source')} ({share:.1%}) could not be read, more than "
            f"corpus.max_failed_share = {parts.max_failed_share:.1%} ({_told(failed)})"
        )
        remedy = "mend or exclude them (below are the first ones), or raise corpus.max_failed_share"
        raise CorpusFailed(what, [Problem("corpus", what, remedy), *_first(prepared)])


def _enough_taken(prepared: Prepared, parts: Parts) -> None:
    refused = [row for row in prepared.excluded if row.stage == "embed"]
    share = len(refused) / max(1, prepared.chunks + len(refused))
    if share > parts.max_failed_share:
        what = (
            f"{parts.model.identity.name} refused {counted(len(refused), 'chunk')} ({share:.1%}), more than "
            f"corpus.max_failed_share = {parts.max_failed_share:.1%}; the first: {refused[0].detail}"
        )
        remedy = (
            "make chunking.max_tokens smaller, or, if the model takes them by now, give --retry-refused, or raise "
            "corpus.max_failed_share to go on without them"
        )
        raise CorpusFailed(what, [Problem("corpus", what, remedy), *_first(prepared)])


def _told(rows: Sequence[Excluded]) -> str:
    """How many of each reason, the commonest first."""
    return ", ".join(f"{count:,} {reason}" for reason, count in Counter(row.reason for row in rows).most_common(6))


def _first(prepared: Prepared, limit: int = 10) -> list[Problem]:
    """The first failures; equal ones of the records of a file are one."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for row in prepared.excluded:
        if row.reason not in HARMLESS:
            file, _, place = row.source.rpartition(":")
            found.setdefault((file if place.isdecimal() else row.source, row.reason, row.detail), []).append(row.source)
    problems = []
    for (_, reason, detail), sources in itertools.islice(found.items(), limit):
        more = f", and {counted(len(sources) - 1, 'more record')} of it" if len(sources) > 1 else ""
        remedy = "mend it, or name it in corpus.exclude"
        if reason == "columns":
            remedy += "; where files differ, corpus.text_column and corpus.id_column take a list"
        problems.append(Problem(sources[0] + more, f"{reason}: {detail}", remedy))
    return problems
