"""What is known of models by name: enough to refuse a chat model for embedding, and the other way round."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from rag.errors import Problem, UnknownModel

Kind = Literal["embedding", "chat"]


@dataclass(frozen=True, slots=True)
class Known:
    """One embedding model: its dimensions, the longest text it takes, and the encoding that counts its tokens."""

    dimensions: int
    tokens_per_text: int
    encoding: str
    can_shorten: bool = False
    """Takes a `dimensions` argument."""


EMBEDDING_MODELS: Mapping[str, Known] = {
    "openai/text-embedding-3-small": Known(1536, 8192, "cl100k_base", can_shorten=True),
    "openai/text-embedding-3-large": Known(3072, 8192, "cl100k_base", can_shorten=True),
    "openai/text-embedding-ada-002": Known(1536, 8192, "cl100k_base"),
    "local/wordllama": Known(256, 1 << 20, "wordllama"),
    "local/minilm": Known(384, 256, "minilm"),
}
CHAT_MODELS: tuple[str, ...] = (
    "openai/gpt-4o-mini",
    "openai/gpt-4o",
    "openai/gpt-4.1",
    "openai/gpt-4.1-mini",
    "openai/gpt-4.1-nano",
    "openai/o1",
    "openai/o1-mini",
    "openai/o3",
    "openai/o3-mini",
    "openai/o4-mini",
    "openai/gpt-5.6-luna",
    "openai/gpt-6-luna",
    "openai/gpt-6-sol",
    "openai/gpt-6.1-sol",
    "anthropic/claude-sonnet-5",
    "anthropic/claude-opus-5",
    "anthropic/claude-haiku-4-5",
)
# providers bring out chat models faster than this table is dated: a name of the right family passes
_FAMILIES: Mapping[str, re.Pattern[str]] = {
    "openai": re.compile(r"(gpt-\d|o\d|chatgpt-|codex-|ft:(gpt-|o\d))"),
    "anthropic": re.compile(r"claude-"),
}
_ANY_CHAT = re.compile(r"(gpt|o\d|chatgpt|codex|claude|ft:gpt)(-|\d|$)")


def embedding_names(provider: str = "") -> list[str]:
    return [name for name in EMBEDDING_MODELS if name.startswith(provider)]


def chat_names(provider: str = "") -> list[str]:
    return [name for name in CHAT_MODELS if name.startswith(provider)]


def unknown(model: str, what: str, remedy: str, kind: Kind) -> UnknownModel:
    """The error for a model that cannot be had: where it stands, what is wrong, what to write instead."""
    where = "embedding.model" if kind == "embedding" else "generation.model"
    return UnknownModel(what, [Problem(f"{where} = {model!r}", what, remedy)])


def check_prefix(model: str, kind: Kind, prefixes: list[str]) -> None:
    """Refuse a model without a provider that offers this kind. Raises UnknownModel."""
    provider, slash, name = model.partition("/")
    if slash and name and provider in prefixes:
        return
    if kind == "embedding" and _ANY_CHAT.match(name or provider):
        raise _wrong_kind(model, kind, "")
    names = embedding_names() if kind == "embedding" else chat_names()
    near = _nearest(model, names) or next((known for known in names if known.partition("/")[2] == model), None)
    what = (
        f"{model} names no provider" if not slash else f"{model}: no provider {provider!r} has {_a(kind)} models here"
    )
    start = f"write {near}, or " if near else "write "
    raise unknown(model, what, f"{start}a name that starts with {' or '.join(f'{p}/' for p in prefixes)}", kind)


def check_name(model: str, kind: Kind) -> None:
    """Refuse a name that the provider's own service does not have. Raises UnknownModel."""
    provider, _, name = model.partition("/")
    if kind == "embedding":
        if model in EMBEDDING_MODELS:
            return
        if model in CHAT_MODELS or _ANY_CHAT.match(name):
            raise _wrong_kind(model, kind, provider)
    else:
        if model in EMBEDDING_MODELS or name.startswith("text-embedding-"):
            raise _wrong_kind(model, kind, provider)
        family = _FAMILIES.get(provider)
        if model in CHAT_MODELS or (family and family.match(name)):
            return
        other = next((p for p, pattern in _FAMILIES.items() if p != provider and pattern.match(name)), None)
        if other:
            raise unknown(model, f"{name} is a model of {other}", f"write {other}/{name}", kind)
    names = embedding_names(provider) if kind == "embedding" else chat_names(provider)
    near = _nearest(model, names)
    hosted = "" if provider == "local" else "; any name is taken when base_url is set"
    remedy = f"did you mean {near}?{hosted}" if near else f"{_a(kind)} models are {', '.join(names)}{hosted}"
    raise unknown(model, f"{provider} has no {_a(kind)} model {name!r} that is known here", remedy, kind)


def _wrong_kind(model: str, kind: Kind, provider: str) -> UnknownModel:
    name = model.partition("/")[2] or model
    names = embedding_names(provider) or embedding_names() if kind == "embedding" else chat_names(provider)
    is_a = "a chat" if kind == "embedding" else "an embedding"
    listed = ", ".join(known.removeprefix(f"{provider}/") if provider else known for known in names)
    what = f"{name} is {is_a} model; {_a(kind)} models are {listed}"
    return unknown(model, what, f"write {names[0]}", kind)


def _a(kind: Kind) -> str:
    return "embedding" if kind == "embedding" else "chat"


def _nearest(model: str, names: list[str]) -> str | None:
    return next(iter(difflib.get_close_matches(model, names, n=1, cutoff=0.6)), None)
