"""Passages that come with their questions: each becomes a document, and answers are found in its text."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Contexts:
    """The distinct passages of a set, in their order, each with the id of the document that it becomes."""

    _texts: dict[str, tuple[str, str]] = field(default_factory=dict)
    _ids: dict[tuple[str, str], str] = field(default_factory=dict)
    _counts: collections.Counter[str] = field(default_factory=collections.Counter)

    def doc_id(self, title: str, text: str) -> str:
        """The id of a passage: its title and its number among those of the title, `Yuan_dynasty#007`."""
        name = self._ids.get((title, text))
        if name is None:
            name = f"{title}#{self._counts[title]:03}"
            self._counts[title] += 1
            self._ids[title, text] = name
            self._texts[name] = (title, text)
        return name

    def named(self, doc_id: str, title: str, text: str) -> bool:
        """Keep a passage that has an id already; False where another text has it."""
        return self._texts.setdefault(doc_id, (title, text)) == (title, text)

    def records(self) -> Iterator[dict[str, str]]:
        """Each passage as a record: id, title, text."""
        for name, (title, text) in self._texts.items():
            yield {"id": name, "title": title, "text": text}


def nearest(text: str, quote: str, start: int) -> int | None:
    """Where the quote stands in the text, nearest to `start`; None where it does not.

    >>> nearest("a pass, the pass", "pass", 9)
    12
    """
    if not quote:
        return None
    if text.startswith(quote, max(start, 0)):
        return max(start, 0)
    before, after = text.rfind(quote, 0, max(start, 0) + len(quote)), text.find(quote, max(start, 0))
    found = [at for at in (before, after) if at >= 0]
    return min(found, key=lambda at: abs(at - start), default=None)


def first_answer(text: str, answers: Sequence[str], starts: Sequence[int]) -> tuple[int, int] | None:
    """The span of the first answer that stands in the text: where its offset says, else where it is nearest to that.

    One span, because the answers of a question are forms of one answer: to need all would be to need it twice.
    """
    pairs = list(zip(answers, starts, strict=True))
    for answer, start in pairs:
        if start >= 0 and text.startswith(answer, start):
            return start, start + len(answer)
    for answer, start in pairs:
        at = nearest(text, answer, start)
        if at is not None:
            return at, at + len(answer)
    return None
