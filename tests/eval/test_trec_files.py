from __future__ import annotations

import gzip
import math
from pathlib import Path

import numpy as np
import pytest

from eval import trec
from eval.measures.matching import Judgements, Run
from rag.errors import UsageError

QRELS = """# judged in November
q1 0 b 2

q1\t0\ta  -1
  q2 0 CR#93 1
q1 0 c 0
"""
RUN = """q2 Q0 a 1 0.5 tag
# a comment of six fields at all
q1 Q0 b 1 1e-3 tag
q2\tQ0\tb\t7\t  0.75\ttag and what follows it
q1 Q0 a 2 +3 tag
"""


def table(queries: list[str], part: Judgements | Run, values: list[float]) -> dict[str, dict[str, float]]:
    cuts = part.starts.tolist()
    names = [part.documents[code] for code in part.document.tolist()]
    return {
        query: dict(zip(names[start:end], values[start:end], strict=True))
        for query, start, end in zip(queries, cuts, cuts[1:], strict=False)
    }


def judged(path: Path) -> dict[str, dict[str, float]]:
    found = trec.read_qrels(path)
    return table(list(found.queries), found, found.grade.tolist())


def scored(path: Path) -> dict[str, dict[str, float]]:
    found = trec.read_run(path)
    assert found.score is not None
    assert list(found.documents) == sorted(found.documents)
    return table(list(found.queries), found, found.score.tolist())


def put(folder: Path, text: str | bytes, name: str = "file") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def mistakes(path: Path, read: object) -> list[tuple[str, str]]:
    with pytest.raises(UsageError) as caught:
        read(path)  # type: ignore[operator]
    return [(problem.where.rpartition(":")[2], problem.what) for problem in caught.value.problems]


def test_qrels_are_read_with_comments_blank_lines_and_any_white_space(tmp_path: Path) -> None:
    assert judged(put(tmp_path, QRELS)) == {"q1": {"b": 2, "a": -1, "c": 0}, "q2": {"CR#93": 1}}


def test_a_run_is_read_by_its_scores_and_not_by_its_ranks(tmp_path: Path) -> None:
    assert scored(put(tmp_path, RUN)) == {"q2": {"a": 0.5, "b": 0.75}, "q1": {"b": 0.001, "a": 3.0}}


def test_windows_lines_a_mark_in_front_and_a_last_line_without_an_end_are_fine(tmp_path: Path) -> None:
    text = "\ufeffq1 0 a 1\r\nq1 0 b 0"
    assert judged(put(tmp_path, text)) == {"q1": {"a": 1, "b": 0}}


def test_packed_files_are_unpacked(tmp_path: Path) -> None:
    import pyarrow as pa

    plain = scored(put(tmp_path, RUN))
    assert scored(put(tmp_path, gzip.compress(RUN.encode()), "run.gz")) == plain
    assert scored(put(tmp_path, pa.compress(RUN.encode(), "zstd", asbytes=True), "run.zst")) == plain


def test_an_empty_file_holds_nothing(tmp_path: Path) -> None:
    for text in ("", "\n\n", "# nothing\n"):
        assert judged(put(tmp_path, text)) == {}
        assert scored(put(tmp_path, text)) == {}


def test_every_mistake_of_qrels_is_told_at_once_with_its_line(tmp_path: Path) -> None:
    text = b"q1 0 a 1\nq1 0 b\nq1 0 c 1 1\nq1 0 d 1.5\nq1 0 a 2\nq2 0 a 1\nq1 0 \xff 1\nq1 0 e 1_0\n"
    assert mistakes(put(tmp_path, text), trec.read_qrels) == [
        ("2", "3 fields, not 4"),
        ("3", "5 fields, not 4"),
        ("4", "grade '1.5' is not a whole number"),
        ("5", "document 'a' of query 'q1' stands on line 1 already"),
        ("7", "'\ufffd' is not UTF-8"),
        ("8", "grade '1_0' is not a whole number"),
    ]


def test_every_mistake_of_a_run_is_told_at_once_with_its_line(tmp_path: Path) -> None:
    text = "q1 Q0 a 1 nan t\nq1 Q0 b 1 high t\nq1 Q0 c 1 0.5\nq1 Q0 d 1 1_0 t\nq1 Q0 a 2 0.5 t\nq2 Q0 a 1 inf t\n"
    assert mistakes(put(tmp_path, text), trec.read_run) == [
        ("1", "score 'nan' is not a number"),
        ("2", "score 'high' is not a number"),
        ("3", "5 fields, not 6"),
        ("4", "score '1_0' is not a number"),
        ("5", "document 'a' of query 'q1' stands on line 1 already"),
    ]


def test_of_very_many_mistakes_the_first_are_told(tmp_path: Path) -> None:
    path = put(tmp_path, "q1 0 a\n" * 20_000)
    with pytest.raises(UsageError, match="20,000 mistakes") as caught:
        trec.read_qrels(path)
    assert [problem.where for problem in caught.value.problems] == [f"{path}:{line}" for line in range(1, 51)]


def test_lines_are_counted_through_the_blocks_of_a_long_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trec, "_BLOCK", 64)
    text = "".join(f"q{at // 7} 0 d{at} {at % 3}\n" for at in range(100))
    assert judged(put(tmp_path, text)) == {
        f"q{query}": {f"d{at}": at % 3 for at in range(100) if at // 7 == query} for query in range(15)
    }
    assert mistakes(put(tmp_path, text + "q1 0 d8 1\nbad\n"), trec.read_qrels) == [
        ("101", "document 'd8' of query 'q1' stands on line 9 already"),
        ("102", "1 fields, not 4"),
    ]


def test_a_missing_file_a_broken_one_and_a_pointer_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        trec.read_run(tmp_path / "none")
    with pytest.raises(UsageError, match="cannot be unpacked"):
        trec.read_run(put(tmp_path, b"\x1f\x8bnothing", "run.gz"))
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n"
    with pytest.raises(UsageError, match="LFS pointer"):
        trec.read_run(put(tmp_path, pointer))


def test_what_is_written_is_read_back_and_in_the_order_of_trec_eval(tmp_path: Path) -> None:
    run = trec.read_run(
        put(tmp_path, "q Q0 a 1 0.1 t\nq Q0 b 1 0.30000000000000004 t\nq Q0 c 1 0.1 t\np Q0 a 1 -inf t\n")
    )
    trec.write_run(tmp_path / "out", run, "mine")
    lines = ["q Q0 b 1 0.30000000000000004 mine", "q Q0 c 2 0.1 mine", "q Q0 a 3 0.1 mine", "p Q0 a 1 -inf mine"]
    assert (tmp_path / "out").read_text().splitlines() == lines
    trec.write_qrels(tmp_path / "qrels", trec.read_qrels(put(tmp_path, QRELS)))
    assert judged(tmp_path / "qrels") == judged(put(tmp_path, QRELS))


def test_scores_survive_a_file_to_the_last_bit(tmp_path: Path) -> None:
    patterns = np.random.default_rng(0).integers(0, 2**64, 2000, dtype=np.uint64).view(np.float64)
    scores = patterns[np.isfinite(patterns)]
    documents = [f"d{at:04d}" for at in range(len(scores))]
    codes = np.arange(len(scores), dtype=np.int32)
    trec.write_run(tmp_path / "run", Run(["q"], documents, np.array([0, len(scores)]), codes, scores))
    assert scored(tmp_path / "run") == {"q": dict(zip(documents, scores.tolist(), strict=True))}


def test_a_given_order_is_written_so_that_every_reader_ranks_the_same(tmp_path: Path) -> None:
    run = Run(["q", "none", "r"], ["c", "a", "b"], np.array([0, 3, 3, 4]), np.array([1, 0, 2, 2], np.int32), None)
    trec.write_run(tmp_path / "run", run)
    assert scored(tmp_path / "run") == {"q": {"a": 3.0, "c": 2.0, "b": 1.0}, "r": {"b": 1.0}}


@pytest.mark.parametrize("name", ["two words", "", "tab\t", "#first"])
def test_ids_that_a_file_cannot_hold_are_refused_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    run = Run([name], ["a"], np.array([0, 1]), np.zeros(1, np.int32), np.ones(1))
    with pytest.raises(UsageError, match="cannot stand in a TREC file"):
        trec.write_run(tmp_path / "run", run)
    assert not (tmp_path / "run").exists()


def test_infinite_scores_are_ranked(tmp_path: Path) -> None:
    assert scored(put(tmp_path, "q Q0 a 1 inf t\n")) == {"q": {"a": math.inf}}
