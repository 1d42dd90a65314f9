"""The words of the field as frozen values: what every room hands to the next.

Offsets are 0-based, half-open and count Unicode code points of `Document.text`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"
Role = Literal["passage", "query"]
Stage = Literal["read", "chunk", "embed"]


@dataclass(frozen=True, slots=True)
class Document:
    """One document as its reader gives it. `text` holds valid Unicode scalars only (no lone surrogates)."""

    doc_id: str
    text: str
    title: str
    source: str
    source_sha256: str
    media_type: str
    """`text/markdown`, `text/plain` or `text/x-python`: how a chunker may look for structure."""
    reader: str
    """Name and version of the reader, as in `markdown/1`."""
    metadata: Mapping[str, Json] = field(default_factory=dict)
    body_start: int = 0
    """Where chunking begins: front matter stays in the text and is not chunked."""
    context: tuple[str, ...] = ()
    """Headings that stand above the text without being in it: the title of a record."""


@dataclass(frozen=True, slots=True)
class Excluded:
    """Something that was found and left out, with a short word and a sentence why."""

    source: str
    stage: Stage
    reason: str
    detail: str
    doc_id: str | None = None
    start: int | None = None
    end: int | None = None


class Chunk(NamedTuple):
    """A span of a document: `document.text[start:end] == text`, always."""

    doc_id: str
    ordinal: int
    start: int
    end: int
    heading_path: tuple[str, ...]
    text: str
    prefix: str
    """What is sent before the text: the heading path as far as it fits, or nothing."""
    tokens: int
    """Tokens of `sent`, special tokens included, encoded alone by the embedding model's tokenizer."""

    @property
    def chunk_id(self) -> str:
        return Span(self.doc_id, self.start, self.end).chunk_id

    @property
    def sent(self) -> str:
        """The exact text that the embedding model is given."""
        return self.prefix + self.text


@dataclass(frozen=True, slots=True)
class EmbeddingIdentity:
    """What makes two vectors comparable, and two cache entries the same."""

    provider: str
    model: str
    base_url: str = ""
    revision: str = ""
    """sha256 of a local model's weights and tokenizer; empty for hosted models."""
    dimensions: int | None = None
    """Dimensions asked for; None takes the model's own."""

    @property
    def name(self) -> str:
        return f"{self.provider}/{self.model}"


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """What one request to a provider should hold; a single text may go alone up to `tokens_per_text`."""

    texts: int
    tokens: int
    tokens_per_text: int
    first_tokens: int | None = None
    """Of the first request of several, while nothing has been answered: it goes alone, to learn the account's limits."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a call was billed. `usd` is None where no price is known, never 0 by omission."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    usd: float | None = 0.0

    def __add__(self, other: Usage) -> Usage:
        usd = None if self.usd is None or other.usd is None else self.usd + other.usd
        return Usage(
            self.requests + other.requests,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            usd,
        )


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole reply of a chat model."""

    text: str
    model: str
    """The model that the provider says has answered."""
    usage: Usage
    finish_reason: str = "stop"


class Place(NamedTuple):
    """Where one of the two rankings has a row; `rank` 1 is the best."""

    rank: int
    score: float


@dataclass(frozen=True, slots=True)
class Hit:
    """A row of the index with its score, before it is looked up in the chunk table."""

    row: int
    score: float
    dense: Place | None = None
    lexical: Place | None = None


class Span(NamedTuple):
    """Where a chunk stands."""

    doc_id: str
    start: int
    end: int

    @property
    def chunk_id(self) -> str:
        return f"{self.doc_id}@{self.start}-{self.end}"


@dataclass(frozen=True, slots=True)
class Passage:
    """A retrieved chunk with all it takes to cite it. `rank` 1 is the best."""

    rank: int
    score: float
    doc_id: str
    title: str
    source: str
    start: int
    end: int
    heading_path: tuple[str, ...]
    text: str
    also_in: tuple[Span, ...] = ()
    """Chunks whose text sent is the same, and so were folded into this one."""
    dense: Place | None = None
    lexical: Place | None = None
    tokens: int = 0
    """Of the text as it was embedded, counted by the embedding model's tokenizer."""


@dataclass(frozen=True, slots=True)
class Citation:
    """A quote in the answer's support: the span in the document, and which passage (its rank) brought it."""

    passage: int
    doc_id: str
    start: int
    end: int
    quote: str
    heading_path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer with what it rests on. `abstained` means nothing retrieved supports one."""

    question: str
    text: str
    abstained: bool
    citations: tuple[Citation, ...]
    passages: tuple[Passage, ...]
    model: str
    prompt: str | None
    usage: Usage
    version: int | None = None
