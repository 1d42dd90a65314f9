"""What a question is answered from, in each arm: passages that were retrieved, or those that hold its gold."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from eval.measures.gathered import documents, places
from eval.types import Question
from rag.index.search import OpenVersion
from rag.retrieval.passages import passages_many
from rag.types import Hit, Passage
from rag.wiring import Desk

_DEEPER = 4
"""How many times deeper the next look is, for the questions that need one."""


class Cut(NamedTuple):
    """Where a chunk stands in its document, and its row in the index."""

    start: int
    end: int
    row: int


async def retrieved(desk: Desk, texts: Sequence[str], distinct: int, least: int) -> list[tuple[Passage, ...]]:
    """The shortest ranking of each question that has `distinct` documents and `least` passages, or all that is found.

    All questions are retrieved together. The first k passages are those that `desk.aretrieve` gives for k. Raises as
    Desk.aretrieve_many does.
    """
    found: list[tuple[Passage, ...]] = [()] * len(texts)
    short, depth = list(range(len(texts))), max(distinct, least)
    while short:
        deep = await desk.aretrieve_many([texts[place] for place in short], depth)
        for place, ranking in zip(short, deep, strict=True):
            found[place] = tuple(ranking[: _needed(ranking, distinct, least)])
        short = [
            place
            for place, ranking in zip(short, deep, strict=True)
            if len(ranking) == depth < desk.opened.rows and len(documents(ranking)) < distinct
        ]
        depth *= _DEEPER
    return found


def _needed(ranking: Sequence[Passage], distinct: int, least: int) -> int:
    """How many passages it takes."""
    seen: set[str] = set()
    for place, passage in enumerate(ranking):
        if len(seen) >= distinct and place >= least:
            return place
        seen.update(span.doc_id for span in places(passage))
    return len(ranking)


def gold(version: OpenVersion, questions: Sequence[Question], k: int) -> list[tuple[Passage, ...]]:
    """The chunks of this version that hold the gold of each question, cut as retrieval would find them.

    For a gold span the fewest chunks that hold all of it: from its first character on, each time the chunk that holds
    the next one and reaches furthest. Spans in the order of the question, each chunk once; however many they are. For
    documents that were graded and have no span, their chunks in order, best grade first, ties by doc_id; k at most. Where
    only the words of the gold are known, these as passages. Else nothing.
    """
    cuts = _cuts(version, {doc_id for question in questions for doc_id in question.judgements})
    hits: list[list[Hit]] = []
    for question in questions:
        if question.gold:
            rows = [row for each in question.gold for row in covering(cuts.get(each.doc_id, ()), each.start, each.end)]
        else:
            graded = sorted((-grade, doc_id) for doc_id, grade in question.grades.items() if grade > 0)
            rows = [cut.row for _, doc_id in graded for cut in cuts.get(doc_id, ())][:k]
        hits.append([Hit(row, 1.0) for row in dict.fromkeys(rows)])
    found = passages_many(hits, version)
    return [tuple(each) or _worded(question) for question, each in zip(questions, found, strict=True)]


def covering(cuts: Sequence[Cut], start: int, end: int) -> list[int]:
    """The rows of the fewest chunks that hold the characters from start to end, but those that are in no chunk.

    >>> covering([Cut(0, 10, 4), Cut(8, 20, 5), Cut(12, 24, 6), Cut(26, 40, 7)], 9, 30)
    [5, 6, 7]
    """
    rows: list[int] = []
    place = start
    while place < end:
        best = max((cut for cut in cuts if cut.start <= place < cut.end), key=lambda cut: cut.end, default=None)
        if best is None:
            place = min((cut.start for cut in cuts if cut.start > place), default=end)
            continue
        rows.append(best.row)
        place = best.end
    return rows


def _cuts(version: OpenVersion, wanted: Collection[str]) -> dict[str, list[Cut]]:
    """{doc_id: its chunks in order} of these documents."""
    found: dict[str, list[Cut]] = {}
    row = 0
    for part in version.chunks.stream(("doc_id", "char_start", "char_end")) if wanted else ():
        for doc_id, start, end in zip(part["doc_id"], part["char_start"], part["char_end"], strict=True):
            if doc_id in wanted:
                found.setdefault(doc_id, []).append(Cut(start, end, row))
            row += 1
    return found


def _worded(question: Question) -> tuple[Passage, ...]:
    """Contexts of which only the words are known, each as a document of its own."""
    return tuple(
        Passage(rank, 1.0, f"{question.question_id}#context{rank}", "", "", 0, len(text), (), text)
        for rank, text in enumerate(question.contexts, 1)
    )
