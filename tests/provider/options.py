"""What the simulator is told at its start; every field is also a flag of the command line."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

KEY = "sk-simulator-3e91c07a55d2"
CHOICES = {
    "rule": ("bucket60", "bucket1", "sliding", "minute"),
    "charge": ("arrival", "completion"),
    "headers": ("exact", "stale", "absent"),
    "tokens": ("words", "cl100k"),
}


@dataclass(frozen=True)
class Options:
    """Limits are high by default, so that a test that is not about limits never meets them."""

    port: int = 0  # 0: a free one
    key: str = KEY
    rule: str = "bucket60"
    rpm: int = 1_000_000
    tpm: int = 10_000_000_000
    otpm: int = 1_000_000_000  # output tokens, for /v1/messages only
    drained: bool = False  # the limits are used up when the first request arrives
    phase: float = 0.0  # seconds of the clock minute that are over when the first request arrives
    charge: str = "arrival"
    charge_refused: bool = False
    headers: str = "exact"
    second_consumer: float = 0.0  # share of the limits that somebody else uses
    tokens: str = "words"
    base_ms: float = 0.0
    per_ktoken_ms: float = 0.0
    faults: tuple[dict[str, Any], ...] = ()  # see faults.Placement
    models: tuple[str, ...] = ()  # more models that exist; `embed` in the name makes one of embeddings
    forbidden_models: tuple[str, ...] = ()
    answer: str = ""  # what chat models say; empty: a sentence that depends on what was asked
    batch: dict[str, Any] = dataclasses.field(default_factory=dict)  # see batches.Terms


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m tests.provider", description="A provider on loopback: limits, faults, batches, and a bill."
    )
    for field in dataclasses.fields(Options):
        flag = "--" + field.name.replace("_", "-")
        default = field.default if field.default is not dataclasses.MISSING else {}
        if isinstance(default, bool):
            made.add_argument(flag, action="store_true")
        elif isinstance(default, tuple | dict):
            made.add_argument(flag, type=json.loads, default=default, metavar="JSON")
        else:
            made.add_argument(flag, type=type(default), default=default, choices=CHOICES.get(field.name))
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
