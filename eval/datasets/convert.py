"""Any set in the canonical form, which holds all that was read of it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from eval.types import Dataset, Question
from rag.errors import UsageError
from rag.storage import create
from rag.storage import write as put


def write(dataset: Dataset, path: Path) -> None:
    """Write `.jsonl`, `.jsonl.gz` or `.parquet`; reading it back gives equal questions, their lines apart.

    Raises UsageError for another suffix, and where the set itself would be written over; StorageFailed.
    """
    name = path.name.lower()
    if path.exists() and path.resolve() in {each.resolve() for each in (dataset.path, *dataset.corpus)}:
        raise UsageError.at(str(path), f"{path} is what is being converted", "name another file")
    if name.endswith((".jsonl", ".jsonl.gz")):
        lines = (json.dumps(row(each), ensure_ascii=False) for each in dataset.questions)
        data = "".join(f"{line}\n" for line in lines).encode()
        # no time in the header: equal sets give equal bytes
        put(path, gzip.compress(data, mtime=0) if name.endswith(".gz") else data)
    elif name.endswith(".parquet"):
        _parquet(dataset, path)
    else:
        what = f"{path.name} does not say what to write"
        raise UsageError.at(str(path), what, "name a file that ends with .jsonl, .jsonl.gz or .parquet")


def row(question: Question) -> dict[str, Any]:
    """A question as a canonical row."""
    gold = [
        {"doc_id": each.doc_id, "start": each.start, "end": each.end, "quote": each.quote} for each in question.gold
    ]
    found: dict[str, Any] = {
        "question_id": question.question_id,
        "question": question.text,
        "answers": list(question.expected_answers),
        "answerable": question.answerable,
        "gold": gold,
        "about": question.about,
        "tags": dict(question.tags),
    }
    empty = question.answerable and not (question.expected_answers or gold or question.contexts)
    if question.grades or empty:
        found["grades"] = dict(question.grades)
    if question.contexts:
        found["contexts"] = list(question.contexts)
    return found


def _parquet(dataset: Dataset, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = pa.string()
    span = pa.struct([("doc_id", text), ("start", pa.int64()), ("end", pa.int64()), ("quote", text)])
    schema = pa.schema(
        [
            ("question_id", text),
            ("question", text),
            ("answers", pa.list_(text)),
            ("answerable", pa.bool_()),
            ("gold", pa.list_(span)),
            ("about", text),
            ("tags", pa.map_(text, text)),
            ("grades", pa.map_(text, pa.int64())),
            ("contexts", pa.list_(text)),
        ]
    )
    table = pa.Table.from_pylist([row(each) for each in dataset.questions], schema=schema)
    with create(path) as file:
        pq.write_table(table, file, compression="zstd", write_page_checksum=True)
