"""Answer measures against the plain loops that define them, in one run, with identical scores.

20,000 answers of one sentence, one to three accepted ones each, one text in eight with characters beyond ASCII. Floor:
SQuAD's evaluation as published, an answer at a time; ROUGE-L by the package rouge-score, where it is installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import string
from collections import Counter
from collections.abc import Sequence

import numpy as np
from measure import ratio, save

from eval.measures.answers import rouge_l, token_scores

COMMON = ["the", "a", "of", "in", "and", "an", "was", "The", "by", "to"]
ODD = ["caf\u00e9", "1914\u20131918", "\u201cquoted\u201d", "Stra\u00dfe", "\u6771\u4eac"]


def made(count: int) -> tuple[list[str], list[list[str]]]:
    rng = np.random.default_rng(0)
    words = ["".join(map(chr, rng.integers(97, 123, length))) for length in rng.integers(2, 10, 5000)]

    def text(length: int) -> list[str]:
        row = [
            COMMON[rng.integers(len(COMMON))] if rng.random() < 0.35 else words[int(rng.zipf(1.3)) % 5000]
            for _ in range(length)
        ]
        if rng.random() < 1 / 8:
            row[rng.integers(length)] = ODD[rng.integers(len(ODD))]
        return row

    answers: list[str] = []
    accepted: list[list[str]] = []
    for _ in range(count):
        answer = text(int(rng.integers(5, 26)))
        answers.append(" ".join(answer).capitalize() + ".")
        row = []
        for _ in range(int(rng.integers(1, 4))):
            if rng.random() < 0.6:
                start = int(rng.integers(len(answer)))
                row.append(" ".join(answer[start : start + int(rng.integers(1, 5))]))
            else:
                row.append(" ".join(text(int(rng.integers(1, 5)))))
        accepted.append(row)
    return answers, accepted


def normal(text: str) -> str:
    punctuation = set(string.punctuation)
    text = "".join(character for character in text.lower() if character not in punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def f1(gold: str, answer: str) -> float:
    wanted, said = normal(gold).split(), normal(answer).split()
    same = sum((Counter(wanted) & Counter(said)).values())
    if not wanted or not said:
        return float(wanted == said)
    if not same:
        return 0.0
    precision, recall = same / len(said), same / len(wanted)
    return (2 * precision * recall) / (precision + recall)


def plain(answers: Sequence[str], accepted: Sequence[Sequence[str]]) -> list[tuple[float, float]]:
    scores = []
    for answer, row in zip(answers, accepted, strict=True):
        golds = [gold for gold in row if normal(gold)] or [""]
        exact = max(float(normal(gold) == normal(answer)) for gold in golds)
        scores.append((exact, max(f1(gold, answer) for gold in golds)))
    return scores


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=20_000)
    count = parser.parse_args().count
    answers, accepted = made(count)
    ours = token_scores(answers, accepted)
    expected = np.array(plain(answers, accepted))
    assert (ours.exact == expected[:, 0]).all()
    assert (ours.f1 == expected[:, 1]).all()
    results = {
        "answers": count,
        "accepted": sum(map(len, accepted)),
        "beyond_ascii": sum(not answer.isascii() for answer in answers),
        "means": {"EM": ours.exact.mean(), "F1": ours.f1.mean(), "Contains": ours.contains.mean()},
        "squad_loop": ratio(lambda: token_scores(answers, accepted), lambda: plain(answers, accepted), 3),
    }
    if importlib.util.find_spec("rouge_score"):
        from rouge_score.rouge_scorer import RougeScorer

        scorer = RougeScorer(["rougeL"])
        some, wanted = answers[: count // 10], accepted[: count // 10]

        def theirs() -> list[float]:
            return [
                scorer.score_multi(row, answer)["rougeL"].fmeasure for answer, row in zip(some, wanted, strict=True)
            ]

        assert rouge_l(some, wanted).tolist() == theirs()
        results["rouge_score"] = {"answers": len(some), **ratio(lambda: rouge_l(some, wanted), theirs, 3)}
    save("answers", results)


if __name__ == "__main__":
    main()
