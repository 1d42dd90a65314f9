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


@dataclass(eq=False)
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
        self._drafts: set[File] = set()
        self._files: dict[str, File] = {}

    def draft(self, name: str, purpose: str) -> File:
        """A file that nobody sees before it is kept."""
        made = File(f"file-sim{next(self._numbers):06d}", name, purpose)
        self._drafts.add(made)
        return made

    def keep(self, file: File) -> File | None:
        """None, and no file, where nothing was written."""
        self._drafts.discard(file)
        if not file.size:
            file.held.close()
            return None
        self._files[file.id] = file
        return file

    def close(self) -> None:
        for file in [*self._drafts, *self._files.values()]:
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
        made = self.draft(name, purpose)
        made.write(content)
        self._drafts.discard(made)
        self._files[made.id] = made
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
    mark = b"--" + boundary[1].encode()
    start = request.body.find(mark)
    while (end := request.body.find(b"\r\n" + mark, start)) > 0:
        border = request.body.find(b"\r\n\r\n", start)
        head = request.body[start:border]
        name = re.search(rb'[ ;]name="([^"]*)"', head)
        file = re.search(rb'filename="([^"]*)"', head)
        if name:
            fields[name[1].decode()] = (file[1].decode() if file else "", request.body[border + 4 : end])
        start = end + 2
    return fields
