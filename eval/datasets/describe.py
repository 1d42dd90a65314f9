"""What a question set holds, and which measures that allows."""

from __future__ import annotations

import collections
from typing import Any

from eval.types import Dataset


def describe(dataset: Dataset) -> dict[str, Any]:
    """The set as JSON: its format, counts of its questions, tags with their values, families of measures, notes.

    `measures` says for each family whether a single question gives it something to work on; what a judge measures
    needs a judge's model besides.
    """
    questions = dataset.questions
    counts = {
        "questions": len(questions),
        "answerable": sum(each.answerable for each in questions),
        "unanswerable": sum(not each.answerable for each in questions),
        "with_judged_documents": sum(bool(each.judgements) for each in questions),
        "with_graded_documents": sum(bool(each.grades) for each in questions),
        "with_gold_spans": sum(bool(each.gold) for each in questions),
        "with_answers": sum(bool(each.expected_answers) for each in questions),
        "with_contexts": sum(bool(each.contexts) for each in questions),
    }
    tags: dict[str, collections.Counter[str]] = {}
    for each in questions:
        for tag, value in each.tags.items():
            tags.setdefault(tag, collections.Counter())[value] += 1
    return {
        "path": str(dataset.path),
        "format": dataset.format,
        "sha256": dataset.sha256,
        **counts,
        "tags": {tag: dict(values.most_common()) for tag, values in tags.items()},
        "measures": {
            "ranking": counts["with_judged_documents"] > 0,
            "span": counts["with_gold_spans"] > 0,
            "answer": counts["with_answers"] > 0,
            "abstention": counts["unanswerable"] > 0,
            "citation": counts["with_gold_spans"] > 0,
            "judged": counts["questions"] > 0,
        },
        "corpus": [str(path) for path in dataset.corpus],
        "notes": list(dataset.notes),
    }
