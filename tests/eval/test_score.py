"""`eval.score`, and the two traps of real judgements: ids that are joined wrongly, and queries that nobody judged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval import trec
from eval.measures.matching import match_dicts
from eval.measures.registry import parse
from eval.score import Scores, score, score_files
from rag.errors import UsageError

NAMES = ["nDCG@10", "R@10", "R@100", "RR@10", "AP@100", "Success@5"]
Runs = dict[str, dict[str, float]]


def put(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def scored(folder: Path, qrels: str, run: str, *measures: str) -> Scores:
    return score_files(put(folder, "qrels", qrels), put(folder, "run", run), measures or NAMES)


def test_means_values_and_what_was_left_out(tmp_path: Path) -> None:
    found = scored(tmp_path, "q1 0 a 1\nq2 0 a 1\n", "q1 Q0 a 1 2 t\nq1 Q0 b 2 1 t\nq9 Q0 a 1 1 t\n", "P@2", "RR")
    assert (found.queries, found.means) == (("q1", "q2"), (0.25, 0.5))
    assert found.values.tolist() == [[0.5, 1.0], [0.0, 0.0]]
    assert (found.unjudged, found.without_results) == (("q9",), ("q2",))
    assert found.notes() == [
        "1 query of the run without judgements, left out: q9",
        "1 query without results, scored 0: q2",
        "both at once: are the query ids of the run those of the judgements?",
    ]


def test_the_json_has_a_row_for_each_measure_and_on_demand_for_each_query(tmp_path: Path) -> None:
    found = scored(tmp_path, "q1 0 a 1\n", "q1 Q0 a 1 2 t\n", "P@2")
    fields = json.loads(json.dumps(found.as_json(per_query=True), allow_nan=False))
    assert fields["summary"][0]["measure"] == "P@2"
    assert fields["summary"][0]["mean"] == 0.5
    assert fields["scores"] == [{"question_id": "q1", "measure": "P@2", "value": 0.5}]
    assert "scores" not in found.as_json()


def test_an_empty_run_is_all_zeros_and_says_so(tmp_path: Path) -> None:
    found = scored(tmp_path, "q1 0 a 1\nq2 0 b 1\n", "")
    assert not found.values.any()
    assert found.notes() == ["2 queries without results, scored 0: q1, q2"]


def test_a_run_of_other_queries_is_refused_and_one_of_other_documents_is_noted(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no query of") as caught:
        scored(tmp_path, "q1 0 a 1\n", "301 Q0 a 1 2 t\n")
    assert "its queries are 301; the judgements are of q1" in caught.value.problems[0].remedy
    assert "document ids" in scored(tmp_path, "q1 0 a 1\n", "q1 Q0 x 1 2 t\n").notes()[0]


def test_no_judgement_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not one judgement"):
        scored(tmp_path, "# none\n", "q1 Q0 a 1 2 t\n")


def test_bad_measures_are_told_before_a_file_is_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="2 measures cannot be read"):
        score_files(tmp_path / "none", tmp_path / "none", ["NDGC@10", "P"])
    with pytest.raises(UsageError, match="name measures of a ranking"):
        score_files(tmp_path / "none", tmp_path / "none", [])


def test_scoring_leaves_what_it_was_given_as_it_was(tmp_path: Path) -> None:
    qrels = trec.read_qrels(put(tmp_path, "qrels", "q1 0 b 1\nq1 0 a 2\n"))
    before = [array.copy() for array in (qrels.starts, qrels.document, qrels.grade)]
    score_files(tmp_path / "qrels", put(tmp_path, "run", "q1 Q0 a 1 1 t\nq1 Q0 b 1 2 t\n"))
    for array, same in zip((qrels.starts, qrels.document, qrels.grade), before, strict=True):
        assert (array == same).all()


@pytest.fixture(scope="module")
def cranfield(datasets: Path) -> tuple[Path, list[dict[str, Any]], Runs]:
    """The folder, its queries, and BM25's best 100 documents for each, by the query's `id`."""
    import bm25s
    import Stemmer

    folder = datasets / "cranfield"
    corpus, queries = (
        [json.loads(line) for line in (folder / name).read_text(encoding="utf-8").splitlines()]
        for name in ("corpus.jsonl", "queries.jsonl")
    )
    stem = Stemmer.Stemmer("english")

    def tokens(texts: list[str]) -> Any:
        return bm25s.tokenize(texts, stopwords="en", stemmer=stem, show_progress=False)

    index = bm25s.BM25(method="lucene", k1=1.2, b=0.75)
    index.index(tokens([f"{row['title']} {row['text']}" for row in corpus]), show_progress=False)
    found, scores = index.retrieve(tokens([row["text"] for row in queries]), k=100, show_progress=False)
    runs = {
        query["id"]: {corpus[row]["id"]: float(value) for row, value in zip(rows, values, strict=True) if value > 0}
        for query, rows, values in zip(queries, np.asarray(found), np.asarray(scores), strict=True)
    }
    return folder, queries, runs


def of_files(folder: Path, qrels: Path, runs: Runs) -> Scores:
    lines = [f"{query} Q0 {document} 0 {value} t\n" for query, row in runs.items() for document, value in row.items()]
    return score_files(qrels, put(folder, "run", "".join(lines)), NAMES)


def test_cranfield_is_near_its_reference(cranfield: Any, tmp_path: Path) -> None:
    folder, _, runs = cranfield
    graded = of_files(tmp_path, folder / "qrels.graded.trec", runs)
    assert len(graded.queries) == 225
    assert graded.notes() == []
    assert graded.means == pytest.approx((0.370, 0.397, 0.735, 0.533, 0.300, 0.782), abs=0.03)
    binary = of_files(tmp_path, folder / "qrels.binary.trec", runs)
    assert binary.means == pytest.approx((0.385, 0.397, 0.735, 0.533, 0.300, 0.782), abs=0.03)


def test_cranfield_joined_on_the_wrong_id_is_plausible_wrong_and_noted(cranfield: Any, tmp_path: Path) -> None:
    folder, queries, runs = cranfield
    wrong = {str(int(query["original_id"])): runs[query["id"]] for query in queries}
    found = of_files(tmp_path, folder / "qrels.graded.trec", wrong)
    assert found.means == pytest.approx((0.009, 0.006, 0.050, 0.016, 0.006, 0.027), abs=0.015)
    assert len(found.unjudged) > 50
    assert len(found.without_results) == len(found.unjudged)
    assert found.notes()[-1] == "both at once: are the query ids of the run those of the judgements?"


def test_unjudged_queries_of_cranfield_change_no_mean(cranfield: Any) -> None:
    folder, _, runs = cranfield
    judgements = trec.read_qrels(folder / "qrels.graded.trec")
    cuts = judgements.starts.tolist()
    qrels = {
        query: {
            judgements.documents[code]: grade
            for code, grade in zip(
                judgements.document[start:end].tolist(), judgements.grade[start:end].tolist(), strict=True
            )
        }
        for query, start, end in zip(judgements.queries, cuts, cuts[1:], strict=False)
    }
    few = dict(list(qrels.items())[:50])
    all_asked = score(match_dicts(few, runs), parse(NAMES))
    only_judged = score(match_dicts(few, {query: runs[query] for query in few}), parse(NAMES))
    assert len(all_asked.unjudged) == 175
    assert all_asked.means == only_judged.means
    assert (all_asked.values == only_judged.values).all()
