"""Ragas, both generations: `user_input, reference` (0.2 and later), and `question, ground_truth` (0.1).

A Ragas file mostly holds what some system answered and retrieved; that is not read, because it is asked again here.
"""

from __future__ import annotations

from eval.datasets.draft import Draft
from eval.datasets.files import Content
from eval.datasets.layout import Layout, read_rows
from eval.datasets.tell import Tell

_OF_SYSTEM = frozenset(
    {"response", "retrieved_contexts", "retrieved_context_ids", "multi_responses", "rubrics", "rubric"}
)
_OLD_TRUTHS = ("ground_truths", "ground_truth")
_MADE = {"evolution_type", "episode_done"}
"""Columns of the test sets that Ragas 0.1 made itself."""


def tells(content: Content) -> Tell:
    """By the names that only Ragas gives; what an `answer` beside a ground truth is, names alone do not say."""
    names = content.columns
    if "user_input" in names:
        own = names & (_OF_SYSTEM | {"reference", "reference_contexts", "reference_context_ids"})
        return Tell.CERTAIN if own else Tell.NO
    if "question" not in names:
        return Tell.NO
    truth = bool(names & {*_OLD_TRUTHS})
    if truth and ("contexts" in names or names & _MADE):
        return Tell.CERTAIN
    return Tell.POSSIBLE if "answer" in names and (truth or "contexts" in names) else Tell.NO


def read(content: Content, draft: Draft) -> None:
    """`reference` or the ground truth is the expected answer."""
    names = content.columns
    given = {name: name for name in names}.get
    name = given("question_id") or given("id")
    if "user_input" in names:
        layout = Layout(
            "user_input",
            question_id=name,
            answers=given("reference"),
            contexts=given("reference_contexts"),
            documents=given("reference_context_ids"),
            unread=_OF_SYSTEM,
        )
        draft.notes.append(
            "Ragas 0.2 and later: `reference` is the expected answer; response and retrieved_contexts are not read"
        )
    else:
        made = "answer" not in names
        layout = Layout(
            "question",
            question_id=name,
            answers=next(filter(None, map(given, _OLD_TRUTHS)), None),
            # beside the answer of a system they are what it retrieved, which proves nothing
            contexts=given("contexts") if made else None,
            unread=frozenset({"answer", "contexts", *_OLD_TRUTHS}),
        )
        held = "contexts prove it" if made else "answer and contexts are a system's and not read"
        draft.notes.append(f"Ragas 0.1: the ground truth is the expected answer; {held}")
    read_rows(content, content.rows, layout, draft)
