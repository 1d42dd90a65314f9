"""A name becomes a model, or one clear sentence."""

from __future__ import annotations

import importlib.util

import pytest

from rag.chunking.vocabularies import LOADERS
from rag.errors import UnknownModel
from rag.providers.models import MODELS, Price, names
from rag.providers.prices import price
from rag.providers.registry import chat_model, embedding_model
from rag.providers.settings import ModelSettings, Surroundings
from tests.servers.virtual import VirtualClock

AROUND = Surroundings(VirtualClock(), {"OPENAI_API_KEY": "sk-canary-5f2e9c71d04b"})


@pytest.mark.parametrize(
    ("name", "what", "remedy"),
    [
        (
            "openai/o1-mini",
            "o1-mini is a chat model; embedding models are text-embedding-3-small, ",
            "text-embedding-3-small",
        ),
        ("openai/gpt-4o", "gpt-4o is a chat model", "text-embedding-3-small"),
        ("openai/gpt-9-turbo", "gpt-9-turbo is a chat model", "text-embedding-3-small"),
        ("anthropic/claude-sonnet-5", "claude-sonnet-5 is a chat model", "openai/text-embedding-3-small"),
        ("o1-mini", "o1-mini is a chat model", "openai/text-embedding-3-small"),
        (
            "openai/text-embeding-3-small",
            "no embedding model 'text-embeding-3-small'",
            "did you mean openai/text-embedding-3-small?",
        ),
        ("openai/voyage", "no embedding model 'voyage'", "any name is taken when base_url is set"),
        ("text-embedding-3-large", "names no provider", "write openai/text-embedding-3-large"),
        ("local/wordlama", "no embedding model 'wordlama'", "did you mean local/wordllama?"),
        ("cohere/embed-v4", "no provider 'cohere'", "local/ or openai/"),
        ("openai/", "openai/ names no model", "local/ or openai/"),
        ("", "'' names no provider", "local/ or openai/"),
    ],
)
def test_an_embedding_model_that_is_none_is_refused_with_what_to_write(name: str, what: str, remedy: str) -> None:
    with pytest.raises(UnknownModel) as caught:
        embedding_model(ModelSettings(name), AROUND)
    assert what in str(caught.value)
    assert remedy in caught.value.problems[0].remedy
    assert name in caught.value.problems[0].where


@pytest.mark.parametrize(
    ("name", "what", "remedy"),
    [
        ("openai/text-embedding-3-small", "is an embedding model; chat models are gpt-4o-mini, ", "openai/gpt-4o-mini"),
        ("openai/text-embedding-9", "is an embedding model", "openai/gpt-4o-mini"),
        ("openai/claude-opus-5", "is a model of anthropic", "anthropic/claude-opus-5"),
        ("anthropic/gpt-4o", "is a model of openai", "openai/gpt-4o"),
        ("openai/gpt4o", "no chat model 'gpt4o'", "did you mean openai/gpt-4o?"),
        ("anthropic/sonnet", "no chat model 'sonnet'", "anthropic/claude-"),
        ("local/wordllama", "no provider 'local'", "anthropic/ or openai/"),
        ("gpt-4o", "names no provider", "write openai/gpt-4o"),
    ],
)
def test_a_chat_model_that_is_none_is_refused_with_what_to_write(name: str, what: str, remedy: str) -> None:
    with pytest.raises(UnknownModel) as caught:
        chat_model(ModelSettings(name), AROUND)
    assert what in str(caught.value)
    assert remedy in caught.value.problems[0].remedy


def test_every_known_model_can_be_had_without_a_key_or_a_request() -> None:
    nothing = Surroundings(VirtualClock(), {})
    for name in names("embedding"):
        if name != "local/minilm":
            assert embedding_model(ModelSettings(name), nothing).identity.name == name
    for name in [*names("chat"), "openai/gpt-7-nova", "openai/o5", "anthropic/claude-next"]:
        assert chat_model(ModelSettings(name), nothing).name == name


def test_what_is_known_of_an_embedding_model_is_enough_to_plan_with() -> None:
    for name in names("embedding"):
        known = MODELS[name]
        assert known.price is not None
        assert known.dimensions > 0 < known.tokens_per_text
        assert known.tokenizer in LOADERS


@pytest.mark.parametrize("name", ["openai/o1-mini", "openai/BAAI/bge-m3", "openai/anything at all"])
def test_any_name_is_taken_by_a_server_of_ones_own(name: str) -> None:
    settings = ModelSettings(name, "http://box:8080/v1")
    assert embedding_model(settings, AROUND).identity.model == name.removeprefix("openai/")
    assert chat_model(settings, AROUND).name == name


def test_without_the_extra_claude_is_refused_with_the_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UnknownModel, match="anthropic, which is not installed") as caught:
        chat_model(ModelSettings("anthropic/claude-sonnet-5"), AROUND)
    assert caught.value.problems[0].remedy == ".venv/bin/python -m pip install -e '.[anthropic]'"


def test_a_price_is_dated_and_sourced_or_it_is_unknown() -> None:
    small = price("openai/text-embedding-3-small")
    assert small is not None
    assert small.usd(10_000_000) == pytest.approx(0.20)
    prices = [known.price for known in MODELS.values() if known.price]
    assert all(known.as_of and known.source for known in prices)
    assert price("openai/gpt-7-nova") is None
    assert price("openai/text-embedding-3-small", "http://box/v1") is None


def test_a_snapshot_costs_what_its_model_costs() -> None:
    assert price("openai/gpt-4o-2024-08-06") == price("openai/gpt-4o") != price("openai/gpt-4o-mini")
    assert price("anthropic/claude-haiku-4-5-20251001") == price("anthropic/claude-haiku-4-5")
    assert price("openai/gpt-4o-realtime") is None


def test_an_override_counts_before_the_table_and_for_any_server() -> None:
    mine = {"openai/gpt-4o": Price(1.0, 2.0), "openai/bge-m3": Price(0.0)}
    found = price("openai/gpt-4o", overrides=mine)
    assert found is not None
    assert found.usd(1_000_000, 1_000_000) == 3.0
    assert price("openai/gpt-4o-2024-08-06", overrides=mine) == mine["openai/gpt-4o"]
    assert price("openai/bge-m3", "http://box/v1", mine) == Price(0.0)


def test_no_key_shows_in_what_a_model_is_made_of() -> None:
    assert "canary" not in repr(AROUND)
    assert "canary" not in repr(vars(embedding_model(ModelSettings("openai/text-embedding-3-small"), AROUND)))
