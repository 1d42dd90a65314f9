"""Markers in an answer -> citations: which document, which exact span.

The quote is the sentence of the cited passage that shares most with what the answer says before the marker, words
weighted by how few sentences of the passage hold them. Where nothing is shared (another language, another wording) no
sentence is better than another, and the quote is the whole passage.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence

from rag.generation.sentences import units
from rag.generation.words import stems
from rag.types import Citation, Passage

_MARKER = re.compile(r"\[(\d{1,4}(?:\s?[,;–-]\s?\d{1,4})*)\]")  # noqa: RUF001 - a range is written with a dash
_MARKERS = re.compile(rf"(?:(?:(?<!\s)\s+)?{_MARKER.pattern})+")
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)
_WIDEST = 50


def without_markers(text: str) -> str:
    """An answer as it would read without citations: for measures that compare words.

    >>> without_markers("It opened in 1887 [1][2].")
    'It opened in 1887.'
    """
    return _MARKERS.sub("", text)


def cited(text: str, passages: Sequence[Passage]) -> tuple[Citation, ...]:
    """The citations of an answer in the order of their markers, each span once; unknown numbers are dropped."""
    by_rank = {passage.rank: passage for passage in passages}
    blank = _CODE.sub(lambda match: " " * len(match[0]), text)
    markers = list(_MARKER.finditer(blank))
    said = _MARKER.sub(lambda match: " " * len(match[0]), text)
    sentences = units(said)
    starts = [unit.start for unit in sentences]
    citations: dict[Citation, None] = {}
    behind = 0
    claim: frozenset[str] = frozenset()
    for marker in markers:
        place = bisect_right(starts, marker.start()) - 1
        begin = sentences[place].start if place >= 0 else 0
        fresh = stems(said[max(begin, behind) : marker.start()])
        # [1][2] stand behind one claim
        claim = fresh or claim
        behind = marker.end()
        for rank in _numbers(marker[1]):
            if rank in by_rank:
                citations.setdefault(quote(by_rank[rank], claim))
    return tuple(citations)


def _numbers(inside: str) -> list[int]:
    """`1, 3-5` -> 1, 3, 4, 5; a range wider than anything one cites is two numbers."""
    found: list[int] = []
    for part in re.split(r"\s?[,;]\s?", inside):
        ends = [int(number) for number in re.findall(r"\d+", part)]
        low, high = ends[0], ends[-1]
        found += range(low, high + 1) if low <= high <= low + _WIDEST else ends
    return found


def quote(passage: Passage, claim: frozenset[str]) -> Citation:
    """The citation of the passage's sentence that best supports a claim, given as stems."""
    parts = [(unit, stems(passage.text[unit.start : unit.end])) for unit in units(passage.text)]
    held = Counter(stem for _, found in parts for stem in found)
    best, best_score = None, 0.0
    for unit, found in parts:
        score = math.fsum(math.log1p(len(parts) / held[stem]) for stem in claim & found)
        if score > best_score + 1e-9:
            best, best_score = unit, score
    if best is None:
        inner = passage.text.strip()
        start = passage.text.find(inner)
        return span(passage, start, start + len(inner))
    return span(passage, best.start, best.end)


def span(passage: Passage, start: int, end: int) -> Citation:
    """The citation of `passage.text[start:end]`, with its place in the document."""
    return Citation(
        passage=passage.rank,
        doc_id=passage.doc_id,
        start=passage.start + start,
        end=passage.start + end,
        quote=passage.text[start:end],
        heading_path=passage.heading_path,
    )
