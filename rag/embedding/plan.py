"""What a re-index would send, what it costs, and why. Decided purely: the same values give the same plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

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

    def crossed(self, tokens: int) -> str:
        """The cap that a run crosses which is billed `tokens` in all; empty where it is within its caps."""
        usd = self.usd(tokens)
        if self.max_tokens is not None and tokens > self.max_tokens:
            return f"max_tokens = {self.max_tokens:,}"
        if usd is None:
            return (
                "" if tokens == 0 or self.max_tokens is not None else "max_tokens, which is needed: no price is known"
            )
        within = self.free or self.max_usd is None or usd <= self.max_usd
        return "" if within else f"max_usd = {self.max_usd:g}"

    def allows(self, tokens: int) -> bool:
        """Whether a run that has been billed `tokens` in all is within its caps."""
        return not self.crossed(tokens)


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
    cached_tokens: int
    causes: tuple[Cause, ...]
    terms: Terms

    @property
    def texts(self) -> int:
        return self.cached + self.to_embed

    @property
    def usd(self) -> float | None:
        return self.terms.usd(self.tokens)

    @property
    def saved_usd(self) -> float | None:
        """What the texts that are in the cache would cost."""
        return self.terms.usd(self.cached_tokens)

    @property
    def minutes(self) -> float | None:
        """The least time that the configured limits allow; None where none is configured, 0 where nothing is sent."""
        if not self.requests:
            return 0.0
        limits = [(self.requests, self.terms.requests_per_minute), (self.tokens, self.terms.tokens_per_minute)]
        return max((amount / limit for amount, limit in limits if limit is not None), default=None)

    @property
    def within_budget(self) -> bool:
        return self.terms.allows(self.tokens)

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
            "priced_on": self.terms.priced_on,
            "minutes": self.minutes,
            "max_usd": self.terms.max_usd,
            "max_tokens": self.terms.max_tokens,
            "within_budget": self.within_budget,
            "causes": [asdict(cause) for cause in self.causes],
        }


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
