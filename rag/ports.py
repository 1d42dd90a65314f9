"""The seams on one page. Each is one verb; `rag/wiring.py` alone knows who stands behind it.

To add one: a file with the class, a test, a line in the registry that `wiring` reads
(CHUNKERS, READERS, PROVIDERS, MODELS, INDEX_KINDS, RETRIEVERS).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from rag.types import (
    Answer,
    Chunk,
    Completion,
    Document,
    EmbeddingIdentity,
    Excluded,
    Hit,
    Json,
    Message,
    Passage,
    RequestLimits,
    Role,
)

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Embedded:
    """The checked reply of an embedding model: `vectors[i]` belongs to text i, as received (not normalised)."""

    vectors: Floats
    """float32 [n, d]"""
    tokens: int
    """What the provider billed for the request."""


class EmbeddingModel(Protocol):
    """**Protocol:** texts -> vectors."""

    identity: EmbeddingIdentity

    @property
    def limits(self) -> RequestLimits:
        """What one request should hold; a model may learn that on the way."""
        ...

    async def embed(self, texts: Sequence[str], role: Role) -> Embedded:
        """Embed one request's worth of texts.

        Raises ProviderFailed, KeyMissing or UnknownModel; nothing wrong ever comes back.
        """
        ...


class ChatModel(Protocol):
    """**Protocol:** messages -> a reply, whole or as it comes."""

    name: str

    async def complete(self, messages: Sequence[Message], max_tokens: int) -> Completion: ...

    def stream(self, messages: Sequence[Message], max_tokens: int) -> AsyncIterator[str | Completion]:
        """Pieces of text as they come, then the whole Completion as the last item."""
        ...


class Tokenizer(Protocol):
    """**Protocol:** text -> how many tokens, and where they begin."""

    identity: Mapping[str, Json]
    exact: bool
    """False when counts are an upper bound."""

    def count(self, text: str) -> int:
        """Tokens of the text encoded alone, special tokens included."""
        ...


class Chunker(Protocol):
    """**Protocol:** a document -> its chunks in order."""

    identity: Mapping[str, Json]
    """All that decides where it cuts; part of the content digest."""

    def chunk(self, document: Document) -> Iterator[Chunk | Excluded]: ...


class VectorStore(Protocol):
    """**Protocol:** query vectors -> nearest rows."""

    def search(
        self, queries: Floats, k: int, rows: NDArray[np.int64] | None = None
    ) -> tuple[Floats, NDArray[np.int64]]:
        """Scores float32 [n, k] and rows int64 [n, k], best first, -1 where there are fewer.

        `rows` restricts the search to these rows before top k.
        """
        ...


class Retriever(Protocol):
    """**Protocol:** questions -> rows with scores."""

    async def retrieve_many(
        self, questions: Sequence[str], k: int, rows: NDArray[np.int64] | None = None
    ) -> list[list[Hit]]:
        """The best k rows of each question, best first, ties by row; sorted `rows` restrict the search before top k."""
        ...


class Generator(Protocol):
    """**Protocol:** a question and passages -> a grounded answer, as it comes."""

    name: str

    def answer(self, question: str, passages: Sequence[Passage]) -> AsyncIterator[str | Answer]:
        """Pieces of text as they come, then the whole Answer as the last item."""
        ...


@dataclass(frozen=True, slots=True)
class BatchState:
    """How a batch stands at its provider."""

    status: str
    """The provider's own word."""
    ended: bool
    """Its files tell what came of each line; without an answer there it was not done."""
    refused: bool
    """Nothing of it was done, or ever will be: `reasons` say why."""
    files: tuple[str, ...] = ()
    """The ids of what it wrote."""
    done: int | None = None
    """Lines; None where the provider does not say."""
    tokens: int | None = None
    """What was billed for it."""
    expires_at: int | None = None
    """Unix time."""
    reasons: tuple[str, ...] = ()
    queue_full: bool = False
    """Refused only because the account may have no more tokens waiting at once: `queue_tokens`, where that was said."""
    queue_tokens: int | None = None


Unanswered = Literal["", "expired", "failed", "wrong", "refused", "hopeless"]
"""Why a line has no vectors. `wrong`: they did not pass the checks; `refused`: for what a text holds; `hopeless`: so
would every other be."""


@dataclass(frozen=True, slots=True)
class LineAnswer:
    """What came of one line of a batch: the vectors of its texts, or why there are none."""

    custom_id: str
    vectors: Floats | None = None
    """float32 [n, d], checked as those of a reply are."""
    tokens: int = 0
    """What it was billed."""
    reason: Unanswered = ""
    message: str = ""
    positions: tuple[int, ...] = ()
    """The texts of the line that a refusal names."""


class EmbeddingBatches(Protocol):
    """**Protocol:** files of texts -> their vectors within a day, at a lower price. Everything raises ProviderFailed."""

    identity: EmbeddingIdentity
    """That of the model whose vectors these are."""
    limits: RequestLimits
    """Of one line."""
    texts_per_file: int
    bytes_per_file: int
    price: float | None
    """US dollars for a million tokens; None where that is not known."""

    def line(self, custom_id: str, texts: Sequence[str]) -> bytes: ...

    def texts(self, line: bytes) -> list[str]: ...

    def answers(
        self, files: Sequence[Path], texts: Callable[[str], Sequence[str] | None], width: int | None
    ) -> Iterator[LineAnswer]: ...

    async def upload(self, path: Path, name: str, *, again: bool) -> str: ...

    async def create(self, file_id: str, name: str, since: datetime) -> str | None: ...

    async def find(self, name: str, since: datetime) -> str | None: ...

    async def look(self, batch_id: str) -> BatchState | None: ...

    async def fetch(self, file_id: str, path: Path, texts: int) -> bool: ...

    async def remove(self, file_id: str) -> None: ...
