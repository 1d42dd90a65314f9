"""Means by tag. What is too small to conclude from is grey, and says so."""

from __future__ import annotations

from collections.abc import Iterator

from eval.report.load import Row, Run
from eval.report.markup import Child, Column, Group, Html, folded, join, section, table, tag
from eval.report.numbers import UNKNOWN, between, count, figure
from eval.report.plots import interval
from rag.counted import counted

_WHOLE = "all questions"
_VALUES = 12
"""Of one tag, the largest ones stand open."""
_MOST = 60
"""And so many more fold away; the rest is in summary.parquet."""


def slices(run: Run) -> Html | None:
    """One table for each tag; None where the questions have none."""
    found: dict[str, dict[str, dict[str, Row]]] = {}
    for row in run.summary:
        if row["slice_tag"] != "all" and row["arm"] == run.main and row["measure"] in run.headline:
            found.setdefault(row["slice_tag"], {}).setdefault(row["slice_value"], {})[row["measure"]] = row
    if not found:
        return None
    note = (
        "Rows are the values of a tag, the last row all questions. Beside each mean, its interval as a band on the "
        "measure's scale. What is grey rests on too few questions to conclude anything."
    )
    if len(run.arms) > 1:
        note += f" Only the arm {run.main.replace('_', ' ')}; the others are in summary.parquet."
    return section("slices", "By kind of question", tag("p", note), *(_tag(run, *each) for each in found.items()))


def _tag(run: Run, name: str, values: dict[str, dict[str, Row]]) -> Html:
    ordered = sorted(values.items(), key=lambda item: (-_size(item[1]), item[0]))
    first, rest, beyond = ordered[:_VALUES], ordered[_VALUES : _VALUES + _MOST], ordered[_VALUES + _MOST :]
    whole = {each: run.whole[run.main, each] for each in run.headline if (run.main, each) in run.whole}
    caption = join(["By ", tag("bdi", name)])
    parts = [_table(run, caption, [*first, (_WHOLE, whole)])]
    if rest:
        parts.append(folded(f"{counted(len(rest), 'smaller value')} of this tag", _table(run, caption, rest)))
    if beyond:
        parts.append(tag("p", f"{counted(len(beyond), 'more value')} of this tag: summary.parquet.", class_="small"))
    return tag("div", *parts, class_="scroll")


def _table(run: Run, caption: Html, rows: list[tuple[str, dict[str, Row]]]) -> Html:
    columns = [Column("Value"), Column("n", "num"), *(Column(measure, "both") for measure in run.headline)]
    muted = frozenset(at for at, (_, found) in enumerate(rows) if _few(found))
    cells = [list(_cells(run, value, found)) for value, found in rows]
    return table(caption, columns, [Group(None, cells, muted)], "slices")


def _cells(run: Run, value: str, found: dict[str, Row]) -> Iterator[Child]:
    few = tag("span", " too few to conclude", class_="few") if _few(found) else None
    yield join([tag("bdi", value or tag("i", "(empty)")) if value != _WHOLE else tag("strong", _WHOLE), few])
    yield count(_size(found))
    for measure in run.headline:
        row = found.get(measure)
        if row is None or row["mean"] is None:
            yield UNKNOWN
            continue
        bar = interval(row["mean"], row["low"], row["high"], run.bounds(measure))
        limits = tag("span", f"({between(row['low'], row['high'])})", class_="heard")
        value = tag("span", figure(row["mean"]), class_="value")
        yield tag("span", value, limits, bar, class_="pairing" if row["enough"] else "pairing muted")


def _few(found: dict[str, Row]) -> bool:
    return not any(row["enough"] for row in found.values())


def _size(found: dict[str, Row]) -> int:
    return max((row["n"] for row in found.values()), default=0)
