"""What was spent: one JSON line a run that spent, finished or not, in store/ledger/YYYY-MM.jsonl."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rag import clock, storage
from rag.errors import refuse_newer
from rag.types import Usage

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the ledger."""

    at: str
    command: str
    model: str
    requests: int
    tokens: int
    usd: float | None
    saved_usd: float | None
    outcome: str
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A line that is no entry: torn by a loss of power, or changed by hand."""

    path: Path
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


def record(
    store: Path, at: datetime, command: str, model: str, usage: Usage, saved_usd: float | None, outcome: str
) -> None:
    """Add a line, durable when this returns. Raises StorageFailed."""
    entry = Entry(
        clock.text(at),
        command,
        model,
        usage.requests,
        usage.input_tokens + usage.output_tokens,
        usage.usd,
        saved_usd,
        outcome,
    )
    storage.append_line(store / "ledger" / f"{at:%Y-%m}.jsonl", json.dumps(asdict(entry), sort_keys=True))


def lines(store: Path) -> Iterator[Entry | Unreadable]:
    """Every line, oldest first. Raises FormatTooNew where a newer program has written, StorageFailed."""
    for path in sorted((store / "ledger").glob("*.jsonl")):
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise storage.unreadable(path, error) from error
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                yield _entry(line, path, number)


def entries(store: Path) -> Iterator[Entry]:
    """Every readable line, oldest first. Raises as `lines`."""
    return (line for line in lines(store) if isinstance(line, Entry))


def _entry(line: str, path: Path, number: int) -> Entry | Unreadable:
    try:
        values = json.loads(line)
        if _whole(values["format"]):
            remedy = "upgrade ragline; if no newer one has ever written here, the line is damaged: mend or remove it"
            refuse_newer(f"{path}:{number}", values["format"], FORMAT, remedy)
        entry = Entry(**values)
    except (ValueError, TypeError, KeyError, RecursionError):
        return Unreadable(path, number)
    sound = all(_CHECKS[str(field.type)](getattr(entry, field.name)) for field in dataclasses.fields(entry))
    return entry if sound else Unreadable(path, number)


def _whole(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 63


def _amount(value: Any) -> bool:
    return value is None or (type(value) in (int, float) and 0 <= value < 1 << 63)


_CHECKS = {"str": lambda value: isinstance(value, str), "int": _whole, "float | None": _amount}
