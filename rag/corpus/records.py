"""Files of many documents: which column is the text, and how a row becomes a document."""

from __future__ import annotations

import collections
import hashlib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from rag.corpus.page import Unreadable, one_line, whole
from rag.corpus.spec import CorpusSpec
from rag.corpus.values import plain
from rag.digest import canonical
from rag.types import Document, Excluded, Json

RECORD_LIMIT = 64 * 1024 * 1024
"""Bytes of one record."""
Rows = Iterator[tuple[int, Mapping[str, Any] | Unreadable]]
"""Place (line or row, from 1) and the row, or why there is none."""

_USUAL = {
    "id": ("id", "_id", "doc_id", "docid", "key"),
    "text": ("text", "body", "content", "contents", "passage", "context", "abstract"),
    "title": ("title", "name", "heading", "subject"),
}
_DEPTH = 64
_ANY_NUMBER = itertools.count()


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column of a row plays which part; None where there is none."""

    id: str | None
    text: str
    title: str | None


@dataclass(slots=True)
class RecordMaker:
    """Makes the rows of one file into documents."""

    doc_path: str
    """Path of the file relative to the listed folder: the front of ids made from content."""
    source: str
    reader: str
    spec: CorpusSpec
    _known: dict[tuple[str, ...], Columns] = field(default_factory=dict)

    def documents(self, rows: Rows) -> Iterator[Document | Excluded]:
        """One Document or one Excluded a row, in the order of the rows."""
        for place, row in rows:
            source = f"{self.source}:{place}"
            if isinstance(row, Unreadable):
                yield row.row(source)
                continue
            try:
                yield self._document(row, source)
            except Unreadable as verdict:
                yield verdict.row(source)
            except Exception as error:  # noqa: BLE001 - one bad record never ends the run
                yield Excluded(source, "read", "failed", f"{type(error).__name__}: {error}"[:500])

    def _document(self, row: Mapping[str, Any], source: str) -> Document:
        columns = self.columns(row)
        value = {whole(name): plain(item, _DEPTH, _ANY_NUMBER) for name, item in row.items()}
        sha256 = hashlib.sha256(canonical(value)).hexdigest()
        text = value[columns.text]
        if text is None or (isinstance(text, str) and not text.strip()):
            raise Unreadable("empty", f"nothing in column {columns.text!r}")
        if not isinstance(text, str):
            raise Unreadable("columns", f"column {columns.text!r} holds {type(text).__name__}, not text")
        title = value[columns.title] if columns.title else None
        title = one_line(str(title)) if isinstance(title, str | int | float) else ""
        taken = {columns.id, columns.text, columns.title}
        doc_id = self._doc_id(value.get(columns.id) if columns.id else None, sha256)
        return Document(
            doc_id=doc_id,
            text=text,
            title=title or doc_id,
            source=source,
            source_sha256=sha256,
            media_type="text/plain",
            reader=self.reader,
            metadata={name: item for name, item in value.items() if item is not None and name not in taken},
            context=(title,) if title else (),
        )

    def _doc_id(self, value: Json, sha256: str) -> str:
        if value is None or value == "":
            return f"{self.doc_path}#{sha256[:16]}"
        if isinstance(value, list | dict):
            raise Unreadable(
                "columns", f"the id is a {type(value).__name__}; name another column in [corpus] id_column"
            )
        return str(value)

    def columns(self, row: Mapping[str, Any]) -> Columns:
        """Which column of this row is what. Raises Unreadable where none is known to hold the text."""
        names = tuple(row)
        known = self._known.get(names)
        if known is None:
            known = self._tell(names)
            if len(self._known) < 1000:
                self._known[names] = known
        return known

    def _tell(self, names: tuple[str, ...]) -> Columns:
        spec = self.spec
        text = _column(names, spec.text_column, "text")
        if text is None:
            wanted = " or ".join(map(repr, spec.text_column)) or "that is known to hold the text"
            there = ", ".join(map(repr, names[:30])) or "none"
            raise Unreadable("columns", f"no column {wanted}; columns: {there[:500]}. Name it in [corpus] text_column")
        return Columns(_column(names, spec.id_column, "id"), text, _column(names, spec.title_column, "title"))


def refuse_equal_names(names: list[str]) -> None:
    """A row is read by its names, so that one of two equal ones would be lost. Raises Unreadable."""
    if len(set(names)) != len(names):
        twice = [name for name, count in collections.Counter(names).most_common(20) if count > 1]
        raise Unreadable("columns", f"columns with the same name: {', '.join(map(repr, twice))}")


def _column(names: tuple[str, ...], wanted: tuple[str, ...], part: str) -> str | None:
    if wanted:
        # "" is no column, though a table written with its row numbers has one of that name
        return next((name for name in wanted if name and name in names), None)
    usual = _USUAL[part]
    found = [name for name in names if name.casefold() in usual]
    return min(found, key=lambda name: usual.index(name.casefold()), default=None)
