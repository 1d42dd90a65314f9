"""/v1/files: what was uploaded, and what batches wrote. On disk, without a name: nothing stays behind."""

from __future__ import annotations

import itertools
import re
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import IO, Any

from tests.provider import errors
from tests.provider.http import Reply, Request

_BLOCK = 1 << 20


@dataclass
class File:
    id: str
    name: str
    purpose: str
    size: int = 0
    created: int = field(default_factory=lambda: int(time.time()))
    held: IO[bytes] = field(default_factory=tempfile.TemporaryFile)

    def write(self, content: bytes) -> None:
        self.held.write(content)
        self.size += len(content)

    def read(self) -> bytes:
        self.held.seek(0)
        return self.held.read()

    async def blocks(self) -> AsyncIterator[bytes]:
        for start in range(0, self.size, _BLOCK):
            self.held.seek(start)
            yield self.held.read(_BLOCK)

    def plain(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "file",
            "bytes": self.size,
            "created_at": self.created,
            "filename": self.name,
            "purpose": self.purpose,
            "status": "processed",
            "expires_at": None,
        }


class Files:
    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._files: dict[str, File] = {}

    def new(self, name: str, purpose: str) -> File:
        made = File(f"file-sim{next(self._numbers):06d}", name, purpose)
        self._files[made.id] = made
        return made

    def close(self) -> None:
        for file in self._files.values():
            file.held.close()

    def get(self, name: str) -> File:
        """Raises Refused."""
        if name not in self._files:
            raise errors.missing("File object", name)
        return self._files[name]

    def upload(self, request: Request, max_bytes: int) -> Reply:
        """Raises Refused."""
        fields = _multipart(request)
        name, content = fields.get("file", ("", b""))
        purpose = fields.get("purpose", ("", b""))[1].decode()
        if purpose != "batch":
            raise errors.wrong(f"'{purpose}' is not one of ['batch'].", "purpose")
        if not name:
            raise errors.wrong("'file' is a required property", "file")
        if len(content) > max_bytes:
            raise errors.Refused(413, f"File is too large: {len(content)} bytes, the maximum is {max_bytes}.")
        made = self.new(name, purpose)
        made.write(content)
        return Reply.of(made.plain())

    def listed(self) -> Reply:
        found = [file.plain() for file in reversed(self._files.values())]
        return Reply.of({"object": "list", "data": found, "has_more": False})

    def content(self, name: str) -> Reply:
        """Raises Refused."""
        return Reply(pieces=self.get(name).blocks(), headers={"content-type": "application/octet-stream"})

    def delete(self, name: str) -> Reply:
        """Raises Refused."""
        self.get(name).held.close()
        del self._files[name]
        return Reply.of({"id": name, "object": "file", "deleted": True})


def _multipart(request: Request) -> dict[str, tuple[str, bytes]]:
    """Of each field its file name, if it has one, and its content."""
    boundary = re.search(r'boundary="?([^";]+)', request.headers.get("content-type", ""))
    if not boundary:
        raise errors.wrong("expected multipart/form-data")
    fields = {}
    # the first part then also begins after a line end
    for part in (b"\r\n" + request.body).split(b"\r\n--" + boundary[1].encode())[1:-1]:
        head, _, content = part.partition(b"\r\n\r\n")
        name = re.search(rb'[ ;]name="([^"]*)"', head)
        file = re.search(rb'filename="([^"]*)"', head)
        if name:
            fields[name[1].decode()] = (file[1].decode() if file else "", content)
    return fields
