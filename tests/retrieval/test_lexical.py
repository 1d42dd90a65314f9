"""BM25: equal to its formula, the published figures on real questions, the same bytes every time."""

from __future__ import annotations

import json
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.errors import Damaged, FormatTooNew, RaglineError
from rag.index import tables
from rag.index.tables import ChunkRow
from rag.retrieval import lexical
from rag.retrieval.lexical import K1, B, LexicalIndex, analyser, english_stop_words

PASSAGES = [
    "The glacier carries a moraine; moraines mark where glaciers stood.",
    "A serac is a block of ice that may fall at any moment.",
    "",
    "Ice, ice, ice: the icefall of the glacier.",
    "the of and",
]


def chunks(path: Path, texts: list[str], headings: str = "") -> Path:
    with tables.writing(ChunkRow, path) as table:
        for row, text in enumerate(texts):
            table.add(ChunkRow(row, f"d@{row}", f"d{row}", 0, 0, len(text), headings, text, 1, "k"))
    return path


def opened(folder: Path) -> LexicalIndex:
    return LexicalIndex(lambda name: folder / name)


def built(folder: Path, texts: list[str]) -> LexicalIndex:
    lexical.build(texts, folder)
    return opened(folder)


def bm25(question: str, texts: list[str]) -> list[float]:
    """Lucene's BM25 as Kamphuis and others (ECIR 2020) give it, word by word."""
    analyse = analyser(english_stop_words())
    documents = [analyse(text) for text in texts]
    mean = sum(map(len, documents)) / len(documents)
    scores = []
    for document in documents:
        score = 0.0
        for word in analyse(question):
            df = sum(word in other for other in documents)
            if df and word in document:
                tf = document.count(word)
                idf = math.log(1 + (len(documents) - df + 0.5) / (df + 0.5))
                score += idf * tf / (tf + K1 * (1 - B + B * len(document) / mean))
        scores.append(score)
    return scores


@given(
    st.lists(
        st.lists(st.sampled_from(["ice", "fall", "glacier", "snow", "the", "rock"]), max_size=8), min_size=1, max_size=8
    )
)
def test_scores_follow_the_formula(words: list[list[str]]) -> None:
    import tempfile

    texts = [" ".join(document) for document in words]
    with tempfile.TemporaryDirectory() as folder:
        index = built(Path(folder), texts)
        for question in ("ice", "glaciers falling ice ice", "the", "unknown", ""):
            np.testing.assert_allclose(index.scores(question), bm25(question, texts), rtol=1e-5, atol=1e-6)


def test_the_index_is_the_one_that_bm25s_makes(tmp_path: Path) -> None:
    import bm25s

    texts = [f"{PASSAGES[n % 5]} word{n % 9}x {'ice ' * (n % 4)}" for n in range(100)]
    index = built(tmp_path, texts)
    analyse = analyser(english_stop_words())
    theirs = bm25s.BM25(k1=K1, b=B, method="lucene")
    theirs.index([analyse(text) for text in texts], show_progress=False)
    for question in ("ice glaciers", "word3x moraine fall fall", "serac"):
        np.testing.assert_allclose(index.scores(question), theirs.get_scores(analyse(question)), rtol=1e-5)


def test_a_newer_index_is_refused(tmp_path: Path) -> None:
    built(tmp_path, PASSAGES)
    meta = json.loads((tmp_path / lexical.META).read_bytes())
    (tmp_path / lexical.META).write_text(json.dumps({**meta, "format": 2}))
    with pytest.raises(FormatTooNew, match="format 2"):
        opened(tmp_path)


def test_rows_without_a_word_of_the_question_are_no_hits(tmp_path: Path) -> None:
    index = built(tmp_path, PASSAGES)
    scores, rows = index.search("Which ice falls?", 10)
    assert rows.tolist() == [1, 3]
    assert (scores > 0).all()
    assert index.search("the of and", 10)[1].tolist() == []
    assert index.search("glacier", 1)[1].tolist() == [0]


def test_a_restriction_comes_before_top_k_and_ties_go_by_row(tmp_path: Path) -> None:
    index = built(tmp_path, ["ice rock"] * 50 + ["ice"])
    assert index.search("ice", 3)[1].tolist() == [50, 0, 1]
    assert index.search("ice", 3, np.array([7, 9, 30, 40]))[1].tolist() == [7, 9, 30]
    assert index.scores("ice", np.array([50, 3])).tolist() == [index.scores("ice")[50], index.scores("ice")[3]]


def test_headings_are_searched_with_the_text(tmp_path: Path) -> None:
    lexical.build_in_child(chunks(tmp_path / "c", PASSAGES, "Rescue > Avalanche beacons"), tmp_path / "l")
    assert sorted(opened(tmp_path / "l").search("avalanche", 9)[1].tolist()) == [0, 1, 2, 3, 4]


@pytest.mark.slow
def test_two_builds_in_two_processes_have_the_same_bytes_and_hold_no_pickle(tmp_path: Path) -> None:
    source = chunks(tmp_path / "c", [f"{text} word{n % 50}x" for n, text in enumerate(PASSAGES * 100)])
    for name in ("a", "b"):
        took = lexical.build_in_child(source, tmp_path / name)
        assert float(str(took["seconds"])) > 0
        assert int(str(took["peak_bytes"])) > 10_000_000
    lexical.build(lexical.read_texts(source), tmp_path / "c2")
    for name in lexical.FILES:
        data = (tmp_path / "a" / name).read_bytes()
        assert data == (tmp_path / "b" / name).read_bytes() == (tmp_path / "c2" / name).read_bytes()
        with pytest.raises(pickle.UnpicklingError):
            pickle.loads(data)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == sorted(lexical.FILES)


def test_a_corpus_without_words_can_be_built_and_asked(tmp_path: Path) -> None:
    assert built(tmp_path, ["", "the"]).search("ice", 3)[1].tolist() == []


def test_a_child_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(RaglineError, match="lexical index could not be built"):
        lexical.build_in_child(tmp_path / "nothing", tmp_path / "l")
    (tmp_path / "l").mkdir(exist_ok=True)
    with pytest.raises(Damaged):
        opened(tmp_path / "l")


def test_squad_passages_are_found_as_the_reference_finds_them(datasets: Path, tmp_path: Path) -> None:
    folder = datasets / "squad2-dev-slice"
    passages = [json.loads(line) for line in (folder / "passages.jsonl").read_text(encoding="utf-8").splitlines()]
    questions = [json.loads(line) for line in (folder / "questions.jsonl").read_text(encoding="utf-8").splitlines()]
    places = {passage["id"]: row for row, passage in enumerate(passages)}
    index = built(tmp_path, [f"{passage['title']}\n{passage['text']}" for passage in passages])
    ranks = []
    for question in questions:
        if question["answerable"]:
            rows = index.search(question["question"], 10)[1].tolist()
            gold = places[question["gold_passage_id"]]
            ranks.append(rows.index(gold) + 1 if gold in rows else math.inf)
    assert len(ranks) == 1_190
    share = {k: sum(rank <= k for rank in ranks) / len(ranks) for k in (1, 5, 10)}
    assert share[1] == pytest.approx(0.811, abs=0.03)
    assert share[5] == pytest.approx(0.956, abs=0.03)
    assert share[10] == pytest.approx(0.978, abs=0.03)
    assert sum(1 / rank for rank in ranks) / len(ranks) == pytest.approx(0.875, abs=0.03)
