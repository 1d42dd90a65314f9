from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from rag.corpus import office
from rag.corpus import worker as limits
from rag.corpus.page import Page, Unreadable
from rag.corpus.read import Reading
from rag.corpus.readers import READERS, PageReader
from rag.corpus.snapshot import snapshot
from rag.corpus.spec import CorpusSpec
from rag.corpus.worker import Worker
from rag.types import Document, Excluded

SPEC = CorpusSpec(())


def reader(suffix: str) -> PageReader:
    found = READERS[suffix]
    assert isinstance(found, PageReader)
    return found


def a_pdf(*pages: str, title: str = "", stream: bytes | None = None, filters: bytes = b"") -> bytes:
    """A PDF of one line of text a page."""
    numbers = [4 + 2 * at for at in range(len(pages))]
    objects = {
        1: b"<< /Type /Catalog /Pages 2 0 R >>",
        2: b"<< /Type /Pages /Count %d /Kids [%s] >>"
        % (len(pages), b" ".join(b"%d 0 R" % number for number in numbers)),
        3: b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    }
    for number, text in zip(numbers, pages, strict=True):
        content = b"BT /F1 12 Tf 72 720 Td (%s) Tj ET" % text.encode("cp1252") if stream is None else stream
        objects[number] = (
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents %d 0 R /Resources << /Font << /F1 3 0 R >> >> >>"
            % (number + 1)
        )
        objects[number + 1] = b"<< /Length %d %s >>\nstream\n%s\nendstream" % (len(content), filters, content)
    about = max(objects) + 1
    objects[about] = b"<< /Title (%s) /Author (An Author) >>" % title.encode()
    out = io.BytesIO()
    out.write(b"%PDF-1.4\n")
    places = []
    for number, body in sorted(objects.items()):
        places.append(out.tell())
        out.write(b"%d 0 obj\n%s\nendobj\n" % (number, body))
    start = out.tell()
    out.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
    out.write(b"".join(b"%010d 00000 n \n" % place for place in places))
    out.write(
        b"trailer\n<< /Size %d /Root 1 0 R /Info %d 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, about, start)
    )
    return out.getvalue()


def a_docx() -> bytes:
    import docx

    file = docx.Document()
    file.core_properties.title = ""
    file.core_properties.author = "Me"
    file.add_heading("The handbook", 0)
    file.add_paragraph("First paragraph.")
    file.add_heading("Deeper", 2)
    for text in ("one", "two"):
        file.add_paragraph(text, style="List Bullet")
    file.add_paragraph("under two", style="List Bullet 2")
    file.add_paragraph("first", style="List Number")
    table = file.add_table(rows=2, cols=2)
    for cell, text in zip(table._cells, ["A", "B|c", "1", "2\n3"], strict=True):
        cell.text = text
    file.add_paragraph("After the table.")
    out = io.BytesIO()
    file.save(out)
    return out.getvalue()


def items(folder: Path, files: dict[str, bytes]) -> list[Document | Excluded]:
    (folder / "c").mkdir(exist_ok=True)
    for name, data in files.items():
        (folder / "c" / name).write_bytes(data)
    spec = CorpusSpec((folder / "c",))
    return list(Reading(snapshot(spec, None, 4 * 10**18), spec))


def test_pdf_and_docx_are_documents(tmp_path: Path) -> None:
    word, print_ = items(
        tmp_path, {"a.docx": a_docx(), "b.pdf": a_pdf("Page one says this.", "Page two.", title="A title")}
    )
    assert isinstance(word, Document)
    assert isinstance(print_, Document)
    assert word.text == (
        "# The handbook\n\nFirst paragraph.\n\n### Deeper\n\n- one\n- two\n    - under two\n1. first\n\n"
        "| A | B\\|c |\n| --- | --- |\n| 1 | 2 3 |\n\nAfter the table.\n"
    )
    assert (word.title, word.media_type, word.metadata["author"]) == ("The handbook", "text/markdown", "Me")
    assert word.reader.startswith("docx/2+python-docx-")
    assert print_.text == "Page one says this.\n\nPage two."
    assert print_.media_type == "text/plain"
    assert (print_.title, print_.metadata) == ("A title", {"pages": 2, "author": "An Author"})
    assert print_.reader.startswith("pdf/2+pypdf-")


def a_pdf_with_outline(entries: list[tuple[str, int, int]], *pages: str) -> bytes:
    """(title, level, page) of each entry."""
    import pypdf

    writer = pypdf.PdfWriter(io.BytesIO(a_pdf(*pages)))
    above: list[Any] = [None]
    for title, level, page in entries:
        del above[level:]
        above.append(writer.add_outline_item(title=title, page_number=page, parent=above[level - 1]))
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def test_the_outline_of_a_pdf_becomes_headings_where_they_stand_or_at_their_page(tmp_path: Path) -> None:
    data = a_pdf_with_outline(
        [("Rivets", 1, 0), ("Panel point 3", 2, 1), ("Measures", 1, 2)],
        "1. RIVETS",
        "# Four of them gave a dull sound.",
        "Measures",
        "None.",
    )
    (document,) = items(tmp_path, {"a.pdf": data})
    assert isinstance(document, Document)
    assert document.text == (
        "# 1. RIVETS\n\n## Panel point 3\n\\# Four of them gave a dull sound.\n\n# Measures\n\nNone."
    )
    assert document.media_type == "text/markdown"


def test_a_broken_outline_leaves_the_text_as_it_is(tmp_path: Path) -> None:
    data = a_pdf("The text.").replace(b"/Type /Catalog", b"/Type /Catalog /Outlines 99 0 R")
    looping = a_pdf_with_outline([("One", 1, 0), ("Two", 1, 0)], "The text.")
    for name, content in (("a.pdf", data), ("b.pdf", looping.replace(b"/Next", b"/First"))):
        (tmp_path / name).mkdir()
        (document,) = items(tmp_path / name, {name: content})
        assert isinstance(document, Document)
        assert document.text.endswith("The text.")


def test_headings_of_a_document_stand_below_its_title(tmp_path: Path) -> None:
    import docx

    texts = {}
    for titled in (True, False):
        file = docx.Document()
        if titled:
            file.add_heading("The handbook", 0)
        for level in (1, 2, 6):
            file.add_heading(f"Level {level}", level)
        out = io.BytesIO()
        file.save(out)
        texts[titled] = office.docx(out.getvalue(), SPEC).text
    assert texts[True] == "# The handbook\n\n## Level 1\n\n### Level 2\n\n###### Level 6\n"
    assert texts[False] == "# Level 1\n\n## Level 2\n\n###### Level 6\n"


def test_broken_encrypted_and_empty_files_are_rows_with_a_reason(tmp_path: Path) -> None:
    import pypdf

    writer = pypdf.PdfWriter()
    writer.add_blank_page(72, 72)
    writer.encrypt("secret", algorithm="RC4-128")
    locked = io.BytesIO()
    writer.write(locked)
    whole = a_docx()
    found = items(
        tmp_path,
        {
            "blank.pdf": a_pdf(""),
            "cut.docx": whole[: len(whole) // 2],
            "locked.docx": b"\xd0\xcf\x11\xe0" + b"\0" * 600,
            "locked.pdf": locked.getvalue(),
            "not.docx": b"words",
            "not.pdf": b"words",
            "ok.md": b"# fine\n",
        },
    )
    reasons = {item.source: item.reason for item in found if isinstance(item, Excluded)}
    assert reasons == {
        "c/blank.pdf": "empty",
        "c/cut.docx": "broken",
        "c/locked.docx": "encrypted",
        "c/locked.pdf": "encrypted",
        "c/not.docx": "broken",
        "c/not.pdf": "broken",
    }
    assert len(found) == 7


@pytest.mark.parametrize(("suffix", "package"), [("pdf", "pypdf"), ("docx", "docx")])
def test_without_its_package_a_file_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, suffix: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(Unreadable, match=r"pip install -e '\.\[documents\]'") as caught:
        reader(suffix).read(b"", SPEC)
    assert caught.value.reason == "needs an extra"


def test_a_zip_bomb_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(office, "UNPACKED_LIMIT", 1 << 20)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as parts:
        parts.writestr("word/document.xml", b" " * (office.UNPACKED_LIMIT + 1))
    with pytest.raises(Unreadable, match="unpacks to") as caught:
        office.docx(out.getvalue(), SPEC)
    assert caught.value.reason == "bomb"


def test_members_that_climb_out_and_entities_are_never_followed(tmp_path: Path) -> None:
    canary = tmp_path / "canary.txt"
    canary.write_text("CANARY")
    document = zipfile.ZipFile(io.BytesIO(a_docx()))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as parts:
        for name in document.namelist():
            data = document.read(name)
            if name == "word/document.xml":
                data = data.replace(
                    b"<w:document", f'<!DOCTYPE d [<!ENTITY x SYSTEM "file://{canary}">]><w:document'.encode(), 1
                )
                data = data.replace(b"First paragraph.", b"First &x; paragraph.")
            parts.writestr(name, data)
        parts.writestr("../../outside.txt", "x")
        parts.writestr("/etc/outside.txt", "x")
    with Worker() as worker:
        try:
            text = worker.page(reader("docx"), out.getvalue(), SPEC).text
        except Unreadable as verdict:
            text = verdict.detail
    assert "CANARY" not in text
    assert [path.name for path in tmp_path.iterdir()] == ["canary.txt"]


def test_a_stream_that_unpacks_without_end_is_refused() -> None:
    import zlib

    packed = zlib.compress(b"(x) Tj " * 30_000_000, 1)
    data = a_pdf("x", stream=packed, filters=b"/Filter /FlateDecode")
    with Worker() as worker, pytest.raises(Unreadable) as caught:
        worker.page(reader("pdf"), data, SPEC)
    assert caught.value.reason in {"broken", "too large", "too slow", "empty"}


@pytest.mark.slow
def test_a_child_that_takes_too_long_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SECONDS", 0.5)
    monkeypatch.setattr(limits, "SECONDS_PER_MIB", 0.0)
    deep = b"<div>" * 400_000
    with Worker() as worker:
        with pytest.raises(Unreadable, match="CPU time") as caught:
            worker.page(reader("html"), deep, SPEC)
        assert caught.value.reason == "too slow"
        assert worker.page(reader("html"), b"<p>still here", SPEC) == Page("still here\n", "")


def test_a_child_that_dies_is_a_row_and_the_next_file_is_read() -> None:
    with Worker() as worker:
        worker.page(reader("html"), b"<p>x", SPEC)
        assert worker._child is not None
        worker._child.terminate()
        worker._child.wait()
        with pytest.raises(Unreadable, match="ended the process"):
            worker.page(reader("html"), b"<p>x", SPEC)
        assert worker.page(reader("html"), b"<p>y", SPEC).text == "y\n"


def test_no_child_is_left_behind() -> None:
    with Worker() as worker:
        worker.page(reader("html"), b"<p>x", SPEC)
        child = worker._child
    assert child is not None
    assert child.poll() is not None
