"""The warm vector cache against its physical limit, in one run.

50,000 texts of 2 KB, 1,536 dimensions, all of them stored. Floor: sha256 of every text, a sorted-prefix lookup, a gather
from one memory map in the order asked for, and xxh3-64 over every row gathered.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from measure import peak_mb, ratio, save
from xxhash import xxh3_64_intdigest

from rag.clock import SystemClock
from rag.digest import text_keys
from rag.embedding.cache import VectorCache
from rag.types import EmbeddingIdentity

IDENTITY = EmbeddingIdentity("openai", "text-embedding-3-small")
DIMENSIONS = 1536


def texts(count: int) -> list[str]:
    rng = np.random.default_rng(0)
    words = ["".join(map(chr, rng.integers(97, 123, 7))) for _ in range(2000)]
    return [" ".join(words[i] for i in row)[:2048] for row in rng.integers(0, len(words), (count, 257))]


def fill(store: Path, keys: np.ndarray) -> None:
    rng = np.random.default_rng(1)
    cache = VectorCache(store, IDENTITY, SystemClock())
    for start in range(0, len(keys), 2048):
        part = keys[start : start + 2048]
        vectors = rng.standard_normal((len(part), DIMENSIONS), dtype=np.float32)
        cache.add(part, vectors, np.full(len(part), 400, np.uint32))
    cache.merge()


class Floor:
    def __init__(self, folder: Path, corpus: list[str]) -> None:
        self.texts = corpus
        keys = self.keys()
        order = np.argsort(keys.view(">u8")[:, 0])
        self.prefixes = keys.view(">u8")[:, 0][order].astype(np.uint64)
        self.stored = keys[order]
        path = folder / "floor.f32"
        vectors = np.random.default_rng(1).standard_normal((len(corpus), DIMENSIONS), dtype=np.float32)
        vectors[order].tofile(path)
        self.map = np.memmap(path, np.float32, "r").reshape(-1, DIMENSIONS)
        self.checks = np.array([xxh3_64_intdigest(row.data) for row in self.map], np.uint64)

    @staticmethod
    def opened(folder: Path, corpus: list[str]) -> None:
        """The floor's memory: what it needs when everything is on disk already."""
        floor = Floor.__new__(Floor)
        floor.texts = corpus
        keys = floor.keys()
        order = np.argsort(keys.view(">u8")[:, 0])
        rows = np.empty(len(order), np.int64)
        rows[order] = np.arange(len(order))
        out = np.take(np.memmap(folder / "floor.f32", np.float32, "r").reshape(-1, DIMENSIONS), rows, axis=0)
        for row in out:
            xxh3_64_intdigest(row.data)

    def keys(self) -> np.ndarray:
        digests = b"".join(hashlib.sha256(text.encode()).digest() for text in self.texts)
        return np.frombuffer(digests, np.uint8).reshape(-1, 32)

    def run(self, *, check: bool) -> np.ndarray:
        keys = self.keys()
        rows = np.searchsorted(self.prefixes, keys.view(">u8")[:, 0].astype(np.uint64))
        assert (self.stored[rows] == keys).all()
        out = np.take(self.map, rows, axis=0)
        if check:
            found = np.fromiter((xxh3_64_intdigest(row.data) for row in out), np.uint64, len(out))
            assert (found == self.checks[rows]).all()
        return out


def ours(store: Path, corpus: list[str]) -> np.ndarray:
    keys = text_keys(IDENTITY, "passage", corpus)
    found = VectorCache(store, IDENTITY, SystemClock()).lookup(keys)
    return found.gather(np.arange(len(keys)))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=50_000)
    parser.add_argument("--only", choices=["ours", "floor"])
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    corpus = texts(arguments.count)
    if arguments.only:
        if arguments.only == "ours":
            ours(arguments.folder, corpus)
        else:
            Floor.opened(arguments.folder, corpus)
        print(peak_mb())
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fill(folder, text_keys(IDENTITY, "passage", corpus))
        floor = Floor(folder, corpus)
        raw = arguments.count * DIMENSIONS * 4
        disk = sum(path.stat().st_size for path in (folder / "cache").rglob("*.arrow"))
        results = {
            "texts": arguments.count,
            "with_row_check": ratio(lambda: ours(folder, corpus), lambda: floor.run(check=True)),
            "against_floor_without_row_check": ratio(lambda: ours(folder, corpus), lambda: floor.run(check=False)),
            "disk_over_raw": disk / raw,
        }
        peaks = {}
        for side in ("ours", "floor"):
            command = [sys.executable, __file__, "--only", side, "--folder", name, "--count", str(arguments.count)]
            peaks[side] = float(subprocess.run(command, capture_output=True, check=True, text=True).stdout.split()[-1])
        results["peak_mb"] = peaks
        results["memory_over_floor"] = peaks["ours"] / peaks["floor"]
        save("cache", results)


if __name__ == "__main__":
    main()
