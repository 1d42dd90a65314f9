"""Which reader reads which suffix. A new format is one file, one test and one line in READERS."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, Literal, TypeAlias

from rag.corpus import delimited, html, jsonl, markdown, office, parquet, plain
from rag.corpus.page import Page
from rag.corpus.records import Rows
from rag.corpus.spec import CorpusSpec

Packing = Literal["gz", "zst"]


@dataclass(frozen=True, slots=True)
class PageReader:
    """A format of files that are one document each."""

    name: str
    """Name and version, as in `markdown/1`: a new version where the same bytes give another text."""
    media_type: str
    read: Callable[[bytes, CorpusSpec], Page]
    package: str = ""
    """The package whose version also decides the text."""
    guarded: int | None = None
    """Bytes from which on the file is read in a process of its own, with limits of time and memory; None for never."""

    @property
    def identity(self) -> str:
        """Name and version of the reader, with its package's: `html/1+selectolax-1.0.2`, or `-missing`."""
        return f"{self.name}+{self.package}-{_version(self.package)}" if self.package else self.name


@dataclass(frozen=True, slots=True)
class RecordReader:
    """A format of files of many documents."""

    identity: str
    """Name and version, as above."""
    rows: Callable[[BinaryIO, CorpusSpec], Rows]
    seekable: bool = False
    """Whether the reader jumps about in the file, which a packed file does not allow."""


Reader: TypeAlias = PageReader | RecordReader


@functools.cache
def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


_MARKDOWN = PageReader("markdown/1", "text/markdown", markdown.read)
_PLAIN = PageReader("plain/1", "text/plain", plain.read)
_PYTHON = PageReader("python/1", "text/x-python", plain.read)
_HTML = PageReader("html/1", "text/markdown", html.read, package="selectolax", guarded=64 * 1024)
_JSONL = RecordReader("jsonl/1", jsonl.rows)

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
    "csv": RecordReader("csv/1", delimited.rows),
    "tsv": RecordReader("tsv/1", delimited.tab_separated),
    "parquet": RecordReader("parquet/2", parquet.rows, seekable=True),
    "html": _HTML,
    "htm": _HTML,
    "xhtml": _HTML,
    "pdf": PageReader("pdf/2", "text/plain", office.pdf, package="pypdf", guarded=0),
    "docx": PageReader("docx/2", "text/markdown", office.docx, package="python-docx", guarded=0),
}
"""Suffix in lower case -> its reader."""
PACKINGS: dict[str, Packing] = {"gz": "gz", "zst": "zst"}


def reader_of(name: str) -> tuple[Reader, Packing | None] | None:
    """The reader of a file name and how the file is packed; None for a format that is not known.

    >>> reader_of("notes.TXT")[0].identity
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
    if reader is None or not (dot and inner) or (isinstance(reader, RecordReader) and reader.seekable):
        return None
    return reader, packing


def stem_of(name: str) -> str:
    """The name without folder, packing and suffix: the title of a file that names none."""
    name = name.rpartition("/")[2]
    if name.rpartition(".")[2].lower() in PACKINGS:
        name = name.rpartition(".")[0]
    return name.rpartition(".")[0] or name
