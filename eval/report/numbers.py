"""Figures as people read them. What is not known is a dash, never a zero."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np

from rag.clock import moment

UNKNOWN = "\N{EN DASH}"
_MINUS = "\N{MINUS SIGN}"


def figure(value: float | None) -> str:
    """A measure: three digits after the point.

    >>> figure(0.71249)
    '0.712'
    """
    return UNKNOWN if value is None else f"{value:.3f}".replace("-", _MINUS)


def between(low: float | None, high: float | None) -> str:
    """An interval."""
    return UNKNOWN if low is None or high is None else f"{figure(low)} to {figure(high)}"


def count(value: int | None) -> str:
    """A whole number, thousands apart."""
    return UNKNOWN if value is None else f"{value:,}"


def share(part: float, whole: float) -> str:
    """A part in per cent, none of nothing.

    >>> share(1, 3), share(1, 500)
    ('33 %', '0.2 %')
    """
    if not whole:
        return UNKNOWN
    percent = 100 * part / whole
    near_an_end = 0 < percent < 0.95 or 99.05 < percent < 100
    return f"{percent:.1f} %" if near_an_end else f"{percent:.0f} %"


def seconds(value: float | None) -> str:
    """A time in the unit that suits it.

    >>> seconds(0.0123), seconds(1.5), seconds(125)
    ('12.3 ms', '1.5 s', '2 min 5 s')
    """
    if value is None:
        return UNKNOWN
    if value < 0.001:
        return f"{value * 1e6:.0f} µs"
    if value < 0.9995:
        return f"{value * 1e3:.3g} ms" if value < 0.0995 else f"{value * 1e3:.0f} ms"
    if value < 59.95:
        return f"{value:.3g} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def dollars(value: float | None) -> str:
    """A price; small ones keep two digits that mean something."""
    if value is None:
        return "unknown"
    if value == 0 or value >= 0.0995:
        return f"${value:,.2f}"
    return f"${value:.2g}" if value >= 0.0001 else "under $0.0001"


def size(value: int) -> str:
    """Bytes."""
    for unit, factor in (("MB", 1_000_000), ("kB", 1_000)):
        if value >= factor:
            return f"{value / factor:.3g} {unit}"
    return f"{value} B"


def day(written: str | None) -> str:
    """A moment of run.json; as it stands where it is no moment.

    >>> day("2026-11-22T08:05:00Z")
    '22 November 2026, 08:05 UTC'
    """
    if written is None:
        return UNKNOWN
    try:
        found: datetime = moment(written)
    except ValueError:
        return written
    return f"{found.day} {found:%B %Y, %H:%M} UTC"


def quantile(values: Sequence[float], part: float) -> float | None:
    """Linear between the two nearest values; None of nothing."""
    return float(np.quantile(values, part)) if values else None
