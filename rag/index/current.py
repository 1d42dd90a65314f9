"""CURRENT: which version is live, whether a hold is on, and what was published after what.

Line 1: {"format", "version", "manifest_sha256", "last", "hold", "published"}; line 2: sha256 of line 1.
`published` holds [{version, at, after}] in the order of publishing, `after` the version that was live before; so what
`rollback` goes back to is swapped in the same instant as what it goes back from.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from rag.digest import canonical
from rag.errors import Damaged, Problem, refuse_newer
from rag.types import Json

CURRENT_FORMAT = 1
CURRENT_REMEDY = "run `ragline repair`: it puts CURRENT back from its copy; or `ragline publish V` to choose a version"


def damaged(path: Path, why: str, remedy: str) -> Damaged:
    """The error of a file that is not what its digest promises."""
    what = f"{path} is damaged: {why}"
    return Damaged(what, [Problem(str(path), what, remedy)])


@dataclass(frozen=True, slots=True)
class Hold:
    """Why nothing is published for now: `from` is the version that was rolled back."""

    by: str
    at: str
    reason: str
    from_version: int


@dataclass(frozen=True, slots=True)
class Published:
    """One publishing; `after` is the version that was live before it."""

    version: int
    at: str
    after: int | None


@dataclass(frozen=True, slots=True)
class Current:
    """What CURRENT says. `version` is None while nothing has been published."""

    version: int | None
    manifest_sha256: str | None
    last: int
    """The highest number ever given."""
    hold: Hold | None
    published: tuple[Published, ...] = ()

    def to_bytes(self) -> bytes:
        hold: dict[str, Json] | None = asdict(self.hold) if self.hold else None
        if hold:
            hold["from"] = hold.pop("from_version")
        line = canonical(
            {
                "format": CURRENT_FORMAT,
                "version": self.version,
                "manifest_sha256": self.manifest_sha256,
                "last": self.last,
                "hold": hold,
                "published": [asdict(entry) for entry in self.published],
            }
        )
        return line + b"\n" + hashlib.sha256(line).hexdigest().encode() + b"\n"

    @classmethod
    def parse(cls, data: bytes, path: Path) -> Current:
        """Raises Damaged, FormatTooNew."""
        line, _, rest = data.partition(b"\n")
        if rest != hashlib.sha256(line).hexdigest().encode() + b"\n":
            raise damaged(path, "its first line does not match the sha256 in its second", CURRENT_REMEDY)
        values = json.loads(line)
        refuse_newer(path, values["format"], CURRENT_FORMAT)
        hold = values["hold"]
        return cls(
            values["version"],
            values["manifest_sha256"],
            values["last"],
            Hold(hold["by"], hold["at"], hold["reason"], hold["from"]) if hold else None,
            tuple(Published(**entry) for entry in values["published"]),
        )
