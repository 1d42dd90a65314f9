"""Answers against accepted ones: the official SQuAD figures, rouge-score's, and what they say of people's judgement."""

from __future__ import annotations

import csv
import gzip
import json
import random
import re
import string
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.measures.abstention import Abstention, abstention, abstention_errors
from eval.measures.answers import lcs, rouge_l, rouge_tokens, squad_tokens, token_scores

# letters that change with case, marks, dashes, digits of other scripts, white space and controls, half a surrogate pair
ODD = "aAnNtThHeE\u0130\u0131\u03a3\u03c3\u03c2\u00df\ufb01\u0301\u2013\u2019\u00b4_'.-!\u0663\u00b2\u2167\u4e2d\u200b\u200d\u00ad \n\t\x0b\x1c\x1f\x00\x85\u00a0\u2028\u3000\ud800\udc00\U0001f600"
texts = st.one_of(
    st.text(alphabet=ODD, max_size=12),
    st.text(max_size=12),
    st.lists(
        st.sampled_from(["a", "the", "An", "cat", "cats", "of", "the-cat", "A\u0301", "\u2013", "."]), max_size=9
    ).map(" ".join),
)


class Squad:
    """The published definition, step by step: one text at a time, one regular expression, one Counter."""

    @staticmethod
    def normal(text: str) -> str:
        text = text.lower()
        text = "".join(character for character in text if character not in set(string.punctuation))
        return " ".join(re.sub(r"\b(a|an|the)\b", " ", text, flags=re.UNICODE).split())

    @classmethod
    def exact(cls, gold: str, answer: str) -> int:
        return int(cls.normal(gold) == cls.normal(answer))

    @classmethod
    def f1(cls, gold: str, answer: str) -> float:
        wanted, said = cls.normal(gold).split(), cls.normal(answer).split()
        same = sum((Counter(wanted) & Counter(said)).values())
        if not wanted or not said:
            return int(wanted == said)
        if not same:
            return 0
        precision = 1.0 * same / len(said)
        recall = 1.0 * same / len(wanted)
        return (2 * precision * recall) / (precision + recall)

    @classmethod
    def scores(cls, answer: str, accepted: Sequence[str]) -> tuple[float, float]:
        golds = [gold for gold in accepted if cls.normal(gold)] or [""]
        return max(cls.exact(gold, answer) for gold in golds), max(cls.f1(gold, answer) for gold in golds)


def table(rows: Sequence[Sequence[int]]) -> int:
    """A longest common subsequence of 0 and 1 by the whole table."""
    left, right = rows
    lengths = np.zeros((len(left) + 1, len(right) + 1), int)
    for i, one in enumerate(left):
        for j, other in enumerate(right):
            lengths[i + 1, j + 1] = lengths[i, j] + 1 if one == other else max(lengths[i, j + 1], lengths[i + 1, j])
    return int(lengths[-1, -1])


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def squad_slice(datasets: Path) -> tuple[list[str], list[list[str]]]:
    rows = records(datasets / "squad2-dev-slice" / "questions.jsonl")
    return [row["question"] for row in rows], [row["answers"] for row in rows]


def answer_file(kind: str, questions: list[str], accepted: list[list[str]]) -> list[str]:
    gold = [row[-1] if row else "" for row in accepted]
    if kind == "gold":
        return gold
    if kind == "first words":
        return [" ".join((answer or question).split()[:2]) for answer, question in zip(gold, questions, strict=True)]
    random.Random(0).shuffle(gold)
    return gold


@pytest.mark.parametrize("kind", ["gold", "first words", "shuffled"])
def test_em_and_f1_of_three_answer_files_are_those_of_the_official_script(kind: str, datasets: Path) -> None:
    questions, accepted = squad_slice(datasets)
    answers = answer_file(kind, questions, accepted)
    ours = token_scores(answers, accepted)
    theirs = np.array([Squad.scores(*pair) for pair in zip(answers, accepted, strict=True)])
    assert len(answers) == 2559
    assert (ours.exact == theirs[:, 0]).all()
    assert (ours.f1 == theirs[:, 1]).all()
    assert (ours.exact.mean() == 1.0) == (kind == "gold")


@given(st.lists(st.tuples(texts, st.lists(texts, max_size=3)), max_size=5))
def test_em_and_f1_are_those_of_the_official_script_for_odd_unicode(rows: list[tuple[str, list[str]]]) -> None:
    ours = token_scores([answer for answer, _ in rows], [accepted for _, accepted in rows])
    theirs = [Squad.scores(*row) for row in rows]
    assert list(zip(ours.exact, ours.f1, strict=True)) == theirs


@given(st.lists(texts, max_size=6))
def test_texts_that_go_through_together_have_the_tokens_that_each_has_alone(several: list[str]) -> None:
    assert squad_tokens(several) == [Squad.normal(text).split() for text in several]


@pytest.mark.slow
def test_every_character_of_unicode_is_normalised_as_the_official_script_does() -> None:
    several = [f"{left}{chr(code)}{right}" for code in range(sys.maxunicode + 1) for left, right in (("a", "the x"),)]
    for start in range(0, len(several), 1 << 15):
        part = several[start : start + (1 << 15)]
        assert squad_tokens(part) == [Squad.normal(text).split() for text in part]


def test_where_nothing_is_accepted_only_silence_is_right() -> None:
    scores = token_scores(["", "the", "no idea"], [[], ["!", "a"], []])
    assert scores.exact.tolist() == scores.f1.tolist() == scores.contains.tolist() == [1, 1, 0]
    assert rouge_l(["", "the", "no idea"], [[], [], []]).tolist() == [1, 0, 0]


def test_silence_is_wrong_where_an_answer_is_accepted() -> None:
    scores = token_scores(["", " \n", "The."], [["x"], ["x"], ["x"]])
    assert not np.stack([scores.exact, scores.f1, scores.contains]).any()
    assert not rouge_l(["", " \n"], [["x"], ["x"]]).any()


@pytest.mark.parametrize(
    ("answer", "accepted", "value"),
    [
        ("It was built in 1887, by Gustave.", ["1887"], 1),
        ("It was built in 18875.", ["1887"], 0),
        ("She chose the red door.", ["Red Door", "green"], 1),
        ("Red is the door.", ["door red"], 0),
        ("red", ["red door"], 0),
        ("the the cat", ["cat cat"], 0),
        ("caf\u00e9 au lait", ["au lait"], 1),
    ],
)
def test_an_answer_contains_an_accepted_one_at_word_borders_only(answer: str, accepted: list[str], value: int) -> None:
    assert token_scores([answer], [accepted]).contains.tolist() == [value]


@given(st.lists(st.tuples(texts, st.lists(texts, max_size=3)), max_size=5))
def test_contains_is_at_least_em(rows: list[tuple[str, list[str]]]) -> None:
    scores = token_scores([answer for answer, _ in rows], [accepted for _, accepted in rows])
    assert (scores.contains >= scores.exact).all()
    assert (scores.f1 >= scores.exact).all()


def test_contains_agrees_with_people_where_em_does_not(datasets: Path) -> None:
    with gzip.open(datasets / "evouna-nq" / "NQ.json.gz", "rt", encoding="utf-8") as file:
        rows = [row for row in json.load(file) if not row["improper"]]
    pairs = [
        (row[f"answer_{system}"], row["golden_answer"].split("/"), row[f"judge_{system}"])
        for row in rows
        for system in ("fid", "gpt35", "chatgpt", "gpt4", "newbing")
        if row[f"answer_{system}"] is not None and row[f"judge_{system}"] is not None
    ]
    scores = token_scores([answer for answer, _, _ in pairs], [accepted for _, accepted, _ in pairs])
    people = np.array([verdict for _, _, verdict in pairs])
    assert kappa(scores.contains == 1, people) == pytest.approx(0.60, abs=0.005)
    assert kappa(scores.exact == 1, people) < 0.2


def test_contains_agrees_better_than_em_on_answers_that_two_people_judged(datasets: Path) -> None:
    folder = datasets / "openqa-nq301-human"
    answered = records(folder / "NQ301_text-davinci-003_zeroshot.jsonl")
    accepted = {row["question"].strip(): row["answer"] for row in answered}
    with (folder / "NQ301_human.tsv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["Question"].strip() in accepted]
    assert len(rows) > 1400
    scores = token_scores(
        [row["Model answer"] or "" for row in rows], [accepted[row["Question"].strip()] for row in rows]
    )
    people = np.array([row["Acceptable?"] == "Yes" for row in rows])
    assert kappa(scores.contains == 1, people) > kappa(scores.exact == 1, people) + 0.1


def kappa(one: np.ndarray, other: np.ndarray) -> float:
    by_chance = one.mean() * other.mean() + (1 - one.mean()) * (1 - other.mean())
    return float(((one == other).mean() - by_chance) / (1 - by_chance))


@given(st.tuples(*[st.lists(st.integers(0, 4), max_size=90)] * 2))
def test_the_common_subsequence_by_bits_is_that_of_the_whole_table(pair: tuple[list[int], list[int]]) -> None:
    assert lcs(*([str(each) for each in row] for row in pair)) == table(pair)


@pytest.mark.slow
@given(st.lists(st.tuples(texts, st.lists(texts, min_size=1, max_size=3)), max_size=4))
def test_rouge_l_is_that_of_the_package_for_odd_unicode(rows: list[tuple[str, list[str]]]) -> None:
    scorer = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer(["rougeL"], use_stemmer=False)
    ours = rouge_l([answer for answer, _ in rows], [accepted for _, accepted in rows])
    assert ours.tolist() == [scorer.score_multi(accepted, answer)["rougeL"].fmeasure for answer, accepted in rows]


@pytest.mark.slow
def test_rouge_l_of_sentences_is_that_of_the_package(datasets: Path) -> None:
    scorer = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer(["rougeL"], use_stemmer=False)
    passages = [row["text"] for row in records(datasets / "squad2-dev-slice" / "passages.jsonl")[:60]]
    accepted = [[each, passages[at - 7]] for at, each in enumerate(passages[1:] + passages[:1])]
    expected = [
        scorer.score_multi(row, answer)["rougeL"].fmeasure for answer, row in zip(passages, accepted, strict=True)
    ]
    assert rouge_l(passages, accepted).tolist() == expected


@given(st.lists(st.tuples(texts, st.lists(texts, min_size=1, max_size=3)), max_size=4))
def test_rouge_l_is_the_f_measure_of_the_whole_table(rows: list[tuple[str, list[str]]]) -> None:
    for answer, accepted in rows:
        best = 0.0
        for text in accepted:
            wanted, said = (re.findall("[a-z0-9]+", each.lower()) for each in (text, answer))
            kinds = {token: at for at, token in enumerate(sorted({*wanted, *said}))}
            common = table([[kinds[token] for token in each] for each in (wanted, said)])
            if common:
                p, r = common / len(said), common / len(wanted)
                best = max(best, 2 * p * r / (p + r))
        assert rouge_l([answer], [accepted]).tolist() == [best]


def test_rouge_l_takes_another_tokenizer() -> None:
    assert rouge_tokens("Caf\u00e9, 3x") == ["caf", "3x"]
    assert rouge_l(["\u00e9t\u00e9 ici"], [["\u00e9t\u00e9"]], str.split).tolist() == [pytest.approx(2 / 3)]


def test_abstention_is_a_table_with_both_error_rates() -> None:
    answerable = [True, True, True, True, False, False]
    abstained = [False, False, False, True, True, False]
    found = abstention(answerable, abstained)
    assert found == Abstention(3, 1, 1, 1)
    assert (found.wrongly_abstained, found.wrongly_answered) == (0.25, 0.5)
    silent, loud = abstention_errors(answerable, abstained)
    assert np.nanmean(silent) == found.wrongly_abstained
    assert np.nanmean(loud) == found.wrongly_answered
    assert (np.isnan(silent) == [not each for each in answerable]).all()
    assert (np.isnan(loud) == answerable).all()


def test_a_rate_of_questions_that_are_not_there_is_none() -> None:
    assert abstention([], []).wrongly_abstained is None
    assert abstention([True], [True]).wrongly_answered is None


def test_lists_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="2 answers, but 1 lists"):
        token_scores(["a", "b"], [["a"]])
    with pytest.raises(TypeError, match="list of lists"):
        token_scores(["a"], ["a"])
    with pytest.raises(ValueError, match="2 questions, but 1 answers"):
        abstention_errors([True, False], [True])
    assert token_scores([], []).f1.shape == rouge_l([], []).shape == (0,)
