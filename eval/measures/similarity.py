"""How near an answer is to an accepted one for the embedding model of the index."""

from __future__ import annotations

import numpy as np

from eval.measures.answers import Answers
from eval.measures.conditions import EXPECTED
from eval.measures.names import Entry, Floats, Measure


def similarity(answers: Answers) -> Floats:
    """The highest cosine of each answer with an accepted one, in [-1, 1]; 0 where one of them is blank.

    Raises KeyError for a text without a vector.
    """
    if answers.vectors is None:
        raise KeyError("the answers come without vectors")
    unit = {}
    for text, vector in answers.vectors.items():
        wide = np.asarray(vector, np.float64)
        length = np.linalg.norm(wide)
        unit[text] = wide / length if length else wide
    out = np.zeros(len(answers.said))
    for at, (said, row) in enumerate(zip(answers.said, answers.accepted, strict=True)):
        wanted = [unit[text] for text in row if text.strip()]
        if wanted and said.strip():
            out[at] = np.clip(max(float(each @ unit[said]) for each in wanted), -1.0, 1.0)
    return out


def _similarity(answers: Answers, measure: Measure) -> Floats:  # noqa: ARG001 - it has no settings
    return similarity(answers)


SIMILARITY = Entry(
    name="Similarity",
    family="answer",
    when=EXPECTED,
    says="how near the answer is to an accepted one for the embedding model of the index; near is not yet right",
    formula="cosine of the vectors of the answer and of an accepted answer, both embedded as queries; of several "
    "accepted answers the nearest counts",
    needs="answers, accepted answers of answerable questions, and the embedding model; a paid one is asked through its cache",
    source="the bi-encoder of Semantic Answer Similarity (Risch and others, MRQA 2021)",
    missing="abstained, or an empty answer: 0; unanswerable, or no accepted answer: not applicable; "
    "no answer for an error: error; values of two embedding models cannot be compared",
    values=_similarity,
    low=-1.0,
    embeds=True,
)
