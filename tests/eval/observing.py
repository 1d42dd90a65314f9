"""A small corpus in a real index, questions about it, and a chat server that answers them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eval.observe import Observing
from eval.types import Gold, Observed, Question
from rag import wiring
from rag.pipeline import Options, reindex
from rag.settings import Settings, load
from rag.types import Usage
from tests.servers.faults import Answer, Asked

TEXTS = {
    "bridge.md": "# Bridge\n\nThe steel bridge over the gorge was built in 1911 and renewed in 2019.\n",
    "goats.md": "# Goats\n\nThe herdsman sends his goats with the Tuesday freight.\n",
    "soup.md": "# Soup\n\nLentil soup costs seven crowns at the buffet.\n",
    "copy-of-soup.md": "# Soup\n\nLentil soup costs seven crowns at the buffet.\n",
    "line.md": "# Line\n\n" + "".join(f"Stop {n} of the line lies at {100 + 7 * n} metres. " for n in range(30)) + "\n",
}


_LATER: dict[str, Any] = {
    "cached": False,
    "usage": Usage(),
    "usd_saved": None,
    "retrieve_seconds": 0.0,
    "generate_seconds": None,
    "asked_at": datetime(2026, 11, 22, tzinfo=UTC),
}


def lasting(found: Sequence[Observed]) -> list[Observed]:
    """All that must be equal in two identical runs."""
    return [replace(each, **_LATER) for each in found]


def indexed(root: Path, *sets: str) -> Settings:
    """The settings of a store with one published version of the corpus."""
    (root / "corpus").mkdir()
    for name, text in TEXTS.items():
        (root / "corpus" / name).write_text(text, encoding="utf-8")
    settings = load([], {}, [f"store='{root / 'store'}'", f"corpus.paths=['{root / 'corpus'}']", *sets], root)
    with wiring.reindex(settings, Options(), lambda *_: None) as run:
        reindex(run)
    return settings


def quoted(doc_id: str, quote: str) -> Gold:
    start = TEXTS[doc_id].index(quote)
    return Gold(doc_id, start, start + len(quote), quote)


BRIDGE = Question(
    "bridge",
    "When was the steel bridge over the gorge renewed?",
    ("2019",),
    True,
    (quoted("bridge.md", "renewed in 2019"),),
)
GOATS = Question(
    "goats", "How do the goats of the herdsman travel?", ("by freight",), True, (quoted("goats.md", "Tuesday freight"),)
)
NOBODY = Question("nobody", "Who invented the telephone?", (), False, ())
QUESTIONS = (BRIDGE, GOATS, NOBODY)
MANY = tuple(Question(f"stop-{n}", f"How high does stop {n} lie?", (), True, ()) for n in range(20))
MANY_PLAN = Observing(("retrieved",), 2, documents=2, search_depth=5, k=2, concurrency=4)


def chat_settings(settings: Settings, url: str, **given: Any) -> Settings:
    """The same index with `openai/toy` at a server, which has a price."""
    section = settings.generation.model_copy(
        update={"model": "openai/toy", "base_url": url, "api_key_env": "", **given}
    )
    price = {"openai/toy": {"input": 1.0, "output": 10.0}}
    return Settings.model_validate({**settings.model_dump(), "generation": section.model_dump(), "prices": price})


def reply(asked: Asked) -> Answer:
    """A right reply of a chat server: says what was asked, and cites the first passage where there are any."""
    user = asked["messages"][-1]["content"]
    question = re.search(r"<question>\n(.*)\n</question>", user)
    cites = " [1]" if "<passage " in user else ""
    return whole(f"You asked: {question[1] if question else '?'}{cites}")


def whole(text: str, finish: str = "stop") -> Answer:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    usage = {"prompt_tokens": 100, "completion_tokens": 10}
    body = {"model": "toy-1", "choices": [choice], "usage": usage}
    return Answer(200, json.dumps(body).encode(), {"content-type": "application/json"})
