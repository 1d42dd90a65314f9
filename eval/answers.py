"""Replies that were paid for, by their key, in `store/answers.sqlite`.

A record carries the sha256 of its key and value: one that is damaged is asked for again, and never believed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

from rag import storage
from rag.clock import Clock, text
from rag.digest import canonical
from rag.errors import Busy, RaglineError, refuse_newer
from rag.types import Completion, Usage

FORMAT = 1
FILE = "answers.sqlite"
_PATIENCE: Final = 30.0
"""Seconds to wait for another process; each holds the file for one record."""
_TABLE = "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, value TEXT NOT NULL, sha256 TEXT NOT NULL)"
# damage may be anywhere, so nothing is decoded before its digest is compared
_READ = "SELECT CAST(value AS BLOB), CAST(sha256 AS BLOB) FROM answers WHERE key = ?"
_WRITE = "INSERT OR REPLACE INTO answers VALUES (?, ?, ?)"
# a plain ERROR is an unknown table or column: the schema is not ours
_DAMAGED = {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_OF_THE_DISK = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_IOERR: errno.EIO,
    sqlite3.SQLITE_READONLY: errno.EACCES,
    sqlite3.SQLITE_CANTOPEN: errno.EACCES,
    sqlite3.SQLITE_PERM: errno.EACCES,
}


@dataclass(frozen=True, slots=True)
class Kept:
    """A reply as it was paid for, and the seconds that it took."""

    completion: Completion
    seconds: float


class AnswerStore:
    """Replies by their key. Several processes and threads may use one file at once, and be killed at any moment.

    A database that cannot be read is set aside with a note, and a new one begun.
    """

    def __init__(self, path: Path | None, clock: Clock) -> None:
        """Open, or begin, the database at a path; None keeps replies in memory.

        Raises FormatTooNew, StorageFailed, Busy.
        """
        self.clock = clock
        self.notes: list[str] = []
        """What somebody should know who pays for replies."""
        self._path = path
        self._lock = threading.Lock()
        self._inode = 0
        if path is not None:
            storage.make_folder(path.parent)
        self._begin()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file. Closing twice is fine."""
        with self._lock:
            self._connection.close()

    def get(self, key: str) -> Kept | None:
        """The reply of a key; None where there is none, or a damaged one. Raises StorageFailed, Busy."""
        for value, check in self._do(_READ, (key,)):
            with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
                if _check(key, value).encode() == check:
                    return _read(value)
            self.notes.append(f"a reply in {self._path} is damaged: it is asked for again")
        return None

    def put(self, key: str, kept: Kept) -> None:
        """Keep a reply, durable when this returns; it replaces that of the same key. Raises StorageFailed, Busy."""
        value = canonical({**asdict(kept), "at": text(self.clock.utc())})
        self._do(_WRITE, (key, value.decode(), _check(key, value)))

    def _do(self, statement: str, values: Sequence[str]) -> list[Any]:
        with self._lock:
            try:
                return self._connection.execute(statement, values).fetchall()
            except sqlite3.Error as error:
                if _code(error) not in _DAMAGED:
                    raise self._failed(error) from error
            self._connection.close()
            self._begin(damaged=self._inode)
            try:
                return self._connection.execute(statement, values).fetchall()
            except sqlite3.Error as error:
                raise self._failed(error) from error

    def _begin(self, damaged: int = 0) -> None:
        """Open the database; that of the inode `damaged` is set aside first, unless another process has done so."""
        with _alone(self._path):
            try:
                if damaged and self._path and self._path.exists() and self._path.stat().st_ino == damaged:
                    self._set_aside(self._path)
                try:
                    self._connection = self._opened()
                except sqlite3.Error as error:
                    if self._path is None or _code(error) not in _DAMAGED:
                        raise
                    self._set_aside(self._path)
                    self._connection = self._opened()
            except sqlite3.Error as error:
                raise self._failed(error) from error
            if self._path:
                self._inode = self._path.stat().st_ino
                storage.sync_folder(self._path.parent)

    def _opened(self) -> sqlite3.Connection:
        # every statement is a transaction of its own, and the lock lets one thread in at a time
        connection = sqlite3.connect(
            self._path or ":memory:", timeout=_PATIENCE, isolation_level=None, check_same_thread=False
        )
        try:
            (found,) = connection.execute("PRAGMA user_version").fetchone()
            refuse_newer(self._path or FILE, found, FORMAT)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(_TABLE)
            if found < FORMAT:
                connection.execute(f"PRAGMA user_version = {FORMAT}")
            connection.execute(_READ, ("",)).fetchall()
        except BaseException:
            connection.close()
            raise
        return connection

    def _set_aside(self, path: Path) -> None:
        """Rename the database and what belongs to it, the log first: a new database must never meet the old log."""
        aside = path.with_name(f"{path.name}.damaged-{self.clock.utc():%Y%m%dT%H%M%SZ}-{path.stat().st_ino}")
        with storage.failures_named(path):
            for part in ("-wal", "-shm", ""):
                with contextlib.suppress(FileNotFoundError):
                    os.rename(f"{path}{part}", f"{aside}{part}")
            storage.sync_folder(path.parent)
        self.notes.append(f"{path} is damaged: it was set aside as {aside.name}, and its replies are asked for again")

    def _failed(self, error: sqlite3.Error) -> RaglineError:
        code, path = _code(error), self._path or Path(FILE)
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL):
            what = f"{path} has been in use by another process for {_PATIENCE:g} s"
            return Busy.at(str(path), what, "wait for it to end, then run the same command again")
        if code not in _OF_THE_DISK:
            return storage.unreadable(path, OSError(0, str(error)))
        number = _OF_THE_DISK[code]
        place = os.statvfs(path.parent)
        if number == errno.EACCES and place.f_flag & os.ST_RDONLY:
            number = errno.EROFS
        elif number == errno.EACCES and path.is_dir():
            number = errno.EISDIR
        if number == errno.EIO and not place.f_bavail:  # of its shared memory it says no more than that it failed
            number = errno.ENOSPC
        try:
            with storage.failures_named(path):
                raise OSError(number, str(error))
        except RaglineError as named:
            return named


def _check(key: str, value: bytes) -> str:
    """A key has 64 bytes, so that no other pair has the same bytes."""
    return hashlib.sha256(key.encode() + value).hexdigest()


def _read(value: bytes) -> Kept:
    found = json.loads(value)
    whole = found["completion"]
    return Kept(Completion(**{**whole, "usage": Usage(**whole["usage"])}), found["seconds"])


def _code(error: sqlite3.Error) -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


@contextlib.contextmanager
def _alone(path: Path | None) -> Iterator[None]:
    """Be the only process that opens or sets aside: SQLite lets nobody wait while a file becomes a database."""
    if path is None:
        yield
        return
    with storage.failures_named(path):
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
