"""What can go wrong, by name. `INSTEAD` of the work nothing is charged or billed; what comes after it is paid for."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from email.utils import formatdate

import numpy as np

from tests.provider.embedded import Embedded
from tests.provider.errors import Refused, no_access, unknown_model, wrong_key
from tests.provider.http import Reply


@dataclass(frozen=True)
class Asked:
    """What a refusal may quote."""

    path: str
    key: str = ""
    model: str = ""
    at: int = 0
    """The input that it complains of."""


Instead = Callable[[Asked], Refused | Reply]
Damage = Callable[[Embedded], Embedded]


def _limited(headers: Callable[[], Mapping[str, str]]) -> Instead:
    message = "Rate limit reached for {} in organization org-sim on requests per min (RPM). Please try again in 1s."
    return lambda asked: Refused(429, message.format(asked.model), "requests", "rate_limit_exceeded", headers=headers())


def _after(value: str) -> Instead:
    return _limited(lambda: {"retry-after": value})


def _quota(asked: Asked) -> Refused:
    message = "You exceeded your current quota, please check your plan and billing details."
    return Refused(429, message, "insufficient_quota", "insufficient_quota")


def _broken(status: int, message: str) -> Instead:
    return lambda asked: Refused(status, message, "server_error")


def _context(asked: Asked) -> Refused:
    message = f"Invalid 'input[{asked.at}]': maximum context length is 8192 tokens."
    return Refused(400, message, param="input", code=None)


def _nameless(asked: Asked) -> Refused:
    return Refused(400, "This request was refused: its content is not acceptable.", param="input")


def _page(status: int, kind: str, body: bytes) -> Instead:
    return lambda asked: Reply(status, body, headers={"content-type": kind})


INSTEAD: Mapping[str, Instead] = {
    "429": _limited(dict),
    "429_after_0": _after("0"),
    "429_after_1": _after("1"),
    "429_after_0.5": _after("0.5"),
    "429_after_date": _limited(lambda: {"retry-after": formatdate(time.time() + 2, usegmt=True)}),
    "429_after_3600": _after("3600"),
    "429_after_garbage": _after("soon, we hope"),
    "429_quota": _quota,
    "500": _broken(500, "The server had an error while processing your request."),
    "502": _page(502, "text/html", b"<html><head><title>502 Bad Gateway</title></head></html>"),
    "503": _broken(503, "The engine is currently overloaded, please try again later."),
    "529": _broken(529, "Overloaded"),
    "400_context": _context,
    "400_nameless": _nameless,
    "401": lambda asked: wrong_key(asked.key),
    "403": lambda asked: no_access(asked.model),
    "404": lambda asked: unknown_model(asked.model),
    "408": _broken(408, "Request timed out."),
    "409": _broken(409, "The resource was updated by another process."),
    "refused": lambda asked: Reply(delivery="away"),
    "reset": lambda asked: Reply(delivery="reset"),
    "hang": lambda asked: Reply(delivery="hang"),
    "html": _page(200, "text/html", b"<html><body>Welcome to the proxy</body></html>"),
    "empty_object": _page(200, "application/json", b"{}"),
    "error_inside": _page(
        200, "application/json", b'{"error": {"message": "upstream failed", "type": "server_error"}}'
    ),
}

DELIVERIES: Mapping[str, str] = {
    "reset_late": "reset_late",
    "half": "half",
    "drip": "drip",
    "lost": "nothing",
    "repeated": "twice",
}
"""The work is done and billed; then this happens to its reply."""


def _at(value: float) -> Damage:
    """One number of the vector in the middle becomes this."""

    def damage(reply: Embedded) -> Embedded:
        vectors = reply.vectors.copy()
        vectors[len(vectors) // 2, 0] = value
        return replace(reply, vectors=vectors)

    return damage


def _zero(reply: Embedded) -> Embedded:
    vectors = reply.vectors.copy()
    vectors[len(vectors) // 2] = 0
    return replace(reply, vectors=vectors)


def _taken(reply: Embedded, order: list[int]) -> Embedded:
    return replace(reply, vectors=reply.vectors[order], indexes=[reply.indexes[place] for place in order])


def _last_index(reply: Embedded, index: int | None) -> Embedded:
    return replace(reply, indexes=[*reply.indexes[:-1], index])


DAMAGES: Mapping[str, Damage] = {
    "reversed": lambda reply: _taken(reply, list(range(len(reply.indexes)))[::-1]),
    "short": lambda reply: _taken(reply, list(range(len(reply.indexes) - 1))),
    "long": lambda reply: replace(
        _taken(reply, [*range(len(reply.indexes)), 0]), indexes=[*reply.indexes, len(reply.indexes)]
    ),
    "duplicate": lambda reply: _last_index(reply, 0) if len(reply.indexes) > 1 else _taken(reply, [0, 0]),
    "missing_index": lambda reply: _last_index(reply, None),
    "nan": _at(float("nan")),
    "inf": _at(float("inf")),
    "zero": _zero,
    "float16": lambda reply: replace(reply, vectors=reply.vectors.astype(np.float16)),
    "wrong_dimension": lambda reply: replace(reply, vectors=reply.vectors[:, :-1]),
    "other_model": lambda reply: replace(reply, model="text-embedding-somebody-else"),
    "same_vector": lambda reply: replace(reply, vectors=reply.vectors[[0] * len(reply.indexes)]),
}
"""What an embeddings reply may hold instead of what was asked for; billed."""

NAMES = frozenset([*INSTEAD, *DELIVERIES, *DAMAGES])
