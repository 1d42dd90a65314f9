"""How the values lie behind the means, where the gold stands, and why answers are wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from eval.causes import CAUSES
from eval.report.load import Run
from eval.report.markup import Child, Column, Group, Html, section, table, tag
from eval.report.numbers import count, share
from eval.report.plots import Bar, columns, distribution, proportion
from rag.counted import counted


def spread(run: Run) -> Html:
    """The drawings."""
    drawn: list[tuple[bool, Html]] = []
    for at, measure in enumerate(run.headline):
        values = list(run.values(run.main, measure).values())
        if values:
            low, high = run.bounds(measure)
            inside = any(low < value < high for value in values)
            drawn.append((inside, distribution(measure, values, (low, high), f"plot-{at}")))
    # drawings of a height stand beside each other
    drawings = [drawing for _, drawing in sorted(drawn, key=lambda each: each[0])]
    note = "One value for each question" + (
        ", the mean of its repeats." if (run.about.get("repeats") or 1) > 1 else "."
    )
    return section("spread", "How the values lie", tag("p", note), tag("div", *drawings, _ranks(run), class_="plots"))


def causes(run: Run) -> Html | None:
    """Causes of wrong answers, counted; None where nobody looked for them."""
    rows = [row for row in run.questions if row["arm"] == run.main]
    found = Counter(row["cause"] for row in rows if row["cause"] is not None)
    if not found:
        return None
    wrong = sum(found.values())
    cells: list[list[Child]] = [
        [
            cause_name(cause),
            count(number),
            tag("span", tag("span", share(number, wrong), class_="value"), proportion(number, wrong), class_="pairing"),
            meaning(cause, run.main),
        ]
        for cause, number in found.most_common()
    ]
    heads = [Column("Cause"), Column("Answers", "num"), Column("Share", "both"), Column("Meaning", "note")]
    caption = f"Causes of {counted(wrong, 'wrong answer')} out of {count(len(rows))}"
    body = tag("div", table(caption, heads, [Group(None, cells)], "wide"), class_="scroll")
    return section("causes", "Why answers are wrong", body)


def cause_name(cause: str) -> str:
    """A cause as words."""
    return cause.replace("_", " ")


def meaning(cause: str, arm: str) -> str:
    """What it says of an answer, as a sentence; nothing for one that only a later version knows."""
    given, _, alone = CAUSES.get(cause, "").partition("; in `closed_book`: ")
    says = (alone if alone and arm == "closed_book" else given).replace("`", "")
    return f"{says[:1].upper()}{says[1:]}." if says else ""


def _ranks(run: Run) -> Html | None:
    rows = [row for row in run.questions if row["arm"] == run.main and row["gold_count"] and row["status"] != "error"]
    if not rows or run.main == "closed_book":
        return None
    given = max((row["prompt_passages"] for row in rows), default=0)
    found = Counter(row["first_gold_rank"] for row in rows)
    bars = list(_rank_bars(found, given))
    within = sum(number for rank, number in found.items() if rank is not None and rank <= given)
    note = f"{share(within, len(rows))} of {counted(len(rows), 'question')} have it among the {given} given to the generator"
    return columns("Rank of the first passage with gold", note, bars, "plot-ranks")


def _rank_bars(found: Counter[int | None], given: int) -> Iterator[Bar]:
    deepest = max((rank for rank in found if rank is not None), default=1)
    edges = [1, 2, 3, 4, 5, 6, 11, 21, 51, 101, 1001]
    for low, above in zip(edges, [*edges[1:], deepest + 1], strict=True):
        if low > deepest:
            break
        high = min(above - 1, deepest)
        number = sum(size for rank, size in found.items() if rank is not None and low <= rank <= high)
        label = str(low) if low == high else f"{low}\N{EN DASH}{high}"
        yield Bar(label, number, f"rank {label}: {number}", faint=low > given)
    missing = found[None]
    yield Bar("none", missing, f"not found: {missing}", apart=True, faint=True)
