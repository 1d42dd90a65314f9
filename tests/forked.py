"""Workers of tests in processes of their own, forked from one that has imported all they need.

A start costs a hundredth of a second in place of half of one. `python -m tests.forked MODULE ...` imports the modules,
reads a line of JSON for each worker, forks it, waits for its end and answers its exit code, or minus the signal that
ended it.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[1]
LAZY = (
    "faiss",
    "pyarrow.parquet",
    "pyarrow.ipc",
    "pyarrow.dataset",
    "tokenizers",
    "xxhash",
    "Stemmer",
    "bm25s.tokenization",
)
"""What a worker would import where it is used."""
ONE_THREAD = {
    **{f"{name}_NUM_THREADS": "1" for name in ("OPENBLAS", "OMP", "MKL")},
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}


class Forked:
    """A process that forks workers, one at a time."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process = process
        self._said = (folder / "out", folder / "err")

    def run(self, module: str, words: Sequence[str], fault: str = "") -> subprocess.CompletedProcess[str]:
        """`python -m module words` with a fault (see `rag.storage.faultpoint`), to its end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        for path in self._said:
            path.write_text("")
        asked = {"module": module, "words": list(words), "fault": fault, "said": list(map(str, self._said))}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        return subprocess.CompletedProcess([module, *words], code, *(path.read_text() for path in self._said))


@contextlib.contextmanager
def forking(folder: Path, *modules: str) -> Iterator[Forked]:
    """One that forks workers of these modules, each of which has a `main`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.forked", *modules],
        cwd=ROOT,
        env={**os.environ, **ONE_THREAD},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:  # its end closes the streams, which ends it
        yield Forked(process, folder)


def _serve(modules: Sequence[str]) -> None:
    for name in (*modules, *LAZY):
        importlib.import_module(name)
    assert len(os.listdir("/proc/self/task")) == 1, "a thread would be missing in what is forked"
    for line in sys.stdin:
        asked = json.loads(line)
        worker = os.fork()
        if worker == 0:
            _work(asked["module"], asked["words"], asked["fault"], asked["said"])
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])}\n")
        sys.stdout.flush()


def _work(module: str, words: list[str], fault: str, said: list[str]) -> NoReturn:
    """Be the worker, and end with it: as the interpreter would."""
    code: object = 1
    try:
        for number, path in enumerate([os.devnull, *said]):
            handle = os.open(path, os.O_WRONLY if number else os.O_RDONLY)
            os.dup2(handle, number)
            os.close(handle)
        os.environ["RAGLINE_FAULT"] = fault
        sys.argv = [module, *words]
        code = importlib.import_module(module).main()
    except SystemExit as end:
        code = end.code
    except BaseException:  # noqa: BLE001 - as the interpreter would
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    _serve(sys.argv[1:])
