"""An opened version: what it finds, restricted or not, one by one or in a batch, whatever the kind."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.errors import RaglineError, UsageError
from rag.index.kinds import INDEX_KINDS
from rag.index.search import OpenVersion
from rag.index.versions import Versions
from rag.ports import Floats
from rag.retrieval.retrievers import unit
from tests.index.making import make_folder, texts, vectors

RAW = vectors(800)
RAW[100:120] = RAW[50]
QUERIES = unit(vectors(30, seed=5))


def publish(store: Path, kind: str) -> OpenVersion:
    make_folder(store / "staging" / "s", texts(800), RAW, kind=kind, metadata=[{"a": "x"}, {"a": ["y", "z"]}])
    versions = Versions(store, "main")
    versions.publish_staged(store / "staging" / "s")
    return versions.open()


@pytest.fixture(scope="module", params=INDEX_KINDS)
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenVersion]:
    with publish(tmp_path_factory.mktemp("store"), request.param) as version:
        yield version


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenVersion]:
    with publish(tmp_path_factory.mktemp("store"), "flat") as version:
        yield version


def exact(rows: np.ndarray) -> Floats:
    return np.asarray(QUERIES @ unit(RAW[rows]).T, dtype=np.float32)


def test_a_restricted_search_compares_every_row_allowed(opened: OpenVersion) -> None:
    for rows in (np.arange(0, 800, 97), np.array([5]), np.arange(800), np.arange(1, 800, 2)):
        scores, found = opened.search(QUERIES, 5, rows.astype(np.int64))
        right = exact(rows)
        best = rows[np.argsort(-right, axis=1, kind="stable")[:, :5]]
        width = min(5, len(rows))
        tolerance = 0.02 if opened.manifest.kind == "ivf_sq8" else 1e-5
        assert np.isin(found[:, :width], rows).all()
        assert (found[:, width:] == -1).all()
        assert np.isneginf(scores[:, width:]).all()
        np.testing.assert_allclose(scores[:, :width], -np.sort(-right, axis=1)[:, :width], atol=tolerance)
        if opened.manifest.kind != "ivf_sq8":
            assert (found[:, :width] == best[:, :width]).all()


def test_no_row_allowed_gives_nothing(opened: OpenVersion) -> None:
    scores, found = opened.search(QUERIES, 3, np.empty(0, dtype=np.int64))
    assert (found == -1).all()
    assert scores.shape == (30, 3)


def test_one_by_one_finds_what_a_batch_finds(opened: OpenVersion) -> None:
    batch = opened.search(QUERIES, 10)[1]
    single = np.concatenate([opened.search(query[None], 10)[1] for query in QUERIES])
    assert (batch == single).all()


def test_equal_scores_come_in_row_order_also_at_the_border(opened: OpenVersion) -> None:
    query = unit(RAW[50:51])
    everything = [50, *range(100, 120)]
    if opened.manifest.kind == "hnsw":
        # its links reach some of many copies, not all
        assert set(opened.search(query, 5)[1][0].tolist()) <= set(everything)
        return
    for k in (1, 2, 5, 20, 21):
        assert opened.search(query, k)[1][0].tolist() == everything[:k]
        batch = opened.search(np.repeat(query, 40, axis=0), k)[1]
        assert (batch == everything[:k]).all()


def test_more_than_there_is_ends_in_minus_one(opened: OpenVersion) -> None:
    scores, found = opened.search(QUERIES[:2], 900)
    assert found.shape == (2, 900)
    assert (found[:, 800:] == -1).all()
    if opened.manifest.kind == "flat":
        assert sorted(found[0, :800].tolist()) == list(range(800))
        assert (np.diff(scores[:, :800]) <= 1e-6).all()


def test_queries_of_another_dimension_are_refused(opened: OpenVersion) -> None:
    with pytest.raises(RaglineError, match="32 dimensions"):
        opened.search(np.zeros((1, 31), dtype=np.float32), 1)


def test_a_filter_gives_the_rows_of_its_documents(opened: OpenVersion) -> None:
    assert opened.where({"a": ["x"]}).tolist() == [row for row in range(800) if row // 2 % 2 == 0]
    assert opened.where({"a": ["z", "x"]}).tolist() == list(range(800))
    with pytest.raises(UsageError):
        opened.where({"b": ["x"]})
    rows = opened.where({"a": ["y"]})
    found = opened.search(QUERIES, 50, rows)[1]
    chunks = opened.chunks.rows(found[0].tolist())
    assert all(int(chunk.doc_id[-5:]) % 2 == 1 for chunk in chunks)


@given(chosen=st.sets(st.integers(0, 799), min_size=1, max_size=60), k=st.integers(1, 20))
def test_flat_with_any_restriction_equals_numpy(flat: OpenVersion, chosen: set[int], k: int) -> None:
    rows = np.array(sorted(chosen))
    scores, found = flat.search(QUERIES[:3], k, rows)
    right = -np.sort(-exact(rows)[:3], axis=1)[:, :k]
    np.testing.assert_allclose(scores[:, : right.shape[1]], right, atol=1e-5)
    assert np.isin(found[found >= 0], rows).all()


def test_opening_takes_no_memory_for_the_vectors(versions: Versions, stage: Callable[..., Path]) -> None:
    versions.publish_staged(stage(60_000 // 16, dimensions=1_024))
    size = (versions.folder(1) / "index.faiss").stat().st_size
    with versions.open() as first:
        first.search(np.ones((1, 1_024), dtype=np.float32), 1)

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")

    before = resident()
    with versions.open() as again:
        assert again.index.ntotal == 3_750
        assert resident() - before < size // 4
