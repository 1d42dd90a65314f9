"""What changed since the live version: documents by a merge of two sorted tables, and why each text must be embedded."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from rag.corpus.snapshot import Snapshot
from rag.digest import identity_json
from rag.embedding.plan import DocumentChanges
from rag.index.prepare import Prepared
from rag.index.search import OpenVersion
from rag.index.tables import DocumentTable, joined
from rag.types import Json

Label = tuple[str, str | None, str | None]
_State = tuple[str, str, str]


def document_changes(live: OpenVersion | None, prepared: Prepared) -> DocumentChanges:
    """Compare the documents of the live version with those just read. Memory: the names of what differs."""
    added: list[str] = []
    changed: list[str] = []
    removed: list[tuple[str, str]] = []
    unchanged = 0
    now = _states(DocumentTable(prepared.folder / "documents.parquet"))
    before = _states(live.documents) if live else iter(())
    mine, theirs = next(now, None), next(before, None)
    while mine or theirs:
        # code points sort strings as their UTF-8 bytes do
        if theirs is None or (mine is not None and mine[0] < theirs[0]):
            assert mine is not None
            added.append(mine[0])
            mine = next(now, None)
        elif mine is None or theirs[0] < mine[0]:
            removed.append((theirs[0], theirs[1]))
            theirs = next(before, None)
        else:
            if mine == theirs:
                unchanged += 1
            else:
                changed.append(mine[0])
            mine, theirs = next(now, None), next(before, None)
    gone = np.frombuffer(bytes.fromhex("".join(sha for _, sha in removed)), np.uint8).reshape(-1, 32)
    vanished = int((~_contained(gone, prepared.sources)).sum())
    excluded = len({row.source for row in prepared.excluded if row.stage == "read"})
    names = tuple(doc_id for doc_id, _ in removed)
    return DocumentChanges(tuple(added), tuple(changed), names, unchanged, excluded, vanished)


def _states(table: DocumentTable) -> Iterator[_State]:
    for part in table.stream(("doc_id", "source_sha256", "metadata_json")):
        yield from zip(part["doc_id"], part["source_sha256"], part["metadata_json"], strict=True)


def _contained(keys: NDArray[np.uint8], among: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Whether each row of uint8 [n, 32] is a row of `among`."""
    known = {row.tobytes() for row in among} if len(keys) else set()
    return np.fromiter((row.tobytes() in known for row in keys), bool, len(keys))


def vanished_sources(before: Snapshot, now: Snapshot) -> int:
    """How many files of an older snapshot are gone: neither their name nor their content is there any more."""
    here, known = set(_files(now)), {row.tobytes() for row in now.sha256}
    return sum(
        file not in here and row.tobytes() not in known for file, row in zip(_files(before), before.sha256, strict=True)
    )


def _files(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    return ((snapshot.labels[root], path) for root, path in zip(snapshot.root_of, snapshot.paths, strict=True))


def causes(
    live: OpenVersion | None,
    prepared: Prepared,
    rows: NDArray[np.int64],
    changes: DocumentChanges,
    tokenizer: Mapping[str, Json],
) -> list[Label]:
    """Why the text of each of these rows has to be embedded: (cause, before, after)."""
    if live is None:
        return [("new", None, None)] * len(rows)
    manifest = live.manifest
    if manifest.embedding != prepared.embedding:
        models = map(identity_json, (manifest.embedding, prepared.embedding))
        return [("model changed", *_difference(*models))] * len(rows)
    was_there = _contained(prepared.keys[rows], _keys(live))
    added, changed = set(changes.added), set(changes.changed)
    cut = {**manifest.chunker, "tokenizer": dict(manifest.tokenizer)}
    cut_now = {**prepared.chunker, "tokenizer": dict(tokenizer)}
    recut: Label = ("chunking changed", *_difference(cut, cut_now))
    headings = _old_headings(live, changed) if changed and cut == cut_now else {}
    spool = iter(prepared.spool())
    labels: list[Label] = []
    position = -1
    for row, known in zip(rows.tolist(), was_there.tolist(), strict=True):
        while position < row:
            chunk = next(spool)
            position += 1
        if known:
            labels.append(("empty cache", None, None))
        elif chunk.doc_id in added:
            labels.append(("new", None, None))
        elif cut != cut_now:
            labels.append(recut)
        elif chunk.doc_id in changed:
            path = joined(chunk.heading_path)
            old = headings.get(_content(chunk.doc_id, chunk.text))
            labels.append(("heading edited", old, path) if old is not None and old != path else ("edited", None, None))
        elif manifest.readers == prepared.readers:
            labels.append(("refused before", None, None))
        else:
            labels.append(("reader changed", ", ".join(manifest.readers), ", ".join(prepared.readers)))
    return labels


def _keys(live: OpenVersion) -> NDArray[np.uint8]:
    parts = [bytes.fromhex("".join(part["key"])) for part in live.chunks.stream(("key",))]
    return np.frombuffer(b"".join(parts), np.uint8).reshape(-1, 32)


def _content(doc_id: str, text: str) -> bytes:
    return hashlib.sha256(f"{len(doc_id)}:{doc_id}{text}".encode()).digest()


def _old_headings(live: OpenVersion, changed: set[str]) -> dict[bytes, str]:
    """The heading path under which each text of the changed documents stood."""
    found: dict[bytes, str] = {}
    for part in live.chunks.stream(("doc_id", "heading_path", "text")):
        for doc_id, path, text in zip(part["doc_id"], part["heading_path"], part["text"], strict=True):
            if doc_id in changed:
                found.setdefault(_content(doc_id, text), path)
    return found


def _difference(before: dict[str, Json], after: dict[str, Json]) -> tuple[str, str]:
    """The entries in which two identities differ, as `name=value` on both sides."""
    names = [name for name in sorted({*before, *after}) if before.get(name) != after.get(name)]
    return (
        ", ".join(f"{name}={short(before.get(name))}" for name in names),
        ", ".join(f"{name}={short(after.get(name))}" for name in names),
    )


def short(value: Json) -> str:
    """A value of an identity as people read it: a part by its name, a digest by its beginning."""
    if isinstance(value, dict):
        return str(value.get("name", value))
    text = str(value)
    return text[:12] + "…" if len(text) == 64 else text
