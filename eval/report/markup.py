"""Text becomes markup here and nowhere else: what is not `Html` already is escaped on its way in.

Characters that people do not see, or that turn the order of those around them, are written out as their code points.
Joiners (U+200C, U+200D) and U+FE0F stay: Persian, Hindi and emoji are spelt with them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

_HIDDEN = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0e\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff\ud800-\udfff\ufdd0-\ufdef"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_UNSAFE = re.compile(f"[&<>\"']|[{_HIDDEN}]+")
_NAMED = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"}
_VOID = frozenset({"meta", "br"})


class Html(str):
    """Markup that is safe to stand in the page as it is. Made by this file only."""

    __slots__ = ()


Child: TypeAlias = "Html | str | None"


def escape(text: str) -> Html:
    r"""The text for an element or a quoted attribute: no markup, nothing hidden.

    >>> escape("a < b \u202e")
    'a &lt; b [U+202E]'
    """
    return Html(_UNSAFE.sub(_in_brackets, text.replace("\r\n", "\n")))


def shown(text: str) -> Html:
    """The same for an element alone, code points set apart from the letters around them."""
    return Html(_UNSAFE.sub(_set_apart, text.replace("\r\n", "\n")))


def tag(name: str, *children: Child, **attributes: str | float | bool | None) -> Html:
    """One element. A child that is no Html is text, and None is nothing; `class_` and `aria_label` are attributes.

    An attribute of None or False is left out, one of True stands alone.
    """
    pairs = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{escape(_plain(value))}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    return Html(f"<{name}{pairs}>" if name in _VOID else f"<{name}{pairs}>{join(children)}</{name}>")


def join(children: Iterable[Child], between: str = "") -> Html:
    """Children in a row; `between` is text too."""
    parts = [each if isinstance(each, Html) else shown(each) for each in children if each is not None]
    return Html(shown(between).join(parts))


def trusted(css: str) -> Html:
    """The style sheet of this package. Raises ValueError where it could end its element."""
    if "</" in css:
        raise ValueError("the style sheet holds a closing tag")
    return Html(css)


def folded(summary: Child, *children: Child, class_: str | None = None) -> Html:
    """What a reader opens; browsers make it reachable by keyboard."""
    return tag("details", tag("summary", summary), *children, class_=class_)


def section(identity: str, title: str, *children: Child) -> Html:
    """A part of the page that the table of contents names."""
    heading = tag("h2", title, id=f"{identity}-title")
    return tag("section", heading, *children, id=identity, aria_labelledby=f"{identity}-title")


@dataclass(frozen=True, slots=True)
class Column:
    """A column: what stands above it, and the class of its cells (`num` for figures, `bar` for drawings)."""

    label: str
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that belong together, the first cell of each its name."""

    title: Child
    rows: Sequence[Sequence[Child]]
    muted: frozenset[int] = frozenset()
    """Rows that conclude nothing."""


def table(caption: Child, columns: Sequence[Column], groups: Sequence[Group], class_: str | None = None) -> Html:
    """A table of real headers. Roles are written out: on a narrow screen its rows become blocks, and without them
    browsers would forget that it is a table.
    """
    heads = [tag("th", each.label, scope="col", role="columnheader", class_=each.kind) for each in columns]
    bodies = [tag("tbody", *_rows(group, columns), role="rowgroup") for group in groups]
    head = tag("thead", tag("tr", *heads, role="row"), role="rowgroup")
    name = None if caption is None else tag("caption", caption)
    return tag("table", name, head, *bodies, role="table", class_=class_)


def _rows(group: Group, columns: Sequence[Column]) -> Iterable[Html]:
    if group.title is not None:
        title = tag("th", group.title, scope="rowgroup", role="rowheader", colspan=len(columns))
        yield tag("tr", title, role="row", class_="group")
    for at, cells in enumerate(group.rows):
        first, *others = zip(columns, cells, strict=True)
        name = tag("th", first[1], scope="row", role="rowheader", class_=first[0].kind)
        rest = [tag("td", cell, role="cell", class_=each.kind, data_label=each.label) for each, cell in others]
        yield tag("tr", name, *rest, role="row", class_="muted" if at in group.muted else None)


def _plain(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _in_brackets(match: re.Match[str]) -> str:
    return _NAMED.get(match[0]) or "".join(f"[{each}]" for each in _names(match[0]))


def _set_apart(match: re.Match[str]) -> str:
    return _NAMED.get(match[0]) or f'<span class="odd">{" ".join(_names(match[0]))}</span>'


def _names(characters: str) -> Iterator[str]:
    return (f"U+{ord(each):04X}" for each in characters)
