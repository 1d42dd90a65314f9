"""`openai/<model>` embeddings, from OpenAI or any server that speaks its API.

The library sends; the reply's body is read here, because the library hands on reversed, short and broken replies as
they are. Vectors travel as base64 and never become Python floats, except from servers that know only lists.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from rag.errors import ProviderFailed, SettingsError
from rag.ports import Embedded, Floats
from rag.providers.check import BadReply, in_order, model_as_asked, not_one_for_all
from rag.providers.door import Door, Reply
from rag.providers.limits import Load
from rag.providers.models import MODELS
from rag.providers.settings import Allowed, ModelSettings, Surroundings
from rag.types import EmbeddingIdentity, RequestLimits, Role

MOST_DIMENSIONS: Final = 16_384
"""Of a model that has not answered yet."""
_UNREAL: Final = 10**9
BYTES_PER_NUMBER: Final = 64
"""A number on a line of its own in indented JSON; base64 takes 5.4."""


class OpenAIEmbedding:
    """An embedding model behind POST /embeddings."""

    def __init__(self, settings: ModelSettings, around: Surroundings) -> None:
        """Nothing is sent, imported or read from the environment yet. Raises SettingsError."""
        self._door = Door(settings, around)
        self._name = settings.name
        known = MODELS.get(settings.model) if not self._door.base_url else None
        if known and settings.dimensions is not None:
            _check_dimensions(settings, known.dimensions, can_shorten=known.can_shorten)
        self._asked = settings.dimensions
        self._width = settings.dimensions or (known.dimensions if known else None)
        self._encoding: Literal["base64", "float"] = "base64"
        self._own = own = settings.provider == "openai" and not self._door.base_url
        self.identity = EmbeddingIdentity(
            settings.provider, self._name, self._door.base_url, dimensions=settings.dimensions
        )
        per_text = known.tokens_per_text if known else 8192
        self._most = RequestLimits(2048 if own else 256, 300_000 if own else max(per_text, 8 * 8192), per_text)

    @property
    def limits(self) -> RequestLimits:
        """What one request should hold, as far as the limits of the account are known by now."""
        tokens, first = self._door.request_tokens(self._most.tokens)
        return replace(self._most, tokens=tokens, first_tokens=first)

    @property
    def told(self) -> Allowed:
        """What the server has told of the account's limits."""
        return self._door.budget.told

    async def embed(self, texts: Sequence[str], role: Role) -> Embedded:
        """Embed one request's worth of texts, none of them empty; vectors are float32 [n, d] as received.

        Both roles share one space. Passages that are under way when the caller is cancelled are answered all the same:
        see `seen_through`. Raises ProviderFailed, KeyMissing, UnknownModel.
        """
        if not texts or not all(texts):
            raise ProviderFailed.at(self.identity.name, "an empty text has no embedding", "leave empty texts out")
        tokens = self._door.estimate(texts)
        room = len(texts) * (self._width or MOST_DIMENSIONS) * BYTES_PER_NUMBER
        doubted: set[bytes] = set()
        return await self._door.send(
            Load(tokens), room, lambda: self._try(texts, tokens, doubted), kept=role == "passage"
        )

    async def close(self) -> None:
        """Close the connections of the running loop."""
        await self._door.close()

    async def _try(self, texts: Sequence[str], reserved: int, doubted: set[bytes]) -> Reply[Embedded]:
        import openai

        encoding = self._encoding
        try:
            raw = await self._request(texts, encoding)
        except openai.APIStatusError as error:
            # some compatible servers know no base64: they are asked once more, and in their way from then on
            told = error.response.text
            if encoding == "float" or self._own or not ("encoding_format" in told or "base64" in told):
                raise
            self._encoding = "float"
        else:
            return self._read(raw, texts, reserved, doubted)
        return self._read(await self._request(texts, "float"), texts, reserved, doubted)

    async def _request(self, texts: Sequence[str], encoding: Literal["base64", "float"]) -> Any:
        import openai

        return await self._door.client().embeddings.with_raw_response.create(
            model=self._name,
            input=list(texts),
            encoding_format=encoding,
            dimensions=openai.omit if self._asked is None else self._asked,
        )

    def _read(self, raw: Any, texts: Sequence[str], reserved: int, doubted: set[bytes]) -> Reply[Embedded]:
        payload = json_object(raw.http_response.content)
        vectors = vectors_of(payload, texts, self._name, self._width)
        # of two texts one vector may be right, where a model sees no difference: then it comes again
        if vectors.tobytes() not in doubted:
            doubted.add(vectors.tobytes())
            not_one_for_all(vectors, texts, 2)
        self._width = vectors.shape[1]
        billed_for = billed(payload)
        if billed_for:
            self._door.learn(texts, billed_for)
        return Reply(Embedded(vectors, billed_for or reserved), Load(billed_for) if billed_for else None, raw.headers)


def json_object(body: bytes) -> dict[str, Any]:
    """The body of a reply as a JSON object without an error inside. Raises BadReply."""
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError) as error:
        page = body.lstrip()[:1] == b"<"
        raise BadReply("a page of HTML" if page else f"no JSON ({type(error).__name__})") from None
    if not isinstance(payload, dict):
        raise BadReply("no JSON object")
    if payload.get("error"):
        raise BadReply(f"an error inside a 200: {payload['error']}")
    return payload


def count_of(holder: object, *names: str) -> int | None:
    """The first of these members of a usage object that is a whole number from zero on, and no more than any reply has."""
    if isinstance(holder, dict):
        for name in names:
            value = holder.get(name)
            if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _UNREAL:
                return value
    return None


def billed(payload: dict[str, Any]) -> int | None:
    """The tokens that a reply says were billed; None where it does not."""
    return count_of(payload.get("usage"), "prompt_tokens", "total_tokens") or None


def vectors_of(payload: dict[str, Any], texts: Sequence[str], name: str, width: int | None) -> Floats:
    """The vectors of these texts in a reply of the model of this name, checked: float32 [n, d]. Raises BadReply."""
    model_as_asked(payload.get("model"), name)
    vectors = _vectors(payload, len(texts), width)
    not_one_for_all(vectors, texts)
    return vectors


def _vectors(payload: dict[str, Any], count: int, width: int | None) -> Floats:
    data = payload.get("data")
    if not isinstance(data, list):
        raise BadReply("no list of vectors")
    items: list[tuple[int, NDArray[np.float32]]] = []
    for item in data:
        index = item.get("index") if isinstance(item, dict) else None
        if not isinstance(index, int) or isinstance(index, bool):
            raise BadReply("a vector without an index")
        items.append((index, vector_of(item.get("embedding"))))
    return in_order(items, count, width)


def vector_of(value: object) -> NDArray[np.float32]:
    """One vector of a reply, as it came: float32 [d]. Raises BadReply."""
    try:
        if isinstance(value, str):
            return np.frombuffer(base64.b64decode(value, validate=True), "<f4")
        if isinstance(value, list):
            with np.errstate(over="ignore"):
                return np.asarray(value, np.float32)
    except (binascii.Error, ValueError, TypeError, OverflowError) as error:
        raise BadReply(f"a vector that cannot be read: {error}") from None
    raise BadReply("an item without a vector")


def _check_dimensions(settings: ModelSettings, most: int, *, can_shorten: bool) -> None:
    asked = settings.dimensions or 0
    if asked == most or (can_shorten and 1 <= asked < most):
        return
    what = f"{settings.model} has no vectors of {asked} dimensions"
    remedy = f"write 1 to {most}" if can_shorten else f"leave dimensions out: it has {most}"
    raise SettingsError.at(f"embedding.dimensions = {asked}", what, remedy)
