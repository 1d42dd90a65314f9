"""Which reader reads which suffix. A new format is one file, one test and one line in READERS."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, Literal

from rag.corpus import delimited, html, jsonl, markdown, office, parquet, plain
from rag.corpus.page import Page
from rag.corpus.records import Rows
from rag.corpus.spec import CorpusSpec

Packing = Literal["gz", "zst"]


@dataclass(frozen=True, slots=True)
class Reader:
    """One format. Exactly one of `page` and `rows` is there: a file is one document or many."""

    name: str
    """Name and version, as in `markdown/1`: a new version where the same bytes give another text."""
    media_type: str = "text/plain"
    page: Callable[[bytes, CorpusSpec], Page] | None = None
    rows: Callable[[BinaryIO, CorpusSpec], Rows] | None = None
    package: str = ""
    """The package whose version also decides the text."""
    guarded: int | None = None
    """Bytes from which on the file is read in a process of its own, with limits of time and memory; None for never."""
    seekable: bool = False
    """Whether the reader jumps about in the file, which a packed file does not allow."""

    @property
    def identity(self) -> str:
        """Name and version of the reader, with its package's: `html/1+selectolax-1.0.2`, or `-missing`."""
        return f"{self.name}+{self.package}-{_version(self.package)}" if self.package else self.name


@functools.cache
def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


_MARKDOWN = Reader("markdown/1", "text/markdown", markdown.read)
_PLAIN = Reader("plain/1", "text/plain", plain.read)
_PYTHON = Reader("python/1", "text/x-python", plain.read)
_HTML = Reader("html/1", "text/markdown", html.read, package="selectolax", guarded=64 * 1024)
_JSONL = Reader("jsonl/1", rows=jsonl.rows)

READERS: dict[str, Reader] = {
    "md": _MARKDOWN,
    "markdown": _MARKDOWN,
    "txt": _PLAIN,
    "text": _PLAIN,
    "log": _PLAIN,
    "rst": _PLAIN,
    "py": _PYTHON,
    "jsonl": _JSONL,
    "ndjson": _JSONL,
    "csv": Reader("csv/1", rows=delimited.rows),
    "tsv": Reader("tsv/1", rows=delimited.tab_separated),
    "parquet": Reader("parquet/2", rows=parquet.rows, seekable=True),
    "html": _HTML,
    "htm": _HTML,
    "xhtml": _HTML,
    "pdf": Reader("pdf/2", "text/plain", office.pdf, package="pypdf", guarded=0),
    "docx": Reader("docx/2", "text/markdown", office.docx, package="python-docx", guarded=0),
}
"""Suffix in lower case -> its reader."""
PACKINGS: dict[str, Packing] = {"gz": "gz", "zst": "zst"}


def reader_of(name: str) -> tuple[Reader, Packing | None] | None:
    """The reader of a file name and how the file is packed; None for a format that is not known.

    >>> reader_of("notes.TXT")[0].name
    'plain/1'
    >>> reader_of("dump.jsonl.gz")[1]
    'gz'
    >>> reader_of("film.mp4") is None
    True
    """
    stem, dot, suffix = name.rpartition(".")
    reader = READERS.get(suffix) or READERS.get(suffix.lower())
    if reader is not None:
        return (reader, None) if dot and stem else None
    packing = PACKINGS.get(suffix.lower())
    if packing is None:
        return None
    inner, dot, suffix = stem.rpartition(".")
    reader = READERS.get(suffix.lower())
    return (reader, packing) if reader is not None and dot and inner and not reader.seekable else None


def stem_of(name: str) -> str:
    """The name without folder, packing and suffix: the title of a file that names none."""
    name = name.rpartition("/")[2]
    if name.rpartition(".")[2].lower() in PACKINGS:
        name = name.rpartition(".")[0]
    return name.rpartition(".")[0] or name
