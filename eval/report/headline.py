"""The headline table: arms by measures with mean and interval."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from eval.measures.registry import MEASURES
from eval.report.load import Row, Run, base
from eval.report.markup import Child, Column, Group, Html, folded, section, table, tag
from eval.report.numbers import between, count, figure, share
from eval.report.plots import interval
from eval.statistics import FEW

FAMILIES = {
    "answer": "Answers",
    "judged": "Answers, judged by a model",
    "abstention": "Abstention",
    "citation": "Citations",
    "ranking": "Retrieval: ranking of documents",
    "span": "Retrieval: gold text in chunks",
    "": "Other measures",
}


def headline(run: Run) -> Html:
    """The table, what its words mean, and how far a judge can be trusted."""
    several = len(run.arms) > 1
    columns = [
        Column("Measure"),
        *([Column("Arm")] if several else []),
        Column("Mean", "num"),
        Column(f"{_confidence(run)} interval", "num range"),
        Column("On its scale", "bar"),
        Column("n", "num"),
        Column("Unscored", "num"),
        Column("Errors", "num"),
        Column("Note", "note"),
    ]
    groups = []
    for family, title in FAMILIES.items():
        measures = [each for each in run.measures if family_of(each) == family]
        rows = [(each, arm, run.whole[arm, each]) for each in measures for arm in run.arms if (arm, each) in run.whole]
        if rows:
            few = frozenset(at for at, (_, _, row) in enumerate(rows) if row["clusters"] < FEW or not row["enough"])
            names = [measure for measure, _, _ in rows]
            cells = [_cells(run, *each, again=names.index(each[0]) < at) for at, each in enumerate(rows)]
            groups.append(Group(title, cells, few))
    missing = not groups and tag("p", "No measure has a value for any question of this run.")
    shown_table = missing or table(
        "Means over all questions, with cluster bootstrap intervals", columns, groups, "wide"
    )
    return section(
        "results", "Results", tag("div", shown_table, class_="scroll"), _nulls(run), *agreements(run), _glossary(run)
    )


def family_of(measure: str) -> str:
    """The family that the registry knows it in, else the empty one."""
    entry = MEASURES.get(base(measure))
    family = str(entry.family) if entry else ""
    return family if family in FAMILIES else ""


def agreements(run: Run) -> Iterator[Html]:
    """Every judge that scored, with its agreement with people where run.json has it."""
    known = {each.get("judge"): each for each in run.about.get("agreement") or () if isinstance(each, dict)}
    for judge in sorted(set(run.judges.values())):
        names = ", ".join(measure for measure in run.measures if run.judges.get(measure) == judge)
        yield tag("p", f"{names}: judged by ", tag("bdi", judge), ". ", agreement(known.get(judge)))


def agreement(found: Mapping[str, Any] | None) -> str:
    """What is known of a judge's agreement with people, as a sentence."""
    if not found or found.get("agreement") is None:
        return "How far this judge agrees with people has not been measured: ragline eval --calibrate PATH does it."
    kappa = f", Cohen's kappa {found['kappa']:.2f}" if found.get("kappa") is not None else ""
    size = f" of {count(found['n'])} answers" if found.get("n") else ""
    source = f" ({found['dataset']})" if found.get("dataset") else ""
    return f"In Correctness it agreed with people on {share(found['agreement'], 1)}{size}{kappa}{source}."


def _cells(run: Run, measure: str, arm: str, row: Row, *, again: bool) -> list[Child]:
    notes = list(_notes(run, measure, row))
    return [
        tag("span", measure, class_="measure again" if again else "measure"),
        *([arm.replace("_", " ")] if len(run.arms) > 1 else []),
        tag("strong", figure(row["mean"])),
        between(row["low"], row["high"]),
        interval(row["mean"], row["low"], row["high"], run.bounds(measure)),
        count(row["n"]),
        count(row["unscored"]),
        count(row["errors"]),
        "; ".join(notes) or None,
    ]


def _notes(run: Run, measure: str, row: Row) -> Iterator[str]:
    if row["clusters"] < FEW:
        yield f"few clusters ({count(row['clusters'])}): too few to conclude"
    elif not row["enough"]:
        yield "too few to conclude"
    zero, mean = row["mean_errors_zero"], row["mean"]
    if zero is not None and mean is not None and abs(zero - mean) > 1e-12:
        yield f"{figure(zero)} with errors as 0"
    if not row["higher_is_better"]:
        yield "lower is better"
    low, high = run.bounds(measure)
    if (low, high) != (0.0, 1.0):
        yield f"scale {low:g} to {high:g}"


def _nulls(run: Run) -> Html | None:
    """What is absent, said once."""
    kept = {measure for _, measure in run.whole}
    absent = [each for each in run.measures if each not in kept]
    partly = [arm for arm in run.arms if any((arm, each) not in run.whole for each in kept)]
    said = []
    if absent:
        said.append(f"Asked for, but applicable to no question of this set: {', '.join(absent)}.")
    if partly:
        arms = " and ".join(each.replace("_", " ") for each in partly)
        said.append(f"Measures that do not apply to an arm are left out of it ({arms}).")
    return tag("p", " ".join(said), class_="small") if said else None


def _glossary(run: Run) -> Html:
    names = dict.fromkeys(base(each) for each in run.measures)
    known: Iterable[tuple[str, str]] = ((each, MEASURES[each].says) for each in names if each in MEASURES)
    items = [part for name, says in known for part in (tag("dt", name), tag("dd", f"{says[:1].upper()}{says[1:]}."))]
    columns = (
        (
            "Interval",
            "From a bootstrap over clusters of questions that share a document, because those are not independent.",
        ),
        ("n", "How many values the mean is of."),
        ("Unscored", "Asked for, but without a usable verdict; in no mean."),
        (
            "Errors",
            "Questions that failed; in no mean. Where counting them as 0 changes it, that mean stands in the note.",
        ),
    )
    items += [part for name, says in columns for part in (tag("dt", name), tag("dd", says))]
    return folded("What the measures and columns mean", tag("dl", *items, class_="terms"))


def _confidence(run: Run) -> str:
    return share(next((row["confidence"] for row in run.summary), 0.95), 1)
