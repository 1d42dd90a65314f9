"""One well-formed request for a model's work: what it costs, and how to answer it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tests.provider import errors
from tests.provider.embedded import Embedded
from tests.provider.http import Reply
from tests.provider.options import Options
from tests.provider.tokens import Count
from tests.provider.vectors import WIDTHS

CHAT = ("gpt-6-luna", "gpt-6-sol", "gpt-4o", "gpt-4o-mini")
CLAUDE = ("claude-haiku-4-5", "claude-sonnet-5", "claude-opus-5")


@dataclass
class Work:
    model: str
    amounts: Mapping[str, float]
    """What it is charged against its limits: requests, tokens, perhaps output-tokens."""
    tokens: int
    output_tokens: int
    digests: Sequence[bytes]
    inputs: Sequence[str]
    answer: Callable[[], Reply]
    embedded: Callable[[], Embedded] | None = None
    """For embeddings: what the answer is made of, so that it can be damaged."""


@dataclass(frozen=True)
class House:
    """Which models there are, and how their tokens are counted."""

    options: Options
    count: Count

    def models(self) -> list[str]:
        return [*WIDTHS, *CHAT, *CLAUDE, *self.options.models]

    def model(self, name: object, *, embeds: bool) -> str:
        """Raises Refused when there is none of this name for this work, or it is not for this account."""
        if not isinstance(name, str) or not name:
            raise errors.wrong("you must provide a model parameter")
        if name in self.options.forbidden_models:
            raise errors.no_access(name)
        if name not in self.models() or ("embed" in name) != embeds:
            raise errors.unknown_model(name)
        return name
