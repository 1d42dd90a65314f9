"""Glob patterns over relative paths: `*`, `?` and `[...]` within one name, `**` over any number of folders."""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass

_MAGIC = re.compile(r"[*?\[]")


def is_magic(part: str) -> bool:
    """Whether a part of a path is a pattern."""
    return _MAGIC.search(part) is not None


@dataclass(frozen=True, slots=True)
class Patterns:
    """Several patterns, of which one has to match."""

    files: re.Pattern[str] | None
    """Matches whole relative paths; None matches every one."""
    folders: re.Pattern[str] | None
    """Matches the folders (with a closing slash) below which a file may match; None for every one."""

    def match(self, path: str) -> bool:
        return self.files is None or self.files.fullmatch(path) is not None

    def below(self, folder: str) -> bool:
        """Whether a file somewhere below the folder (`a/b/`) could match."""
        return self.folders is None or self.folders.fullmatch(folder) is not None


def compiled(patterns: tuple[str, ...], *, anywhere: bool = True) -> Patterns:
    """The patterns as one. With `anywhere`, a pattern without a slash matches a name at any depth.

    >>> compiled(("docs/**/*.md",)).match("docs/a/b.md"), compiled(("docs/*.md",)).match("docs/a/b.md")
    (True, False)
    """
    split = [_parts(pattern, anywhere=anywhere) for pattern in patterns]
    if ["**", "*"] in split:
        return Patterns(None, None)
    files = re.compile("|".join(_expression(parts) for parts in split) or r"(?!)")
    if any("**" in parts for parts in split):
        return Patterns(files, None)
    folders = "|".join(
        "".join(f"(?:{_name(part)}/" for part in parts[:-1]) + ")?" * (len(parts) - 1) for parts in split
    )
    return Patterns(files, re.compile(folders))


def _parts(pattern: str, *, anywhere: bool) -> list[str]:
    pattern = pattern.removeprefix("./")
    if pattern.endswith("/"):
        pattern += "**"
    parts = [part for part in pattern.split("/") if part]
    if anywhere and "/" not in pattern and parts != ["**"]:
        parts.insert(0, "**")
    # `a/**` means every file below; runs of ** mean one.
    parts = [part for at, part in enumerate(parts) if part != "**" or parts[at - 1 : at] != ["**"]]
    return [*parts, "*"] if parts and parts[-1] == "**" else parts


def _expression(parts: list[str]) -> str:
    *folders, name = parts or [""]
    return "".join("(?:[^/]+/)*" if part == "**" else _name(part) + "/" for part in folders) + _name(name)


def _name(part: str) -> str:
    """A name's pattern without the anchors that fnmatch puts around it; `.` there must not cross a slash."""
    out = []
    for piece in re.split(r"(\[!?\]?[^\]]*\]|\*+|\?)", part):
        if piece.startswith("*"):
            out.append("[^/]*")
        elif piece == "?":
            out.append("[^/]")
        elif piece.startswith("[") and piece.endswith("]") and len(piece) > 2:
            out.append(f"(?!/){fnmatch.translate(piece)[4:-3]}")
        else:
            out.append(re.escape(piece))
    return "".join(out)
