"""CSV and TSV: RFC 4180 with a header line, read row by row; each row is decoded on its own."""

from __future__ import annotations

import csv
import functools
import io
from collections.abc import Iterator
from typing import BinaryIO

from rag.corpus.encoding import REMEDY, marked_encoding, mostly_nul
from rag.corpus.page import Unreadable
from rag.corpus.records import RECORD_LIMIT, Rows, refuse_equal_names
from rag.corpus.spec import CorpusSpec
from rag.corpus.unpack import joined
from rag.counted import counted

_HEAD = 64 * 1024


def rows(file: BinaryIO, spec: CorpusSpec, delimiter: str | None = None) -> Rows:
    """Each row, with the number of its last line. Without a delimiter, the header line shows it.

    A row of the wrong length is a row without a document; an open quote takes the rest of the file with it.
    """
    head = file.read(_HEAD)
    codec = marked_encoding(head)
    if codec is None and mostly_nul(head):
        codec = spec.encoding
    # Bytes that are not UTF-8 travel as lone surrogates until their own row is looked at.
    lines = io.TextIOWrapper(
        io.BufferedReader(joined(head, file), 1 << 18), codec or "utf-8", errors="surrogateescape", newline=""
    )
    first = _line(lines)
    if delimiter is None:
        # A single column needs a delimiter that its text does not hold.
        delimiter = max(",;\t|\x1f", key=lambda mark: (first.count(mark), mark == "\x1f"))
    csv.field_size_limit(RECORD_LIMIT)
    table = csv.reader(_from(first, lines), delimiter=delimiter, strict=True)
    names: list[str] | None = None
    while True:
        try:
            cells = next(table, None)
        except (csv.Error, UnicodeError) as error:
            yield table.line_num, Unreadable("broken", f"no table from here on: {error}")
            return
        if cells is None:
            return
        if not cells:
            continue
        try:
            cells = _decoded(cells, spec.encoding)
            if names is None:
                names = _names(cells)
                continue
            if len(cells) != len(names):
                wrong = Unreadable("columns", f"{counted(len(cells), 'cell')} where the header has {len(names)}")
                yield table.line_num, wrong
            else:
                yield table.line_num, dict(zip(names, cells, strict=True))
        except Unreadable as verdict:
            yield table.line_num, verdict
            if names is None:
                return


tab_separated = functools.partial(rows, delimiter="\t")


def _from(first: str, lines: io.TextIOWrapper) -> Iterator[str]:
    yield first
    while line := _line(lines):
        yield line


def _line(lines: io.TextIOWrapper) -> str:
    line = lines.readline(RECORD_LIMIT)
    if len(line) == RECORD_LIMIT:
        raise Unreadable("too large", f"a line of more than {RECORD_LIMIT:,} characters")
    return line


def _decoded(cells: list[str], encoding: str | None) -> list[str]:
    if all(cell.isascii() for cell in cells):
        return cells
    try:
        for cell in cells:
            cell.encode("utf-8")
    except UnicodeEncodeError as error:
        if encoding is None:
            raise Unreadable("encoding", f"a cell is not UTF-8; {REMEDY}") from error
        try:
            return [cell.encode("utf-8", "surrogateescape").decode(encoding) for cell in cells]
        except UnicodeError as second:
            raise Unreadable("encoding", f"a cell is not {encoding}; {REMEDY}") from second
    return cells


def _names(cells: list[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    refuse_equal_names(names)
    return names
