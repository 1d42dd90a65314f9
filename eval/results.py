"""Run folders come to be: staged, moved into `store/results` in one rename; LATEST and views.sql beside them; copies."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from eval import record, rows, summary, tables
from eval.about import RunInfo
from eval.record import RUN
from eval.types import Scored
from rag.errors import Problem, StorageFailed, UsageError
from rag.storage import create, make_folder, move_folder, staging, sweep_staging, sync_tree, unreadable, write

RESULTS = "results"
LATEST = "LATEST"
VIEWS = "views.sql"
REPORT = "report.html"
_RUN_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{6}")
VIEWS_SQL = "-- In this folder: duckdb -init views.sql\n" + "".join(
    f"CREATE OR REPLACE VIEW {name} AS FROM {source}, union_by_name = true);\n"
    for name, source in [
        ("runs", "read_json('*/run.json', timestampformat = '%Y-%m-%dT%H:%M:%SZ'"),
        *((name, f"read_parquet('*/{name}.parquet'") for name in tables.TABLES),
    ]
)


def save(store: Path, scored: Scored, info: RunInfo, report: Callable[[Path], str]) -> Path:
    """Write a run, and give its folder: it appears whole, by one rename, or not at all.

    `report` makes report.html of a folder that holds everything else. Then LATEST names the newest run, whichever of
    several processes ends last. Raises StorageFailed, and what `report` raises.
    """
    sweep_staging(store)
    target = store / RESULTS / info.run_id
    with staging(store, "run") as folder:
        lines = [
            tables.write(folder, "questions", rows.question_rows(scored, info.run_id)),
            tables.write(folder, "retrieved", rows.retrieved_rows(scored, info.run_id)),
            tables.write(folder, "scores", rows.score_rows(scored, info.run_id)),
            tables.write(folder, "summary", summary.rows(scored, info)),
        ]
        text = json.dumps(record.run_json(info, scored, lines), indent=1, ensure_ascii=False, allow_nan=False)
        _put(folder / RUN, tables.whole(text).encode() + b"\n")
        _put(folder / REPORT, tables.whole(report(folder)).encode())
        sync_tree(folder)
        move_folder(folder, target)
    try:
        refresh(store / RESULTS)
    except StorageFailed as error:
        raise StorageFailed(f"run {info.run_id} is whole and kept, but {error.message}", error.problems) from error
    return target


def run_ids(results: Path) -> list[str]:
    """The runs in a folder of runs, oldest first; an absent folder has none. Nothing is opened."""
    try:
        return sorted(path.name for path in results.iterdir() if _RUN_ID.fullmatch(path.name) and path.is_dir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise unreadable(results, error) from error


def refresh(results: Path) -> None:
    """Bring views.sql and LATEST up to date. Raises StorageFailed."""
    if _held(results / VIEWS) != VIEWS_SQL:
        write(results / VIEWS, VIEWS_SQL.encode())
    # again, until what is written is what is there: another process may have come between
    while (ids := run_ids(results)) and _held(results / LATEST) != f"{ids[-1]}\n":
        write(results / LATEST, f"{ids[-1]}\n".encode())


def copy(runs: Sequence[Path], folder: Path) -> None:
    """Copy whole runs into a folder, views.sql beside them; each appears whole or not at all.

    Nothing is overwritten. Raises UsageError, before anything is copied, with every run that is there already and for
    a views.sql of another hand; Damaged for a run that is not whole; StorageFailed.
    """
    problems = [
        Problem(str(folder / run.name), f"{folder / run.name} is there already", "export into another folder")
        for run in runs
        if (folder / run.name).exists()
    ]
    if _held(folder / VIEWS) not in (None, VIEWS_SQL):
        what = f"{folder / VIEWS} is there already, and is another one"
        problems.append(Problem(str(folder / VIEWS), what, "export into another folder"))
    if problems:
        raise UsageError(f"{folder} would be overwritten: {problems[0].what}", problems)
    for run in runs:
        for line in record.tables(record.read(run)).values():
            tables.read(run, line)
    make_folder(folder)
    for run in runs:
        with _beside(folder / run.name) as place:
            for path in sorted(run.iterdir()):
                with path.open("rb") as source, create(place / path.name, durable=False) as target:
                    shutil.copyfileobj(source, target)
            sync_tree(place)
            move_folder(place, folder / run.name)
    if _held(folder / VIEWS) is None:
        write(folder / VIEWS, VIEWS_SQL.encode())


@contextlib.contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A folder to fill, on the same file system and one level too deep for the globs of views.sql."""
    hidden = target.parent / f".{target.name}.tmp"
    make_folder(hidden / target.name)
    try:
        yield hidden / target.name
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def _put(path: Path, data: bytes) -> None:
    with create(path, durable=False) as file:
        file.write(data)


def _held(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError):
        return ""  # something else of this name
