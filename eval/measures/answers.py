"""Measures of an answer's text against the accepted ones, over whole lists at once; and of when nothing was answered.

An answer counts with the accepted one that suits it best. Where nothing is accepted (nothing in the corpus answers),
every measure is 1 for an answer without a token, 0 for any other. The caller gives "" for an answer that abstained.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
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


@dataclass(frozen=True, slots=True)
class Abstention:
    """Who was answered, of the answerable questions and of the others."""

    answerable_answered: int
    answerable_abstained: int
    unanswerable_answered: int
    unanswerable_abstained: int

    @property
    def wrongly_abstained(self) -> float | None:
        """Share of the answerable questions that got no answer; None without any."""
        return _share(self.answerable_abstained, self.answerable_answered)

    @property
    def wrongly_answered(self) -> float | None:
        """Share of the unanswerable questions that got an answer; None without any."""
        return _share(self.unanswerable_answered, self.unanswerable_abstained)


def abstention(answerable: Iterable[bool], abstained: Iterable[bool]) -> Abstention:
    """The 2x2 table of answerable against abstained. A question that failed belongs in neither list."""
    counts = Counter((bool(can), bool(not_said)) for can, not_said in zip(answerable, abstained, strict=True))
    return Abstention(counts[True, False], counts[True, True], counts[False, False], counts[False, True])


def abstention_errors(answerable: Iterable[bool], abstained: Iterable[bool]) -> tuple[Floats, Floats]:
    """Both errors question by question, (wrongly abstained, wrongly answered): 1 or 0, NaN where it can not happen."""
    can, silent = np.array(list(answerable), dtype=bool), np.array(list(abstained), dtype=bool)
    if can.shape != silent.shape:
        raise ValueError(f"{len(can):,} questions, but {len(silent):,} answers")
    return np.where(can, silent.astype(np.float64), np.nan), np.where(can, np.nan, (~silent).astype(np.float64))


def _share(part: int, rest: int) -> float | None:
    return part / (part + rest) if part + rest else None


def _rows(answers: Sequence[str], accepted: Accepted) -> list[tuple[str, ...]]:
    if isinstance(answers, str) or any(isinstance(row, str) for row in accepted):
        raise TypeError("answers is a list of strings, accepted a list of lists of them")
    if len(answers) != len(accepted):
        raise ValueError(f"{len(answers):,} answers, but {len(accepted):,} lists of accepted ones")
    return [tuple(row) for row in accepted]
