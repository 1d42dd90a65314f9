"""Every format that is read. A new one is its file with `tells` and `read`, a test, a section in docs/datasets.md, and a line here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from eval.datasets import canonical, clapnq, openai_evals, passages, ragas, retrieval, squad, table
from eval.datasets.draft import Draft
from eval.datasets.files import Content
from eval.datasets.folder import Folder
from eval.datasets.tell import Tell


@dataclass(frozen=True, slots=True)
class FileFormat:
    """A set that is one file."""

    says: str
    """How it is read, for messages."""
    tells: Callable[[Content], Tell]
    read: Callable[[Content, Draft], None]
    """Put its questions, notes, corpus and mistakes into the draft."""
    corpus: Callable[[Content], Iterator[dict[str, str]]] | None = None
    """The records (id, title, text) of the passages that stand in the file itself."""


@dataclass(frozen=True, slots=True)
class FolderFormat:
    """A set that is a folder of files."""

    says: str
    tells: Callable[[Folder], Tell]
    read: Callable[[Folder, Draft, str | None], None]
    """As above; the third argument chooses among several files of judgements."""
    judged: bool = True
    """Whether it has files of judgements to choose from."""


FORMATS: Mapping[str, FileFormat | FolderFormat] = {
    "canonical": FileFormat("our own form", canonical.tells, canonical.read_into),
    "table": FileFormat("a table: every `answer` or ground truth is a right answer", table.tells, table.read),
    "squad": FileFormat("SQuAD: the contexts are its corpus", squad.tells, squad.read, squad.corpus),
    "clapnq": FileFormat("CLAPNQ: the passages are its corpus", clapnq.tells, clapnq.read, clapnq.corpus),
    "ragas": FileFormat("Ragas: `answer` is what a system said, the ground truth is right", ragas.tells, ragas.read),
    "openai-evals": FileFormat("OpenAI Evals: a table in `item`", openai_evals.tells, openai_evals.read),
    "beir": FolderFormat("BEIR: queries, and judgements in tables", retrieval.tells_beir, retrieval.read),
    "trec": FolderFormat("TREC: queries, and judgements in lines of four fields", retrieval.tells_trec, retrieval.read),
    "passages": FolderFormat("questions and their passages", passages.tells, passages.read, judged=False),
}
"""Name -> format. The surest `tells` wins; two that are equally sure are refused."""
