"""What a re-index would send, what it costs, and why. Decided purely: the same values give the same plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from rag.counted import counted, dollars, enough, plain
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
    max_usd_per_month: float | None = None
    spent_this_month: float = 0.0
    """US dollars of the ledger's lines of this calendar month, UTC, as the run found them."""
    unpriced_this_month: int = 0
    """Lines of this month whose price nobody knows: they are in no sum."""

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
        if self.free or not tokens:
            return ""
        if usd is None:
            return "" if self.max_tokens is not None else "max_tokens, which is needed: no price is known"
        if self.max_usd is not None and usd > self.max_usd:
            return f"max_usd = {plain(self.max_usd)}"
        if self.max_usd_per_month is not None and self.spent_this_month + usd > self.max_usd_per_month:
            return f"max_usd_per_month = {plain(self.max_usd_per_month)} (this month {self.month_so_far})"
        return ""

    def refusal(self, model: str, used: int, more: int, rest: int) -> tuple[str, str]:
        """What to say of a request of `more` tokens that would cross a cap, and what to do.

        `used` is what the run has been billed and what is under way, `rest` all that is left to send, this request
        included: caps are of one run, and the next one sends only the rest.
        """
        which = "the next request" if used else "the first request"
        if self.usd(1) is None and self.max_tokens is None:
            what = f"no price is known for {model}, so a token cap is needed before anything is sent"
            return what, "give --max-tokens N (or embedding.max_tokens), or its price under [prices]"
        if self.max_tokens is not None and used + more > self.max_tokens:
            what = f"{which} would cross max_tokens = {self.max_tokens:,} ({used:,} used, {more:,} more)"
            return what, f"`--max-tokens {rest}` or more lets the next run send the rest, and only the rest"
        spent, price, left = (self.usd(tokens) or 0.0 for tokens in (used, more, rest))
        if self.max_usd is not None and spent + price > self.max_usd:
            cap = f"max_usd = {plain(self.max_usd)}"
            what = f"{which} would cross {cap} ({dollars(spent)} used, {dollars(price)} more)"
            return what, f"`--max-usd {enough(left)}` or more lets the next run send the rest, and only the rest"
        cap = f"max_usd_per_month = {plain(self.max_usd_per_month or 0.0)}"
        own = (f"{dollars(spent)} by this run, " if used else "") + f"{dollars(price)} more"
        needed = enough(self.spent_this_month + spent + left)
        remedy = f"set embedding.max_usd_per_month to {needed} or more, or wait for the next month (UTC)"
        return (
            f"{which} would cross {cap} (this month {self._spent(own)})",
            f"{remedy}: the next run sends only the rest",
        )

    @property
    def month_so_far(self) -> str:
        """What this month has cost before the run, where a cap hangs on it; else empty."""
        return "" if self.free or self.max_usd_per_month is None else self._spent()

    def _spent(self, own: str = "") -> str:
        unpriced = counted(self.unpriced_this_month, "run")
        unknown = f"; {unpriced} of unknown price not counted" if self.unpriced_this_month else ""
        return f"{dollars(self.spent_this_month)} spent{', ' * bool(own)}{own}{unknown}"


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
    counted_already: int = 0
    """Tokens of texts that are in batches, and in what this month has cost so far."""

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
    def crossed(self) -> str:
        """The cap that a run of this plan would cross; empty where it is within its caps."""
        return self.terms.crossed(self.tokens - self.counted_already)

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
            "max_usd_per_month": self.terms.max_usd_per_month,
            "spent_this_month": None if not self.terms.month_so_far else self.terms.spent_this_month,
            "within_budget": not self.crossed,
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
