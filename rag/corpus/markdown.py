"""Markdown: the decoded file unchanged, its front matter as metadata, its first heading as title."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rag.corpus.encoding import decode
from rag.corpus.page import Page, one_line
from rag.corpus.spec import CorpusSpec
from rag.corpus.values import plain
from rag.types import Json

if TYPE_CHECKING:
    import yaml

FRONT_MATTER_LIMIT = 64 * 1024
"""Characters; what is longer is body."""
_NODES = 10_000
_DEPTH = 50
_OPENING = re.compile(r"---[ \t]*\r?\n")
_CLOSING = re.compile(r"^(?:---|\.\.\.)[ \t]*\r?$\n?", re.MULTILINE)
_HEADING = re.compile(r" {0,3}#{1,6}(?:[ \t]+(.*))?$")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_UNDERLINE = re.compile(r" {0,3}(?:=+|-+)[ \t]*$")
_ATTRIBUTES = re.compile(r"[ \t]*\{[^{}]*\}[ \t]*$")
_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()]*\)")
# What begins a block of its own, so that a line of dashes below it is no underline of a heading.
_BLOCK = re.compile(r" {4}|\t| {0,3}(?:[-+*>|<]|\d+[.)][ \t])")


def read(data: bytes, spec: CorpusSpec) -> Page:
    """The file as it is; `body_start` stands behind the front matter. Raises Unreadable."""
    text = decode(data, spec.encoding)
    metadata, body_start = front_matter(text)
    named = metadata.get("title")
    title = one_line(named) if isinstance(named, str) else ""
    # Front matter that is not valid is body, but its closing fence underlines no title.
    span = _span(text) if not title else None
    return Page(text, title or first_heading(text, span[2] if span else 0), metadata, body_start)


def front_matter(text: str) -> tuple[dict[str, Json], int]:
    """The metadata at the very start, and where the body begins. Invalid front matter is body: `({}, 0)`."""
    span = _span(text)
    if span is None:
        return {}, 0
    start, end, body_start = span
    try:
        value = _load(text[start:end])
        if not isinstance(value, dict | None):
            return {}, 0
        metadata = plain(value or {}, _DEPTH, iter(range(_NODES)))
    except Exception:  # noqa: BLE001 - whatever a YAML parser says about it, it is body text then
        return {}, 0
    assert isinstance(metadata, dict)
    return metadata, body_start


def _span(text: str) -> tuple[int, int, int] | None:
    """Start and end of what stands between the fences, and where the line behind them begins."""
    opening = _OPENING.match(text)
    closing = _CLOSING.search(text, opening.end(), FRONT_MATTER_LIMIT) if opening else None
    return (opening.end(), closing.start(), closing.end()) if opening and closing else None


def _load(text: str) -> Any:
    import yaml

    # The C parser recurses on the C stack, where depth kills the process: only what cannot be deep goes there.
    shallow = all(text.count(opener) < 200 for opener in ("[", "{", "- ", "? "))
    return yaml.load(text, _loader(fast=shallow))  # noqa: S506 - a SafeLoader with less in it


@functools.cache
def _loader(*, fast: bool) -> type[yaml.SafeLoader]:
    import yaml

    base: Any = yaml.CSafeLoader if fast and hasattr(yaml, "CSafeLoader") else yaml.SafeLoader

    class Loader(base):  # type: ignore[misc]
        """Safe YAML without merge keys, whose copies of copies grow without bound."""

        def flatten_mapping(self, node: Any) -> None:
            if any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value):
                raise ValueError("merge keys are not read in front matter")

    return Loader


def first_heading(text: str, start: int = 0) -> str:
    """The text of the first heading (`# x`, or a line underlined with === or ---) outside fences, or nothing."""
    fence = ""
    above = ""
    for line in _lines(text, start):
        if fence:
            if line.strip(" \t").startswith(fence) and not line.strip(" \t" + fence[0]):
                fence = ""
        elif opened := _FENCE.match(line):
            fence, above = opened[1], ""
        elif heading := _HEADING.match(line):
            if found := _cleaned(heading[1] or ""):
                return found
            above = ""
        elif above and _UNDERLINE.match(line):
            return _cleaned(above)
        else:
            above = "" if _BLOCK.match(line) else line.strip()
    return ""


def _lines(text: str, start: int) -> Iterator[str]:
    while start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        # A title is short: the rest of a line of megabytes is not looked at.
        yield text[start : min(end, start + 1000)].rstrip("\r")
        start = end + 1


def _cleaned(heading: str) -> str:
    """A heading without closing hashes, attribute lists, links and emphasis."""
    heading = _ATTRIBUTES.sub("", heading)
    without = heading.rstrip(" \t").rstrip("#")
    if not without or without[-1] in " \t":
        heading = without
    return one_line(_LINK.sub(r"\1", heading).replace("`", "").replace("**", ""))
