"""What was spent: one JSON line a run that spent, finished or not, in store/ledger/YYYY-MM.jsonl."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from rag import storage
from rag.errors import FormatTooNew, Problem
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


def record(
    store: Path, at: datetime, command: str, model: str, usage: Usage, saved_usd: float | None, outcome: str
) -> None:
    """Add a line, durable when this returns. Raises StorageFailed."""
    entry = Entry(
        at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        command,
        model,
        usage.requests,
        usage.input_tokens + usage.output_tokens,
        usage.usd,
        saved_usd,
        outcome,
    )
    storage.append_line(store / "ledger" / f"{at:%Y-%m}.jsonl", json.dumps(asdict(entry), sort_keys=True))


def entries(store: Path) -> Iterator[Entry]:
    """Every readable line, oldest first; a torn last line (power loss) is passed over.

    Raises FormatTooNew where a newer program has written.
    """
    for path in sorted((store / "ledger").glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
            try:
                values = json.loads(line)
                if values["format"] > FORMAT:
                    what = f"{path} has lines of format {values['format']}; this ragline reads up to {FORMAT}"
                    raise FormatTooNew(what, [Problem(str(path), what, "upgrade ragline")])
                yield Entry(**values)
            except (ValueError, TypeError, KeyError):
                continue
