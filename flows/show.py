"""What people see: tables on stdout, a progress bar on stderr, and no byte of a document that drives the terminal.

One line said is one line shown, whatever a document or a server has put into it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import TypeVar

from rag.counted import dollars
from rag.errors import without_userinfo

# C0 and C1 controls but tab and newline, and the characters that reorder or hide text
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\u061c]")
_BREAKS = re.compile("\r?[\n\u2028\u2029]|\t")
_COMMAND = re.compile(r"`ragline ([a-z]+\b[^`]*)`")
HIDDEN = "[hidden]@"
"""In place of the user and password of an address."""
_typed: ContextVar[Sequence[tuple[str, str]]] = ContextVar("_typed", default=())
T = TypeVar("T")
FEW = 10
_LONGEST = 2_000
ABSENT = "\u2013"
STAGES = {
    "read": "reading and cutting",
    "embed": "embedding",
    "fetch": "fetching what batches have brought",
    "submit": "submitting batches",
    "build": "building the index",
    "lexical": "building the lexical index",
    "verify": "trying the new version",
    "answer": "asking",
    "score": "scoring",
    "judge": "judging",
    "write": "writing the run",
}


class OutputFailed(Exception):
    """Stdout takes no more. No mistake of the command: what it did stands."""


def plain(text: str) -> str:
    """Text as it may be shown: control characters become U+FFFD."""
    return _CONTROLS.sub("\ufffd", text)


def line(text: str) -> str:
    """Text as it may be shown on one line: breaks and tabs become spaces."""
    return plain(_BREAKS.sub(" ", text))


def put(text: str, *, flush: bool = False) -> None:
    """Text on stdout as it is. Raises OutputFailed."""
    try:
        sys.stdout.write(text)
        if flush:
            sys.stdout.flush()
    except OSError as error:
        raise OutputFailed from error


def drop_output() -> None:
    """Send what stdout still holds, and all that follows, nowhere."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say(text: str = "") -> None:
    """A line on stdout. Raises OutputFailed."""
    put(line(text) + "\n")


def as_typed(flags: Sequence[tuple[str, str]]) -> None:
    """The flags of this command line that say which settings, store and index it is about, for `runnable`."""
    _typed.set([(flag, without_userinfo(text, HIDDEN)) for flag, text in flags])


def runnable(text: str) -> str:
    """The text with those flags in every command that it names, so that this can be typed as it stands.

    >>> as_typed([("--index", "my notes"), ("--set", "a=[1]")])
    >>> runnable("`ragline publish 2` makes it live; `ragline index --index b` does not; `ragline.toml`")
    "`ragline publish 2 --index 'my notes' --set 'a=[1]'` makes it live; `ragline index --index b --set 'a=[1]'` does not; `ragline.toml`"
    >>> as_typed([])
    """

    def whole(found: re.Match[str]) -> str:
        there = found[1].split()
        more = [word for flag, value in _typed.get() if flag not in there for word in (flag, shlex.quote(value))]
        return f"`ragline {' '.join([found[1], *more])}`"

    return _COMMAND.sub(whole, text)


def advise(text: str) -> None:
    """A line on stdout that may name commands. Raises OutputFailed."""
    say(runnable(text))


def note(text: str) -> None:
    """A line on stderr: what a person should know and a pipe should not read. Harmless where nobody listens."""
    text = runnable(text)
    if len(text) > _LONGEST:  # an id, or what a server said, may have megabytes
        text = f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}"
    with contextlib.suppress(OSError):
        sys.stderr.write(line(text) + "\n")


def few(items: Sequence[T]) -> tuple[Sequence[T], str]:
    """What a person reads of a long list, and how many more there are; no word where that is all."""
    more = len(items) - FEW
    return items[:FEW], f"and {more:,} more, which --json lists" if more > 0 else ""


def each(items: Sequence[T], tell: Callable[[T], None], more: Callable[[str], None] = say) -> None:
    """Tell the first few of a long list, and how many are left."""
    shown, rest = few(items)
    for item in shown:
        tell(item)
    if rest:
        more(rest)


def table(rows: Sequence[Sequence[object]], header: Sequence[str], indent: str = "") -> None:
    """Columns padded to their widest cell; numbers to the right. A missing value is shown as an en dash."""
    cells = [[ABSENT if cell is None else line(str(cell)) for cell in row] for row in rows]
    right = [all(_is_number(row[column]) for row in cells) for column in range(len(header))] if cells else []
    widths = [max(len(row[column]) for row in [list(header), *cells]) for column in range(len(header))]
    for row in [list(header), *cells]:
        padded = [
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right or [False] * len(header), strict=True)
        ]
        put(indent + "  ".join(padded).rstrip() + "\n")


def _is_number(cell: str) -> bool:
    return bool(re.fullmatch(r"[-+$\u2013]?[\d,.]*%?( [MGk]?B)?", cell))


def lasting(minutes: float) -> str:
    """A time as people say it.

    >>> lasting(0.31), lasting(200), lasting(9000)
    ('0.3 minutes', '3.3 hours', '6.2 days')
    """
    for unit, size in (("days", 1440.0), ("hours", 60.0)):
        if minutes >= 1.5 * size:
            return f"{minutes / size:,.1f} {unit}"
    return f"{minutes:.1f} minutes"


def usd(amount: float | None) -> str:
    """Dollars with as many places as a small bill needs; unknown is said, never 0."""
    return "unknown" if amount is None else dollars(amount)


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1000
    raise AssertionError


@contextlib.contextmanager
def progress(*, quiet: bool = False) -> Iterator[Callable[[str, int, int | None], None]]:
    """A bar on stderr where that is a terminal; elsewhere one line a stage."""
    if quiet:
        yield lambda *_: None
        return
    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, object] = {}

        def update(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks:
                for task in bar.tasks:
                    bar.remove_task(task.id)
                tasks[stage] = bar.add_task(STAGES.get(stage, stage), total=total)
            bar.update(tasks[stage], completed=done, total=total)  # type: ignore[arg-type]

        yield update


def _lines() -> Callable[[str, int, int | None], None]:
    seen: set[str] = set()

    def update(stage: str, _done: int, total: int | None) -> None:
        if stage not in seen:
            seen.add(stage)
            note(f"{STAGES.get(stage, stage)}{f' {total:,}' if total else ''} ...")

    return update
