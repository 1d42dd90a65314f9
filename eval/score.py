"""Any run against any judgements: what `ragline score QRELS RUN` prints. No index and no question set is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eval import trec
from eval.measures import registry
from eval.measures.matching import Matched, match
from eval.measures.names import Floats, Measure
from rag.counted import counted
from rag.errors import Problem, UsageError

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Scores:
    """The values of some measures for every judged query, and what was left out of them."""

    queries: tuple[str, ...]
    """The judged ones; `values` has a row for each."""
    measures: tuple[Measure, ...]
    values: Floats
    """float64[queries, measures], none missing."""
    without_results: tuple[str, ...]
    """Judged queries that the run has no document for: 0 in every measure, and in the means."""
    unjudged: tuple[str, ...]
    """Queries of the run that nobody judged: in no mean."""
    judged_retrieved: int
    """Judged documents among the retrieved ones, of all queries."""

    @property
    def means(self) -> tuple[float, ...]:
        """Over all judged queries, one for each measure."""
        return tuple(self.values.mean(axis=0).tolist())

    def notes(self) -> list[str]:
        """What a reader of the means has to know."""
        found = []
        if self.unjudged:
            said = counted(len(self.unjudged), "query", "queries")
            found.append(f"{said} of the run without judgements, left out: {_some(self.unjudged)}")
        if self.without_results:
            said = counted(len(self.without_results), "query", "queries")
            found.append(f"{said} without results, scored 0: {_some(self.without_results)}")
        if len(self.without_results) < len(self.queries) and not self.judged_retrieved:
            found.append("no document that was retrieved is judged: are the document ids those of the judgements?")
        elif self.unjudged and self.without_results:
            found.append("both at once: are the query ids of the run those of the judgements?")
        return found

    def as_json(self, *, per_query: bool = False) -> dict[str, Any]:
        """The fields of `ragline score --json`; with `per_query` the values of each query too. Intervals: null."""
        same = {"slice_tag": "all", "slice_value": "all", "n": len(self.queries), "unscored": 0, "errors": 0}
        fields: dict[str, Any] = {
            "queries": len(self.queries),
            "without_results": list(self.without_results),
            "unjudged": list(self.unjudged),
            "notes": self.notes(),
            "summary": [
                {"measure": str(measure), **same, "mean": mean, "low": None, "high": None}
                for measure, mean in zip(self.measures, self.means, strict=True)
            ],
        }
        if per_query:
            fields["scores"] = [
                {"question_id": query, "measure": str(measure), "value": value}
                for query, row in zip(self.queries, self.values.tolist(), strict=True)
                for measure, value in zip(self.measures, row, strict=True)
            ]
        return fields


def score_files(qrels: Path, run: Path, measures: Sequence[str] = registry.RANKING) -> Scores:
    """Score a run in TREC format against qrels in TREC format.

    Raises UsageError: unknown measures (all at once, before a file is read), mistakes in a file (all, with their
    lines), no judgements at all, a run that shares no query with them.
    """
    wanted = registry.parse(measures)
    strange = [measure for measure in wanted if registry.MEASURES[measure.name].family != "ranking"]
    if strange or not wanted:
        remedy = "take " + ", ".join(entry.form for entry in registry.MEASURES.values() if entry.family == "ranking")
        problems = [Problem(str(each), f"{each} is no measure of a ranking", remedy) for each in strange]
        raise UsageError("name measures of a ranking", problems or [Problem("measures", "there are none", remedy)])
    judgements, ranked = trec.read_qrels(qrels), trec.read_run(run)
    if not len(judgements.grade):
        what = f"there is not one judgement in {qrels}"
        raise UsageError.at(str(qrels), what, "a line of qrels is `query 0 document grade`")
    matched = match(judgements, ranked)
    if ranked.queries and len(matched.unjudged) == len(ranked.queries):
        what = f"no query of {run} is judged in {qrels}"
        theirs, ours = _some(tuple(ranked.queries)), _some(matched.queries)
        raise UsageError.at(str(run), what, f"its queries are {theirs}; the judgements are of {ours}")
    return score(matched, wanted)


def score(matched: Matched, measures: Sequence[Measure]) -> Scores:
    """The values of ranking measures from judgements and rankings that `eval.measures.matching` brought together."""
    values = [registry.ranking_values(matched, measure) for measure in measures]
    without = np.flatnonzero(matched.retrieved == 0).tolist()
    return Scores(
        matched.queries,
        tuple(measures),
        np.stack(values, axis=1) if values else np.empty((len(matched.queries), 0)),
        tuple(matched.queries[number] for number in without),
        matched.unjudged,
        len(matched.query),
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + " ..." * (len(names) > _SHOWN)
