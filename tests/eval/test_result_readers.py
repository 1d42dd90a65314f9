"""The files of a run as analysts read them: by pandas, DuckDB and Polars, old and new together; and docs/results.md."""

from __future__ import annotations

import importlib
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from eval.causes import CAUSES
from eval.tables import TABLES, Column
from tests.eval.made_runs import saved

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "results.md").read_text(encoding="utf-8")
READERS = ("pandas", "polars", "duckdb")
DTYPES = {
    "string": {"str", "String", "VARCHAR"},
    "int64": {"int64", "Int64", "BIGINT"},
    "float64": {"float64", "Float64", "DOUBLE"},
    "bool": {"bool", "Boolean", "BOOLEAN"},
    "timestamp[us]": {"datetime64[us]", "Datetime(time_unit='us', time_zone=None)", "TIMESTAMP"},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data/store and two runs in it; tests that add one work on a copy."""
    root = tmp_path_factory.mktemp("results")
    saved(root / "data" / "store", 0, "base")
    saved(root / "data" / "store", 1)
    return root


def plain(value: Any) -> Any:
    if hasattr(value, "to_pydatetime"):
        return value.to_pydatetime()
    return None if value is None or (isinstance(value, float) and math.isnan(value)) else value


def table_of(reader: str, path: Path) -> tuple[dict[str, str], list[tuple[Any, ...]]]:
    """{column: type} and the rows of a file, as a reader has them without being told anything."""
    module = importlib.import_module(reader)
    if reader == "pandas":
        frame = module.read_parquet(path)
        rows = [tuple(map(plain, row)) for row in frame.astype(object).itertuples(index=False, name=None)]
        return {name: str(kind) for name, kind in frame.dtypes.items()}, rows
    if reader == "polars":
        frame = module.read_parquet(path)
        return {name: str(kind) for name, kind in frame.schema.items()}, frame.rows()
    found = module.sql(f"FROM read_parquet('{path}')")
    return dict(zip(found.columns, map(str, found.types), strict=True)), found.fetchall()


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("table", TABLES)
def test_every_file_is_read_alike_by_every_reader(table: str, reader: str, place: Path) -> None:
    pytest.importorskip(reader)
    for path in sorted((place / "data/store/results").glob(f"*/{table}.parquet")):
        types, rows = table_of(reader, path)
        wanted = pq.read_table(path)
        assert list(types) == [column.name for column in TABLES[table]]
        for column in TABLES[table]:
            # whole numbers that may be null are floats to pandas
            whole = column.kind == "int64" and column.nullable and reader == "pandas"
            assert types[column.name] in DTYPES["float64" if whole else column.kind], column.name
        assert rows == [tuple(row.values()) for row in wanted.to_pylist()]
        assert len(rows) > 5


@pytest.mark.parametrize("reader", READERS)
def test_a_file_without_rows_still_has_its_columns(reader: str, tmp_path: Path) -> None:
    from eval import tables

    pytest.importorskip(reader)
    tables.write(tmp_path, "retrieved", [])
    types, rows = table_of(reader, tmp_path / "retrieved.parquet")
    assert list(types) == [column.name for column in TABLES["retrieved"]]
    assert rows == []


def later(place: Path, root: Path) -> Path:
    """The place with a run of a later release: each table has one column more."""
    shutil.copytree(place, root, dirs_exist_ok=True)
    results = root / "data" / "store" / "results"
    old = sorted(results.iterdir())[-3]
    new = results / "20270101T000000Z-0000aa"
    shutil.copytree(old, new)
    for table in TABLES:
        read = pq.read_table(new / f"{table}.parquet")
        read = read.set_column(0, read.schema.field(0), pa.array([new.name] * len(read)))
        read = read.append_column(pa.field("later", pa.string()), pa.array(["new"] * len(read)))
        metadata = {**read.schema.metadata, b"ragline.schema_version": b"2"}
        pq.write_table(read.replace_schema_metadata(metadata), new / f"{table}.parquet")
    return root


def together(block: str) -> Callable[[str], str]:
    return lambda table: block.replace("questions.parquet", f"{table}.parquet")


@pytest.mark.parametrize("reader", READERS)
def test_old_and_new_runs_are_read_together_as_the_page_says(
    reader: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(reader)
    monkeypatch.chdir(later(place, tmp_path))
    block = together(BLOCKS["Old and new runs together", reader])
    for table in TABLES:
        rows = len(pq.read_table(next(iter(sorted(Path().glob(f"data/store/results/*/{table}.parquet"))))))
        names, found = run(reader, block(table))
        assert names == [*(column.name for column in TABLES[table]), "later"]
        assert sorted(map(str, (row[-1] for row in found))) == ["None"] * 2 * rows + ["new"] * rows
        assert {row[0] for row in found if row[-1]} == {"20270101T000000Z-0000aa"}


@pytest.mark.parametrize("table", [*TABLES, "runs"])
def test_the_views_span_old_and_new_runs(
    table: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    duckdb = pytest.importorskip("duckdb")
    monkeypatch.chdir(later(place, tmp_path) / "data/store/results")
    connection = duckdb.connect()
    connection.execute(Path("views.sql").read_text())
    found = connection.execute(f"SELECT count(*), count(DISTINCT run_id) FROM {table}").fetchone()
    if table == "runs":
        assert found == (3, 2)  # the copy's run.json is the old one
        assert (
            str(connection.execute("SELECT min(created_at) FROM runs").fetchone())
            == "(datetime.datetime(2026, 11, 22, 8, 0),)"
        )
    else:
        assert found == (sum(len(pq.read_table(path)) for path in Path().glob(f"*/{table}.parquet")), 3)
        assert connection.execute(f"SELECT count(later) > 0 FROM {table}").fetchone() == (True,)


def blocks() -> dict[tuple[str, str], str]:
    """{(heading, reader): code}"""
    found: dict[tuple[str, str], str] = {}
    for heading, section in re.findall(r"^#+ (.+?)\n(.*?)(?=^#+ |\Z)", PAGE, re.MULTILINE | re.DOTALL):
        for language, code in re.findall(r"^```(python|sql)\n(.*?)^```", section, re.MULTILINE | re.DOTALL):
            reader = "duckdb" if language == "sql" else "polars" if "import polars" in code else "pandas"
            assert (heading, reader) not in found
            found[heading, reader] = code
    return found


BLOCKS = blocks()


def run(reader: str, code: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Columns and rows that a block of the page finds, from the folder that holds data/store."""
    if reader == "duckdb":
        connection = importlib.import_module("duckdb").connect()
        views = Path("data/store/results/views.sql").read_text()
        connection.execute(re.sub(r"'\*/", "'data/store/results/*/", views))
        found = connection.sql(code)
        return found.columns, found.fetchall()
    names: dict[str, Any] = {}
    exec(compile(code, "docs/results.md", "exec"), names)
    frame = names["found"]
    if reader == "polars":
        return frame.columns, frame.rows()
    rows = [tuple(map(plain, row)) for row in frame.astype(object).itertuples(index=False, name=None)]
    return list(frame.columns), rows


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("table", [*TABLES, "run.json"])
def test_the_three_queries_of_a_table_find_the_same(
    table: str, reader: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(reader)
    monkeypatch.chdir(place)
    _, wanted = run("pandas", BLOCKS[table, "pandas"])
    names, found = run(reader, BLOCKS[table, reader])
    assert [tuple(x if not isinstance(x, float) else pytest.approx(x) for x in row) for row in wanted] == found
    assert wanted
    assert names


def test_the_page_has_a_query_for_every_table_in_every_reader() -> None:
    headings = ["Old and new runs together", *TABLES, "run.json"]
    assert sorted(BLOCKS) == sorted((heading, reader) for heading in headings for reader in READERS)


def line(column: Column) -> str:
    marks = ["yes" if each else "" for each in (column.nullable, column.volatile)]
    return f"| `{column.name}` | {column.kind} | {' | '.join(marks)} | {column.says} |"


@pytest.mark.parametrize("table", TABLES)
def test_the_page_says_of_every_column_what_the_code_says(table: str) -> None:
    section = PAGE.partition(f"\n## {table}\n")[2].partition("\n## ")[0]
    rows = [each for each in section.splitlines() if each.startswith("| `") and each.count("|") == 6]
    assert rows == [line(column) for column in TABLES[table]]


def test_the_page_has_every_cause() -> None:
    assert [(cause, says) for cause, says in re.findall(r"^\| `(\w+)` \| ([^|]+) \|$", PAGE, re.MULTILINE)] == list(
        CAUSES.items()
    )


NAMES = {column.name for columns in TABLES.values() for column in columns}


def test_names_are_no_attributes_of_a_frame() -> None:
    # those two are asked for as frame["rank"]
    assert set(dir(pd.DataFrame)) & NAMES == {"rank", "mean"}


def test_names_are_no_reserved_words_of_sql() -> None:
    duckdb = pytest.importorskip("duckdb")
    reserved = "SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category = 'reserved'"
    words = {row[0] for row in duckdb.sql(reserved).fetchall()}
    assert "end" in words
    assert words & NAMES == set()
