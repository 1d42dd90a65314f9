"""`--fail-under 'R@5>=0.85'`: what a mean has to reach."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eval.measures import registry
from eval.measures.names import Measure
from rag.errors import Problem, UsageError

_FORM = re.compile(r"\s*(?P<measure>.+?)\s*(?P<sign>>=|<=)\s*(?P<bound>[0-9]*\.?[0-9]+)\s*")


@dataclass(frozen=True, slots=True)
class Threshold:
    """A measure, and the value that its mean may not fall under, or, where lower is better, may not exceed."""

    text: str
    measure: Measure
    at_least: bool
    bound: float

    def held(self, mean: float | None) -> bool:
        """Whether a mean holds; one that is not known does not."""
        return mean is not None and (mean >= self.bound if self.at_least else mean <= self.bound)


def parse(texts: Iterable[str]) -> list[Threshold]:
    """Thresholds of their texts. Raises UsageError with every mistake."""
    found: list[Threshold] = []
    problems: list[Problem] = []
    for text in texts:
        parts = _FORM.fullmatch(text)
        if parts is None:
            problems.append(Problem("--fail-under", f"{text!r} is no threshold", "write for example 'R@5>=0.85'"))
            continue
        try:
            (measure,) = registry.parse([parts["measure"]])
        except UsageError as error:
            problems += error.problems
            continue
        at_least = registry.MEASURES[measure.name].higher_is_better
        if at_least != (parts["sign"] == ">="):
            what = f"of {measure} {'higher' if at_least else 'lower'} is better: {text!r} would fail what is good"
            sign = ">=" if at_least else "<="
            problems.append(Problem("--fail-under", what, f"write '{measure}{sign}{parts['bound']}'"))
            continue
        found.append(Threshold(text, measure, at_least, float(parts["bound"])))
    if problems:
        raise UsageError(problems[0].what if len(problems) == 1 else "thresholds cannot be read", problems)
    return found


def refuse_unmeasured(thresholds: Sequence[Threshold], measures: Sequence[Measure]) -> None:
    """Raise UsageError for thresholds of what is not measured."""
    have = ", ".join(map(str, measures))
    problems = [
        Problem(
            f"--fail-under {each.text}", f"{each.measure} is not measured", f"add it to --measures; measured: {have}"
        )
        for each in thresholds
        if each.measure not in measures
    ]
    if problems:
        raise UsageError(problems[0].what, problems)


def failed(thresholds: Sequence[Threshold], summary: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence for each threshold that is missed by the mean over all questions of the arm asked for first."""
    arm = summary[0]["arm"]
    means = {row["measure"]: row["mean"] for row in summary if (row["arm"], row["slice_tag"]) == (arm, "all")}
    return [
        f"{each.text} is missed: {each.measure} is {_shown(means[str(each.measure)])}"
        for each in thresholds
        if not each.held(means[str(each.measure)])
    ]


def _shown(mean: float | None) -> str:
    return "unknown" if mean is None else f"{mean:.4f}"
