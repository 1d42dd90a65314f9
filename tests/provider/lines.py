"""The lines of a batch: read and found right or wrong, then done, in an order of their own."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.provider.chat import chat
from tests.provider.embeddings import embeddings
from tests.provider.errors import Refused
from tests.provider.faults import DAMAGES, INSTEAD, Asked
from tests.provider.files import File
from tests.provider.http import Reply
from tests.provider.work import House, Work

_WORK = {"/v1/embeddings": embeddings, "/v1/chat/completions": chat}


@dataclass(frozen=True)
class Terms:
    """How batches go, and what they may hold."""

    seconds: Sequence[float] = (0.05, 0.2, 0.05)
    """Of validating, in_progress and finalizing."""
    max_bytes: int = 200_000_000
    max_requests: int = 50_000
    max_inputs: int = 50_000
    enqueued_tokens: int = 1_000_000_000_000
    fail: Sequence[str] = ()
    """The custom_ids of lines that end with an error of the server."""
    fail_every: int = 0
    """And each n-th line of a file."""
    refuse: str = ""
    """Lines with a text that holds this are refused, as the fault `refusal` says."""
    refusal: str = "400_nameless"
    damage: str = ""
    """What vectors hold instead of what was asked for, in each line whose text holds `damaged`; see faults.DAMAGES."""
    damaged: str = ""
    repeat: str = ""
    """Lines with a text that holds this are answered twice."""
    expire: float | None = None
    """The share of the lines that is done when the window closes; None: all, in time."""
    seed: int = 0

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Terms:
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(given) - known):
            raise ValueError(f"batches have no {unknown}; they have {sorted(known)}")
        return cls(**given)


@dataclass(frozen=True)
class Line:
    custom_id: str
    work: Work | Refused
    model: str

    @property
    def tokens(self) -> int:
        return self.work.tokens if isinstance(self.work, Work) else 0

    @property
    def output_tokens(self) -> int:
        return self.work.output_tokens if isinstance(self.work, Work) else 0

    @property
    def digests(self) -> Sequence[bytes]:
        return self.work.digests if isinstance(self.work, Work) else ()

    def holders(self, part: str) -> list[int]:
        """The places of the texts that hold this."""
        inputs = self.work.inputs if isinstance(self.work, Work) else ()
        return [place for place, text in enumerate(inputs) if part in text]


@dataclass
class Results:
    """The files are drafts: nobody sees them yet."""

    output: File
    error: File
    done: list[Line] = field(default_factory=list)
    failed: int = 0


def understood(content: bytes, endpoint: str, terms: Terms, house: House) -> tuple[list[Line], list[dict[str, Any]]]:
    """The lines of a file, and what is wrong with it as a whole: then nothing of it is done."""
    lines: list[Line] = []
    wrong: list[dict[str, Any]] = []
    seen: set[str] = set()
    inputs = 0

    def complain(code: str, message: str, number: int | None = None) -> None:
        wrong.append({"code": code, "message": message, "param": None, "line": number})

    for number, raw in enumerate(content.splitlines(), 1):
        if not raw.strip():
            continue
        try:
            asked = json.loads(raw)
        except ValueError:
            complain("invalid_json_line", "This line is not parseable as valid JSON.", number)
            continue
        if not isinstance(asked, dict) or not isinstance(asked.get("body"), dict):
            complain("missing_required_parameter", "This line has no body.", number)
            continue
        name = asked.get("custom_id")
        if not isinstance(name, str) or not name:
            complain("missing_required_parameter", "The custom_id is missing.", number)
            continue
        if name in seen:
            complain("duplicate_custom_id", f"The custom_id '{name}' is not unique.", number)
        seen.add(name)
        if asked.get("method") != "POST":
            complain("invalid_method", "The method must be POST.", number)
        if asked.get("url") != endpoint:
            complain("mismatched_endpoint", f"The url '{asked.get('url')}' is not the batch's.", number)
        body = asked["body"]
        given = body.get("input")
        inputs += len(given) if isinstance(given, list) and not all(isinstance(item, int) for item in given) else 1
        work: Work | Refused
        try:
            work = _WORK[endpoint](body, house)
        except Refused as refused:
            work = refused
        lines.append(Line(name, work, str(body.get("model"))))
    if not lines and not wrong:
        complain("empty_file", "The batch input file is empty.")
    if len(lines) > terms.max_requests:
        complain("too_many_requests", f"The file has {len(lines)} requests; the maximum is {terms.max_requests}.")
    if endpoint == "/v1/embeddings" and inputs > terms.max_inputs:
        complain("too_many_inputs", f"The file has {inputs} inputs; the maximum is {terms.max_inputs}.")
    if len({line.model for line in lines}) > 1:
        complain("mismatched_model", "All requests of a batch must be for one model.")
    return lines, wrong[:100]


def execute(lines: Sequence[Line], share: float, end: str, terms: Terms, results: Results) -> None:
    """Do a share of the lines, in shuffled order; the rest is named in the error file if the window has closed."""
    places = list(range(len(lines)))
    random.Random(terms.seed).shuffle(places)
    count = round(share * len(lines))
    for rank, place in enumerate(places):
        line = lines[place]
        head = b'{"id":"batch_req_sim%d","custom_id":%b,' % (place, json.dumps(line.custom_id).encode())
        if rank >= count:
            if end == "expired":
                results.error.write(head + _EXPIRED)
                results.failed += 1
            continue
        refused: Refused | Reply | None = None
        if line.custom_id in terms.fail or (terms.fail_every and (place + 1) % terms.fail_every == 0):
            refused = Refused(500, "The server had an error while processing your request.", "server_error")
        elif isinstance(line.work, Refused):
            refused = line.work
        elif terms.refuse and (held := line.holders(terms.refuse)):
            refused = INSTEAD[terms.refusal](Asked("/v1/embeddings", at=held[0]))
        if refused:
            assert isinstance(refused, Refused)
            results.error.write(
                head + _response(refused.status, place, json.dumps({"error": refused.plain()}).encode())
            )
            results.failed += 1
        else:
            assert isinstance(line.work, Work)
            body = line.work.answer().body
            if terms.damage and line.work.embedded and line.holders(terms.damaged):
                body = DAMAGES[terms.damage](line.work.embedded()).body()
            for _ in range(2 if terms.repeat and line.holders(terms.repeat) else 1):
                results.output.write(head + _response(200, place, body))
            results.done.append(line)


_EXPIRED = (
    b'"response":null,"error":{"code":"batch_expired",'
    b'"message":"This request could not be executed before the completion window expired."}}\n'
)


def _response(status: int, place: int, body: bytes) -> bytes:
    return b'"response":{"status_code":%d,"request_id":"req_sim_b%d","body":%b},"error":null}\n' % (status, place, body)
