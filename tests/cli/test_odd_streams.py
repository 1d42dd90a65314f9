"""Output that nobody takes, bytes that are no text, and lines that are more than one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flows.cli import main


@pytest.mark.slow
def test_output_that_cannot_be_written_is_told_and_one_that_nobody_reads_is_not(shell: Any) -> None:
    full = shell("ragline settings > /dev/full")
    assert full.code == 1
    assert "No space left on device" in full.err
    assert shell("ragline --help > /dev/full").code == 1
    assert shell("ragline settings --json > /dev/full").code == 1
    assert shell("ragline rolback --json > /dev/full").code == 1
    for line in ("ragline settings >&-", "ragline settings --json >&- 2>&-", "ragline settings 2>&- <&-"):
        assert shell(line).code == 0, line
    assert shell("ragline rolback 2>/dev/full").code == 2
    piped = shell("set -o pipefail; ragline settings | true")
    assert piped.code in (0, 141)
    assert piped.err == ""


@pytest.mark.slow
def test_a_run_whose_streams_are_closed_publishes_all_the_same(shell: Any, place: Path) -> None:
    assert shell("ragline index <&- >&- 2>&-").code == 0
    assert shell("ragline verify").code == 0


@pytest.mark.slow
def test_what_an_encoding_lacks_is_escaped(shell: Any, place: Path) -> None:
    (place / "docs" / "café ☕ 😀.md").write_text("# Café\n\nThe café at the summit opens at nine.\n")
    assert shell("ragline index", PYTHONIOENCODING="ascii").code == 0
    said = shell("ragline ask 'When does the café open?'", PYTHONIOENCODING="ascii")
    assert said.code == 0
    assert "caf\\xe9" in said.out
    told = shell("ragline ask --json 'When does the café open? 😀'", PYTHONIOENCODING="ascii")
    assert told.json["question"] == "When does the café open? 😀"


@pytest.mark.slow
def test_arguments_that_are_no_text_are_answered_as_any_others(shell: Any) -> None:
    assert shell("ragline index").code == 0
    asked = shell(r"ragline ask $'Who \xff?'")
    assert (asked.code, "not UTF-8" in asked.err) == (2, True)
    assert shell(r"ragline ask --json $'\xff'").json["exit_code"] == 2
    for line in (r"plan --set $'corpus.paths=[\"\xff\"]'", r"$'\xff'", r"plan --config $'\xff'", r"eval $'\xff'"):
        assert shell(f"ragline {line}").code == 2, line
    assert shell(r"ragline status --json --store $'st\xff'").json["ok"]


def test_a_checkout_that_nobody_installed_knows_its_version(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from importlib import metadata

    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("ragline 0.")


def test_one_line_stays_one_line_whatever_an_id_holds(ragline: Any, place: Path) -> None:
    rows = [{"id": "one\nok: all is well\ttrue\u2028", "text": "The ferry to Gullvik leaves at nine."}]
    (place / "docs" / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert ragline("index").code == 0
    said = ragline("ask", "When does the ferry to Gullvik leave?")
    assert "nine" in said.out
    assert not [line for line in said.out.splitlines() if line.startswith("ok: all is well")]
    assert "one ok: all is well true" in said.out


def test_a_message_of_many_lines_is_shown_as_one(ragline: Any) -> None:
    said = ragline("plan", "--set", "retrieval.mode=dense\nragline: all is well")
    assert said.code == 2
    assert not [line for line in said.err.splitlines() if line.startswith("ragline: all is well")]


def test_a_filter_that_leaves_nothing_says_what_it_could_have_asked_for(ragline: Any) -> None:
    ragline("index")
    said = ragline("ask", "Who closes the pass?", "--where", "lang=EN")
    assert said.code == 0
    assert "no document matches --where lang=EN" in said.err
    assert "lang can be de (1), en (1)" in said.err
