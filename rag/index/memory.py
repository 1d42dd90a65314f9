"""What the sources looked like when the live version was made: lets an unchanged corpus be told by its stat alone.

It is only a memory: losing it, or finding it damaged or of another format, costs one reading of the corpus.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from rag import storage
from rag.corpus.snapshot import Snapshot
from rag.digest import canonical
from rag.errors import RaglineError
from rag.types import Json

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Remembered:
    """A snapshot of the sources, the fingerprint of all that decides a version, and the content it led to."""

    snapshot: Snapshot
    fingerprint: str
    content_digest: str


class Memory:
    """The file `sources.memory` of an index."""

    def __init__(self, store: Path, name: str) -> None:
        self._path = store / "indexes" / name / "sources.memory"

    def load(self) -> Remembered | None:
        try:
            head, _, body = self._path.read_bytes().partition(b"\n")
            values = json.loads(head)
            if values["format"] != FORMAT or values["sha256"] != hashlib.sha256(body).hexdigest():
                return None
            snapshot = Snapshot.from_bytes(body)
            return Remembered(snapshot, values["fingerprint"], values["content_digest"]) if snapshot else None
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def save(self, snapshot: Snapshot, fingerprint: str, content_digest: str) -> None:
        """Remember; a store that cannot be written just forgets."""
        body = snapshot.to_bytes()
        head: dict[str, Json] = {
            "format": FORMAT,
            "sha256": hashlib.sha256(body).hexdigest(),
            "fingerprint": fingerprint,
            "content_digest": content_digest,
        }
        with contextlib.suppress(RaglineError, OSError):
            storage.write(self._path, canonical(head) + b"\n" + body)
