"""`python -m rag.retrieval.build_lexical CHUNKS FOLDER`: builds, then says seconds and peak memory on stdout."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

from rag.retrieval.lexical import build, read_texts


def main() -> None:
    started = time.perf_counter()
    chunks, folder = map(Path, sys.argv[1:3])
    build(read_texts(chunks), folder)
    seconds = time.perf_counter() - started
    sys.stdout.write(json.dumps({"seconds": round(seconds, 3), "peak_bytes": peak_bytes()}))


def peak_bytes() -> int:
    """The most memory that this program held. ru_maxrss outlives exec: it would say what our parent held."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text(encoding="ascii").split("VmHWM:")[1].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
