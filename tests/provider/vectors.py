"""Vectors that cost little: sums of two slices of one table of normal numbers, and a few numbers of the text's own."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
WIDTHS = {"text-embedding-3-small": 1536, "text-embedding-3-large": 3072, "text-embedding-ada-002": 1536}
WIDTH = 1536
_STARTS = 1 << 16


@cache
def _table(width: int) -> Vectors:
    """All slices of this width, [65536, width], without a copy."""
    numbers = np.random.default_rng(20261122).standard_normal(_STARTS + width, dtype=np.float32)
    return np.lib.stride_tricks.sliding_window_view(numbers, width)


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def vectors(model: str, digests: Sequence[bytes], dimensions: int | None = None) -> Vectors:
    """The unit vectors of texts by their digests, [texts, dimensions]. Fewer dimensions are a whole vector's first."""
    width = WIDTHS.get(model, WIDTH)
    seeded = b"".join(hashlib.sha256(model.encode() + text).digest() for text in digests)
    seeds = np.frombuffer(seeded, np.uint8).reshape(len(digests), 32)
    starts = np.ascontiguousarray(seeds[:, :4]).view(np.uint16)
    made: Vectors = _table(width)[starts[:, 0]]
    made += _table(width)[starts[:, 1]]
    # 2**32 pairs of slices are too few to be distinct: these are the text's own
    own = seeds[:, 8:24].astype(np.float32)
    made[:, :16] = (own - 127.5) / 64
    made = made[:, :dimensions]
    made /= np.sqrt(np.einsum("td,td->t", made, made))[:, None]
    return made
