from __future__ import annotations

import datetime as dt
import gzip
import hashlib
import itertools
import json
import math
import re
import tarfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.corpus import jsonl, unpack
from rag.corpus.page import Unreadable
from rag.corpus.read import Reading, reading_identity
from rag.corpus.snapshot import snapshot
from rag.corpus.spec import CorpusSpec
from rag.corpus.values import plain
from rag.digest import canonical
from rag.errors import CorpusFailed
from rag.types import Document, Excluded, Json

LATER = 4 * 10**18


def items(folder: Path, files: dict[str, bytes | str], **settings: Any) -> list[Document | Excluded]:
    for name, data in files.items():
        path = folder / "c" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
    spec = CorpusSpec((folder / "c",), **settings)
    return list(Reading(snapshot(spec, None, LATER), spec))


def documents(found: list[Document | Excluded]) -> list[Document]:
    return [item for item in found if isinstance(item, Document)]


def reasons(found: list[Document | Excluded]) -> list[tuple[str, str]]:
    return [(item.source, item.reason) for item in found if isinstance(item, Excluded)]


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_a_record_becomes_a_document(tmp_path: Path) -> None:
    row: dict[str, Json] = {
        "_id": 7,
        "title": "A title",
        "text": "Words.",
        "year": 1999,
        "none": None,
        "tags": ["a", {"b": 1.5}],
    }
    (document,) = documents(items(tmp_path, {"r.jsonl": lines(row)}))
    assert (document.doc_id, document.text, document.title, document.context) == (
        "7",
        "Words.",
        "A title",
        ("A title",),
    )
    assert document.metadata == {"year": 1999, "tags": ["a", {"b": 1.5}]}
    assert document.source == "c/r.jsonl:1"
    assert document.source_sha256 == hashlib.sha256(canonical(row)).hexdigest()
    assert (document.reader, document.media_type, document.body_start) == ("jsonl/1", "text/plain", 0)


def test_a_record_without_an_id_is_named_by_its_content(tmp_path: Path) -> None:
    (document,) = documents(items(tmp_path, {"sub/r.jsonl": lines({"text": "x"})}))
    assert document.doc_id == f"sub/r.jsonl#{document.source_sha256[:16]}"
    assert (document.title, document.context) == (document.doc_id, ())


@pytest.mark.parametrize("text", ["text", "body", "Content", "contents", "passage", "context", "abstract"])
@pytest.mark.parametrize(("id_", "title"), [("id", "name"), ("DocId", "Subject"), ("key", "heading")])
def test_the_usual_names_are_known(tmp_path: Path, text: str, id_: str, title: str) -> None:
    (document,) = documents(items(tmp_path, {"r.jsonl": lines({text: "words", id_: "i", title: "t"})}))
    assert (document.text, document.doc_id, document.title, document.metadata) == ("words", "i", "t", {})


def test_columns_of_the_settings_come_first(tmp_path: Path) -> None:
    row = {"text": "no", "q": "yes", "id": 1, "n": "i", "title": "no", "t": "yes"}
    (document,) = documents(
        items(tmp_path, {"r.jsonl": lines(row)}, text_column=("q",), id_column=("n",), title_column=("t",))
    )
    assert (document.text, document.doc_id, document.title) == ("yes", "i", "yes")
    assert document.metadata == {"text": "no", "id": 1, "title": "no"}


def test_files_with_different_columns_are_read_together_by_the_first_name_that_each_has(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {
        "a.csv": ",id,body\n0,7,one\n",
        "b.csv": ",id,article\n0,7,two\n",
        "c.jsonl": lines({"words": "three"}),
    }
    text = ("article", "body")
    found = items(tmp_path, files, text_column=text, id_column=("",))
    assert sorted(document.text for document in documents(found)) == ["one", "two"]
    assert all(re.fullmatch(r"[ab]\.csv#[0-9a-f]{16}", document.doc_id) for document in documents(found))
    assert reasons(found) == [("c/c.jsonl:1", "columns")]
    (left_out,) = (item for item in found if isinstance(item, Excluded))
    assert "no column 'article' or 'body'; columns: 'words'" in left_out.detail
    with pytest.raises(CorpusFailed) as caught:
        items(tmp_path, files, text_column=text)
    assert 'corpus.id_column to a column of unique ids, or to ""' in caught.value.problems[0].remedy


def test_a_row_whose_text_cannot_be_told_names_its_columns_and_the_setting(tmp_path: Path) -> None:
    found = items(tmp_path, {"r.jsonl": lines({"id": 1, "words": "x"}), "s.csv": "a,b\n1,2\n"})
    assert reasons(found) == [("c/r.jsonl:1", "columns"), ("c/s.csv:2", "columns")]
    for item in found:
        assert isinstance(item, Excluded)
        assert "[corpus] text_column" in item.detail
    assert "'words'" in found[0].detail  # type: ignore[union-attr]


def test_bad_lines_are_one_row_each_and_the_rest_is_read(tmp_path: Path) -> None:
    rows = [
        b'{"id": 1, "text": "good"}',
        b"",
        b'{"id": 2, "text": "twice", "id": 3}',
        b'{"id": 4, "text": "nan", "x": NaN}',
        b"[1, 2]",
        b'{"id": 5, "text": "cut',
        b'{"id": 6, "text": "\\ud800"}',
        b'{"id": 7, "text": "caf\xe9"}',
        b'{"id": 8, "text": "deep", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"id": 9, "text": "deep", "x": ' + b"[" * 90 + b"]" * 90 + b"}",
        b'{"id": 10, "text": "huge", "x": 1e1000000}',
        b'{"id": 11, "text": "huge", "x": ' + b"9" * 5000 + b"}",
        b'{"id": 12, "text": null}',
        b'{"id": 13, "text": 5}',
        b'{"id": [14], "text": "x"}',
        b"   ",
        '{"id": 15, "text": "line\u2028separator\u0085inside"}'.encode(),
        b'{"id": 16, "text": "\\ud83d\\ude00", "__class__": "x"}\r',
        b'{"id": 17, "text": "last, without a line end"}',
    ]
    found = items(tmp_path, {"r.jsonl": b"\n".join(rows)})
    assert [document.doc_id for document in documents(found)] == ["1", "15", "16", "17"]
    assert reasons(found) == [
        ("c/r.jsonl:3", "json"),
        ("c/r.jsonl:4", "json"),
        ("c/r.jsonl:5", "json"),
        ("c/r.jsonl:6", "json"),
        ("c/r.jsonl:7", "surrogates"),
        ("c/r.jsonl:8", "encoding"),
        ("c/r.jsonl:9", "nesting"),
        ("c/r.jsonl:10", "nesting"),
        ("c/r.jsonl:11", "json"),
        ("c/r.jsonl:12", "json"),
        ("c/r.jsonl:13", "empty"),
        ("c/r.jsonl:14", "columns"),
        ("c/r.jsonl:15", "columns"),
    ]


def test_a_line_that_is_too_long_is_one_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "RECORD_LIMIT", 100)
    long = lines({"id": 1, "text": "x" * 500})
    found = items(tmp_path, {"r.jsonl": lines({"id": 0, "text": "a"}) + long + lines({"id": 2, "text": "b"})})
    assert [document.doc_id for document in documents(found)] == ["0", "2"]
    assert reasons(found) == [("c/r.jsonl:2", "too large")]


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16", "utf-32"])
def test_marked_encodings_of_record_files_are_read(tmp_path: Path, codec: str) -> None:
    text = '{"id": "é", "text": "one\u2028two"}\n{"id": "b", "text": "x"}'
    found = items(tmp_path, {"r.jsonl": text.encode(codec), "s.csv": "id,text\nc,ünlü\n".encode(codec)})
    assert [document.doc_id for document in documents(found)] == ["b", "c", "é"]


def test_the_encoding_of_the_settings_is_taken_row_by_row(tmp_path: Path) -> None:
    files = {
        "r.jsonl": '{"id": "a", "text": "é"}\n'.encode() + b'{"id": "b", "text": "\xe9"}\n',
        "s.csv": b"id,text\nc,\xe9\n",
    }
    assert [document.text for document in documents(items(tmp_path, dict(files), encoding="latin-1"))] == ["é"] * 3
    assert reasons(items(tmp_path, dict(files))) == [("c/r.jsonl:2", "encoding"), ("c/s.csv:2", "encoding")]


def test_csv_is_read_with_quotes_line_breaks_and_its_own_delimiter(tmp_path: Path) -> None:
    found = items(
        tmp_path,
        {
            "a.csv": 'id,title,text\r\na1,"T, 1","line\r\ntwo ""quoted"""\r\na2,,x\r\n\r\na3,short\r\n',
            "b.csv": "id;text\nb1;one, two\n",
            "c.tsv": "id\ttext\nc1\tone, two\n",
            "d.csv": "text\none, two; three\n",
            "e.csv": 'id,text\ne1,ok\ne2,"never closed\nand so on\n',
            "f.csv": "id,id,text\n1,2,3\n",
            "g.csv": "id,text\n",
        },
    )
    assert {document.doc_id.partition("#")[0]: document.text for document in documents(found)} == {
        "a1": 'line\r\ntwo "quoted"',
        "a2": "x",
        "b1": "one, two",
        "c1": "one, two",
        "d.csv": "one, two; three",
        "e1": "ok",
    }
    assert reasons(found) == [
        ("c/a.csv:6", "columns"),
        ("c/e.csv:4", "broken"),
        ("c/f.csv:1", "columns"),
        ("c/g.csv", "empty"),
    ]


def test_parquet_is_read_in_batches_with_all_its_types(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "c").mkdir()
    n = 1000
    table = pa.table(
        {
            "doc_id": [f"p{row:04d}" for row in range(n)],
            "contents": ["words"] * (n - 1) + [None],
            "when": [dt.datetime(2024, 1, 2, 3, 4)] * n,
            "day": [dt.date(2024, 1, 2)] * n,
            "price": [Decimal("1.50")] * n,
            "raw": [b"\xff"] * n,
            "nan": [float("nan")] * n,
            "list": [["a", None]] * n,
            "struct": [{"x": 1}] * n,
        }
    )
    pq.write_table(table, tmp_path / "c" / "t.parquet")
    found = items(tmp_path, {"broken.parquet": b"PAR1 not really PAR1", "short.parquet": b"PAR1"})
    assert len(documents(found)) == n - 1
    assert documents(found)[0].metadata == {
        "when": "2024-01-02T03:04:00",
        "day": "2024-01-02",
        "price": 1.5,
        "raw": "/w==",
        "list": ["a", None],
        "struct": {"x": 1},
    }
    assert reasons(found) == [
        ("c/broken.parquet", "broken"),
        ("c/short.parquet", "broken"),
        ("c/t.parquet:1000", "empty"),
    ]


def test_packed_records_are_unpacked_and_bombs_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow as pa

    row = lines({"id": "a", "text": "x"}).encode()
    other = lines({"id": "b", "text": "x"}).encode()
    monkeypatch.setattr("rag.corpus.read.BOMB_FREE", 1000)
    bomb = gzip.compress(b"\n" * 10_000_000)
    files = {
        "a.jsonl.gz": gzip.compress(row[:5]) + gzip.compress(row[5:]),
        "b.ndjson.zst": pa.compress(other, "zstd", asbytes=True),
        "bomb.jsonl.gz": bomb,
        "cut.jsonl.gz": gzip.compress(row)[:-9],
        "no.jsonl.gz": b"not gzip",
        "no.jsonl.zst": b"not zstd",
        "t.parquet.gz": b"x",
    }
    found = items(tmp_path, files)
    assert [document.doc_id for document in documents(found)] == ["a", "b"]
    assert sorted(reasons(found)) == [
        ("c/bomb.jsonl.gz", "bomb"),
        ("c/cut.jsonl.gz", "broken"),
        ("c/no.jsonl.gz", "broken"),
        ("c/no.jsonl.zst", "broken"),
        ("c/t.parquet.gz", "unsupported"),
    ]
    assert unpack.BOMB_RATIO * len(bomb) < 10_000_000


IDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=4)


@given(st.lists(IDS, unique=True, min_size=1, max_size=20), st.data())
def test_documents_come_in_the_order_of_the_bytes_of_their_ids(ids: list[str], data: st.DataObject) -> None:
    import tempfile

    where = data.draw(st.lists(st.integers(0, 2), min_size=len(ids), max_size=len(ids)))
    files = {
        f"{number}.jsonl": lines(*({"id": i, "text": "x"} for i, at in zip(ids, where, strict=True) if at == number))
        for number in range(3)
    }
    names = {"a/é.md": "x", "a-b.txt": "x", "\U0001f600.md": "x", "\uffee.md": "x"}
    with tempfile.TemporaryDirectory() as folder:
        found = items(Path(folder), {name: text for name, text in {**files, **names}.items() if text})
    got = [document.doc_id for document in documents(found)]
    assert got == sorted(got, key=str.encode)
    assert sorted(got) == sorted([*ids, *names])


def test_equal_ids_fail_and_name_both_sources(tmp_path: Path) -> None:
    files = {
        "a.jsonl": lines(*({"id": i % 15, "text": f"{i}"} for i in range(60))),
        "7.md": "x",
        "z.jsonl": lines({"id": "7.md", "text": "y"}),
    }
    with pytest.raises(CorpusFailed, match="20 or more times") as caught:
        items(tmp_path, dict(files))
    assert len(caught.value.problems) == 20
    assert caught.value.problems[0].what == "c/a.jsonl:1 and c/a.jsonl:16 both have the doc_id '0'"
    with pytest.raises(CorpusFailed, match=r"c/7\.md and c/z\.jsonl:1 both have the doc_id '7\.md'"):
        items(tmp_path, {"a.jsonl": lines({"id": "a", "text": "a"})})


def test_an_empty_twin_is_no_document_and_does_no_harm(tmp_path: Path) -> None:
    for name, text in {"a/x/__init__.py": "", "b/x/__init__.py": "", "a/x/m.py": "x = 1\n"}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    spec = CorpusSpec((tmp_path / "a", tmp_path / "b"))
    found = list(Reading(snapshot(spec, None, LATER), spec))
    assert [getattr(item, "reason", item.source) for item in found] == ["empty", "empty", "a/x/m.py"]
    (tmp_path / "b" / "x" / "m.py").write_text("x = 2\n")
    with pytest.raises(CorpusFailed, match=r"a/x/m.py and b/x/m.py"):
        list(Reading(snapshot(spec, None, LATER), spec))


def test_ids_that_only_look_alike_are_different_documents(tmp_path: Path) -> None:
    ids = ["a", "A", "a ", "é", "e\u0301", "a\u200b"]
    found = items(tmp_path, {"r.jsonl": lines(*({"id": i, "text": "same"} for i in ids))})
    assert len(documents(found)) == len(ids)


def test_the_identity_of_a_reading_names_the_readers_in_use(tmp_path: Path) -> None:
    items(tmp_path, {"r.jsonl.gz": gzip.compress(lines({"text": "x"}).encode()), "a.md": "x"})
    spec = CorpusSpec((tmp_path / "c",), text_column=("text",))
    identity = reading_identity(snapshot(spec, None, LATER), spec)
    assert identity == {**spec.identity(), "readers": ["jsonl/1", "markdown/1"]}


def test_the_json_suite_parses_what_must_parse_and_refuses_what_must_not(datasets: Path) -> None:
    with tarfile.open(datasets / "hostile-text" / "JSONTestSuite-test_parsing.tar.gz") as suite:
        files = {member.name.rpartition("/")[2]: suite.extractfile(member) for member in suite if member.isfile()}
        cases = {name: file.read() for name, file in files.items() if file is not None}
    assert len(cases) == 318
    # Ours is stricter: one object a line, no key twice, no lone surrogates.
    refused: dict[str, str] = {}
    for name, data in cases.items():
        line = data if name.startswith("n_") else b'{"x": ' + data.replace(b"\n", b" ") + b"}"
        try:
            jsonl.parse(line)
        except Unreadable as verdict:
            refused[name] = verdict.reason
    assert set(refused.values()) <= {"json", "encoding", "nesting", "surrogates", "binary"}
    assert {name for name in cases if name.startswith("n_")} <= set(refused)
    assert all("duplicated_key" in name for name in refused if name.startswith("y_"))


def test_every_naughty_string_is_a_text_an_id_a_title_and_metadata(datasets: Path, tmp_path: Path) -> None:
    strings = json.loads((datasets / "hostile-text" / "blns.json").read_text())
    distinct = sorted({text for text in strings if text.strip()})
    rows = [
        {"id": text, "text": text, "title": text, "meta": text, text: 1}
        for text in distinct
        if text not in {"id", "text", "title", "meta"}
    ]
    found = items(tmp_path, {"r.jsonl": lines(*rows)})
    assert len(found) == len(documents(found)) == len(rows) > 450
    by_id = {document.doc_id: document for document in documents(found)}
    for row in rows:
        document = by_id[str(row["id"])]
        assert document.text == row["text"]
        assert document.metadata["meta"] == row["text"]


def test_deep_values_of_other_formats_are_refused(tmp_path: Path) -> None:
    deep: Any = 1
    for _ in range(100):
        deep = [deep]
    with pytest.raises(Unreadable, match="nested"):
        plain(deep, 64, itertools.count())


def test_values_of_all_parsers_become_json_in_one_way() -> None:
    given = {
        "nan": math.nan,
        "inf": -math.inf,
        "raw": b"\x00",
        "set": {"b", "a"},
        "at": dt.time(9, 5),
        3: Decimal("1.5"),
    }
    expected = {"nan": None, "inf": "-inf", "raw": "AA==", "set": ["a", "b"], "at": "09:05:00", "3": 1.5}
    assert plain(given, 2, itertools.count()) == expected
    with pytest.raises(Unreadable, match="too many parts"):
        plain([1] * 10, 2, iter(range(10)))


@pytest.mark.slow
def test_many_records_out_of_order_take_little_memory(tmp_path: Path) -> None:
    import tracemalloc

    (tmp_path / "c").mkdir()
    with (tmp_path / "c" / "big.jsonl").open("w") as file:
        for number in range(20_000):
            file.write(
                json.dumps({"id": f"{(number * 7919) % 100_003:06d}", "text": "words and more words " * 200}) + "\n"
            )
    spec = CorpusSpec((tmp_path / "c",))
    taken = snapshot(spec, None, LATER)
    tracemalloc.start()
    count, before = 0, ""
    for item in Reading(taken, spec, tmp_path):
        assert isinstance(item, Document)
        assert item.doc_id > before
        before = item.doc_id
        count += 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 20_000
    assert peak < 20_000_000


def test_a_parquet_file_that_is_broken_or_names_a_column_twice_is_one_row_with_its_reason(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table([pa.array(["a"]), pa.array(["b"])], names=["text", "text"]), tmp_path / "twice.parquet")
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "twice.parquet").read_bytes()[:-9])
    (tmp_path / "empty.parquet").touch()
    (tmp_path / "ok.md").write_text("fine")
    spec = CorpusSpec((tmp_path,))
    found = [item for item in Reading(snapshot(spec, None, 4 * 10**18), spec) if isinstance(item, Excluded)]
    reasons = {item.source.rpartition("/")[2]: item.reason for item in found}
    assert reasons == {"twice.parquet": "columns", "cut.parquet": "broken", "empty.parquet": "broken"}
    assert any("columns with the same name: 'text'" in item.detail for item in found)
