"""A re-index as a whole: what nothing-to-do costs, and how memory grows.

No-op: CPU seconds of the stages (imports and the making of parts aside) over 50,000 documents, from one JSONL and from 50,000
files, with the stat of the sources and with --rehash, against reading and hashing the same bytes in bare Python.
Memory: peak of the process over 20,000 and 200,000 chunks; a flat index is streamed, the lexical index is built in a process
of its own, whose peak and seconds stand beside.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from measure import cpu_seconds, peak_mb, save

from rag import wiring
from rag.pipeline import Options, reindex
from rag.sealed import read_sealed
from rag.settings import load

WORDS = [f"{a}{b}" for a in ("rail", "snow", "gear", "lamp", "horn", "deck", "pump", "bolt") for b in range(250)]


def text(rng: np.random.Generator, words: int) -> str:
    return " ".join(WORDS[i] for i in rng.integers(0, len(WORDS), words)) + "."


STAGE = [""]


def stage(name: str, *_: object) -> None:
    STAGE[0] = name


def settings(folder: Path, corpus: Path) -> object:
    return load([], {}, [f"store='{folder / 'store'}'", f"corpus.paths=['{corpus}']"], folder)


def run(folder: Path, corpus: Path, *, rehash: bool = False) -> tuple[str, float]:
    made = wiring.reindex(settings(folder, corpus), Options(rehash=rehash), stage)
    outcome = None

    def work() -> None:
        nonlocal outcome
        with made as opened:
            outcome = reindex(opened)

    seconds = cpu_seconds(work)
    return outcome.reason, seconds


def make_files(corpus: Path, count: int, words: int) -> None:
    rng = np.random.default_rng(0)
    for number in range(count):
        path = corpus / f"{number // 500:03}" / f"{number:06}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"Note {number}: {text(rng, words)}\n")
        os.utime(path, (1.7e9, 1.7e9))


def make_records(path: Path, count: int, words: int) -> None:
    rng = np.random.default_rng(0)
    with path.open("w") as file:
        for number in range(count):
            file.write(json.dumps({"id": f"r{number:06}", "text": f"Note {number}: {text(rng, words)}"}) + "\n")
    os.utime(path, (1.7e9, 1.7e9))


def hash_all(corpus: Path) -> None:
    for root, _, names in os.walk(corpus):
        for name in names:
            with open(os.path.join(root, name), "rb") as file:
                hashlib.sha256(file.read()).hexdigest()


def no_op(count: int) -> dict:
    results = {}
    with tempfile.TemporaryDirectory() as name:
        for kind in ("jsonl", "files"):
            folder = Path(name) / kind
            corpus = folder / "corpus"
            corpus.mkdir(parents=True)
            if kind == "jsonl":
                make_records(corpus / "all.jsonl", count, 60)
            else:
                make_files(corpus, count, 60)
            # ctime cannot be set: the sources must be two seconds old to be believed
            time.sleep(2.5)
            first, took = run(folder, corpus)
            assert first == "published"
            run(folder, corpus)
            noops = [run(folder, corpus) for _ in range(3)]
            rehashed = [run(folder, corpus, rehash=True) for _ in range(3)]
            assert {reason for reason, _ in noops + rehashed} == {"unchanged"}
            floor = min(cpu_seconds(lambda corpus=corpus: hash_all(corpus)) for _ in range(3))
            again = min(seconds for _, seconds in rehashed)
            results[kind] = {
                "documents": count,
                "first_run_cpu_s": took,
                "no_op_cpu_s": min(seconds for _, seconds in noops),
                "rehash_cpu_s": again,
                "read_and_sha256_floor_cpu_s": floor,
                "rehash_over_floor": again / floor,
            }
    return results


def memory(counts: list[int]) -> dict:
    results: dict = {}
    for count in counts:
        command = [sys.executable, __file__, "--peak", str(count)]
        results[str(count)] = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    low, high = (results[str(count)] for count in counts)
    return {**results, "growth_mb": {name: high[name] - low[name] for name in ("peak_anonymous_mb", "peak_mb")}}


@contextlib.contextmanager
def sampled() -> Iterator[list]:
    """The highest anonymous memory, in MB, looked at every 10 ms: maps of files are page cache and not counted."""
    most, done = [0.0, ""], threading.Event()

    def look() -> None:
        while not done.wait(0.01):
            status = Path("/proc/self/status").read_text()
            now = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon")) / 1024
            if now > most[0]:
                most[:] = [now, STAGE[0]]

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield most
    finally:
        done.set()
        watcher.join()


def peak(count: int) -> dict:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = folder / "corpus"
        corpus.mkdir()
        make_records(corpus / "all.jsonl", count, 40)
        with sampled() as most:
            reason, seconds = run(folder, corpus)
        assert reason == "published"
        build = read_sealed(folder / "store/indexes/main/v000001/build.json")
        return {
            "peak_anonymous_mb": most[0],
            "at_stage": most[1],
            "peak_mb": peak_mb(),
            "cpu_s": seconds,
            "chunks": count,
            "lexical": build["lexical_build"],
        }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--peak", type=int)
    parser.add_argument("--documents", type=int, default=50_000)
    parser.add_argument("--chunks", type=int, nargs=2, default=[20_000, 200_000])
    arguments = parser.parse_args()
    if arguments.peak:
        print(json.dumps(peak(arguments.peak)))
    else:
        save("reindex", {"no_op": no_op(arguments.documents), "memory": memory(arguments.chunks)})
