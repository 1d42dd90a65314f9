"""Every measure of the house. A new one is its function and entry in a file of this folder, a test, and a line here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from eval.measures import names, ranking
from eval.measures.matching import Matched
from eval.measures.names import Entry, Floats, Measure

MEASURES: Mapping[str, Entry] = {
    entry.name: entry
    for entry in (
        ranking.NDCG,
        ranking.RR,
        ranking.AP,
        ranking.R,
        ranking.P,
        ranking.SUCCESS,
        ranking.RPREC,
        ranking.BPREF,
        ranking.JUDGED,
    )
}
RANKING = ("nDCG@10", "RR@10", "AP@100", "R@5", "P@5", "Success@5", "Judged@10")
"""What a ranking is scored with where nothing else is asked for."""


def parse(wanted: Iterable[str]) -> tuple[Measure, ...]:
    """The measures of these names in their order, each once. Raises UsageError, with every bad name in it."""
    return names.parse_all(wanted, MEASURES)


def ranking_values(matched: Matched, measure: Measure) -> Floats:
    """The measure for each of `matched.queries`."""
    return MEASURES[measure.name].values(matched, measure)
