"""Texts with their gold marked, long ones folded, and cut only where the page would grow too large, which they say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from eval.measures.spans import union
from eval.report.load import Row
from eval.report.markup import Child, Column, Group, Html, folded, join, table, tag
from eval.report.numbers import UNKNOWN, count
from rag.counted import counted

OPEN = 700
"""Characters of a text that stand open; the rest unfolds."""
_LISTED = 20
"""Passages below those in the prompt that have a line."""


def passages(rows: Sequence[Row], gold: Sequence[Row], limit: int | None) -> Html:
    """The passages given to the generator and those that hold gold in full, the others as lines of a table.

    `limit` is how many characters of a text are kept; None keeps all.
    """
    if not rows:
        return tag("p", "Nothing was retrieved.")
    full = [row for row in rows if in_full(row)]
    others = [row for row in rows if not in_full(row)]
    items = [_passage(row, gold, limit) for row in full]
    below = _below(others) if others else None
    return join([tag("ol", *items, class_="passages") if items else None, below])


def in_full(row: Row) -> bool:
    """Whether the words of a passage are shown: the generator had it, or it holds gold."""
    return bool(row["in_prompt"] or row["gold_chars"])


def long_text(text: str, marks: Sequence[tuple[int, int]] = (), limit: int | None = None, *, fold: int = OPEN) -> Html:
    """A text with marked parts: its first characters open, the rest folded, what is beyond the limit counted."""
    end = len(text) if limit is None else min(len(text), limit)
    # a fold for a few characters is more trouble than the characters
    head = end if end <= fold * 1.3 else fold
    parts: list[Child] = [tag("div", _marked(text, marks, 0, head), class_="text", dir="auto")]
    if head < end:
        hidden = sum(start < end and stop > head for start, stop in marks)
        more = f"{count(end - head)} more characters" + (", gold among them" if hidden else "")
        parts.append(
            folded(more, tag("div", _marked(text, marks, head, end), class_="text", dir="auto"), class_="more")
        )
    if end < len(text):
        left = (
            f"{count(len(text) - end)} characters more, left out to keep this page small: they are in the Parquet file."
        )
        parts.append(tag("p", left, class_="small"))
    return join(parts)


def gold_marks(row: Row, gold: Sequence[Row]) -> list[tuple[int, int]]:
    """The parts of a passage's text that are gold in its own document, in order and apart."""
    doc_id, start, end = row["doc_id"], row["char_start"], row["char_end"]
    spans = (
        (doc_id, max(each["start"], start) - start, min(each["end"], end) - start)
        for each in gold
        if each.get("doc_id") == doc_id and isinstance(each.get("start"), int) and isinstance(each.get("end"), int)
    )
    return union(spans).get(doc_id, [])


def place(doc_id: object, start: object, end: object) -> Html:
    """Where a text stands; a document alone where no span is known."""
    span = f" {start}\N{EN DASH}{end}" if isinstance(start, int) and isinstance(end, int) else ""
    return join([tag("bdi", str(doc_id), class_="doc"), tag("span", span, class_="span") if span else None])


def _passage(row: Row, gold: Sequence[Row], limit: int | None) -> Html:
    facts = [f"score {row['score']:.4g}", *_sides(row)]
    if row["judged"]:
        facts.append(f"grade {row['grade']}")
    if row["gold_chars"]:
        facts.append(f"{counted(row['gold_chars'], 'character')} of gold")
    facts.append("in the prompt" if row["in_prompt"] else "not in the prompt")
    facts += ["cited"] if row["cited"] else []
    head = [
        tag("span", f"{row['rank']}", class_="rank"),
        place(row["doc_id"], row["char_start"], row["char_end"]),
        tag("span", row["heading_path"], class_="path", dir="auto") if row["heading_path"] else None,
        tag("span", ", ".join(facts), class_="facts"),
    ]
    kind = "gold" if row["gold_chars"] else None
    body = long_text(row["text"], gold_marks(row, gold), limit)
    return tag("li", tag("div", *head, class_="place"), body, value=row["rank"], class_=kind)


def _below(rows: Sequence[Row]) -> Html:
    shown = rows[:_LISTED]
    cells: list[list[Child]] = [
        [
            count(row["rank"]),
            f"{row['score']:.4g}",
            place(row["doc_id"], row["char_start"], row["char_end"]),
            UNKNOWN if row["grade"] is None else str(row["grade"]),
        ]
        for row in shown
    ]
    heads = [Column("Rank", "num"), Column("Score", "num"), Column("Document and span", "note"), Column("Grade", "num")]
    left = len(rows) - len(shown)
    more = tag("p", f"{counted(left, 'passage')} further down: retrieved.parquet.", class_="small") if left else None
    what = f"{counted(len(rows), 'passage')} below, without gold and not in the prompt"
    return folded(what, table(None, heads, [Group(None, cells)], "list"), more)


def _sides(row: Row) -> Iterator[str]:
    for side, name in (("dense", "vectors"), ("lexical", "words")):
        if row[f"{side}_rank"] is not None:
            yield f"rank {row[f'{side}_rank']} by {name}"


def _marked(text: str, marks: Sequence[tuple[int, int]], start: int, end: int) -> Html:
    parts: list[Child] = []
    at = start
    for first, last in marks:
        low, high = max(first, at), min(last, end)
        if low < high:
            parts += [text[at:low], tag("mark", text[low:high])]
            at = high
    return join([*parts, text[at:end]])
