"""The newcomer's file: a table with a question and an answer, under the names that are usual for them."""

from __future__ import annotations

from collections.abc import Iterable

from eval.datasets.draft import Draft
from eval.datasets.files import Content
from eval.datasets.layout import Layout, Rows, read_rows, simple
from eval.datasets.tell import Tell

QUESTION = ("question", "query", "input", "user_input", "prompt")
ANSWERS = (
    "expected_answer",
    "expected_answers",
    "expected",
    "answer",
    "answers",
    "ground_truth",
    "ground_truths",
    "reference",
    "reference_answer",
    "expected_output",
    "golden_answer",
    "ideal",
)
IDS = ("question_id", "id", "_id", "qid", "query_id")
_ANSWERABLE = ("answerable", "is_answerable")
_IMPOSSIBLE = ("is_impossible", "unanswerable")
_CONTEXTS = ("reference_contexts", "contexts", "context")
_DOCUMENTS = ("gold_doc_ids", "gold_doc_id", "doc_ids", "doc_id")


def tells(content: Content) -> Tell:
    """A column of questions; any marker of another format weighs more."""
    names = {simple(name) for name in content.columns}
    return Tell.POSSIBLE if names & {*QUESTION} else Tell.NO


def read(content: Content, draft: Draft) -> None:
    """Every row is a question."""
    read_table(content, content.rows, draft)


def read_table(content: Content, rows: Rows, draft: Draft) -> None:
    """Rows under the usual names. A part that two columns claim is one mistake for the whole file."""
    names = dict.fromkeys(name for _, row in rows for name in row)
    questions = [name for name in names if simple(name) in QUESTION]
    answers = [name for name in names if simple(name) in ANSWERS]
    for part, found in (("the question", questions), ("the expected answer", answers)):
        if len(found) > 1:
            listed = " and ".join(map(repr, found))
            draft.mistake(str(content.path), f"{listed} could each be {part}", "rename or remove all but one of them")
    if not questions:
        draft.mistake(str(content.path), "no column holds the question", f"name it one of {', '.join(QUESTION)}")
        return
    layout = Layout(
        questions[0],
        question_id=_first(names, IDS),
        answers=answers[0] if answers else None,
        answerable=_first(names, _ANSWERABLE),
        impossible=_first(names, _IMPOSSIBLE),
        contexts=_first(names, _CONTEXTS),
        documents=_first(names, _DOCUMENTS),
    )
    parts = {"question": layout.question, "answers": layout.answers, "question_id": layout.question_id}
    parts |= {"answerable": layout.answerable or layout.impossible}
    parts |= {"contexts": layout.contexts, "gold documents": layout.documents}
    draft.notes.append("read as " + ", ".join(f"{part}: {name}" for part, name in parts.items() if name))
    read_rows(content, rows, layout, draft)


def _first(names: Iterable[str], usual: tuple[str, ...]) -> str | None:
    found = [name for name in names if simple(name) in usual]
    return min(found, key=lambda name: usual.index(simple(name)), default=None)
