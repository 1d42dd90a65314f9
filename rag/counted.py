"""How many of what, as people read it."""

from __future__ import annotations


def counted(count: int, one: str, many: str = "") -> str:
    """The number with its noun; `many` where the plural takes more than an s.

    >>> counted(1, "document"), counted(1150, "chunk"), counted(0, "query", "queries")
    ('1 document', '1,150 chunks', '0 queries')
    """
    return f"{count:,} {one if count == 1 else many or one + 's'}"
