"""Runs are found again and read: by name, as one DataFrame over all of them, and one question with all that it met."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval import record, tables
from eval.record import RUN
from eval.results import RESULTS, copy, run_ids
from rag.errors import Damaged, FormatTooNew, NotFound, Problem, RaglineError, UsageError

if TYPE_CHECKING:
    from pandas import DataFrame

_SHOWN = 5
_BEGIN = "run `ragline eval`, or check --store"


@dataclass(frozen=True, slots=True)
class Run:
    """A run whose run.json could be read."""

    folder: Path
    record: Mapping[str, Any]
    """All of run.json."""

    @property
    def run_id(self) -> str:
        return str(self.record["run_id"])

    @property
    def name(self) -> str:
        """Empty without one."""
        return str(self.record["name"] or "")


@dataclass(frozen=True, slots=True)
class Listing:
    """The runs of a store, oldest first, and those that cannot be read."""

    runs: tuple[Run, ...]
    damaged: tuple[Problem, ...]
    newer: tuple[Problem, ...]
    """Of a newer ragline."""


def opened(folder: Path) -> Run:
    """The run of a folder. Raises Damaged, FormatTooNew."""
    return Run(folder, record.read(folder))


def listed(store: Path) -> Listing:
    """Every run of a store, or of a folder that was exported. Raises StorageFailed."""
    results = _results(store)
    found: list[Run] = []
    problems: dict[type[RaglineError], list[Problem]] = {Damaged: [], FormatTooNew: []}
    for run_id in run_ids(results):
        try:
            run = opened(results / run_id)
            if run.run_id != run_id:
                raise tables.damaged(run.folder / RUN, f"it tells of another run, {run.run_id}")
            found.append(run)
        except (Damaged, FormatTooNew) as error:
            problems[type(error)] += error.problems
    return Listing(tuple(found), tuple(problems[Damaged]), tuple(problems[FormatTooNew]))


def find(store: Path, name: str) -> Path:
    """The folder of a run: by run_id, `@latest`, `@previous`, its name (the newest of that name), a unique prefix, a path.

    Raises NotFound with the nearest names, UsageError for a prefix of several runs.
    """
    results = _results(store)
    ids = run_ids(results)
    if name in ("@latest", "@previous"):
        back = ("@latest", "@previous").index(name) + 1
        if len(ids) < back:
            what = f"there is no run {name}: {results} holds {len(ids)}"
            raise NotFound.at(name, what, _BEGIN)
        return results / ids[-back]
    if name in ids:
        return results / name
    runs = listed(store).runs
    if named := [run for run in runs if name and run.name == name]:
        return named[-1].folder
    begun = [run_id for run_id in ids if name and run_id.startswith(name)]
    if len(begun) == 1:
        return results / begun[0]
    if begun:
        what = f"{name} is the beginning of {len(begun)} runs: {', '.join(begun[-_SHOWN:])}"
        raise UsageError.at(name, what, "give more of it")
    if name and os.path.isfile(Path(name) / RUN):  # Path.is_file raises for a name that is too long
        return Path(name)
    known = [*ids, *(run.name for run in runs if run.name)]
    near = list(dict.fromkeys(difflib.get_close_matches(name, known, n=3, cutoff=0.6))) or ids[-_SHOWN:]
    remedy = f"did you mean {', '.join(near)}? `ragline runs` lists all" if near else _BEGIN
    raise NotFound.at(name, f"there is no run {name!r} in {results}", remedy)


def export(store: Path, folder: Path, names: Sequence[str] = ()) -> list[Path]:
    """Copy these runs, or all, into a folder with its own views.sql; gives the copies.

    Raises NotFound with every name that is no run, and as `eval.results.copy`: nothing is overwritten.
    """
    found: dict[Path, None] = {}
    problems: list[Problem] = []
    for name in names:
        try:
            found[find(store, name)] = None
        except (NotFound, UsageError) as error:
            problems += error.problems
    if problems:
        what = problems[0].what if len(problems) == 1 else f"{len(problems)} runs cannot be found: {problems[0].what}"
        raise NotFound(what, problems)
    results = _results(store)
    runs = list(found) if names else [results / run_id for run_id in run_ids(results)]
    if not runs:
        raise NotFound.at(str(store), f"there is no run in {results}", _BEGIN)
    copy(runs, folder)
    return [folder / run.name for run in runs]


def load_runs(store: Path | str | None = None, table: str = "questions") -> DataFrame:
    """One table over all runs, as `pandas.read_parquet` would give it, runs oldest first.

    Parameters
    ----------
    store
        A store, or a folder of runs that was exported; None takes the store of the nearest ragline.toml.
    table
        `questions`, `retrieved`, `scores`, `summary`; or `runs`: a row for each run, the keys of run.json joined by
        dots, lists as JSON.

    A column that older runs lack is null there. A damaged run is left out and named in `frame.attrs["skipped"]`, a list
    of sentences. Raises NotFound without a run, FormatTooNew for a run of a newer ragline, UsageError for another table.
    """
    import pandas as pd
    import pyarrow as pa

    if table not in (*tables.TABLES, "runs"):
        remedy = f"take one of {', '.join([*tables.TABLES, 'runs'])}"
        raise UsageError.at("table", f"there is no table {table!r}", remedy)
    folder = Path(store) if store is not None else _configured()
    listing = listed(folder)
    if listing.newer:
        raise FormatTooNew(f"{len(listing.newer)} runs are of a newer ragline: {listing.newer[0].what}", listing.newer)
    skipped = [problem.what for problem in listing.damaged]
    if not listing.runs and not skipped:
        raise NotFound.at(str(folder), f"there is no run in {_results(folder)}", _BEGIN)
    if table == "runs":
        frame = pd.DataFrame([_flat(run.record) for run in listing.runs])
    else:
        parts = [tables.schema(table).empty_table()]
        for run in listing.runs:
            try:
                parts.append(tables.read(run.folder, record.tables(run.record)[table]))
            except Damaged as error:
                skipped.append(error.message)
        frame = pa.concat_tables(parts, promote_options="default").to_pandas()
    frame.attrs["skipped"] = skipped
    return frame


def one(folder: Path, question: str) -> dict[str, Any]:
    """Everything of one question: {run_id, question_id, observations: [{row, retrieved, scores}]}, as the tables have it.

    `row` is its row of `questions`, prompt included, times as ISO 8601 text; the others are lists of rows. A question is
    named by its id, or the unique beginning of one. Raises NotFound, UsageError, Damaged, FormatTooNew.
    """
    run = opened(folder)
    lines = record.tables(run.record)
    asked = tables.read(folder, lines["questions"])
    question_id = _question_id(question, list(dict.fromkeys(asked["question_id"].to_pylist())))
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for row in _rows_of(asked, question_id):
        row["asked_at_utc"] = row["asked_at_utc"].isoformat() + "Z"
        found[row["arm"], row["repeat"]] = {"row": row, "retrieved": [], "scores": []}
    for name in ("retrieved", "scores"):
        for row in _rows_of(tables.read(folder, lines[name]), question_id):
            found[row["arm"], row["repeat"]][name].append(row)
    return {"run_id": run.run_id, "question_id": question_id, "observations": list(found.values())}


def _rows_of(table: Any, question_id: str) -> list[dict[str, Any]]:
    """The rows of one question, which stand side by side."""
    known = table["question_id"].to_pylist()
    if question_id not in known:
        return []
    first = known.index(question_id)
    rows: list[dict[str, Any]] = table.slice(first, known.count(question_id)).to_pylist()
    return rows


def _question_id(given: str, known: list[str]) -> str:
    if given in known:
        return given
    begun = [each for each in known if given and each.startswith(given)]
    if len(begun) == 1:
        return begun[0]
    if begun:
        what = f"{given} is the beginning of {len(begun)} questions: {', '.join(begun[:_SHOWN])}"
        raise UsageError.at(given, what, "give more of it")
    near = difflib.get_close_matches(given, known, n=3, cutoff=0.6) or known[:_SHOWN]
    raise NotFound.at(given, f"there is no question {given!r} in this run", f"it has {', '.join(near)}")


def _results(store: Path) -> Path:
    """The folder of runs: that of a store, or the folder itself where it is one."""
    return store if not (store / RESULTS).is_dir() and run_ids(store) else store / RESULTS


def _configured() -> Path:
    from rag.settings import load

    return load((), os.environ).store


def _flat(values: Mapping[str, Any], place: str = "") -> dict[str, Any]:
    """{"index.name": ...}: objects opened, lists as JSON."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{place}{key}.")
        else:
            found[place + key] = json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value
    return found
