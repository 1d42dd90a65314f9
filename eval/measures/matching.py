"""Judgements and rankings brought together: where in each ranking the judged documents stand.

Every ranking measure needs only that, so it is found once for all of them, over all queries at once. Documents that
nobody judged take a rank and are nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from eval.measures.names import Floats
from rag.errors import Problem, UsageError

Ints: TypeAlias = NDArray[np.int64]
Codes: TypeAlias = NDArray[np.int32]
T = TypeVar("T")
_BLOCK = 1 << 22
_ODD = np.uint32(2654435761)
_TABLE_BITS = 24
_ROWS = 1 << 16


@dataclass(frozen=True, slots=True)
class Judgements:
    """Judged (query, document) pairs: query q has the rows `starts[q]` to `starts[q + 1]`, each document once."""

    queries: Sequence[str]
    documents: Sequence[str]
    """The ids that `document` numbers."""
    starts: Ints
    document: Codes
    grade: Ints
    """From 1: relevant, the higher the more. 0 and below: judged and not relevant."""


@dataclass(frozen=True, slots=True)
class Run:
    """Rankings: query q has the rows `starts[q]` to `starts[q + 1]`, each document once."""

    queries: Sequence[str]
    documents: Sequence[str]
    """The ids that `document` numbers, ascending where there are scores: ties are broken by them."""
    starts: Ints
    document: Codes
    score: Floats | None
    """Highest first, ties by document id descending, as trec_eval. None: the rows stand best first."""


@dataclass(frozen=True, slots=True)
class Matched:
    """What the ranking measures are computed from. A query is a number into `queries`."""

    queries: tuple[str, ...]
    """The judged ones, in the order of the judgements."""
    unjudged: tuple[str, ...]
    """Queries of the run without judgements, which are left out."""
    retrieved: Ints
    """How many documents each query's ranking has."""
    query: Ints
    """Of each judged document that was retrieved; sorted by (query, rank)."""
    rank: Ints
    """Of the same; 0 is the best."""
    grade: Ints
    judged_starts: Ints
    """Where each query's judgements begin in the two below, and where the last one's end."""
    judged_query: Ints
    judged_grade: Ints
    """Of each judgement, retrieved or not; of a query the best first."""

    def relevant(self, level: int, below: int | None = None) -> Ints:
        """How many documents of each query have at least this grade, and one below the other."""
        wanted = self.judged_grade >= level
        if below is not None:
            wanted &= self.judged_grade < below
        return np.diff(np.concatenate([[0], np.cumsum(wanted)])[self.judged_starts])

    def count(self, query: Ints) -> Ints:
        """How often each query occurs."""
        return np.bincount(query, minlength=len(self.queries))


def match(judgements: Judgements, run: Run) -> Matched:
    """Bring coded judgements and rankings together.

    Where both name documents by the same list (the same object), codes are compared as they are. Raises UsageError for
    a score that is not a number.
    """
    same = judgements.queries is run.queries
    of_judged = np.arange(len(run.queries)) if same else _numbered(judgements.queries, run.queries)
    retrieved = np.zeros(len(judgements.queries), np.int64)
    retrieved[of_judged >= 0] = np.diff(run.starts)[of_judged[of_judged >= 0]]
    document: Codes = judgements.document
    if judgements.documents is not run.documents:
        document = _numbered(judgements.documents, run.documents).astype(np.int32)[document]
    query = np.repeat(np.arange(len(judgements.queries)), np.diff(judgements.starts))
    rows, found, of_row = _joined(run, of_judged[query], document)
    rank = _ranks(run, rows, of_row)
    order = _order(query[found], rank)
    judged = np.zeros(len(run.queries), np.bool_)
    judged[of_judged[of_judged >= 0]] = True
    return Matched(
        tuple(judgements.queries),
        tuple(run.queries[number] for number in np.flatnonzero(~judged).tolist()),
        retrieved,
        query[found][order],
        rank[order],
        judgements.grade[found][order],
        judgements.starts,
        query,
        _best_grades_first(query, judgements.grade),
    )


def match_dicts(
    judgements: Mapping[str, Mapping[str, int]], run: Mapping[str, Mapping[str, float] | Sequence[str]]
) -> Matched:
    """The same from {query: {document: grade}} and {query: {document: score}}, or {query: documents, best first}.

    A document that a given order names again counts where it stands first. Raises as `match`.
    """
    judgements = {name: judged for name, judged in judgements.items() if judged}
    queries = tuple(judgements)
    places: list[dict[str, float]] = []
    for name in queries:
        ranking = run.get(name, {})
        if not isinstance(ranking, Mapping):
            # the same order as scores: all differ, and 0 is the best
            ranking = {each: -float(place) for place, each in enumerate(dict.fromkeys(ranking))}
        places.append(ranking if isinstance(ranking, dict) else dict(ranking))
    starts = _starts(map(len, places), len(places))
    score = np.fromiter(chain.from_iterable(map(dict.values, places)), np.float64, int(starts[-1]))
    shared = [judged.keys() & place.keys() for judged, place in zip(judgements.values(), places, strict=True)]
    query = np.repeat(np.arange(len(queries)), np.fromiter(map(len, shared), np.int64, len(shared)))
    grade = np.fromiter(chain.from_iterable(_picked(judgements.values(), shared)), np.int64, len(query))
    scores = np.fromiter(chain.from_iterable(_picked(places, shared)), np.float64, len(query))
    if not _in_order(starts, score):
        score = _sorted(starts, score)
    rank, tied = _places(starts, score, query, scores)
    if tied.any():
        names = list(chain.from_iterable(shared))
        ranks: dict[int, dict[str, int]] = {}
        for hit in np.flatnonzero(tied).tolist():
            number = int(query[hit])
            if number not in ranks:
                place = places[number]
                # sorting is stable, backwards too: the second key first
                by_id = sorted(place, reverse=True)
                best = sorted(by_id, key=place.__getitem__, reverse=True)
                ranks[number] = {each: at for at, each in enumerate(best)}
            rank[hit] = ranks[number][names[hit]]
    order = _order(query, rank)
    judged_starts = _starts(map(len, judgements.values()), len(queries))
    judged_query = np.repeat(np.arange(len(queries)), np.diff(judged_starts))
    every = chain.from_iterable(each.values() for each in judgements.values())
    return Matched(
        queries,
        tuple(name for name in run if name not in judgements),
        np.diff(starts),
        query[order],
        rank[order],
        grade[order],
        judged_starts,
        judged_query,
        _best_grades_first(judged_query, np.fromiter(every, np.int64, len(judged_query))),
    )


def match_places(judgements: Sequence[Mapping[str, int]], places: Sequence[Mapping[str, int]]) -> Matched:
    """The same from {document: grade} and {document: rank, 0 the best} of each query; queries are named by number."""
    hits = [
        (query, place[document], grade)
        for query, (judged, place) in enumerate(zip(judgements, places, strict=True))
        for document, grade in judged.items()
        if document in place
    ]
    query, rank, grade = np.array(hits, np.int64).reshape(-1, 3).T
    order = _order(query, rank)
    starts = _starts(map(len, judgements), len(judgements))
    judged_query = np.repeat(np.arange(len(judgements)), np.diff(starts))
    every = chain.from_iterable(each.values() for each in judgements)
    return Matched(
        tuple(map(str, range(len(judgements)))),
        (),
        np.fromiter(map(len, places), np.int64, len(places)),
        query[order],
        rank[order],
        grade[order],
        starts,
        judged_query,
        _best_grades_first(judged_query, np.fromiter(every, np.int64, len(judged_query))),
    )


def _picked(tables: Iterable[Mapping[str, T]], shared: Sequence[set[str]]) -> Iterator[tuple[T, ...]]:
    """Of each table the values of these names."""
    for table, names in zip(tables, shared, strict=True):
        if names:
            found = itemgetter(*names)(table)
            yield found if len(names) > 1 else (found,)


def _starts(lengths: Iterable[int], count: int) -> Ints:
    starts = np.zeros(count + 1, np.int64)
    np.cumsum(np.fromiter(lengths, np.int64, count), out=starts[1:])
    return starts


def _numbered(names: Sequence[str], others: Sequence[str]) -> Ints:
    """For each name its number among the others, -1 where it is not there."""
    numbers = {name: number for number, name in enumerate(others)}
    return np.fromiter((numbers.get(name, -1) for name in names), np.int64, len(names))


def _joined(run: Run, query: Ints, document: Codes) -> tuple[Ints, Ints, Ints]:
    """The rows of the run that are judged, the judgement of each, and its query, all in the run's own numbers.

    Most rows are not judged: a table of hashes sorts nearly all of them out. It holds one judgement a place; the few
    that another one has driven out are searched for among the rows that found that other one.
    """
    known = np.flatnonzero((query >= 0) & (document >= 0))
    query, document = query[known], document[known]
    queries = len(run.queries)
    bits = max(1, min((8 * len(known) // max(queries, 1)).bit_length(), _TABLE_BITS - queries.bit_length()))
    table = np.full(queries << bits, -1, np.int32)
    places = (query << bits) + _hashes(document, bits)
    table[places] = np.arange(len(known), dtype=np.int32)
    rows, at = _candidates(run, table, bits)
    real = document[at] == run.document[rows]
    driven_out = np.flatnonzero(table[places] != np.arange(len(known)))
    if len(driven_out):
        width = max(len(run.documents), 1)
        keys = query[driven_out] * width + document[driven_out]
        order = np.argsort(keys)
        keys, driven_out = keys[order], driven_out[order]
        others = np.flatnonzero(~real)
        wanted = query[at[others]] * width + run.document[rows[others]]
        found = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        same = keys[found] == wanted
        at[others[same]] = driven_out[found[same]]
        real[others[same]] = True
    real = np.flatnonzero(real)
    at = at[real]
    return rows[real], known[at], query[at]


def _candidates(run: Run, table: Codes, bits: int) -> tuple[Ints, Codes]:
    """The rows whose place in the table is taken, and by what; block by block, so that all stays in the cache."""
    places = np.arange(len(run.queries)) << bits
    lengths = np.diff(run.starts)
    rows, held = [np.zeros(0, np.int64)], [np.zeros(0, np.int32)]
    first = 0
    while first < len(places):
        last = max(first + 1, int(np.searchsorted(run.starts, run.starts[first] + _ROWS, side="right")) - 1)
        start, end = run.starts[first], run.starts[last]
        slots = np.repeat(places[first:last], lengths[first:last])
        slots += _hashes(run.document[start:end], bits)
        here = table[slots]
        taken = np.flatnonzero(here >= 0)
        rows.append(taken + start)
        held.append(here[taken])
        first = last
    return np.concatenate(rows), np.concatenate(held)


def _hashes(document: Codes, bits: int) -> NDArray[np.uint32]:
    """A number below 2^bits for each document; at least one bit."""
    mixed = document.view(np.uint32) * _ODD
    mixed >>= np.uint32(32 - bits)
    return mixed


def _ranks(run: Run, rows: Ints, of_row: Ints) -> Ints:
    """The rank of each of these rows within its query's ranking."""
    if run.score is None or _in_order(run.starts, run.score):
        return rows - run.starts[of_row]
    rank, tied = _places(run.starts, _sorted(run.starts, run.score), of_row, run.score[rows])
    if tied.any():
        again = np.zeros(len(run.queries), np.bool_)
        again[of_row[tied]] = True
        every = np.flatnonzero(np.repeat(again, np.diff(run.starts)))
        place = np.empty(len(run.score), np.int64)
        place[best_first(run, every)] = every
        rank[tied] = place[rows[tied]] - run.starts[of_row[tied]]
    return rank


def best_first(run: Run, rows: Ints) -> Ints:
    """These rows by query, then as trec_eval ranks them: best score first, ties by document id descending."""
    if run.score is None:
        return rows
    query = np.searchsorted(run.starts, rows, side="right") - 1
    order: Ints = np.lexsort((-run.document[rows].astype(np.int64), -run.score[rows], query))
    return rows[order]


def _in_order(starts: Ints, score: Floats) -> bool:
    """Whether each query's scores fall from row to row, without a tie. Raises UsageError for NaN."""
    if np.isnan(score).any():
        what = "a score is not a number (NaN)"
        raise UsageError(what, [Problem("run", what, "leave such rows out, or give them the lowest score")])
    falls = score[1:] < score[:-1]
    borders = starts[(starts > 0) & (starts < len(score))]
    falls[borders - 1] = True
    return bool(falls.all())


def _places(starts: Ints, score: Floats, query: Ints, wanted: Floats) -> tuple[Ints, NDArray[np.bool_]]:
    """How many scores of its query are above each wanted one, and whether one more equals it.

    Each query's scores stand highest first, and the wanted ones are among them.
    """
    low, high = starts[query], starts[query + 1]
    last = len(score) - 1
    for _ in range(int(np.diff(starts).max(initial=0)).bit_length()):
        middle = (low + high) >> 1
        # where the search has ended, middle may be the end of all
        above = (low < high) & (score[np.minimum(middle, last)] > wanted)
        low = np.where(above, middle + 1, low)
        high = np.where(above, high, middle)
    tied = (low + 1 < starts[query + 1]) & (score[np.minimum(low + 1, last)] == wanted)
    return low - starts[query], tied


def _sorted(starts: Ints, score: Floats) -> Floats:
    """Each query's scores, highest first: sorted as rows of rectangles of queries that are about equally long."""
    out = np.empty_like(score)
    lengths = np.diff(starts)
    by_length = np.argsort(lengths, kind="stable")
    at = int(np.searchsorted(lengths[by_length], 1))
    while at < len(by_length):
        shortest = int(lengths[by_length[at]])
        until = int(np.searchsorted(lengths[by_length], 2 * shortest, side="right"))
        part = by_length[at : min(until, at + max(_BLOCK // shortest, 1))]
        width = int(lengths[part[-1]])
        inside = np.arange(width) < lengths[part][:, None]
        rows = (starts[part][:, None] + np.arange(width))[inside]
        block = np.full(inside.shape, np.inf)
        block[inside] = -score[rows]
        block.sort(axis=1)
        out[rows] = -block[inside]
        at += len(part)
    return out


def _order(query: Ints, rank: Ints) -> Ints:
    """The order by (query, rank)."""
    return np.argsort(query * (int(rank.max(initial=0)) + 1) + rank)


def _best_grades_first(query: Ints, grade: Ints) -> Ints:
    """The grades of each query, best first; the queries stand in order."""
    top, low = int(grade.max(initial=0)), int(grade.min(initial=0))
    width = top - low + 1
    keys = query * width - grade
    keys.sort()
    return query * width - keys
