"""Gold against the index that is asked: its documents are there, and its quotes stand where their offsets say."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

from eval.datasets.contexts import nearest
from eval.datasets.corpus import corpus_records
from eval.types import Dataset, Failure, Gold, Question
from rag.errors import Problem, UsageError

GONE = "QuoteGone"
_SHOWN = 50


@dataclass(frozen=True, slots=True)
class Resolved:
    """A set whose gold holds in one index."""

    questions: tuple[Question, ...]
    """All of them, in their order; gold that moved is where it stands now."""
    failures: Mapping[str, Failure]
    """By question_id: those that have a quote which their document does not hold any more."""
    notes: tuple[str, ...]
    """What moved, and what is judged without being in the index."""


def resolve(dataset: Dataset, texts: Callable[[Collection[str]], Mapping[str, str]]) -> Resolved:
    """Find the gold of every question in the documents of an index.

    Parameters
    ----------
    dataset
        The questions that will be asked.
    texts
        The text of those of these documents that the index holds.

    A quote that stands elsewhere is taken from where it is nearest to its old place, also where only its white space
    changed. A judged document without text, which no index can hold, stays judged: it counts as not found, as trec_eval
    has it.

    Raises UsageError, naming the question of each (the first 50), for gold documents that the index does not hold.
    """
    wanted = {doc_id for each in dataset.questions for doc_id in _documents(each)}
    held = texts(wanted)
    missing = wanted - held.keys()
    empty = _empty(dataset, missing)
    _refuse_missing(dataset, missing - empty)
    questions, failures, moved = [], {}, 0
    for question in dataset.questions:
        found = [_found(gold, held[gold.doc_id]) for gold in question.gold]
        gone = [gold for gold, now in zip(question.gold, found, strict=True) if now is None]
        if gone:
            failures[question.question_id] = Failure(GONE, _gone(dataset, question, gone))
            questions.append(question)
            continue
        now = tuple(each for each in found if each is not None)
        moved += now != question.gold
        questions.append(replace(question, gold=now))
    notes = []
    if moved:
        notes.append(f"questions whose quotes moved in their documents: {moved:,}; found again")
    if empty:
        notes.append(f"judged documents without text, which no index holds: {len(empty):,}, such as {min(empty)!r}")
    return Resolved(tuple(questions), failures, tuple(notes))


def _documents(question: Question) -> set[str]:
    """The documents that a right ranking finds; one that is judged not relevant may be anywhere."""
    return {doc_id for doc_id, grade in question.judgements.items() if grade > 0} | {
        each.doc_id for each in question.gold
    }


def _empty(dataset: Dataset, missing: Collection[str]) -> set[str]:
    """Those of the missing documents that the set's own corpus has, without a text."""
    if not missing or not dataset.corpus:
        return set()
    return {row["id"] for row in corpus_records(dataset) if row["id"] in missing and not row["text"].strip()}


def _refuse_missing(dataset: Dataset, missing: Collection[str]) -> None:
    if not missing:
        return
    remedy = "index the corpus that the questions were written for"
    if dataset.corpus:
        remedy += ", which comes with them: --corpus-from-dataset"
    problems = [
        Problem(place(dataset, question), f"its document {doc_id!r} is not in the index", remedy)
        for question in dataset.questions
        for doc_id in sorted(_documents(question) & {*missing})
    ]
    what = f"{len(missing):,} gold documents are not in the index; the first: {problems[0].what}"
    raise UsageError(what, problems[:_SHOWN])


def place(dataset: Dataset, question: Question) -> str:
    """Where a question stands, for messages: `set.jsonl:12 (q-7)`."""
    return f"{dataset.path}{f':{question.line}' if question.line else ''} ({question.question_id})"


def _found(gold: Gold, text: str) -> Gold | None:
    if text[gold.start : gold.end] == gold.quote:
        return gold
    at = nearest(text, gold.quote, gold.start)
    if at is not None:
        return Gold(gold.doc_id, at, at + len(gold.quote), gold.quote)
    words = gold.quote.split()
    matches = re.finditer(r"\s+".join(map(re.escape, words)), text) if words else ()
    match = min(matches, key=lambda each: abs(each.start() - gold.start), default=None)
    return Gold(gold.doc_id, match.start(), match.end(), match[0]) if match else None


def _gone(dataset: Dataset, question: Question, gone: Collection[Gold]) -> str:
    listed = "; ".join(f"{each.doc_id!r} does not hold {_short(each.quote)!r} any more" for each in gone)
    return f"{place(dataset, question)}: {listed}"


def _short(quote: str) -> str:
    return quote if len(quote) <= 80 else f"{quote[:77]}..."
