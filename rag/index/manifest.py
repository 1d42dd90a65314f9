"""manifest.json: what a version is, and the sha256 of every file in it. Only what follows from content stands here."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rag.digest import file_sha256, identity_json
from rag.sealed import damaged, parse_sealed, write_sealed
from rag.types import EmbeddingIdentity, Json

MANIFEST_FORMAT = 1
MANIFEST = "manifest.json"
BUILD = "build.json"


@dataclass(frozen=True, slots=True)
class FileDigest:
    """What a file must be."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """All that a reader needs to know of a version before it opens a file of it."""

    content_digest: str
    embedding: EmbeddingIdentity
    dimensions: int
    """What the vectors really have; the identity holds what was asked for."""
    readers: tuple[str, ...]
    chunker: Mapping[str, Json]
    tokenizer: Mapping[str, Json]
    tokens_exact: bool
    index: Mapping[str, Json]
    """kind, parameters, tuned, recall, self_test: as `build.build` gives it."""
    lexical: Mapping[str, Json]
    counts: Mapping[str, int]
    """documents, chunks, duplicates, excluded (sources), excluded_chunks."""
    rows: int
    files: Mapping[str, FileDigest]
    format: int = MANIFEST_FORMAT

    @property
    def kind(self) -> str:
        return str(self.index["kind"])

    def to_json(self) -> dict[str, Json]:
        return {
            "format": self.format,
            "content_digest": self.content_digest,
            "embedding": identity_json(self.embedding),
            "dimensions": self.dimensions,
            "metric": "inner_product",
            "normalised": True,
            "readers": list(self.readers),
            "chunker": dict(self.chunker),
            "tokenizer": dict(self.tokenizer),
            "tokens_exact": self.tokens_exact,
            "index": dict(self.index),
            "lexical": dict(self.lexical),
            "counts": dict(self.counts),
            "rows": self.rows,
            "files": {name: dataclasses.asdict(file) for name, file in self.files.items()},
        }

    def save(self, folder: Path) -> None:
        """Write manifest.json, the last file of a version. Raises StorageFailed."""
        write_sealed(folder / MANIFEST, self.to_json())

    @classmethod
    def load(cls, path: Path) -> Manifest:
        """Read a manifest. Raises FormatTooNew, Damaged, OSError."""
        return cls.parse(path.read_bytes(), path)

    @classmethod
    def parse(cls, data: bytes, path: Path) -> Manifest:
        """The manifest that these bytes of the file at `path` say. Raises FormatTooNew, Damaged."""
        values: dict[str, Any] = dict(parse_sealed(data, path, MANIFEST_FORMAT))
        try:
            values.pop("metric")
            values.pop("normalised")
            values["embedding"] = EmbeddingIdentity(**values["embedding"])
            values["readers"] = tuple(values["readers"])
            values["files"] = {name: FileDigest(**file) for name, file in values["files"].items()}
            return cls(**values)
        except (KeyError, TypeError, AttributeError) as error:
            raise damaged(path, f"it lacks or misuses {error}") from error


def describe(folder: Path) -> dict[str, FileDigest]:
    """Size and sha256 of every file of a version but manifest.json and build.json, by POSIX name. Raises OSError."""
    names = version_files(folder) - {MANIFEST, BUILD}
    return {name: FileDigest((folder / name).stat().st_size, file_sha256(folder / name)) for name in sorted(names)}


def version_files(folder: Path) -> set[str]:
    """The POSIX names of all files below a version's folder."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
