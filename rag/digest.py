"""Digests: one injective encoding for everything that has an identity.

>>> canonical({"b": 1, "a": ["x", None]})
b'{"a":["x",null],"b":1}'
>>> digest({"a": 1}) == digest({"a": 1})
True
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from rag.types import EmbeddingIdentity, Json, Role

CACHE_FORMAT = 1
_BLOCK = 1 << 20


def canonical(value: Mapping[str, Json] | Json) -> bytes:
    """JSON with sorted keys, no spaces and ASCII only: equal bytes exactly for equal values.

    Raises ValueError for NaN and infinities, TypeError for anything that JSON does not know.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def digest(value: Mapping[str, Json] | Json) -> str:
    """sha256 of the canonical encoding, hex."""
    return hashlib.sha256(canonical(value)).hexdigest()


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes, hex, in constant memory. Raises OSError."""
    with path.open("rb") as file:
        return stream_sha256(file)


def stream_sha256(file: BinaryIO) -> str:
    """sha256 of what is left to read, hex, in constant memory."""
    state = hashlib.sha256()
    while block := file.read(_BLOCK):
        state.update(block)
    return state.hexdigest()


def identity_json(identity: EmbeddingIdentity) -> dict[str, Json]:
    """The embedding identity as it stands in manifests, namespaces and digests."""
    return {
        "provider": identity.provider,
        "base_url": identity.base_url,
        "model": identity.model,
        "revision": identity.revision,
        "dimensions": identity.dimensions,
    }


def text_keys(identity: EmbeddingIdentity, role: Role, texts: Iterable[str]) -> NDArray[np.uint8]:
    """The cache key of each text: sha256 over the identity, the role and the exact bytes sent.

    The header is length-prefixed, so that no text can pass for another header.

    Returns uint8 [n, 32].
    """
    header = canonical({"cache_format": CACHE_FORMAT, "role": role, **identity_json(identity)})
    head = hashlib.sha256(len(header).to_bytes(4, "big") + header)
    digests = bytearray()
    for text in texts:
        state = head.copy()
        state.update(text.encode("utf-8"))
        digests += state.digest()
    return np.frombuffer(bytes(digests), dtype=np.uint8).reshape(-1, 32)
