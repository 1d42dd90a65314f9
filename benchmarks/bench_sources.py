"""Does a run over an unchanged corpus cost little more than asking the file system?

50,000 small files: snapshot with memory against a bare scandir + stat; `rehash` against a bare open + read + sha256; and
one JSONL of 50,000 records, with memory and read whole. CPU seconds, the least of three runs; floors and ours alternate.

    .venv/bin/python benchmarks/bench_sources.py [--files 50000] [--folder FOLDER]
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from rag.corpus.read import Reading  # noqa: E402 - found by the line above
from rag.corpus.snapshot import Snapshot, snapshot  # noqa: E402
from rag.corpus.spec import CorpusSpec  # noqa: E402
from rag.types import Document  # noqa: E402

FAR = 10**19 // 2


def make(folder: Path, files: int) -> tuple[Path, Path]:
    """`files` Markdown files of about 2 KB, 100 a folder, and one JSONL of as many records."""
    tree, lines = folder / "tree", folder / "lines" / "records.jsonl"
    lines.parent.mkdir(parents=True)
    body = "A sentence about nothing in particular, so that there is something to read. " * 26
    with lines.open("w") as records:
        for number in range(files):
            path = tree / f"part-{number // 100:04d}" / f"page-{number:06d}.md"
            path.parent.mkdir(parents=True, exist_ok=True)
            text = f"# Page {number}\n\n{body}\n"
            path.write_text(text)
            records.write(
                json.dumps({"id": f"r{number:06d}", "title": f"Page {number}", "text": text, "n": number}) + "\n"
            )
    return tree, lines


def stat_floor(folder: str) -> int:
    count = 0
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            count += stat_floor(entry.path)
        else:
            entry.stat(follow_symlinks=False)
            count += 1
    return count


def read_floor(folder: str) -> int:
    count = 0
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            count += read_floor(entry.path)
        else:
            with open(entry.path, "rb") as file:
                hashlib.sha256(file.read()).digest()
            count += 1
    return count


def cpu(work: Callable[[], object]) -> float:
    gc.collect()
    before = time.process_time()
    work()
    return time.process_time() - before


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--files", type=int, default=50_000)
    arguments.add_argument("--folder", type=Path)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        tree, lines = make(Path(name), options.files)
        spec, records = CorpusSpec((tree,)), CorpusSpec((lines,))
        memory, lines_memory = snapshot(spec, None, FAR).to_bytes(), snapshot(records, None, FAR).to_bytes()

        def with_memory() -> None:
            taken = snapshot(spec, Snapshot.from_bytes(memory), FAR)
            assert taken.hashed == 0

        work: dict[str, Callable[[], object]] = {
            "stat_floor": lambda: stat_floor(str(tree)),
            "snapshot_with_memory": with_memory,
            "read_floor": lambda: read_floor(str(tree)),
            "snapshot_rehash": lambda: snapshot(spec, Snapshot.from_bytes(memory), FAR, rehash=True),
            "jsonl_snapshot_with_memory": lambda: snapshot(records, Snapshot.from_bytes(lines_memory), FAR),
            "jsonl_snapshot_rehash": lambda: snapshot(records, None, FAR),
            "jsonl_parse_floor": lambda: [json.loads(line) for line in lines.open("rb")],
            "jsonl_read": lambda: sum(
                isinstance(item, Document) for item in Reading(snapshot(records, None, FAR), records)
            ),
            "tree_read": lambda: sum(isinstance(item, Document) for item in Reading(snapshot(spec, None, FAR), spec)),
        }
        seconds = {name: [cpu(job)] for name, job in work.items()}
        for _ in range(2):
            for job, timed in seconds.items():
                timed.append(cpu(work[job]))
    best = {name: round(min(timed), 4) for name, timed in seconds.items()}
    result = {
        "benchmark": "sources",
        "files": options.files,
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "cpu_seconds": best,
        "all_runs": {name: [round(value, 4) for value in timed] for name, timed in seconds.items()},
        "memory_bytes": len(memory),
        "ratios": {
            "snapshot_with_memory / stat_floor": round(best["snapshot_with_memory"] / best["stat_floor"], 2),
            "snapshot_rehash / read_floor": round(best["snapshot_rehash"] / best["read_floor"], 2),
            "jsonl_read / jsonl_parse_floor": round(best["jsonl_read"] / best["jsonl_parse_floor"], 2),
        },
        "goals": {"snapshot_with_memory": 0.5, "snapshot_rehash / read_floor": 1.5},
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    text = json.dumps(result, indent=2) + "\n"
    (ROOT / "benchmarks" / "results").mkdir(exist_ok=True)
    (ROOT / "benchmarks" / "results" / "sources.json").write_text(text)
    print(text, end="")


if __name__ == "__main__":
    main()
