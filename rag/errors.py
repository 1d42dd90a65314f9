"""What can go wrong, each with its exit code, and every mistake of one input at once.

An error names what, which and what to do now, and carries the parts as fields: the command line prints them,
`--json` gives them as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

# a password with a slash of its own is wrongly written, and a secret all the same; what begins with a port is none
_USERINFO = re.compile(
    r"""(?<=://)(?:[^/?#\s"'<>]{1,500}@|[^/?#\s"'<>@:]{1,200}:(?!\d*[/?#])[^\s"'<>]{1,300}@)""",
)


def without_userinfo(text: str, instead: str = "") -> str:
    """The text without the user and password of any address in it.

    >>> without_userinfo("http://anna@corp:secret@host/v1 or http://anna:s/t@host of https://docs:80/a@0-9")
    'http://host/v1 or http://host of https://docs:80/a@0-9'
    """
    return _USERINFO.sub(instead, text)


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake: where it is, what it is, what to do now."""

    where: str
    what: str
    remedy: str

    def __post_init__(self) -> None:
        # settings are quoted here as they were given, addresses with a password included
        for name in ("where", "what", "remedy"):
            object.__setattr__(self, name, without_userinfo(getattr(self, name)))


class RaglineError(Exception):
    """The base of every error that a user may meet."""

    exit_code = 1

    def __init__(self, message: str, problems: Iterable[Problem] = ()) -> None:
        self.message = without_userinfo(message)
        super().__init__(self.message)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        """The message and every problem, for those who see no more than the exception."""
        listed = [f"{p.where}: {p.what}; {p.remedy}" for p in self.problems]
        if len(listed) == 1 and self.problems[0].what == self.message:
            return listed[0]
        return "\n  ".join([self.message, *listed])

    @classmethod
    def at(cls, where: str, what: str, remedy: str) -> Self:
        """One error of one problem; its message is the problem's `what`."""
        return cls(what, [Problem(where, what, remedy)])


class UsageError(RaglineError):
    """The command line asks for something that does not exist."""

    exit_code = 2


class SettingsError(RaglineError):
    """Settings that cannot be read, are unknown, or contradict each other."""

    exit_code = 2


class CorpusMissing(RaglineError):
    """No corpus where the settings say, or one without a single document."""

    exit_code = 2


class KeyMissing(RaglineError):
    """A provider needs a key that the environment does not hold, or refuses the one it got."""

    exit_code = 2


class UnknownModel(RaglineError):
    """A model that does not exist, is of the wrong kind, or whose extra is not installed."""

    exit_code = 2


class FormatTooNew(RaglineError):
    """A file was written by a newer version of this program."""

    exit_code = 2


def refuse_newer(where: Path | str, found: object, known: int, remedy: str = "upgrade ragline") -> None:
    """Refuse a file whose format is above the one that is known here. Raises FormatTooNew."""
    if isinstance(found, int) and found > known:
        raise FormatTooNew.at(str(where), f"{where} has format {found}; this ragline reads up to {known}", remedy)


class NotFound(RaglineError):
    """No such index, version or run."""

    exit_code = 2


class Busy(RaglineError):
    """Another process holds the store."""

    exit_code = 3


class InBatch(RaglineError):
    """Texts are under way in a batch: to send them now would be to pay for them twice."""

    exit_code = 3


class OverBudget(RaglineError):
    """Going on would cross a spending cap; what was paid for is kept."""

    exit_code = 4


class Damaged(RaglineError):
    """A file does not hold what its digest promises."""

    exit_code = 5


class PlanOutdated(RaglineError):
    """A plan that was to be carried out is not what a run would do now."""


class CorpusFailed(RaglineError):
    """Too many documents could not be read, or two have the same id."""


class ProviderFailed(RaglineError):
    """A provider refused, failed too often, or answered with something that must not be stored."""

    splittable: bool = False
    """Refused for what one of its texts holds: halves of the request, sent alone, find which."""
    positions: tuple[int, ...] = ()
    """The texts that it is about, as far as that is known."""
    unusable: bool = False
    """It answered, and with something else than was asked for, however often it was."""


class StorageFailed(RaglineError):
    """The disk is full, read-only or failing. Published versions and the cache are intact."""
