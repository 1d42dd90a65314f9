"""A run folder as the page needs it: run.json, the tables, and what belongs together in them."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, TypeAlias

from eval import record
from eval.tables import SCHEMA_VERSION, TABLES, damaged
from rag.errors import NotFound, Problem, refuse_newer

Row: TypeAlias = Mapping[str, Any]
Key: TypeAlias = tuple[str, str, int]
"""arm, question_id, repeat"""

_ANSWER = ("Contains", "F1", "EM", "ROUGE-L", "Correctness", "Similarity", "Faithfulness")
_RETRIEVAL = ("nDCG", "RR", "R", "AP", "Success", "P", "SpanR", "SpanHit", "SpanP")
_JUDGED = ("Correctness", "Faithfulness")
_AGAIN = "run the evaluation again"


@dataclass(frozen=True)
class Run:
    """A run folder, read. Prompts and passages, which are large, are read for the questions that are shown."""

    folder: Path
    about: Row
    """run.json"""
    questions: tuple[Row, ...]
    """All columns but `prompt`."""
    scores: tuple[Row, ...]
    summary: tuple[Row, ...]

    @cached_property
    def arms(self) -> tuple[str, ...]:
        """In the order asked."""
        return tuple(dict.fromkeys([*(self.about.get("arms") or ()), *(row["arm"] for row in self.questions)]))

    @cached_property
    def main(self) -> str:
        """The arm that the page is about."""
        return "retrieved" if "retrieved" in self.arms or not self.arms else self.arms[0]

    @cached_property
    def whole(self) -> dict[tuple[str, str], Row]:
        """(arm, measure) of all questions, where any of them has or should have a value."""
        return {
            (row["arm"], row["measure"]): row
            for row in self.summary
            if row["slice_tag"] == "all" and (row["n"] or row["unscored"] or row["errors"])
        }

    @cached_property
    def measures(self) -> tuple[str, ...]:
        """In the order asked."""
        found = dict.fromkeys(row["measure"] for row in self.summary)
        asked = [each["name"] for each in self.about.get("measures") or ()]
        return tuple(dict.fromkeys([*(each for each in asked if each in found), *found]))

    @cached_property
    def scored(self) -> dict[Key, dict[str, Row]]:
        """The scores of each observation by measure."""
        found: dict[Key, dict[str, Row]] = {}
        for row in self.scores:
            found.setdefault(key(row), {})[row["measure"]] = row
        return found

    @cached_property
    def judges(self) -> dict[str, str]:
        """The judge of each measure that one has scored."""
        return {row["measure"]: row["scored_by"] for row in self.scores if row["scored_by"] not in ("ragline", "")}

    @cached_property
    def answer_measure(self) -> str | None:
        """The headline measure of answers."""
        return self._first(_ANSWER)

    @cached_property
    def retrieval_measure(self) -> str | None:
        """The headline measure of what was found."""
        return self._first(_RETRIEVAL)

    @cached_property
    def headline(self) -> tuple[str, ...]:
        """The few measures that slices and drawings are made for."""
        found = (self.answer_measure, self._first(("F1",)), self._first(_JUDGED), self.retrieval_measure)
        chosen = tuple(dict.fromkeys(each for each in (*found, self._first(("SpanR",))) if each is not None))
        present = [each for each in self.measures if (self.main, each) in self.whole]
        return chosen or tuple(present[:1])

    def bounds(self, measure: str) -> tuple[float, float]:
        """The ends of the measure's scale; those of its values where it has none."""
        return self._bounds[measure]

    @cached_property
    def _bounds(self) -> dict[str, tuple[float, float]]:
        return {measure: self._scale(measure) for measure in {*self.measures, *(row["measure"] for row in self.scores)}}

    def _scale(self, measure: str) -> tuple[float, float]:
        names = (measure, base(measure))
        stated: Row = next((each for each in self.about.get("measures") or () if each["name"] in names), {})
        low, high = stated.get("low"), stated.get("high")
        if low is None or high is None:
            seen = [row["value"] for row in self.scores if row["measure"] == measure and row["value"] is not None]
            low = min(seen, default=0.0) if low is None else low
            high = max(seen, default=1.0) if high is None else high
        return (float(low), float(high)) if low < high else (float(low), low + 1.0)

    def higher_is_better(self, measure: str) -> bool:
        """Whether more of it is better; yes where nothing else is said."""
        return all(row["higher_is_better"] for row in self.summary if row["measure"] == measure)

    def values(self, arm: str, measure: str) -> dict[str, float]:
        """The mean over its repeats for each question that is scored."""
        found: dict[str, list[float]] = {}
        for row in self.scores:
            if row["arm"] == arm and row["measure"] == measure and row["value"] is not None:
                found.setdefault(row["question_id"], []).append(row["value"])
        return {name: sum(values) / len(values) for name, values in found.items()}

    def prompts(self, questions: Collection[str]) -> dict[Key, str]:
        """The exact prompts of these questions."""
        columns = ["question_id", "arm", "repeat", "prompt"]
        rows = _rows(self.folder / "questions.parquet", columns, questions)
        return {key(row): row["prompt"] for row in rows if row["prompt"] is not None}

    def passages(self, questions: Collection[str]) -> dict[Key, list[Row]]:
        """What was found for these questions, best first."""
        found: dict[Key, list[Row]] = {}
        for row in _rows(self.folder / "retrieved.parquet", None, questions):
            found.setdefault(key(row), []).append(row)
        return {name: sorted(rows, key=lambda row: row["rank"]) for name, rows in found.items()}

    def _first(self, bases: Iterable[str]) -> str | None:
        """The first of these that the main arm has values of."""
        present = [each for each in self.measures if (self.main, each) in self.whole]
        return next((each for wanted in bases for each in present if base(each) == wanted), None)


def load(folder: Path) -> Run:
    """Read a run folder.

    Raises NotFound for a folder that lacks a file, FormatTooNew for one of a newer ragline, Damaged for a file that
    cannot be read.
    """
    absent = [name for name in ("run.json", *(f"{each}.parquet" for each in TABLES)) if not (folder / name).is_file()]
    if absent:
        problems = [Problem(str(folder / name), f"{name} is missing", _AGAIN) for name in absent]
        raise NotFound(f"{folder} is no whole run folder", problems)
    about = record.read(folder)
    for each in TABLES:
        _refuse_newer(folder / f"{each}.parquet")
    questions, scores, summary = (
        tuple(_rows(folder / f"{each}.parquet", None, without=("prompt",)))
        for each in ("questions", "scores", "summary")
    )
    return Run(folder, about, questions, scores, summary)


def key(row: Row) -> Key:
    """Which observation a row belongs to."""
    return row["arm"], row["question_id"], row["repeat"]


def base(measure: str) -> str:
    """A measure's name without brackets and cutoff."""
    return re.split(r"[(@]", measure, maxsplit=1)[0]


def parsed(text: str | None) -> Any:
    """The value of a column that ends `_json`; None where it cannot be read."""
    try:
        return None if text is None else json.loads(text)
    except ValueError:
        return None


def _refuse_newer(path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_schema(path).metadata or {}
    except (pa.ArrowException, OSError) as error:
        raise damaged(path, _first_line(error)) from error
    version = metadata.get(b"ragline.schema_version", b"")
    refuse_newer(path, int(version) if version.isdigit() else None, SCHEMA_VERSION)


def _rows(
    path: Path, columns: list[str] | None, questions: Collection[str] | None = None, without: Collection[str] = ()
) -> list[dict[str, Any]]:
    """All rows, or those of these questions, a batch at a time: a run may hold more passages than memory does."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = []
    try:
        # neither read_table nor a mask: both bring pandas along, which takes seconds
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            columns = columns or [name for name in file.schema_arrow.names if name not in without]
            for batch in file.iter_batches(columns=columns):
                if questions is None:
                    rows += batch.to_pylist()
                    continue
                at = 0
                for wanted, run in groupby(batch.column("question_id").to_pylist(), questions.__contains__):
                    length = sum(1 for _ in run)
                    rows += batch.slice(at, length).to_pylist() if wanted else []
                    at += length
    except (pa.ArrowException, OSError) as error:
        raise damaged(path, _first_line(error)) from error
    return rows


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
