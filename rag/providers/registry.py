"""A model's name becomes a model, or one clear sentence: the prefix before the first slash names who builds it."""

from __future__ import annotations

import difflib
import importlib
import re
from typing import Any

from rag.errors import UnknownModel, UsageError
from rag.ports import ChatModel, EmbeddingBatches, EmbeddingModel
from rag.providers.models import MODELS, PROVIDERS, Kind, names, unknown
from rag.providers.settings import ModelSettings, Surroundings

_ANY_CHAT = re.compile(r"(gpt|o\d|chatgpt|codex|claude|ft:gpt)(-|\d|$)")


def embedding_model(settings: ModelSettings, around: Surroundings) -> EmbeddingModel:
    """The embedding model that the settings name. Nothing is sent and no key is needed before the first text.

    Raises UnknownModel, SettingsError.
    """
    model: EmbeddingModel = _made(settings, around, "embedding")
    return model


def chat_model(settings: ModelSettings, around: Surroundings) -> ChatModel:
    """The chat model that the settings name. Nothing is sent and no key is needed before the first question.

    Raises UnknownModel, SettingsError.
    """
    model: ChatModel = _made(settings, around, "chat")
    return model


def embedding_batches(settings: ModelSettings, around: Surroundings) -> EmbeddingBatches:
    """The batches of a model that there is. Nothing is sent and no key is needed before the first file.

    Raises UsageError where its provider takes none.
    """
    path = PROVIDERS[settings.provider].batches
    if not path:
        takers = " or ".join(f"{name}/..." for name, provider in PROVIDERS.items() if provider.batches)
        what = f"{settings.model} takes no batches: --batch is for models of {takers}"
        raise UsageError.at("--batch", what, "run it without --batch, or name such a model as embedding.model")
    module, _, name = path.partition(":")
    batches: EmbeddingBatches = getattr(importlib.import_module(module), name)(settings, around)
    return batches


def _made(settings: ModelSettings, around: Surroundings, kind: Kind) -> Any:
    _check_prefix(settings.model, kind)
    provider, known = PROVIDERS[settings.provider], MODELS.get(settings.model)
    if not (settings.base_url and provider.url):
        _check_name(settings.model, kind)
    path = (known and known.made_by) or (provider.embedding if kind == "embedding" else provider.chat)
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)(settings, around)


def _check_prefix(model: str, kind: Kind) -> None:
    """Refuse a model without a provider that offers this kind. Raises UnknownModel."""
    provider, slash, name = model.partition("/")
    listed = names(kind)
    prefixes = sorted({known.partition("/")[0] for known in listed})
    if slash and name and provider in prefixes:
        return
    if kind == "embedding" and _ANY_CHAT.match(name or provider):
        raise _wrong_kind(model, kind, "")
    near = _nearest(model, listed) or next((known for known in listed if known.partition("/")[2] == model), None)
    what = f"{model}: no provider {provider!r} has {kind} models here" if slash else f"{model!r} names no provider"
    if slash and provider in prefixes:
        what = f"{model} names no model"
    start = f"write {near}, or " if near else "write "
    raise unknown(model, what, f"{start}a name that starts with {' or '.join(f'{p}/' for p in prefixes)}", kind)


def _check_name(model: str, kind: Kind) -> None:
    """Refuse a name that the provider's own service does not have. Raises UnknownModel."""
    provider, _, name = model.partition("/")
    known, family = MODELS.get(model), PROVIDERS[provider].family
    if known and known.kind == kind:
        return
    if known or (_ANY_CHAT.match(name) if kind == "embedding" else name.startswith("text-embedding-")):
        raise _wrong_kind(model, kind, provider)
    if kind == "chat":
        if family and family.match(name):
            return
        other = next((p for p, who in PROVIDERS.items() if who.family and who.family.match(name)), None)
        if other:
            raise unknown(model, f"{name} is a model of {other}", f"write {other}/{name}", kind)
    listed = names(kind, provider)
    near = _nearest(model, listed)
    hosted = " (any name is taken when base_url is set)" if PROVIDERS[provider].url else ""
    remedy = f"did you mean {near}?{hosted}" if near else f"{kind} models are {', '.join(listed)}{hosted}"
    raise unknown(model, f"{provider} has no {kind} model {name!r} that is known here", remedy, kind)


def _wrong_kind(model: str, kind: Kind, provider: str) -> UnknownModel:
    name = model.partition("/")[2] or model
    listed = names(kind, provider) or names(kind)
    is_a = "a chat" if kind == "embedding" else "an embedding"
    shown = ", ".join(known.removeprefix(f"{provider}/") if provider else known for known in listed)
    return unknown(model, f"{name} is {is_a} model; {kind} models are {shown}", f"write {listed[0]}", kind)


def _nearest(model: str, listed: list[str]) -> str | None:
    return next(iter(difflib.get_close_matches(model, listed, n=1, cutoff=0.6)), None)
