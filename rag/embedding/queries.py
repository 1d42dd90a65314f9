"""Vectors of questions, through the cache: one that was asked before is not paid for again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rag.digest import text_keys
from rag.embedding.cache import VectorCache
from rag.errors import StorageFailed
from rag.ports import EmbeddingModel, Floats


async def query_vectors(
    model: EmbeddingModel, cache: VectorCache, questions: Sequence[str], notes: list[str]
) -> Floats:
    """The vectors of questions, float32 [n, d]; each that the cache lacks is sent once, and kept.

    A store that cannot keep an answer leaves a note, for the answer is paid. Raises ProviderFailed, KeyMissing,
    UnknownModel, Damaged.
    """
    keys = text_keys(model.identity, "query", questions)
    found = cache.lookup(keys)
    have = np.flatnonzero(found.hit)
    vectors = dict(zip(map(bytes, keys[have]), found.gather(have), strict=True))
    first = {key.tobytes(): row for row, key in reversed([*enumerate(keys)])}
    missing = sorted(row for row in first.values() if not found.hit[row])
    for start in range(0, len(missing), model.limits.texts):
        part = missing[start : start + model.limits.texts]
        answer = await model.embed([questions[row] for row in part], "query")
        vectors.update(zip(map(bytes, keys[part]), answer.vectors, strict=True))
        try:
            # what each was billed is known for the request only
            cache.add(keys[part], answer.vectors, np.full(len(part), answer.tokens // len(part), np.uint32))
        except StorageFailed as error:
            notes.append(f"the question's vector is paid and cannot be kept: {error.message}")
    return np.stack([vectors[bytes(key)] for key in keys])
