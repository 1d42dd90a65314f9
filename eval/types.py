"""The words of the harness as frozen values. Offsets are those of `rag.types`: 0-based, half-open code points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Gold:
    """A passage that proves the answer: `document.text[start:end] == quote`. It knows nothing of chunks."""

    doc_id: str
    start: int
    end: int
    quote: str


@dataclass(frozen=True, slots=True)
class Question:
    """One question with what a right answer says and where it stands."""

    question_id: str
    text: str
    expected_answers: tuple[str, ...]
    """Forms that are equally right; empty where nothing in the corpus answers."""
    answerable: bool
    gold: tuple[Gold, ...]
    """Every passage that is needed: two of them mean that neither is enough."""
    tags: Mapping[str, str] = field(default_factory=dict)
    about: str | None = None
    """The document that an unanswerable question was written about."""
