"""A folder of questions and the passages that they were written for: `questions` and `passages`."""

from __future__ import annotations

from eval.datasets.contexts import first_answer
from eval.datasets.draft import Draft, Record
from eval.datasets.files import Content, content
from eval.datasets.folder import Folder
from eval.datasets.squad import answers_of
from eval.datasets.tags import tags_of
from eval.datasets.tell import Tell
from eval.types import Gold, Question

_USED = ("id", "question_id", "question", "answerable", "answers", "answer_starts", "gold_passage_id")


def tells(folder: Folder) -> Tell:
    """Both files are there."""
    return Tell.CERTAIN if folder.role("questions") and folder.role("passages") else Tell.NO


def read(folder: Folder, draft: Draft, qrels: str | None) -> None:  # noqa: ARG001 - the signature of all folders
    """The first answer is a span of its passage; an unanswerable question is about the passage that looks right."""
    passages: dict[str, str] = {}
    for path in folder.role("passages"):
        _read_passages(content(path), passages, draft)
    draft.corpus = folder.role("passages")
    for path in folder.role("questions"):
        found = content(path)
        draft.read(found)
        tags, notes = tags_of([row for _, row in found.rows], _USED)
        draft.notes += notes
        for (place, row), own in zip(found.rows, tags, strict=True):
            record = Record(found.where(place), place, row)
            draft.take(record, _question(record, passages, own))


def _read_passages(found: Content, texts: dict[str, str], draft: Draft) -> None:
    draft.read(found)
    for place, row in found.rows:
        record = Record(found.where(place), place, row)
        name = record.identifier("id" if "id" in row else "_id")
        text = record.text("text")
        if name in texts:
            record.mistakes.append(f"passage {name!r} stands above already")
        for what in record.mistakes:
            draft.mistake(record.where, what)
        texts[name] = text


def _question(record: Record, passages: dict[str, str], tags: dict[str, str]) -> Question:
    answers, starts = answers_of(record) if record.values.get("answer_starts") is not None else ([], [])
    if not answers and not record.empty("answers"):
        answers = list(record.texts("answers"))
    answerable = record.flag("answerable") if "answerable" in record.values else bool(answers)
    passage = record.identifier("gold_passage_id") if not record.empty("gold_passage_id") else ""
    if passage and passage not in passages:
        record.mistakes.append(f"there is no passage {passage!r}")
    if answerable and not answers and not record.mistakes:
        record.mistakes.append("answerable, but answers is empty")
    if not answerable and answers:
        record.mistakes.append("not answerable, but with answers")
    gold: tuple[Gold, ...] = ()
    if answerable and starts and passage and not record.mistakes:
        span = first_answer(passages[passage], answers, starts)
        if span is None:
            record.mistakes.append(f"passage {passage!r} does not hold {answers[0]!r}")
        else:
            gold = (Gold(passage, *span, passages[passage][span[0] : span[1]]),)
    return Question(
        question_id=record.identifier("question_id" if "question_id" in record.values else "id"),
        text=record.text("question"),
        expected_answers=tuple(dict.fromkeys(answers)),
        answerable=answerable,
        gold=gold,
        tags=tags,
        about=passage or None if not answerable else None,
        grades={passage: 1} if answerable and passage and not gold else {},
        line=record.line,
    )
