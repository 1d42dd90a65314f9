"""Chat over real HTTP: whole, as it comes, cut, refused, broken; retried only before the first piece."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from random import Random
from typing import Any

import pytest

from rag.errors import ProviderFailed, RaglineError
from rag.providers import door
from rag.providers.anthropic_api import AnthropicChat
from rag.providers.models import Price
from rag.providers.openai_chat import OpenAIChat
from rag.providers.settings import ModelSettings, Surroundings
from rag.types import Completion, Message
from tests.servers.faults import Answer, Script, Served, refusal
from tests.servers.virtual import VirtualClock

KEY = "sk-canary-5f2e9c71d04b"
ASKED = [Message("system", "Be brief."), Message("user", "When does it leave?")]
SHARED = {"prices": {"openai/toy": Price(1.0, 10.0), "anthropic/toy": Price(2.0, 20.0)}, "timeout": 20.0}


def _json(body: dict[str, Any]) -> Answer:
    return Answer(200, json.dumps(body).encode(), {"content-type": "application/json"})


def _events(events: Sequence[dict[str, Any]], end: str = "", *, cut: bool = False) -> Answer:
    lines = [f"event: {event['type']}\n" if "type" in event else "" for event in events]
    body = "".join(f"{line}data: {json.dumps(event)}\n\n" for line, event in zip(lines, events, strict=True)) + end
    return Answer(200, body.encode(), {"content-type": "text/event-stream"}, cut=cut)


def _openai_chunk(content: str | None = None, finish: str | None = None, **delta: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": content, **delta}, "finish_reason": finish}
    return {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "toy-1", "choices": [choice]}


def _openai_whole(text: str | None = "At six.", finish: str = "stop", **message: Any) -> Answer:
    choice = {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": finish}
    return _json({"model": "toy-1", "choices": [choice], "usage": {"prompt_tokens": 11, "completion_tokens": 3}})


_OPENAI_USAGE = {
    **_openai_chunk(),
    "choices": [],
    "usage": {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14},
}
OPENAI_STREAM = [_openai_chunk("At "), _openai_chunk("six."), _openai_chunk(None, "stop"), _OPENAI_USAGE]


def _anthropic_whole(text: str = "At six.", stop: str = "end_turn") -> Answer:
    content = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": text}] if text else []
    usage = {"input_tokens": 7, "cache_read_input_tokens": 4, "output_tokens": 3}
    return _json(
        {
            "type": "message",
            "role": "assistant",
            "model": "toy-1",
            "content": content,
            "stop_reason": stop,
            "usage": usage,
        }
    )


def _anthropic_stream(*pieces: str, stop: str = "end_turn") -> list[dict[str, Any]]:
    message = {"id": "1", "type": "message", "role": "assistant", "model": "toy-1", "content": []}
    deltas = [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}} for piece in pieces
    ]
    return [
        {"type": "message_start", "message": {**message, "usage": {"input_tokens": 11, "output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *deltas,
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": stop}, "usage": {"output_tokens": 3}},
        {"type": "message_stop"},
    ]


class Run:
    """One chat model against the server, on a clock of its own."""

    def __init__(self, served: Served, provider: str, **settings: Any) -> None:
        self.clock = VirtualClock()
        around = Surroundings(self.clock, {"OPENAI_API_KEY": KEY, "ANTHROPIC_API_KEY": KEY}, Random(7))
        url = served.url if provider == "openai" else served.url.removesuffix("/v1")
        asked = ModelSettings(f"{provider}/toy", url, f"{provider.upper()}_API_KEY", **{**SHARED, **settings})
        self.model = OpenAIChat(asked, around) if provider == "openai" else AnthropicChat(asked, around)

    def complete(self) -> Completion:
        async def work() -> Completion:
            try:
                return await self.model.complete(ASKED, 50)
            finally:
                await self.model.close()

        return asyncio.run(work())

    def stream(self) -> list[str | Completion]:
        self.pieces: list[str | Completion] = []

        async def work() -> None:
            try:
                async for piece in self.model.stream(ASKED, 50):
                    self.pieces.append(piece)
            finally:
                await self.model.close()

        asyncio.run(work())
        return self.pieces


WHOLE = {"openai": _openai_whole(), "anthropic": _anthropic_whole()}
STREAM = {"openai": _events(OPENAI_STREAM, "data: [DONE]\n\n"), "anthropic": _events(_anthropic_stream("At ", "six."))}
both = pytest.mark.parametrize("provider", ["openai", "anthropic"])


@both
def test_a_whole_reply_comes_with_its_model_its_tokens_and_its_price(provider: str, served: Served) -> None:
    served.script = [WHOLE[provider]]
    got = Run(served, provider).complete()
    assert (got.text, got.model, got.finish_reason) == ("At six.", "toy-1", "stop")
    assert (got.usage.requests, got.usage.input_tokens, got.usage.output_tokens) == (1, 11, 3)
    dollars = SHARED["prices"][f"{provider}/toy"]  # type: ignore[index]
    assert got.usage.usd == pytest.approx(dollars.usd(11, 3))


@both
def test_pieces_come_first_and_the_completion_last(provider: str, served: Served) -> None:
    served.script = [STREAM[provider], WHOLE[provider]]
    run = Run(served, provider)
    *pieces, last = run.stream()
    assert pieces == ["At ", "six."]
    assert last == Run(served, provider).complete()


def test_each_provider_is_asked_in_its_own_words(served: Served) -> None:
    served.script = [WHOLE["openai"], STREAM["openai"], WHOLE["anthropic"]]
    Run(served, "openai").complete()
    Run(served, "openai").stream()
    Run(served, "anthropic").complete()
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "When does it leave?"}]
    assert served.asked[0] == {"model": "toy", "messages": turns, "max_tokens": 50}
    assert served.asked[1] == {**served.asked[0], "stream": True, "stream_options": {"include_usage": True}}
    assert served.asked[2] == {"model": "toy", "system": "Be brief.", "messages": turns[1:], "max_tokens": 50}
    assert KEY in served.headers[2].get("x-api-key", "") + served.headers[2].get("authorization", "")


@pytest.mark.parametrize(
    ("provider", "whole", "streamed", "finish", "text"),
    [
        ("openai", _openai_whole("At", "length"), [_openai_chunk("At"), _openai_chunk(None, "length")], "length", "At"),
        (
            "openai",
            _openai_whole(None, "content_filter"),
            [_openai_chunk(None, "content_filter")],
            "content_filter",
            "",
        ),
        (
            "openai",
            _openai_whole(None, refusal="I cannot."),
            [_openai_chunk(None, refusal="I cannot."), _openai_chunk(None, "stop")],
            "refusal",
            "I cannot.",
        ),
        ("anthropic", _anthropic_whole("At", "max_tokens"), _anthropic_stream("At", stop="max_tokens"), "length", "At"),
        ("anthropic", _anthropic_whole("", "refusal"), _anthropic_stream(stop="refusal"), "refusal", ""),
        (
            "anthropic",
            _anthropic_whole("x", "stop_sequence"),
            _anthropic_stream("x", stop="stop_sequence"),
            "stop",
            "x",
        ),
    ],
)
def test_a_cut_or_refused_reply_says_so(
    provider: str, whole: Answer, streamed: list[dict[str, Any]], finish: str, text: str, served: Served
) -> None:
    served.script = [whole, _events(streamed)]
    got = Run(served, provider).complete()
    last = Run(served, provider).stream()[-1]
    assert isinstance(last, Completion)
    assert (got.finish_reason, got.text) == (last.finish_reason, last.text) == (finish, text)


def test_tokens_that_a_server_does_not_tell_leave_the_price_unknown(served: Served) -> None:
    served.script = [_events(OPENAI_STREAM[:-1])]
    last = Run(served, "openai").stream()[-1]
    assert isinstance(last, Completion)
    assert last.usage.usd is None
    served.script = [WHOLE["openai"]]
    assert Run(served, "openai", prices={}).complete().usage.usd is None


HTML = Answer(200, b"<html>hello</html>", {"content-type": "text/html"})
BROKEN: dict[str, Script] = {
    "500": refusal(500),
    "429": refusal(429, headers={"retry-after": "3"}),
    "HTML": HTML,
    "half a body": Answer(**{**vars(WHOLE["openai"]), "cut": True}),
    "an empty object": _json({}),
}


@both
@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_reply_is_asked_for_again(provider: str, kind: str, served: Served) -> None:
    served.script = [BROKEN[kind], WHOLE[provider]]
    assert Run(served, provider).complete().text == "At six."
    served.script = [BROKEN[kind], STREAM[provider]]
    assert Run(served, provider).stream()[:-1] == ["At ", "six."]
    assert len(served.asked) == 4


@both
def test_a_stream_that_breaks_after_its_first_piece_fails_and_is_not_repeated(provider: str, served: Served) -> None:
    start = OPENAI_STREAM[:1] if provider == "openai" else _anthropic_stream("At ", "six.")[:3]
    overloaded = {"error": {"message": "overloaded"}} if provider == "openai" else None
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "overloaded"}}
    for body in (
        _events(start),
        _events([*start, *(start[-1:] * 200)], cut=True),
        _events([*start, overloaded or error]),
        _events(start, "event: content_block_delta\ndata: {broken\n\n"),
    ):
        served.script, served.asked = [body, STREAM[provider]], []
        run = Run(served, provider)
        with pytest.raises(ProviderFailed):
            run.stream()
        assert run.pieces[0] == "At "
        assert not any(isinstance(piece, Completion) for piece in run.pieces)
        assert len(served.asked) == 1


@both
def test_a_stream_that_is_abandoned_frees_its_place(provider: str, served: Served) -> None:
    served.script = [STREAM[provider], WHOLE[provider]]
    run = Run(served, provider, concurrency=1)

    async def work() -> str:
        pieces = run.model.stream(ASKED, 50)
        async for piece in pieces:
            assert piece == "At "
            break
        await pieces.aclose()  # type: ignore[attr-defined]
        got = await run.model.complete(ASKED, 50)
        await run.model.close()
        return got.text

    assert asyncio.run(work()) == "At six."


@both
@pytest.mark.parametrize(("status", "exit_code"), [(401, 2), (403, 2), (404, 2), (400, 1), (500, 1)])
def test_a_refusal_ends_with_its_exit_code_and_without_the_key(
    provider: str, status: int, exit_code: int, served: Served
) -> None:
    served.always = refusal(status, f"bad key {KEY}")
    for ask in ("complete", "stream"):
        with pytest.raises(RaglineError) as caught:
            getattr(Run(served, provider), ask)()
        assert caught.value.exit_code == exit_code
        assert KEY not in f"{caught.value!r}{caught.value.__cause__!r}{caught.value.__context__!r}"
    assert len(served.asked) == (12 if status == 500 else 2)


PING = {"openai": b": still here\n\n", "anthropic": b'event: ping\ndata: {"type": "ping"}\n\n'}


@both
def test_a_reply_that_drips_is_given_up_after_the_timeout(provider: str, served: Served) -> None:
    served.script = [Answer(after=b" ", pause=0.02), WHOLE[provider]]
    assert Run(served, provider, timeout=0.4).complete().text == "At six."
    silent = Answer(headers={"content-type": "text/event-stream"}, after=PING[provider], pause=0.02)
    served.script = [silent, STREAM[provider]]
    assert Run(served, provider, timeout=0.4).stream()[:-1] == ["At ", "six."]
    assert len(served.asked) == 4


@both
def test_a_stream_without_end_is_given_up_in_time_and_in_length(
    provider: str, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "STREAM_TIMES", 2.0)
    start = OPENAI_STREAM[:1] if provider == "openai" else _anthropic_stream("At ")[:3]
    long = [_openai_chunk("At " * 2000)] if provider == "openai" else _anthropic_stream("At " * 2000)[2:3]
    for pause, again, timeout, why in (
        (0.02, start[-1:], 0.4, "in the time it may take"),
        (0.0, long, 20.0, "longer than"),
    ):
        served.script = [Answer(**{**vars(_events(start)), "after": _events(again).body, "pause": pause})]
        run = Run(served, provider, timeout=timeout)
        with pytest.raises(ProviderFailed, match=why):
            run.stream()
        assert len(run.pieces) > 3


@both
def test_a_reply_without_end_is_refused(provider: str, served: Served) -> None:
    served.script = [Answer(after=b"[" * 60_000), WHOLE[provider]]
    assert Run(served, provider).complete().text == "At six."


@both
def test_a_reply_that_says_the_key_again_comes_without_it_and_keeps_what_only_looks_like_one(
    provider: str, served: Served
) -> None:
    said = f"With {KEY}, or sk-of-the-manual-0123?"
    whole = _openai_whole(said) if provider == "openai" else _anthropic_whole(said)
    chunks = [_openai_chunk(said), _openai_chunk(None, "stop"), _OPENAI_USAGE]
    stream = _events(chunks, "data: [DONE]\n\n") if provider == "openai" else _events(_anthropic_stream(said))
    served.script = [whole, stream]
    wanted = "With [key], or sk-of-the-manual-0123?"
    assert Run(served, provider).complete().text == wanted
    pieces = Run(served, provider).stream()
    assert [each.text if isinstance(each, Completion) else each for each in pieces] == [wanted, wanted]
