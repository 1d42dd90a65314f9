"""The bytes of a file of a question set: unpacked, told apart by what stands in them, and read row by row."""

from __future__ import annotations

import hashlib
import io
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rag.corpus import delimited, jsonl, parquet
from rag.corpus.encoding import REMEDY, decode, marked_encoding, mostly_nul
from rag.corpus.page import Unreadable
from rag.corpus.readers import Packing
from rag.corpus.spec import CorpusSpec
from rag.corpus.unpack import BOMB_FREE, BOMB_RATIO, unpacked, unpacked_whole
from rag.errors import UsageError

Kind = Literal["json", "jsonl", "delimited", "parquet", "qrels", "run", "topics", "yaml"]
"""`json`: one value that fills the file. `qrels`, `run`, `topics`: the text files of TREC."""

_POINTER = b"version https://git-lfs.github.com/spec/"
_PACKINGS: tuple[tuple[bytes, Packing], ...] = ((b"\x1f\x8b", "gz"), (b"\x28\xb5\x2f\xfd", "zst"))
_GRADE = re.compile(r"[+-]?\d{1,9}")
_YAML = re.compile(r"^(?:- )?(?:tests|prompts|providers|vars|description):", re.MULTILINE)
_SPEC = CorpusSpec(())
_HEAD = 1 << 16
_LINES = 20


@dataclass(frozen=True, slots=True)
class Content:
    """One file as it was read."""

    path: Path
    kind: Kind
    sha256: str
    """Of the bytes as they are unpacked."""
    rows: tuple[tuple[int, Mapping[str, Any]], ...] = ()
    """Line, row or item, from 1, and what stands there."""
    broken: tuple[tuple[int, str], ...] = ()
    """Places that are no row, and why."""
    value: Any = None
    """The value of a `json` file."""
    text: str = ""
    """The text of a `delimited`, `topics` or `yaml` file."""

    @property
    def columns(self) -> frozenset[str]:
        """Every name that a row has."""
        return frozenset(name for _, row in self.rows for name in row)

    def where(self, place: int) -> str:
        """A row as messages name it."""
        word = {"parquet": " row ", "json": " item "}.get(self.kind, ":")
        return f"{self.path}{word}{place}"


def _unpacked(path: Path) -> bytes:
    mode = path.stat().st_mode
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):  # /dev/zero never ends
        raise Unreadable("broken", "a device, not a file")
    data = path.read_bytes()
    packing = _packing(data[:4])
    return unpacked_whole(data, packing, BOMB_FREE + BOMB_RATIO * len(data)) if packing else data


def file_bytes(path: Path) -> bytes:
    """A whole file, unpacked. Raises UsageError for what is no data: unreadable, a device, a pointer of Git LFS."""
    try:
        data = _unpacked(path)
    except (OSError, Unreadable, ValueError) as error:  # ValueError: a NUL in the path
        why = error.detail if isinstance(error, Unreadable) else getattr(error, "strerror", None) or str(error)
        raise UsageError.at(str(path), f"{path} cannot be read: {why}", "check the path") from error
    if data.startswith(_POINTER):
        what = f"{path} is a Git LFS pointer, not the file itself"
        raise UsageError.at(str(path), what, "run `git lfs pull` where it was cloned, or fetch the file itself")
    return data


def content(path: Path) -> Content:
    """Read a file, whatever its name says. Raises UsageError for what is no data: unreadable, a pointer, a picture."""
    data = file_bytes(path)
    sha256 = hashlib.sha256(data).hexdigest()
    if data.startswith(b"PAR1"):
        return _rows_of(path, "parquet", sha256, parquet.rows(io.BytesIO(data), _SPEC))
    if data.startswith(b"PK\x03\x04"):
        raise UsageError.at(str(path), f"{path} is an archive or a workbook", "unpack it, or save it as CSV")
    if mostly_nul(data) and marked_encoding(data) is None:
        raise UsageError.at(str(path), f"{path} holds no text", "name a question set, as docs/datasets.md lists them")
    if marked_encoding(data) in {"utf-16", "utf-32"}:
        data = decode(data).encode()
    start = data.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not start:
        raise UsageError.at(str(path), f"{path} is empty", "name a file of questions")
    if start[:1] in (b"{", b"["):
        return _json(path, sha256, data.removeprefix(b"\xef\xbb\xbf"))
    return _text(path, sha256, data)


def begins_as_qrels(path: Path) -> bool:
    """Whether the first lines are judgements of TREC; the rest is not looked at. False for what cannot be read."""
    try:
        with path.open("rb") as file:
            packing = _packing(file.read(4))
            file.seek(0)
            head = (unpacked(file, packing, BOMB_FREE) if packing else file).read(_HEAD)
    except (OSError, Unreadable):
        return False
    return _judge(_fields(head.decode("utf-8", "replace")))


def _fields(head: str) -> list[list[str]]:
    """The fields of the first lines that are no comments; the last line may be torn."""
    lines = head.split("\n")
    whole = lines[:-1] or lines
    return [line.split() for line in whole if line.strip() and not line.lstrip().startswith("#")][:_LINES]


def _judge(fields: list[list[str]]) -> bool:
    return bool(fields) and all(len(row) == 4 and _GRADE.fullmatch(row[3]) for row in fields)


def _packing(data: bytes) -> Packing | None:
    return next((packing for magic, packing in _PACKINGS if data.startswith(magic)), None)


def _rows_of(path: Path, kind: Kind, sha256: str, rows: Iterable[tuple[int, Any]], text: str = "") -> Content:
    good: list[tuple[int, Mapping[str, Any]]] = []
    broken: list[tuple[int, str]] = []
    try:
        for place, row in rows:
            if isinstance(row, Unreadable):
                broken.append((place, row.detail.replace(REMEDY, "convert the file to UTF-8")))
            else:
                good.append((place, row))
    except Unreadable as error:
        raise UsageError.at(str(path), f"{path}: {error.detail}", "write the file again") from error
    return Content(path, kind, sha256, tuple(good), tuple(broken), text=text)


def _json(path: Path, sha256: str, data: bytes) -> Content:
    """JSON lines where a line stands for itself, else one value; an array of objects has its items as rows."""
    lines = [line.strip() for line in data.split(b"\n") if line.strip()]
    alone = len(lines) == 1
    if not alone and all(line[:1] == b"{" and line[-1:] == b"}" for line in lines[:2]):
        return _rows_of(path, "jsonl", sha256, jsonl.rows(io.BytesIO(data), _SPEC))
    try:
        value = jsonl.parse_value(data)
    except Unreadable as error:
        # most lines begin an object, so one of them is broken, not the file
        if lines[0][:1] == b"{" and sum(line[:1] == b"{" for line in lines) * 2 > len(lines):
            return _rows_of(path, "jsonl", sha256, jsonl.rows(io.BytesIO(data), _SPEC))
        raise UsageError.at(
            str(path), f"{path}: {error.detail}", "write the file again as JSON or JSON lines"
        ) from error
    if isinstance(value, dict) and alone:
        return Content(path, "jsonl", sha256, ((1, value),), value=value)
    items = value if isinstance(value, list) else [value]
    rows = (
        (at, item if isinstance(item, dict) else Unreadable("json", "not an object"))
        for at, item in enumerate(items, 1)
    )
    if not any(isinstance(item, dict) for item in items):
        raise UsageError.at(str(path), f"{path} is JSON without one object in it", "write an object for each question")
    found = _rows_of(path, "json", sha256, rows)
    return Content(path, "json", sha256, found.rows, found.broken, value)


def _text(path: Path, sha256: str, data: bytes) -> Content:
    try:
        text = decode(data)
    except Unreadable:
        # a table tells which of its rows is not UTF-8
        text = data.decode("utf-8", "replace")
    fields = _fields(text[:_HEAD])
    if text.lstrip()[:5].lower() == "<top>":
        return Content(path, "topics", sha256, text=text)
    if _judge(fields):
        return Content(path, "qrels", sha256, text=text)
    if fields and all(len(row) >= 6 and row[1].upper() == "Q0" for row in fields):
        return Content(path, "run", sha256, text=text)
    if _YAML.match(text.lstrip()):
        return Content(path, "yaml", sha256, text=text)
    return _rows_of(path, "delimited", sha256, delimited.rows(io.BytesIO(data), _SPEC), text)
