"""Which questions fall short, and in what order."""

from __future__ import annotations

from collections.abc import Sequence

from eval.report.load import Row, Run, key


def ranked(run: Run) -> list[Row]:
    """Of each question that falls short its worst repeat, worst first."""
    measures = [each for each in (run.answer_measure, run.retrieval_measure) if each]

    def order(row: Row) -> tuple[bool, list[float], str, int]:
        return (
            row["status"] != "error",
            [_badness(run, row, each) for each in measures],
            row["question_id"],
            row["repeat"],
        )

    found: dict[str, Row] = {}
    rows = [row for row in run.questions if row["arm"] == run.main]
    for row in sorted(rows, key=order):
        if row["question_id"] not in found and (row["status"] == "error" or row["cause"] or _short(run, row, measures)):
            found[row["question_id"]] = row
    return list(found.values())


def _badness(run: Run, row: Row, measure: str) -> float:
    """The value turned so that lower is worse; what has none comes after all that have one."""
    value = value_of(run, row, measure)
    if value is None:
        return float("inf")
    return value if run.higher_is_better(measure) else -value


def _short(run: Run, row: Row, measures: Sequence[str]) -> bool:
    """Whether the first measure that has a value is below its best one."""
    for measure in measures:
        value = value_of(run, row, measure)
        if value is not None:
            low, high = run.bounds(measure)
            return value < high if run.higher_is_better(measure) else value > low
    return False


def value_of(run: Run, row: Row, measure: str) -> float | None:
    """The measure of one observation; None where it has no value."""
    score = run.scored.get(key(row), {}).get(measure)
    value: float | None = score["value"] if score else None
    return value
