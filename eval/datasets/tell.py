"""How surely a format knows a file for its own."""

from __future__ import annotations

from enum import IntEnum


class Tell(IntEnum):
    """The surest reading is taken; two that are equally sure are an ambiguity."""

    NO = 0
    POSSIBLE = 1
    CERTAIN = 2
