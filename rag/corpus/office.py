"""PDF and DOCX. Both are read in a process of their own (`worker.py`): their parsers promise no limit."""

from __future__ import annotations

import io
import itertools
import re
import zipfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rag.corpus.page import Page, Unreadable, one_line, whole
from rag.corpus.spec import CorpusSpec
from rag.types import Json

if TYPE_CHECKING:
    from docx.document import Document as DocxDocument
    from pypdf import PdfReader

UNPACKED_LIMIT = 256 * 1024 * 1024
"""Bytes that the parts of one DOCX may unpack to."""
_INSTALL = ".venv/bin/python -m pip install -e '.[documents]'"
_ENTRIES = 10_000
_NUMBERING = re.compile(r"^[\W\d_]+")
# A line of a page that Markdown would take for a heading, its underline, a fence or HTML.
_ACCIDENT = re.compile(r"^(?=[ ]{0,3}(?:#{1,6}(?:\s|$)|`{3}|~{3}|<[!?/A-Za-z]|(?:=+|-+)\s*$))", re.MULTILINE)


def pdf(data: bytes, spec: CorpusSpec) -> Page:  # noqa: ARG001 - the signature of all readers
    """The text layer, page by page, an empty line between pages; with an outline, its entries as Markdown headings.

    Raises Unreadable.
    """
    try:
        import pypdf
    except ModuleNotFoundError as error:
        raise Unreadable("needs an extra", f"PDF needs pypdf: {_INSTALL}") from error
    try:
        file = pypdf.PdfReader(io.BytesIO(data))
        if file.is_encrypted and not file.decrypt(""):
            raise Unreadable("encrypted", "the PDF asks for a password")  # noqa: TRY301 - passes the net below
        # pypdf gives halves of surrogate pairs where a font's character map is broken
        pages = [_scalars(page.extract_text()).strip() for page in file.pages]
        about = file.metadata
    except (Unreadable, MemoryError):
        raise
    except Exception as error:
        raise Unreadable("broken", f"not a readable PDF: {type(error).__name__}: {error}"[:500]) from error
    outline = _outline(file) if any(pages) else {}
    if outline:
        pages = [_with_headings(page, outline.get(number, [])) for number, page in enumerate(pages)]
    text = "\n\n".join(filter(None, pages))
    if not text:
        raise Unreadable("empty", f"no text layer on {len(pages):,} pages: a scan needs OCR first")
    metadata: dict[str, Json] = {"pages": len(pages)}
    named = {"author": about.author, "keywords": about.keywords, "subject": about.subject} if about else {}
    metadata |= {
        key: one_line(_scalars(value)) for key, value in named.items() if isinstance(value, str) and value.strip()
    }
    title = about.title if about and isinstance(about.title, str) else ""
    return Page(text, one_line(_scalars(title)), metadata, media_type="text/markdown" if outline else "")


def _outline(file: PdfReader) -> dict[int, list[tuple[int, str]]]:
    """Page (from 0) -> (level from 1, title) of the entries of the outline there; nothing where it is broken."""
    found: dict[int, list[tuple[int, str]]] = {}
    try:
        for level, entry in itertools.islice(_entries(file.outline, 1), _ENTRIES):
            number = file.get_destination_page_number(entry)
            if number is not None and (title := one_line(_scalars(str(entry.title or "")))):
                found.setdefault(number, []).append((level, title))
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - the text is whole without it
        return {}
    return found


def _entries(outline: list[Any], level: int) -> Iterator[tuple[int, Any]]:
    for item in outline:
        if isinstance(item, list):
            yield from _entries(item, level + 1)
        else:
            yield level, item


def _with_headings(page: str, headings: list[tuple[int, str]]) -> str:
    """A page whose headings are marked where they stand; one that is not found stands where it may begin at the latest."""
    lines = _ACCIDENT.sub(r"\\", page).split("\n") if page else []
    at = 0
    for level, title in headings:
        mark, wanted = "#" * min(level, 6) + " ", _letters(title)
        found = next((n for n in range(at, len(lines)) if _letters(lines[n]) == wanted), None)
        if found is None:
            lines.insert(at, mark + title)
            found = at
        else:
            lines[found] = mark + lines[found].strip()
        at = found + 1
    return "\n".join(lines)


def _letters(text: str) -> str:
    """A heading without numbering, spaces and punctuation: an outline often spells it a little differently."""
    bare = _NUMBERING.sub("", text) or text
    return "".join(letter for letter in bare.casefold() if letter.isalnum())


def _scalars(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def docx(data: bytes, spec: CorpusSpec) -> Page:  # noqa: ARG001 - the signature of all readers
    """Headings, paragraphs, lists and tables as Markdown. Raises Unreadable."""
    try:
        import docx as package
    except ModuleNotFoundError as error:
        raise Unreadable("needs an extra", f"DOCX needs python-docx: {_INSTALL}") from error
    _refuse_bomb(data)
    try:
        file = package.Document(io.BytesIO(data))
        text = "".join(_blocks(file))
        about = file.core_properties
        metadata: dict[str, Json] = {}
        for key in ("author", "keywords", "subject"):
            if value := getattr(about, key):
                metadata[key] = one_line(value)
        if about.created:
            metadata["created"] = about.created.isoformat()
        return Page(whole(text), one_line(about.title or "") or _first_heading(text), metadata)
    except (Unreadable, MemoryError):
        raise
    except Exception as error:
        raise Unreadable("broken", f"not a readable DOCX: {type(error).__name__}: {error}"[:500]) from error


def _refuse_bomb(data: bytes) -> None:
    """The sizes that a zip names bind: its reader gives no byte more than a part has promised."""
    if data.startswith(b"\xd0\xcf\x11\xe0"):
        raise Unreadable("encrypted", "the document asks for a password, or is of Word 97")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as parts:
            size = sum(part.file_size for part in parts.infolist())
    except (zipfile.BadZipFile, ValueError, OSError) as error:
        raise Unreadable("broken", f"not a readable DOCX: {error}") from error
    if size > UNPACKED_LIMIT:
        raise Unreadable("bomb", f"unpacks to {size:,} bytes; the limit is {UNPACKED_LIMIT:,}")


def _blocks(file: DocxDocument) -> Iterator[str]:
    from docx.table import Table

    before, below = "", 0
    for block in file.iter_inner_content():
        kind, text = ("table", _table(block)) if isinstance(block, Table) else _paragraph(block, below)
        if text:
            below = 1 if kind == "title" else below
            if before:
                yield "\n" if kind == before == "item" else "\n\n"
            yield text
            before = kind
    yield "\n"


def _paragraph(block: Any, below: int) -> tuple[str, str]:
    """Kind and text of a paragraph; `below` is 1 behind a title, which stands above all headings."""
    text = " ".join(block.text.split(" ")).strip()
    if not text:
        return "", ""
    style = (block.style.name if block.style is not None else "") or ""
    kind, _, level = style.partition(" ")
    if style == "Title":
        return "title", f"# {one_line(text)}"
    if kind == "Heading" and level.isdigit():
        return "heading", f"{'#' * min(int(level) + below, 6)} {one_line(text)}"
    if kind == "List" or (block._p.pPr is not None and block._p.pPr.numPr is not None):  # noqa: SLF001 - no other way
        depth = _depth(block, style)
        bullet = "1. " if "Number" in style else "- "
        return "item", "    " * depth + bullet + text.replace("\n", " ")
    return "text", text


def _depth(block: Any, style: str) -> int:
    numbering = block._p.pPr.numPr if block._p.pPr is not None else None  # noqa: SLF001 - no other way
    if numbering is not None and numbering.ilvl is not None:
        return min(int(numbering.ilvl.val), 8)
    last = style.rpartition(" ")[2]
    return min(int(last) - 1, 8) if last.isdigit() else 0


def _table(table: Any) -> str:
    rows = []
    for row in table.rows:
        # A merged cell comes once for each column that it spans.
        cells: list[Any] = []
        for cell in row.cells:
            if not cells or cell._tc is not cells[-1]._tc:  # noqa: SLF001 - no other way
                cells.append(cell)
        rows.append([" ".join(cell.text.split()).replace("|", "\\|") for cell in cells])
    rows = [row for row in rows if any(row)]
    if not rows:
        return ""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|" + " --- |" * len(rows[0]))
    return "\n".join(lines)


def _first_heading(text: str) -> str:
    from rag.corpus.markdown import first_heading

    return first_heading(text)
