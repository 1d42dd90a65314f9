"""What was spent: one JSON line a run that spent and a model, finished or not, in store/ledger/YYYY-MM.jsonl.

While a run spends, its line to be stands in store/ledger/open (account.py writes it). Who reads the ledger counts these,
too; the next holder of the store's lock makes lines of those whose process is dead (`settle`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Container, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from rag import clock, storage
from rag.errors import RaglineError, refuse_newer
from rag.types import Usage

FORMAT = 2
RUNNING, KILLED = "running", "killed"
"""Outcomes beside `done` and `failed`: of an open entry whose process lives, and of one whose process is dead."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the ledger."""

    at: str
    """When it was written; of an open entry when the last answer was counted."""
    command: str
    model: str
    requests: int
    tokens: int
    usd: float | None
    saved_usd: float | None
    outcome: str
    id: str = ""
    """Of an index that of its run, else one of its own; empty in a line of format 1. No two lines have the same."""
    format: int = FORMAT

    @property
    def month(self) -> str:
        """As in `2026-11`, UTC."""
        return self.at[:7]

    def as_line(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A line that is no entry: torn by a loss of power, or changed by hand."""

    path: Path
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


@dataclass(frozen=True, slots=True)
class Month:
    """What a calendar month has cost so far."""

    usd: float
    unpriced: int
    """Lines that are in no sum: their price is not known, or nobody can read them."""


def record(
    store: Path,
    at: datetime,
    command: str,
    model: str,
    usage: Usage,
    saved_usd: float | None,
    outcome: str,
    entry_id: str = "",
) -> None:
    """Add a line, durable when this returns. Raises StorageFailed."""
    add(store, entry(at, command, model, usage, saved_usd, outcome, entry_id))


def entry(
    at: datetime, command: str, model: str, usage: Usage, saved_usd: float | None, outcome: str, entry_id: str
) -> Entry:
    """A line of what a model was paid."""
    tokens = usage.input_tokens + usage.output_tokens
    return Entry(clock.text(at), command, model, usage.requests, tokens, usage.usd, saved_usd, outcome, entry_id)


def add(store: Path, line: Entry) -> None:
    """Add a line to the file of its month, durable when this returns. Raises StorageFailed."""
    storage.append_line(_file(store, line.month), line.as_line())


def lines(store: Path) -> Iterator[Entry | Unreadable]:
    """Every line, oldest first. Raises FormatTooNew where a newer program has written, StorageFailed."""
    for path in sorted((store / "ledger").glob("*.jsonl")):
        yield from _lines(path)


def entries(store: Path) -> Iterator[Entry]:
    """Every readable line, oldest first. Raises as `lines`."""
    return (line for line in lines(store) if isinstance(line, Entry))


def spent(store: Path, month: str | None = None) -> list[Entry | Unreadable]:
    """Every line, or those of a month (`2026-11`), and behind them what is open: `running`, or `killed`.

    Raises as `lines`.
    """
    # first what is open: what becomes a line meanwhile is found twice, and not missed
    still_open = list(open_entries(store))
    found = list(lines(store) if month is None else _lines(_file(store, month)))
    known = {line.id for line in found if isinstance(line, Entry)}
    return [*found, *(each for each in still_open if isinstance(each, Unreadable) or _counts(each, known, month))]


def _counts(line: Entry, known: Container[str], month: str | None) -> bool:
    return line.id not in known and line.requests > 0 and month in (None, line.month)


def month(store: Path, now: datetime) -> Month:
    """What the calendar month of `now`, UTC, has cost so far, whatever command spent it. Raises as `lines`."""
    found = spent(store, f"{now:%Y-%m}")
    known = [line.usd for line in found if isinstance(line, Entry) and line.usd is not None]
    return Month(sum(known), len(found) - len(known))


def open_entries(store: Path) -> Iterator[Entry | Unreadable]:
    """What is being spent, or was when its process died. Raises as `lines`."""
    for path in sorted(open_folder(store).glob("*.jsonl")):
        with contextlib.suppress(FileNotFoundError):  # it has just become a line
            outcome = RUNNING if storage.is_held(path) else KILLED
            found = _last(path)
            if isinstance(found, Entry):
                found = replace(found, outcome=outcome)
            if found:
                yield found


def settle(store: Path) -> list[Entry]:
    """Make a line of every open entry whose process is dead, each once; gives these. For the holder of the store's lock.

    A store that cannot be written, or a newer format, leaves them as they are: readers count them all the same.
    """
    settled: list[Entry] = []
    for path in sorted(open_folder(store).glob("*.jsonl")):
        with contextlib.suppress(RaglineError, OSError), storage.left_behind(path) as dead:
            found = _last(path) if dead else None
            if not dead or isinstance(found, Unreadable):
                continue
            # one that was killed between its line and the end of its file has both
            if found and found.requests and all(each.id != found.id for each in entries(store)):
                found = replace(found, outcome=KILLED)
                add(store, found)
                settled.append(found)
                storage.faultpoint("ledger.settled")
            storage.remove_file(path)
    return settled


def open_folder(store: Path) -> Path:
    """Where entries stand that are no lines yet."""
    return store / "ledger" / "open"


def _file(store: Path, month: str) -> Path:
    return store / "ledger" / f"{month}.jsonl"


def _last(path: Path) -> Entry | Unreadable | None:
    """The last entry of an open one; None where its process died before there was any."""
    found = list(_lines(path, whole=True))
    readable = [line for line in found if isinstance(line, Entry)]
    return (readable or found or [None])[-1]


def _lines(path: Path, *, whole: bool = False) -> Iterator[Entry | Unreadable]:
    """The lines of a file, none where it is not there; with `whole` only those that have an end."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return
    except OSError as error:
        raise storage.unreadable(path, error) from error
    split = text.split("\n")
    for number, line in enumerate(split[:-1] if whole else split, 1):
        if line.strip():
            yield _entry(line, path, number)


def _entry(line: str, path: Path, number: int) -> Entry | Unreadable:
    try:
        values = json.loads(line)
        if _whole(values["format"]):
            remedy = "upgrade ragline; if no newer one has ever written here, the line is damaged: mend or remove it"
            refuse_newer(f"{path}:{number}", values["format"], FORMAT, remedy)
        found = Entry(**values)
        clock.moment(found.at)
    except (ValueError, TypeError, KeyError, RecursionError):
        return Unreadable(path, number)
    sound = all(_CHECKS[str(field.type)](getattr(found, field.name)) for field in dataclasses.fields(found))
    return found if sound else Unreadable(path, number)


def _whole(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 63


def _amount(value: Any) -> bool:
    return value is None or (type(value) in (int, float) and 0 <= value < 1 << 63)


_CHECKS = {"str": lambda value: isinstance(value, str), "int": _whole, "float | None": _amount}
