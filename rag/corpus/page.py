"""What a reader gives for a file that is one document, and how it says that it cannot."""

from __future__ import annotations

from dataclasses import dataclass, field

from rag.corpus.reasons import Reason
from rag.types import Excluded, Json

TITLE_LIMIT = 300
"""Characters of a title that are kept."""


@dataclass(frozen=True, slots=True)
class Page:
    """The text of one file as its reader gives it."""

    text: str
    title: str
    """Empty where the file names none: the file's name stands in."""
    metadata: dict[str, Json] = field(default_factory=dict)
    body_start: int = 0
    media_type: str = ""
    """Empty for that of the reader."""


class Unreadable(Exception):
    """One source cannot be a document: a short reason and a sentence."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail

    def row(self, source: str) -> Excluded:
        """The row that says so."""
        return Excluded(source, "read", self.reason, self.detail)


def one_line(text: str) -> str:
    """A title: runs of white space become one space, cut at TITLE_LIMIT characters."""
    return " ".join(text[: 4 * TITLE_LIMIT].split())[:TITLE_LIMIT].rstrip()


def whole(text: str) -> str:
    """The text itself, if it has a UTF-8 form. Raises Unreadable for lone surrogates."""
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise Unreadable(
                "surrogates", f"lone surrogate at character {error.start}: it has no UTF-8 form"
            ) from error
    return text
