"""Why what was found is no document, in a word or two, and how much that weighs."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

Harmless: TypeAlias = Literal[
    "empty", "hidden", "link", "needs an extra", "not a file", "outside the corpus", "pointer", "unsupported"
]
Failure: TypeAlias = Literal[
    "binary",
    "bomb",
    "broken",
    "columns",
    "encoding",
    "encrypted",
    "failed",
    "json",
    "nesting",
    "surrogates",
    "too large",
    "too slow",
    "unreadable",
    "unreadable folder",
]
Reason: TypeAlias = Literal[Harmless, Failure]

HARMLESS: Final = frozenset[str](get_args(Harmless))
"""What is no failure of reading, and does not count towards max_failed_share."""
CLOSED: Final = "unreadable folder"
"""What lies in it is unknown, not gone: nothing is published without it."""
