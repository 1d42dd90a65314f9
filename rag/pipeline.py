"""The stages of a re-index in order. Both runners, direct and Prefect, call exactly these; read this file first.

    with Reindex(parts, options) as run:
        run.look()      # has anything changed at all? if not, the rest does nothing
        run.read()      # documents -> chunks and keys, spooled to the run's own folder
        run.plan()      # what is missing in the cache, what it costs, why
        run.embed()     # send exactly that; every answer is durable before it counts
        run.build()     # index, tables, lexical index, manifest; opened and searched before anybody sees it
        run.publish()   # its number, then CURRENT: one step, and the last

The invariant: every chunk is embedded, a duplicate, or excluded with a reason, or the run fails.
"""

from __future__ import annotations

import contextlib
import socket
import tempfile
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import numpy as np

from rag import storage
from rag.clock import Clock
from rag.corpus.read import Reading, read, reading_identity
from rag.corpus.snapshot import Snapshot, snapshot
from rag.corpus.spec import CorpusSpec
from rag.digest import digest, identity_json
from rag.embedding import ledger
from rag.embedding.cache import Found, VectorCache
from rag.embedding.plan import DocumentChanges, Plan, Terms, minutes, requests_for, summed
from rag.embedding.run import Request, Sender, Spent
from rag.errors import CorpusFailed, CorpusMissing, Damaged, Problem, RaglineError
from rag.index import build as index_build
from rag.index.differences import causes, document_changes
from rag.index.kinds import parameters
from rag.index.manifest import BUILD, MANIFEST_FORMAT, Manifest, describe, write_sealed
from rag.index.memory import Memory
from rag.index.prepare import Prepared, prepare
from rag.index.search import OpenVersion
from rag.index.tables import HEADING_SEPARATOR, SCHEMA_VERSION, ChunkRow, ExcludedRow, writing
from rag.index.trial import try_out
from rag.index.versions import Versions
from rag.ports import Chunker, EmbeddingModel, Floats, Tokenizer
from rag.providers.facade import close_sync, run_sync
from rag.types import Json, Usage

Reason = Literal["published", "unchanged", "held", "refused", "no_publish"]
Progress = Callable[[str, int, int | None], None]
"""Told (stage, done so far, of how many if that is known)."""

BLOCK_BYTES = 8 << 20
LAST = "last.json"
"""How the last try to re-index ended, sealed, beside CURRENT."""
HARMLESS = frozenset({
    "empty", "hidden", "link", "needs an extra", "not a file", "outside the corpus", "pointer", "unsupported",
})  # fmt: skip
"""Reasons of exclusion that are no failures of reading: they do not count towards max_failed_share."""


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
    lexical: Mapping[str, Json]
    build_lexical: Callable[[Path, Path], Mapping[str, Json]]
    """(chunks.parquet, folder) -> what it took."""
    max_failed_share: float
    max_removed_share: float
    clock: Clock


@dataclass(frozen=True, slots=True)
class Options:
    """What is asked of this one run."""

    command: str = "ragline index"
    publish: bool = True
    allow_removed: bool = False
    rehash: bool = False
    wait: float = 0.0
    remake: bool = False
    """Build even what is there already: a repair needs the files, not a new version."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a re-index ended."""

    run_id: str
    plan: Plan
    version: int | None
    previous_version: int | None
    published: bool
    reason: Reason
    message: str
    embedded: int
    saved_usd: float | None
    excluded_documents: int
    excluded_chunks: int
    seconds: float

    @property
    def exit_code(self) -> int:
        return 6 if self.reason in ("held", "refused") else 0

    def as_json(self) -> dict[str, Json]:
        """The fields of `ragline index --json`."""
        own: dict[str, Json] = {
            "run_id": self.run_id,
            "version": self.version,
            "previous_version": self.previous_version,
            "published": self.published,
            "reason": self.reason,
            "embedded": self.embedded,
            "saved_usd": self.saved_usd,
            "excluded_documents": self.excluded_documents,
            "excluded_chunks": self.excluded_chunks,
            "seconds": round(self.seconds, 3),
        }
        return {**self.plan.as_json(), **own}


class Reindex:
    """One run of the stages. `look`, `read` and `plan` alone write nothing to the store and need no lock."""

    def __init__(self, parts: Parts, options: Options, progress: Progress = lambda *_: None) -> None:
        self._parts = parts
        self._options = options
        self._progress = progress
        self._held = contextlib.ExitStack()
        self._versions = Versions(parts.store, parts.name, parts.clock)
        self._started = parts.clock.monotonic()
        self._began = parts.clock.utc()
        self.run_id = f"{self._began:%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:6]}"
        self.spent = Spent()
        self._live: OpenVersion | None = None
        self._snapshot: Snapshot | None = None
        self._reading: Reading | None = None
        self._prepared: Prepared | None = None
        self._plan: Plan | None = None
        self._memory = Memory(parts.store, parts.name)
        self.staged: Path | None = None
        self._digest: str | None = None
        self._dry = True
        self._damage = ""
        self._ended: Outcome | None = None

    # -- the frame

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._dry and not self._options.remake:
            self._record(error)
        close_sync(self._parts.model)
        self._held.close()

    def _record(self, error: BaseException | None) -> None:
        """Keep how this try ended, for `ragline status`; harmless if the disk refuses."""
        ended = self._ended
        values: dict[str, Json] = {
            "format": 1,
            "run_id": self.run_id,
            "at": self._parts.clock.utc().strftime("%Y-%m-%dT%H:%M:%SZ"),
            "reason": ended.reason if ended else type(error).__name__,
            "message": ended.message if ended else str(error) or "stopped before its end",
            "version": ended.version if ended else None,
        }
        with contextlib.suppress(RaglineError, OSError):
            write_sealed(self._parts.store / "indexes" / self._parts.name / LAST, values)

    def lock(self) -> None:
        """Be the store's one writer until the end of the run. Raises Busy."""
        parts = self._parts
        self._held.enter_context(storage.lock(parts.store, self._options.command, parts.clock, self._options.wait))
        storage.sweep_staging(parts.store)
        self._dry = False

    # -- the stages

    def look(self) -> bool:
        """List the sources and compare with what the live version was made from: True when nothing changed.

        Then a plan is there already, and every later stage does nothing. Raises CorpusMissing, Damaged.
        """
        parts = self._parts
        if not self._options.remake and self._versions.current():
            try:
                self._live = self._held.enter_context(self._versions.open())
            except Damaged as error:
                # the corpus and the cache are all that a new version needs
                self._damage = f"; the live version was no help: {error.message}"
        remembered = self._memory.load()
        known = remembered.snapshot if remembered else None
        now_ns = int(parts.clock.utc().timestamp() * 1e9)
        self._snapshot = snapshot(parts.spec, known, now_ns, rehash=self._options.rehash)
        if self._live is None or remembered is None or remembered.fingerprint != self._fingerprint():
            return False
        if remembered.content_digest != self._live.manifest.content_digest:
            return False
        self._plan = self._nothing_to_do(self._live)
        if not self._dry and self._snapshot.hashed:
            self._memory.save(self._snapshot, remembered.fingerprint, remembered.content_digest)
        return True

    def read(self) -> None:
        """Read every source, cut it into chunks, and key what would be sent.

        Raises CorpusMissing for a corpus without a document, CorpusFailed above max_failed_share or for equal ids.
        """
        if self._plan:
            return
        parts = self._parts
        assert self._snapshot is not None
        folder = self._held.enter_context(self._folder())
        reading = read(self._snapshot, parts.spec)
        done = 0

        def count(documents: int) -> None:
            nonlocal done
            done += documents
            self._progress("read", done, None)

        prepared = prepare(reading, parts.chunker, parts.model.identity, folder, count)
        self._reading = reading
        self._prepared = prepared
        _enough_read(prepared, parts)

    def plan(self) -> Plan:
        """What would be sent, what it costs and why. Sends nothing."""
        if self._plan:
            return self._plan
        parts, prepared = self._parts, self._ready()
        originals = prepared.originals
        found = self._cache().lookup(prepared.keys[originals])
        missing = originals[~found.hit]
        tokens = prepared.tokens[missing]
        total = int(tokens.sum())
        self._requests = requests_for(tokens, parts.terms.limits)
        self._missing = missing
        changes = document_changes(self._live, prepared)
        labels = causes(
            self._live, prepared, missing, parts.model.identity, changes, dict(parts.chunker.identity),
            dict(parts.tokenizer.identity),
        )  # fmt: skip
        self._changes = changes
        self._plan = Plan(
            index=parts.name,
            current_version=self._live.number if self._live else None,
            content_digest=self._content_digest(prepared, found),
            documents=changes,
            chunks=prepared.chunks,
            duplicates=prepared.chunks - len(originals),
            cached=len(originals) - len(missing),
            to_embed=len(missing),
            tokens=total,
            tokens_exact=parts.tokenizer.exact,
            requests=len(self._requests),
            usd=parts.terms.usd(total),
            priced_on=parts.terms.priced_on,
            minutes=minutes(parts.terms, len(self._requests), total),
            max_usd=parts.terms.max_usd,
            max_tokens=parts.terms.max_tokens,
            within_budget=parts.terms.allows(total),
            cached_tokens=int(prepared.tokens[originals].sum()) - total,
            causes=summed(labels, tokens, parts.terms),
        )
        return self._plan

    @property
    def usage(self) -> Usage:
        """What this run has been billed so far."""
        return self.spent.usage(self._parts.terms)

    @property
    def unchanged(self) -> bool:
        """Whether the content is that of the live version; `plan` knows."""
        return self._live is not None and self.plan().content_digest == self._live.manifest.content_digest

    def embed(self) -> int:
        """Send what the plan says, no more and no less; gives how many texts were sent.

        Raises OverBudget, ProviderFailed, KeyMissing, UnknownModel, StorageFailed. What was answered is kept.
        """
        if self._prepared is None or not len(self._missing):
            return 0
        parts, prepared, missing = self._parts, self._prepared, self._missing
        spool = prepared.spool()
        sender = Sender(parts.model, self._cache(), parts.terms, parts.concurrency, self.spent)
        requests = [Request(start, end, prepared.tokens[missing[start:end]]) for start, end in self._requests]
        self._progress("embed", 0, len(missing))

        def texts(start: int, end: int) -> list[str]:
            return spool.sent(missing[start:end].tolist())

        def sent(_: int) -> None:
            self._progress("embed", self.spent.texts, len(missing))

        outcome = "failed"
        try:
            run_sync(sender.send(requests, prepared.keys[missing], texts, sent))
            outcome = "done"
        finally:
            if self.spent.requests and not parts.terms.free:
                name, saved = parts.model.identity.name, self._saved_usd()
                ledger.record(parts.store, parts.clock.utc(), self._options.command, name, self.usage, saved, outcome)
        self._cache().merge()
        return self.spent.texts

    def build(self) -> None:
        """Make all files of the new version in the run's own folder, its manifest last, and try it out.

        Nothing is made when the live version, or one that waits unpublished, holds the same content already.
        """
        if self._prepared is None:
            return
        parts, prepared = self._parts, self._prepared
        found = self._cache().lookup(prepared.keys)
        if not found.hit.all():
            raise self._incomplete(found)
        self._digest = self._content_digest(prepared, found)
        if self._digest is None or (self._known_version() is not None and not self._options.remake):
            return
        dimensions = int(found.segments[0].dimensions)
        folder = prepared.folder
        self._write_tables(prepared)
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
            counts=self._counts(prepared),
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
        plan = self.plan()
        before = self._live.number if self._live else None
        if self._prepared is None:
            return self._outcome(before, "unchanged", "nothing has changed")
        known = self._known_version()
        if known is not None and known == before:
            self._remember()
            return self._outcome(before, "unchanged", "the content is that of the live version")
        reason, message = self._verdict(plan)
        if reason != "published":
            version = known if known is not None else self._versions.stage_only(self._staged_folder())
            self._remember()
            return self._outcome(version, reason, message.format(version=version))
        if known is not None:
            version = self._versions.publish(known)
        else:
            version = self._versions.publish_staged(self._staged_folder())
        self._remember()
        return self._outcome(version, "published", f"version {version} is live")

    # -- what the stages are made of

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
        """Where this run keeps what is unfinished: in the store's staging for a writer, else in a temporary folder."""
        if self._dry:
            with tempfile.TemporaryDirectory(prefix="ragline-plan-") as name:
                yield Path(name)
        else:
            with storage.staging(self._parts.store, "index") as folder:
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

    def _known_version(self) -> int | None:
        """The live version if it has the content of this run, else the newest other one that has."""
        if self._live and self._live.manifest.content_digest == self._digest:
            return self._live.number
        return self._versions.find(self._digest) if self._digest else None

    def _verdict(self, plan: Plan) -> tuple[Reason, str]:
        """Whether the new version may go live."""
        if not self._options.publish:
            return "no_publish", "version {version} is staged, as asked; `ragline publish {version}` makes it live"
        state = self._versions.state()
        if state.hold:
            hold = state.hold
            return "held", (
                f"version {{version}} is staged, not published: {hold.by} rolled back version {hold.from_version} on "
                f"{hold.at} ({hold.reason or 'no reason given'}); `ragline publish {{version}}` makes it live and lifts the hold"
            )
        before = self._live.manifest.counts["documents"] if self._live else 0
        share = plan.documents.vanished / before if before else 0.0
        if share > self._parts.max_removed_share and not self._options.allow_removed:
            return "refused", (
                f"version {{version}} is staged, not published: {plan.documents.vanished:,} of {before:,} documents "
                f"({share:.0%}) vanished, more than index.max_removed_share = {self._parts.max_removed_share:.0%}; if that "
                "is right, run `ragline index --allow-removed` or `ragline publish {version}`"
            )
        return "published", ""

    def _write_tables(self, prepared: Prepared) -> None:
        folder = prepared.folder
        with writing(ChunkRow, folder / "chunks.parquet") as table:
            for row, chunk in enumerate(prepared.spool()):
                first = int(prepared.first[row])
                table.add(
                    ChunkRow(
                        row,
                        f"{chunk.doc_id}@{chunk.start}-{chunk.end}",
                        chunk.doc_id,
                        chunk.ordinal,
                        chunk.start,
                        chunk.end,
                        HEADING_SEPARATOR.join(chunk.heading_path),
                        chunk.text,
                        int(prepared.tokens[row]),
                        prepared.keys[row].tobytes().hex(),
                        None if first == row else first,
                    )
                )
        with writing(ExcludedRow, folder / "excluded.parquet") as excluded:
            for item in prepared.excluded:
                excluded.add(
                    ExcludedRow(item.source, item.doc_id, item.start, item.end, item.stage, item.reason, item.detail)
                )

    def _counts(self, prepared: Prepared) -> dict[str, int]:
        return {
            "documents": prepared.documents,
            "chunks": prepared.chunks,
            "duplicates": prepared.chunks - len(prepared.originals),
            "excluded": len({row.source for row in prepared.excluded if row.stage == "read"}),
            "excluded_chunks": sum(row.stage != "read" for row in prepared.excluded),
        }

    def _build_record(self, lexical: Mapping[str, Json]) -> dict[str, Json]:
        """build.json: what is true of this run only."""
        parts, plan, changes = self._parts, self.plan(), self._changes
        usage = self.usage
        return {
            "format": 1,
            "run_id": self.run_id,
            "created": self._began.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "seconds": round(parts.clock.monotonic() - self._started, 3),
            "host": socket.gethostname(),
            "command": self._options.command,
            "previous_version": self._live.number if self._live else None,
            "libraries": _libraries(),
            "texts": plan.texts,
            "cached": plan.cached,
            "embedded": self.spent.texts,
            "requests": usage.requests,
            "tokens": usage.input_tokens,
            "usd": usage.usd,
            "saved_usd": self._saved_usd(),
            "lexical_build": dict(lexical),
            "added": list(changes.added),
            "changed": list(changes.changed),
            "removed": list(changes.removed),
        }

    def _saved_usd(self) -> float | None:
        return self._parts.terms.usd(self.plan().cached_tokens)

    def _remember(self) -> None:
        """Keep what the sources looked like, for the next run's first look; harmless if lost."""
        if self._snapshot and self._digest and self._reading and not self._reading.stale:
            self._memory.save(self._snapshot, self._fingerprint(), self._digest)

    def _nothing_to_do(self, live: OpenVersion) -> Plan:
        parts, counts = self._parts, live.manifest.counts
        texts = counts["chunks"] - counts["duplicates"]
        return Plan(
            index=parts.name,
            current_version=live.number,
            content_digest=live.manifest.content_digest,
            documents=DocumentChanges((), (), (), counts["documents"], counts["excluded"], 0),
            chunks=counts["chunks"],
            duplicates=counts["duplicates"],
            cached=texts,
            to_embed=0,
            tokens=0,
            tokens_exact=live.manifest.tokens_exact,
            requests=0,
            usd=parts.terms.usd(0),
            priced_on=parts.terms.priced_on,
            minutes=0.0,
            max_usd=parts.terms.max_usd,
            max_tokens=parts.terms.max_tokens,
            within_budget=True,
            cached_tokens=0,
            causes=(),
        )

    def _outcome(self, version: int | None, reason: Reason, message: str) -> Outcome:
        parts, plan = self._parts, self.plan()
        live = self._live.manifest.counts if self._live else {}
        counts = self._counts(self._prepared) if self._prepared else live
        self._ended = Outcome(
            run_id=self.run_id,
            plan=plan,
            version=version,
            previous_version=self._live.number if self._live else None,
            published=reason == "published",
            reason=reason,
            message=message + self._damage,
            embedded=self.spent.texts,
            saved_usd=parts.terms.usd(plan.cached_tokens),
            excluded_documents=counts["excluded"],
            excluded_chunks=counts["excluded_chunks"],
            seconds=parts.clock.monotonic() - self._started,
        )
        return self._ended

    def _incomplete(self, found: Found) -> RaglineError:
        row = int(np.flatnonzero(~found.hit)[0])
        what = f"{int((~found.hit).sum()):,} chunks have no vector, the first is row {row}"
        return RaglineError(what, [Problem(self._parts.name, what, "run the same command again")])


def reindex(run: Reindex) -> Outcome:
    """All stages, in this process: what the direct runner does."""
    run.lock()
    run.look()
    run.read()
    run.plan()
    run.embed()
    run.build()
    return run.publish()


def plan_only(run: Reindex) -> Plan:
    """The stages of `ragline plan`: nothing is sent, nothing is written to the store."""
    run.look()
    run.read()
    return run.plan()


def _enough_read(prepared: Prepared, parts: Parts) -> None:
    rows = [row for row in prepared.excluded if row.stage == "read"]
    reasons = Counter(row.reason for row in rows)
    told = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common(6)) or "nothing was found"
    if not prepared.documents or not prepared.chunks:
        what = f"the corpus has no document to index ({told})"
        where = ", ".join(map(str, parts.spec.paths))
        raise CorpusMissing(
            what, [Problem(where, what, "check [corpus] paths, include and exclude"), *_first(prepared)]
        )
    failed = [row for row in rows if row.reason not in HARMLESS]
    if closed := [row for row in rows if row.reason == "unreadable folder"]:
        # what lies in it is unknown, not gone: to publish without it would drop its documents unseen
        what = f"{len(closed):,} folders of the corpus cannot be entered; nobody knows how many documents they hold"
        problems = [
            Problem(row.source, row.detail, "give this user the right, or name it in corpus.exclude") for row in closed
        ]
        raise CorpusFailed(what, problems[:20])
    share = len(failed) / (prepared.documents + len(failed))
    if share > parts.max_failed_share:
        what = (
            f"{len(failed):,} of {prepared.documents + len(failed):,} sources ({share:.1%}) could not be read, more than "
            f"corpus.max_failed_share = {parts.max_failed_share:.1%} ({told})"
        )
        remedy = "mend or exclude them (below are the first ones), or raise corpus.max_failed_share"
        raise CorpusFailed(what, [Problem("corpus", what, remedy), *_first(prepared)])


def _first(prepared: Prepared, limit: int = 10) -> list[Problem]:
    rows = [row for row in prepared.excluded if row.reason not in HARMLESS][:limit]
    return [Problem(row.source, f"{row.reason}: {row.detail}", "mend it, or name it in corpus.exclude") for row in rows]


def _libraries() -> dict[str, Json]:
    from importlib.metadata import version

    return {name: version(name) for name in ("faiss-cpu", "numpy", "pyarrow", "bm25s")}
