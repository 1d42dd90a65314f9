"""A model's name becomes a model: the prefix before the first slash names who builds it.

To add a provider: a file with its class, a test, and one line in a table below.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from rag.clock import Clock
from rag.ports import ChatModel, EmbeddingModel
from rag.providers.models import check_name, check_prefix
from rag.providers.settings import ModelSettings, Surroundings

EmbeddingFactory: TypeAlias = Callable[[ModelSettings, Surroundings], EmbeddingModel]
ChatFactory: TypeAlias = Callable[[ModelSettings, Surroundings], ChatModel]


def _local(settings: ModelSettings, around: Surroundings) -> EmbeddingModel:  # noqa: ARG001 - one form for all
    if settings.name == "minilm":
        from rag.providers.minilm import MiniLM

        return MiniLM(settings.dimensions)
    from rag.providers.local import WordLlama

    return WordLlama(settings.dimensions)


def _openai_embedding(settings: ModelSettings, around: Surroundings) -> EmbeddingModel:
    from rag.providers.openai_api import OpenAIEmbedding

    return OpenAIEmbedding(settings, around)


def _openai_chat(settings: ModelSettings, around: Surroundings) -> ChatModel:
    from rag.providers.openai_chat import OpenAIChat

    return OpenAIChat(settings, around)


def _anthropic_chat(settings: ModelSettings, around: Surroundings) -> ChatModel:
    from rag.providers.anthropic_api import AnthropicChat

    return AnthropicChat(settings, around)


EMBEDDING_PROVIDERS: Mapping[str, EmbeddingFactory] = {"local": _local, "openai": _openai_embedding}
CHAT_PROVIDERS: Mapping[str, ChatFactory] = {"anthropic": _anthropic_chat, "openai": _openai_chat}


def embedding_model(settings: ModelSettings, clock: Clock | Surroundings) -> EmbeddingModel:
    """The embedding model that the settings name. Nothing is sent and no key is needed before the first text.

    Raises UnknownModel, SettingsError.
    """
    check_prefix(settings.model, "embedding", sorted(EMBEDDING_PROVIDERS))
    if not settings.base_url or settings.provider == "local":
        check_name(settings.model, "embedding")
    return EMBEDDING_PROVIDERS[settings.provider](settings, _around(clock))


def chat_model(settings: ModelSettings, clock: Clock | Surroundings) -> ChatModel:
    """The chat model that the settings name. Nothing is sent and no key is needed before the first question.

    Raises UnknownModel, SettingsError.
    """
    check_prefix(settings.model, "chat", sorted(CHAT_PROVIDERS))
    if not settings.base_url:
        check_name(settings.model, "chat")
    return CHAT_PROVIDERS[settings.provider](settings, _around(clock))


def _around(clock: Clock | Surroundings) -> Surroundings:
    return clock if isinstance(clock, Surroundings) else Surroundings(clock)
