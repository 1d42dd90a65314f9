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
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    sys.stdout.write(json.dumps({"seconds": round(seconds, 3), "peak_bytes": peak}))


if __name__ == "__main__":
    main()
