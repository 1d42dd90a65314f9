"""Whatever a parser gives, as JSON."""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rag.corpus.page import Unreadable, whole
from rag.types import Json


def plain(value: Any, depth: int, nodes: Iterator[int]) -> Json:
    """A value as JSON: dates as ISO strings, bytes as base64, NaN as None, infinities as words.

    Raises Unreadable where it is deeper than `depth`, or has more parts than `nodes`: aliases of aliases grow, loops
    have no end.
    """
    if next(nodes, None) is None:
        raise Unreadable("nesting", "has too many parts")
    if isinstance(value, str):
        return whole(value)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return None if math.isnan(value) else value if math.isfinite(value) else str(value)
    if depth == 0:
        raise Unreadable("nesting", "nested too deeply")
    if isinstance(value, Mapping):
        return {whole(_word(key)): plain(item, depth - 1, nodes) for key, item in value.items()}
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, Iterable):
        # a set has another order in another process
        items = sorted(value, key=repr) if isinstance(value, set) else value
        return [plain(item, depth - 1, nodes) for item in items]
    if isinstance(value, decimal.Decimal) and value.is_finite():
        return float(value)
    return whole(_word(value))


def _word(value: Any) -> str:
    return value.isoformat() if isinstance(value, dt.date | dt.time) else str(value)
