"""The commands of the harness in one process: what they print, the one object of --json, thresholds and samples."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.cli import main
from tests.cli.conftest import Said
from tests.cli.evaluating import ASKED, ROWS, UNANSWERABLE, furnish
from tests.house import lexical_in_process
from tests.servers import faults

Ragline = Callable[..., Said]
HEAD = ["schema_version", "command", "ok", "exit_code"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One folder with a published version and a run named `first`, which is the working directory."""
    folder = tmp_path_factory.mktemp("evaluated") / "place"
    furnish(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("rag.retrieval.lexical.build_in_child", lexical_in_process)
        for name in list(os.environ):
            if name.startswith("RAGLINE_") or name in ("OPENAI_API_KEY", "PREFECT_API_URL"):
                patch.delenv(name)
        assert main(["index", "--json"]) == 0
        assert main(["eval", "--runner", "direct", "--json", "--name", "first"]) == 0
        yield folder


@pytest.fixture
def ragline(place: Path, capsys: pytest.CaptureFixture[str]) -> Ragline:
    def run(*words: str) -> Said:
        capsys.readouterr()
        direct = ("--runner", "direct") if words[0] == "eval" else ()
        code = main([*words, *direct])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return Said(code, out, err)

    return run


def whole(said: Said, command: str, *, ok: bool = True) -> dict[str, Any]:
    """The one object on stdout; where all is well nothing else is said."""
    content: dict[str, Any] = said.json
    assert list(content)[:4] == HEAD
    assert (content["schema_version"], content["command"], content["ok"]) == (1, command, ok)
    assert content["exit_code"] == said.code
    assert not ok or said.err == ""
    return content


def means(content: dict[str, Any], arm: str = "retrieved") -> dict[str, Any]:
    return {row["measure"]: row for row in content["summary"] if (row["arm"], row["slice_tag"]) == (arm, "all")}


def test_an_evaluation_is_one_object_with_the_promised_fields(ragline: Ragline) -> None:
    content = whole(ragline("eval", "--json"), "eval")
    promised = ["run_id", "path", "index", "version", "questions", "errors", "summary"]
    assert [key for key in promised if key not in content] == []
    assert (content["index"], content["version"], content["questions"], content["errors"]) == (
        "main",
        "v000001",
        ROWS,
        0,
    )
    assert (Path(content["path"]) / "run.json").is_file()
    row = content["summary"][0]
    assert list(row) == ["measure", "arm", "slice_tag", "slice_value", "n", "unscored", "errors", "mean", "low", "high"]
    assert means(content)["R@5"]["mean"] == 1.0
    assert {row["slice_tag"] for row in content["summary"]} == {"all", "about", "kind"}


def test_a_person_reads_a_table_with_intervals_and_where_the_report_lies(ragline: Ragline) -> None:
    said = ragline("eval")
    assert said.code == 0
    assert "95 % interval" in said.out
    assert f"{ROWS} questions of" in said.out
    assert "report.html" in said.out.splitlines()[-1]
    assert "few clusters" in said.out
    assert "read as canonical" in said.err


def test_a_run_says_its_name_its_measures_and_its_command(ragline: Ragline) -> None:
    asked = "P(rel=2)@5,nDCG@10"
    content = whole(ragline("eval", "--json", "--name", "two", "--measures", asked), "eval")
    assert list(means(content)) == ["P(rel=2)@5", "nDCG@10"]
    kept = json.loads((Path(content["path"]) / "run.json").read_text())
    assert (kept["name"], [each["name"] for each in kept["measures"]]) == ("two", ["P(rel=2)@5", "nDCG@10"])
    assert kept["command"] == ["ragline", "eval", "--json", "--name", "two", "--measures", asked, "--runner", "direct"]
    assert whole(ragline("show", "two", "--json"), "show")["run"]["run_id"] == content["run_id"]


def test_arms_and_repeats_make_a_row_each(ragline: Ragline) -> None:
    arms = ("retrieved", "oracle", "closed_book")
    content = whole(ragline("eval", "--json", "--arms", ",".join(arms), "--repeats", "2"), "eval")
    kept = json.loads((Path(content["path"]) / "run.json").read_text())
    assert (kept["counts"]["questions"], kept["counts"]["rows"], kept["repeats"]) == (ROWS, ROWS * 6, 2)
    rows = {table["file"]: table["rows"] for table in kept["tables"]}
    assert rows["scores.parquet"] == ROWS * 6 * len(kept["measures"])
    assert list(dict.fromkeys(row["arm"] for row in content["summary"])) == list(arms)
    assert means(content)["Contains"]["n"] == len(ASKED) * 2
    said = ragline("show", content["run_id"])
    assert {line.split()[0] for line in said.out.splitlines() if line} >= set(arms)
    assert f"{ROWS} questions of q.jsonl" in said.out
    assert ", in 3 arms, each 2 times, answered by local/extractive" in said.out
    assert "\nnot right of retrieved: " in said.out


def test_an_arm_that_nothing_can_be_measured_in_is_named(ragline: Ragline) -> None:
    Path("plain.csv").write_text("question,answer\nHow many tracks has the depot in Tessen?,four\n")
    said = ragline("eval", "plain.csv", "--arms", "retrieved,oracle")
    assert said.code == 0
    assert "oracle: nothing can be measured: no question names the passages that answer it" in said.out
    assert "\n1 question of plain.csv" in said.out


def test_a_sample_is_the_same_every_time_and_another_for_another_seed(ragline: Ragline) -> None:
    def drawn(*words: str) -> list[str]:
        content = whole(ragline("eval", "--json", "--limit", "4", *words), "eval")
        assert content["questions"] == 4
        shown = json.loads((Path(content["path"]) / "run.json").read_text())
        assert (shown["dataset"]["limit"], shown["dataset"]["questions"]) == (4, 4)
        return asked(content)

    first = drawn()
    assert drawn() == first
    assert any(drawn("--set", f"evaluation.seed={seed}") != first for seed in (1, 2))


def asked(content: dict[str, Any]) -> list[str]:
    from eval import record, tables

    folder = Path(content["path"])
    lines = record.tables(record.read(folder))
    found: list[str] = tables.read(folder, lines["questions"])["question_id"].to_pylist()
    return found


def test_where_takes_questions_of_a_tag_or_within_one_and_over_two(ragline: Ragline) -> None:
    one = asked(whole(ragline("eval", "--json", "--where", "about=depot"), "eval"))
    assert one == ["depot-1", "depot-2"]
    two = asked(whole(ragline("eval", "--json", "--where", "about=depot", "--where", "about=soup"), "eval"))
    assert two == ["depot-1", "depot-2", "soup-1"]
    both = asked(whole(ragline("eval", "--json", "--where", "about=depot", "--where", "kind=number"), "eval"))
    assert both == ["depot-2"]
    before = ragline("runs", "--json").json["runs"]
    wrong = ragline("eval", "--json", "--where", "abuot=depot")
    assert (wrong.code, "about" in wrong.json["error"]["problems"][0]["remedy"]) == (2, True)
    assert ragline("runs", "--json").json["runs"] == before


def test_a_threshold_that_is_held_ends_with_0_and_one_that_is_missed_with_10(ragline: Ragline) -> None:
    held = ragline("eval", "--json", "--fail-under", "R@5>=0.9", "--fail-under", "WronglyAbstained<=1")
    assert whole(held, "eval")["missed"] == []
    missed = ragline("eval", "--json", "--fail-under", "R@5>=0.9", "--fail-under", "WronglyAnswered<=0")
    content = whole(missed, "eval", ok=False)
    rate = means(content)["WronglyAnswered"]["mean"]
    assert rate > 0
    assert (missed.code, content["missed"]) == (10, [f"WronglyAnswered<=0 is missed: WronglyAnswered is {rate:.4f}"])
    assert (Path(content["path"]) / "report.html").is_file()
    said = ragline("eval", "--fail-under", "P(rel=2)@5>=0.5", "--measures", "P(rel=2)@5")
    assert (said.code, "P(rel=2)@5>=0.5 is missed: P(rel=2)@5 is 0.0000" in said.err) == (10, True)


@pytest.mark.parametrize(
    ("words", "where", "remedy"),
    [
        (["--fail-under", "R@5=0.9"], "--fail-under", "R@5>=0.85"),
        (["--fail-under", "R@7>=0.9"], "--fail-under R@7>=0.9", "--measures"),
        (["--fail-under", "Recal@5>=0.9"], "Recal@5", ""),
        (["--fail-under", "R@5<=0.9"], "--fail-under", "R@5>=0.9"),
        (["--fail-under", "WronglyAnswered>=0.9"], "--fail-under", "WronglyAnswered<=0.9"),
        (["--fail-under", "WronglyAnswered<=0.9", "--where", "about=depot"], "--fail-under", "--measures"),
        (["--measures", "Correctness"], "Correctness", "judge.model"),
        (["--measures", "nDGC@10"], "nDGC@10", "nDCG"),
        (["--arms", "gold"], "--arms gold", "retrieved"),
        (["--where", "about"], "--where", "--where lang=en"),
        (["nothing.jsonl"], "nothing.jsonl", ""),
    ],
)
def test_a_mistake_is_told_before_anything_is_made(
    ragline: Ragline, place: Path, words: list[str], where: str, remedy: str
) -> None:
    before = sorted(place.rglob("*"))
    said = ragline("eval", "--json", "--set", "chunking.max_tokens=77", *words)
    content = whole(said, "eval", ok=False)
    (problem,) = content["error"]["problems"]
    assert said.code == 2
    assert where in problem["where"]
    assert remedy in problem["remedy"]
    assert sorted(place.rglob("*")) == before


def test_a_threshold_is_of_what_the_chosen_questions_are_measured_with(ragline: Ragline) -> None:
    said = ragline("eval", "--json", "--where", "about=nothing", "--fail-under", "WronglyAnswered<=1")
    assert whole(said, "eval")["questions"] == len(UNANSWERABLE)


@pytest.mark.slow
def test_too_many_failures_keep_the_run_as_invalid_and_end_with_1(ragline: Ragline, place: Path) -> None:
    with faults.serving() as served:
        served.always = lambda asked: faults.refusal(400, "this one is refused")
        sets = ("--set", 'generation.model="openai/toy"', "--set", f'generation.base_url="{served.url}"')
        said = ragline("eval", "--json", "--name", "broken", "--limit", "3", "--measures", "R@5,Contains", *sets)
        content = whole(said, "eval", ok=False)
        assert (said.code, content["status"], content["errors"]) == (1, "invalid", 3)
        assert means(content)["R@5"]["mean"] == 1.0
        assert (means(content)["Contains"]["n"], means(content)["Contains"]["mean"]) == (0, None)
        assert len(served.asked) == 3
        again = ragline("eval", "--limit", "3", "--measures", "R@5,Contains", *sets)
        assert (again.code, "the run is invalid: 3 of 3 answers failed" in again.err) == (1, True)
        assert len(served.asked) == 6, "a failure is not kept"
        allowed = ragline(
            "eval", "--json", "--limit", "3", "--measures", "R@5", *sets, "--set", "evaluation.max_error_share=1"
        )
        assert (allowed.code, allowed.json["status"], allowed.json["errors"]) == (0, "complete", 3)
    (kept,) = (run for run in ragline("runs", "--json").json["runs"] if run["name"] == "broken")
    assert (kept["status"], kept["errors"]) == ("invalid", 3)
    shown = ragline("show", "broken")
    assert "3 failed" in shown.out
    assert "invalid" in (Path(content["path"]) / "report.html").read_text()


def test_the_runs_are_listed_newest_first(ragline: Ragline) -> None:
    content = whole(ragline("runs", "--json"), "runs")
    rows = content["runs"]
    assert (rows[-1]["name"], rows[-1]["questions"], rows[-1]["status"]) == ("first", ROWS, "complete")
    assert [row["run_id"] for row in rows] == sorted((row["run_id"] for row in rows), reverse=True)
    lines = ragline("runs").out.splitlines()
    assert lines[0].split()[:2] == ["run", "name"]
    assert len(lines) == len(rows) + 1


def test_a_run_is_shown_as_it_was_printed(ragline: Ragline) -> None:
    made = ragline("eval", "--name", "shown")
    shown = ragline("show", "shown")
    assert made.out.endswith("\n\n" + shown.out)
    content = whole(ragline("show", "shown", "--json"), "show")
    assert {"path", "run", "summary"} <= content.keys()
    assert content["run"]["name"] == "shown"


def test_one_question_is_shown_with_all_that_it_met(ragline: Ragline) -> None:
    content = whole(ragline("show", "first", "depot-1", "--json"), "show")
    (observation,) = content["observations"]
    assert observation["row"]["question_id"] == "depot-1"
    assert [each["rank"] for each in observation["retrieved"]][:2] == [1, 2]
    assert {each["measure"] for each in observation["scores"]} >= {"R@5", "Contains", "SpanHit@5"}
    said = ragline("show", "first", "depot-1").out
    for text in (ASKED[1][1], 'expected: ["four"]', "SpanHit@5", "depot.md@"):
        assert text in said
    assert "goats-1" in ragline("show", "first", "goats").out
    wrong = ragline("show", "first", "depo", "--json")
    assert (wrong.code, "depot-1, depot-2" in wrong.json["error"]["message"]) == (2, True)
    wrong = ragline("show", "frist", "--json")
    assert (wrong.code, "first" in wrong.json["error"]["problems"][0]["remedy"]) == (2, True)


def test_a_report_is_found_or_written_anew(ragline: Ragline, place: Path) -> None:
    content = whole(ragline("report", "first", "--json"), "report")
    path = Path(content["path"])
    assert (path.name, path.parent.name) == ("report.html", content["run_id"])
    sound = path.read_bytes()
    assert ragline("report", "first").out.strip() == str(path)
    anew = place / "anew.html"
    assert whole(ragline("report", "first", "--output", str(anew), "--json"), "report")["path"] == str(anew)
    assert anew.read_bytes() == sound
    path.unlink()
    assert ragline("report", "first").code == 0
    assert path.read_bytes() == sound


def test_an_export_stands_alone(ragline: Ragline, place: Path) -> None:
    content = whole(ragline("export", "for-anna", "first", "--json"), "export")
    (run_id,) = content["runs"]
    assert sorted(path.name for path in Path("for-anna").iterdir()) == sorted([run_id, "views.sql"])
    assert ragline("show", "first", "--store", "for-anna").code == 0
    again = ragline("export", "for-anna", "first", "--json")
    assert (again.code, "there already" in again.json["error"]["message"]) == (2, True)
    assert "1 run in for-bert" in ragline("export", "for-bert", "first").out


def test_a_set_is_described_and_converted(ragline: Ragline) -> None:
    content = whole(ragline("dataset", "describe", "q.jsonl", "--json"), "dataset")
    assert (content["format"], content["questions"]) == ("canonical", ROWS)
    said = ragline("dataset", "describe", "q.jsonl").out
    assert f"questions: {ROWS}" in said
    assert "kind" in said
    converted = whole(ragline("dataset", "convert", "q.jsonl", "q.parquet", "--json"), "dataset")
    assert (converted["questions"], converted["path"]) == (ROWS, "q.parquet")
    assert f"{ROWS} questions of" in ragline("dataset", "convert", "q.jsonl", "again.jsonl.gz").out
    back = whole(ragline("dataset", "describe", "q.parquet", "--json"), "dataset")
    assert (back["questions"], back["tags"]) == (content["questions"], content["tags"])
    assert ragline("dataset", "convert", "q.jsonl", "--json").code == 2
    assert ragline("dataset", "convert", "q.jsonl", "q.docx", "--json").code == 2


def test_a_trec_run_is_scored_without_index_and_store(ragline: Ragline, tmp_path: Path) -> None:
    (tmp_path / "qrels").write_text("1 0 a 2\n1 0 b 0\n2 0 c 1\n3 0 d 0\n")
    (tmp_path / "run").write_text("1 Q0 a 1 3.0 x\n1 Q0 z 2 2.0 x\n4 Q0 a 1 1.0 x\n")
    words = ("score", str(tmp_path / "qrels"), str(tmp_path / "run"), "--measures", "P(rel=2)@5,nDCG@10,RR")
    content = whole(ragline(*words, "--json"), "score")
    assert [(row["measure"], row["mean"]) for row in content["summary"]] == [
        ("P(rel=2)@5", pytest.approx(0.2 / 3)),
        ("nDCG@10", pytest.approx(1 / 3)),
        ("RR", pytest.approx(1 / 3)),
    ]
    assert (content["queries"], content["without_results"], content["unjudged"]) == (3, ["2", "3"], ["4"])
    said = ragline(*words, "--per-query")
    assert said.out.splitlines()[0].split() == ["query", "P(rel=2)@5", "nDCG@10", "RR"]
    assert "judged quer" in said.out


PRINTED = {"map": "AP", "P_5": "P@5", "P_10": "P@10", "recip_rank": "RR", "Rprec": "Rprec", "bpref": "Bpref"}


def test_every_value_that_trec_eval_prints_is_printed_by_score(ragline: Ragline, datasets: Path) -> None:
    folder = datasets / "trec-eval-vectors"
    theirs = {
        (query, PRINTED[name]): value
        for name, query, value in (line.split() for line in (folder / "out.test.aq").read_text().splitlines())
        if name in PRINTED
    }
    qrels, run = str(folder / "qrels.test"), str(folder / "results.test")
    said = ragline("score", qrels, run, "--measures", ",".join(PRINTED.values()), "--per-query")
    header, *lines = (line.split() for line in said.out.splitlines() if line)
    ours = {
        (row[0], measure): value
        for row in lines
        if len(row) == len(header)
        for measure, value in zip(header[1:], row[1:], strict=True)
    }
    assert len(theirs) > 3 * len(PRINTED)
    assert {key: ours.get(key) for key in theirs} == theirs


@pytest.mark.slow
def test_measures_are_calibrated_against_people(ragline: Ragline, datasets: Path) -> None:
    path = str(datasets / "evouna-nq")
    content = whole(ragline("eval", "--calibrate", path, "--limit", "60", "--json"), "eval")
    assert (content["answers"], content["judge"], content["kept"]) == (60, None, None)
    whole_set = {each["rater"]: each for each in content["agreements"] if each["system"] is None}
    assert whole_set.keys() >= {"EM", "F1", "Contains", "ROUGE-L"}
    assert whole_set["EM"]["n"] == 60
    said = ragline("eval", "--calibrate", path, "--limit", "60")
    assert said.out.splitlines()[0].split()[:3] == ["rater", "system", "n"]
    assert "60 answers of" in said.out
    assert "no judge is named" in said.err
    assert ragline("eval", "--calibrate", "nowhere", "--json").code == 2


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--corpus-from-dataset", "--reindex"), "--reindex has no effect beside --corpus-from-dataset"),
        (("--corpus-from-dataset", "--index", "x"), "--index has no effect beside --corpus-from-dataset"),
        (("--version", "1", "--reindex"), "--reindex has no effect beside --version"),
    ],
)
def test_a_flag_that_would_have_no_effect_is_refused(ragline: Ragline, flags: tuple[str, ...], named: str) -> None:
    said = ragline("eval", *flags)
    assert said.code == 2
    assert named in said.err
