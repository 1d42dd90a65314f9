"""The rows of `summary`: each measure's mean with its interval, for all questions of an arm and for each slice."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from eval.about import RunInfo
from eval.measures.registry import MEASURES
from eval.rows import clusters
from eval.statistics import CONFIDENCE, DRAWS, slices, summarise
from eval.tables import Row
from eval.types import Arm, Scored

ALL = ("all", "all")
INTERVAL = "bootstrap_clustered"


def rows(scored: Scored, info: RunInfo) -> Iterator[Row]:
    """A row for each arm, slice and measure: arms as they were asked, all questions first, then tags and values sorted.

    Repeats of a question belong to its cluster. Errors leave `mean` and its interval; `mean_errors_zero` counts them.
    """
    values = np.array(
        [[np.nan if each.value is None else each.value for each in row] for row in scored.scores], dtype=np.float64
    ).reshape(len(scored.observed), len(scored.measures))
    statuses = np.array([[each.status for each in row] for row in scored.scores], dtype=np.uint8).reshape(values.shape)
    of = clusters(scored.observed)
    for arm in dict.fromkeys(each.arm for each in scored.observed):
        for (tag, value), members in _slices(scored, arm).items():
            groups = [of[at] for at in members]
            # one cluster has no interval, so nothing is drawn for it: a tag may have a value for every question
            draws = DRAWS if len(set(groups)) > 1 else 0
            found = summarise(values[members], groups, statuses[members], draws=draws, seed=info.seed)
            for measure, each in zip(scored.measures, found, strict=True):
                yield {
                    "run_id": info.run_id,
                    "run_name": info.name,
                    "index_name": info.index.name,
                    "index_version": info.index.label,
                    "dataset": info.dataset.path,
                    "arm": arm,
                    "measure": str(measure),
                    "slice_tag": tag,
                    "slice_value": value,
                    "n": each.n,
                    "unscored": each.unscored,
                    "errors": each.errors,
                    "clusters": each.clusters,
                    "mean": each.mean,
                    "low": each.low,
                    "high": each.high,
                    "mean_errors_zero": each.mean_errors_zero,
                    "confidence": CONFIDENCE,
                    "interval": "none" if each.low is None else INTERVAL,
                    "higher_is_better": MEASURES[measure.name].higher_is_better,
                    "enough": not each.few_clusters,
                }


def _slices(scored: Scored, arm: Arm) -> dict[tuple[str, str], list[int]]:
    """{(tag, value): positions of the arm's observations}, the whole of it first."""
    members = [at for at, each in enumerate(scored.observed) if each.arm == arm]
    found = slices([scored.observed[at].question.tags for at in members])
    named = {("tag:all" if tag == "all" else tag, value): rows for (tag, value), rows in found.items()}
    return {ALL: members} | {name: [members[at] for at in rows] for name, rows in sorted(named.items())}
