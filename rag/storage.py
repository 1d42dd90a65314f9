"""The only room that writes files: temp sibling, fsync, rename, fsync of the directory; locks; fault points.

Every write goes through `write`, `create` or `append_line`. A failing disk becomes one StorageFailed that names the
path, what was needed and what is free.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import stat
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, Self

from rag.clock import Clock, text
from rag.errors import Busy, NotFound, Problem, StorageFailed, UsageError

FAULT_VARIABLE = "RAGLINE_FAULT"
_passed: dict[str, int] = {}


def faultpoint(name: str) -> None:
    """A named moment at which a test may kill or break this process.

    `RAGLINE_FAULT=name:n:action` acts on the n-th passage: `kill` sends SIGKILL to itself, a number raises OSError with
    that errno, `pause` stops until a signal continues it.
    """
    wanted = os.environ.get(FAULT_VARIABLE)
    if not wanted:
        return
    fault, nth, action = wanted.rsplit(":", 2)
    if fault != name:
        return
    _passed[name] = _passed.get(name, 0) + 1
    if _passed[name] != int(nth):
        return
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "pause":
        os.kill(os.getpid(), signal.SIGSTOP)
    else:
        raise OSError(int(action), os.strerror(int(action)), name)


def sync_folder(folder: Path) -> None:
    """Make renames and new names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def failures_named(path: Path, needed: int | None = None) -> Iterator[None]:
    """Turn an OSError of the disk into a StorageFailed that names path, bytes needed and bytes free."""
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        raise _storage_failed(path, error, needed) from error


_ANOTHER = "or choose another store with --store"
_RIGHTS = f"give this user the right to it, {_ANOTHER}"
_SPACE = "make space, then run the same command again: it continues where it stopped"
_IN_THE_WAY = "a file stands where a folder belongs, or a folder where a file does: move it away"
_DISK_ERRORS = {
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EFBIG: _SPACE,
    errno.EIO: "check the disk; then run the same command again, and `ragline verify`",
    errno.EROFS: f"make the store writable, {_ANOTHER}",
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.ENOTDIR: _IN_THE_WAY,
    errno.EISDIR: _IN_THE_WAY,
    errno.ENAMETOOLONG: "choose a shorter path",
    errno.ELOOP: "mend the symbolic links of this path",
}


def _free(path: Path) -> int:
    """Bytes free on the disk that a path, there or not, is on."""
    return shutil.disk_usage(next(parent for parent in [path, *path.parents] if os.path.exists(parent))).free


def refuse_without_room(folder: Path, needed: int) -> None:
    """Raise StorageFailed, as a write would, where the disk of a folder has fewer bytes free than that."""
    if _free(folder) < needed:
        raise _storage_failed(folder, OSError(errno.ENOSPC, ""), needed)


_MISPLACED = {errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP}


def _storage_failed(path: Path, error: OSError, needed: int | None) -> StorageFailed:
    free = ""
    if error.errno not in _MISPLACED:
        asked = f"{needed:,} bytes needed, " if needed is not None else ""
        free = f", {asked}{_free(path):,} bytes free"
    what = f"cannot write {path}: {os.strerror(error.errno or 0)}{free}"
    return StorageFailed(what, [Problem(str(path), what, _DISK_ERRORS[error.errno or 0])])


def unreadable(path: Path | str, error: OSError) -> StorageFailed:
    """The error of a file that the system does not let us use."""
    what = f"cannot use {path}: {error.strerror or error}"
    remedy = _DISK_ERRORS.get(error.errno or 0, "check the path, then run the same command again")
    return StorageFailed(what, [Problem(str(path), what, remedy)])


def check_place(store: Path) -> None:
    """Whether a store is, or can be, at this path; writes nothing. Raises UsageError."""
    why = ""
    try:
        if not stat.S_ISDIR(store.stat().st_mode):
            why = "is a file, not a folder"
    except FileNotFoundError:
        if store.is_symlink():
            why = "is a link that leads nowhere"
    except OSError as error:
        why = f"cannot be a store: {os.strerror(error.errno or 0)}"
    except ValueError as error:
        why = f"cannot be a store: {error}"
    if why:
        what = f"{store} {why}"
        raise UsageError(what, [Problem("store", what, "name a folder with --store, or as `store` in ragline.toml")])


def is_store(folder: Path) -> bool:
    """Whether a store is here: without versions and vectors a run would pay for everything."""
    return any((folder / part).is_dir() for part in ("indexes", "cache"))


def existing(store: Path) -> Path:
    """The store, for a command that begins none. Raises NotFound."""
    if not is_store(store):
        what = f"there is no store at {store}"
        raise NotFound(
            what,
            [
                Problem(
                    "store",
                    what,
                    "check --store and `store` in ragline.toml; `ragline index` begins one, with a first version",
                )
            ],
        )
    return store


def _sibling(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")


@contextlib.contextmanager
def create(path: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """Write a file as a stream: it appears whole under its name when the block ends well, else not at all.

    Raises StorageFailed.
    """
    temp = _sibling(path)
    try:
        make_folder(path.parent)
        with failures_named(path):
            with temp.open("xb") as file:
                yield file
                file.flush()
                faultpoint("create.before_fsync")
                if durable:
                    os.fsync(file.fileno())
            faultpoint("create.before_rename")
            temp.replace(path)
            if durable:
                sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            temp.unlink(missing_ok=True)


def write(path: Path, data: bytes) -> None:
    """Put a whole file in place in one step, durable when this returns. Raises StorageFailed."""
    with failures_named(path, len(data)), create(path) as file:
        file.write(data)


def append_line(path: Path, line: str) -> None:
    """Add a line, or several at once, to a log of lines, durable when this returns. Raises StorageFailed."""
    data = line.encode("utf-8") + b"\n"
    make_folder(path.parent)
    with failures_named(path, len(data)):
        new = not path.exists()
        with path.open("a+b") as file:
            # a line that a kill has torn must not swallow this one
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                data = data if file.read(1) == b"\n" else b"\n" + data
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if new:
            sync_folder(path.parent)


def make_folder(folder: Path) -> None:
    """Make a folder and its parents. Raises StorageFailed."""
    with failures_named(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder)) from error


def sync_tree(folder: Path) -> None:
    """Make every file and folder below durable, files first."""
    with failures_named(folder):
        for root, _, names in os.walk(folder, topdown=False):
            for name in names:
                handle = os.open(Path(root) / name, os.O_RDONLY)
                try:
                    os.fsync(handle)
                finally:
                    os.close(handle)
            sync_folder(Path(root))


def move_folder(source: Path, target: Path) -> None:
    """Rename a folder within one file system, durable when this returns. Raises StorageFailed; FileExistsError stays."""
    make_folder(target.parent)
    with failures_named(target):
        if target.exists():
            raise FileExistsError(errno.EEXIST, "exists already", str(target))
        faultpoint("move_folder.before_rename")
        source.rename(target)
        faultpoint("move_folder.after_rename")
        sync_folder(target.parent)
        sync_folder(source.parent)


def remove_folder(folder: Path) -> None:
    """Remove a folder: first out of sight under a trash name, so that nobody sees half of it."""
    if not folder.exists():
        return
    trash = _sibling(folder)
    with failures_named(folder):
        folder.rename(trash)
        sync_folder(trash.parent)
        faultpoint("remove_folder.in_trash")
        shutil.rmtree(trash, ignore_errors=True)


def remove_file(path: Path) -> None:
    """Remove a file, durable when this returns; a missing one is fine."""
    with failures_named(path):
        path.unlink(missing_ok=True)
        sync_folder(path.parent)


def is_network(folder: Path) -> str | None:
    """The type of a network file system that holds the folder (nfs, cifs, ...), or None.

    flock and rename promise less there.
    """
    kinds = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "glusterfs", "fuse.sshfs", "lustre", "afs"}
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    best, found = "", None
    target = str(folder.resolve())
    for line in mounts:
        parts = line.split(" ")
        point = parts[1].replace("\\040", " ")
        inside = target == point or target.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, found = point, parts[2]
    return found if found in kinds else None


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a store."""

    pid: int
    host: str
    since: str
    command: str

    def __str__(self) -> str:
        return f"`{self.command}` (pid {self.pid} on {self.host}, since {self.since})"


def lock_holder(store: Path) -> Holder | None:
    """Who holds the store's lock now, or None. Never waits, never blocks the holder."""
    path = store / ".lock"
    try:
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return _read_holder(file)
    except OSError:
        return None
    return None


def _read_holder(file: IO[bytes]) -> Holder:
    try:
        file.seek(0)
        return Holder(**json.loads(file.read()))
    except (ValueError, TypeError):
        return Holder(0, "unknown", "unknown", "unknown")


@contextlib.contextmanager
def lock(store: Path, command: str, clock: Clock, wait: float = 0.0) -> Iterator[None]:
    """Be the store's one writer until the block ends. The kernel frees the lock when its holder dies.

    Begins a store where there is none: ask `existing` first where that would be a mistake. Raises Busy after `wait`
    seconds, naming the holder; StorageFailed where the store cannot be written.
    """
    make_folder(store)
    path = store / ".lock"
    with failures_named(path):
        file = path.open("a+b")
    with file:
        until = time.monotonic() + wait  # the kernel's queue is in real time, whatever clock is given
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if time.monotonic() >= until:
                    raise busy(store, _read_holder(file)) from error
                time.sleep(0.05)
        holder = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": text(clock.utc()),
            "command": command,
        }
        with failures_named(path):
            file.seek(0)
            file.truncate()
            file.write(json.dumps(holder).encode())
            file.flush()
        faultpoint("lock.held")
        yield


def busy(store: Path, holder: Holder) -> Busy:
    """The error of a store that another process holds."""
    what = f"the store {store} is in use by {holder}"
    return Busy(what, [Problem(str(store / ".lock"), what, "wait for it to end, or give --wait SECONDS")])


_STAGED = re.compile(r"[a-z]+-\d+-[0-9a-f]{8}")


@contextlib.contextmanager
def staging(store: Path, purpose: str) -> Iterator[Path]:
    """A folder of one's own below store/staging, removed at the end and, if we are killed, by the next writer.

    It is held by a flock on its `.owner` file, so that `sweep_staging` can tell the living from the dead. Needs no lock
    of the store. Raises StorageFailed.
    """
    make_folder(store / "staging")
    with failures_named(store / "staging"):
        folder, owner, file = _owned(store / "staging", purpose)
    try:
        make_folder(folder)
        yield folder
    finally:
        file.close()
        shutil.rmtree(folder, ignore_errors=True)
        owner.unlink(missing_ok=True)


def _owned(root: Path, purpose: str) -> tuple[Path, Path, IO[bytes]]:
    """A folder's path, and its owner file, held before the folder is there: a sweep never meets one without."""
    while True:
        folder = root / f"{purpose}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        owner = folder.with_name(folder.name + ".owner")
        if file := _held(owner):
            return folder, owner, file


def _held(path: Path) -> IO[bytes] | None:
    """A new file, held by a flock; None where a sweep came between."""
    file = path.open("xb", buffering=0)
    fcntl.flock(file, fcntl.LOCK_EX)
    if path.exists():
        return file
    file.close()
    return None


class HeldLog:
    """A log of lines of one process, held by a flock until it is removed: when its process dies, others can tell.

    A line that was added is there after a kill of the process; after a loss of power those that were added `durable`.
    """

    def __init__(self, path: Path) -> None:
        """Begin it. Raises StorageFailed, FileExistsError."""
        self.path = path
        make_folder(path.parent)
        with failures_named(path):
            while not (file := _held(path)):
                pass
            sync_folder(path.parent)
        self._file = file
        self._whole = True

    def add(self, line: str, *, durable: bool) -> None:
        """Add a line. Raises StorageFailed."""
        # a line that a full disk has torn must not swallow this one
        data = (b"" if self._whole else b"\n") + line.encode("utf-8") + b"\n"
        with failures_named(self.path, len(data)):
            self._whole = False
            self._whole = self._file.write(data) == len(data)
            if durable:
                os.fsync(self._file.fileno())

    def remove(self) -> None:
        """Remove the file, which is held until the block ends. Raises StorageFailed."""
        remove_file(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


@contextlib.contextmanager
def left_behind(path: Path) -> Iterator[bool]:
    """Hold a HeldLog whose process is dead until the block ends; gives False where that lives, or the file is gone."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        yield False
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield path.exists()


def is_held(path: Path) -> bool:
    """Whether the process of a HeldLog lives. Raises FileNotFoundError."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def at_work(store: Path) -> list[str]:
    """The names of the staging folders whose owners live."""
    found: list[str] = []
    for owner in sorted((store / "staging").glob("*.owner")):
        with contextlib.suppress(FileNotFoundError), owner.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                found.append(owner.stem)
    return found


def sweep_staging(store: Path) -> list[Path]:
    """Remove what dead owners left in store/staging; gives what was removed. What has another name is not ours."""
    removed: list[Path] = []
    root = store / "staging"
    if not root.is_dir():
        return removed
    for owner in sorted(root.glob("*.owner")):
        try:
            with owner.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                folder = owner.with_name(owner.name.removesuffix(".owner"))
                shutil.rmtree(folder, ignore_errors=True)
                owner.unlink(missing_ok=True)
                removed.append(folder)
        except OSError:
            continue
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        if _STAGED.fullmatch(folder.name) and not folder.with_name(folder.name + ".owner").exists():
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(folder)
    return removed
