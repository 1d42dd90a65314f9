"""What a re-index would send, what it costs, and why. Decided purely: the same values give the same plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rag.embedding.batching import pack
from rag.types import Json, RequestLimits


@dataclass(frozen=True, slots=True)
class Terms:
    """What sending costs and what may be spent."""

    limits: RequestLimits
    free: bool
    """A local model: nothing is billed and no cap is needed."""
    usd_per_million: float | None
    priced_on: str | None
    max_usd: float | None
    max_tokens: int | None
    requests_per_minute: int | None
    tokens_per_minute: int | None

    def usd(self, tokens: int) -> float | None:
        """Price of tokens in US dollars; None where no price is known."""
        if self.free:
            return 0.0
        return None if self.usd_per_million is None else tokens * self.usd_per_million / 1e6

    def allows(self, tokens: int) -> bool:
        """Whether a run that has been billed `tokens` in all is within its caps."""
        usd = self.usd(tokens)
        if self.max_tokens is not None and tokens > self.max_tokens:
            return False
        if usd is None:
            return tokens == 0 or self.max_tokens is not None
        return self.free or self.max_usd is None or usd <= self.max_usd


@dataclass(frozen=True, slots=True)
class DocumentChanges:
    """What became of the documents since the version that is live."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    unchanged: int
    excluded: int
    vanished: int
    """Removed documents whose content stands under no other id either: a rename is not a loss."""

    def counts(self) -> dict[str, int]:
        return {
            "added": len(self.added),
            "changed": len(self.changed),
            "removed": len(self.removed),
            "unchanged": self.unchanged,
            "excluded": self.excluded,
        }


@dataclass(frozen=True, slots=True)
class Cause:
    """Why some texts have to be embedded, with what was before and what is now where that can be said."""

    cause: str
    texts: int
    tokens: int
    usd: float | None
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run would send: `chunks = texts + duplicates`, `texts = cached + to_embed`."""

    index: str
    current_version: int | None
    content_digest: str | None
    documents: DocumentChanges
    chunks: int
    duplicates: int
    cached: int
    to_embed: int
    tokens: int
    tokens_exact: bool
    requests: int
    usd: float | None
    priced_on: str | None
    minutes: float | None
    max_usd: float | None
    max_tokens: int | None
    within_budget: bool
    cached_tokens: int
    causes: tuple[Cause, ...]

    @property
    def texts(self) -> int:
        return self.cached + self.to_embed

    def as_json(self) -> dict[str, Json]:
        """The fields of `ragline plan --json`."""
        return {
            "index": self.index,
            "current_version": self.current_version,
            "content_digest": self.content_digest,
            "documents": dict(self.documents.counts()),
            "chunks": self.chunks,
            "duplicates": self.duplicates,
            "texts": self.texts,
            "cached": self.cached,
            "to_embed": self.to_embed,
            "tokens": self.tokens,
            "tokens_exact": self.tokens_exact,
            "requests": self.requests,
            "usd": self.usd,
            "priced_on": self.priced_on,
            "minutes": self.minutes,
            "max_usd": self.max_usd,
            "max_tokens": self.max_tokens,
            "within_budget": self.within_budget,
            "causes": [
                {
                    "cause": cause.cause,
                    "texts": cause.texts,
                    "tokens": cause.tokens,
                    "usd": cause.usd,
                    "before": cause.before,
                    "after": cause.after,
                }
                for cause in self.causes
            ],
        }


def minutes(terms: Terms, requests: int, tokens: int) -> float | None:
    """The least time that the configured limits allow; None where none is configured, 0 where nothing is sent."""
    if not requests:
        return 0.0
    shares = [
        amount / limit
        for amount, limit in [(requests, terms.requests_per_minute), (tokens, terms.tokens_per_minute)]
        if limit is not None
    ]
    return max(shares) if shares else None


def requests_for(tokens: NDArray[np.uint32], limits: RequestLimits) -> list[tuple[int, int]]:
    """The requests that texts of these many tokens are sent in."""
    return pack([int(count) for count in tokens], limits)


def summed(
    labels: Sequence[tuple[str, str | None, str | None]], tokens: NDArray[np.uint32], terms: Terms
) -> tuple[Cause, ...]:
    """Causes with their sums, the dearest first."""
    totals: dict[tuple[str, str | None, str | None], list[int]] = {}
    for label, count in zip(labels, tokens, strict=True):
        total = totals.setdefault(label, [0, 0])
        total[0] += 1
        total[1] += int(count)
    causes = [
        Cause(cause, texts, count, terms.usd(count), before, after)
        for (cause, before, after), (texts, count) in totals.items()
    ]
    return tuple(sorted(causes, key=lambda cause: (-cause.tokens, cause.cause, cause.before or "", cause.after or "")))
