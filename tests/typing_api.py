"""The documented Python API, checked by mypy and never run. README.md's snippet stands here word for word."""

from __future__ import annotations

from typing import assert_type

import rag
from rag.types import Answer, Citation, Passage
from rag.wiring import Desk


def readme() -> None:
    with rag.open("ragline.toml") as desk:
        answer = desk.ask("Who reopens the line after an avalanche?")
        print(answer.text, [(c.doc_id, c.start, c.end, c.quote) for c in answer.citations])  # noqa: T201
        passages = desk.retrieve("avalanche gallery", k=8, where={"lang": ["en"]})
        answers = desk.ask_many(["When was the line electrified?", "How steep is it?"])

    assert_type(desk, Desk)
    assert_type(answer, Answer)
    assert_type(answer.citations, tuple[Citation, ...])
    assert_type(passages, list[Passage])
    assert_type(answers, list[Answer])


async def without_blocking() -> None:
    with rag.open(version=7, retrieval={"k": 8, "mode": "lexical"}) as desk:
        assert_type(await desk.aask("How steep is it?", where={"lang": ["en", "de"]}), Answer)
        assert_type(await desk.aretrieve("How steep is it?"), list[Passage])
        assert_type(await desk.aask_many(["How steep is it?"]), list[Answer])
        async for piece in desk.astream("How steep is it?"):
            assert_type(piece, str | Answer)
