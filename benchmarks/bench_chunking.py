"""How much chunking costs beside encoding each document once with the same tokenizer.

    .venv/bin/python benchmarks/bench_chunking.py [--rounds 3] [--megabytes 12]

The corpus is documentation that lies on this machine: the FastAPI tree of RAGLINE_DATASETS, the Markdown, reStructured
text and text files of the installed packages (not of their tests), and a seeded sample of their Python files. Both sides run in one process,
document by document in turn; figures are CPU seconds. Every round starts with a fresh tokenizer, so nothing is remembered.
The ratio is (CPU of encoding) / (CPU of chunking): 1 would mean that cutting is free.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import sys
import sysconfig
import tarfile
import time
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from rag.chunking import tokens  # noqa: E402
from rag.chunking.registry import CHUNKERS  # noqa: E402
from rag.chunking.tokens import load_tokenizer  # noqa: E402
from rag.types import Document  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "chunking.json"


def corpus(megabytes: float) -> list[Document]:
    """Documents in a seeded order, FastAPI's whole tree first counted in, Python files to fill up."""
    folder = Path(os.environ.get("RAGLINE_DATASETS", ROOT.parent / "shared" / "datasets"))
    found: list[Document] = []
    archive = folder / "docs-fastapi" / "fastapi-docs.tar.gz"
    if archive.is_file():
        with tarfile.open(archive) as tar:
            for member in tar:
                file = tar.extractfile(member) if member.isfile() else None
                if file is not None:
                    found.append(document(member.name, file.read().decode("utf-8", "replace")))
    packages = Path(sysconfig.get_paths()["purelib"])
    rng = random.Random(1)
    # scipy's tests hold matrices as one line of digits each: data, and a quarter of the whole since scipy is installed
    paths = sorted(
        path for suffix in ("md", "rst", "txt") for path in packages.rglob(f"*.{suffix}") if "tests" not in path.parts
    )
    sources = sorted(packages.rglob("*.py"))
    rng.shuffle(sources)
    size = sum(len(d.text) for d in found)
    for path in [*paths, *sources]:
        if size > megabytes * 1e6:
            break
        try:
            text = path.read_bytes().decode()
        except UnicodeDecodeError:
            continue
        found.append(document(path.relative_to(packages).as_posix(), text))
        size += len(text)
    rng.shuffle(found)
    return found


def document(name: str, text: str) -> Document:
    media_type = "text/markdown" if name.endswith(".md") else "text/plain"
    return Document(name, text, name, name, "", media_type, "bench/1")


def measure(documents: list[Document], name: str, rounds: int) -> dict[str, object]:
    """Medians over the rounds of megabytes per CPU second, and the ratio of the two within each round."""
    megabytes = sum(len(d.text.encode()) for d in documents) / 1e6
    ratios, encodes, cuts = [], [], []
    for _ in range(rounds):
        tokens._loaded.cache_clear()  # noqa: SLF001  (nothing is remembered from the round before)
        tokenizer = load_tokenizer(name)
        tokenizer.count("x")  # reads the vocabulary
        chunker = CHUNKERS["structure"](tokenizer, max_tokens=512, overlap_tokens=64, embed_heading_path=True)
        encoding = chunking = 0.0
        chunks = held = over = 0
        for doc in documents:
            began = time.process_time()
            tokenizer.count(doc.text)
            middle = time.process_time()
            made = list(chunker.chunk(doc))
            chunking += time.process_time() - middle
            encoding += middle - began
            chunks += len(made)
            held += sum(chunk.tokens for chunk in made)
            over += sum(chunk.tokens > 512 for chunk in made)
        ratios.append(encoding / chunking)
        encodes.append(megabytes / encoding)
        cuts.append(megabytes / chunking)
        print(f"{name}: encode {encodes[-1]:.2f} MB/s, structure {cuts[-1]:.2f} MB/s, ratio {ratios[-1]:.3f}")
    return {
        "tokenizer": name,
        "megabytes": round(megabytes, 2),
        "documents": len(documents),
        "chunks": chunks,
        "mean_tokens": round(held / chunks, 1),
        "over_the_limit": over,
        "encode_mb_per_cpu_s": round(statistics.median(encodes), 2),
        "structure_mb_per_cpu_s": round(statistics.median(cuts), 2),
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--megabytes", type=float, default=12.0)
    parser.add_argument("--tokenizers", nargs="+", default=["cl100k_base", "o200k_base", "wordllama"])
    asked = parser.parse_args()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    documents = corpus(asked.megabytes)
    result = {
        "command": " ".join(["benchmarks/bench_chunking.py", *sys.argv[1:]]),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": {
            "system": platform.system(),
            "processor": platform.machine(),
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
        },
        "limits": {"max_tokens": 512, "overlap_tokens": 64, "embed_heading_path": True},
        "results": [measure(documents, name, asked.rounds) for name in asked.tokenizers],
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    print(f"written: {RESULTS.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
