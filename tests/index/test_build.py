"""Vectors -> index.faiss: the same answers as numpy, the same bytes as faiss, the same bytes every time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rag.errors import RaglineError, StorageFailed
from rag.index import kinds
from rag.index.build import ADD_ROWS, build
from rag.index.search import map_index
from rag.index.tuning import sample_rows, wilson
from rag.ports import Floats
from tests.index.making import blocks_of, vectors


def unit(raw: Floats) -> Floats:
    wide = raw.astype(np.float64)
    return np.asarray(wide / np.linalg.norm(wide, axis=1, keepdims=True), dtype=np.float32)


def built(raw: Floats, kind: str, path: Path, size: int = 100) -> Any:
    return build(blocks_of(raw, size), len(raw), raw.shape[1], kind, path)


def test_flat_finds_what_numpy_finds_with_the_same_values(tmp_path: Path) -> None:
    raw, queries = vectors(500), unit(vectors(20, seed=9))
    built(raw, "flat", tmp_path / "i")
    scores, rows = map_index(tmp_path / "i").search(queries, 10)
    exact = queries @ unit(raw).T
    order = np.argsort(-exact, axis=1)[:, :10]
    assert (rows == order).all()
    np.testing.assert_allclose(scores, np.take_along_axis(exact, order, 1), atol=1e-5)


def test_a_streamed_flat_index_has_the_bytes_that_faiss_writes(tmp_path: Path) -> None:
    import faiss

    raw = vectors(ADD_ROWS + 77)
    built(raw, "flat", tmp_path / "ours", 1_000)
    index = faiss.IndexFlatIP(raw.shape[1])
    for block in blocks_of(raw, ADD_ROWS)():
        index.add(block / np.sqrt(np.einsum("ij,ij->i", block, block))[:, None])
    faiss.write_index(index, str(tmp_path / "theirs"))
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


@pytest.mark.parametrize(
    "kind", ["flat", *(pytest.param(kind, marks=pytest.mark.slow) for kind in kinds.INDEX_KINDS if kind != "flat")]
)
def test_bytes_are_the_same_however_the_blocks_fall(kind: str, tmp_path: Path) -> None:
    raw = vectors(3_000)
    facts = [built(raw, kind, tmp_path / str(size), size) for size in (3_000, 3_000, 1, 999)]
    contents = [(tmp_path / str(size)).read_bytes() for size in (3_000, 1, 999)]
    assert contents[0] == contents[1] == contents[2]
    assert facts[0] == facts[1] == facts[2] == facts[3]


@pytest.mark.parametrize("kind", [name for name, kind in kinds.INDEX_KINDS.items() if not kind.exact])
def test_an_approximate_index_reports_the_recall_it_was_tuned_to(kind: str, tmp_path: Path) -> None:
    raw = vectors(3_000)
    facts = built(raw, kind, tmp_path / "i")
    recall = facts["recall"]
    assert recall["value"] >= 0.95
    assert recall["low"] < recall["value"] < recall["high"] <= 1.0 or recall["value"] == 1.0
    assert (recall["rows"], recall["seed"]) == (1_000, kinds.SEED)
    index = map_index(tmp_path / "i")
    kept = index.nprobe if hasattr(index, "nprobe") else index.hnsw.efSearch
    assert list(facts["tuned"].values()) == [kept]
    sample = sample_rows(3_000, 1_000, "recall")
    queries = unit(raw)[sample]
    exact = queries @ unit(raw).T
    exact[np.arange(1_000), sample] = -2
    right = np.argsort(-exact, axis=1)[:, :10]
    found = index.search(queries, 11)[1]
    hits = [len(set(a) & set(b[b != row][:10])) for a, b, row in zip(right, found, sample, strict=True)]
    assert sum(hits) / 10_000 == pytest.approx(recall["value"], abs=0.003)


def test_copies_of_one_text_count_as_one_another(tmp_path: Path) -> None:
    raw = np.repeat(vectors(60), 50, axis=0)
    assert built(raw, "ivf_sq8", tmp_path / "i")["recall"]["value"] >= 0.95


def test_an_index_that_cannot_reach_the_recall_fails_and_says_so(tmp_path: Path) -> None:
    raw = np.random.default_rng(0).standard_normal((400, 64)).astype(np.float32)
    with pytest.raises(RaglineError, match=r"IVF64,SQ8 finds 0\.\d+ of the exact top 10 at nprobe 16") as caught:
        built(raw, "ivf_sq8", tmp_path / "i")
    assert "flat" in caught.value.problems[0].remedy
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_a_row_that_is_zero_or_not_finite_is_named(bad: float, tmp_path: Path) -> None:
    raw = vectors(300)
    raw[217] = bad
    with pytest.raises(RaglineError, match="row 217 is zero or not finite"):
        built(raw, "flat", tmp_path / "i")
    assert list(tmp_path.iterdir()) == []


def test_very_long_and_very_short_vectors_are_scaled_like_others(tmp_path: Path) -> None:
    raw = vectors(3)
    raw[0] *= np.float32(1e25)
    raw[1] *= np.float32(1e-25)
    built(raw, "flat", tmp_path / "i")
    np.testing.assert_allclose(map_index(tmp_path / "i").reconstruct_n(0, 3), unit(raw), atol=1e-6)


def test_the_callers_vectors_are_left_as_they_were(tmp_path: Path) -> None:
    raw = vectors(100)
    kept = raw.copy()
    built(raw, "flat", tmp_path / "i")
    assert (raw == kept).all()


def test_a_count_or_a_dimension_other_than_planned_is_refused(tmp_path: Path) -> None:
    raw = vectors(100)
    with pytest.raises(RaglineError, match="100 vectors came, 101 were planned"):
        build(blocks_of(raw), 101, 32, "flat", tmp_path / "i")
    with pytest.raises(RaglineError, match="16 dimensions were planned"):
        build(blocks_of(raw), 100, 16, "flat", tmp_path / "i")
    with pytest.raises(RaglineError, match="no chunk"):
        build(blocks_of(raw), 0, 32, "flat", tmp_path / "i")


def test_a_full_disk_is_named_for_every_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in kinds.INDEX_KINDS:
        for fault in ("create.before_fsync", "create.before_rename"):
            monkeypatch.setenv("RAGLINE_FAULT", f"{fault}:1:28")
            monkeypatch.setattr("rag.storage._passed", {})
            with pytest.raises(StorageFailed, match="No space left"):
                built(vectors(600), kind, tmp_path / "i")
            assert list(tmp_path.iterdir()) == []


def test_wilsons_interval_is_the_published_one() -> None:
    low, high = wilson(0.95, 1_000)
    assert (round(low, 4), round(high, 4)) == (0.9347, 0.9619)
    assert wilson(1.0, 10)[0] == pytest.approx(0.7225, abs=1e-4)
