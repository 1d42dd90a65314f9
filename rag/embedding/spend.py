"""What was spent since when: the ledger summed by month, command and model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

from rag import clock
from rag.embedding import ledger
from rag.errors import UsageError
from rag.types import Json

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_REMEDY = "write an age such as 30d, 12h or 8w, or a date such as 2026-11-01"


@dataclass(frozen=True, slots=True)
class Sum:
    """What some lines of the ledger come to."""

    runs: int
    requests: int
    tokens: int
    usd: float | None
    """Of the runs whose price is known; None where there is none of these."""
    unpriced: int
    """Runs whose price is not known: they are not in `usd`."""
    saved_usd: float | None
    """What the cache spared, as far as that is known."""


@dataclass(frozen=True, slots=True)
class Row:
    """What a command paid a model in a month."""

    month: str
    command: str
    model: str
    sum: Sum


@dataclass(frozen=True, slots=True)
class Spend:
    """What `ragline spend` shows."""

    since: datetime | None
    rows: tuple[Row, ...]
    total: Sum
    running: int
    """Runs among them that spend at this moment."""
    killed: int
    """Runs among them that were killed: what was under way then may have been billed, and is in no line."""
    unreadable: tuple[str, ...]
    """Where lines stand that are none, as `path:line`; they are in no sum, whatever their time."""

    def as_json(self) -> dict[str, Json]:
        """The fields of `ragline spend --json`."""
        rows: list[Json] = [
            {"month": row.month, "command": row.command, "model": row.model, **asdict(row.sum)} for row in self.rows
        ]
        return {
            "since": clock.text(self.since) if self.since else None,
            "rows": rows,
            "total": asdict(self.total),
            "running": self.running,
            "killed": self.killed,
            "unreadable": list(self.unreadable),
        }


def spend(store: Path, since: datetime | None = None) -> Spend:
    """What the store's ledger holds since then, or of all times. Raises FormatTooNew, StorageFailed."""
    return summed(ledger.spent(store), since)


def summed(lines: Sequence[ledger.Entry | ledger.Unreadable], since: datetime | None) -> Spend:
    """Lines of the ledger by month, command and model, in this order."""
    found = [line for line in lines if isinstance(line, ledger.Entry)]
    if since is not None:
        found = [line for line in found if clock.moment(line.at) >= since]
    groups: dict[tuple[str, str, str], list[ledger.Entry]] = {}
    for line in found:
        groups.setdefault((line.month, line.command, line.model), []).append(line)
    return Spend(
        since,
        tuple(Row(*names, _sum(groups[names])) for names in sorted(groups)),
        _sum(found),
        sum(line.outcome == ledger.RUNNING for line in found),
        sum(line.outcome == ledger.KILLED for line in found),
        tuple(str(line) for line in lines if isinstance(line, ledger.Unreadable)),
    )


def _sum(lines: Sequence[ledger.Entry]) -> Sum:
    return Sum(
        len(lines),
        sum(line.requests for line in lines),
        sum(line.tokens for line in lines),
        _known(line.usd for line in lines),
        sum(line.usd is None for line in lines),
        _known(line.saved_usd for line in lines),
    )


def _known(amounts: Iterable[float | None]) -> float | None:
    known = [amount for amount in amounts if amount is not None]
    return sum(known) if known else None


def moment(text: str, now: datetime) -> datetime:
    """The moment that `30d` (ago) or `2026-11-01` (UTC) names. Raises UsageError."""
    try:
        if age := re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)([mhdw])", text, re.ASCII):
            return now - timedelta(**{_UNITS[age[2]]: float(age[1])})
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text, re.ASCII):
            found = datetime.combine(date.fromisoformat(text), time(), UTC)
        else:
            found = clock.moment(text)
    except OverflowError:
        raise UsageError.at("--since", f"{text!r} is before the year 1", "leave --since out for all times") from None
    except ValueError:
        raise UsageError.at("--since", f"{text!r} is no age and no date", _REMEDY) from None
    if found > now:
        raise UsageError.at("--since", f"{text} is in the future", _REMEDY)
    return found
