"""Opening a version: pin it against gc, check every file, then map the very files that were checked."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from rag.digest import stream_sha256
from rag.errors import RaglineError
from rag.index.current import damaged
from rag.index.manifest import MANIFEST, FileDigest, Manifest
from rag.index.search import OpenVersion
from rag.sealed import read_sealed, write_sealed
from rag.types import Json

VERSION_REMEDY = "run `ragline rollback`, or `ragline index` to build it again; nothing is paid twice"


def load_manifest(folder: Path) -> Manifest:
    try:
        return Manifest.load(folder / MANIFEST)
    except FileNotFoundError:
        raise damaged(folder / MANIFEST, "it is missing", VERSION_REMEDY) from None
    except (IsADirectoryError, NotADirectoryError) as error:
        raise damaged(folder / MANIFEST, error.strerror or str(error), VERSION_REMEDY) from error


def pin_version(folder: Path) -> BinaryIO | None:
    """manifest.json open with a shared lock, or None when gc has it. Raises Damaged when the folder lacks one."""
    path = folder / MANIFEST
    try:
        file = path.open("rb")
    except FileNotFoundError:
        if folder.is_dir():
            raise damaged(path, "it is missing", VERSION_REMEDY) from None
        return None
    except (IsADirectoryError, NotADirectoryError) as error:
        raise damaged(path, error.strerror or str(error), VERSION_REMEDY) from error
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        if os.fstat(file.fileno()).st_ino == path.stat().st_ino:
            return file
    except OSError:
        pass
    file.close()
    return None


@contextlib.contextmanager
def unread(folder: Path) -> Iterator[bool]:
    """Whether nobody has the version open; nobody can open it until the block ends."""
    try:
        file = (folder / MANIFEST).open("rb")
    except OSError as error:
        yield not isinstance(error, PermissionError)  # what we may not read, another may have open
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True


def open_file(path: Path) -> int:
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise damaged(path, os.strerror(error.errno or 0), "run `ragline repair`") from error


class Memory:
    """Which files were found right, by the stat that they had. Losing it costs one more hashing, nothing else."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, Json] = {}
        with contextlib.suppress(RaglineError, OSError):
            self._known = dict(read_sealed(path))
        self._found: dict[str, Json] = {}

    def check(self, descriptor: int, path: Path, name: str, wanted: FileDigest) -> None:
        """Raises Damaged unless the open file is what it should be."""
        stat = os.fstat(descriptor)
        mark: list[Json] = [stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, wanted.sha256]
        if self._known.get(name) != mark:
            with os.fdopen(os.dup(descriptor), "rb") as file:
                file.seek(0)
                actual = stream_sha256(file)
            if actual != wanted.sha256:
                why = f"sha256 {wanted.sha256} expected, {actual} found ({wanted.bytes} and {stat.st_size} bytes)"
                raise damaged(path, why, "run `ragline repair`")
        self._found[name] = mark

    def keep(self) -> None:
        if self._found != self._known:
            # a reader may lack the right to write: it then hashes again next time
            with contextlib.suppress(RaglineError, OSError):
                write_sealed(self._path, self._found)


def open_pinned(folder: Path, number: int, pin: BinaryIO, wanted: str | None, *, remember: bool = True) -> OpenVersion:
    """A pinned version with every file checked; `wanted` is the manifest's sha256 where CURRENT says it.

    Raises Damaged, FormatTooNew. The pin stays open either way.
    """
    data = pin.read()
    if wanted is not None and hashlib.sha256(data).hexdigest() != wanted:
        raise damaged(folder / MANIFEST, "its sha256 is not the one in CURRENT", VERSION_REMEDY)
    manifest = Manifest.parse(data, folder / MANIFEST)
    memory = Memory(folder.parent / "opened" / f"{folder.name}.json")
    files: dict[str, int] = {}
    try:
        for name, digest in manifest.files.items():
            files[name] = open_file(folder / name)
            memory.check(files[name], folder / name, name, digest)
        if remember:
            memory.keep()
        return OpenVersion(folder, number, manifest, pin, files)
    except BaseException:
        for descriptor in files.values():
            os.close(descriptor)
        raise
