"""Real trees accounted for to the last file, and files made to hurt: ten seconds and a bounded memory each."""

from __future__ import annotations

import json
import os
import tarfile
import time
from pathlib import Path

import pytest

from rag.corpus.read import Reading
from rag.corpus.snapshot import snapshot
from rag.corpus.spec import CorpusSpec
from rag.types import Document, Excluded

LATER = 4 * 10**18


def everything(folder: Path) -> list[Document | Excluded]:
    spec = CorpusSpec((folder,))
    return list(Reading(snapshot(spec, None, LATER), spec))


@pytest.mark.parametrize(
    ("archive", "files", "excluded"),
    [
        ("docs-fastapi/fastapi-docs.tar.gz", 780, 0),
        pytest.param("docs-tldr/tldr-pages-en.tar.gz", 7425, 1, marks=pytest.mark.slow),
    ],
)
def test_a_real_tree_is_accounted_for(datasets: Path, tmp_path: Path, archive: str, files: int, excluded: int) -> None:
    with tarfile.open(datasets / archive) as tree:
        tree.extractall(tmp_path / "tree", filter="data")
    found = everything(tmp_path / "tree")
    documents = [item for item in found if isinstance(item, Document)]
    assert (len(found), len(found) - len(documents)) == (files, excluded)
    for document in documents:
        path = tmp_path / "tree" / document.doc_id
        assert document.text.encode() == path.read_bytes()
        assert document.title
    assert [document.doc_id for document in documents] == sorted((d.doc_id for d in documents), key=str.encode)


HOSTILE: dict[str, tuple[bytes, str]] = {
    "comments.html": (b"<!--" * 50_000, "empty"),
    "nested.html": (b"<div>" * 200_000 + b"x", "too slow"),
    "lists.html": (b"<ul><li>x" * 4_000, "document"),
    "quotes.html": (b"<blockquote>x" * 20_000, "document"),
    "tables.html": (b"<table><tr><td>x" * 50_000, "document"),
    "cells.html": (b"<table><tr>" + b"<td>x" * 20_000 + b"<tr><td>y" * 20_000, "document"),
    "attributes.html": (b"<p " + b" ".join(b"a%d=1" % n for n in range(100_000)) + b">x", "too slow"),
    "script.html": (b"<p>x</p><script>" + b"y" * 1_000_000, "document"),
    "entities.html": (b"&amp;&lt;&#x41;" * 100_000, "document"),
    "laughs.html": (b'<!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><p>&b;', "document"),
    "image.html": (b"<p>x<img src='data:image/png;base64," + b"A" * 2_000_000 + b"'>", "document"),
    "brackets.md": (b"[" * 1_000_000, "document"),
    "backquotes.md": (b"`" * 1_000_000, "document"),
    "hashes.md": (b"# " + b"#" * 1_000_000, "document"),
    "links.md": (b"# " + b"[a](" * 300_000, "document"),
    "newlines.md": (b"\n" * 1_000_000 + b"x", "document"),
    "fences.md": (b"---\n" * 200_000, "document"),
    "yaml.md": (b"---\na: " + b"[" * 60_000 + b"\n---\nx", "document"),
    "object.md": (b"---\na: !!python/object/apply:os.system ['touch hacked']\n---\nx", "document"),
    "long.txt": (b"a" * 100_000_000, "document"),
    "spaceless.txt": (b"\xc3\xa9" * 5_000_000, "document"),
    "nul.txt": (b"\0" * 1_000_000, "binary"),
    "rtl.txt": ("\u202eevil\u200b\u2066".encode(), "document"),
    "escape.txt": (b"\x1b]0;pwned\x07\x1b[31m", "document"),
    "brackets.jsonl": (b"[" * 100_000, "nesting"),
    "objects.jsonl": (b'{"a":' * 100_000, "nesting"),
    "quote.csv": (b'id,text\n1,"' + b"x\n" * 1_000_000, "broken"),
    "wide.csv": (b"," * 1_000_000 + b"\n" + b"," * 1_000_000, "columns"),
    "trash.parquet": (b"PAR1" + os.urandom(1000) + b"\xff\xff\xff\x7fPAR1", "broken"),
    "trash.pdf": (b"%PDF-1.7\n" + b"1 0 obj<</Kids[1 0 R]/Type/Pages/Count 9>>endobj\n" * 5_000, "broken"),
    "trash.docx": (b"PK\x03\x04" + b"\0" * 5_000, "broken"),
}


SLOW = {"nested.html", "attributes.html", "yaml.md", "quotes.html"}


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in HOSTILE])
def test_a_hostile_file_is_read_or_a_row_within_ten_seconds(tmp_path: Path, name: str) -> None:
    data, expected = HOSTILE[name]
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / name).write_bytes(data)
    (tmp_path / "c" / "good.md").write_text("# Good\n")
    before = os.times()
    found = everything(tmp_path / "c")
    after = os.times()
    assert sum(after[:4]) - sum(before[:4]) < 10
    item = next(item for item in found if not item.source.endswith("good.md"))
    assert (item.reason if isinstance(item, Excluded) else "document") == expected
    assert any(isinstance(item, Document) and item.doc_id == "good.md" for item in found)
    if isinstance(item, Document):
        assert len(item.text) < 5 * len(data) + 100
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c"]


def test_naughty_strings_are_file_names_and_texts(datasets: Path, tmp_path: Path) -> None:
    strings = json.loads((datasets / "hostile-text" / "blns.json").read_text())
    names = sorted({text.replace("/", "_").replace("\0", "_") for text in strings if text.strip()})
    made = 0
    for text in names:
        name = f"x{text}.md"
        if len(name.encode()) <= 255:
            (tmp_path / name).write_text(text)
            made += 1
    found = everything(tmp_path)
    assert len(found) == made > 450
    # One of them is a byte order mark and nothing else.
    assert [item.reason for item in found if isinstance(item, Excluded)] == ["empty"]


def test_the_same_text_in_many_files_is_many_documents(tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / f"{number}.md").write_text("the same\n")
    found = everything(tmp_path)
    assert len({item.doc_id for item in found}) == 300


def test_a_reader_that_fails_is_a_row_with_its_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rag.corpus import readers

    def broken(data: bytes, spec: CorpusSpec) -> None:
        raise RuntimeError("a parser's bug")

    monkeypatch.setitem(readers.READERS, "md", readers.PageReader("bad/1", "text/plain", broken))  # type: ignore[arg-type]
    (tmp_path / "a.md").write_text("x")
    (tmp_path / "b.txt").write_text("y")
    first, second = everything(tmp_path)
    assert isinstance(first, Excluded)
    assert (first.reason, first.detail) == ("failed", "RuntimeError: a parser's bug")
    assert isinstance(second, Document)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission_is_a_row(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("x")
    (tmp_path / "b.md").write_text("y")
    (tmp_path / "b.md").chmod(0)
    assert [getattr(item, "reason", "document") for item in everything(tmp_path)] == ["unreadable", "document"]


def test_a_folder_of_many_files_is_listed_fast(tmp_path: Path) -> None:
    for number in range(5_000):
        (tmp_path / f"{number:05d}.txt").write_bytes(b"x")
    spec = CorpusSpec((tmp_path,))
    memory = snapshot(spec, None, LATER)
    before = time.process_time()
    assert snapshot(spec, memory, LATER).hashed == 0
    assert time.process_time() - before < 0.5
