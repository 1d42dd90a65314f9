"""What measures are worth against people: figures of the published sets, tables of one's own, and what is kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.calibrate import Calibration, calibrate, from_json, keep, stored
from eval.judge import Judge
from eval.judging.agreement import agreements, cohen_kappa
from eval.judging.people import read_judged
from rag.errors import Damaged, FormatTooNew, KeyMissing, ProviderFailed, UsageError
from rag.types import Completion, Message, Usage

TABLE = """question,expected,answer,human,human_2,system
When did it open?,1987,In 1987.,yes,yes,a
When did it open?,1987,In 1988.,no,yes,b
Who runs it?,"[""Ida Reck"", ""Reck""]",Reck,right,1,a
Who runs it?,"[""Ida Reck"", ""Reck""]",Nobody knows,FALSE,,b
"""


class Rule:
    """A judge's model that follows a rule: right where the answer holds a word; the rest of its replies are as scripted."""

    name = "test/rule"

    def __init__(self, word: str = "1987", fails_on: str | None = None) -> None:
        self.word = word
        self.fails_on = fails_on
        self.calls = 0

    async def complete(self, messages: Sequence[Message], max_tokens: int) -> Completion:
        self.calls += 1
        answer = messages[-1].content.partition("<answer>")[2].partition("</answer>")[0]
        if self.fails_on is not None and self.fails_on in answer:
            raise ProviderFailed("it is down")
        text = json.dumps({"reason": "", "correct": self.word in answer})
        return Completion("I do not know" if "knows" in answer else text, "rule", Usage(1, 10, 5, 0.25))

    async def stream(self, messages: Sequence[Message], max_tokens: int) -> AsyncIterator[str | Completion]:
        yield await self.complete(messages, max_tokens)


def run(path: Path, judge: Judge | None = None, limit: int | None = None, seed: int = 0) -> Calibration:
    return asyncio.run(calibrate(path, judge, limit, seed))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "judged.csv"
    path.write_text(TABLE)
    return path


@pytest.fixture(scope="module")
def evouna(datasets: Path) -> Calibration:
    return run(datasets / "evouna-nq")


@pytest.fixture(scope="module")
def openqa(datasets: Path) -> Calibration:
    return run(datasets / "openqa-nq301-human")


def kappa(calibration: Calibration, rater: str, system: str | None = None) -> float:
    found = calibration.of(rater, system)
    assert found is not None
    assert found.kappa is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.kappa <= found.high
    return round(found.kappa, 2)


def test_exact_match_sees_nothing_in_the_sentences_of_gpt_4_that_people_call_right(evouna: Calibration) -> None:
    found = evouna.of("EM", "gpt4")
    assert found is not None
    assert (found.kappa, found.low, found.high, found.said_right, found.n) == (0.0, 0.0, 0.0, 0.0, 3020)
    assert found.against_right == pytest.approx(0.788, abs=0.001)


def test_contains_agrees_with_people_far_better_on_evouna(evouna: Calibration) -> None:
    names = ("EM", "F1", "Contains", "ROUGE-L")
    assert [kappa(evouna, name) for name in names] == [0.09, 0.12, 0.6, 0.11]
    assert [kappa(evouna, "Contains", system) for system in ("fid", "gpt35", "chatgpt", "gpt4", "newbing")] == [
        *(0.78, 0.68, 0.57, 0.58),
        0.4,
    ]
    assert [kappa(evouna, name, "fid") for name in names] == [0.72, 0.85, 0.78, 0.85]


def test_what_evouna_s_authors_leave_out_is_left_out_and_counted(evouna: Calibration) -> None:
    assert evouna.answers == 15_095
    assert evouna.left_out == {"improper question": 2950, "no answer, or none accepted": 4, "no verdict of people": 1}
    assert evouna.answers + sum(evouna.left_out.values()) == 3610 * 5


def test_two_people_agree_better_than_any_measure_on_openqa(openqa: Calibration) -> None:
    (two,) = [each for each in openqa.agreements if each.against == "first person"]
    assert (two.rater, two.n) == ("second person", 1483)
    assert two.kappa == pytest.approx(0.7347, abs=0.00005)
    assert two.agreement == pytest.approx(0.8685, abs=0.00005)
    assert two.low is not None
    assert two.high is not None
    assert two.low < 0.74 < two.high
    assert [kappa(openqa, name) for name in ("EM", "F1", "Contains", "ROUGE-L")] == [0.34, 0.45, 0.51, 0.47]


def test_the_judges_that_openqa_brings_along_are_compared_too(openqa: Calibration) -> None:
    assert [(kappa(openqa, name)) for name in ("gpt-4", "BEM")] == [0.7, 0.62]
    gpt = openqa.of("gpt-4")
    assert gpt is not None
    assert (gpt.n, gpt.unscored, openqa.answers) == (1487, 3, 1490)


def test_one_file_of_openqa_finds_those_beside_it(datasets: Path, openqa: Calibration) -> None:
    found = read_judged(datasets / "openqa-nq301-human" / "NQ301_human.tsv")
    assert (found.format, len(found.judged)) == ("openqa", openqa.answers)
    assert found.sha256 == openqa.sha256
    assert any(each.answer.startswith('"Mercy Mercy Me (The Ecology)" by') for each in found.judged)


def test_the_tables_of_the_manual_are_what_is_measured(evouna: Calibration, openqa: Calibration) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "judging.md").read_text(encoding="utf-8")
    shown = [tuple(cell.strip() for cell in line.split("|")[1:-1]) for line in page.splitlines() if "people |" in line]
    rows = [*evouna.rows(), *openqa.rows()]
    measured = [
        (
            *(str(row[name]) for name in ("system", "rater", "against")),
            *(f"{row[name]:,}" for name in ("n", "unscored")),
            *(f"{row[name]:.3f}" for name in ("agreement", "kappa")),
            f"{row['low']:.3f} to {row['high']:.3f}",
            *(f"{row[name]:.3f}" for name in ("said_right", "against_right")),
        )
        for row in rows
        if row["against"] == "people"
    ]
    assert [row for row in shown if row[0] != "answers of"] == measured


def test_a_sample_is_the_same_for_the_same_seed_and_measured_as_a_whole(datasets: Path) -> None:
    folder = datasets / "openqa-nq301-human"
    one, same, other = run(folder, limit=200), run(folder, limit=200), run(folder, limit=200, seed=1)
    assert one == same
    assert one.agreements != other.agreements
    assert {each.n for each in one.agreements if each.rater in ("EM", "F1", "Contains", "ROUGE-L")} == {200}
    assert one.answers == 200


def test_a_table_of_ones_own_is_compared_with_its_people(table: Path) -> None:
    found = run(table)
    assert (found.format, found.dataset, found.answers) == ("table", "judged.csv", 4)
    contains = found.of("Contains")
    assert contains is not None
    assert (contains.agreement, contains.kappa, contains.said_right, contains.against_right) == (1.0, 1.0, 0.5, 0.5)
    assert [(each.system, each.n) for each in found.agreements if each.rater == "EM"] == [(None, 4), ("a", 2), ("b", 2)]
    (two,) = [each for each in found.agreements if each.rater == "second person"]
    assert (two.n, two.kappa) == (3, 0.0)
    assert two.agreement == pytest.approx(2 / 3)


def test_json_lines_with_lists_and_truth_values_say_the_same(table: Path, tmp_path: Path) -> None:
    rows = [
        {"query": "When did it open?", "expected": ["1987"], "response": "In 1987.", "correct": True, "model": "a"},
        {"query": "When did it open?", "expected": ["1987"], "response": "In 1988.", "correct": False, "model": "b"},
        {"query": "Who runs it?", "expected": ["Ida Reck", "Reck"], "response": "Reck", "correct": 1, "model": "a"},
        {"query": "Who runs it?", "expected": "Reck", "response": "Nobody knows", "correct": 0, "model": "b"},
    ]
    path = tmp_path / "judged.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    one, other = run(table), run(path)
    assert [each for each in one.agreements if each.rater != "second person"] == list(other.agreements)


def test_a_judge_is_compared_and_its_unusable_replies_are_counted(table: Path) -> None:
    chat = Rule()
    found = run(table, Judge(chat))
    judge = found.of()
    assert judge is not None
    assert (judge.n, judge.unscored, judge.said_right) == (3, 1, 1 / 3)
    assert judge.agreement == pytest.approx(2 / 3)
    assert judge.against_right == pytest.approx(2 / 3)
    assert chat.calls == 5
    assert (found.usage.requests, found.usage.usd, found.cached) == (5, 1.25, 0)
    assert found.judge == Judge(Rule()).identity("correctness")
    assert {row["rater"] for row in found.rows()} == {
        *("EM", "F1 >= 0.5", "Contains", "ROUGE-L >= 0.5"),
        *("judge", "second person"),
    }


def test_one_failed_call_is_counted_and_a_model_that_is_down_is_an_error(table: Path) -> None:
    judge = run(table, Judge(Rule(fails_on="1988"))).of()
    assert judge is not None
    assert (judge.n, judge.unscored) == (2, 2)
    with pytest.raises(ProviderFailed):
        run(table, Judge(Rule(fails_on="")))


def test_a_missing_key_is_told_as_it_is(table: Path) -> None:
    class Locked(Rule):
        async def complete(self, messages: Sequence[Message], max_tokens: int) -> Completion:
            raise KeyMissing("no key")

    with pytest.raises(KeyMissing):
        run(table, Judge(Locked()))


def test_progress_is_told_after_each_verdict(table: Path) -> None:
    told: list[tuple[int, int]] = []
    asyncio.run(calibrate(table, Judge(Rule()), progress=lambda done, count: told.append((done, count))))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_kept_calibration_is_found_by_the_same_judge_alone(table: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    judge = Judge(Rule())
    assert stored(store, judge) is None
    made = run(table, judge)
    path = keep(store, made)
    assert path is not None
    assert stored(store, judge) == made == from_json(json.loads(path.read_text()))
    assert stored(store, Judge(Rule("another"))) == made
    assert stored(store, Judge(Rule(), base_url="elsewhere")) is None
    assert stored(store, Judge(Rule(), max_tokens=5)) is None
    later = run(table, judge, limit=3)
    keep(store, later)
    assert stored(store, judge) == later
    assert keep(store, run(table)) is None


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"format_version": 1}', '{"format_version": 1, "agreements": 5}'])
def test_a_damaged_calibration_is_named(table: Path, tmp_path: Path, damage: str) -> None:
    judge = Judge(Rule())
    path = keep(tmp_path, run(table, judge))
    assert path is not None
    path.write_text(damage)
    with pytest.raises(Damaged, match="no calibration"):
        stored(tmp_path, judge)
    path.write_text('{"format_version": 2}')
    with pytest.raises(FormatTooNew):
        stored(tmp_path, judge)


def test_every_mistake_of_a_table_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "judged.csv"
    path.write_text("question,expected,answer,human,human_2\nq,e,a,maybe,yes\nq,e,a\n,e,a,yes,2\n")
    with pytest.raises(UsageError) as refused:
        run(path)
    lines = [(each.where.rpartition(":")[2], each.what) for each in refused.value.problems]
    assert [line for line, _ in lines] == ["2", "3", "4", "4"]
    assert "human is 'maybe', neither right nor wrong" in lines[0][1]
    assert "human_2 is '2'" in lines[2][1]
    assert "question is empty" in lines[3][1]


def test_rows_that_people_have_not_judged_yet_are_left_out_and_counted(table: Path) -> None:
    table.write_text(TABLE + "q,e,a,,,a\nq,[],a,yes,,a\nq,e,,no,,a\n")
    found = run(table)
    assert found.answers == 4
    assert found.left_out == {"no answer, or none accepted": 2, "no verdict of people": 1}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("question,expected,answer\nq,e,a\n", "lacks a column for human"),
        ("question,expected,answer,human\n", "lacks a column for question"),
        ("question,expected,answer,human\nq,e,a,\n", "not one judged answer"),
        ("", "empty"),
        (
            "Question\tModel answer\tAcceptable?\tannotator1\tannotator2\nq\ta\tYes\tYes\tNo\n",
            "the accepted answers are in none",
        ),
    ],
)
def test_what_is_no_judged_set_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "judged.tsv"
    path.write_text(text)
    with pytest.raises(UsageError, match=said):
        run(path)


def test_a_folder_without_a_known_set_is_refused(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text(TABLE)
    with pytest.raises(UsageError, match="no judged answers that are recognised"):
        run(tmp_path)
    with pytest.raises(UsageError):
        run(tmp_path / "absent")


@given(st.lists(st.tuples(st.booleans(), st.none() | st.booleans(), st.sampled_from("abcde")), max_size=30))
def test_kappa_is_that_of_the_four_counts(rows: list[tuple[bool, bool | None, str]]) -> None:
    values = [np.nan if said is None else float(said) for _, said, _ in rows]
    people = [float(right) for right, _, _ in rows]
    (found,) = agreements({"r": values}, ("people", people), [name for *_, name in rows], draws=50)
    kept = [(right, said) for right, said, _ in rows if said is not None]
    assert (found.n, found.unscored) == (len(kept), len(rows) - len(kept))
    if not kept:
        assert (found.agreement, found.kappa, found.low) == (None, None, None)
        return
    n = len(kept)
    both, neither = kept.count((True, True)), kept.count((False, False))
    says, right = both + kept.count((False, True)), both + kept.count((True, False))
    chance = (says * right + (n - says) * (n - right)) / n**2
    assert found.agreement == pytest.approx((both + neither) / n)
    if chance == 1:
        assert found.kappa is None
    else:
        assert found.kappa == pytest.approx(((both + neither) / n - chance) / (1 - chance), abs=1e-9)
        assert found.kappa is not None
        assert -1 <= found.kappa <= 1


def test_the_interval_is_that_of_drawing_questions_one_by_one() -> None:
    rng = np.random.default_rng(5)
    people, said = rng.integers(0, 2, (2, 60)).astype(float)
    names = [str(at % 20) for at in range(60)]
    (found,) = agreements({"r": said}, ("people", people), names, draws=300, seed=9)
    drawn = np.random.Generator(np.random.PCG64(9)).integers(0, 20, (300, 20))
    kappas = []
    for row in drawn:
        chosen = np.concatenate([np.arange(60)[cluster::20] for cluster in row])
        kappas.append(cohen_kappa((people[chosen] == said[chosen]).mean(), said[chosen].mean(), people[chosen].mean()))
    low, high = np.quantile(np.array(kappas, dtype=float), [0.025, 0.975])
    assert found.low == pytest.approx(low)
    assert found.high == pytest.approx(high)
