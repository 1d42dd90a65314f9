from __future__ import annotations

import json
from pathlib import Path

import pytest

from eval.context import documents
from eval.datasets.canonical import read
from eval.retrieval import MEASURES, RetrievalResult, evaluate_retrieval, score
from eval.types import Gold
from rag import wiring
from rag.errors import UsageError
from rag.pipeline import Options, reindex
from rag.settings import Settings, load
from rag.types import Passage, Span

TEXTS = {
    "bridge.md": "# Bridge\n\nThe steel bridge over the gorge was built in 1911 and renewed in 2019.\n",
    "goats.md": "# Goats\n\nThe herdsman sends his goats with the Tuesday freight.\n",
    "soup.md": "# Soup\n\nLentil soup costs seven crowns at the buffet.\n",
    "copy-of-soup.md": "# Soup\n\nLentil soup costs seven crowns at the buffet.\n",
}
QUOTES = {
    "When was the steel bridge over the gorge renewed?": [("bridge.md", "renewed in 2019")],
    "How do the goats of the herdsman travel?": [("goats.md", "with the Tuesday freight")],
    "What does lentil soup cost at the buffet?": [("soup.md", "seven crowns")],
}


def passage(doc_id: str, start: int, end: int, also_in: tuple[Span, ...] = ()) -> Passage:
    return Passage(1, 1.0, doc_id, "", "", start, end, (), "", also_in)


def gold(doc_id: str, start: int, end: int) -> Gold:
    return Gold(doc_id, start, end, "x" * (end - start))


def scored(wanted: list[Gold], passages: list[Passage]) -> tuple[float, ...]:
    values = score(wanted, passages)
    assert tuple(values) == MEASURES
    return tuple(values.values())


def test_the_right_chunk_first_is_perfect() -> None:
    assert scored([gold("a", 5, 9)], [passage("a", 0, 10), passage("b", 0, 10)]) == (1, 1, 1, 1)


def test_the_right_document_by_another_chunk_is_found_without_its_span() -> None:
    assert scored([gold("a", 15, 19)], [passage("a", 0, 10)]) == (1, 1, 1, 0)


def test_a_span_that_is_cut_by_two_chunks_is_no_hit() -> None:
    assert scored([gold("a", 8, 12)], [passage("a", 0, 10), passage("a", 10, 20)]) == (1, 1, 1, 0)


def test_ranks_count_documents_and_not_chunks() -> None:
    ranking = [passage("b", 0, 10), passage("b", 10, 20), passage("c", 0, 10), passage("a", 0, 10)]
    assert documents(ranking) == ["b", "c", "a"]
    assert scored([gold("a", 0, 10)], ranking) == (0, 1, 1 / 3, 1)


def test_a_span_hit_counts_chunks_and_not_documents() -> None:
    ranking = [*(passage("b", at, at + 1) for at in range(5)), passage("a", 0, 10)]
    assert scored([gold("a", 0, 10)], ranking) == (0, 1, 1 / 2, 0)


def test_of_two_gold_documents_the_share_that_is_found_counts() -> None:
    wanted = [gold("a", 0, 5), gold("b", 0, 5)]
    assert scored(wanted, [passage("a", 0, 10), passage("c", 0, 10)]) == (0.5, 0.5, 1, 1)
    far = [passage("c", 0, 10), passage("b", 90, 99), *(passage(name, 0, 10) for name in "defga")]
    assert scored(wanted, far) == (0, 0.5, 1 / 2, 0)


def test_two_spans_in_one_document_are_one_document() -> None:
    assert scored([gold("a", 0, 5), gold("a", 50, 55)], [passage("a", 40, 60)]) == (1, 1, 1, 1)


def test_the_eleventh_document_is_no_answer_at_all() -> None:
    ranking = [passage(name, 0, 10) for name in "bcdefghijka"]
    assert scored([gold("a", 0, 5)], ranking) == (0, 0, 0, 0)


def test_nothing_found_is_zero() -> None:
    assert scored([gold("a", 0, 5)], []) == (0, 0, 0, 0)


def test_a_copy_that_was_folded_into_another_passage_is_found_with_it() -> None:
    ranking = [passage("b", 0, 10, also_in=(Span("a", 5, 15), Span("folder/c@d.md", 0, 10))), passage("e", 0, 10)]
    assert documents(ranking) == ["b", "a", "folder/c@d.md", "e"]
    assert scored([gold("a", 6, 15)], ranking) == (0, 1, 1 / 2, 1)


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, int]:
    """A small corpus in a store, not published."""
    root = tmp_path_factory.mktemp("indexed")
    (root / "corpus").mkdir()
    for name, text in TEXTS.items():
        (root / "corpus" / name).write_text(text, encoding="utf-8")
    settings = load([], {}, [f"store='{root / 'store'}'", f"corpus.paths=['{root / 'corpus'}']"], root)
    with wiring.reindex(settings, Options(publish=False), lambda *_: None) as run:
        version = reindex(run).version
    assert version is not None
    return settings, version


def dataset(path: Path, quotes: dict[str, list[tuple[str, str]]], shift: int = 0) -> Path:
    rows = []
    for number, (question, places) in enumerate(quotes.items()):
        spans = []
        for doc_id, quote in places:
            start = TEXTS.get(doc_id, quote).index(quote) + shift
            spans.append({"doc_id": doc_id, "start": start, "end": start + len(quote), "quote": quote})
        name = f"q-{number}"
        rows.append(
            {
                "question_id": name,
                "question": question,
                "answers": ["yes"],
                "answerable": True,
                "gold": spans,
                "tags": {},
            }
        )
    rows.append({"question_id": "none", "question": "Why?", "answers": [], "answerable": False, "gold": [], "tags": {}})
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def evaluated(settings: Settings, path: Path, version: int | str, limit: int | None = None) -> RetrievalResult:
    return evaluate_retrieval(settings, read(path), path, version, limit)


def test_every_mode_is_measured_on_a_staged_version(indexed: tuple[Settings, int], tmp_path: Path) -> None:
    settings, version = indexed
    result = evaluated(settings, dataset(tmp_path / "q.jsonl", QUOTES), version)
    assert (result.version, result.questions) == (version, 3)
    assert [row.mode for row in result.rows] == ["dense", "lexical", "hybrid", "rrf"]
    values = {row.mode: row.values for row in result.rows}
    # its copy comes first by name and has the same text: two of three are first, the third is second
    assert values["lexical"] == pytest.approx((2 / 3, 1, (1 + 1 + 1 / 2) / 3, 1))
    assert values["hybrid"] == values["lexical"]


def test_the_json_says_what_is_known_and_nulls_what_is_not(indexed: tuple[Settings, int], tmp_path: Path) -> None:
    settings, version = indexed
    content = evaluated(settings, dataset(tmp_path / "q.jsonl", QUOTES), version).as_json()
    assert {key: content[key] for key in ("index", "version", "questions", "errors")} == {
        "index": "main",
        "version": version,
        "questions": 3,
        "errors": 0,
    }
    assert len(content["summary"]) == 4 * len(MEASURES)
    assert content["summary"][5] == {
        "measure": "R@5",
        "arm": "retrieved",
        "slice_tag": "all",
        "slice_value": "all",
        "n": 3,
        "unscored": 0,
        "errors": 0,
        "mean": 1.0,
        "low": None,
        "high": None,
        "mode": "lexical",
    }


def test_a_limit_asks_fewer(indexed: tuple[Settings, int], tmp_path: Path) -> None:
    settings, version = indexed
    assert evaluated(settings, dataset(tmp_path / "q.jsonl", QUOTES), version, limit=2).questions == 2


def test_gold_that_the_version_does_not_hold_is_refused(indexed: tuple[Settings, int], tmp_path: Path) -> None:
    settings, version = indexed
    quotes = {**QUOTES, "Who?": [("gone.md", "nobody"), ("lost.md", "neither")]}
    with pytest.raises(UsageError, match="2 gold passages are not in version 1") as caught:
        evaluated(settings, dataset(tmp_path / "q.jsonl", quotes), version)
    assert "'gone.md' is not in version 1" in caught.value.problems[0].what


def test_gold_of_another_text_is_refused(indexed: tuple[Settings, int], tmp_path: Path) -> None:
    settings, version = indexed
    with pytest.raises(UsageError, match=r"3 gold passages .* has another text at") as caught:
        evaluated(settings, dataset(tmp_path / "q.jsonl", QUOTES, shift=1), version)
    assert len(caught.value.problems) == 3


def test_a_set_without_an_answerable_question_is_refused(indexed: tuple[Settings, int], tmp_path: Path) -> None:
    settings, version = indexed
    with pytest.raises(UsageError, match="no answerable question"):
        evaluated(settings, dataset(tmp_path / "q.jsonl", {}), version)
