"""What is wrong is said before anything is made or paid for; what a server says of a key stands nowhere."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from flows.cli import main
from tests.cli.conftest import Said
from tests.cli.evaluating import ROWS, chat, furnish, said
from tests.house import lexical_in_process
from tests.servers import faults

Ragline = Callable[..., Said]
KEY = "canary7f2e9c71d04b"
PAGE = faults.Answer(200, b"<html>Sign in</html>", {"content-type": "text/html"})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One folder with a published version, which is the working directory."""
    folder = tmp_path_factory.mktemp("bad") / "place"
    furnish(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("rag.retrieval.lexical.build_in_child", lexical_in_process)
        for name in list(os.environ):
            if name.startswith("RAGLINE_") or name in ("OPENAI_API_KEY", "PREFECT_API_URL"):
                patch.delenv(name)
        patch.setenv("CANARY", KEY)
        assert main(["index", "--json"]) == 0
        yield folder


@pytest.fixture
def ragline(place: Path, capsys: pytest.CaptureFixture[str]) -> Ragline:
    def run(*words: str) -> Said:
        capsys.readouterr()
        code = main([*words, *(("--runner", "direct") if words[0] == "eval" else ())])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        assert "mistake of ragline" not in out + err
        return Said(code, out, err)

    return run


def held(store: Path) -> set[str]:
    return {str(path) for path in store.rglob("*") if path.is_file()}


def asked_of(url: str, section: str) -> tuple[str, ...]:
    values = {"model": "openai/toy", "base_url": url, "api_key_env": "CANARY"}
    return tuple(word for key, value in values.items() for word in ("--set", f'{section}.{key}="{value}"'))


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--arms", ""], "it is empty"),
        (["--measures", " , "], "it is empty"),
        (["--calibrate", ""], "it is empty"),
        (["--arms", "retrieved,retrieved"], "names no arm, or one twice"),
        (["--set", "evaluation.arms=[]"], "names no arm, or one twice"),
        (["--name", "@latest"], "cannot be the name of a run"),
        (["--name", "a\nb\x1b[31m"], "cannot be the name of a run"),
        (["--name", "x" * 101], "cannot be the name of a run"),
        (["--measures", "nDCG@" + "9" * 5000], "a cutoff has at most 9 digits"),
        (["--measures", f"P(rel={'9' * 12})@5"], "rel is not"),
        (["--set", 'generation.model="openai/gpt-4o"'], "OPENAI_API_KEY is not set"),
        (["--set", 'judge.model="openai/gpt-4o"'], "OPENAI_API_KEY is not set"),
        (["--set", 'judge.model="foo/bar"'], "judge.model = 'foo/bar'"),
        (["--set", 'generation.model="openai/nope"'], "no chat model 'nope'"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_a_mistake_ends_with_2_before_an_index_is_made(
    ragline: Ragline, place: Path, words: list[str], what: str, as_json: bool
) -> None:
    before = held(place / "store")
    done = ragline("eval", *words, "--set", "chunking.max_tokens=99", *(["--json"] if as_json else []))
    assert done.code == 2
    told = json.dumps(done.json["error"]) if as_json else done.err
    assert what in told
    assert held(place / "store") == before


def test_a_judge_without_a_key_is_no_matter_where_nothing_is_judged(ragline: Ragline) -> None:
    done = ragline("eval", "--measures", "R@5", "--set", 'judge.model="openai/gpt-4o"', "--json")
    assert done.code == 0


def test_results_that_are_a_file_are_said_before_a_question_is_asked(ragline: Ragline, place: Path) -> None:
    results, aside = place / "store" / "results", place / "aside"
    if results.exists():
        results.rename(aside)
    results.write_text("mine")
    try:
        with faults.serving() as served:
            done = ragline("eval", *asked_of(served.url, "generation"))
        assert (done.code, len(served.asked)) == (1, 0)
        assert f"cannot use {results}" in done.err
        assert results.read_text() == "mine"
    finally:
        results.unlink()
        if aside.exists():
            aside.rename(results)


def test_a_run_whose_judge_only_fails_is_invalid_and_says_why(ragline: Ragline) -> None:
    with faults.serving() as served:
        served.always = lambda _: faults.refusal(400, "no such thing")
        done = ragline("eval", "--json", "--measures", "R@5,Correctness", *asked_of(served.url, "judge"))
    content = done.json
    assert (done.code, content["status"], content["errors"]) == (1, "invalid", 0)
    assert f"0 of {ROWS} answers and 8 of 8 verdicts failed" in content["error"]["message"]
    (problem,) = content["error"]["problems"]
    assert problem["where"] == "verdict"
    assert "400: no such thing (8 times)" in problem["what"]


def test_a_key_that_a_server_says_again_stands_in_no_file_and_no_message(ragline: Ragline, place: Path) -> None:
    def echo(asked: dict[str, Any]) -> faults.Answer:
        if len(served.asked) % 3 == 0:
            return faults.refusal(400, f"Incorrect API key provided: {KEY}")
        reply = json.loads(said(f"Your key is {KEY} [1].").body)
        return faults.Answer(200, json.dumps({**reply, "model": KEY}).encode(), {"content-type": "application/json"})

    with faults.serving() as served:
        served.always = echo
        done = ragline("eval", "--name", "echo", *asked_of(served.url, "generation"))
        shown = ragline("show", "echo", "pass-1")
    assert any(KEY in header for headers in served.headers for header in headers.values()), "the key was sent"
    assert "[key]" in done.out + shown.out
    assert KEY not in done.out + done.err + shown.out + shown.err
    for path in map(Path, held(place / "store")):
        data = path.read_bytes()
        if path.suffix == ".parquet":
            data = json.dumps(pq.ParquetFile(path).read().to_pylist(), default=str).encode()
        assert KEY.encode() not in data, path


def test_tokens_that_no_reply_has_are_unknown_and_lose_nothing(ragline: Ragline) -> None:
    reply = json.loads(said("Four tracks [1].").body)
    usage = {"prompt_tokens": -5, "completion_tokens": 10**30}
    with faults.serving() as served:
        served.always = faults.Answer(
            200, json.dumps({**reply, "usage": usage}).encode(), {"content-type": "application/json"}
        )
        done = ragline("eval", "--json", "--limit", "2", *asked_of(served.url, "generation"))
    assert (done.code, done.json["usage"]["output_tokens"], done.json["usage"]["usd"]) == (0, 0, None)


def test_a_report_is_written_over_no_device_and_no_folder(ragline: Ragline, place: Path) -> None:
    assert ragline("eval", "--measures", "R@5").code == 0
    for target in ("/dev/null", str(place)):
        done = ragline("report", "--output", target)
        assert (done.code, f"{target} is no file" in done.err) == (2, True)
    link = place / "link.html"
    link.symlink_to("real.html")
    assert ragline("report", "--output", str(link)).code == 0
    assert link.is_symlink()
    assert (place / "real.html").read_bytes().startswith(b"<!DOCTYPE html>")


def test_a_run_of_a_name_that_no_file_has_is_not_found(ragline: Ragline) -> None:
    done = ragline("report", "x" * 5_000)
    assert done.code == 2
    assert "there is no run" in done.err
    assert len(done.err) < 9_000, "nobody reads a message of any length"


def test_a_store_of_answers_that_is_a_folder_is_said_as_it_is(ragline: Ragline, place: Path) -> None:
    furnish(place / "other", chat("generation", "http://127.0.0.1:9/v1"))
    (place / "other" / "store" / "answers.sqlite").mkdir(parents=True)
    config = str(place / "other" / "ragline.toml")
    done = ragline("eval", "--config", config, "--reindex")
    assert (done.code, "answers.sqlite: Is a directory" in done.err) == (1, True)
