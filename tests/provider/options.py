"""What the simulator is told at its start; every field is also a flag of the command line."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

KEY = "sk-simulator-3e91c07a55d2"


def _told(default: Any, told: str, *choices: str) -> Any:
    return dataclasses.field(default=default, metadata={"help": told, "choices": choices or None})


@dataclass(frozen=True)
class Options:
    """Limits are high by default, so that a test that is not about limits never meets them."""

    port: int = _told(0, "on 127.0.0.1; 0: a free one")
    key: str = _told(KEY, "the only key that is let in")
    rule: str = _told("bucket60", "how limits are held; see rules.py", "bucket60", "bucket1", "sliding", "minute")
    rpm: int = _told(1_000_000, "requests a minute, of each model")
    tpm: int = _told(10_000_000_000, "tokens a minute, of each model")
    otpm: int = _told(1_000_000_000, "output tokens a minute, for /v1/messages only")
    drained: bool = _told(False, "the limits are used up when the first request arrives")
    phase: float = _told(0.0, "seconds of the clock minute that are over when the first request arrives")
    charge: str = _told("arrival", "when tokens are charged; see limiter.py", "arrival", "completion")
    charge_refused: bool = _told(False, "what is refused for a limit is charged all the same")
    headers: str = _told("exact", "x-ratelimit-*: as it is, one reply old, none", "exact", "stale", "absent")
    second_consumer: float = _told(0.0, "share of the limits that somebody else asks for")
    tokens: str = _told("words", "how they are counted: one a word, or exactly", "words", "cl100k")
    base_ms: float = _told(0.0, "service time of a request")
    per_ktoken_ms: float = _told(0.0, "and of each thousand tokens in it")
    faults: tuple[dict[str, Any], ...] = _told((), "a list; see placement.py")
    models: tuple[str, ...] = _told((), "more that exist; `embed` in the name makes one of embeddings")
    forbidden_models: tuple[str, ...] = _told((), "that exist for others")
    answer: str = _told("", "what chat models say; empty: a sentence that depends on what was asked")
    batch: dict[str, Any] = dataclasses.field(
        default_factory=dict, metadata={"help": "how batches go; see Terms in lines.py", "choices": None}
    )

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            choices, value = field.metadata["choices"], getattr(self, field.name)
            if choices and value not in choices:
                raise ValueError(f"{field.name} is one of {', '.join(choices)}, not {value!r}")


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m tests.provider",
        description="A provider on loopback: limits, faults, batches, and a bill. Its first line is its address.",
    )
    for field in dataclasses.fields(Options):
        flag = "--" + field.name.replace("_", "-")
        told, choices = field.metadata["help"], field.metadata["choices"]
        default = field.default if field.default is not dataclasses.MISSING else {}
        if isinstance(default, bool):
            made.add_argument(flag, action="store_true", help=told)
        elif isinstance(default, tuple | dict):
            made.add_argument(flag, type=json.loads, default=default, metavar="JSON", help=told)
        else:
            made.add_argument(flag, type=type(default), default=default, choices=choices, help=told)
    return made


def parse(arguments: Sequence[str]) -> Options:
    given: dict[str, Any] = {}
    for name, value in vars(parser().parse_args(arguments)).items():
        given[name] = tuple(value) if isinstance(value, list) else value
    return Options(**given)


def flags(options: Options) -> list[str]:
    """The arguments that `parse` makes these options of."""
    made = []
    for field in dataclasses.fields(Options):
        value = getattr(options, field.name)
        flag = "--" + field.name.replace("_", "-")
        if isinstance(value, bool):
            made += [flag] if value else []
        else:
            made.append(f"{flag}={json.dumps(value) if isinstance(value, tuple | dict) else value}")
    return made
