"""Plain text and source code: the decoded file, unchanged."""

from __future__ import annotations

from rag.corpus.encoding import decode
from rag.corpus.page import Page
from rag.corpus.spec import CorpusSpec


def read(data: bytes, spec: CorpusSpec) -> Page:
    """The file as it is. Raises Unreadable."""
    return Page(decode(data, spec.encoding), "")
