r"""JSON lines: strict JSON, one object a line, lines end at \n and nowhere else."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from rag.corpus.encoding import decode, marked_encoding
from rag.corpus.page import Unreadable
from rag.corpus.records import RECORD_LIMIT, Rows
from rag.corpus.spec import CorpusSpec
from rag.corpus.unpack import joined

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def rows(file: BinaryIO, spec: CorpusSpec) -> Rows:
    """Each line that is not blank, with its number."""
    for number, line in enumerate(_lines(file), start=1):
        if isinstance(line, Unreadable):
            yield number, line
        elif line and not line.isspace():
            try:
                yield number, parse(line, spec.encoding)
            except Unreadable as verdict:
                yield number, verdict


def _lines(file: BinaryIO) -> Iterator[bytes | Unreadable]:
    head = file.read(4)
    codec = marked_encoding(head)
    if codec in {"utf-16", "utf-32"}:
        wide = io.TextIOWrapper(io.BufferedReader(joined(head, file)), encoding=codec, newline="\n")
        try:
            while text := wide.readline(RECORD_LIMIT):
                yield text.encode("utf-8")
        except UnicodeError as error:
            yield Unreadable("encoding", f"not {codec} from here on: {error}")
        return
    head = head.removeprefix(b"\xef\xbb\xbf")
    # The mark or a short line may end within the head: it is joined to what follows, line by line.
    *done, rest = head.split(b"\n")
    yield from done
    while line := file.readline(RECORD_LIMIT):
        full = rest + line
        rest = b""
        if len(line) == RECORD_LIMIT and not line.endswith(b"\n"):
            while (more := file.readline(RECORD_LIMIT)) and not more.endswith(b"\n"):
                pass
            yield Unreadable("too large", f"a line of more than {RECORD_LIMIT:,} bytes")
        else:
            yield full
    if rest:
        yield rest


def parse(line: bytes, encoding: str | None = None) -> dict[str, Any]:
    """One line as an object. Raises Unreadable where JSON is loose or not an object."""
    value = parse_value(line, encoding)
    if not isinstance(value, dict):
        raise Unreadable("json", f"{type(value).__name__}, not an object")
    return value


def parse_value(data: bytes, encoding: str | None = None) -> Any:
    """Any JSON value. Raises Unreadable where JSON is loose."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = decode(data, encoding)
    try:
        value = _DECODER.decode(text)
    except RecursionError as error:
        raise Unreadable("nesting", "nested too deeply") from error
    except ValueError as error:
        raise Unreadable("json", f"not JSON: {error}") from error
    if _SURROGATE.search(data):
        _refuse_surrogates(value)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"key {twice!r} stands twice in one object")
    return value


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(number: str) -> float:
    value = float(number)
    if math.isinf(value):
        raise ValueError(f"the number {number[:40]} is too large")
    return value


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_float=_finite, parse_constant=_constant)


def _refuse_surrogates(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise Unreadable("surrogates", "a lone surrogate in an escape: it has no UTF-8 form") from error
    except (RecursionError, ValueError) as error:
        raise Unreadable("json", f"not JSON: {error}") from error
