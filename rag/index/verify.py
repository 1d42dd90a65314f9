"""Is a version what it promises? Every byte is read again; nothing remembered is trusted. And what mends it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rag.digest import file_sha256
from rag.errors import Damaged, FormatTooNew, NotFound, Problem, RaglineError
from rag.index.build import Blocks, build, self_test_query
from rag.index.current import Current
from rag.index.manifest import BUILD, MANIFEST, Manifest, version_files
from rag.index.opening import VERSION_REMEDY
from rag.index.search import map_index
from rag.index.tables import ChunkTable, DocumentTable
from rag.index.versions import Versions
from rag.sealed import read_sealed
from rag.storage import create, faultpoint, staging, unreadable

_REPAIRS = {
    "index.faiss": "`ragline repair` builds it again from the vector cache",
    "chunks.parquet": "`ragline repair` reads and cuts the corpus again, if it has not changed",
    "documents.parquet": "`ragline repair` reads the corpus again, if it has not changed",
    "excluded.parquet": "`ragline repair` reads the corpus again, if it has not changed",
    "lexical": "`ragline repair` builds it again from chunks.parquet",
    "CURRENT": "`ragline repair` puts its copy in place; or `ragline publish V`",
    "CURRENT.backup": "`ragline repair` copies it from CURRENT",
    MANIFEST: VERSION_REMEDY,
    BUILD: "`ragline repair` writes it anew, without what only that run knew; answers do not depend on it",
}
_SCORE_TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong: what it should be, what it is, and what mends it."""

    file: str
    expected: str
    actual: str
    repair: str


@dataclass(frozen=True, slots=True)
class Verified:
    """The outcome of a check; files are named from the folder that was checked."""

    checked: int
    """Files read."""
    findings: tuple[Finding, ...]

    @property
    def files(self) -> tuple[str, ...]:
        """The damaged files, each once."""
        return tuple(dict.fromkeys(finding.file for finding in self.findings))


def _finding(file: str, expected: str, actual: str) -> Finding:
    repair = _REPAIRS.get(file) or _REPAIRS.get(file.partition("/")[0], "remove it: it belongs to no version")
    return Finding(file, expected, actual, repair)


def check_current(versions: Versions) -> Verified:
    """Check CURRENT, its copy, and that the version which CURRENT names is there. Raises FormatTooNew."""
    findings: list[Finding] = []
    try:
        live = versions.state().version
        if live is not None and not versions.folder(live).is_dir():
            folder = versions.folder(live).name
            wanted = f"the folder {folder}, which CURRENT names"
            findings.append(Finding(f"{folder}/{MANIFEST}", wanted, "missing", VERSION_REMEDY))
    except Damaged as error:
        findings.append(_finding("CURRENT", "two lines, the second the sha256 of the first", error.message))
    backup = versions.root / "CURRENT.backup"
    try:
        Current.parse(backup.read_bytes(), backup)
    except FileNotFoundError:
        pass
    except (Damaged, IsADirectoryError) as error:
        findings.append(_finding("CURRENT.backup", "a copy of CURRENT", _why(error)))
    return Verified(sum((versions.root / name).exists() for name in ("CURRENT", "CURRENT.backup")), tuple(findings))


def check_version(versions: Versions, version: int) -> Verified:
    """Check every file of one version. Raises NotFound, FormatTooNew."""
    folder = versions.folder(version)
    if not folder.is_dir():
        what = f"index {versions.name!r} has no version {version}"
        raise NotFound.at(versions.name, what, "`ragline versions` lists them")
    return Verified(len(version_files(folder)), tuple(check_folder(folder, versions.vouched(version))))


def check_folder(folder: Path, manifest_sha256: str | None = None) -> Iterator[Finding]:
    """What is wrong with a version's folder, staged or published. Raises FormatTooNew."""
    try:
        data = (folder / MANIFEST).read_bytes()
        actual = hashlib.sha256(data).hexdigest()
        if manifest_sha256 is not None and actual != manifest_sha256:
            yield _finding(MANIFEST, manifest_sha256, actual)
            return
        manifest = Manifest.parse(data, folder / MANIFEST)
    except PermissionError as error:
        raise unreadable(folder / MANIFEST, error) from error  # no damage, and nothing to drop
    except (OSError, Damaged) as error:
        yield _finding(MANIFEST, "sealed JSON", _why(error))
        return
    try:
        read_sealed(folder / BUILD)
    except (OSError, Damaged) as error:
        yield _finding(BUILD, "sealed JSON", _why(error))
    present = version_files(folder)
    broken = False
    for name, wanted in manifest.files.items():
        path = folder / name
        actual = file_sha256(path) if path.is_file() else "a folder" if path.is_dir() else "missing"
        if actual != wanted.sha256:
            size = f" ({path.stat().st_size:,} bytes)" if path.is_file() else ""
            yield _finding(name, f"{wanted.sha256} ({wanted.bytes:,} bytes)", actual + size)
            broken = True
    for name in sorted(present - {*manifest.files, MANIFEST, BUILD}):
        yield Finding(name, "no such file", "present", "remove it: it belongs to no version")
    if not broken:
        yield from _check_meaning(folder, manifest)


def _why(error: OSError | Damaged) -> str:
    if isinstance(error, FileNotFoundError):
        return "missing"
    return error.message if isinstance(error, Damaged) else os.strerror(error.errno or 0)


def _check_meaning(folder: Path, manifest: Manifest) -> Iterator[Finding]:
    """Files with the right bytes that do not fit one another, or that this machine's faiss reads otherwise."""
    try:
        index = map_index(folder / "index.faiss")
        shape = (int(index.ntotal), int(index.d), int(index.metric_type))
        if shape != (manifest.rows, manifest.dimensions, 0):
            yield _finding("index.faiss", f"{(manifest.rows, manifest.dimensions, 0)}", f"{shape}")
            return
        tests = manifest.index["self_test"]
        assert isinstance(tests, list)
        for test in tests:
            assert isinstance(test, dict)
            number, scores = test["query"], test["scores"]
            assert isinstance(number, int)
            assert isinstance(scores, list)
            found = index.search(self_test_query(number, manifest.dimensions), max(len(scores), 1))[0][0]
            if any(abs(float(a) - float(str(b))) > _SCORE_TOLERANCE for a, b in zip(found, scores, strict=False)):
                yield _finding("index.faiss", f"scores {scores} for self-test {number}", f"{found.tolist()}")
        with contextlib.closing(ChunkTable(folder / "chunks.parquet")) as chunks:
            if len(chunks) != manifest.rows:
                yield _finding("chunks.parquet", f"{manifest.rows} rows", f"{len(chunks)} rows")
        with contextlib.closing(DocumentTable(folder / "documents.parquet")) as documents:
            held = sum(count for *_, count in documents.metadata())
            if held != manifest.rows:
                yield _finding("documents.parquet", f"{manifest.rows} chunks", f"{held} chunks")
    except FormatTooNew:
        raise
    except RaglineError as error:
        yield _finding(error.problems[0].where, "readable", error.message)


def put_back(folder: Path, name: str, made: Path) -> None:
    """Put a file that was made again into a version, if it is byte for byte what the manifest promises.

    Raises Damaged where it is not: the version cannot be mended with this corpus, machine or release.
    """
    wanted = Manifest.load(folder / MANIFEST).files[name].sha256
    actual = file_sha256(made)
    if actual != wanted:
        what = f"{folder / name} cannot be made again: sha256 {wanted} expected, {actual} came out"
        raise Damaged(what, [Problem(str(folder / name), what, VERSION_REMEDY)])
    with made.open("rb") as source, create(folder / name) as file:
        shutil.copyfileobj(source, file, 1 << 20)
    faultpoint("verify.put_back")


@contextlib.contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """A place for files in the making, on the store's file system, for the store that holds the version."""
    with staging(folder.parents[2], "repair") as place:
        yield place


def remake_index(folder: Path, blocks: Blocks) -> None:
    """Build a version's index.faiss again from its vectors. Raises Damaged where other bytes come out."""
    manifest = Manifest.load(folder / MANIFEST)
    with scratch(folder) as place:
        build(blocks, manifest.rows, manifest.dimensions, manifest.kind, place / "index.faiss")
        put_back(folder, "index.faiss", place / "index.faiss")
