"""OpenAI's Batch API for embeddings: files of requests, answered within 24 hours at half the price.

What is submitted is named by us, in the name of its file and in the batch's metadata. So it can be found again where a
reply was lost, or this process died before it could note the id: nothing is begun twice.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

from rag import storage
from rag.errors import UsageError
from rag.ports import BatchState, LineAnswer, Unanswered
from rag.providers import retry
from rag.providers.address import plain_url
from rag.providers.check import BadReply
from rag.providers.door import Door
from rag.providers.models import MODELS, PROVIDERS
from rag.providers.openai_api import (
    BYTES_PER_NUMBER,
    MOST_DIMENSIONS,
    billed,
    count_of,
    json_object,
    vector_of,
    vectors_of,
)
from rag.providers.prices import price
from rag.providers.settings import ModelSettings, Surroundings
from rag.types import EmbeddingIdentity, RequestLimits

T = TypeVar("T")
URL: Final = "/v1/embeddings"
MARK: Final = "ragline"
"""The key in a batch's metadata whose value is the name that we gave it."""
_LINE_TEXTS: Final = 64
"""A failed line costs at most so many texts another round, and what a line adds to its texts is under 1 % of them."""
_ENDED: Final = frozenset({"completed", "expired", "cancelled"})
_SHARE: Final = 0.5
"""Of what the same texts cost online, at OpenAI's own service."""
_QUEUE_FULL: Final = "token_limit_exceeded"
_HOPELESS: Final = ("key", "model", "request")
"""Kinds of refusals that another batch would meet again."""
_PAGE: Final = 100
_FILES: Final = 1_000
_LIST_ROOM: Final = 8 << 20
_SEARCH_SECONDS: Final = 300.0
_SLOWEST: Final = 100_000.0
"""Bytes a second that a file moves at least; it has so much time beyond that of any request."""
_LINE_ROOM: Final = 4_096
_ID: Final = re.compile(r"[A-Za-z0-9_.:-]{1,256}")
_CUSTOM_ID: Final = re.compile(rb'"custom_id"\s*:\s*"([^"\\]{1,128})"')


class OpenAIBatches:
    """POST /files and /batches of OpenAI's own service, or of a server that offers them."""

    def __init__(self, settings: ModelSettings, around: Surroundings) -> None:
        """Nothing is sent, imported or read from the environment yet. Raises SettingsError."""
        self._door = Door(settings, around)
        self._where = plain_url(settings.base_url or PROVIDERS[settings.provider].url)
        self.identity = EmbeddingIdentity(
            settings.provider, settings.name, self._door.base_url, dimensions=settings.dimensions
        )
        self._name = settings.name
        self._dimensions = settings.dimensions
        known = MODELS.get(settings.model) if not self._door.base_url else None
        self._width = settings.dimensions or (known.dimensions if known else None)
        per_text = known.tokens_per_text if known else 8192
        online = price(settings.model, settings.base_url, settings.prices)
        self.price = online.by_batch(None if self._door.base_url else _SHARE) if online else None
        self.texts_per_file = 50_000
        self.bytes_per_file = 200_000_000
        self.limits = RequestLimits(_LINE_TEXTS, 8 * per_text, per_text)

    async def close(self) -> None:
        """Close the connections of the running loop."""
        await self._door.close()

    # -- lines

    def line(self, custom_id: str, texts: Sequence[str]) -> bytes:
        """One request as a line of a file. ASCII: some readers of lines break them at more than line ends."""
        body: dict[str, Any] = {"model": self._name, "input": list(texts), "encoding_format": "base64"}
        if self._dimensions is not None:
            body["dimensions"] = self._dimensions
        asked = {"custom_id": custom_id, "method": "POST", "url": URL, "body": body}
        return json.dumps(asked, separators=(",", ":")).encode("ascii") + b"\n"

    def texts(self, line: bytes) -> list[str]:
        """The texts that `line` was given."""
        return list(json.loads(line)["body"]["input"])

    def answers(
        self, files: Sequence[Path], texts: Callable[[str], Sequence[str] | None], width: int | None
    ) -> Iterator[LineAnswer]:
        """What came of each line, in the order of a batch's files, every vector checked.

        `texts` gives those of a line by its custom_id, None for a line that was never asked: it is passed over. A line
        that is answered twice has no answer, for nobody knows which is right. `width` is that of the vectors which the
        model has given before; where nothing tells it, it is what most lines have.
        """
        ids = Counter(name for path in files for _, name in _lines(path))
        self._width = self._width or width or _commonest_width(files)
        for path in files:
            for line, name in _lines(path):
                asked = texts(name)
                if asked is None or not ids[name]:
                    continue
                if ids[name] > 1:
                    ids[name] = 0
                    yield LineAnswer(name, reason="wrong", message="the line was answered twice")
                else:
                    yield self._answer(name, line, asked)

    def _answer(self, name: str, line: bytes, texts: Sequence[str]) -> LineAnswer:
        tokens = 0
        try:
            answered = _object(line)
            response = answered.get("response")
            if not isinstance(response, dict) or response.get("status_code") != 200:
                return self._failed(name, response, answered.get("error"), len(texts))
            body = response.get("body")
            if not isinstance(body, dict) or body.get("error"):
                raise BadReply(f"no embeddings in a line that says 200: {self._door.without_key(str(body))[:300]}")  # noqa: TRY301
            tokens = billed(body) or 0
            vectors = vectors_of(body, texts, self._name, self._width)
        except BadReply as error:
            return LineAnswer(name, tokens=tokens, reason="wrong", message=self._door.without_key(str(error)))
        return LineAnswer(name, vectors, tokens)

    def _failed(self, name: str, response: Any, error: Any, texts: int) -> LineAnswer:
        """The answer of a line that the provider did not do; a request that was never made has an error beside it."""
        if not isinstance(response, dict):
            code = str(error.get("code")) if isinstance(error, dict) else ""
            message = str(error.get("message")) if isinstance(error, dict) else "a line without a response"
            reason: Unanswered = "expired" if code in ("batch_expired", "batch_cancelled") else "failed"
            return LineAnswer(name, reason=reason, message=self._door.without_key(message))
        status, body = response.get("status_code"), response.get("body")
        failure = retry.of_status(status if isinstance(status, int) else 500, {}, json.dumps(body), datetime.now(UTC))
        message = self._door.without_key(failure.message)
        if failure.rule.kind == "input":
            places = tuple(place for place in failure.positions if place < texts)
            return LineAnswer(name, reason="refused", message=message, positions=places)
        kind: Unanswered = "hopeless" if failure.rule.kind in _HOPELESS else "failed"
        return LineAnswer(name, reason=kind, message=message)

    # -- what the server does

    async def upload(self, path: Path, name: str, *, again: bool) -> str:
        """Upload a file under a name, and give its id. With `again` it may be there, and is looked for first."""
        size = _size(path)

        async def make() -> str:
            with path.open("rb") as file:
                raw = await self._door.client().files.with_raw_response.create(file=(name, file), purpose="batch")
            return _id(json_object(raw.http_response.content))

        return await self._once(lambda: self._file(name, size), make, size / _SLOWEST, again=again)

    async def create(self, file_id: str, name: str, since: datetime) -> str | None:
        """Begin a batch under a name, and give its id; None where the server has not got the file.

        A try whose reply was lost may have begun it since then: it is looked for, and not begun twice.
        """
        import openai

        async def make() -> str | None:
            try:
                raw = await self._door.client().batches.with_raw_response.create(
                    input_file_id=file_id, endpoint=URL, completion_window="24h", metadata={MARK: name}
                )
            except (openai.NotFoundError, openai.BadRequestError) as error:
                if re.search(r"find file|No such File", error.response.text):
                    return None
                raise
            return _id(json_object(raw.http_response.content))

        return await self._once(lambda: self._batch(name, since), make, _SEARCH_SECONDS)

    async def find(self, name: str, since: datetime) -> str | None:
        """The id of the batch of this name that has begun since then, and was not refused as a whole."""
        return await self._ask(lambda: self._batch(name, since), _LIST_ROOM, _SEARCH_SECONDS)

    async def look(self, batch_id: str) -> BatchState | None:
        """How a batch stands; None where the server does not know it."""
        import openai

        async def call() -> BatchState | None:
            try:
                raw = await self._door.client().batches.with_raw_response.retrieve(batch_id)
            except openai.NotFoundError:
                return None
            return _state(json_object(raw.http_response.content), self._door.without_key)

        return await self._ask(call)

    async def fetch(self, file_id: str, path: Path, texts: int) -> bool:
        """Keep a file that tells of so many texts; False where the server does not know it."""
        import openai

        room = texts * ((self._width or MOST_DIMENSIONS) * BYTES_PER_NUMBER + _LINE_ROOM)

        async def call() -> bool:
            try:
                async with self._door.client().files.with_streaming_response.content(file_id) as reply:
                    with storage.create(path, durable=False) as file:
                        async for block in reply.iter_bytes(1 << 20):
                            file.write(block)
            except openai.NotFoundError:
                return False
            for _ in _lines(path):  # half a file is found out while it can be asked for again
                pass
            return True

        return await self._ask(call, room, room / _SLOWEST)

    async def remove(self, file_id: str) -> None:
        """Remove a file; one that is gone is fine."""
        import openai

        async def call() -> None:
            try:
                raw = await self._door.client().files.with_raw_response.delete(file_id)
            except openai.NotFoundError:
                return
            json_object(raw.http_response.content)

        await self._ask(call)

    # -- what these are made of

    async def _once(
        self,
        find: Callable[[], Awaitable[str | None]],
        make: Callable[[], Awaitable[T]],
        seconds: float,
        *,
        again: bool = False,
    ) -> str | T:
        """Make something, and give its id. Where it may have been made, it is looked for and not made twice.

        So a try whose reply was lost is never simply repeated.
        """
        asked = again

        async def call() -> str | T:
            nonlocal asked
            if asked and (found := await find()):
                return found
            asked = True
            return await make()

        return await self._ask(call, _LIST_ROOM, seconds)

    async def _file(self, name: str, size: int) -> str | None:
        files = self._door.client().files.with_raw_response
        raw = await files.list(purpose="batch", order="desc", limit=_FILES)
        found = (file for file in _data(raw) if file.get("filename") == name and file.get("bytes") == size)
        return next(map(_id, found), None)

    async def _batch(self, name: str, since: datetime) -> str | None:
        import openai

        batches = self._door.client().batches.with_raw_response
        after: str | None = None
        while True:
            raw = await batches.list(limit=_PAGE, after=openai.omit if after is None else after)
            page = _data(raw)
            for batch in page:
                metadata = batch.get("metadata")
                if isinstance(metadata, dict) and metadata.get(MARK) == name and not _state(batch).refused:
                    return _id(batch)
            # the newest come first, and two clocks do not differ by a week
            created = page[-1].get("created_at") if page else None
            is_older = isinstance(created, int | float) and created < since.timestamp() - 7 * 86_400
            has_more = json_object(raw.http_response.content).get("has_more", len(page) >= _PAGE)
            if not page or not has_more or is_older or _id(page[-1]) == after:
                return None
            after = _id(page[-1])

    async def _ask(self, call: Callable[[], Awaitable[T]], room: int = 0, seconds: float = 0.0) -> T:
        """Through the door. A server without these addresses is one clear sentence. Raises UsageError, ProviderFailed."""
        import openai

        missing = 0

        async def known() -> T | None:
            nonlocal missing
            try:
                return await call()
            except openai.APIStatusError as error:
                if error.status_code not in (404, 405, 501) or not self._door.base_url:
                    raise
                missing = error.status_code
                return None

        found = await self._door.ask(room, seconds, known)
        if missing:
            what = f"{self._where} offers no batches: it answers {missing} where /files and /batches should be"
            raise UsageError.at("--batch", what, "run `ragline index` without --batch")
        return found  # type: ignore[return-value]  # None only where something is missing, or T allows it


def _size(path: Path) -> int:
    return path.stat().st_size


def _lines(path: Path) -> Iterator[tuple[bytes, str]]:
    """The lines of an output or error file with their custom_ids. Raises BadReply for what is no such line."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            found = _CUSTOM_ID.search(line)
            if found is None or not line.rstrip().endswith(b"}"):
                page = "a page of HTML" if line.lstrip()[:1] == b"<" else "no answer of a batch"
                raise BadReply(f"line {number} of the file is {page}")
            yield line, found[1].decode("ascii", "replace")


def _commonest_width(files: Sequence[Path]) -> int | None:
    """The dimensions that the first vector of most lines has; None where no line has any."""
    widths: Counter[int] = Counter()
    for path in files:
        for line, _ in _lines(path):
            with contextlib.suppress(BadReply, KeyError, IndexError, TypeError):
                widths[vector_of(_object(line)["response"]["body"]["data"][0]["embedding"]).size] += 1
    return widths.most_common(1)[0][0] if widths else None


def _object(line: bytes) -> dict[str, Any]:
    """A line of a file, which may well tell of an error. Raises BadReply."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise BadReply("a line that is no JSON object")
    return found


def _data(raw: Any) -> list[dict[str, Any]]:
    """The items of one page of a list."""
    data = json_object(raw.http_response.content).get("data")
    if not isinstance(data, list) or not all(isinstance(item, dict) for item in data):
        raise BadReply("no list")
    return data


def _id(item: dict[str, Any]) -> str:
    """An id, which goes into addresses."""
    found = item.get("id")
    if not isinstance(found, str) or not _ID.fullmatch(found):
        raise BadReply("it has no id")
    return found


def _state(batch: dict[str, Any], hide: Callable[[str], str] = str) -> BatchState:
    status = batch.get("status")
    if not isinstance(status, str):
        raise BadReply("a batch without a status")
    files = tuple(_id({"id": batch[name]}) for name in ("output_file_id", "error_file_id") if batch.get(name))
    counts, errors = batch.get("request_counts"), batch.get("errors")
    complaints = [
        item for item in (errors.get("data") or [] if isinstance(errors, dict) else []) if isinstance(item, dict)
    ]
    queue = next((item for item in complaints if item.get("code") == _QUEUE_FULL), None)
    told = re.search(r"Limit: ([\d,]+)", str(queue.get("message"))) if queue else None
    return BatchState(
        status=status[:40],
        ended=status in _ENDED or (status == "failed" and bool(files)),
        refused=status == "failed" and not files,
        files=files,
        done=count_of(counts, "completed"),
        tokens=count_of(batch.get("usage"), "input_tokens", "total_tokens"),
        expires_at=expires if isinstance(expires := batch.get("expires_at"), int) else None,
        reasons=tuple(hide(_complaint(item)) for item in complaints[:5]),
        queue_full=queue is not None,
        queue_tokens=int(told[1].replace(",", "")) if told else None,
    )


def _complaint(item: dict[str, Any]) -> str:
    where = f" (line {item['line']})" if isinstance(item.get("line"), int) else ""
    return f"{item.get('message') or item.get('code') or 'no reason given'}{where}"[:500]
