"""Measures as values: parsed from the field's names, printed back to them; and what the house knows of each."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rag.errors import Problem, UsageError

if TYPE_CHECKING:
    from eval.types import Observed

Floats: TypeAlias = NDArray[np.float64]
Setting: TypeAlias = int | str
Family: TypeAlias = Literal["ranking", "span", "answer", "abstention", "citation", "judged"]

_FORM = re.compile(r"(?P<name>[A-Za-z][A-Za-z0-9_-]*)(?:\((?P<inside>[^()]*)\))?(?:@(?P<cutoff>[0-9]+))?")
_DIGITS = 9
"""Of a cutoff and of a number in brackets, at most."""
_SETTING = re.compile(r"""\s*(?P<key>[a-z_]+)\s*=\s*(?P<quote>['"]?)(?P<value>[\w.-]+)(?P=quote)\s*""")


@dataclass(frozen=True, slots=True)
class Measure:
    """One measure as it is asked for. Equal measures print equal names, and the name parses back to the measure.

    >>> str(Measure("P", 5, (("rel", 2),)))
    'P(rel=2)@5'
    """

    name: str
    cutoff: int | None = None
    settings: tuple[tuple[str, Setting], ...] = ()
    """Sorted by name; only those that differ from the default."""

    def __str__(self) -> str:
        inside = ",".join(f"{key}={value!r}" for key, value in self.settings)
        return self.name + f"({inside})" * bool(inside) + ("" if self.cutoff is None else f"@{self.cutoff}")


@dataclass(frozen=True, slots=True)
class Parameter:
    """What may stand in a measure's brackets: a whole number from 1 where the default is one, else one of the choices."""

    default: Setting
    says: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Condition:
    """When an observation has a value of a measure."""

    rests_on: Literal["ranking", "answer"]
    """What must not have failed: where it has, the score is an error."""
    absent: Callable[[Observed], str | None]
    """Why there can be no value, in a few words, whatever failed; None where there can be one."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a measure is: all that docs/measures.md says of it, and how its values come about."""

    name: str
    family: Family
    when: Condition
    says: str
    formula: str
    needs: str
    source: str
    missing: str
    """The rule for what is not there: results, judgements, replies."""
    values: Callable[..., Any]
    """(what `gathered.GATHER` gives its family, the measure) -> Floats: a finite value for each query or observation.

    For `judged`: (judge, observation) -> an awaitable `judge.Verdict`.
    """
    cutoff: Literal["required", "optional", "none"] = "none"
    low: float | None = 0.0
    high: float | None = 1.0
    higher_is_better: bool = True
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    """Other names that are read, and never printed."""
    trec_eval: str = ""
    """Its name in trec_eval, K for the cutoff."""
    embeds: bool = False
    """Whether it needs the vectors of answers."""
    version: int = 1
    """Goes up when values of before cannot be compared any more."""

    @property
    def form(self) -> str:
        """How it is written: `P@K`, `nDCG[@K]`."""
        return self.name + {"required": "@K", "optional": "[@K]", "none": ""}[self.cutoff]


def setting(measure: Measure, entry: Entry, key: str) -> Setting:
    """A parameter of the measure, or its default."""
    return dict(measure.settings).get(key, entry.parameters[key].default)


def parse_all(names: Iterable[str], known: Mapping[str, Entry]) -> tuple[Measure, ...]:
    """The measures of these names in their order, each once. Raises UsageError, with every bad name in it."""
    found: dict[Measure, None] = {}
    problems: list[Problem] = []
    for name in names:
        try:
            found[parse(name, known)] = None
        except UsageError as error:
            problems += error.problems
    if problems:
        what = problems[0].what if len(problems) == 1 else f"{len(problems)} measures cannot be read"
        raise UsageError(what, problems)
    return tuple(found)


def parse(text: str, known: Mapping[str, Entry]) -> Measure:
    """The measure of a name such as `nDCG@10` or `P(rel=2)@5`; `known` by name.

    Raises UsageError: an unknown name (with the nearest ones), a cutoff too many or too few, a parameter that the
    measure does not have.
    """
    text = text.strip()
    parts = _FORM.fullmatch(text)
    names = {alias: entry for entry in known.values() for alias in (entry.name, *entry.aliases)}
    entry = names.get(parts["name"]) if parts else None
    if parts is None or entry is None:
        raise UsageError.at(text, f"there is no measure {text!r}", _nearest(text, known))
    if len(parts["cutoff"] or "") > _DIGITS:
        raise UsageError.at(
            text, f"{text}: a cutoff has at most {_DIGITS} digits", f"write {entry.name}@5, or another number"
        )
    cutoff = None if parts["cutoff"] is None else int(parts["cutoff"])
    if cutoff is None and entry.cutoff == "required":
        raise UsageError.at(text, f"{text} lacks its cutoff", f"write {text}@5, or another number")
    if cutoff is not None and entry.cutoff == "none":
        raise UsageError.at(text, f"{entry.name} has no cutoff", f"write {entry.name}")
    if cutoff == 0:
        raise UsageError.at(text, f"{text}: a cutoff is at least 1", f"write {entry.name}@5, or another number")
    return Measure(entry.name, cutoff, _settings(text, parts["inside"], entry))


def _settings(text: str, inside: str | None, entry: Entry) -> tuple[tuple[str, Setting], ...]:
    found: dict[str, Setting] = {}
    for part in inside.split(",") if inside is not None else ():
        match = _SETTING.fullmatch(part)
        parameter = entry.parameters.get(match["key"]) if match else None
        if match is None or parameter is None or match["key"] in found:
            takes = ", ".join(entry.parameters) or "nothing"
            what = f"{text}: {part!r} is no parameter of {entry.name}"
            raise UsageError.at(
                text, what, f"in its brackets {entry.name} takes {takes}, each once, as in (name=value)"
            )
        found[match["key"]] = _value(text, match["key"], match["value"], parameter)
    return tuple(sorted((key, value) for key, value in found.items() if value != entry.parameters[key].default))


def _value(text: str, key: str, value: str, parameter: Parameter) -> Setting:
    if parameter.choices:
        if value in parameter.choices:
            return value
        raise UsageError.at(text, f"{text}: {key} is not {value!r}", f"{key} is one of {', '.join(parameter.choices)}")
    if value.isascii() and value.isdigit() and len(value) <= _DIGITS and int(value) >= 1:
        return int(value)
    raise UsageError.at(text, f"{text}: {key} is not {value!r}", f"{key} is a whole number from 1")


def _nearest(text: str, known: Mapping[str, Entry]) -> str:
    """A remedy that names the measures whose names, here or in trec_eval, look most like this one."""
    number = re.search(r"[0-9]+$", text)
    name = re.sub(r"[@_.]?[0-9]*$", "", text.partition("(")[0]).lower()
    spelt: dict[str, Entry] = {}
    for entry in known.values():
        trec = (each.strip().removesuffix("_K") for each in entry.trec_eval.split(","))
        spelt |= dict.fromkeys((each.lower() for each in (entry.name, *entry.aliases, *trec) if each), entry)
    near = dict.fromkeys(spelt[each].name for each in difflib.get_close_matches(name, spelt, n=4, cutoff=0.5))
    if not near:
        return "the measures are " + ", ".join(entry.form for entry in known.values())
    cut = {entry.name: f"@{number[0] if number else 10}" for entry in known.values() if entry.cutoff != "none"}
    return "did you mean " + " or ".join(name + cut.get(name, "") for name in near) + "?"
