"""Passages, and a chat model that says what it is told to, for tests of generation."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from rag.types import Answer, Completion, Message, Passage, Usage


def passage(text: str, rank: int = 1, start: int = 0, **given: object) -> Passage:
    values: dict[str, object] = {
        "rank": rank,
        "score": 1.0,
        "doc_id": f"d{rank}",
        "title": "",
        "source": f"d{rank}.md",
        "start": start,
        "end": start + len(text),
        "heading_path": (),
        "text": text,
    }
    return Passage(**(values | given))  # type: ignore[arg-type]


class Scripted:
    """A chat model at the port: says its pieces, and counts how often it was asked."""

    name = "test/scripted"

    def __init__(self, *pieces: str, finish: str = "stop", said_at_once: bool = False) -> None:
        self.pieces = pieces
        self.finish = finish
        self.said_at_once = said_at_once
        self.calls: list[Sequence[Message]] = []

    async def complete(self, messages: Sequence[Message], max_tokens: int) -> Completion:
        self.calls.append(messages)
        return Completion("".join(self.pieces), "scripted-1", Usage(1, 10, 5, 0.001), self.finish)

    async def stream(self, messages: Sequence[Message], max_tokens: int) -> AsyncIterator[str | Completion]:
        completion = await self.complete(messages, max_tokens)
        for piece in () if self.said_at_once else self.pieces:
            yield piece
        yield completion


async def heard(stream: AsyncIterator[str | Answer]) -> tuple[str, Answer]:
    """What was streamed, joined, and the answer, which must come last."""
    items = [item async for item in stream]
    *pieces, answer = items
    assert isinstance(answer, Answer)
    assert all(isinstance(piece, str) and piece for piece in pieces)
    return "".join(map(str, pieces)), answer
