"""Is this reply what was asked for? Every vector passes here before anyone may keep it."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rag.counted import counted
from rag.ports import Floats


class BadReply(ValueError):
    """A reply that says 200 and holds something else; worth asking again, a bounded number of times."""

    def __init__(self, message: str, *positions: int) -> None:
        super().__init__(message)
        self.positions = positions
        """Of the texts that it is about, counted from 0, where that is known."""


def in_order(items: Sequence[tuple[int, NDArray[np.float32]]], count: int, dimensions: int | None) -> Floats:
    """The vectors of one reply, ordered by their index.

    Parameters
    ----------
    items : (index, vector float32 [d]) as the server sent them, in any order
    count : how many texts were sent
    dimensions : what every vector must have; None takes the first one's

    Returns float32 [count, d]. Raises BadReply.
    """
    if len(items) != count:
        raise BadReply(f"{counted(len(items), 'vector')} for {counted(count, 'text')}")
    if count == 0:
        raise BadReply("nothing was asked")
    width = dimensions or len(items[0][1])
    out = np.empty((count, width), np.float32)
    seen = np.zeros(count, np.bool_)
    for index, vector in items:
        if not 0 <= index < count:
            raise BadReply(f"a vector with index {index} for {counted(count, 'text')}")
        if seen[index]:
            raise BadReply(f"two vectors with index {index}")
        if vector.shape != (width,):
            raise BadReply(f"a vector of {vector.size} dimensions where {width} are expected")
        seen[index] = True
        out[index] = vector
    return sound(out)


def sound(vectors: Floats) -> Floats:
    """The same vectors, when all are finite and none is zero. Raises BadReply.

    float32 [n, d]; the norm is summed in float64, where squares of float32 neither overflow nor vanish.
    """
    norms = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)
    if not np.isfinite(norms).all():
        row = int(np.flatnonzero(~np.isfinite(norms))[0])
        raise BadReply(f"the vector of text {row} is not finite", row)
    if not (norms > 0).all():
        row = int(np.flatnonzero(norms <= 0)[0])
        raise BadReply(f"the vector of text {row} is zero", row)
    return vectors


def not_one_for_all(vectors: Floats, texts: Sequence[str], least: int = 3) -> None:
    """Refuse the same vector for so many different texts, or more. Raises BadReply.

    Case and spaces do not count as different: models that fold them give equal vectors rightly.
    """
    if len(texts) < least or not (vectors == vectors[0]).all():
        return
    if len({"".join(text.split()).casefold() for text in texts}) >= least:
        raise BadReply(f"the same vector for {len(texts)} different texts")


def model_as_asked(answered: object, asked: str) -> None:
    """Refuse a reply that another model made. Raises BadReply.

    A server may spell the name its own way (`text-embedding-ada-002-v2`, `bge-m3:latest`, `/models/bge-m3.gguf` for
    `BAAI/bge-m3`): of two names reduced to letters and digits, one must contain the other. A reply without a name
    passes. The name is part of the cache key, so a server that ignores it must be asked by the name it answers with.
    """
    if not isinstance(answered, str) or not answered:
        return
    a, b = (re.sub(r"[^a-z0-9]", "", _stem(name)) for name in (answered, asked))
    if a not in b and b not in a:
        raise BadReply(f"the reply is by model {answered!r}, asked was {asked!r}")


def _stem(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2].lower().removesuffix(".gguf").removesuffix(":latest")
