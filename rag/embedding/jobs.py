"""What is kept of a batch while it is open: store/batches/<digest>.json, sealed, beside the file that is sent, .jsonl.

A job is noted before its texts leave, and after each step that was done: `written`, `uploaded`, `submitted`, `ended`,
`merged`, `cleaned`. What was begun at the provider and not noted here is found by the job's name, which both its file and
its batch carry there. A job that has nothing left to say is removed.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal, get_args

from rag import clock, storage
from rag.digest import file_sha256, identity_json
from rag.errors import Damaged
from rag.ports import Unanswered
from rag.sealed import damaged, read_sealed, write_sealed
from rag.types import EmbeddingIdentity, Json

FORMAT: Final = 1
State = Literal["written", "uploaded", "submitted", "ended", "merged", "cleaned"]
_REMEDY: Final = "put it back from a copy, or give it up: `ragline index --batch --ignore-batches` sends its texts again, and pays again"


@dataclass(frozen=True, slots=True)
class Line:
    """One request of the file: the keys (hex) and tokens of its texts, in order."""

    custom_id: str
    keys: tuple[str, ...]
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Left:
    """Texts that a batch has brought no vectors for."""

    keys: tuple[str, ...]
    reason: Unanswered
    message: str
    alone: bool = False
    """The next line that asks for one of them asks for no other: then it shows which one is refused."""


@dataclass(frozen=True, slots=True)
class Job:
    """One batch, from the file on this disk to the vectors in the cache."""

    digest: str
    """32 hex: its name here and at the provider. No two jobs have the same, even of the same texts."""
    index: str
    """The index that it was begun for; the vectors are for all."""
    embedding: EmbeddingIdentity
    made: str
    round: int
    """From 1; above it where earlier batches have left these texts."""
    usd: float | None
    """What it will cost as planned; None where no price is known."""
    sha256: str
    """Of the .jsonl."""
    lines: tuple[Line, ...]
    state: State = "written"
    file_id: str | None = None
    batch_id: str | None = None
    status: str | None = None
    """The provider's last word."""
    done: int | None = None
    """Lines, as the provider counts."""
    expires: str | None = None
    """When the provider ends it at the latest."""
    queue_tokens: int | None = None
    """It waits for room: so many tokens may wait at the provider at once."""
    files: tuple[str, ...] = ()
    """What the provider wrote, by id."""
    tokens_billed: int | None = None
    left: tuple[Left, ...] = ()

    @property
    def texts(self) -> int:
        return sum(len(line.keys) for line in self.lines)

    @property
    def tokens(self) -> int:
        """As planned."""
        return sum(sum(line.tokens) for line in self.lines)

    @property
    def name(self) -> str:
        """What the provider knows it by."""
        return f"ragline-{self.digest}.jsonl"

    @property
    def since(self) -> datetime:
        return clock.moment(self.made)

    @property
    def in_flight(self) -> bool:
        """Whether its texts are to be had by the batch, and their vectors still to come."""
        return self.state in ("written", "uploaded", "submitted", "ended")

    @property
    def may_be_paid(self) -> bool:
        """Whether it may be under way at the provider: what is written only never was."""
        return self.in_flight and self.state != "written"

    def text_keys(self) -> Iterator[bytes]:
        """Of all its texts."""
        return (bytes.fromhex(key) for line in self.lines for key in line.keys)

    def shown(self) -> dict[str, Json]:
        """For people and `--json`."""
        return {
            "batch_id": self.batch_id,
            "digest": self.digest,
            "index": self.index,
            "model": self.embedding.name,
            "state": self.state,
            "status": self.status,
            "round": self.round,
            "texts": self.texts,
            "tokens": self.tokens,
            "usd": self.usd,
            "lines": len(self.lines),
            "lines_done": self.done,
            "made": self.made,
            "expires": self.expires,
        }

    def to_json(self) -> dict[str, Json]:
        """As it is kept."""
        values: dict[str, Any] = asdict(self)
        return {
            **values,
            "format": FORMAT,
            "embedding": identity_json(self.embedding),
            "lines": [[line.custom_id, list(line.keys), list(line.tokens)] for line in self.lines],
            "files": list(self.files),
            "left": [{**asdict(left), "keys": list(left.keys)} for left in self.left],
        }

    @classmethod
    def of(cls, values: Mapping[str, Any], path: Path) -> Job:
        """What `to_json` gave. Raises Damaged."""
        try:
            given = dict(values)
            del given["format"]
            given["embedding"] = EmbeddingIdentity(**given["embedding"])
            given["lines"] = tuple(Line(name, tuple(keys), tuple(tokens)) for name, keys, tokens in given["lines"])
            given["files"] = tuple(given["files"])
            given["left"] = tuple(Left(**{**left, "keys": tuple(left["keys"])}) for left in given["left"])
            job = cls(**given)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise damaged(path, f"it lacks or misuses {error}", _REMEDY) from error
        if job.state not in get_args(State) or (job.state == "submitted" and not job.batch_id):
            raise damaged(path, f"it cannot be {job.state!r} as it is", _REMEDY)
        return job


def new_job(index: str, embedding: EmbeddingIdentity, at: datetime, number: int, lines: Sequence[Line]) -> Job:
    """A job that nobody has heard of: its name is chance, so that no other batch can be taken for its own."""
    return Job(uuid.uuid4().hex, index, embedding, clock.text(at), number, None, "", tuple(lines))


def line_id(keys: Iterable[bytes]) -> str:
    """The custom_id of a line: it follows from its texts alone."""
    return hashlib.sha256(b"".join(keys)).hexdigest()[:32]


class Jobs:
    """The jobs of a store. Who writes holds the store's lock."""

    def __init__(self, store: Path) -> None:
        self.folder = store / "batches"

    def texts_path(self, job: Job) -> Path:
        """The file that is sent."""
        return self.folder / f"{job.digest}.jsonl"

    def found(self) -> tuple[list[Job], list[Damaged]]:
        """All of them, the oldest first, and what cannot be read. Raises FormatTooNew, StorageFailed."""
        jobs: list[Job] = []
        broken: list[Damaged] = []
        for path in sorted(self.folder.glob("*.json")):
            try:
                jobs.append(Job.of(read_sealed(path, FORMAT, _REMEDY), path))
            except Damaged as error:
                broken.append(error)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise storage.unreadable(path, error) from error
        return sorted(jobs, key=lambda job: (job.made, job.digest)), broken

    def all(self) -> list[Job]:
        """All of them, the oldest first. Raises Damaged, FormatTooNew, StorageFailed."""
        jobs, broken = self.found()
        if broken:
            raise broken[0]
        return jobs

    def broken(self) -> list[Damaged]:
        """Everything here that is not what it was. Raises as `found`."""
        jobs, broken = self.found()
        for job in jobs:
            if job.in_flight:
                try:
                    self.check_texts(job)
                except Damaged as error:
                    if (self.folder / f"{job.digest}.json").exists():  # else its job is done, and both files go
                        broken.append(error)
        return broken

    def save(self, job: Job) -> Job:
        """Note a job as it is now, durable when this returns. Raises StorageFailed."""
        write_sealed(self.folder / f"{job.digest}.json", job.to_json())
        return job

    def check_texts(self, job: Job) -> None:
        """Raises Damaged where the file that was sent is not what it was."""
        path = self.texts_path(job)
        try:
            same = file_sha256(path) == job.sha256
        except FileNotFoundError:
            raise damaged(path, "it is gone", _REMEDY) from None
        if not same:
            raise damaged(path, "its sha256 is not the one that its job names", _REMEDY)

    def forget(self, job: Job) -> None:
        """Remove a job and its file. Raises StorageFailed."""
        self.forget_file(self.folder / f"{job.digest}.json")

    def forget_file(self, path: Path) -> None:
        """Remove a job by its file, damaged or not. Raises StorageFailed."""
        storage.remove_file(path)
        storage.faultpoint("batch.forgotten")
        storage.remove_file(path.with_suffix(".jsonl"))

    def sweep(self) -> None:
        """Remove files whose job was never noted, or is gone, and what a kill has left half written."""
        for path in [*self.folder.glob("*.jsonl"), *self.folder.glob(".*.tmp")]:
            if path.suffix == ".tmp" or not path.with_suffix(".json").exists():
                storage.remove_file(path)


def moved(job: Job, state: State, **changes: Any) -> Job:
    """The job one step on."""
    return replace(job, state=state, **changes)


def in_flight(jobs: Iterable[Job]) -> dict[bytes, Job]:
    """Key -> the job that may bring its vector, of all texts that are, or are to be, paid for by the batch."""
    return {key: job for job in jobs if job.in_flight for key in job.text_keys()}
