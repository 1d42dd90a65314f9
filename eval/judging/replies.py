"""A judge's reply becomes a value, or is of no use. Nothing but the model's own reply is ever read here.

A reply is one JSON object with exactly the keys that were asked for, or the same inside one code fence. Words around it,
other keys, the same key twice, NaN, a list of another length, "yes" for true: all of it makes the reply unusable, for a
verdict that has to be guessed is none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rag.corpus.jsonl import parse
from rag.corpus.page import Unreadable

_FENCED = re.compile(r"```(?:json)?[ \t]*\r?\n(.*)\n[ \t]*```", re.DOTALL | re.IGNORECASE)


class Unusable(Exception):
    """The reply is not what was asked for. The message is a clause in words of ours, without any text of the reply."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a usable reply says."""

    value: float | None
    """In [0, 1]; None where the judge found nothing to count."""
    reason: str


def correctness(text: str) -> Found:
    """1 where `correct` is true, else 0. Raises Unusable."""
    reply = _object(text, "reason", "correct")
    return Found(float(_flag(reply["correct"], "correct")), _text(reply["reason"], "reason"))


def supported(text: str) -> Found:
    """Supported claims / claims. Raises Unusable."""
    return _share(text, "claims", "claim", "supported")


def relevant(text: str) -> Found:
    """Relevant statements / statements. Raises Unusable."""
    return _share(text, "statements", "statement", "relevant")


def precision(text: str, passages: int) -> Found:
    """`average_precision` of the passages. Raises Unusable, also for another number of flags than of passages."""
    reply = _object(text, "reason", "relevant")
    flags = [_flag(each, "relevant") for each in _list(reply["relevant"], "relevant")]
    if len(flags) != passages:
        raise Unusable(f"`relevant` had {len(flags)} entries for {passages} passages")
    which = ", ".join(str(number) for number, each in enumerate(flags, start=1) if each) or "none"
    reason = f"relevant: {which} of {passages}. {_text(reply['reason'], 'reason')}"
    return Found(average_precision(flags), reason.rstrip())


def average_precision(flags: Sequence[bool]) -> float:
    """Mean of precision@k over the ranks k of the relevant passages, 0 without any.

    It is divided by the relevant passages that were retrieved, as Ragas defines context precision; AP of trec_eval
    divides by all that are known.

    >>> average_precision([True, False, True]), average_precision([False, True]), average_precision([False])
    (0.8333333333333333, 0.5, 0.0)
    """
    ranks = [rank for rank, flag in enumerate(flags, start=1) if flag]
    return sum(count / rank for count, rank in enumerate(ranks, start=1)) / len(ranks) if ranks else 0.0


def _share(text: str, many: str, one: str, flag: str) -> Found:
    said: list[tuple[str, bool]] = []
    for row in _list(_object(text, many)[many], many):
        if not isinstance(row, dict) or row.keys() != {one, flag}:
            raise Unusable(f"an entry of `{many}` was not an object with `{one}` and `{flag}` alone")
        said.append((_text(row[one], one), _flag(row[flag], flag)))
    if not all(words for words, _ in said):
        raise Unusable(f"a `{one}` was empty")
    if not said:
        return Found(None, f"the judge finds no {one} in it")
    held = sum(yes for _, yes in said)
    against = "".join(f"; not {flag}: {words}" for words, yes in said if not yes)
    return Found(held / len(said), f"{held} of {len(said)} {many} {flag}{against}")


def _object(text: str, *keys: str) -> dict[str, Any]:
    body = text.strip()
    if fenced := _FENCED.fullmatch(body):
        body = fenced[1]
    if not body:
        raise Unusable("it was empty")
    try:
        found = parse(body.encode("utf-8"))
    except (Unreadable, UnicodeEncodeError):
        raise Unusable("it was not one strict JSON object and nothing else") from None
    if found.keys() != set(keys):
        raise Unusable(f"its keys were not {' and '.join(f'`{key}`' for key in keys)} alone")
    return found


def _flag(value: object, name: str) -> bool:
    if not isinstance(value, bool):
        raise Unusable(f"a value of `{name}` was neither true nor false")
    return value


def _list(value: object, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise Unusable(f"`{name}` was not a list")
    return value


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise Unusable(f"`{name}` was not text")
    return value.strip()
