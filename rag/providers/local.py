"""`local/wordllama`: a table of token vectors out of the wordllama wheel, averaged over a text.

The library itself is not imported: that takes 0.6 s, loads an HTTP client, configures the root logger, and looks for
its tokenizer in a folder that its wheel does not have. Its weights are one float16 table, its tokenizer one file, and
its pooling one mean; a test holds our vectors equal to the library's, bit for bit.
"""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rag.digest import digest, file_sha256
from rag.errors import ProviderFailed, SettingsError, UnknownModel
from rag.ports import Embedded
from rag.providers.check import BadReply, sound
from rag.providers.models import MODELS, unknown
from rag.providers.settings import ModelSettings, Surroundings
from rag.types import EmbeddingIdentity, RequestLimits, Role

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_SLICE = 64


def package_folder(package: str, model: str, install: str) -> Path:
    """Where an installed package lies, without importing it. Raises UnknownModel with the install line."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise unknown(model, f"{model} needs the package {package}, which is not installed", install, "embedding")
    return Path(next(iter(spec.submodule_search_locations)))


def one_file(folder: Path, name: str, model: str, install: str) -> Path:
    """A file that a package must hold. Raises UnknownModel."""
    path = folder / name
    if not path.is_file():
        what = f"{model}: the installed package {folder.name} has no file {name}"
        raise unknown(model, what, install, "embedding")
    return path


@functools.cache
def revision(weights: Path, tokenizer: Path) -> str:
    """sha256 over the digests of weights and tokenizer, hex; each file is hashed once a process."""
    return digest({"weights": file_sha256(weights), "tokenizer": file_sha256(tokenizer)})


def no_other_dimensions(model: str, asked: int | None, offered: Sequence[int]) -> None:
    """Refuse dimensions that a model does not have. Raises SettingsError."""
    if asked is not None and asked not in offered:
        what = f"{model} has no vectors of {asked} dimensions"
        raise SettingsError.at(f"embedding.dimensions = {asked}", what, f"write {' or '.join(map(str, offered))}")


def _files() -> tuple[Path, Path]:
    model, install = "local/wordllama", "pip install 'wordllama==0.4.0.post1'"
    folder = package_folder("wordllama", model, install)
    weights = one_file(folder, "weights/l2_supercat_256.safetensors", model, install)
    return weights, one_file(folder, "tokenizers/l2_supercat_tokenizer_config.json", model, install)


@functools.cache
def load_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer without truncation and padding, once a process."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


@functools.cache
def _mapped(weights: Path) -> NDArray[np.float16]:
    """float16 [tokens, 256] as the file has it, mapped into memory. Format: huggingface/safetensors, README."""
    with weights.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        entry = json.loads(file.read(size)).get("embedding.weight", {})
    if entry.get("dtype") != "F16" or len(entry.get("shape", ())) != 2:
        raise UnknownModel.at("local/wordllama", "its weights are not a float16 table", "pip install --force-reinstall")
    offset = 8 + size + entry["data_offsets"][0]
    return np.memmap(weights, dtype="<f2", mode="r", offset=offset, shape=tuple(entry["shape"]))


@functools.cache
def _converted(weights: Path) -> NDArray[np.float32]:
    return np.asarray(_mapped(weights)).astype(np.float32)


class WordLlama:
    """The embedded default: static token vectors, averaged. Dimensions 256, or 64 or 128 as the library cuts them."""

    def __init__(self, settings: ModelSettings, around: Surroundings) -> None:  # noqa: ARG002 - it knows no world
        """Find and hash the files; the table and tokenizer are read at the first text.

        Raises UnknownModel, SettingsError.
        """
        no_other_dimensions("local/wordllama", settings.dimensions, (64, 128, 256))
        self._weights, self._tokenizer = _files()
        known = MODELS["local/wordllama"]
        self._width = settings.dimensions or known.dimensions
        made = revision(self._weights, self._tokenizer)
        self.identity = EmbeddingIdentity("local", "wordllama", revision=made, dimensions=settings.dimensions)
        self.limits = RequestLimits(texts=4096, tokens=1 << 20, tokens_per_text=known.tokens_per_text)

    async def embed(self, texts: Sequence[str], role: Role) -> Embedded:  # noqa: ARG002 - one space for both roles
        """Mean of the token vectors of each text, float32 [n, 256]. Raises ProviderFailed."""
        return await asyncio.to_thread(self._embed, texts)

    def _embed(self, texts: Sequence[str]) -> Embedded:
        tokenizer = load_tokenizer(self._tokenizer)
        vectors = np.empty((len(texts), self._width), np.float32)
        tokens = 0
        for start in range(0, len(texts), _SLICE):
            part = list(texts[start : start + _SLICE])
            encodings: Any = tokenizer.encode_batch_fast(part, add_special_tokens=False)
            for row, encoding in enumerate(encodings, start):
                ids = encoding.ids
                tokens += len(ids)
                vectors[row] = self._mean(ids, many=len(texts) > _SLICE)
        try:
            return Embedded(sound(vectors), tokens)
        except BadReply as error:
            raise ProviderFailed.at("local/wordllama", str(error), "leave the text out") from error

    def _mean(self, ids: list[int], *, many: bool) -> NDArray[np.float32]:
        # a question needs a dozen rows of the table: widening them is exact and spares widening all 32,000
        if many:
            rows = _converted(self._weights)[ids, : self._width]
        else:
            rows = _mapped(self._weights)[ids, : self._width].astype(np.float32)
        mean: NDArray[np.float32] = rows.sum(axis=0, dtype=np.float32) / np.float32(max(len(ids), 1))
        return mean
