"""Columns that nothing else wants become tags, by which figures are sliced."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from rag.corpus.jsonl import parse
from rag.corpus.page import Unreadable

MOST_VALUES = 50
"""A column with more values than this tells questions apart, and is no slice."""
_NESTED = ("metadata", "tags")


def tags_of(rows: Sequence[Mapping[str, Any]], used: Collection[str]) -> tuple[list[dict[str, str]], list[str]]:
    """The tags of each row, and notes on what became one and what did not. Objects in `metadata` and `tags` are opened."""
    flat = [_flat(row, used) for row in rows]
    values: dict[str, set[str]] = {}
    not_text: set[str] = set()
    for row in flat:
        for name, value in row.items():
            word = _word(value)
            if word is not None:
                values.setdefault(name, set()).add(word)
            elif value is not None and not isinstance(value, float):
                not_text.add(name)
    wide = {name: len(found) for name, found in values.items() if len(found) > MOST_VALUES}
    kept = [name for name in values if name not in wide and name not in not_text]
    notes = []
    if kept:
        notes.append(f"columns that became tags: {', '.join(kept)}")
    left = [f"{name} ({count:,} values)" for name, count in wide.items() if name not in not_text]
    left += [f"{name} (not text)" for name in sorted(not_text)]
    if left:
        notes.append(f"columns that are no tags: {', '.join(left)}")
    tags = [{name: word for name in kept if (word := _word(row.get(name))) is not None} for row in flat]
    return tags, notes


def _flat(row: Mapping[str, Any], used: Collection[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in row.items():
        if name in used:
            continue
        inside = _object(value) if name.lower() in _NESTED else None
        if inside is None:
            found[name] = value  # what stands outside wins over what stands inside
        else:
            found = {**found, **{key: item for key, item in inside.items() if key not in found}}
    return found


def _object(value: object) -> Mapping[str, Any] | None:
    if isinstance(value, dict):
        return value
    if isinstance(value, list) and value and all(isinstance(each, tuple) for each in value):
        return dict(value)
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            return parse(value.encode())
        except Unreadable:
            return None
    return None


def _word(value: object) -> str | None:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return str(value)
    return None
