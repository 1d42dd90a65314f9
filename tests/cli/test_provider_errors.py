"""What a person reads when the provider fails, or refuses a text: one clear message, the texts by name, and the way out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.provider import Options, Simulator, threaded

KEY = "sk-canary-0b1d77c2ee90"
MODEL = "openai/text-embedding-3-small"
INDEX = ("index", "--runner", "direct")


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with threaded(Options(key=KEY)) as running:
        yield running


@pytest.fixture
def hosted(
    ragline: Callable[..., Any], sim: Simulator, place: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    monkeypatch.setenv("SIM_KEY", KEY)
    monkeypatch.setattr("rag.providers.retry._BASE", 0.001)
    monkeypatch.setattr("rag.providers.retry._CAP", 0.002)
    with (place / "ragline.toml").open("a") as file:
        file.write("max_failed_share = 0.5\n")
        file.write(f'[embedding]\nmodel = "{MODEL}"\nbase_url = "{sim.url}"\napi_key_env = "SIM_KEY"\n')
        file.write("dimensions = 16\ntimeout_seconds = 0.5\n")
        file.write(f'[prices]\n"{MODEL}" = {{ input = 0.02 }}\n')
    return ragline


ERRORS = {
    "nan": (
        1,
        "the vector of text 1 is not finite (sent ",
        "text 1 is pass.md@",
        "check what answers at base_url",
    ),
    "short": (
        1,
        "2 vectors for 3 texts (sent 3 times)",
        "3 texts of this request: depot.md@",
        "run the same command again",
    ),
    "other_model": (1, "by model 'text-embedding-somebody-else', asked was", "depot.md@", "check what answers"),
    "html": (1, "the reply cannot be used: a page of HTML (sent 3 times)", "viaduct.md@", "check what answers"),
    "reset": (1, "the connection broke (sent 6 times)", "viaduct.md@", "check that the server runs"),
    "hang": (1, "in the time it may take (timeout_seconds = 0.5) (sent 6 times)", "viaduct.md@", "base_url is right"),
    "500": (1, "500: The server had an error while", "depot.md@", "run the same command later: it continues"),
    "429_quota": (1, "429: You exceeded your current quota", "depot.md@", "add credit to the account"),
    "401": (2, "401: Incorrect API key provided: [key]", "SIM_KEY: -> ", "check the key, and its access to this model"),
    "403": (2, "403: Project `proj_sim` does not have access", "SIM_KEY: -> ", "its access to this model"),
    "404": (2, "404: The model `text-embedding-3-small` does not exist", "/v1: -> ", "check the model's name"),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", ERRORS)
def test_an_error_says_what_which_texts_and_what_to_do(hosted: Callable[..., Any], sim: Simulator, fault: str) -> None:
    code, what, which, now = ERRORS[fault]
    sim.faults({"fault": fault})
    failed = hosted(*INDEX)
    assert (failed.code, failed.out) == (code, "")
    told = [line for line in failed.err.splitlines() if not line.endswith("...")]
    assert told[0].startswith(f"ragline: {MODEL}: ")
    assert what in told[0]
    assert which in failed.err
    assert now in failed.err
    assert all(line.startswith("  ") for line in told[1:])
    assert KEY not in failed.err
    if code == 1:
        assert "they are not stored, what was answered is; the next run sends them again" in failed.err
    (last,) = [line for line in hosted("status").out.splitlines() if "last try" in line]
    assert what in last
    assert len(last) < 300
    sim.faults()
    assert hosted(*INDEX).code == 0


def test_a_key_that_is_named_and_not_set_is_foreseen_whoever_serves(
    hosted: Callable[..., Any], sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SIM_KEY")
    assert "the environment variable SIM_KEY is not set" in hosted("settings", "--check").out
    assert [each["reason"] for each in hosted("plan", "--json").json["obstacles"]] == ["key_missing"]
    failed = hosted(*INDEX)
    assert (failed.code, sim.log()) == (2, [])
    assert "export SIM_KEY=..." in failed.err
    assert 'for a server without keys write api_key_env = ""' in failed.err
    assert "reading" not in failed.err


@pytest.mark.slow
def test_asked_where_the_settings_name_another_server_it_says_where_the_version_was_made(
    hosted: Callable[..., Any], sim: Simulator, place: Path
) -> None:
    assert hosted(*INDEX).code == 0
    settings = place / "ragline.toml"
    settings.write_text(settings.read_text().replace(sim.url, "http://127.0.0.1:9/v1"))
    failed = hosted("ask", "Who closes the pass?")
    assert failed.code == 2
    assert f"version 1: it was made with {MODEL} at {sim.url}" in failed.err
    assert f"the settings say {MODEL} at http://127.0.0.1:9/v1" in failed.err
    assert "or run `ragline index`, which embeds all texts anew" in failed.err


def test_an_address_with_a_query_is_a_mistake_of_the_settings(hosted: Callable[..., Any], sim: Simulator) -> None:
    failed = hosted(*INDEX, "--set", f'embedding.base_url="{sim.url}?api-version=preview"')
    assert (failed.code, sim.log()) == (2, [])
    assert "takes no query" in failed.err
    assert "leave out what begins with ?" in failed.err


@pytest.mark.slow
def test_a_refused_text_is_counted_and_asked_for_again_when_told_to(hosted: Callable[..., Any], sim: Simulator) -> None:
    sim.faults({"fault": "400_context", "text": "seven arches"})
    first = hosted(*INDEX)
    assert first.code == 0
    assert "2 texts embedded" in first.out
    assert "left out: 0 sources, 1 chunk (excluded.parquet says why)" in first.out
    asked = len(sim.log())
    assert "nothing has changed" in hosted(*INDEX).out
    assert "texts      2: 2 in the cache, 0 to embed" in hosted("plan").out
    assert len(sim.log()) == asked
    again = hosted(*INDEX, "--retry-refused", "--json").json
    assert (again["reason"], again["embedded"], again["excluded_chunks"]) == ("unchanged", 0, 1)
    sim.faults()
    planned = hosted("plan", "--retry-refused", "--out", "plan.json")
    assert "`ragline index --retry-refused --plan plan.json`" in planned.out
    taken = hosted(*INDEX, "--retry-refused", "--plan", "plan.json", "--json").json
    assert (taken["reason"], taken["version"], taken["embedded"], taken["excluded_chunks"]) == ("published", 2, 1, 0)
    assert hosted("verify").code == 0


def test_too_many_refused_end_the_run_and_the_flag_is_the_way_out(
    hosted: Callable[..., Any], sim: Simulator, place: Path
) -> None:
    settings = place / "ragline.toml"
    settings.write_text(settings.read_text().replace("max_failed_share = 0.5", "max_failed_share = 0.1"))
    sim.faults({"fault": "400_nameless", "text": "seven arches"})
    failed = hosted(*INDEX)
    assert failed.code == 1
    assert f"ragline: {MODEL} refused 1 chunk (33.3%), more than corpus.max_failed_share = 10.0%" in failed.err
    assert "its content is not acceptable" in failed.err
    assert "docs/viaduct.md: refused: " in failed.err
    assert "--retry-refused" in failed.err
    assert "live       nothing yet" in hosted("status").out
    sim.faults()
    assert hosted(*INDEX).code == 1
    assert hosted(*INDEX, "--retry-refused").code == 0
