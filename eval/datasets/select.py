"""Fewer questions: a sample that a seed draws, or those of a tag."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Collection, Mapping, Sequence

from eval.types import Question
from rag.errors import Problem, UsageError


def sample(questions: Sequence[Question], count: int, seed: int = 0) -> list[Question]:
    """At most `count` questions in their own order: those whose sha256 of `seed:question_id` comes first.

    A question that is added or removed changes the sample by itself alone.
    """
    drawn = sorted(questions, key=lambda question: hashlib.sha256(f"{seed}:{question.question_id}".encode()).digest())
    taken = {question.question_id for question in drawn[:count]}
    return [question for question in questions if question.question_id in taken]


def where(questions: Sequence[Question], wanted: Mapping[str, Collection[str]]) -> list[Question]:
    """The questions that have one of the values of every tag, in their own order.

    Raises UsageError for a tag or a value that no question has, all at once, and where nothing is left.
    """
    problems = []
    for tag, values in wanted.items():
        there = {question.tags[tag] for question in questions if tag in question.tags}
        if not there:
            tags = sorted({name for question in questions for name in question.tags})
            problems.append(Problem(f"--where {tag}", f"no question has a tag {tag!r}", _nearest(tag, tags)))
        problems += [
            Problem(f"--where {tag}={value}", f"no question has {tag} {value!r}", _nearest(value, sorted(there)))
            for value in values
            if there and value not in there
        ]
    if problems:
        raise UsageError(problems[0].what if len(problems) == 1 else "--where names what is not there", problems)
    kept = [each for each in questions if all(each.tags.get(tag) in values for tag, values in wanted.items())]
    if not kept:
        asked = " and ".join(f"{tag}={' or '.join(values)}" for tag, values in wanted.items())
        raise UsageError.at("--where", f"no question has {asked}", "ask for fewer tags at once")
    return kept


def _nearest(word: str, there: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, there, n=3) or list(there[:20])
    return f"there is {', '.join(near)}" if near else "the question set has no tags"
