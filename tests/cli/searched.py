"""A search for secrets in everything that lies in a folder, however it is packed: the twin of `rag.providers.secrets`."""

from __future__ import annotations

import base64
import contextlib
import gzip
import html
import json
import re
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self
from urllib.parse import unquote_to_bytes

import pyarrow.parquet as pq

_WORD = re.compile(rb"[A-Za-z0-9+/_-]{8,}")
_URLSAFE = bytes.maketrans(b"-_", b"+/")


def found_in(data: bytes, secrets: Sequence[str]) -> list[str]:
    """The secrets that stand in this: as they are, quoted for an address, JSON or HTML, or in base64 of any more."""
    text = data.decode("utf-8", "replace")
    readings = [data, unquote_to_bytes(data), html.unescape(text).encode(), re.sub(rb"\\(.)", rb"\1", data)]
    readings.append(
        re.sub(r"\\u00([0-9a-f]{2})", lambda code: chr(int(code[1], 16)), text, flags=re.IGNORECASE).encode()
    )
    for word in _WORD.findall(data):
        for start in range(4):  # it may go on from letters that are none of its own
            part = word[start:].translate(_URLSAFE)
            readings.append(base64.b64decode(part[: len(part) // 4 * 4] if len(part) % 4 == 1 else part + b"=="))
    whole = b"\0".join(readings)
    return [secret for secret in secrets if secret.encode() in whole]


def unpacked(path: Path) -> Iterator[bytes]:
    """A file as it is, and what is packed in it."""
    data = path.read_bytes()
    yield data
    if data[:4] == b"PAR1":
        yield repr(pq.read_table(path).to_pydict()).encode()
    elif data[:2] == b"\x1f\x8b":
        yield gzip.decompress(data)
    elif data[:15] == b"SQLite format 3":
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as opened:
            yield "\n".join(opened.iterdump()).encode("utf-8", "surrogateescape")


def hits(folder: Path, secrets: Sequence[str]) -> list[str]:
    """`file: secret` for every file below a folder, and for its name."""
    return [
        f"{path.relative_to(folder)}: {secret}"
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        for data in (str(path).encode(), *unpacked(path))
        for secret in found_in(data, secrets)
    ]


class Watch:
    """Looks at what comes and goes while the block runs: the files of a folder, and processes with a mark."""

    def __init__(self, folder: Path, mark: bytes, secrets: Sequence[str]) -> None:
        self.hits: list[str] = []
        self.files: set[str] = set()
        self.processes: set[str] = set()
        self.holders: set[str] = set()
        """The programs of processes in whose environment a secret stands."""
        self._seen: dict[Path, tuple[int, int]] = {}
        self._folder = folder
        self._mark = mark
        self._secrets = secrets
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.is_set():
            with contextlib.suppress(OSError):  # a folder may go while it is looked through
                for path in self._folder.rglob("*"):
                    self._read(path)
            for entry in Path("/proc").iterdir():
                with contextlib.suppress(OSError):
                    if entry.name.isdigit() and self._mark in (environment := (entry / "environ").read_bytes()):
                        line = (entry / "cmdline").read_bytes()
                        shown = line.replace(b"\0", b" ").decode()
                        self.processes.add(shown)
                        self.hits += [f"/proc cmdline {shown}" for _ in found_in(line, self._secrets)]
                        if found_in(environment, self._secrets):
                            self.holders.add(shown)
            self._over.wait(0.05)

    def _read(self, path: Path) -> None:
        with contextlib.suppress(OSError):
            seen = path.stat()
            if path.is_file() and self._seen.get(path) != (seen.st_mtime_ns, seen.st_size):
                self._seen[path] = seen.st_mtime_ns, seen.st_size
                self.files.add(path.name)
                self.hits += [f"{path}: {secret}" for secret in found_in(path.read_bytes(), self._secrets)]


def forms(secret: str) -> dict[str, str]:
    """Ways in which a server, or a careless line of ours, may say a secret again."""
    encoded = {name: f"{before}{secret}{after}" for name, before, after in (
        ("base64", "", ""), ("base64 with Bearer", "Bearer ", ""), ("base64 of user", "user:", ""),
        ("base64 of one more", "x", "yz"))}  # fmt: skip
    quoted = "".join(f"%{byte:02x}" if not chr(byte).isalnum() else chr(byte) for byte in secret.encode())
    return {
        "plain": secret,
        "quoted": quoted.upper() if secret.isupper() else quoted,
        "JSON": json.dumps(secret)[1:-1].replace("/", "\\/"),
        **{name: base64.b64encode(text.encode()).decode() for name, text in encoded.items()},
        "base64 for addresses": base64.urlsafe_b64encode(f"user:{secret}".encode()).decode(),
    }
