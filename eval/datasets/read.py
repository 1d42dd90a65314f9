"""A path becomes a question set: what it is, is told by what stands in it, and said."""

from __future__ import annotations

import os
from pathlib import Path

from eval.datasets.draft import Draft
from eval.datasets.files import Content, content
from eval.datasets.folder import Folder
from eval.datasets.known import Known, known, part
from eval.datasets.registry import FORMATS, FileFormat, FolderFormat
from eval.datasets.tell import Tell
from eval.types import Dataset
from rag.errors import Problem, UsageError

_LIST = "docs/datasets.md lists what is read"


def read(path: Path, qrels: str | None = None) -> Dataset:
    """The question set of a file or folder.

    Parameters
    ----------
    path
        A file of any format of `registry.FORMATS`, packed or not, or a folder of one.
    qrels
        Which of several files of judgements counts: `graded` for `qrels.graded.trec`, `test` for `qrels/test.tsv`, or
        a file name.

    Raises UsageError: every mistake of the set with its line (the first 50), a file that two formats claim with both
    readings, a format that is known and not read with the way to one that is, a pointer of Git LFS.
    """
    # not path.is_dir(), which raises for a name that is too long
    return _folder(path, qrels) if os.path.isdir(path) else _file(path, qrels)


def _file(path: Path, qrels: str | None) -> Dataset:
    found = content(path)
    draft = Draft(path)
    draft.read(found)
    formats = {name: each for name, each in FORMATS.items() if isinstance(each, FileFormat)}
    name = _format(found, {name: each.tells(found) for name, each in formats.items()}, draft)
    if qrels is not None:
        what = f"{path} is one file, without judgements to choose from"
        raise UsageError.at("--qrels", what, "leave out --qrels")
    formats[name].read(found, draft)
    return draft.dataset(name)


def _format(found: Content, tells: dict[str, Tell], draft: Draft) -> str:
    """The surest reading. A format that is not read is surer than one that is merely possible."""
    sure = _of(tells, Tell.CERTAIN) or ([] if known(found) else _of(tells, Tell.POSSIBLE))
    if len(sure) == 1:
        return sure[0]
    if sure:
        remedy = "rename the column `answer`: `response` for what a system said, `expected_answer` for what is right"
        raise _ambiguous(found.path, sure, remedy)
    recognised = known(found) or part(found)
    if recognised:
        raise _not_read(found.path, recognised)
    if found.columns:
        columns = ", ".join(sorted(found.columns)[:30])
        draft.mistake(str(found.path), f"no format that is known has these columns: {columns}", _LIST)
    draft.dataset("")
    raise AssertionError("a set of mistakes alone is refused")


def _of(tells: dict[str, Tell], surety: Tell) -> list[str]:
    return [name for name, tell in tells.items() if tell is surety]


def _ambiguous(path: Path, names: list[str], remedy: str) -> UsageError:
    what = f"{path} can be read as {' and as '.join(names)}"
    return UsageError(what, [Problem(str(path), f"`{name}`: {FORMATS[name].says}", remedy) for name in names])


def _not_read(path: Path, recognised: Known) -> UsageError:
    what = f"{path} looks like {recognised.name}, which is not read as it is"
    return UsageError.at(str(path), what, recognised.recipe)


def _folder(path: Path, qrels: str | None) -> Dataset:
    folder = Folder.of(path)
    formats = {name: each for name, each in FORMATS.items() if isinstance(each, FolderFormat)}
    sure = _of({name: each.tells(folder) for name, each in formats.items()}, Tell.CERTAIN)
    if len(sure) > 1:
        raise _ambiguous(path, sure, "keep each set in a folder of its own")
    if sure:
        if qrels is not None and not formats[sure[0]].judged:
            what = f"{path} has no judgements to choose from"
            raise UsageError.at("--qrels", what, "leave out --qrels")
        draft = Draft(path)
        formats[sure[0]].read(folder, draft, qrels)
        return draft.dataset(sure[0])
    alone = folder.tables()
    if len(alone) == 1:
        return _file(alone[0], qrels)
    if folder.role("queries") or folder.qrels():
        lacking = "judgements (qrels)" if folder.role("queries") else "queries"
        raise UsageError.at(str(path), f"{path} has no {lacking}", "a set for retrieval is queries and qrels; " + _LIST)
    if not alone:
        raise UsageError.at(str(path), f"{path} holds no question set", _LIST)
    problems = [Problem(str(each), "may be a question set", "name this file, if it is meant") for each in alone]
    raise UsageError(f"{path} holds {len(alone)} files that may be question sets", problems[:50])
