"""JSON lines of OpenAI Evals: `{"item": {...}}`, the item under the usual names; `sample` is what a model said."""

from __future__ import annotations

from eval.datasets.draft import Draft
from eval.datasets.files import Content
from eval.datasets.table import read_table
from eval.datasets.tell import Tell


def tells(content: Content) -> Tell:
    """Every row has an item and nothing but what goes with it."""
    known = content.columns <= {"item", "sample"}
    return Tell.CERTAIN if known and content.rows and all("item" in row for _, row in content.rows) else Tell.NO


def read(content: Content, draft: Draft) -> None:
    """Each item is a row of a table."""
    rows = []
    for place, row in content.rows:
        if isinstance(row["item"], dict):
            rows.append((place, row["item"]))
        else:
            draft.mistake(content.where(place), "item is not an object")
    if "sample" in content.columns:
        draft.notes.append("`sample` is what a model said, and is not read")
    read_table(content, rows, draft)
