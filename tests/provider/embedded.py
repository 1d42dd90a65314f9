"""The body of an embeddings reply."""

from __future__ import annotations

import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray


@dataclass(frozen=True)
class Embedded:
    """Vectors [texts, dimensions], each with the index it claims."""

    model: str
    vectors: NDArray[Any]
    indexes: Sequence[int | None]
    tokens: int
    as_base64: bool

    def body(self) -> bytes:
        # joined by hand: a 16 MB reply is made in the time that json.dumps would take for its escapes
        items = []
        for index, vector in zip(self.indexes, self.vectors, strict=True):
            if self.as_base64:
                values = b'"%b"' % binascii.b2a_base64(np.ascontiguousarray(vector).data, newline=False)
            elif np.isfinite(vector).all():
                values = orjson.dumps(vector, option=orjson.OPT_SERIALIZE_NUMPY)
            else:  # NaN, which orjson would write as null
                values = json.dumps(vector.tolist()).encode()
            place = b"" if index is None else b'"index":%d,' % index
            items.append(b'{"object":"embedding",%b"embedding":%b}' % (place, values))
        usage = json.dumps({"prompt_tokens": self.tokens, "total_tokens": self.tokens})
        return b'{"object":"list","data":[%b],"model":%b,"usage":%b}' % (
            b",".join(items),
            json.dumps(self.model).encode(),
            usage.encode(),
        )
