"""local/wordllama: the library's vectors bit for bit, whatever the batch, without the library."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.errors import ProviderFailed, SettingsError
from rag.ports import EmbeddingModel, Floats
from rag.providers import local
from rag.providers.registry import embedding_model
from rag.providers.settings import ModelSettings, Surroundings
from tests.servers.virtual import VirtualClock

text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300)


def _model(dimensions: int | None = None) -> EmbeddingModel:
    return embedding_model(ModelSettings("local/wordllama", dimensions=dimensions), Surroundings(VirtualClock()))


def _embed(texts: list[str], dimensions: int | None = None) -> Floats:
    return asyncio.run(_model(dimensions).embed(texts, "passage")).vectors


def _passages(datasets: Path) -> list[str]:
    lines = (datasets / "squad2-dev-slice" / "passages.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines]


@pytest.fixture(scope="module")
def library() -> object:
    """The library's own model; importing it configures the root logger, which is put back."""
    handlers, level = logging.root.handlers[:], logging.root.level
    wordllama = pytest.importorskip("wordllama")
    model = wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)
    logging.root.handlers[:], logging.root.level = handlers, level
    return model


def test_vectors_are_the_librarys_bit_for_bit(library: object, datasets: Path) -> None:
    texts = _passages(datasets)
    assert np.array_equal(_embed(texts), library.embed(texts, norm=False))  # type: ignore[attr-defined]


def test_strange_texts_are_the_librarys_too(library: object) -> None:
    texts = [
        " ",
        "\x00",
        "\n\n",
        "é" * 50,
        "\U0001f469\u200d\U0001f4bb",
        "<s> </s> <unk>",
        "ß\u0301",
        "x" * 5000,
        "日本語",
        "\u202e",
    ]
    assert np.array_equal(_embed(texts), library.embed(texts, norm=False))  # type: ignore[attr-defined]


@pytest.mark.slow
@given(st.lists(text, min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_a_vector_does_not_depend_on_its_neighbours(texts: list[str], random: Random) -> None:
    order = list(range(len(texts)))
    random.shuffle(order)
    alone = np.vstack([_embed([one]) for one in texts])
    assert np.array_equal(_embed([texts[i] for i in order]), alone[order])
    assert np.array_equal(_embed(texts * 30)[: len(texts)], alone)


@pytest.mark.slow
def test_it_takes_no_longer_than_the_library(library: object, datasets: Path) -> None:
    texts = _passages(datasets)

    def seconds(work: Callable[[], object]) -> float:
        spent = []
        for _ in range(3):
            start = time.process_time()
            work()
            spent.append(time.process_time() - start)
        return min(spent)

    ours, theirs = seconds(lambda: _embed(texts)), seconds(lambda: library.embed(texts, norm=False))  # type: ignore[attr-defined]
    assert ours <= 1.1 * theirs


def test_fewer_dimensions_are_the_first_of_all() -> None:
    texts = ["the summit station", "a timetable"]
    assert np.array_equal(_embed(texts, 64), _embed(texts)[:, :64])
    assert _model(64).identity.dimensions == 64
    with pytest.raises(SettingsError, match="no vectors of 100") as caught:
        _model(100)
    assert "64 or 128 or 256" in caught.value.problems[0].remedy


def test_the_identity_is_the_weights_and_the_tokenizer(tmp_path: Path) -> None:
    identity = _model().identity
    assert (identity.name, identity.base_url, len(identity.revision)) == ("local/wordllama", "", 64)
    weights, tokenizer = tmp_path / "w", tmp_path / "t"
    weights.write_bytes(b"one")
    tokenizer.write_bytes(b"two")
    first = local.revision(weights, tokenizer)
    assert local.revision(tokenizer, weights) != first
    other = tmp_path / "o"
    other.write_bytes(b"three")
    assert len({first, local.revision(other, tokenizer), local.revision(weights, other)}) == 3


def test_tokens_are_counted_as_they_are_averaged() -> None:
    got = asyncio.run(_model().embed(["hello", "hello hello"], "query"))
    assert got.tokens == 3
    assert got.vectors.shape == (2, 256)


def test_a_text_without_a_direction_is_refused() -> None:
    with pytest.raises(ProviderFailed, match="text 1 is zero"):
        _embed(["fine", ""])


def test_a_question_needs_neither_the_library_nor_an_http_client() -> None:
    code = """
import asyncio, sys
from rag.clock import SystemClock
from rag.providers.registry import embedding_model
from rag.providers.settings import ModelSettings, Surroundings
model = embedding_model(ModelSettings("local/wordllama"), Surroundings(SystemClock()))
asyncio.run(model.embed(["where is the summit?"], "query"))
print(*sorted({"wordllama", "huggingface_hub", "openai", "httpx", "httpx2", "requests", "onnxruntime"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == ""
