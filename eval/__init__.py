"""The harness as a library: questions in, figures out. Knows rag; never Prefect.

Read in this order: `types.py` (what a question is), `datasets/` (the forms that it comes in), `run.py` (everything in order),
`measures/` (each measure by its name), `scoring.py` (all of them over what was observed), `statistics.py` (intervals by
cluster), `threshold.py`. Without an index: `trec.py` (qrels and runs) and `score.py` (a run against qrels).

What becomes of a question: `observe.py`, over `context.py` (the passages that each arm gives), `answers.py` (replies that
were paid for), `cached.py` (a chat model that looks there first) and `fuse.py` (a dead server is given up).

A run's folder: `tables.py` (every column), `rows.py` and `causes.py` (what was observed, as rows), `summary.py`,
`about.py` and `record.py` (run.json), `results.py` (the folder comes to be), `runs.py` (runs are found and read).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pandas import DataFrame


def load_runs(store: Path | str | None = None, table: str = "questions") -> DataFrame:
    """One table of all runs of a store: see `eval.runs.load_runs`."""
    from eval import runs

    return runs.load_runs(store, table)
