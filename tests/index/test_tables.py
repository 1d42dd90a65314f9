"""The tables of a version: columns as documented, rows as written, one row without the rest."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.errors import Damaged, FormatTooNew, UsageError
from rag.index import tables
from rag.index.tables import ChunkRow, ChunkTable, DocumentRow, DocumentTable, ExcludedRow, Table, headings, joined

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def chunk(row: int) -> ChunkRow:
    copy = row - 1 if row % 7 == 6 else None
    return ChunkRow(row, f"d@{row}", f"d{row // 3:06d}", row % 3, row, row + 5, "A > B", f"text {row}", 2, "ff", copy)


def document(doc_id: str, chunks: int = 1, text: str = "t", **metadata: object) -> DocumentRow:
    return DocumentRow(
        doc_id, f"T {doc_id}", f"{doc_id}.md", "s", "t", text, "markdown/1", json.dumps(metadata), chunks
    )


def write_chunks(path: Path, count: int) -> None:
    with tables.writing(ChunkRow, path) as table:
        for row in range(count):
            table.add(chunk(row))


def write_documents(path: Path, rows: list[DocumentRow]) -> None:
    with tables.writing(DocumentRow, path) as table:
        for row in rows:
            table.add(row)


def test_columns_are_those_of_the_contract(tmp_path: Path) -> None:
    write_chunks(tmp_path / "c", 3)
    write_documents(tmp_path / "d", [document("a")])
    with tables.writing(ExcludedRow, tmp_path / "e") as table:
        table.add(ExcludedRow("x.bin", None, None, None, "read", "encoding", "not UTF-8"))
    assert describe(tmp_path / "c") == (
        "chunks row:int64 chunk_id:string doc_id:string ordinal:int64 char_start:int64 char_end:int64 "
        "heading_path:string text:string tokens:int64 key:string duplicate_of:int64?"
    )
    assert describe(tmp_path / "d") == (
        "documents doc_id:string title:string source:string source_sha256:string text_sha256:string text:string "
        "reader:string metadata_json:string chunks:int64"
    )
    assert describe(tmp_path / "e") == (
        "excluded source:string doc_id:string? char_start:int64? char_end:int64? stage:string reason:string "
        "detail:string"
    )
    assert next(iter(Table(tmp_path / "e", ExcludedRow))).reason == "encoding"


def describe(path: Path) -> str:
    schema = pq.read_schema(path)
    assert schema.metadata[b"ragline.schema_version"] == b"1"
    fields = [f"{field.name}:{field.type}{'?' if field.nullable else ''}" for field in schema]
    return " ".join([schema.metadata[b"ragline.table"].decode(), *fields])


def test_any_row_comes_back_in_the_order_asked(tmp_path: Path) -> None:
    write_chunks(tmp_path / "c", 5_000)
    table = ChunkTable(tmp_path / "c")
    assert table.groups == 5
    wanted = [4_999, 0, 1_023, 1_024, 0, 2_048, 13]
    assert table.rows(wanted) == [chunk(row) for row in wanted]
    assert table.rows([]) == []
    assert list(table) == [chunk(row) for row in range(5_000)]
    for wrong in (-1, 5_000):
        with pytest.raises(IndexError):
            table.rows([wrong])
    table.close()


@given(st.lists(st.tuples(TEXT, TEXT, st.integers(0, 2**60), st.none() | st.integers(0, 9)), max_size=30))
def test_what_is_written_is_what_is_read(values: list[tuple[str, str, int, int | None]]) -> None:
    import tempfile

    rows = [ChunkRow(n, "i", a, 0, 0, 1, "", b, t, "k", c) for n, (a, b, t, c) in enumerate(values)]
    with tempfile.TemporaryDirectory() as folder:
        with tables.writing(ChunkRow, Path(folder) / "c") as table:
            for row in rows:
                table.add(row)
        first = (Path(folder) / "c").read_bytes()
        assert list(ChunkTable(Path(folder) / "c")) == rows
        with tables.writing(ChunkRow, Path(folder) / "c") as table:
            for row in rows:
                table.add(row)
        assert (Path(folder) / "c").read_bytes() == first


@given(st.lists(st.text(st.sampled_from("a >\\"), min_size=1, max_size=8), max_size=4))
def test_headings_come_back_whatever_signs_they_hold(path: list[str]) -> None:
    assert headings(joined(path)) == tuple(path)


def test_only_a_sign_that_could_part_headings_is_marked() -> None:
    assert joined(["Settings > Advanced", "a->b", "C:\\temp"]) == "Settings \\> Advanced > a->b > C:\\temp"


def test_a_failed_writer_leaves_no_file(tmp_path: Path) -> None:
    def fails() -> None:
        with tables.writing(ChunkRow, tmp_path / "c") as table:
            table.add(chunk(0))
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert list(tmp_path.iterdir()) == []


def test_documents_are_found_without_reading_their_texts(tmp_path: Path) -> None:
    ids = sorted(f"{'long' * 3_000 if n == 7 else 'd'}{n:05d}é" for n in range(3_000))
    write_documents(tmp_path / "d", [document(doc_id, text="x" * 10_000) for doc_id in ids])
    table = DocumentTable(tmp_path / "d")
    assert table.groups > 3
    found = table.get([ids[0], ids[1_500], ids[-1], "nothing", ""])
    assert found == {i: {"title": f"T {i}", "source": f"{i}.md"} for i in (ids[0], ids[1_500], ids[-1])}
    table.close()


@given(st.sets(TEXT, min_size=1, max_size=30))
def test_python_orders_ids_as_utf8_bytes_do(ids: set[str]) -> None:
    assert sorted(ids) == sorted(ids, key=lambda value: value.encode())


def test_where_is_and_over_keys_and_or_within_one(tmp_path: Path) -> None:
    write_documents(
        tmp_path / "d",
        [
            document("a", 2, lang="en", year=2024, tags=["x", "y"]),
            document("b", 0, lang="en"),
            document("c", 1, lang="de", year=2024, draft=True),
            document("d", 3, lang="fr", year="2024", tags=[], note=None),
        ],
    )
    table = DocumentTable(tmp_path / "d")
    assert table.where({"lang": ["en"]}).tolist() == [0, 1]
    assert table.where({"lang": ["en", "fr"]}).tolist() == [0, 1, 3, 4, 5]
    assert table.where({"year": ["2024"], "lang": ["de", "fr"]}).tolist() == [2, 3, 4, 5]
    assert table.where({"tags": ["y"]}).tolist() == [0, 1]
    assert table.where({"draft": ["true"]}).tolist() == [2]
    assert table.where({"note": ["null"]}).tolist() == [3, 4, 5]
    assert table.where({"lang": ["EN"]}).tolist() == []
    assert table.where({}).tolist() == [0, 1, 2, 3, 4, 5]
    with pytest.raises(UsageError, match=r"'langs'.*'yaer'") as caught:
        table.where({"langs": ["en"], "yaer": ["1"]})
    assert "draft, lang, note, tags, year" in caught.value.problems[0].remedy
    assert caught.value.exit_code == 2


def test_a_newer_schema_is_refused_and_another_table_is_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "SCHEMA_VERSION", 2)
    write_chunks(tmp_path / "c", 3)
    monkeypatch.setattr(tables, "SCHEMA_VERSION", 1)
    with pytest.raises(FormatTooNew, match="format 2"):
        ChunkTable(tmp_path / "c")
    with pytest.raises(Damaged, match="no documents table"):
        DocumentTable(tmp_path / "c")


def test_a_flipped_byte_in_a_page_is_noticed_when_it_is_read(tmp_path: Path) -> None:
    write_chunks(tmp_path / "c", 2_000)
    data = bytearray((tmp_path / "c").read_bytes())
    data[len(data) // 3] ^= 1
    (tmp_path / "c").write_bytes(data)
    with pytest.raises(Damaged, match=r"ragline repair|cannot be read"):
        list(ChunkTable(tmp_path / "c"))


def test_rows_keep_the_field_order_of_their_dataclass() -> None:
    assert [field.name for field in dataclasses.fields(ChunkRow)] == tables.schema(ChunkRow).names
