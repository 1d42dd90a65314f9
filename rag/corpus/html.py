"""HTML: the main text as Markdown, without what surrounds it."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rag.corpus.encoding import decode
from rag.corpus.page import Page, one_line, whole
from rag.corpus.spec import CorpusSpec
from rag.types import Json

if TYPE_CHECKING:
    from selectolax.lexbor import LexborHTMLParser, LexborNode

_LEFT_OUT = [
    "script",
    "style",
    "noscript",
    "template",
    "svg",
    "iframe",
    "object",
    "canvas",
    "audio",
    "video",
    "nav",
    "footer",
    "aside",
    "dialog",
    "button",
    "input",
    "select",
    "textarea",
]
_BLOCKS = frozenset(
    "address article body caption center dd details div dl dt fieldset figcaption figure form header hgroup hr html "  # noqa: SIM905 - a list of words
    "legend main p section summary tbody tfoot thead".split()
)
_HEADINGS = {f"h{level}": "#" * level for level in range(1, 7)}
_ROLES = frozenset({"navigation", "banner", "contentinfo", "search", "complementary"})
_HIDDEN_STYLE = re.compile(r"(?:display\s*:\s*none|visibility\s*:\s*hidden)", re.IGNORECASE)
_DEEP = 12
"""Quotes and lists within one another that still indent further: without a limit the text grows with the square."""
_SPACE = re.compile(r"[ \t\n\r\f\v\xa0]+")
_PERMALINK = re.compile(r"\s*(?:¶|🔗)$|\s#$")
# A line that Markdown would take for a heading, quote, list, fence, table or underline.
_ACCIDENT = re.compile(
    r"^(\d{1,9}(?=[.)](?:\s|$))|(?=#{1,6}(?:\s|$)|>|[-+*](?:\s|$)|`{3}|~{3}|\||=+$|-{2,}$))", re.MULTILINE
)
_LANGUAGE = re.compile(r"(?:^|\s)(?:language|lang|highlight(?:-source)?)-([A-Za-z0-9_+#.-]{1,30})")
_CHARSET = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([A-Za-z0-9_:.-]{1,40})""", re.IGNORECASE)
_META = {
    "description": "description",
    "author": "author",
    "keywords": "keywords",
    "date": "date",
    "dcterms.date": "date",
    "article:published_time": "date",
}
_META_LIMIT = 2000


def read(data: bytes, spec: CorpusSpec) -> Page:
    """The main text of a page. A charset that the page declares comes before that of the settings. Raises Unreadable."""
    from selectolax.lexbor import LexborHTMLParser

    tree = LexborHTMLParser(decode(data, _declared(data) or spec.encoding))
    metadata = _metadata(tree)
    title = tree.css_first("head > title") or tree.css_first("h1")
    named = one_line(title.text()) if title is not None else ""
    tree.strip_tags(_LEFT_OUT)
    text = next((text for node, forms in _candidates(tree) if (text := _Markdown(forms=forms).of(node)).strip()), "")
    return Page(whole(text), named, metadata)


def _declared(data: bytes) -> str | None:
    found = _CHARSET.search(data[:1024])
    name = found[1].decode("ascii").lower() if found else ""
    try:
        known = codecs.lookup(name)
    except (LookupError, ValueError):
        return None
    if not known._is_text_encoding:  # noqa: SLF001 - the only way to tell text codecs
        return None
    # What calls itself Latin-1 or ASCII on the web is Windows-1252.
    return "cp1252" if known.name in {"iso8859-1", "ascii"} else known.name


def _metadata(tree: LexborHTMLParser) -> dict[str, Json]:
    metadata: dict[str, Json] = {}
    lang = tree.root.attributes.get("lang") if tree.root is not None else None
    if lang:
        metadata["lang"] = lang[:40]
    for meta in tree.css("meta[content]")[:500]:
        attributes = meta.attributes
        key = _META.get((attributes.get("name") or attributes.get("property") or "").lower())
        if key and key not in metadata and (content := (attributes.get("content") or "").strip()):
            metadata[key] = content[:_META_LIMIT]
    return metadata


def _candidates(tree: LexborHTMLParser) -> Iterator[tuple[LexborNode, bool]]:
    """Where the main text may be, best first, and whether forms count: some pages are one form."""
    body = tree.body
    if body is None:
        return
    mains = tree.css("main, [role=main]")[:1] or tree.css("article")[:20]
    best = max(mains, key=_length, default=None)
    if best is not None and _length(best) * 2 >= _length(body):
        yield best, False
    yield body, False
    yield body, True


def _length(node: LexborNode) -> int:
    return len(node.text())


class _Markdown:
    """One walk through a tree without recursion: blocks are written as they end."""

    def __init__(self, *, forms: bool) -> None:
        self._forms = forms
        self._out: list[str] = []
        self._inline: list[str] = []
        self._heading = ""
        self._prefix = [""]
        self._marker = ""
        self._lists: list[int | None] = []
        self._item = False
        self._last = ""
        self._content = 0
        self._pre = 0
        self._language = ""
        self._tables = 0
        self._rows: list[list[str]] = []
        self._span = 0

    def of(self, root: LexborNode) -> str:
        """The text below a node."""
        node: LexborNode | None = root
        depth = 0
        while node is not None:
            entered = self._enter(node)
            child = node.first_child if entered else None
            if child is not None:
                node, depth = child, depth + 1
                continue
            while True:
                if entered:
                    self._exit(node.tag or "")
                if depth == 0:
                    self._flush()
                    return "".join(self._out) + "\n" * bool(self._out)
                following = node.next
                if following is not None:
                    node = following
                    break
                parent = node.parent
                assert parent is not None
                node, depth, entered = parent, depth - 1, True
        return ""

    def _enter(self, node: LexborNode) -> bool:
        """Begin a node; False when nothing below it is wanted."""
        tag = node.tag or ""
        if tag == "-text":
            text = node.text_content or ""
            self._inline.append(text if self._pre else _SPACE.sub(" ", text))
            return False
        if tag.startswith(("-", "!")) or self._unwanted(node, tag):
            return False
        if tag == "br":
            self._inline.append("\n")
        elif tag == "img":
            alt = node.attributes.get("alt")
            self._inline.append(_SPACE.sub(" ", alt) if alt else "")
        elif tag in {"article", "main", "section"}:
            self._content += 1
        self._begin(node, tag)
        return True

    def _unwanted(self, node: LexborNode, tag: str) -> bool:
        if (tag == "header" and not self._content) or (tag == "form" and not self._forms):
            return True
        attributes = node.attributes
        if not attributes:
            return False
        hidden = "hidden" in attributes or attributes.get("aria-hidden") == "true" or attributes.get("role") in _ROLES
        return hidden or _HIDDEN_STYLE.search(attributes.get("style") or "") is not None

    def _begin(self, node: LexborNode, tag: str) -> None:
        if self._tables:
            self._begin_in_table(node, tag)
        elif tag == "table":
            self._flush()
            self._tables, self._rows = 1, []
        elif tag == "pre":
            self._flush()
            self._pre += 1
            self._language = _language(node, node.parent, node.first_child)
        elif tag in _HEADINGS:
            self._flush()
            self._heading = _HEADINGS[tag] + " "
        elif tag in {"ul", "ol", "menu"}:
            self._flush()
            start = node.attributes.get("start") or ""
            self._lists.append(
                (int(start) if start.isascii() and start.isdigit() and len(start) < 9 else 1) if tag == "ol" else None
            )
        elif tag in {"li", "dd"}:
            self._flush()
            bullet = self._bullet(tag)
            self._marker = self._prefix[-1] + bullet
            self._indent(" " * len(bullet))
        elif tag == "blockquote":
            self._flush()
            self._indent("> ")
        elif tag in _BLOCKS:
            self._flush()

    def _indent(self, more: str) -> None:
        self._prefix.append(self._prefix[-1] + (more if len(self._prefix) <= _DEEP else ""))

    def _bullet(self, tag: str) -> str:
        count = self._lists[-1] if self._lists and tag == "li" else None
        if count is None:
            return "- "
        self._lists[-1] = count + 1
        return f"{count}. "

    def _begin_in_table(self, node: LexborNode, tag: str) -> None:
        if tag == "table":
            self._tables += 1
        if tag == "tr" and self._tables == 1:
            self._rows.append([])
        elif tag in {"td", "th"} and self._tables == 1:
            self._inline = []
            span = node.attributes.get("colspan") or ""
            self._span = max(0, min(int(span[:4]) - 1, 20)) if span.isascii() and span.isdigit() else 0
        elif tag in _BLOCKS or tag in _HEADINGS or tag in {"table", "tr", "td", "th", "li", "pre", "blockquote"}:
            self._inline.append(" ")

    def _exit(self, tag: str) -> None:
        if tag in {"article", "main", "section"}:
            self._content -= 1
        if self._tables:
            self._exit_in_table(tag)
        elif tag == "pre":
            self._code()
            self._pre -= 1
        elif tag in _HEADINGS:
            self._flush()
            self._heading = ""
        elif tag in {"ul", "ol", "menu"}:
            self._flush()
            self._lists.pop()
        elif tag in {"li", "dd", "blockquote"}:
            self._flush()
            self._prefix.pop()
            self._marker = ""
        elif tag in _BLOCKS:
            self._flush()

    def _exit_in_table(self, tag: str) -> None:
        if tag == "table":
            self._tables -= 1
            if not self._tables:
                self._inline = []
                self._table()
        elif self._tables == 1 and tag in {"td", "th"}:
            if not self._rows:
                self._rows.append([])
            self._rows[-1] += [_collapsed(self._inline).replace("\n", " "), *[""] * self._span]
            self._inline = []
        elif self._tables == 1 and tag == "caption":
            self._tables = 0
            self._flush()
            self._tables = 1
        elif tag in _BLOCKS or tag in _HEADINGS or tag in {"li", "pre", "blockquote"}:
            self._inline.append(" ")

    def _flush(self) -> None:
        """Write the paragraph, heading or list item that has come together."""
        if self._pre or not self._inline:
            return
        text = _collapsed(self._inline)
        self._inline = []
        if not text:
            return
        if self._heading:
            self._write(self._heading + _PERMALINK.sub("", text.replace("\n", " ")))
        else:
            self._write(_ACCIDENT.sub(r"\1\\", text))

    def _code(self) -> None:
        text = "".join(self._inline).replace("\r\n", "\n").strip("\n").rstrip()
        self._inline = []
        if text:
            fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
            self._write(f"{fence}{self._language}\n{text}\n{fence}")

    def _table(self) -> None:
        rows = [row for row in self._rows if any(row)]
        self._rows = []
        if max(map(len, rows), default=0) < 2:
            for row in rows:
                self._write(_ACCIDENT.sub(r"\1\\", row[0]))
            return
        lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
        lines.insert(1, "|" + " --- |" * len(rows[0]))
        self._write("\n".join(lines))

    def _write(self, block: str) -> None:
        prefix = self._prefix[-1]
        first, self._marker, item = self._marker or prefix, "", bool(self._marker)
        if self._out:
            # Items of one list stand close together, all else has an empty line between.
            within = _common(self._last, prefix)
            apart = f"\n{within}\n" if ">" in within else "\n\n"
            self._out.append("\n" if item and self._item else apart)
        self._item, self._last = item, prefix
        lines = block.split("\n")
        self._out.append("\n".join([first + lines[0], *((prefix + line).rstrip() for line in lines[1:])]))


def _common(one: str, other: str) -> str:
    """What two prefixes share: where it holds a quote, the empty line between stays inside that quote."""
    size = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return one[:size].rstrip()


def _collapsed(parts: list[str]) -> str:
    text = re.sub(r" +", " ", "".join(parts))
    return re.sub(r" ?\n ?", "\n", text).strip()


def _language(*nodes: LexborNode | None) -> str:
    """The language of a code block, from the class of pre, of what is around it, or of the code in it."""
    for node in nodes:
        found = _LANGUAGE.search((node.attributes.get("class") or "") if node is not None else "")
        if found and found[1] not in {"default", "none", "text"}:
            return found[1]
    return ""
