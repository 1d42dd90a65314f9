"""The four modes over a real version, alone and in batches, and the passages that come of their hits."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rag.errors import SettingsError
from rag.index.search import OpenVersion
from rag.index.versions import Versions
from rag.ports import Floats, Retriever
from rag.retrieval.fusion import Weights, reciprocal_ranks, weighted_z
from rag.retrieval.lexical import lexical_index
from rag.retrieval.passages import passages, passages_many
from rag.retrieval.retrievers import RETRIEVERS, retriever, unit
from rag.types import Hit, Place, Span
from tests.index.making import make_folder, texts, vectors

TEXTS = texts(300)
TEXTS[20:60] = [TEXTS[10]] * 40
RAW = vectors(300)
RAW[20:60] = RAW[10]
QUESTIONS = ["glacier moraine ridge", "which crevasse is number 123", "unheard of", "valley"]


async def embed(questions: Sequence[str]) -> Floats:
    return vectors(len(questions), seed=len(questions[0])) if questions else vectors(0)


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenVersion]:
    store = tmp_path_factory.mktemp("store")
    make_folder(store / "s", TEXTS, RAW, metadata=[{"part": "even"}, {"part": "odd"}])
    versions = Versions(store, "main")
    versions.publish_staged(store / "s")
    with versions.open() as opened:
        yield opened


def made(mode: str, version: OpenVersion, **options: int) -> Retriever:
    return retriever(mode, version, embed, lexical_index(version.path), Weights(dense=0.5), **options)


def hits_of(search: Retriever, question: str, k: int, rows: NDArray[np.int64] | None = None) -> list[Hit]:
    return asyncio.run(search.retrieve_many([question], k, rows))[0]


@pytest.mark.parametrize("mode", RETRIEVERS)
def test_hits_are_best_first_with_ties_by_row_and_inside_the_restriction(mode: str, version: OpenVersion) -> None:
    rows = version.where({"part": ["odd"]})
    for question in QUESTIONS:
        for only in (None, rows):
            hits = hits_of(made(mode, version), question, 12, only)
            keys = [(-round(hit.score, 6), hit.row) for hit in hits]
            assert keys == sorted(keys)
            assert len({hit.row for hit in hits}) == len(hits) <= 12
            assert only is None or {hit.row for hit in hits} <= set(rows.tolist())
            assert (len(hits) == 0) == (mode == "lexical" and question == "unheard of")


def test_hybrid_and_rrf_are_the_fusion_of_both_sides(version: OpenVersion) -> None:
    async def one(_: Sequence[str]) -> Floats:
        return vectors(1, seed=3)

    words = lexical_index(version.path)
    scores, rows = version.search(unit(vectors(1, seed=3)), 100)
    sides = (scores[0], rows[0]), words.search(QUESTIONS[0], 100)
    both = Weights(0.5, 2.0)
    hybrid = hits_of(retriever("hybrid", version, one, words, both), QUESTIONS[0], 7)
    rrf = hits_of(retriever("rrf", version, one, words, both), QUESTIONS[0], 7)
    assert hybrid == weighted_z(*sides, 7, both)
    assert rrf == reciprocal_ranks(*sides, 7, both)


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("mode", RETRIEVERS)
def test_looking_deeper_changes_nothing_above(mode: str, question: str, version: OpenVersion) -> None:
    search = made(mode, version, k=5)
    found = hits_of(search, question, 300)
    for depth in (5, 100, 116, 201, 299):
        assert hits_of(search, question, depth) == found[:depth]
    # scores that differ in their last bits are ties, and stand by row
    scores = [round(hit.score, 9) for hit in found]
    assert scores == sorted(scores, reverse=True)
    assert len({hit.row for hit in found}) == len(found)
    assert mode == "lexical" or len(found) == 300


@pytest.mark.parametrize("mode", RETRIEVERS)
def test_many_questions_at_once_find_what_each_finds_alone(mode: str, version: OpenVersion) -> None:
    async def same(questions: Sequence[str]) -> Floats:
        return np.concatenate([vectors(1, seed=len(question)) for question in questions])

    search = retriever(mode, version, same, lexical_index(version.path))
    many = asyncio.run(search.retrieve_many(QUESTIONS, 9))
    for question, hits in zip(QUESTIONS, many, strict=True):
        alone = hits_of(search, question, 9)
        assert [hit.row for hit in hits] == [hit.row for hit in alone]
        assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in alone], abs=1e-4)
    assert asyncio.run(search.retrieve_many([], 9)) == []


def test_an_unknown_mode_is_refused(version: OpenVersion) -> None:
    with pytest.raises(SettingsError, match="sparse") as caught:
        made("sparse", version)
    assert "dense, lexical, hybrid, rrf" in caught.value.problems[0].remedy


def test_copies_of_one_text_are_one_passage_that_names_the_others(version: OpenVersion) -> None:
    found = passages([Hit(25, 0.9, dense=Place(1, 0.9)), Hit(10, 0.8), Hit(0, 0.7), Hit(31, 0.6)], version)
    assert [(passage.rank, passage.score) for passage in found] == [(1, 0.9), (2, 0.7)]
    spans = [Span(chunk.doc_id, chunk.char_start, chunk.char_end) for chunk in version.chunks.rows([25, 10, 31])]
    assert ((found[0].doc_id, found[0].start, found[0].end), *found[0].also_in) == tuple(spans)
    assert [span.chunk_id for span in spans] == [chunk.chunk_id for chunk in version.chunks.rows([25, 10, 31])]
    assert (found[0].doc_id, found[0].title, found[0].source) == ("doc-00012", "Title 12", "doc-00012.md")
    assert found[0].text == TEXTS[25]
    assert (found[0].dense, found[0].lexical) == (Place(1, 0.9), None)
    assert passages([], version) == []


def test_rankings_made_into_passages_together_are_what_each_is_alone_and_share_their_texts(
    version: OpenVersion,
) -> None:
    rankings = [[Hit(25, 0.9), Hit(10, 0.8), Hit(0, 0.7)], [], [Hit(0, 0.6), Hit(31, 0.5), Hit(25, 0.4)]]
    together = passages_many(rankings, version, 2)
    assert together == [passages(hits, version, 2) for hits in rankings]
    assert [len(found) for found in together] == [2, 0, 2]
    assert together[0][1].text is together[2][0].text
    assert passages_many([], version) == []


def test_the_best_k_distinct_passages_stand_for_all_their_copies(version: OpenVersion) -> None:
    async def towards(_: Sequence[str]) -> Floats:
        return RAW[10:11]

    search = retriever("dense", version, towards, lexical_index(version.path))
    hits = hits_of(search, "?", 1_000)
    found = passages(hits, version, 8)
    assert [passage.rank for passage in found] == list(range(1, 9))
    assert len({passage.text for passage in found}) == 8
    assert len(found[0].also_in) == 40
    assert len(passages(hits, version)) == len(set(TEXTS))


def test_query_vectors_are_scaled_and_zeros_stay_zeros() -> None:
    found = unit(np.array([[3, 4], [0, 0]], dtype=np.float32))
    np.testing.assert_allclose(found, np.array([[0.6, 0.8], [0, 0]]), rtol=1e-6)


def test_names_of_files_follow_the_manifest(version: OpenVersion) -> None:
    from rag.retrieval.lexical import FILES

    assert {f"lexical/{name}" for name in FILES} <= set(version.manifest.files)
    assert Path(version.path("lexical/data.npy")).exists()
