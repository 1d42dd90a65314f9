"""Index build, batch search and opening against raw faiss with the same factory string and training set.

Run from the project's root: `.venv/bin/python benchmarks/bench_index.py --rows 100000 --dimensions 384`. Each measured
step runs in a process of its own, the two sides by turns; the median is taken. Peak memory is what the process had
above what it held after its imports and before its first vector; CPU is user and system time of all threads.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

BLOCK = 8_192
K = 10


def make_vectors(path: Path, rows: int, dimensions: int) -> None:
    """Seeded clusters, a thousand centres, not of unit length; written block by block."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((1_000, dimensions), dtype=np.float32)
    out = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(rows, dimensions))
    for start in range(0, rows, BLOCK):
        count = min(BLOCK, rows - start)
        noise = rng.standard_normal((count, dimensions), dtype=np.float32)
        out[start : start + count] = 2 * (centres[rng.integers(0, 1_000, count)] + noise)
    out.flush()


def peak() -> int:
    """The high-water mark of this program; ru_maxrss would be that of the parent before it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def read(vectors: Path) -> np.ndarray:
    """The vectors in memory, as a program that calls faiss by hand holds them."""
    return np.load(vectors)


def raw_build(vectors: Path, kind: str, out: Path) -> dict[str, object]:
    """What one writes with faiss alone: load, normalise, train, add, write; no tuning."""
    import faiss

    from rag.index.kinds import SEED, parameters
    from rag.index.tuning import sample_rows

    before, started, wall = peak(), cpu(), time.perf_counter()
    data = read(vectors)
    faiss.normalize_L2(data)
    known = parameters(kind, *data.shape)
    index = faiss.index_factory(data.shape[1], known["factory"], faiss.METRIC_INNER_PRODUCT)
    if kind == "ivf_sq8":
        index.cp.seed = SEED % 2**31
        index.train(data[sample_rows(len(data), known["training_rows"], "training")])
    if kind == "hnsw":
        index.hnsw.efConstruction = known["ef_construction"]
        faiss.omp_set_num_threads(1)
    index.add(data)
    faiss.write_index(index, str(out))
    return {"cpu": cpu() - started, "wall": time.perf_counter() - wall, "peak": peak() - before}


def our_build(vectors: Path, kind: str, out: Path, *, tuned: bool) -> dict[str, object]:
    import faiss  # noqa: F401

    from rag.index import build as room
    from rag.index.build import build

    if not tuned:
        room.tune = lambda index, kind, parameters, units, rows: (1, {})  # noqa: ARG005
    before, started, wall = peak(), cpu(), time.perf_counter()
    data = np.load(vectors, mmap_mode="r")
    rows, dimensions = data.shape
    skip = data.offset

    def blocks() -> Iterator[np.ndarray]:
        # read, not mapped: pages of a mapped file would count as memory of the process
        for start in range(0, rows, BLOCK):
            count = min(BLOCK, rows - start) * dimensions
            yield np.fromfile(vectors, np.float32, count, offset=skip + start * dimensions * 4).reshape(-1, dimensions)

    facts = build(blocks, rows, dimensions, kind, out)
    return {
        "cpu": cpu() - started,
        "wall": time.perf_counter() - wall,
        "peak": peak() - before,
        "facts": facts if tuned else None,
    }


def both_searches(folder: Path, kind: str) -> dict[str, object]:
    """CPU of 1,000 queries in one batch on the same file, raw and ours by turns in one process.

    The least of nine, or of as many as go into two seconds: a batch of 10 ms is soon disturbed.
    """
    asks = {"raw": searcher(folder, kind, raw=True), "ours": searcher(folder, kind, raw=False)}
    times: dict[str, list[float]] = {"raw": [], "ours": []}
    for ask in asks.values():
        ask()
    end = time.perf_counter() + 2
    while len(times["ours"]) < 9 or time.perf_counter() < end:
        for side, ask in asks.items():
            started = cpu()
            ask()
            times[side].append(cpu() - started)
    return {side: min(taken) for side, taken in times.items()}


def searcher(folder: Path, kind: str, *, raw: bool) -> Callable[[], object]:
    import faiss

    from rag.index.manifest import Manifest
    from rag.index.search import OpenVersion
    from rag.types import EmbeddingIdentity

    queries = np.load(folder / "queries.npy")
    path = folder / f"{kind}.faiss"
    if raw:
        index = faiss.read_index(str(path))
        ask = lambda: index.search(queries, K)  # noqa: E731
    else:
        shape = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
        facts = {"kind": kind}
        manifest = Manifest("", EmbeddingIdentity("", ""), shape.d, (), {}, {}, True, facts, {}, {}, shape.ntotal, {})
        opened = OpenVersion(folder, 1, manifest, path.open("rb"), {"index.faiss": os.open(path, os.O_RDONLY)})
        ask = lambda: opened.search(queries, K)  # noqa: E731
    return ask


def open_memory(folder: Path, kind: str) -> dict[str, object]:
    import faiss  # noqa: F401

    from rag.index.search import map_index

    map_index(folder / "tiny.faiss")

    def resident() -> tuple[int, int]:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        anonymous, mapped = (int(status.split(name)[1].split()[0]) * 1024 for name in ("RssAnon:", "RssFile:"))
        return anonymous, mapped

    before, wall = resident(), time.perf_counter()
    index = map_index(folder / f"{kind}.faiss")
    wall = time.perf_counter() - wall
    anonymous, mapped = (now - then for now, then in zip(resident(), before, strict=True))
    # of the page cache the kernel lends up to 2 MB around each byte that is read, whatever the size of the file
    return {"own_bytes": anonymous, "lent_by_page_cache": mapped, "wall": wall, "rows": index.ntotal}


def child(*arguments: str) -> dict[str, object]:
    command = [sys.executable, __file__, "--child", *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": "."})
    return json.loads(done.stdout)


def run_child(action: str, folder: Path, kind: str, side: str) -> dict[str, object]:
    if action == "build":
        if side == "raw":
            return raw_build(folder / "vectors.npy", kind, folder / f"{kind}.raw")
        return our_build(folder / "vectors.npy", kind, folder / f"{kind}.faiss", tuned=side == "ours")
    if action == "search":
        return both_searches(folder, kind)
    return open_memory(folder, kind)


def median(runs: list[dict[str, object]], name: str) -> float:
    return statistics.median(float(str(run[name])) for run in runs)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dimensions", type=int, default=384)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--kinds", default="flat,ivf_sq8,hnsw")
    parser.add_argument("--out", default="benchmarks/results/index.json")
    parser.add_argument("--child", nargs=4)
    asked = parser.parse_args()
    if asked.child:
        action, folder, kind, side = asked.child
        print(json.dumps(run_child(action, Path(folder), kind, side)))
        return
    from rag.index.build import build

    results: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_vectors(folder / "vectors.npy", asked.rows, asked.dimensions)
        sample = np.load(folder / "vectors.npy", mmap_mode="r")[:: max(asked.rows // 1_000, 1)][:1_000]
        np.save(folder / "queries.npy", sample / np.linalg.norm(sample, axis=1, keepdims=True))
        build(lambda: iter([np.array(sample[:10])]), 10, asked.dimensions, "flat", folder / "tiny.faiss")
        for kind in asked.kinds.split(","):
            sides: dict[str, list[dict[str, object]]] = {"raw": [], "untuned": [], "ours": []}
            for _ in range(1 if kind == "hnsw" else asked.runs):
                for side, runs in sides.items():
                    runs.append(child("build", name, kind, side))
            same = (folder / f"{kind}.raw").stat().st_size == (folder / f"{kind}.faiss").stat().st_size
            found = child("search", name, kind, "both")
            raw_search, our_search = float(str(found["raw"])), float(str(found["ours"]))
            results[kind] = {
                "index_bytes": (folder / f"{kind}.faiss").stat().st_size,
                "same_size_as_raw": same,
                "build_cpu_raw": round(median(sides["raw"], "cpu"), 3),
                "build_cpu_ours_without_tuning": round(median(sides["untuned"], "cpu"), 3),
                "build_cpu_ours": round(median(sides["ours"], "cpu"), 3),
                "build_cpu_ratio_without_tuning": round(
                    median(sides["untuned"], "cpu") / median(sides["raw"], "cpu"), 3
                ),
                "build_peak_raw": int(median(sides["raw"], "peak")),
                "build_peak_ours": int(median(sides["ours"], "peak")),
                "build_peak_ratio": round(median(sides["ours"], "peak") / median(sides["raw"], "peak"), 3),
                "batch_search_cpu_raw": round(raw_search, 4),
                "batch_search_cpu_ours": round(our_search, 4),
                "batch_search_speed_ratio": round(raw_search / our_search, 3),
                "open": child("open", name, kind, "ours"),
                "facts": {key: sides["ours"][0]["facts"][key] for key in ("parameters", "tuned", "recall")},  # type: ignore[index]
            }
            print(kind, json.dumps(results[kind], indent=1))
    import faiss

    report = {
        "command": " ".join(["python", "benchmarks/bench_index.py", *sys.argv[1:]]),
        "machine": {"cpus": os.cpu_count(), "arch": platform.machine(), "python": platform.python_version()},
        "versions": {"faiss": faiss.__version__, "numpy": np.__version__},
        "load_1min": round(os.getloadavg()[0], 2),
        "rows": asked.rows,
        "dimensions": asked.dimensions,
        "results": results,
    }
    Path(asked.out).parent.mkdir(parents=True, exist_ok=True)
    Path(asked.out).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
