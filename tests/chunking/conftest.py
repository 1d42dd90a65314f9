"""What the tests of this room share: the real tokenizers, loaded once, and the invariants of any chunking."""

from __future__ import annotations

import functools
import re
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from rag.chunking.registry import CHUNKERS
from rag.chunking.structure import Structure
from rag.chunking.tokens import Tokenizer, load_tokenizer
from rag.types import Chunk, Document

Make = Callable[..., Structure]
Checked = Callable[[Structure, Document], list[Chunk]]
Write = Callable[..., Document]
Load = Callable[[str], Tokenizer]

_loaded = functools.cache(load_tokenizer)


@pytest.fixture(scope="session")
def load() -> Load:
    return _loaded


@pytest.fixture(scope="session")
def make() -> Make:
    """A chunker by its settings; `structure` with cl100k_base unless told otherwise."""

    def made(
        strategy: str = "structure", tokenizer: str = "cl100k_base", size: int = 64, overlap: int = 0, path: bool = True
    ) -> Structure:
        chunker = CHUNKERS[strategy](
            _loaded(tokenizer), max_tokens=size, overlap_tokens=overlap, embed_heading_path=path
        )
        assert isinstance(chunker, Structure)
        return chunker

    return made


@pytest.fixture(scope="session")
def write() -> Write:
    def written(
        text: str, media_type: str = "text/markdown", start: int = 0, context: tuple[str, ...] = ()
    ) -> Document:
        return Document("doc.md", text, "doc", "doc.md", "", media_type, "test/1", body_start=start, context=context)

    return written


@pytest.fixture(scope="session")
def checked() -> Checked:
    """Chunk a document and assert all that holds of every chunking."""

    def run(chunker: Structure, document: Document) -> list[Chunk]:
        text = document.text
        chunks = [chunk for chunk in chunker.chunk(document) if isinstance(chunk, Chunk)]
        covered = bytearray(len(text))
        for at, chunk in enumerate(chunks):
            assert chunk.ordinal == at
            assert chunk.text == text[chunk.start : chunk.end] == chunk.text.strip() != ""
            assert chunk.tokens == chunker.tokenizer.count(chunk.sent) <= chunker.limits.max_tokens
            assert at == 0 or (chunks[at - 1].start < chunk.start and chunks[at - 1].end < chunk.end)
            if chunk.prefix:
                assert chunker.tokenizer.count(chunk.prefix) <= chunker.limits.max_tokens // 4 + 2
                assert chunk.prefix.endswith("\n\n")
            covered[chunk.start : chunk.end] = b"\1" * (chunk.end - chunk.start)
        for word in re.finditer(r"\S+", text[document.body_start :]):
            first, last = (place + document.body_start for place in word.span())
            assert all(covered[first:last]), (first, last)
        assert not any(covered[: document.body_start])
        return chunks

    return run


@pytest.fixture(scope="session")
def fastapi(datasets: Path) -> list[Document]:
    """The FastAPI tree: 780 Markdown documents in many languages."""
    found = []
    with tarfile.open(datasets / "docs-fastapi" / "fastapi-docs.tar.gz") as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isfile() else None
            if file is not None:
                text = file.read().decode()
                found.append(Document(member.name, text, "", member.name, "", "text/markdown", "test/1"))
    return found
