"""Public sets through `ragline eval --corpus-from-dataset`: the figures of the field come out, and nothing is published."""

from __future__ import annotations

import json
import re
import string
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from eval import record, tables
from eval.datasets.read import read
from eval.measures.registry import parse
from eval.scoring import score
from eval.types import Observed, Question
from flows.cli import main
from rag.digest import file_sha256
from rag.sync import run_sync
from rag.types import Answer, Usage
from tests.house import lexical_in_process

pytestmark = pytest.mark.slow
NEAR = 0.03
"""A right set-up lands this near the reference of BM25, whatever its tokenizer."""
CRANFIELD = {"nDCG@10": 0.370, "R@10": 0.397, "R@100": 0.735, "RR@10": 0.533, "AP@100": 0.300, "Success@5": 0.782}
SQUAD = {"R@1": 0.811, "R@5": 0.956, "R@10": 0.978, "RR@10": 0.875}
SQUAD_ANSWERS = ("EM", "F1", "WronglyAbstained", "WronglyAnswered")
PUBLIC = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "public.json"
Ask: TypeAlias = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory whose own corpus is published, with settings that would leave a set's corpus out."""
    folder = tmp_path_factory.mktemp("public")
    (folder / "docs").mkdir()
    (folder / "docs" / "pass.md").write_text("# Pass\n\nThe pass is closed in winter.\n")
    odd = 'include = ["*.md"]\nexclude = ["*.jsonl"]\ntext_column = "words"\nid_column = "number"'
    (folder / "ragline.toml").write_text(f'store = "store"\n[corpus]\npaths = ["docs"]\n{odd}\n')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("rag.retrieval.lexical.build_in_child", lexical_in_process)
        assert main(["index", "--json"]) == 0
        yield folder


@pytest.fixture
def ask(place: Path, capsys: pytest.CaptureFixture[str]) -> Ask:
    def run(path: Path, mode: str, measures: Sequence[str], *words: str) -> dict[str, Any]:
        capsys.readouterr()
        fixed = ("--corpus-from-dataset", "--runner", "direct", "--json", "--measures", ",".join(measures))
        code = main(["eval", str(path), *fixed, "--set", f"retrieval.mode={mode}", *words])
        out, err = capsys.readouterr()
        assert (code, err) == (0, "")
        content: dict[str, Any] = json.loads(out)
        return content

    return run


def means(content: Mapping[str, Any]) -> dict[str, float]:
    return {row["measure"]: row["mean"] for row in content["summary"] if row["slice_tag"] == "all"}


def published(place: Path) -> dict[str, str]:
    """Every file of the indexes that belongs to no experiment, with its digest."""
    folder = place / "store" / "indexes"
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    found = {name: file_sha256(path) for name, path in files.items() if "experiments" not in Path(name).parts}
    assert "main/CURRENT" in found
    return found


def kept(name: str, mode: str, measures: Sequence[str]) -> dict[str, float]:
    """The figures that docs/retrieval.md shows."""
    found = json.loads(PUBLIC.read_text(encoding="utf-8"))["results"][name]["modes"][mode]["measures"]
    return {measure: found[measure]["mean"] for measure in measures}


def test_cranfield_comes_out_as_the_field_knows_it_and_as_the_page_shows_it(
    ask: Ask, place: Path, datasets: Path
) -> None:
    before = published(place)
    found = {
        mode: means(ask(datasets / "cranfield", mode, list(CRANFIELD), "--qrels", "graded"))
        for mode in ("lexical", "dense", "hybrid", "rrf")
    }
    assert found["lexical"] == pytest.approx(CRANFIELD, abs=NEAR)
    for mode, values in found.items():
        assert values == pytest.approx(kept("cranfield", mode, list(CRANFIELD)), abs=0.003), mode
    binary = ask(datasets / "cranfield", "lexical", ["nDCG@10", "R@10"], "--qrels", "binary")
    assert means(binary) == pytest.approx({"nDCG@10": 0.385, "R@10": 0.397}, abs=NEAR)
    # one corpus, one index, whatever the judgements and the mode
    assert len(list((place / "store" / "datasets").glob("cranfield-*"))) == 1
    assert published(place) == before


def test_squad_comes_out_as_the_field_knows_it_and_its_em_and_f1_are_those_of_squads_script(
    ask: Ask, place: Path, datasets: Path
) -> None:
    folder, before = datasets / "squad2-dev-slice", published(place)
    content = ask(folder, "lexical", [*SQUAD, *SQUAD_ANSWERS])
    ours = means(content)
    assert {name: ours[name] for name in SQUAD} == pytest.approx(SQUAD, abs=NEAR)
    assert ours == pytest.approx(kept("squad2-dev-slice", "lexical", list(ours)), abs=0.003)
    run = Path(content["path"])
    assert published(place) == before

    # the answers of the run, as a file of predictions: no answer is an empty one, marks of citations are no words
    predicted = {
        row["question_id"]: "" if row["abstained"] else re.sub(r" ?\[\d+\]", "", row["answer"])
        for row in table(run, "questions")
    }
    script = Script(folder / "questions.jsonl", predicted)
    values = {(row["question_id"], row["measure"]): row["value"] for row in table(run, "scores")}
    for name in script.answerable:
        assert values[name, "EM"] == script.exact[name]
        assert values[name, "F1"] == script.f1[name]
    assert ours["EM"] == pytest.approx(script.mean(script.exact, script.answerable), abs=1e-12)
    assert ours["F1"] == pytest.approx(script.mean(script.f1, script.answerable), abs=1e-12)
    # the script calls an abstention right where nothing answers the question
    assert 1 - ours["WronglyAnswered"] == pytest.approx(script.mean(script.exact, script.unanswerable), abs=1e-12)
    assert 0 < ours["EM"] < ours["F1"] < 1
    assert len(script.answerable) == 1190
    assert len(script.unanswerable) == 1369


@pytest.mark.parametrize("kind", ["gold", "sentences", "empty"])
def test_em_and_f1_of_an_answer_file_are_those_of_squads_script(kind: str, datasets: Path) -> None:
    folder = datasets / "squad2-dev-slice"
    questions = read(folder).questions
    answers = {each.question_id: each.expected_answers for each in questions}
    chosen = {
        "gold": {name: (texts or ("",))[0] for name, texts in answers.items()},
        "sentences": {name: f"It is {(texts or ('',))[-1]}." for name, texts in answers.items()},
        "empty": dict.fromkeys(answers, ""),
    }[kind]
    observed = [observation(each, chosen[each.question_id]) for each in questions]
    scored = run_sync(score(observed, parse(("EM", "F1")), None, None, lambda *_: None))
    script = Script(folder / "questions.jsonl", chosen)
    found = {
        each.question.question_id: tuple(one.value for one in row)
        for each, row in zip(scored.observed, scored.scores, strict=True)
        if each.question.answerable
    }
    assert found == {name: (script.exact[name], script.f1[name]) for name in script.answerable}
    low, high = {"gold": (1, 1), "sentences": (0.3, 0.9), "empty": (0, 0)}[kind]
    assert low <= script.mean(script.f1, script.answerable) <= high


def test_a_corpus_that_changed_is_indexed_anew_though_its_judgements_did_not(
    ask: Ask, place: Path, tmp_path: Path
) -> None:
    folder, before = tmp_path / "tiny.set", published(place)
    folder.mkdir()
    (folder / "queries.jsonl").write_text('{"_id": "q", "text": "Where does the fox sleep?"}\n')
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq\tfox\t1\n")
    found = []
    for place_of_sleep in ("under the barn", "in the hollow oak"):
        rows = [{"_id": "fox", "title": "", "text": f"The fox sleeps {place_of_sleep}."}]
        (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        content = ask(folder, "lexical", ["R@1"])
        assert means(content) == {"R@1": 1.0}
        (retrieved,) = table(Path(content["path"]), "retrieved")
        found.append((content["index"], retrieved["text"]))
    assert [text for _, text in found] == ["The fox sleeps under the barn.", "The fox sleeps in the hollow oak."]
    assert found[0][0] != found[1][0]
    assert all(re.fullmatch("tiny-[0-9a-f]{8}", name) for name, _ in found)
    assert published(place) == before


class Script:
    """The published evaluation of SQuAD 2.0, one text at a time, on the file as it lies there."""

    def __init__(self, path: Path, predicted: Mapping[str, str]) -> None:
        self.exact: dict[str, int] = {}
        self.f1: dict[str, float] = {}
        self.answerable: list[str] = []
        self.unanswerable: list[str] = []
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            name, texts = row["id"], [text for text in row["answers"] if self.normal(text)]
            (self.answerable if texts else self.unanswerable).append(name)
            said = predicted[name]
            self.exact[name] = max(int(self.normal(text) == self.normal(said)) for text in texts or [""])
            self.f1[name] = max(self.overlap(text, said) for text in texts or [""])

    @staticmethod
    def normal(text: str) -> str:
        kept = "".join(character for character in text.lower() if character not in set(string.punctuation))
        return " ".join(re.sub(r"\b(a|an|the)\b", " ", kept).split())

    def overlap(self, gold: str, said: str) -> float:
        wanted, words = self.normal(gold).split(), self.normal(said).split()
        if not wanted or not words:
            return float(wanted == words)
        same = (Counter(wanted) & Counter(words)).total()
        precision, recall = same / len(words), same / len(wanted)
        return 2 * precision * recall / (precision + recall) if same else 0.0

    @staticmethod
    def mean(values: Mapping[str, float], names: Sequence[str]) -> float:
        return sum(values[name] for name in names) / len(names)


def table(run: Path, name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = tables.read(run, record.tables(record.read(run))[name]).to_pylist()
    return rows


def observation(question: Question, text: str) -> Observed:
    answer = Answer(question.text, text, not text, (), (), "a file of answers", None, Usage())
    return Observed(
        question=question,
        arm="retrieved",
        repeat=0,
        ranking=(),
        prompt_passages=0,
        answer=answer,
        failure=None,
        prompt=None,
        prompt_sha256=None,
        cached=False,
        usage=Usage(),
        usd_saved=0.0,
        retrieve_seconds=0.0,
        generate_seconds=None,
        asked_at=datetime(2026, 11, 22, tzinfo=UTC),
    )
