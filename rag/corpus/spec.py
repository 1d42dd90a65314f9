"""What a corpus is: the paths, what of them counts, and how its files are to be read."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from pathlib import Path

from rag.errors import SettingsError
from rag.types import Json

EVERYTHING = ("**/*",)


@dataclass(frozen=True, slots=True)
class CorpusSpec:
    """The `[corpus]` section as the reader wants it. Raises SettingsError for an encoding that does not exist.

    A pattern of `include` and `exclude` is matched against the path relative to the listed folder; `*` stays within one
    folder, `**` spans any number of them, and a pattern without `/` matches the name at any depth. `exclude` may also
    name a folder: nothing below it is looked at.
    """

    paths: tuple[Path, ...]
    """Folders, files and glob patterns, in any mixture. A file that is reached twice counts once, the first time."""
    include: tuple[str, ...] = EVERYTHING
    exclude: tuple[str, ...] = ()
    encoding: str | None = None
    """Tried where a file has no byte order mark and is not UTF-8."""
    id_column: tuple[str, ...] = ()
    """Names of columns, of which a row takes the first that it has; () for the usual names, ("",) for no column."""
    text_column: tuple[str, ...] = ()
    title_column: tuple[str, ...] = ()
    store: Path | None = None
    """Where this program writes: below a listed folder it is one excluded row, never read as documents."""

    def __post_init__(self) -> None:
        if self.encoding is None:
            return
        try:
            known = codecs.lookup(self.encoding)._is_text_encoding  # noqa: SLF001 - the only way to tell text codecs
        except (LookupError, ValueError):
            known = False
        if not known:
            what = f"unknown encoding {self.encoding!r}"
            remedy = "take a name that Python knows, such as latin-1, cp1252 or shift_jis"
            raise SettingsError.at("corpus.encoding", what, remedy)

    def identity(self) -> dict[str, Json]:
        """What decides how a file is read. What is listed shows in the snapshot and is not repeated here."""
        return {
            "encoding": self.encoding,
            "id_column": list(self.id_column),
            "text_column": list(self.text_column),
            "title_column": list(self.title_column),
        }
