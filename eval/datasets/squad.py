"""SQuAD 1 and 2: nested as it was published, or flat with a question a row. The contexts become the corpus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from eval.datasets.contexts import Contexts, first_answer
from eval.datasets.draft import Draft, Record
from eval.datasets.files import Content
from eval.datasets.tags import tags_of
from eval.datasets.tell import Tell
from eval.types import Gold, Question

_PASSAGES = ("context", "passage")


def tells(content: Content) -> Tell:
    """Nested: paragraphs with qas. Flat: a passage, a question, and where its answers begin."""
    value = content.value
    data = value.get("data") if isinstance(value, dict) else None
    if isinstance(data, list) and data and all(isinstance(each, dict) and "paragraphs" in each for each in data):
        return Tell.CERTAIN
    names = content.columns
    if "question" not in names or not names & {*_PASSAGES}:
        return Tell.NO
    begun = "answer_starts" in names or any(_begun(row.get("answers")) for _, row in content.rows[:20])
    return Tell.CERTAIN if begun else Tell.NO


def _begun(answers: object) -> bool:
    if isinstance(answers, list):
        return any(isinstance(each, dict) and "answer_start" in each for each in answers)
    return isinstance(answers, dict) and "answer_start" in answers


def read(content: Content, draft: Draft) -> None:
    """Every question with the span of its first answer; one that is impossible is about its context."""
    draft.corpus = (content.path,)
    _walk(content, draft)


def corpus(content: Content) -> Iterator[dict[str, str]]:
    """The contexts as records: id, title, text."""
    return _walk(content, Draft(content.path)).records()


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question beside its context."""

    record: Record
    doc_id: str
    context: str
    title: str


def _walk(content: Content, draft: Draft) -> Contexts:
    contexts = Contexts()
    asked = list(_flat(content, contexts) if "question" in content.columns else _nested(content, contexts, draft))
    used = {"id", "question", "answers", "answer_starts", "answerable", "is_impossible", "plausible_answers"}
    used |= {*_PASSAGES, "passage_id"}
    rows = [{**each.record.values, "title": each.title} for each in asked]
    tags, notes = tags_of(rows, used)
    moved = 0
    for each, own in zip(asked, tags, strict=True):
        question, elsewhere = _question(each, own)
        moved += elsewhere
        draft.take(each.record, question)
    draft.notes += notes
    if moved:
        draft.notes.append(
            f"answers that stand elsewhere in their context than answer_start says: {moved:,}; found again"
        )
    return contexts


def _nested(content: Content, contexts: Contexts, draft: Draft) -> Iterator[_Asked]:
    for a, article in enumerate(content.value["data"]):
        title = article.get("title")
        title = title if isinstance(title, str) else ""
        for p, paragraph in enumerate(_list(article, "paragraphs")):
            where = f"{content.path} data[{a}].paragraphs[{p}]"
            context = paragraph.get("context") if isinstance(paragraph, dict) else None
            if not isinstance(context, str) or not context.strip():
                draft.mistake(where, "context is empty or not text")
                continue
            doc_id = contexts.doc_id(title, context)
            for q, qa in enumerate(_list(paragraph, "qas")):
                record = Record(f"{where}.qas[{q}]", 0, qa if isinstance(qa, dict) else {})
                yield _Asked(record, doc_id, context, title)


def _list(values: Mapping[str, Any], name: str) -> list[Any]:
    found = values.get(name)
    return found if isinstance(found, list) else []


def _flat(content: Content, contexts: Contexts) -> Iterator[_Asked]:
    for place, row in content.rows:
        record = Record(content.where(place), place, row)
        name = next((each for each in _PASSAGES if each in row), "context")
        context = record.text(name)
        title = next((row[each] for each in ("title", "article") if isinstance(row.get(each), str)), "")
        if row.get("passage_id") is None:
            doc_id = contexts.doc_id(title, context)
        else:
            doc_id = record.identifier("passage_id")
            if not contexts.named(doc_id, title, context):
                record.mistakes.append(f"passage {doc_id!r} has another text or title than above")
        yield _Asked(record, doc_id, context, title)


def _question(asked: _Asked, tags: Mapping[str, str]) -> tuple[Question, bool]:
    record = asked.record
    answers, starts = answers_of(record)
    values = record.values
    impossible = record.flag("is_impossible") if values.get("is_impossible") is not None else None
    answerable = record.flag("answerable") if values.get("answerable") is not None else None
    if impossible is None:
        impossible = not answers if answerable is None else not answerable
    gold: tuple[Gold, ...] = ()
    elsewhere = False
    if impossible and answers:
        record.mistakes.append("impossible, but with answers")
    elif not impossible and not answers and not record.mistakes:
        record.mistakes.append("answers is empty")
    elif answers and not record.mistakes:
        span = first_answer(asked.context, answers, starts)
        if span is None:
            record.mistakes.append(f"the context does not hold {answers[0]!r}")
        else:
            gold = (Gold(asked.doc_id, *span, asked.context[span[0] : span[1]]),)
            elsewhere = span[0] not in starts
    question = Question(
        question_id=record.identifier("id"),
        text=record.text("question"),
        expected_answers=tuple(dict.fromkeys(answers)),
        answerable=not impossible,
        gold=gold,
        tags=tags,
        about=asked.doc_id if impossible else None,
        line=record.line,
    )
    return question, elsewhere


def answers_of(record: Record) -> tuple[list[str], list[int]]:
    """Texts and where they begin: a list of {text, answer_start}, an object of two lists, or two columns."""
    found = record.values.get("answers")
    texts: Any = found if found is not None else []
    starts: Any = record.values.get("answer_starts", [])
    if isinstance(found, dict):
        texts, starts = found.get("text"), found.get("answer_start")
    elif isinstance(found, list) and found and all(isinstance(each, dict) for each in found):
        texts, starts = [each.get("text") for each in found], [each.get("answer_start") for each in found]
    good = isinstance(texts, list) and all(isinstance(each, str) and each.strip() for each in texts)
    if not good or not isinstance(starts, list) or not all(type(each) is int for each in starts):
        record.mistakes.append("answers is not a list of texts, each with the whole number at which it begins")
        return [], []
    if len(texts) != len(starts):
        record.mistakes.append(f"{len(texts)} answers, but {len(starts)} places where they begin")
        return [], []
    return texts, starts
