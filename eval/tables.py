"""The four tables of a run: every column with its type and meaning, and their one writer and reader.

Only types that pandas, Polars and DuckDB take alike; structure is a JSON string. A later SCHEMA_VERSION may add columns
at the end; none is ever renamed, retyped or taken away. The tables of docs/results.md are made from here.
"""

from __future__ import annotations

import contextlib
import hashlib
import operator
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from rag.digest import file_sha256
from rag.errors import Damaged, refuse_newer
from rag.storage import create
from rag.types import Json

SCHEMA_VERSION = 1
"""Of run.json and of every table."""
GROUP_ROWS = 8_192
"""Rows of a row group: always as many, so that equal rows are equal bytes."""
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001
Kind = Literal["string", "int64", "float64", "bool", "timestamp[us]"]
Row: TypeAlias = Mapping[str, Any]


class Column(NamedTuple):
    """One column. Volatile ones may differ between two runs of the same thing."""

    name: str
    kind: Kind
    says: str
    nullable: bool = False
    volatile: bool = False


def _text(name: str, says: str, *, nullable: bool = False, volatile: bool = False) -> Column:
    return Column(name, "string", says, nullable, volatile)


def _whole(name: str, says: str, *, nullable: bool = False) -> Column:
    return Column(name, "int64", says, nullable)


def _real(name: str, says: str, *, nullable: bool = False, volatile: bool = False) -> Column:
    return Column(name, "float64", says, nullable, volatile)


def _flag(name: str, says: str, *, volatile: bool = False) -> Column:
    return Column(name, "bool", says, volatile=volatile)


_RUN = _text("run_id", "the run, which is also the name of its folder", volatile=True)
_KEY = (
    _RUN,
    _text("question_id", "the question, as its dataset names it"),
    _text("arm", "what the generator was given: `retrieved` passages, the gold (`oracle`), nothing (`closed_book`)"),
    _whole("repeat", "0, 1, ...: which of the repeats"),
)
QUESTIONS = (
    *_KEY,
    _text("question", "its words"),
    _text("question_sha256", "of its words in UTF-8: equal texts are equal questions"),
    _text("status", "`ok`, `abstained`, `error`"),
    _text("error_type", "the error's class; null without one", nullable=True),
    _text("error_message", "what went wrong, without secrets; null without an error", nullable=True),
    _text("answer", "the answer; null after an error", nullable=True),
    _text("cause", "why it is wrong, see Causes; null where it is right or nobody can tell", nullable=True),
    _text("model", "the model that says it answered; null after an error", nullable=True),
    _text("prompt", "the exact messages that were sent; null where none was", nullable=True),
    _text("prompt_sha256", "of the prompt file that the messages were made from", nullable=True),
    _text("expected_json", '`["..."]`: answers that are equally right'),
    _text("gold_json", "`[{doc_id, start, end, quote, grade}]`: spans that prove it; judged documents without a span"),
    _text("citations_json", "`[{doc_id, start, end, quote}]`: what the answer cites"),
    _text("tags_json", "`{tag: value}` of the question"),
    _flag("answerable", "whether the corpus answers it"),
    _flag("abstained", "whether the answer is that nothing answers it"),
    _flag("answer_cached", "whether the completion came from the store of answers", volatile=True),
    _whole("gold_count", "gold spans; without spans, relevant documents"),
    _whole(
        "first_gold_rank", "rank of the first passage that holds gold, however deep; null: none does", nullable=True
    ),
    _whole("retrieved_count", "passages looked at: rows in `retrieved`"),
    _whole("prompt_passages", "the first so many of them were given to the generator"),
    _whole("input_tokens", "of the completion, also of a cached one"),
    _whole("output_tokens", "of the completion, also of a cached one"),
    _real("usd", "what this run paid for the completion; null: no price is known", nullable=True, volatile=True),
    _real("usd_saved", "what the cached completion had cost; null: no price is known", nullable=True, volatile=True),
    _real("retrieve_seconds", "spent on retrieval", volatile=True),
    _real("generate_seconds", "of the call that was paid, cached or not; null: none", nullable=True, volatile=True),
    _real("judge_seconds", "of its judge calls together; null: none", nullable=True, volatile=True),
    Column("asked_at_utc", "timestamp[us]", "when it was asked, UTC", volatile=True),
)
RETRIEVED = (
    *_KEY,
    _whole("rank", "1 is the best"),
    _real("score", "the final score, higher is better; of one question's ranking alone"),
    _whole("dense_rank", "its rank by vectors; null: not found there", nullable=True),
    _whole("lexical_rank", "its rank by words; null: not found there", nullable=True),
    _real("dense_score", "its score by vectors; null: not found there", nullable=True),
    _real("lexical_score", "its score by words; null: not found there", nullable=True),
    _text("chunk_id", "`doc_id@char_start-char_end`"),
    _text("doc_id", "its document"),
    _text("source", "the file of the document"),
    _text("heading_path", "`A > B`; empty where nothing stands above it"),
    _text("text", "its words"),
    _whole("char_start", "where it begins in the document, in code points from 0"),
    _whole("char_end", "where it ends, itself excluded"),
    _whole("tokens", "of the text as it was embedded"),
    _flag("judged", "whether anybody judged a document that it stands in"),
    _whole("grade", "the best grade of such a document; null: unjudged", nullable=True),
    _whole("gold_chars", "characters of gold that it covers, wherever its text stands"),
    _flag("in_prompt", "whether the generator was given it"),
    _flag("cited", "whether the answer cites it"),
)
SCORES = (
    *_KEY,
    _text("measure", "its name with settings and cutoff, as in docs/measures.md"),
    _real("value", "null unless scored; never NaN or infinite", nullable=True),
    _text("status", "`scored`, `unscored` (no usable verdict), `not_applicable`, `error`"),
    _text("reason", "the judge's reason, or why there is no value", nullable=True),
    _text("cluster_id", "questions that share gold share it: the first gold document, else the question_id"),
    _text("scored_by", "`ragline`, or the judge's model"),
)
SUMMARY = (
    _RUN,
    _text("run_name", "as given; empty without one"),
    _text("index_name", "the index that was asked"),
    _text("index_version", "`v000007`, or `experiment-` and its name"),
    _text("dataset", "the file of the question set"),
    _text("arm", "as in `questions`"),
    _text("measure", "as in `scores`"),
    _text("slice_tag", "a tag; `all` is the whole set (a tag of that name is `tag:all`)"),
    _text("slice_value", "the value of the tag; `all`"),
    _whole("n", "denominator of `mean`: scored values, repeats included"),
    _whole("unscored", "without a usable verdict: in no mean"),
    _whole("errors", "failed: not in `mean`, a 0 in `mean_errors_zero`"),
    _whole("clusters", "groups of questions that share gold, among those in `mean`"),
    _real("mean", "of the scored values; null without one", nullable=True),
    _real("low", "lower end of the interval of `mean`; null: no interval", nullable=True),
    _real("high", "upper end", nullable=True),
    _real("mean_errors_zero", "the mean with every error as 0", nullable=True),
    _real("confidence", "of the interval, 0.95"),
    _text("interval", "how it was made: `bootstrap_clustered`, or `none`"),
    _flag("higher_is_better", "false for rates of errors"),
    _flag("enough", "false: fewer than 20 clusters, too few to conclude"),
)
TABLES: Mapping[str, tuple[Column, ...]] = {
    "questions": QUESTIONS,
    "retrieved": RETRIEVED,
    "scores": SCORES,
    "summary": SUMMARY,
}


def volatile() -> list[str]:
    """Names of the columns that may differ between two runs of the same thing, each once."""
    return list(dict.fromkeys(column.name for columns in TABLES.values() for column in columns if column.volatile))


def schema(table: str) -> Any:
    """The pyarrow schema of a table."""
    import pyarrow as pa

    kinds = {
        "string": pa.string(),
        "int64": pa.int64(),
        "float64": pa.float64(),
        "bool": pa.bool_(),
        "timestamp[us]": pa.timestamp("us"),
    }
    fields = [pa.field(column.name, kinds[column.kind], nullable=column.nullable) for column in TABLES[table]]
    return pa.schema(fields, {"ragline.table": table, "ragline.schema_version": str(SCHEMA_VERSION)})


def write(folder: Path, table: str, rows: Iterable[Row]) -> dict[str, Json]:
    """Put `<table>.parquet` into the folder of a run; gives its line in run.json: file, schema_version, rows, bytes, sha256.

    Rows have exactly the columns of the table. Raises ValueError for a row with others, for a number that is not
    finite and for a null where none may be; StorageFailed.
    """
    import pyarrow.parquet as pq

    shape, path, remaining, count = schema(table), folder / f"{table}.parquet", iter(rows), 0
    with create(path, durable=False) as file:
        writer = pq.ParquetWriter(file, shape, compression="zstd", write_page_checksum=True)
        try:
            while block := list(islice(remaining, GROUP_ROWS)):
                writer.write_table(_built(table, shape, block), row_group_size=GROUP_ROWS)
                count += len(block)
        except BaseException:
            # the writer would complain about a file closed under it
            with contextlib.suppress(Exception):
                writer.close()
            raise
        writer.close()
    size = path.stat().st_size
    return {
        "file": path.name,
        "schema_version": SCHEMA_VERSION,
        "rows": count,
        "bytes": size,
        "sha256": file_sha256(path),
    }


def _built(table: str, shape: Any, rows: list[Row]) -> Any:
    import pyarrow as pa

    wanted = set(shape.names)
    if strange := next((row.keys() ^ wanted for row in rows if row.keys() != wanted), None):
        raise ValueError(f"a row of {table} lacks or adds {', '.join(sorted(strange))}")
    arrays = []
    for column in TABLES[table]:
        values = [row[column.name] for row in rows]
        valid = np.array([value is not None for value in values])
        if not column.nullable and not valid.all():
            raise ValueError(f"{table}.{column.name} is to hold a null")
        try:
            buffers = _buffers(column.kind, values)
        except ValueError as error:
            raise ValueError(f"{table}.{column.name} is to hold {error}") from error
        nulls = None if valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))
        arrays.append(pa.Array.from_buffers(shape.field(column.name).type, len(rows), [nulls, *buffers]))
    return pa.Table.from_arrays(arrays, schema=shape)


def _buffers(kind: Kind, values: list[Any]) -> list[Any]:
    """The values as Arrow lays them out, null ones empty. From a list pyarrow would first import pandas, which takes long."""
    import pyarrow as pa

    if kind == "string":
        texts = [b"" if value is None else _encoded(value) for value in values]
        offsets = np.concatenate([[0], np.cumsum([len(text) for text in texts], dtype=np.int64)])
        if offsets[-1] >= 1 << 31:
            raise ValueError("2 GB of text in one row group")
        return [pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(b"".join(texts))]
    if kind == "bool":
        return [pa.py_buffer(np.packbits(np.array(values, dtype=np.bool_), bitorder="little"))]
    if kind == "float64":
        reals = np.array([0.0 if value is None else value for value in values], dtype=np.float64)
        if not np.isfinite(reals).all():
            raise ValueError("a number that is not finite")
        return [pa.py_buffer(reals)]
    if kind == "timestamp[us]":
        values = [None if value is None else (value - _EPOCH) // timedelta(microseconds=1) for value in values]
    whole_numbers = [0 if value is None else operator.index(value) for value in values]
    return [pa.py_buffer(np.array(whole_numbers, dtype=np.int64))]


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        return whole(text).encode()


def whole(text: str) -> str:
    """The text with U+FFFD for what no file can hold: halves of surrogate pairs, which JSON lets models write."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def read(folder: Path, wanted: Mapping[str, Any]) -> Any:
    """The table of this line in run.json as a pyarrow table, checked byte for byte.

    Raises Damaged, FormatTooNew.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / str(wanted["file"])
    refuse_newer(path, wanted["schema_version"], SCHEMA_VERSION)
    try:
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != wanted["sha256"]:
            raise damaged(path, "its bytes do not match the sha256 in run.json")
        # not read_table, which imports pandas; and not by threads of Arrow's, one of which may still hold the bytes of
        # Python when the interpreter ends, and then takes the process down
        return pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True).read(use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise damaged(path, str(getattr(error, "strerror", None) or error)) from error


def damaged(path: Path, why: str) -> Damaged:
    """The error of a file of a run; every run stands alone, so that the others are as good as before."""
    what = f"{path} is damaged: {why}"
    return Damaged.at(
        str(path), what, "restore this run's folder from a copy, or remove it and run `ragline eval` again"
    )
