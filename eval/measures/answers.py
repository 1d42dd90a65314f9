"""Measures of an answer's text against the accepted ones, over whole lists at once.

An answer counts with the accepted one that suits it best. Where nothing is accepted (nothing in the corpus answers),
every measure is 1 for an answer without a token, 0 for any other. The caller gives "" for an answer that abstained.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from eval.measures.conditions import EXPECTED
from eval.measures.names import Entry, Floats

Accepted: TypeAlias = Sequence[Sequence[str]]
_PUNCTUATION = string.punctuation.encode()
_ARTICLE = re.compile(r"\b(?:a|an|the)\b")
_ARTICLES = frozenset({"a", "an", "the"})
_ROUGE_TOKEN = re.compile("[a-z0-9]+")


@dataclass(frozen=True, slots=True)
class TokenScores:
    """The measures on SQuAD's tokens, a float64 for each answer, all in [0, 1]."""

    exact: Floats
    """EM: 1 where the tokens equal those of an accepted answer."""
    f1: Floats
    """F1: harmonic mean of the precision and recall of the tokens, each as often as it occurs."""
    contains: Floats
    """Contains: 1 where the tokens of an accepted answer stand in the answer, one after the other."""


def token_scores(answers: Sequence[str], accepted: Accepted) -> TokenScores:
    """EM, F1 and Contains of each answer, on tokens as `squad_tokens` makes them.

    EM and F1 equal the evaluation script of SQuAD 2.0 (Rajpurkar, Jia and Liang, 2018): an accepted answer without a
    token counts for nothing, and two texts without tokens agree. SQuAD 1.1's script differs there alone: its F1 of two
    texts without tokens is 0, and an accepted answer without a token stays.

    Raises ValueError where the lists are not equally long, TypeError for a string in place of a list of them.
    """
    rows = _rows(answers, accepted)
    tokens = iter(squad_tokens([*answers, *(text for row in rows for text in row)]))
    every = [next(tokens) for _ in answers]
    exact, f1, contains = ([0.0] * len(answers) for _ in range(3))
    for at, (said, row) in enumerate(zip(every, rows, strict=True)):
        kinds = set(said)
        words = f" {' '.join(said)} "
        wanted = False
        for _ in row:
            gold = next(tokens)
            wanted = wanted or bool(gold)
            same = len(kinds.intersection(gold))
            if not same:
                continue
            if same < len(gold) > len(set(gold)) and len(kinds) < len(said):
                same = (Counter(gold) & Counter(said)).total()
            precision, recall = same / len(said), same / len(gold)
            f1[at] = max(f1[at], (2 * precision * recall) / (precision + recall))
            if same == len(gold) and f" {' '.join(gold)} " in words:
                contains[at] = 1.0
                exact[at] = max(exact[at], float(same == len(said)))
        if not wanted:
            exact[at] = f1[at] = contains[at] = float(not said)
    return TokenScores(np.array(exact), np.array(f1), np.array(contains))


def squad_tokens(texts: Sequence[str]) -> list[list[str]]:
    """The tokens of each text as SQuAD has them: lower case, no ASCII punctuation, no articles, split at white space."""
    # all texts go through as one; a line break is white space in any of them, so it can part them
    joined = "\n".join(map(str.lower, texts))
    if joined.count("\n") != max(len(texts) - 1, 0):
        joined = "\n".join(text.lower().replace("\n", " ") for text in texts)
    kept = joined.encode("utf-8", "surrogatepass").translate(None, _PUNCTUATION).decode("utf-8", "surrogatepass")
    return [_without_articles(line) for line in kept.split("\n")] if texts else []


def _without_articles(line: str) -> list[str]:
    tokens = line.split()
    if "".join(tokens).isalnum():
        return [token for token in tokens if token not in _ARTICLES]
    # a word also ends at a dash, a typographic quote, an accent that stands alone, a control character
    return _ARTICLE.sub(" ", line).split()


def rouge_l(
    answers: Sequence[str], accepted: Accepted, tokenize: Callable[[str], Sequence[str]] | None = None
) -> Floats:
    """ROUGE-L of each answer, in [0, 1]: F (beta 1) over the longest common subsequence of tokens (Lin, 2004).

    Equal to `rougeL` of the package rouge-score without its stemmer: tokens are runs of a-z and 0-9 in lower case, so
    text in other scripts has none. `tokenize` takes the place of that. Raises as `token_scores` does.
    """
    rows = _rows(answers, accepted)
    split = tokenize or rouge_tokens
    tokens = {text: split(text) for text in {*answers, *(text for row in rows for text in row)}}
    scores = np.zeros(len(answers))
    for at, (answer, row) in enumerate(zip(answers, rows, strict=True)):
        said = tokens[answer]
        if not row:
            scores[at] = not said
            continue
        for text in row:
            common = lcs(tokens[text], said)
            if common:
                precision, recall = common / len(said), common / len(tokens[text])
                scores[at] = max(scores[at], 2 * precision * recall / (precision + recall))
    return scores


def rouge_tokens(text: str) -> list[str]:
    """Runs of a-z and 0-9 in lower case."""
    return _ROUGE_TOKEN.findall(text.lower())


def lcs(left: Sequence[str], right: Sequence[str]) -> int:
    """Length of the longest common subsequence. A row of the table is one integer, a bit a column (Hyyrö, 2004)."""
    if len(left) > len(right):
        left, right = right, left
    places: dict[str, int] = {}
    for at, token in enumerate(left):
        places[token] = places.get(token, 0) | 1 << at
    full = (1 << len(left)) - 1
    row = full
    for token in right:
        if match := row & places.get(token, 0):
            row = (row + match | row - match) & full
    return len(left) - row.bit_count()


def _rows(answers: Sequence[str], accepted: Accepted) -> list[tuple[str, ...]]:
    if isinstance(answers, str) or any(isinstance(row, str) for row in accepted):
        raise TypeError("answers is a list of strings, accepted a list of lists of them")
    if len(answers) != len(accepted):
        raise ValueError(f"{len(answers):,} answers, but {len(accepted):,} lists of accepted ones")
    return [tuple(row) for row in accepted]


class Answers:
    """Answers beside the accepted ones, and what several measures need of them."""

    def __init__(
        self, said: Sequence[str], accepted: Accepted, vectors: Mapping[str, NDArray[Any]] | None = None
    ) -> None:
        """`vectors` of the texts that are not blank: only for measures that need them."""
        self.said = said
        self.accepted = accepted
        self.vectors = vectors

    @cached_property
    def tokens(self) -> TokenScores:
        """EM, F1 and Contains."""
        return token_scores(self.said, self.accepted)


_NEEDS = "answers, and accepted answers of answerable questions"
_SQUAD = "Rajpurkar, Jia and Liang, ACL 2018 (evaluation script of SQuAD 2.0)"
_TOKENS = "tokens: lower case, without ASCII punctuation and a, an, the; of several accepted answers the best counts"
MISSING = (
    "abstained: as an empty answer; unanswerable, or no accepted answer: not applicable (SQuAD 2.0 gives 1 for an "
    "empty answer there, here WronglyAnswered says it); no answer for an error: error"
)
EM = Entry(
    name="EM",
    family="answer",
    when=EXPECTED,
    says="whether the answer is an accepted one, word for word",
    formula=f"1 if the answer's tokens are those of an accepted answer, else 0; {_TOKENS}",
    needs=_NEEDS,
    source=_SQUAD,
    missing=MISSING,
    values=lambda answers, _: answers.tokens.exact,
    aliases=("ExactMatch",),
)
F1 = Entry(
    name="F1",
    family="answer",
    when=EXPECTED,
    says="how many words the answer shares with an accepted one",
    formula="2 P R / (P + R); P, R: tokens shared, each as often as in both, / tokens of the answer, of the accepted "
    f"one; {_TOKENS}",
    needs=_NEEDS,
    source=_SQUAD,
    missing=MISSING,
    values=lambda answers, _: answers.tokens.f1,
)
CONTAINS = Entry(
    name="Contains",
    family="answer",
    when=EXPECTED,
    says="whether an accepted answer stands in the answer",
    formula=f"1 if all tokens of an accepted answer stand in the answer, one after the other, else 0; {_TOKENS}",
    needs=_NEEDS,
    source="the accuracy of open question answering (Mallen and others, ACL 2023, by characters), on SQuAD's tokens",
    missing=MISSING,
    values=lambda answers, _: answers.tokens.contains,
)
ROUGE_L = Entry(
    name="ROUGE-L",
    family="answer",
    when=EXPECTED,
    says="how much of an accepted answer stands in the answer in the same order, gaps allowed",
    formula="2 P R / (P + R); P, R: longest common subsequence of tokens / tokens of the answer, of the accepted one; "
    "tokens: runs of a-z and 0-9 in lower case, not stemmed; of several accepted answers the best counts",
    needs=_NEEDS,
    source="Lin, ROUGE, 2004; equal to `rougeL` of the package rouge-score",
    missing=MISSING,
    values=lambda answers, _: rouge_l(answers.said, answers.accepted),
    aliases=("RougeL",),
)
