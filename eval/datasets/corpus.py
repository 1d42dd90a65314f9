"""The corpus that a set brings along, as records that the reader of JSON lines makes documents of."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from eval.datasets.files import content
from eval.datasets.registry import FORMATS, FileFormat
from eval.types import Dataset
from rag.corpus.page import Unreadable
from rag.corpus.readers import RecordReader, reader_of
from rag.corpus.records import RecordMaker
from rag.corpus.spec import CorpusSpec
from rag.corpus.unpack import BOMB_FREE, BOMB_RATIO, unpacked
from rag.digest import digest, file_sha256
from rag.errors import UsageError
from rag.storage import create


def corpus_records(dataset: Dataset) -> Iterator[dict[str, str]]:
    """Every document as `{"id", "title", "text"}`, in the order of the files; the ids are those that gold names.

    A document without text is among them, though no index takes it. Raises UsageError for a set that brings no corpus,
    and for a corpus that cannot be read.
    """
    made = FORMATS[dataset.format]
    inside = made.corpus if isinstance(made, FileFormat) else None
    for path in _files(dataset):
        yield from inside(content(path)) if inside else _records(path)


def write_corpus(dataset: Dataset, path: Path) -> int:
    """Write the records as JSON lines, and return how many. Raises UsageError as `corpus_records`, StorageFailed."""
    count = 0
    with create(path) as file:
        for row in corpus_records(dataset):
            file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
            count += 1
    return count


def corpus_sha256(dataset: Dataset) -> str:
    """What the corpus is known by, whichever questions and judgements go with it. Raises UsageError without one."""
    return digest([_file_sha256(path) for path in _files(dataset)])


def _files(dataset: Dataset) -> tuple[Path, ...]:
    if not dataset.corpus:
        what = f"{dataset.path} brings no corpus along"
        raise UsageError.at(str(dataset.path), what, "name the corpus in [corpus] paths")
    return dataset.corpus


def _file_sha256(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError as error:
        what = f"{path} cannot be read: {error.strerror or error}"
        raise UsageError.at(str(path), what, "check the corpus of the question set") from error


def _records(path: Path) -> Iterator[dict[str, str]]:
    spec = CorpusSpec((path,))
    # the columns are told apart as the index will tell them
    maker = RecordMaker(path.name, str(path), "", spec)
    for place, row in _rows(path, spec):
        try:
            yield _record(row, maker)
        except Unreadable as verdict:
            remedy = "write one object a line, with id, title and text"
            raise UsageError.at(f"{path}:{place}", f"{path}: {verdict.detail}", remedy) from verdict


def _record(row: Mapping[str, Any] | Unreadable, maker: RecordMaker) -> dict[str, str]:
    if isinstance(row, Unreadable):
        raise row
    columns = maker.columns(row)
    name = row.get(columns.id) if columns.id else None
    if name is None or isinstance(name, list | dict | float):
        raise Unreadable("columns", "a document of a corpus needs an id: a text or a whole number")
    title, text = row.get(columns.title) if columns.title else None, row[columns.text]
    return {
        "id": str(name),
        "title": title if isinstance(title, str) else "",
        "text": text if isinstance(text, str) else "",
    }


def _rows(path: Path, spec: CorpusSpec) -> Iterator[tuple[int, Mapping[str, Any] | Unreadable]]:
    """The rows of a corpus as a stream: it may be larger than memory."""
    known = reader_of(path.name)
    if known is None or not isinstance(known[0], RecordReader):
        what = f"{path} is no corpus that can be indexed"
        raise UsageError.at(str(path), what, "write it as JSON lines, CSV or Parquet, each with its own suffix")
    reader, packing = known
    assert isinstance(reader, RecordReader)
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            stream = unpacked(file, packing, BOMB_FREE + BOMB_RATIO * size) if packing else file
            yield from reader.rows(stream, spec)
    except (OSError, Unreadable) as error:
        why = error.detail if isinstance(error, Unreadable) else error.strerror or str(error)
        raise UsageError.at(
            str(path), f"{path} cannot be read: {why}", "check the corpus of the question set"
        ) from error
