"""Time, tokens and money: what each step took, and what the caches spared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from eval.report.head import part
from eval.report.load import Run
from eval.report.markup import Child, Column, Group, Html, section, table, tag
from eval.report.numbers import count, day, dollars, quantile, seconds

_STEPS = (("retrieve", "Retrieve"), ("generate", "Generate"), ("judge", "Judge"))


def effort(run: Run) -> Html:
    """Two tables and what they leave unsaid."""
    return section(
        "effort",
        "Time, tokens and cost",
        tag("div", _times(run), class_="scroll"),
        tag("div", _costs(run), class_="scroll"),
        tag("p", " ".join(_notes(run)), class_="small"),
    )


def _times(run: Run) -> Html:
    columns = [
        Column("Step"),
        *(Column(each, "num") for each in ("Rows", "From cache", "Median", "95th percentile", "Sum")),
    ]
    rows: list[list[Child]] = []
    for name, label in _STEPS:
        values = [row[f"{name}_seconds"] for row in run.questions if row[f"{name}_seconds"] is not None]
        cached = sum(bool(row["answer_cached"]) for row in run.questions) if name == "generate" else None
        total = part(run, "seconds").get(name)
        rows.append(
            [
                label,
                count(len(values)),
                count(cached),
                seconds(quantile(values, 0.5)),
                seconds(quantile(values, 0.95)),
                seconds(sum(values) if total is None else total),
            ]
        )
    rows.append(["Whole run", *[None] * 4, seconds(part(run, "seconds").get("total"))])
    return table("Time for one question", columns, [Group(None, rows)])


def _costs(run: Run) -> Html:
    figures = ("Requests", "Tokens in", "Tokens out", "Paid", "Spared by cache")
    columns = [Column("Step"), *(Column(each, "num") for each in figures)]
    made = [row for row in run.questions if row["generate_seconds"] is not None]
    asked, cached = ([row for row in made if bool(row["answer_cached"]) is stored] for stored in (False, True))
    usage = part(run, "usage")
    spent = {name: sum(row[name] for row in asked) for name in ("input_tokens", "output_tokens")}
    paid = _sum(row["usd"] for row in run.questions)
    saved = _sum(row["usd_saved"] for row in cached)
    rows: list[list[Child]] = [
        ["Generate, asked now", count(len(asked)), *(count(each) for each in spent.values()), dollars(paid), None],
        [
            "Generate, from cache",
            "0",
            *(count(sum(row[name] for row in cached)) for name in spent),
            dollars(0.0),
            dollars(saved) if cached else None,
        ],
    ]
    if run.judges:
        rest = [_less(usage.get(name), size) for name, size in spent.items()]
        left = (_less(usage.get(name), size) for name, size in (("usd", paid), ("usd_saved", saved)))
        requests = _less(usage.get("requests"), len(asked))
        rows.append(["Judge and others", *(count(_whole(each)) for each in (requests, *rest)), *map(dollars, left)])
    total = [count(usage.get(name)) for name in ("requests", "input_tokens", "output_tokens")]
    rows.append(["Whole run, billed", *total, dollars(usage.get("usd")), dollars(usage.get("usd_saved"))])
    return table("Tokens and cost", columns, [Group(None, rows)])


def _notes(run: Run) -> Iterator[str]:
    usage = part(run, "usage")
    yield "The time of an answer from the cache is that of the call which was once paid."
    if usage.get("priced_on"):
        yield f"Prices of {day(usage['priced_on'])}."
    if usage.get("unpriced"):
        yield f"No price is known for {', '.join(map(str, usage['unpriced']))}: its cost is unknown, not nothing."
    if usage.get("usd") == 0 and not usage.get("unpriced"):
        yield "Nothing was paid."


def _sum(values: Iterable[float | None]) -> float | None:
    """None where a price is not known: a sum without it would be too low."""
    known = list(values)
    return None if None in known else sum(each for each in known if each is not None)


def _less(whole: float | None, part: float | None) -> float | None:
    return None if whole is None or part is None else max(0.0, whole - part)


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)
