"""Formats that are recognised and not read: each with the way to a form that is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from eval.datasets.files import Content

_CANONICAL = "write canonical rows (docs/datasets.md):"


@dataclass(frozen=True, slots=True)
class Known:
    """A format by the names that it alone has."""

    name: str
    columns: frozenset[str]
    """All of them are there."""
    recipe: str
    kind: str = ""
    """The only kind of file that it is; empty for any."""


def _row(name: str, columns: str, recipe: str, kind: str = "") -> Known:
    return Known(name, frozenset(columns.split()), recipe, kind)


KNOWN: tuple[Known, ...] = (
    _row(
        "HotpotQA or 2WikiMultihopQA",
        "question answer supporting_facts context",
        f"{_CANONICAL} _id as question_id, answer in answers, the title of each supporting fact in grades with 1, type and"
        " level as tags; the paragraphs of context, title as id, are the corpus",
    ),
    _row(
        "MuSiQue",
        "paragraphs question_decomposition question",
        f"{_CANONICAL} id as question_id, answer and answer_aliases in answers, each paragraph that is_supporting in grades"
        " with 1; the paragraphs are the corpus",
    ),
    _row(
        "MultiHop-RAG",
        "query answer evidence_list",
        f"{_CANONICAL} query as question, answer in answers, the url or title of each piece of evidence in grades with 1,"
        " question_type as a tag",
    ),
    _row(
        "RGB",
        "query answer positive negative",
        f"{_CANONICAL} query as question, answer in answers, positive in contexts; positive and negative are the corpus",
    ),
    _row(
        "AutoRAG",
        "query retrieval_gt generation_gt",
        f"{_CANONICAL} qid as question_id, query as question, generation_gt in answers, the doc_ids of retrieval_gt in"
        " grades with 1; corpus.parquet is read as it is, with --set corpus.text_column=contents",
    ),
    _row(
        "FlashRAG",
        "question golden_answers",
        "rename golden_answers to answers: then it is a table, and metadata becomes tags",
    ),
    _row(
        "DeepEval",
        "input actual_output expected_output",
        "leave out actual_output and retrieval_context, which are a system's: then it is a table",
    ),
    _row(
        "DeepEval",
        "input expected_output retrieval_context",
        "leave out actual_output and retrieval_context, which are a system's: then it is a table",
    ),
    _row(
        "LangSmith",
        "inputs outputs",
        "write a table: the question of inputs as question, the answer of outputs as expected_answer, metadata as it is",
    ),
    _row(
        "Langfuse",
        "input expectedOutput",
        "rename expectedOutput to expected_output, and make input the text of the question: then it is a table",
    ),
    _row(
        "MTRAG",
        "task_id input targets contexts",
        f"{_CANONICAL} task_id as question_id, the last turn or its rewritten form as question, the text of targets in"
        " answers, the document_id of each of contexts in grades with 1",
    ),
    _row(
        "FinanceBench",
        "financebench_id question answer",
        f"{_CANONICAL} financebench_id as question_id, answer in answers, doc_name in grades with 1, evidence_text in contexts",
    ),
    _row("HAGRID", "query quotes answers", f"{_CANONICAL} query as question, the text of answers, quotes in contexts"),
    _row("ALCE", "question qa_pairs docs", f"{_CANONICAL} the short answers of qa_pairs in answers, docs in contexts"),
    _row(
        "open-rag-eval",
        "query_id query generated_answer",
        "it holds what a system answered and no expected answers: write query as question, with an expected_answer",
    ),
    _row(
        "OpenAI Evals samples",
        "input ideal",
        "make input, a list of messages, the text of the last one: then it is a table",
        "messages",
    ),
    _row("promptfoo", "__expected", "rename __expected to expected_answer, without `equals:` or `contains:`"),
    _row(
        "promptfoo",
        "tests",
        "write a table: the question of vars as question, the value of each equals or contains as expected_answer",
    ),
    _row(
        "promptfoo",
        "vars assert",
        "write a table: the question of vars as question, the asserted value as expected_answer",
    ),
    _row(
        "RAGChecker",
        "results",
        "write a table of its results: query_id, query, gt_answer as expected_answer; the rest is a system's",
    ),
    _row(
        "LlamaIndex rag_dataset",
        "examples",
        "write a table of its examples: query, reference_answer, reference_contexts",
    ),
    _row(
        "the questions of a folder with passages",
        "question gold_passage_id",
        "name the folder, which holds its passages",
    ),
)
"""The first that fits is named."""

PARTS: tuple[Known, ...] = (
    _row("judgements alone", "query-id corpus-id score", "name the folder of the set, which holds queries and qrels"),
    _row("queries or a corpus alone", "text", "name the folder of the set, which holds corpus, queries and qrels"),
)
"""Files of a set that is a folder, where nothing else fits."""


def part(content: Content) -> Known | None:
    """The part of a set that a file is recognised as."""
    return next((each for each in PARTS if each.columns <= content.columns), None)


def known(content: Content) -> Known | None:
    """The format that a file is recognised as, of those that are not read."""
    by_kind = {
        "qrels": Known("TREC judgements (qrels)", frozenset(), "name the folder that holds them with their queries"),
        "run": Known("a TREC run", frozenset(), "`ragline score QRELS RUN` scores it"),
        "topics": Known("TREC topics", frozenset(), "name the folder that holds them with their qrels"),
    }
    if content.kind in by_kind:
        return by_kind[content.kind]
    if content.kind == "yaml":
        return next(each for each in KNOWN if each.name == "promptfoo" and each.columns == {"tests"})
    names = content.columns
    if _kilt(content):
        recipe = f"{_CANONICAL} input as question, each answer of output in answers, wikipedia_id of provenance in grades with 1"
        return Known("KILT", frozenset(), recipe)
    fitting = (each for each in KNOWN if each.columns <= names)
    return next((each for each in fitting if not each.kind or _messages(content)), None)


def _kilt(content: Content) -> bool:
    outputs = (row.get("output") for _, row in content.rows[:20])
    return {"input", "output"} <= content.columns and any(
        isinstance(item, dict) and ("provenance" in item or "answer" in item) for item in _items(outputs)
    )


def _messages(content: Content) -> bool:
    return any(isinstance(row.get("input"), list) for _, row in content.rows[:20])


def _items(lists: Iterator[Any]) -> Iterator[Any]:
    for each in lists:
        yield from each if isinstance(each, list) else ()
