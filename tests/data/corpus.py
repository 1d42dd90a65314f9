"""The shipped corpus as `rag.corpus` reads it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from rag.corpus.read import Reading
from rag.corpus.snapshot import snapshot
from rag.corpus.spec import CorpusSpec
from rag.types import Document, Excluded

DATA = Path(__file__).resolve().parents[2] / "data"
QUESTIONS = DATA / "questions" / "vallorne.jsonl"


@cache
def shipped() -> tuple[dict[str, Document], list[Excluded]]:
    """{doc_id: document} and what was left out."""
    spec = CorpusSpec((DATA / "corpus",))
    found = list(Reading(snapshot(spec, None, 0), spec))
    documents = {item.doc_id: item for item in found if isinstance(item, Document)}
    return documents, [item for item in found if isinstance(item, Excluded)]
