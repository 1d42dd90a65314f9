"""What is known of providers and models: two tables. A new one is a line here, beside its file and its test."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from rag.errors import UnknownModel

Kind = Literal["embedding", "chat"]


@dataclass(frozen=True, slots=True)
class Provider:
    """Who answers, and how it is asked. Classes are `module:Class`, imported with the first model that needs them."""

    url: str = ""
    """Its own service, whose known names, prices and usual key these are; empty for models of this machine."""
    key: str = ""
    """The variable of the key for its own service. It goes nowhere else unless it is named for it."""
    client: str = ""
    """The asynchronous client of its library; all are cut from the pattern of `openai`."""
    embedding: str = ""
    chat: str = ""
    batches: str = ""
    """All three are made of (ModelSettings, Surroundings); the last takes embeddings in files."""
    family: re.Pattern[str] | None = None
    """Providers bring out chat models faster than `MODELS` is dated: a name of the right family passes."""

    @property
    def library(self) -> str:
        return self.client.partition(":")[0]


PROVIDERS: Mapping[str, Provider] = {
    "local": Provider(),
    "openai": Provider(
        url="https://api.openai.com/v1",
        key="OPENAI_API_KEY",
        client="openai:AsyncOpenAI",
        embedding="rag.providers.openai_api:OpenAIEmbedding",
        chat="rag.providers.openai_chat:OpenAIChat",
        batches="rag.providers.openai_batches:OpenAIBatches",
        family=re.compile(r"(gpt-\d|o\d|chatgpt-|codex-|ft:(gpt-|o\d))"),
    ),
    "anthropic": Provider(
        url="https://api.anthropic.com",
        key="ANTHROPIC_API_KEY",
        client="anthropic:AsyncAnthropic",
        chat="rag.providers.anthropic_api:AnthropicChat",
        family=re.compile(r"claude-"),
    ),
}


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for a million tokens, when that was so, and who said it."""

    input: float
    output: float = 0.0
    as_of: str = ""
    source: str = "[prices]"
    batch: float | None = None
    """Of input by the batch, where that was said."""

    def usd(self, input_tokens: int, output_tokens: int = 0) -> float:
        return (input_tokens * self.input + output_tokens * self.output) / 1e6

    def by_batch(self, share: float | None) -> float:
        """US dollars for a million tokens of input by the batch; `share` of the online price where nothing else is said."""
        if self.batch is not None:
            return self.batch
        return self.input if share is None else self.input * share


@dataclass(frozen=True, slots=True)
class Model:
    """One model. What follows the price is of embedding models only."""

    kind: Kind
    price: Price | None = None
    """None where none is known, never a price of zero."""
    dimensions: int = 0
    tokens_per_text: int = 0
    """The longest text that it takes."""
    tokenizer: str = "bytes"
    """What counts its tokens, one of `LOADERS` in rag/chunking/vocabularies.py."""
    can_shorten: bool = False
    """Takes a `dimensions` argument."""
    weight: float = 1.0
    """Of its ranking beside the lexical one's 1, fixed beforehand: see docs/retrieval.md."""
    made_by: str = ""
    """The class of a model of this machine, as in Provider."""


_OPENAI = "openai.com/api/pricing"
_ANTHROPIC = "docs.anthropic.com, models and pricing"
_HERE = Price(0.0, 0.0, "2026-11", "computed on this machine")

MODELS: Mapping[str, Model] = {
    "openai/text-embedding-3-small": Model(
        "embedding", Price(0.02, 0.0, "2026-10", _OPENAI), 1536, 8192, "cl100k_base", can_shorten=True
    ),
    "openai/text-embedding-3-large": Model(
        "embedding", Price(0.13, 0.0, "2026-10", _OPENAI), 3072, 8192, "cl100k_base", can_shorten=True
    ),
    "openai/text-embedding-ada-002": Model(
        "embedding", Price(0.10, 0.0, "2025-06", _OPENAI), 1536, 8192, "cl100k_base"
    ),
    "local/wordllama": Model(
        # a static model ranks less well alone, so its voice is the smaller one
        "embedding",
        _HERE,
        256,
        1 << 20,
        "wordllama",
        weight=0.5,
        made_by="rag.providers.local:WordLlama",
    ),
    "local/minilm": Model("embedding", _HERE, 384, 256, "minilm", made_by="rag.providers.minilm:MiniLM"),
    "openai/gpt-4o-mini": Model("chat", Price(0.15, 0.60, "2025-06", _OPENAI)),
    "openai/gpt-4o": Model("chat", Price(2.50, 10.00, "2025-06", _OPENAI)),
    "openai/gpt-4.1": Model("chat", Price(2.00, 8.00, "2025-06", _OPENAI)),
    "openai/gpt-4.1-mini": Model("chat", Price(0.40, 1.60, "2025-06", _OPENAI)),
    "openai/gpt-4.1-nano": Model("chat", Price(0.10, 0.40, "2025-06", _OPENAI)),
    "openai/o1": Model("chat"),
    "openai/o1-mini": Model("chat"),
    "openai/o3": Model("chat"),
    "openai/o3-mini": Model("chat"),
    "openai/o4-mini": Model("chat", Price(1.10, 4.40, "2025-06", _OPENAI)),
    "openai/gpt-5.6-luna": Model("chat", Price(0.20, 1.20, "2026-10", _OPENAI)),
    "openai/gpt-6-luna": Model("chat", Price(0.10, 0.50, "2026-10", _OPENAI)),
    "openai/gpt-6-sol": Model("chat", Price(2.00, 10.00, "2026-10", _OPENAI)),
    "openai/gpt-6.1-sol": Model("chat", Price(2.00, 10.00, "2026-10", _OPENAI)),
    "anthropic/claude-sonnet-5": Model("chat", Price(2.00, 10.00, "2026-10", _ANTHROPIC)),
    "anthropic/claude-opus-5": Model("chat", Price(5.00, 25.00, "2026-10", _ANTHROPIC)),
    "anthropic/claude-haiku-4-5": Model("chat", Price(1.00, 5.00, "2026-10", _ANTHROPIC)),
}


def names(kind: Kind, provider: str = "") -> list[str]:
    """The known models of a kind, of one provider or of all."""
    return [name for name, known in MODELS.items() if known.kind == kind and name.startswith(provider)]


def unknown(model: str, what: str, remedy: str, kind: Kind) -> UnknownModel:
    """The error for a model that cannot be had: where it stands, what is wrong, what to write instead."""
    section = "embedding" if kind == "embedding" else "generation"
    return UnknownModel.at(f"{section}.model = {model!r}", what, remedy)
