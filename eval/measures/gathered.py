"""What the measures of each family are computed from, out of observations that their conditions let through."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from eval.measures.answers import Answers
from eval.measures.citations import Citing
from eval.measures.matching import Matched, match_places
from eval.measures.names import Family, Measure
from eval.measures.spans import Retrieved
from rag.generation.citations import without_markers
from rag.types import Citation, Passage, Span

if TYPE_CHECKING:
    from eval.types import Observed


def places(passage: Passage) -> tuple[Span, ...]:
    """Where the text of a passage stands: in its own document, and in those whose equal chunks were folded into it."""
    return (Span(passage.doc_id, passage.start, passage.end), *passage.also_in)


def documents(passages: Sequence[Passage], count: int | None = None) -> dict[str, int]:
    """The distinct documents of a ranking of chunks, each at the place of its best chunk (MaxP), from 0.

    Only the first `count` are needed where it is given; the last chunk looked at may bring more.
    """
    found: dict[str, int] = {}
    for passage in passages:
        if count is not None and len(found) >= count:
            break
        found.setdefault(passage.doc_id, len(found))
        for span in passage.also_in:
            found.setdefault(span.doc_id, len(found))
    return found


def said(observed: Observed) -> str:
    """The words of an answer, without its citations; "" where it abstained."""
    assert observed.answer is not None
    if observed.answer.abstained:
        return ""
    text = observed.answer.text
    return without_markers(text) if "[" in text else text


def _matched(observed: Sequence[Observed], measures: Collection[Measure]) -> Matched:
    depths = [measure.cutoff for measure in measures]
    # no measure looks deeper than its cutoff
    count = None if None in depths else max((each for each in depths if each is not None), default=None)
    return match_places(
        [each.question.judgements for each in observed], [documents(each.ranking, count) for each in observed]
    )


def _retrieved(observed: Sequence[Observed], measures: Collection[Measure]) -> Retrieved:
    k = max((measure.cutoff or 0 for measure in measures), default=0)
    return Retrieved(
        [[(gold.doc_id, gold.start, gold.end) for gold in each.question.gold] for each in observed],
        [[places(passage) for passage in each.ranking[:k]] for each in observed],
    )


def _answers(observed: Sequence[Observed], _: Collection[Measure]) -> Answers:
    return Answers([said(each) for each in observed], [each.question.expected_answers for each in observed])


def _asked(observed: Sequence[Observed], _: Collection[Measure]) -> tuple[list[bool], list[bool]]:
    return (
        [each.question.answerable for each in observed],
        [each.answer is not None and each.answer.abstained for each in observed],
    )


def _citing(observed: Sequence[Observed], _: Collection[Measure]) -> list[Citing]:
    return [
        Citing(
            _cited(each),
            [(gold.doc_id, gold.start, gold.end) for gold in each.question.gold if gold.start < gold.end],
            frozenset(doc_id for doc_id, grade in each.question.grades.items() if grade > 0),
        )
        for each in observed
    ]


def _cited(observed: Observed) -> list[list[Span]]:
    answer = observed.answer
    if answer is None or answer.abstained or not answer.citations:
        return []
    passages = {passage.rank: passage for passage in answer.passages}
    return [_citation_places(citation, passages.get(citation.passage)) for citation in answer.citations]


def _citation_places(citation: Citation, passage: Passage | None) -> list[Span]:
    """The same characters of each place of the passage."""
    found = [Span(citation.doc_id, citation.start, citation.end)]
    for place in passage.also_in if passage else ():
        shift = place.start - passage.start if passage else 0
        found.append(Span(place.doc_id, citation.start + shift, min(citation.end + shift, place.end)))
    return found


GATHER: Mapping[Family, Callable[[Sequence[Observed], Collection[Measure]], Any]] = {
    "ranking": _matched,
    "span": _retrieved,
    "answer": _answers,
    "abstention": _asked,
    "citation": _citing,
}
"""What `Entry.values` is given, by family: of these observations, for all of these measures of the family."""
