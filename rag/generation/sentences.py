"""A passage cut into what can be quoted: sentences, list items, table rows, code lines, each an exact span.

One pass over the lines and one over the stops in each paragraph: linear in the text.
"""

# ruff: noqa: RUF001 - typographic quotes and full-width stops are what is looked for

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["sentence", "heading", "row", "code"]

_LINE = re.compile(r"[^\n]*\n?")
_FENCE = re.compile(r"\s{0,3}(`{3,}|~{3,})")
_HEADING = re.compile(r"\s{0,3}#{1,6}(?:\s|$)")
_ITEM = re.compile(r"\s*(?:[-*+•]|\d{1,4}[.)]|[a-z]\))\s+(?=\S)|\s*>\s?")
_RULE = re.compile(r"[-|:=*_+~ \t]{2,}")
_COMMENT = re.compile(r"\s*<!--.*-->\s*$")
# A stop, what closes with it, and the space behind it; in scripts without spaces the stop alone.
_STOP = re.compile(r"(?<![.!?…؟।])[.!?…؟।]++[\"'”’»)\]*_`]*+(?=\s)|[。！？]++[”’」』）]*+")
_BEFORE = re.compile(r"(?:^|[\s(\[\"'“‘*_])([^\s(\[\"'“‘*_]{1,12})$")
_SHORT = (
    "mr mrs ms dr prof st sr jr rev gen col lt sgt capt gov sen rep hon vs etc e.g i.e cf al no nos vol fig figs eq sec "
    "ch pp p ed eds approx ca c jan feb mar apr jun jul aug sep sept oct nov dec mt ft inc ltd co corp dept univ est "
    "min max tel ext resp incl excl z.b d.h bzw u.a nr str usw ggf art para u.s u.k a.m p.m b.c a.d ph.d"
)
_SHORT_AT_END = "etc a.m p.m b.c a.d ph.d inc ltd co corp al usw jr sr"
_SHORT_OF_NUMBERS = "no nos art p ch sec eq min max st ed"
_ABBREVIATIONS = frozenset(_SHORT.split())
_SENTENCE_ENDERS = frozenset(_SHORT_AT_END.split())
"""Abbreviations that may also end a sentence: a capital letter behind them decides."""
_NUMBERED = frozenset(_SHORT_OF_NUMBERS.split())
"""Abbreviations that are words too: they stand before a number."""
_STARTERS = re.compile(
    r"(?:The|A|An|In|On|At|It|He|She|They|We|This|These|That|Those|But|However|When|As|For|If|By|Then|There)\b"
)


@dataclass(frozen=True, slots=True)
class Unit:
    """`text[start:end]` is the unit, without surrounding space; `above` is the header row of a table, else empty."""

    start: int
    end: int
    kind: Kind
    above: str = ""


def units(text: str) -> list[Unit]:
    """The quotable parts of a passage in order; they do not overlap."""
    return list(_units(text))


def _units(text: str) -> Iterator[Unit]:
    fence = ""
    header = ""
    rows = 0
    paragraph: tuple[int, int] | None = None
    position = 0
    while position < len(text):
        line_match = _LINE.match(text, position)
        assert line_match is not None
        start, end = position, line_match.end()
        position = end
        line = line_match[0]
        bare = line.strip()
        opening = _FENCE.match(line)
        is_row = bare.startswith("|") and bare.count("|") > 1
        item = _ITEM.match(line)
        alone = (
            fence
            or opening
            or not bare
            or is_row
            or _HEADING.match(line)
            or _RULE.fullmatch(bare)
            or _COMMENT.match(line)
        )
        if not is_row:
            header, rows = "", 0
        if (alone or item) and paragraph:
            yield from _sentences(text, *paragraph)
            paragraph = None
        if fence:
            if opening and opening[1].startswith(fence) and bare == opening[1]:
                fence = ""
            elif bare:
                yield _trimmed(text, start, end, "code")
        elif opening:
            fence = opening[1]
        elif not bare or _RULE.fullmatch(bare) or _COMMENT.match(line):
            continue
        elif is_row:
            rows += 1
            if rows == 1 and _RULE.fullmatch(text[end : _line_end(text, end)].strip()):
                header = bare
                continue
            yield _trimmed(text, start, end, "row", header)
        elif _HEADING.match(line):
            yield _trimmed(text, start, end, "heading")
        elif item:
            paragraph = (start + item.end(), end)
        else:
            paragraph = (paragraph[0], end) if paragraph else (start, end)
    if paragraph:
        yield from _sentences(text, *paragraph)


def _line_end(text: str, start: int) -> int:
    end = text.find("\n", start)
    return len(text) if end < 0 else end


def _trimmed(text: str, start: int, end: int, kind: Kind, above: str = "") -> Unit:
    part = text[start:end]
    return Unit(start + len(part) - len(part.lstrip()), start + len(part.rstrip()), kind, above)


def _sentences(text: str, start: int, end: int) -> Iterator[Unit]:
    for stop in _STOP.finditer(text, start, end):
        if _ends_here(text, start, stop, end):
            if text[start : stop.end()].strip():
                yield _trimmed(text, start, stop.end(), "sentence")
            start = stop.end()
    if text[start:end].strip():
        yield _trimmed(text, start, end, "sentence")


def _ends_here(text: str, start: int, stop: re.Match[str], end: int) -> bool:
    """Whether a full stop ends the sentence: not behind an abbreviation or initial, nor before a small letter."""
    if stop[0][0] != ".":
        return True
    following = text[stop.end() : min(stop.end() + 40, end)].lstrip(" \t\n\r\"'“‘«([*_`")
    if following[:1].islower():
        return False
    before = _BEFORE.search(text[max(start, stop.start() - 14) : stop.start()])
    if before is None:
        return True
    word = before[1]
    if re.fullmatch(r"(?:[A-Z]\.)*[A-Z]", word):
        return len(word) > 1 and _STARTERS.match(following) is not None
    low = word.lower()
    if low in _SENTENCE_ENDERS:
        return following[:1].isupper()
    if low in _NUMBERED:
        return word.islower() and not following[:1].isdigit()
    return low not in _ABBREVIATIONS


_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()\s]*(?:\s+\"[^\"]*\")?\)")
_EMPHASIS = re.compile(r"(?<![\w*])(\*{1,3}|_{1,3})(?=\S)([^*_\n]*?\S)\1(?![\w*])|`+([^`\n]+)`+|~~([^~\n]+)~~")
_SPACE = re.compile(r"\s+")


def shown(text: str, unit: Unit) -> str:
    """A unit as a reader wants it: without the marks of Markdown, on one line, a row's cells under their headers."""
    part = text[unit.start : unit.end]
    if unit.kind == "code":
        return part
    if unit.kind == "heading":
        part = part.lstrip("# ").rstrip("# ")
    if unit.kind == "row":
        cells, names = _cells(part), _cells(unit.above)
        if len(names) == len(cells):
            cells = [f"{name}: {cell}" if name and cell else cell for name, cell in zip(names, cells, strict=True)]
        part = "; ".join(cell for cell in cells if cell)
    return plain(part)


def _cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip().strip("|").split("|")] if row else []


def plain(text: str) -> str:
    """Text without Markdown's marks of links, emphasis and code, on one line."""
    without = _LINK.sub(r"\1", text)
    without = _EMPHASIS.sub(lambda match: match[2] or match[3] or match[4], without)
    return _SPACE.sub(" ", without).strip()
