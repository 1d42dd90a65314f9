"""Where a text may be cut: sections between headings, fences, and inside a section the places of each level.

All patterns are linear, and those that look at a whole document begin with a line end, which the engine finds fast.
"""

from __future__ import annotations

import bisect
import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

Span = tuple[int, int]
Cuts = tuple[list[int], list[int]]
"""Places in rising order, and the class of each: a higher one is always the better place."""

Level = Callable[[str, int, int, "Layout"], Cuts]

_MAX_TITLE = 500


class Section(NamedTuple):
    """A leaf section: the text between two headings, its own heading line included."""

    start: int
    end: int
    path: tuple[str, ...]
    places: tuple[int, ...]
    """Where the heading line of each element of the path begins; -1 for the document's context."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What a document is made of: its leaf sections and the fences in them, both in order."""

    sections: list[Section]
    fences: list[Span]
    levels: Sequence[Level] | None = None
    """Where such a text is cut, when not as the strategy says."""

    def block_over(self, place: int) -> Span | None:
        """The fence that a place lies inside of, its first character excepted."""
        at = bisect.bisect_left(self.fences, (place, -1)) - 1
        return self.fences[at] if at >= 0 and place < self.fences[at][1] else None

    def inside(self, place: int, start: int) -> bool:
        """Whether a place lies inside a fence that begins behind `start`."""
        fence = self.block_over(place)
        return fence is not None and fence[0] > start


_EVENT = re.compile(
    r"\n(?P<lead>[ \t]*+)(?=[#`~=<-])(?:(?P<atx>#{1,6})(?:[ \t]+(?P<title>[^\n]*))?(?=\r?(?:\n|\Z))"
    r"|(?P<fence>`{3,}|~{3,})(?P<info>[^\n]*)"
    r"|(?P<under>=+|-+)[ \t]*(?=\r?(?:\n|\Z))"
    r"|<(?:(?P<comment>!--)|(?P<raw>[Pp][Rr][Ee]|[Ss][Cc][Rr][Ii][Pp][Tt]|[Ss][Tt][Yy][Ll][Ee]|[Tt][Ee][Xx][Tt][Aa][Rr][Ee][Aa])\b))"
)
_RAW_END = re.compile(r"</(?:pre|script|style|textarea)>", re.IGNORECASE)
_COMMENT_END = re.compile("-->")
_CONTAINER = re.compile(r"[ \t]*(?:>|[-+*][ \t]|\d{1,9}[.)][ \t])")
_CLOSING = re.compile(r"(?:^|[ \t]+)#+[ \t]*$")
_NOT_PARAGRAPH = re.compile(
    r"[ \t]*(?:\r?$|#{1,6}[ \t]|>|[-+*][ \t]|\d{1,9}[.)][ \t]|\||```|~~~|<|=+[ \t\r]*$|-+[ \t\r]*$)"
)


def title_of(line: str) -> str:
    """A heading's text without closing marks and attribute lists."""
    title = line.strip()[:_MAX_TITLE]
    if title.endswith("#"):
        title = _CLOSING.sub("", title)
    if title.endswith("}"):
        name, brace, attributes = title.rpartition("{")
        if brace and attributes.lstrip()[0] in "#.:":
            title = name
    return title.strip()


def markdown(text: str, start: int, context: tuple[str, ...]) -> Layout:
    """Leaf sections and fences per CommonMark: headings count outside fences, comments and raw HTML.

    A heading with nothing beneath it joins the section that follows.
    """
    source = "\n" + text[start:]  # so that every line begins behind a line end
    shift = start - 1
    fences: list[Span] = []
    headings: list[tuple[int, int, int, str]] = []  # start, end of its line, level, title
    at = floor = 0
    tries = 50
    while event := _EVENT.search(source, at):
        lead, hashes, title, marks, info, under, comment, _ = event.groups()
        line = event.start() + 1
        at = event.end()
        if marks:
            if (marks[0] == "`" and "`" in info) or (len(lead) > 3 and not tries):
                continue
            ended = _closing(marks[0], min(len(marks), 1000), lead if len(lead) > 3 else "").search(source, at)
            if ended is None and len(lead) > 3:
                tries -= 1  # each of these looked through the whole rest
                continue
            at = floor = ended.end() if ended else len(source)
            fences.append((line + len(lead) + shift, at + shift))
        elif len(lead) > 3 or "\t" in lead:
            continue
        elif hashes:
            headings.append((line + len(lead) + shift, at + shift, len(hashes), title_of(title or "")))
            floor = at
        elif under:
            top = _paragraph_start(source, event.start(), floor)
            if top is not None:
                title = source[top : event.start()]
                top += len(title) - len(title.lstrip())
                headings.append(
                    (top + shift, at + shift, 1 if under[0] == "=" else 2, title_of(" ".join(title.split())))
                )
                floor = at
        else:
            ended = (_COMMENT_END if comment else _RAW_END).search(source, at)
            at = floor = ended.end() if ended else len(source)
    return Layout(_sections(text, start, context, headings), fences)


def plain(text: str, start: int, context: tuple[str, ...]) -> Layout:
    """One section: a text without headings."""
    return Layout([Section(start, len(text), context, (-1,) * len(context))], [])


@functools.lru_cache(maxsize=64)
def _closing(mark: str, least: int, lead: str) -> re.Pattern[str]:
    """What closes a fence; one indented by more than three must be closed at the same indent."""
    return re.compile(rf"\n{re.escape(lead) or ' {0,3}'}{re.escape(mark)}{{{least},}}[ \t]*(?=\r?(?:\n|\Z))")


def _paragraph_start(source: str, end: int, floor: int) -> int | None:
    """The first line of the paragraph that ends before a line of = or -, or None when there is none."""
    top = None
    while end > floor:
        begin = source.rfind("\n", floor, end) + 1
        line = source[begin : min(end, begin + 80)]
        if (begin == 0 and floor > 0) or _NOT_PARAGRAPH.match(line):
            if _CONTAINER.match(line):
                return None
            break
        top = begin
        end = begin - 1
    return top if top is not None and not source.startswith(("    ", "\t"), top) else None


def _sections(
    text: str, start: int, context: tuple[str, ...], headings: list[tuple[int, int, int, str]]
) -> list[Section]:
    sections: list[Section] = []
    outer = (context, (-1,) * len(context))
    path, places = outer
    stack: list[tuple[int, tuple[str, ...], tuple[int, ...]]] = [(0, *outer)]
    begin = body = start
    for place, end, level, title in headings:
        if place > body and not text[body:place].isspace():
            sections.append(Section(begin, place, path, places))
            begin = place
        while stack[-1][0] >= level:
            stack.pop()
        _, path, places = stack[-1]
        if title:
            path, places = (*path, title), (*places, place)
        stack.append((level, path, places))
        body = end
    return [*sections, Section(begin, len(text), path, places)]


_BLOCK = re.compile(
    r"\n(?:[ \t\r]*\n\s*|(?=[^\s|])(?:(?=```|~~~)|(?<=[^\n]{100}\n)"
    r"|(?<=[`~\u2e80-\uffdc]\n)(?:(?<=```\n)|(?<=~~~\n)|(?<=[^\n]{50}\n))))"
)
"""Behind an empty line, at a fence or behind one, and behind a line too long to be wrapped: 100 columns."""
_HEADING = re.compile(r" {0,3}(?:#{1,6}(?:[ \t]|$)|(?:=+|-+)[ \t\r]*$)")
_LISTED = re.compile(r"\n(?=[-*+][ \t]|\d{1,9}[.)][ \t])")
LINE = re.compile(r"\n\s*")
SENTENCE = re.compile(
    r"[.!?\u2026\n\u3002\uff01\uff1f\uff0e](?:(?<=[.!?\u2026])[\"'\u201d\u2019)\]*_`]*\s+(?=[^\sa-z])"
    r"|(?<=\n)[ \t\r]*\n\s*|(?<=[\u3002\uff01\uff1f\uff0e])[\"'\u201d\u2019\u300d\u300f\uff09)]*\s*)"
)
_WORD = re.compile(r"\s+|[\u3001\uff0c\uff1b\uff1a]\s*")
_ABBREVIATION = re.compile(
    r"(?:\b(?:e\.g|i\.e|cf|vs|etc|ca|al|approx|resp|dr|mr|mrs|ms|prof|st|no|nr|vol|pp?|fig|figs|eq|eqs|sec|ch|inc|ltd|co"
    r"|corp|jr|sr|dept|est|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec|z\.b|d\.h|bzw|usw)|(?:^|[\s(])[A-Za-z]"
    r"|(?:^|\n)[ \t]*\d{1,9})\.$",
    re.IGNORECASE,
)


def blocks(text: str, start: int, end: int, layout: Layout) -> Cuts:
    """Starts of blocks, none inside a fence and none right behind a heading line.

    A block begins behind an empty line, at and behind a fence, and behind a line so long that it is a paragraph of its
    own. Unindented blocks rank before list items and what follows a colon, indented ones last.
    """
    places: list[int] = []
    ranks: list[int] = []
    fences = layout.fences
    at = bisect.bisect_left(fences, (start, -1))
    at -= at > 0 and fences[at - 1][1] > start
    opened = fences[at][0] if at < len(fences) else end
    leading = True
    for match in _BLOCK.finditer(text, start, end):
        gap, place = match.span()
        if place >= end:
            break
        if place > opened:
            while at < len(fences) and fences[at][1] <= gap:
                at += 1
            opened = fences[at][0] if at < len(fences) else end
            if place > opened:
                continue
        if leading:
            if _HEADING.match(text, text.rfind("\n", start, gap) + 1 or start, gap):
                continue
            leading = False
        if text[place - 1] in " \t":
            rank = 1
        elif text[gap - 1] == ":" or (text[place] in "-*+" and text[place + 1 : place + 2] == " "):
            rank = 2
        else:
            rank = 3
        places.append(place)
        ranks.append(rank)
    return places, ranks


def items(text: str, start: int, end: int, layout: Layout) -> Cuts:
    """Top-level list items; in a fence or a table its lines, those behind an empty line and unindented first."""
    fence = layout.block_over(start + 1)
    if fence is not None or text.startswith("|", start):
        return code_lines(text, start, end, layout)
    return _cuts(text, start, end, _LISTED)


def code_lines(text: str, start: int, end: int, _: Layout) -> Cuts:
    """Starts of lines, those behind an empty line first, of these the unindented."""
    places: list[int] = []
    ranks: list[int] = []
    for match in LINE.finditer(text, start, end):
        place = match.end()
        if place < end:
            white = match.group()
            places.append(place)
            ranks.append(2 * (white.count("\n") > 1) + (white[-1] == "\n"))
    return places, ranks


def sentences(text: str, start: int, end: int, layout: Layout) -> Cuts:
    """Starts of sentences and paragraphs; a stop after an abbreviation, an initial or a list number ends none."""
    places: list[int] = []
    for match in SENTENCE.finditer(text, start, end):
        stop, place = match.span()
        if (
            place >= end
            or layout.inside(place, start)
            or (text[stop] == "." and _ABBREVIATION.search(text[max(start, stop - 8) : stop + 1]))
        ):
            continue
        places.append(place)
    return places, [0] * len(places)


def lines(text: str, start: int, end: int, _: Layout) -> Cuts:
    """Starts of lines."""
    return _cuts(text, start, end, LINE)


def words(text: str, start: int, end: int, _: Layout) -> Cuts:
    """Starts of words, and what follows a comma in Chinese or Japanese."""
    return _cuts(text, start, end, _WORD)


def _cuts(text: str, start: int, end: int, pattern: re.Pattern[str]) -> Cuts:
    places = [match.end() for match in pattern.finditer(text, start, end)]
    if places and places[-1] == end:
        places.pop()
    return places, [0] * len(places)


STRUCTURE: tuple[Level, ...] = (blocks, items, sentences, lines, words)
SENTENCES: tuple[Level, ...] = (sentences, items, lines, words)
CODE: tuple[Level, ...] = (code_lines, words)
