"""A process of its own for parsers that a hostile file could hold up, fill or crash: limits of CPU time and memory.

A request is the length of a JSON header (4 bytes, big endian), the header, and the bytes of the file; a reply is a
length and JSON. The child ends when its standard input does, so it never outlives its parent.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import resource
import select
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from rag.corpus.page import Page, Unreadable
from rag.corpus.readers import READERS, PageReader
from rag.corpus.spec import CorpusSpec

SECONDS = 4.0
"""CPU time of one document, and SECONDS_PER_MIB more for each MiB: CPU, so that a busy machine changes no result."""
SECONDS_PER_MIB = 2.0
MEMORY = 2 << 30
"""Bytes of address space of the child."""
_WALL = 20
"""The wall clock ends a child that waits for something, at this many times its CPU time."""
_START = "import sys; sys.path.insert(0, sys.argv[1]); from rag.corpus.worker import serve; serve()"


class Worker:
    """Runs readers in a child, which starts with the first file and is replaced when it dies."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def page(self, reader: PageReader, data: bytes, spec: CorpusSpec) -> Page:
        """What the reader gives for the bytes. Raises Unreadable: the reader's own, `too slow`, `too large`, `failed`."""
        child = self._child = self._child or _started()
        seconds = SECONDS + SECONDS_PER_MIB * len(data) / (1 << 20)
        suffix = next(suffix for suffix, known in READERS.items() if known is reader)
        header = {"suffix": suffix, "size": len(data), "seconds": seconds, "spec": spec.identity()}
        assert child.stdin is not None
        try:
            _send(child.stdin, header)
            child.stdin.write(data)
            child.stdin.flush()
            reply = self._reply(child, seconds * _WALL)
        except (OSError, EOFError) as error:
            raise self._death(seconds) from error
        except BaseException:
            self._end()
            raise
        if "reason" in reply:
            raise Unreadable(reply["reason"], reply["detail"])
        return Page(**reply)

    def _reply(self, child: subprocess.Popen[bytes], seconds: float) -> Any:
        assert child.stdout is not None
        if not select.select([child.stdout], [], [], seconds)[0]:
            child.kill()
        return _received(child.stdout)

    def _death(self, seconds: float) -> Unreadable:
        assert self._child is not None
        child, self._child = self._child, None
        _close(child)
        code = child.wait()
        if code in (-signal.SIGXCPU, -signal.SIGKILL):
            return Unreadable("too slow", f"not read within {seconds:.0f} s of CPU time")
        return Unreadable("failed", f"its parser ended the process that ran it (exit code {code})")

    def _end(self) -> None:
        if self._child is not None:
            child, self._child = self._child, None
            child.kill()
            _close(child)
            child.wait()


def _started() -> subprocess.Popen[bytes]:
    home = str(Path(__file__).resolve().parents[2])
    return subprocess.Popen(
        [sys.executable, "-I", "-c", _START, home],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _close(child: subprocess.Popen[bytes]) -> None:
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


def _send(pipe: BinaryIO | Any, value: Any) -> None:
    data = json.dumps(value).encode("ascii")
    pipe.write(len(data).to_bytes(4, "big") + data)
    pipe.flush()


def _received(pipe: Any) -> Any:
    size = pipe.read(4)
    if len(size) < 4:
        raise EOFError
    data = pipe.read(int.from_bytes(size, "big"))
    if len(data) < int.from_bytes(size, "big"):
        raise EOFError
    return json.loads(data)


def serve() -> None:
    """Be the child: read requests from standard input until it ends."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY if most < 0 else min(MEMORY, most), most))
    while True:
        try:
            header = _received(sys.stdin.buffer)
        except EOFError:
            return
        data = sys.stdin.buffer.read(header["size"])
        used = resource.getrusage(resource.RUSAGE_SELF)
        until = math.ceil(used.ru_utime + used.ru_stime + header["seconds"])
        resource.setrlimit(resource.RLIMIT_CPU, (until, resource.getrlimit(resource.RLIMIT_CPU)[1]))
        _send(replies, _answer(header, data))


def _answer(header: dict[str, Any], data: bytes) -> dict[str, Any]:
    reader = READERS[header["suffix"]]
    assert isinstance(reader, PageReader)
    try:
        page = reader.read(data, CorpusSpec((), **header["spec"]))
    except Unreadable as verdict:
        return {"reason": verdict.reason, "detail": verdict.detail}
    except MemoryError:
        return {"reason": "too large", "detail": f"takes more than {MEMORY:,} bytes of memory to read"}
    except Exception as error:  # noqa: BLE001 - one bad file never ends the run
        return {"reason": "failed", "detail": f"{type(error).__name__}: {error}"[:500]}
    return dataclasses.asdict(page)
