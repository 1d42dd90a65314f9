"""What the run was made with, and how any number of the page is traced to its rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from eval.report.head import part
from eval.report.load import Run
from eval.report.markup import Child, Column, Group, Html, folded, section, table, tag
from eval.report.numbers import UNKNOWN, count, size

_LONG = 600
"""Characters of one setting that are shown."""


def settings(run: Run) -> Html:
    """Everything folded but one sentence."""
    command = " ".join(map(str, run.about.get("command") or ()))
    fingerprint = run.about.get("fingerprint")
    return section(
        "settings",
        "Settings",
        tag("p", "Made by ", tag("code", command), ".") if command else None,
        tag("p", "Fingerprint ", tag("code", str(fingerprint)), ": runs with the same one give the same figures.")
        if fingerprint
        else None,
        folded("All settings", _named("Settings as resolved", _flat(run.about.get("settings")))),
        folded("Index, data set, corpus and code", _named("What was asked", _asked(run))),
        folded("Models and prompts", _objects("Models", run, "models"), _objects("Prompts", run, "prompts")),
        folded("Measures and their versions", _objects("Measures", run, "measures")),
    )


def trace(run: Run) -> Html:
    """Where each number comes from."""
    name = str(run.about.get("run_id") or run.folder.name)
    steps = (
        "A mean of this page is a row of summary.parquet: arm, measure, slice_tag and slice_value name it.",
        "It is the mean of value in scores.parquet over the rows of that arm and measure with status 'scored'.",
        "question_id, arm and repeat lead from there to questions.parquet: the answer, its cause, the exact prompt.",
        "The same three lead to retrieved.parquet: every passage with its rank, scores, span, grade and text.",
        "doc_id, char_start and char_end are a place in a document of the index version named above.",
    )
    query = (
        "SELECT question_id, value, answer, cause\n"
        "FROM 'scores.parquet' JOIN 'questions.parquet' USING (question_id, arm, repeat)\n"
        f"WHERE measure = '{run.answer_measure or (run.measures or ('Contains',))[0]}' AND arm = '{run.main}'\n"
        "ORDER BY value, question_id;"
    )
    return section(
        "trace",
        "How to trace a number",
        tag("ol", *(tag("li", step) for step in steps)),
        tag("p", "In DuckDB, in the folder ", tag("code", name), ":"),
        tag("pre", query),
        tag("p", "The same for one question: ", tag("code", f"ragline show {name} QUESTION"), "."),
        tag("div", _tables(run), class_="scroll"),
    )


def _tables(run: Run) -> Html:
    rows: list[list[Child]] = [
        [
            tag("code", str(each.get("file"))),
            count(each.get("rows")),
            size(int(each.get("bytes") or 0)),
            str(each.get("schema_version")),
            tag("code", str(each.get("sha256")), class_="digest"),
        ]
        for each in run.about.get("tables") or ()
    ]
    heads = [Column("File"), *(Column(each, "num") for each in ("Rows", "Size", "Schema")), Column("sha256", "note")]
    return table("Files of this run", heads, [Group(None, rows)])


def _asked(run: Run) -> Iterator[tuple[str, str]]:
    for name in ("index", "dataset", "corpus", "git"):
        yield from _flat(part(run, name), name)
    for name in ("search_depth", "seed", "repeats", "created_at", "finished_at", "schema_version"):
        yield from _flat(run.about.get(name), name)


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Nested values as lines: `retrieval.k`, `5`."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list) and any(isinstance(each, dict) for each in value):
        for at, inner in enumerate(value):
            yield from _flat(inner, f"{name}[{at}]")
    else:
        yield name, _plain(value)


def _named(caption: str, lines: Iterator[tuple[str, str]]) -> Html:
    rows: list[list[Child]] = [[tag("code", name), value] for name, value in lines]
    return table(caption, [Column("Name"), Column("Value", "note")], [Group(None, rows)], "list")


def _objects(caption: str, run: Run, name: str) -> Html:
    found = [each for each in run.about.get(name) or () if isinstance(each, dict)]
    heads = list(dict.fromkeys(key for each in found for key in each)) or ["none"]
    rows: list[list[Child]] = [[_plain(each.get(key)) for key in heads] for each in found]
    return table(caption, [Column(each, "note") for each in heads], [Group(None, rows)], "list")


def _plain(value: Any) -> str:
    if value is None:
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= _LONG else f"{text[:_LONG]} \N{HORIZONTAL ELLIPSIS} ({count(len(text) - _LONG)} more)"
