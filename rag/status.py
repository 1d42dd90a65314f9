"""How an index stands: what is live and since when, what the last try did, who writes, what is under way, what was spent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rag import storage
from rag.clock import moment
from rag.embedding import ledger
from rag.embedding.jobs import Job, Jobs
from rag.errors import RaglineError
from rag.index.current import Current
from rag.index.versions import Version, Versions
from rag.pipeline import LAST
from rag.sealed import read_sealed
from rag.storage import Holder
from rag.types import Json


@dataclass(frozen=True, slots=True)
class SpentSoFar:
    """The sum of the ledger, with what is spent at this moment. `usd` is None where a line is unreadable, or its price was not known."""

    runs: int
    tokens: int
    usd: float | None
    unreadable: tuple[str, ...]
    """Where lines stand that are none, as `path:line`."""


@dataclass(frozen=True, slots=True)
class Status:
    """What `ragline status` shows."""

    index: str
    store: Path
    state: Current
    live: Version | None
    """None where nothing is live, and where the live version is gone."""
    published_at: str | None
    age_seconds: float | None
    """Since the live version was published, or a later run found nothing new: `confirmed`."""
    confirmed: bool
    last_try: Mapping[str, Any] | None
    holder: Holder | None
    spent: SpentSoFar
    batches: tuple[Job, ...]
    """Those of the store that are open."""
    broken_batches: tuple[str, ...]
    """Why some cannot be read."""

    @property
    def broken(self) -> bool:
        """Whether CURRENT names a version that is gone, or whose manifest cannot be read."""
        return self.state.version is not None and (self.live is None or self.live.documents is None)

    def older_than(self, limit: float) -> bool:
        """Whether it is longer ago than so many seconds, or unknown, that the live version was what the corpus gives."""
        return self.age_seconds is None or self.age_seconds > limit

    def as_json(self) -> dict[str, Json]:
        """The fields of `ragline status --json`."""
        live, last, hold = self.live, self.last_try, self.state.hold
        return {
            "index": self.index,
            "store": str(self.store),
            "version": self.state.version,
            "content_digest": live.content_digest if live else None,
            "published_at": self.published_at,
            "age_seconds": None if self.age_seconds is None else round(self.age_seconds),
            "documents": live.documents if live else None,
            "chunks": live.chunks if live else None,
            "hold": asdict(hold) if hold else None,
            "last_try": {key: last[key] for key in ("run_id", "at", "reason", "message", "version")} if last else None,
            "lock": asdict(self.holder) if self.holder else None,
            "spent": {**asdict(self.spent), "unreadable": list(self.spent.unreadable)},
            "batches": [job.shown() for job in self.batches],
            "broken_batches": list(self.broken_batches),
        }


def status(store: Path, name: str, now: datetime) -> Status:
    """How the index of this name stands. Raises Damaged, FormatTooNew, StorageFailed."""
    versions = Versions(store, name)
    state = versions.state()
    live = next((entry for entry in versions.listed() if entry.version == state.version), None)
    published = next((entry.at for entry in reversed(state.published) if entry.version == state.version), None)
    confirmed = published
    last: Mapping[str, Any] | None
    try:
        last = read_sealed(versions.root / LAST)
    except (RaglineError, OSError):
        last = None
    if last and published and last["reason"] == "unchanged" and last["version"] == state.version:
        confirmed = max(published, str(last["at"]), key=moment)
    age = (now - moment(confirmed)).total_seconds() if confirmed else None
    jobs, broken = Jobs(store).found()
    return Status(
        name,
        store,
        state,
        live,
        published,
        age,
        confirmed != published,
        last,
        storage.lock_holder(store),
        spent(store),
        tuple(job for job in jobs if job.in_flight),
        tuple(error.message for error in broken),
    )


def spent(store: Path) -> SpentSoFar:
    """The sum of the ledger. Raises FormatTooNew, StorageFailed."""
    lines = ledger.spent(store)
    entries = [line for line in lines if isinstance(line, ledger.Entry)]
    known = [entry.usd for entry in entries if entry.usd is not None]
    return SpentSoFar(
        len(entries),
        sum(entry.tokens for entry in entries),
        sum(known) if len(known) == len(lines) else None,
        tuple(str(line) for line in lines if isinstance(line, ledger.Unreadable)),
    )
