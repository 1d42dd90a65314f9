"""What kind of answer a question asks for, and whether a sentence holds one that the question does not."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal["number", "date", "name"]
_DATE_ASKED = re.compile(
    r"\bwhen\b|\bsince which\b|\bhow (?:soon|late|early)\b|\b(?:what|which) (?:\w+ )?(?:year|date|day|month|century|time)\b"
)
_NUMBER_ASKED = re.compile(
    r"\bhow (?:many|much|long|far|high|deep|often|old|fast|big|large|heavy|thick|thin|wide|tall|steep|hard|hot|cold|warm)\b"
    r"|\b(?:what|which) (?:\w+ ){0,2}(?:amount|angle|capacity|cost|depth|diameter|distance|fare|fee|gauge|height|length|"
    r"level|limit|mileage|number|percentage|pressure|price|rate|resistance|share|size|speed|sum|temperature|thickness|"
    r"torque|value|voltage|weight|width)\b"
)
_NAME_ASKED = re.compile(r"\b(?:who|whom|whose)\b")
_NUMBER = re.compile(r"\d+(?:[.,:/]\d+)*")
_SPELT = (
    "one two three four five six seven eight nine ten eleven twelve fifteen twenty thirty forty fifty sixty hundred "
    "thousand million half third quarter once twice"
)
_SPELT_NUMBERS = frozenset(_SPELT.split())
_DATED = (
    "january february march april may june july august september october november december monday tuesday wednesday "
    "thursday friday saturday sunday century"
)
_DATE_WORDS = frozenset(_DATED.split())
_TIME = re.compile(r"(?:1\d|20)\d\d|\d{1,2}[:.]\d\d")
_NAME = re.compile(r"(?<=[^\s.!?:|*-] )[*_`\"'(“]*([A-Z][\w'-]+)")
_LETTERS = re.compile(r"[^\W\d_]+")


@dataclass(frozen=True, slots=True)
class Held:
    """What a text holds that may be an answer, in lower case."""

    number: frozenset[str]
    date: frozenset[str]
    name: frozenset[str]

    def answers(self, kind: Kind | None, question: frozenset[str]) -> bool:
        """Whether something of the kind is here that is no word of the question."""
        return kind is not None and bool(getattr(self, kind) - question)


def kind(question: str) -> Kind | None:
    """The kind of answer asked for, None where the words do not say.

    >>> kind("How steep is the line?"), kind("Since which year?"), kind("Whose idea was it?"), kind("Why?")
    ('number', 'date', 'name', None)
    """
    low = question.lower()
    if _DATE_ASKED.search(low):
        return "date"
    if _NUMBER_ASKED.search(low):
        return "number"
    return "name" if _NAME_ASKED.search(low) else None


def held(text: str) -> Held:
    """Numbers, dates and names of a text. A word that begins a sentence is no name.

    >>> sorted(held("The depot opened in May 1987 under Ida Reck.").name)
    ['ida', 'may', 'reck']
    """
    numbers = frozenset(_NUMBER.findall(text))
    letters = frozenset(_LETTERS.findall(text.lower()))
    return Held(
        number=numbers | (letters & _SPELT_NUMBERS),
        date=frozenset(one for one in numbers if _TIME.fullmatch(one)) | (letters & _DATE_WORDS),
        name=frozenset(one.lower() for one in _NAME.findall(text)),
    )


def plain_words(text: str) -> frozenset[str]:
    """Every word and number of a text in lower case: what a sentence may repeat without answering."""
    low = text.lower()
    return frozenset(_NUMBER.findall(low)) | frozenset(_LETTERS.findall(low)) | frozenset(re.findall(r"[\w'-]+", low))
