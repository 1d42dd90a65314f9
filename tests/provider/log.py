"""What was asked, what came of it, and what it cost: one entry a request, one count a text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.provider.least import Work

# US dollars for a million tokens, in and out; what is not here costs nothing
PRICES = {
    "text-embedding-3-small": (0.02, 0.0),
    "text-embedding-3-large": (0.13, 0.0),
    "text-embedding-ada-002": (0.10, 0.0),
    "gpt-6-luna": (0.10, 0.50),
    "gpt-6-sol": (2.0, 10.0),
    "claude-haiku-4-5": (1.0, 5.0),
    "claude-sonnet-5": (2.0, 10.0),
    "claude-opus-5": (5.0, 25.0),
}


@dataclass
class Entry:
    """One request. Times are seconds of the server's monotonic clock."""

    number: int
    method: str
    path: str
    arrived: float
    model: str = ""
    amounts: dict[str, float] = field(default_factory=dict)
    """What its limits are asked for: requests, tokens, output-tokens."""
    tokens: int = 0
    output_tokens: int = 0
    texts: Sequence[bytes] = ()
    admitted: float | None = None
    refused: str = ""
    """`requests`, `tokens`, `output-tokens`: the limit that was met; `request`: it was wrong; `fault`."""
    fault: str = ""
    billed: bool = False
    charged: float | None = None
    service: float = 0.0
    replied: float | None = None
    """When the last byte was handed over, or the connection was given up."""
    status: int = 0
    """0 when not a byte was sent."""

    def plain(self, *, texts: bool) -> dict[str, Any]:
        made = {name: value for name, value in vars(self).items() if name not in {"texts", "amounts"}}
        made["texts"] = [text.hex() for text in self.texts] if texts else len(self.texts)
        return made


@dataclass
class Bill:
    """What the account pays. Work counts when it was done, whether the reply arrived, was lost, or was wrong."""

    texts: Counter[bytes] = field(default_factory=Counter)
    """How often each text was billed, by its sha256; batches included."""
    models: dict[str, dict[str, float]] = field(default_factory=dict)

    def add(self, model: str, tokens: int, output: int, texts: Sequence[bytes], *, batch: bool = False) -> None:
        self.texts.update(texts)
        line = self.models.setdefault(
            model,
            {"requests": 0, "tokens": 0, "output_tokens": 0, "batch_tokens": 0, "batch_output_tokens": 0, "usd": 0},
        )
        line["requests"] += 1
        line["batch_tokens" if batch else "tokens"] += tokens
        line["batch_output_tokens" if batch else "output_tokens"] += output
        price = PRICES.get(model, (0.0, 0.0))
        line["usd"] += (tokens * price[0] + output * price[1]) / 1e6 * (0.5 if batch else 1.0)

    def plain(self) -> dict[str, Any]:
        return {
            "texts": {text.hex(): times for text, times in self.texts.items()},
            "models": self.models,
            "tokens": sum(line["tokens"] + line["batch_tokens"] for line in self.models.values()),
            "usd": sum(line["usd"] for line in self.models.values()),
        }


def work(entries: Sequence[Entry]) -> Mapping[str, Work]:
    """What a run's last request had before it, in each dimension.

    Before it is what was charged when it was admitted. With charging at completion that leaves out what was still being
    worked on: the least time is then that of a client with as many requests under way. A window or a clock minute can
    so be overdrawn and forgets it: a run under those may be quicker than its least time.
    """
    last = max(entries, key=lambda entry: entry.admitted or 0.0)
    assert last.admitted is not None
    found = {}
    for name, amount in last.amounts.items():
        before = sum(
            entry.amounts[name]
            for entry in entries
            if entry is not last
            and (name == "requests" or (entry.charged is not None and entry.charged <= last.admitted))
        )
        found[name] = Work(before, amount)
    return found
