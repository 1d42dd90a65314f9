"""A refusal, in the form of either provider."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.provider.headers import go_duration, retry
from tests.provider.http import Reply
from tests.provider.limiter import Refusal

_ANTHROPIC = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


@dataclass
class Refused(Exception):
    """What the provider says instead of an answer. Types and codes are OpenAI's; Anthropic's follow from the status."""

    status: int
    message: str
    type: str = "invalid_request_error"
    code: str | None = None
    param: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def reply(self, path: str) -> Reply:
        if path.endswith("/messages"):
            kind = _ANTHROPIC.get(self.status, "api_error")
            body = {"type": "error", "error": {"type": kind, "message": self.message}}
        else:
            body = {"error": self.plain()}
        return Reply(self.status, json.dumps(body).encode(), headers=dict(self.headers))

    def plain(self) -> dict[str, str | None]:
        return {"message": self.message, "type": self.type, "param": self.param, "code": self.code}


def wrong_key(key: str) -> Refused:
    if not key:
        return Refused(401, "You didn't provide an API key.")
    message = (
        f"Incorrect API key provided: {key}. You can find your API key at https://platform.openai.com/account/api-keys."
    )
    return Refused(401, message, code="invalid_api_key")


def no_access(model: str) -> Refused:
    return Refused(403, f"Project `proj_sim` does not have access to model `{model}`", code="model_not_found")


def unknown_model(model: object) -> Refused:
    return Refused(404, f"The model `{model}` does not exist or you do not have access to it.", code="model_not_found")


def missing(what: str, name: str) -> Refused:
    return Refused(404, f"No such {what}: {name}", param="id")


def wrong(message: str, param: str | None = None, code: str | None = None) -> Refused:
    return Refused(400, message, param=param, code=code)


def limited(model: str, refusal: Refusal, told: Mapping[str, str]) -> Refused:
    """A limit was met: `told` are the headers that speak of it."""
    short = {"requests": "requests per min (RPM)", "tokens": "tokens per min (TPM)"}
    what = short.get(refusal.dimension, "output tokens per min (OTPM)")
    counts = f"Limit {refusal.limit:.0f}, Used {refusal.used:.0f}, Requested {refusal.requested:.0f}."
    where = f"for {model} in organization org-sim on {what}: {counts}"
    if math.isinf(refusal.seconds):
        message = f"Request too large {where} The input or output tokens must be reduced in order to run successfully."
    else:
        message = f"Rate limit reached {where} Please try again in {go_duration(refusal.seconds)}."
    headers = {**told, **retry(refusal.seconds)}
    return Refused(429, message, refusal.dimension, "rate_limit_exceeded", headers=headers)
