"""CLAPNQ: a question, the passage that holds or does not hold its answer, and long answers made of its sentences."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from eval.datasets.contexts import Contexts
from eval.datasets.draft import Draft, Record
from eval.datasets.files import Content
from eval.datasets.tags import tags_of
from eval.datasets.tell import Tell
from eval.types import Gold, Question


def tells(content: Content) -> Tell:
    """`input`, `passages` and `output` together."""
    return Tell.CERTAIN if {"input", "passages", "output"} <= content.columns else Tell.NO


def read(content: Content, draft: Draft) -> None:
    """A question without an answer in its output is about its passage."""
    draft.corpus = (content.path,)
    _walk(content, draft)


def corpus(content: Content) -> Iterator[dict[str, str]]:
    """The passages as records: id, title, text."""
    return _walk(content, Draft(content.path)).records()


def _walk(content: Content, draft: Draft) -> Contexts:
    contexts = Contexts()
    tags, notes = tags_of([row for _, row in content.rows], ("id", "input", "passages", "output", "answerable"))
    lost = 0
    for (place, row), own in zip(content.rows, tags, strict=True):
        record = Record(content.where(place), place, row)
        passages = _passages(record, contexts)
        outputs = [each for each in _objects(record, "output") if each.get("answer")]
        answers = [Record(record.where, place, each).text("answer") for each in outputs]
        sentences = outputs[0].get("selected_sentences") if outputs else []
        gold = _gold(passages, sentences if isinstance(sentences, list) else [])
        lost += bool(outputs) and not gold
        if outputs and row.get("answerable") is False:
            record.mistakes.append("not answerable, but output holds an answer")
        elif not outputs and row.get("answerable") is True:
            record.mistakes.append("answerable, but output holds no answer")
        question = Question(
            question_id=record.identifier("id"),
            text=record.text("input"),
            expected_answers=tuple(dict.fromkeys(answers)),
            answerable=bool(outputs),
            gold=gold,
            tags=own,
            about=passages[0][0] if passages and not outputs else None,
            grades={doc_id: 1 for doc_id, _ in passages} if outputs and not gold else {},
            line=place,
        )
        draft.take(record, question)
    draft.notes += notes
    if lost:
        draft.notes.append(f"answers that name no sentence of their passage: {lost:,}; the whole passage is their gold")
    return contexts


def _objects(record: Record, name: str) -> list[dict[str, Any]]:
    found = record.values.get(name)
    if isinstance(found, list) and all(isinstance(each, dict) for each in found):
        return found
    record.mistakes.append(f"{name} is not a list of objects")
    return []


def _passages(record: Record, contexts: Contexts) -> list[tuple[str, str]]:
    found = []
    for each in _objects(record, "passages"):
        title, text = each.get("title"), each.get("text")
        if isinstance(title, str) and isinstance(text, str) and text.strip():
            found.append((contexts.doc_id(title, text), text))
        else:
            record.mistakes.append("a passage has no title or no text")
    return found


def _gold(passages: list[tuple[str, str]], sentences: list[Any]) -> tuple[Gold, ...]:
    """The sentences that the first answer was made of, neighbours joined; none where one of them is not found."""
    spans: list[tuple[str, int, int]] = []
    texts = dict(passages)
    for sentence in sentences:
        hit = next(((doc_id, at) for doc_id, text in passages if (at := text.find(str(sentence))) >= 0), None)
        if hit is None or not sentence:
            return ()
        spans.append((*hit, hit[1] + len(sentence)))
    joined: list[tuple[str, int, int]] = []
    for doc_id, start, end in sorted(set(spans)):
        if joined and joined[-1][0] == doc_id and not texts[doc_id][joined[-1][2] : start].strip():
            joined[-1] = (doc_id, joined[-1][1], max(end, joined[-1][2]))
        else:
            joined.append((doc_id, start, end))
    return tuple(Gold(doc_id, start, end, texts[doc_id][start:end]) for doc_id, start, end in joined)
