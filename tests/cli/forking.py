"""`ragline` in processes that are forked ready: what takes half a second to import is imported once.

`python -m tests.cli.forking` reads a line of JSON for each command and forks a process for it, from a process that has
neither a thread nor a loop; what it forks is the command and nothing else, with streams, folder and environment of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
ONE_THREAD = {
    **{f"{name}_NUM_THREADS": "1" for name in ("OPENBLAS", "OMP", "MKL")},
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, or minus the signal that killed it, and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Command:
    """A running one."""

    def __init__(self, forge: Forge, pid: int, said: Path) -> None:
        self.pid = pid
        self._forge = forge
        self._said = said
        self._handle = os.pidfd_open(pid)

    @property
    def ended(self) -> bool:
        return bool(select.select([self._handle], [], [], 0)[0])

    def send(self, number: int) -> None:
        """A signal to it; harmless when it has ended."""
        signal.pidfd_send_signal(self._handle, number)

    def wait(self, seconds: float = 60.0) -> Ended:
        """Its end. Raises TimeoutError."""
        if not select.select([self._handle], [], [], seconds)[0]:
            raise TimeoutError(f"it still runs after {seconds} s")
        os.close(self._handle)
        code = self._forge.ask({"wait": self.pid})
        # one that was killed at once has not even opened them
        said = [self._said.with_suffix(end) for end in (".out", ".err")]
        out, err = (path.read_text() if path.exists() else "" for path in said)
        assert "Exception ignored" not in err, err
        return Ended(code, out, err)


class Forge:
    """The process that forks."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process = process
        self.folder = folder
        """Where what the next commands say lies."""
        self._count = 0

    def start(self, cwd: Path, *words: str, **environment: str) -> Command:
        """`ragline words` in a folder."""
        self._count += 1
        said = self.folder / f"said-{self._count:04}"
        asked = {"words": words, "cwd": str(cwd), "environment": environment, "said": str(said)}
        return Command(self, self.ask(asked), said)

    def run(self, cwd: Path, *words: str, **environment: str) -> Ended:
        return self.start(cwd, *words, **environment).wait()

    def ask(self, asked: Mapping[str, Any]) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@contextlib.contextmanager
def forging(folder: Path, *, hasty: bool = False, **environment: str) -> Iterator[Forge]:
    """A forge, up for the block; what commands say lies in the folder.

    The environment is there at every import. `hasty` commands hardly wait before they ask a provider again.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAGLINE_", "PREFECT_"))}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.cli.forking", *(["hasty"] if hasty else [])],
        cwd=ROOT,
        env={**kept, **ONE_THREAD, "PYTHONPATH": str(ROOT), **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        yield Forge(process, folder)
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait(60)


def _serve() -> None:
    import importlib

    for name in (
        "flows.cli", "flows.commands", "flows.harness", "flows.runners", "rag.pipeline", "rag.wiring", "rag.upkeep",
        "rag.chunking.registry", "rag.retrieval.retrievers", "rag.retrieval.lexical", "rag.providers.openai_api",
        "rag.providers.measured", "rag.corpus.worker", "rag.embedding.spend", "rag.status", "openai", "faiss", "pyarrow.parquet", "pyarrow.ipc", "pyarrow.dataset", "xxhash",
    ):  # fmt: skip
        importlib.import_module(name)
    if "hasty" in sys.argv:
        retry = sys.modules["rag.providers.retry"]
        retry._BASE, retry._CAP = 0.01, 0.02  # type: ignore[attr-defined]
    assert len(os.listdir("/proc/self/task")) == 1, "a thread would be missing in what is forked"
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        asked = json.loads(line)
        if "wait" in asked:
            answer = os.waitstatus_to_exitcode(os.waitpid(asked["wait"], 0)[1])
        else:
            answer = os.fork()
            if answer == 0:
                _become(asked)
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


def _become(asked: Mapping[str, Any]) -> None:
    """Be the command, and end with it."""
    code = 1
    try:
        os.chdir(asked["cwd"])
        os.environ.update(asked["environment"])
        for number, end in ((1, ".out"), (2, ".err")):
            handle = os.open(asked["said"] + end, os.O_WRONLY | os.O_CREAT, 0o600)
            os.dup2(handle, number)
            os.close(handle)
        nowhere = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nowhere, 0)
        from flows.cli import main

        code = main(asked["words"])
        sys.stdout.flush()
    except BaseException:  # noqa: BLE001 - as the interpreter would
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()
