"""Vectors -> index.faiss: unit length, inner product, block by block, the same bytes every time on one machine."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from rag.errors import Problem, RaglineError
from rag.index.kinds import INDEX_KINDS, Tuned, choose
from rag.index.search import map_index
from rag.index.tuning import gather, sample_rows, tune
from rag.ports import Floats
from rag.storage import create, faultpoint
from rag.types import Json

Blocks = Callable[[], Iterator[Floats]]
"""Gives the raw vectors in row order, from the first row on, each time it is called: float32 [any, d]."""

ADD_ROWS = 4_096
SELF_TESTS = 3


def build(blocks: Blocks, rows: int, dimensions: int, kind: str, path: Path) -> dict[str, Json]:
    """Write the index of all vectors durably to `path`.

    An exact index is streamed: one block is in memory. The others hold the FAISS index, one block and a seeded sample
    for training and tuning.

    Returns what the manifest says about the index: kind, parameters, tuned, recall, self_test.
    Raises RaglineError for a row that is zero or not finite (it is named), for a count other than `rows`, and when an
    approximate index misses the recall wanted; SettingsError for an unknown kind; StorageFailed.
    """
    kind = choose(kind, rows, dimensions)
    entry = INDEX_KINDS[kind]
    parameters = entry.parameters(rows, dimensions)
    if rows == 0:
        raise _refused("the index", "there is no chunk to index", "look into `excluded` for the reasons")

    def units() -> Iterator[Floats]:
        return _units(blocks(), rows, dimensions)

    tuned: dict[str, Json] = {}
    answers: list[Json] = []
    recall: dict[str, Json] | None = None
    with create(path) as file:
        if isinstance(entry.made, Tuned):
            index = _index(entry.made, parameters, units, rows, dimensions)
            faultpoint("build.added")
            setting, recall = tune(index, entry.made, parameters, units, rows)
            tuned[entry.made.knob] = setting
            answers = self_test(index)
            _write(index, file)
            del index
        else:
            file.write(entry.made(rows, dimensions))
            file.writelines(block.data for block in units())
        faultpoint("build.written")
    return {
        "kind": kind,
        "parameters": parameters,
        "tuned": tuned,
        "recall": recall,
        "self_test": answers or self_test(map_index(path)),
    }


def _refused(where: str, what: str, remedy: str) -> RaglineError:
    return RaglineError(what, [Problem(where, what, remedy)])


def _units(blocks: Iterator[Floats], rows: int, dimensions: int) -> Iterator[Floats]:
    """The vectors at unit length in blocks of ADD_ROWS, whatever blocks they came in: HNSW's bytes depend on that."""
    buffer = np.empty((ADD_ROWS, dimensions), dtype=np.float32)
    filled, done = 0, 0
    for block in blocks:
        if block.ndim != 2 or block.shape[1] != dimensions:
            raise _refused(
                f"row {done + filled}",
                f"vectors of shape {block.shape} where {dimensions} dimensions were planned",
                "this is a mistake of the program: please report it",
            )
        taken = 0
        while taken < len(block):
            count = min(ADD_ROWS - filled, len(block) - taken)
            buffer[filled : filled + count] = block[taken : taken + count]
            filled, taken = filled + count, taken + count
            if filled == ADD_ROWS:
                yield _normalised(buffer, done)
                done, filled = done + filled, 0
        del block  # before the next one is made: one at a time is in memory
    if filled:
        yield _normalised(buffer[:filled], done)
        done += filled
    if done != rows:
        raise _refused("the index", f"{done:,} vectors came, {rows:,} were planned", "run the same command again")


def _normalised(block: Floats, first: int) -> Floats:
    """The block scaled in place. A sum of squares is finite and positive exactly for rows that can be scaled."""
    squares = np.einsum("ij,ij->i", block, block)
    if not ((squares > 1e-30) & (squares < 1e30)).all():
        # float32 squares over- and underflow where the row itself is fine
        wide = block.astype(np.float64)
        norms = np.sqrt(np.einsum("ij,ij->i", wide, wide))
        bad = np.flatnonzero(~(np.isfinite(norms) & (norms > 0)))
        if bad.size:
            row = first + int(bad[0])
            raise _refused(
                f"row {row}",
                f"the vector of row {row} is zero or not finite, as are {bad.size - 1} more of its block",
                "run `ragline repair`: a damaged cache record is bought again",
            )
        block[:] = wide / norms[:, None]
        return block
    block /= np.sqrt(squares)[:, None]
    return block


def _index(
    tuned: Tuned, parameters: dict[str, Json], units: Callable[[], Iterator[Floats]], rows: int, dimensions: int
) -> Any:
    import faiss

    def sample(count: int) -> Floats:
        return gather(units(), sample_rows(rows, count, "training"), dimensions)

    index: Any = faiss.index_factory(dimensions, str(parameters["factory"]), faiss.METRIC_INNER_PRODUCT)
    threads = faiss.omp_get_max_threads()
    try:
        tuned.prepare(index, parameters, sample)
        for block in units():
            index.add(block)
    finally:
        faiss.omp_set_num_threads(threads)
    return index


def _write(index: Any, file: BinaryIO) -> None:
    import faiss

    failed: list[OSError] = []

    def write(data: bytes) -> int:
        try:
            return file.write(data)
        except OSError as error:
            # faiss forgets which error it was
            failed.append(error)
            raise

    swig: Any = faiss
    try:
        faiss.write_index(index, swig.PyCallbackIOWriter(write, 1 << 20))
    except (OSError, RuntimeError) as error:
        raise failed[0] if failed else error from None


def self_test_query(number: int, dimensions: int) -> Floats:
    """A unit vector that depends on nothing but its number: bytes of sha256, centred.

    Returns float32 [1, d].
    """
    digits = b"".join(hashlib.sha256(f"{number}:{part}".encode()).digest() for part in range(dimensions // 32 + 1))
    vector = np.frombuffer(digits[:dimensions], dtype=np.uint8).astype(np.float32) - 127.5
    return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)[None, :]


def self_test(index: Any) -> list[Json]:
    """What a few fixed queries find, for `verify` to compare: [{query, rows, scores}]."""
    answers: list[Json] = []
    for number in range(SELF_TESTS):
        scores, rows = index.search(self_test_query(number, index.d), min(5, index.ntotal))
        keep = rows[0] >= 0
        answers.append(
            {
                "query": number,
                "rows": rows[0][keep].tolist(),
                "scores": [round(float(score), 6) for score in scores[0][keep]],
            }
        )
    return answers
