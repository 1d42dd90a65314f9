"""When an observation has a value of a measure, and why it can have none.

What can never have a value is `not_applicable`, also where the observation failed: an error is counted only where there
would have been a value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from eval.measures.names import Condition

if TYPE_CHECKING:
    from eval.types import Observed

_NO_RETRIEVAL = {"oracle": "the arm oracle is given the gold", "closed_book": "the arm closed_book retrieves nothing"}
_UNANSWERABLE = "nothing in the corpus answers the question"
_SILENT = "nothing was answered"


def _retrieves(observed: Observed) -> str | None:
    return _NO_RETRIEVAL.get(observed.arm)


def _judged_documents(observed: Observed) -> str | None:
    if why := _retrieves(observed):
        return why
    question = observed.question
    return None if question.grades or question.gold else "no document is judged for the question"


def _gold_spans(observed: Observed) -> str | None:
    return _retrieves(observed) or (None if _has_spans(observed) else "the question has no gold span")


def _has_spans(observed: Observed) -> bool:
    return any(each.start < each.end for each in observed.question.gold)


def _asked(observed: Observed) -> str | None:
    """Without gold to give, the arm `oracle` says nothing of the generator."""
    if observed.failure is None:
        if observed.arm == "oracle" and not observed.ranking:
            return "there is no gold passage to give"
        if observed.answer is None:
            return "no answer was asked for"
    return None


def _answerable(observed: Observed) -> str | None:
    return _asked(observed) or (None if observed.question.answerable else _UNANSWERABLE)


def _unanswerable(observed: Observed) -> str | None:
    return _asked(observed) or ("the question has an answer" if observed.question.answerable else None)


def _expected(observed: Observed) -> str | None:
    why = _answerable(observed)
    return why or (None if observed.question.expected_answers else "no expected answer is written")


def _context(observed: Observed) -> str | None:
    if why := _retrieves(observed):
        return why
    question = observed.question
    if not question.answerable:
        return _UNANSWERABLE
    return None if question.expected_answers else "no expected answer is written"


def _citable(observed: Observed) -> str | None:
    if observed.arm == "closed_book":
        return "the arm closed_book has nothing to cite"
    if why := _answerable(observed):
        return why
    if _has_spans(observed) or any(grade > 0 for grade in observed.question.grades.values()):
        return None
    return "the question has no gold"


def _abstained(observed: Observed) -> bool:
    return observed.answer is not None and observed.answer.abstained


def _cited(observed: Observed) -> str | None:
    return _citable(observed) or (_SILENT if _abstained(observed) else None)


def _claims(observed: Observed) -> str | None:
    if observed.arm == "closed_book":
        return "the arm closed_book is given no passages"
    return _asked(observed) or (_SILENT if _abstained(observed) else None)


def _spoken(observed: Observed) -> str | None:
    if why := _asked(observed):
        return why
    return _SILENT if _abstained(observed) and not observed.question.answerable else None


JUDGED_DOCUMENTS = Condition("ranking", _judged_documents)
"""The arm `retrieved`, and documents that were judged."""
GOLD_SPANS = Condition("ranking", _gold_spans)
"""The arm `retrieved`, and gold spans."""
CONTEXT = Condition("ranking", _context)
"""The arm `retrieved`, and an answerable question with an accepted answer."""
EXPECTED = Condition("answer", _expected)
"""An answerable question with an accepted answer."""
ANSWERABLE = Condition("answer", _answerable)
UNANSWERABLE = Condition("answer", _unanswerable)
CITABLE = Condition("answer", _citable)
"""An answerable question with gold spans or relevant documents, and passages to cite."""
CITED = Condition("answer", _cited)
"""The same, and an answer that is none of abstention."""
CLAIMS = Condition("answer", _claims)
"""An answer that is none of abstention, and passages that it can rest on."""
SPOKEN = Condition("answer", _spoken)
"""An answer, or none to a question that has one."""
