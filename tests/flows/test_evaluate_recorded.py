"""The flow `evaluate` against a real Prefect server: the same tables as without, and no secret anywhere."""

from __future__ import annotations

import base64
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.evaluating import fingerprint, lasting, said
from tests.flows.making import CANARY, TEXTS, Project, Server, alive, eventually
from tests.servers import faults
from tests.servers.faults import Answer, Asked, Served

pytestmark = [pytest.mark.prefect, pytest.mark.slow]

DONE = [f"{name} COMPLETED" for name in ("observe", "save", "score")]
ASKED = (
    ("train", "When does the last train leave the summit?", "at nine", "trains.md"),
    ("water", "When does the spring run dry?", "in August", "water.md"),
    ("path", "Until when is the ridge path closed?", "until the snow is gone", "paths.md"),
)

BASIC = f"Basic {base64.b64encode(f'someone:{CANARY}'.encode()).decode()}"
"""How a key in an address is sent."""


@pytest.fixture
def asking(served: Project) -> Project:
    """A recorded project with three questions."""
    rows = []
    for question_id, text, quote, doc_id in ASKED:
        start = TEXTS[doc_id].index(quote)
        gold = {"doc_id": doc_id, "start": start, "end": start + len(quote), "quote": quote}
        row = {"question_id": question_id, "question": text, "answers": [quote], "answerable": True, "gold": [gold]}
        rows.append({**row, "tags": {"about": doc_id}})
    (served.folder / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return served


@pytest.fixture
def chat() -> Iterator[Served]:
    with faults.serving() as serving:
        yield serving


def evaluated(project: Project, *words: str, exit_code: int = 0, **more: str) -> dict[str, Any]:
    done = project.run("eval", "q.jsonl", "--json", *words, **more)
    assert done.returncode == exit_code, done.stdout + done.stderr
    assert CANARY not in done.stdout + done.stderr
    content: dict[str, Any] = json.loads(done.stdout)
    return content


def paid(chat: Served) -> tuple[str, ...]:
    return (
        *("--set", 'generation.model="openai/toy"', "--set", f'generation.base_url="{chat.url}"'),
        *("--set", "generation.api_key_env=OPENAI_API_KEY"),
    )


def test_both_runners_give_the_same_tables_and_the_run_is_recorded(asking: Project, server: Server) -> None:
    words = ("--arms", "retrieved,oracle", "--name", "same")
    recorded = evaluated(asking, *words, "--runner", "prefect")
    direct = evaluated(asking, *words, "--runner", "direct", "--store", "apart")
    assert recorded["summary"] == direct["summary"]
    assert len(recorded["summary"]) > 20
    assert recorded.keys() == direct.keys()
    assert lasting(recorded["path"]) == lasting(direct["path"])
    assert fingerprint(recorded["path"]) == fingerprint(direct["path"])

    run = server.newest()
    assert (run["state_type"], run["state_name"]) == ("COMPLETED", "Evaluated")
    assert run["state"]["message"] == f"run {recorded['run_id']}: 3 questions"
    assert server.settled(run["id"], len(DONE)) == DONE
    artifacts = server.ask("/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run["id"]]}}})
    by_key = {artifact["key"]: artifact for artifact in artifacts}
    assert by_key.keys() == {"evaluate-main", "evaluate-main-summary"}
    assert recorded["run_id"] in by_key["evaluate-main"]["data"]
    counts = json.loads((Path(recorded["path"]) / "run.json").read_text())["counts"]
    assert f"{counts['ok']} answered, {counts['abstained']} abstained, 0 failed" in by_key["evaluate-main"]["data"]
    shown = json.loads(by_key["evaluate-main-summary"]["data"])
    whole = [row for row in recorded["summary"] if row["slice_tag"] == "all"]
    assert [{key: row[key] for key in ("arm", "measure", "mean", "n")} for row in shown] == [
        {key: row[key] for key in ("arm", "measure", "mean", "n")} for row in whole
    ]


def test_a_person_sees_no_line_of_prefect_and_the_table(asking: Project) -> None:
    done = asking.run("eval", "q.jsonl", "--runner", "prefect", "--reindex")
    assert done.returncode == 0, done.stderr
    assert "95 % interval" in done.stdout
    assert "version 1 is live" in done.stdout
    assert "Prefect" not in done.stderr
    assert "flow run" not in done.stderr.lower()
    assert alive(asking.mark) == []


def test_every_ending_has_its_state_and_the_command_its_exit_code(
    asking: Project, server: Server, chat: Served
) -> None:
    def ends(state: str) -> str:
        run = server.newest()
        assert f"{run['state_type']} {run['state_name']}" == state
        return str(run["state"]["message"])

    evaluated(asking, "--runner", "prefect", "--fail-under", "F1>=1", exit_code=10)
    ends("COMPLETED Evaluated")
    chat.always = faults.refusal(400, "this one is refused")
    failed = evaluated(asking, "--runner", "prefect", *paid(chat), exit_code=1)
    assert (failed["status"], failed["errors"]) == ("invalid", 3)
    assert "3 questions" in ends("FAILED Invalid")
    chat.always = faults.refusal(401, "no such key", code="invalid_api_key")
    content = evaluated(asking, "--runner", "prefect", *paid(chat), exit_code=2)
    assert content["error"]["type"] == "KeyMissing"
    ends("FAILED Failed")
    run = server.newest()
    assert server.settled(run["id"], 1) == ["observe FAILED"]


def test_no_key_is_in_a_file_of_prefect_or_of_the_store(asking: Project, server: Server, chat: Served) -> None:
    def quoting(asked: Asked) -> Answer:
        """A server that quotes the key in its refusals, and refuses two of three."""
        key = chat.headers[-1]["authorization"]
        assert key in (f"Bearer {CANARY}", BASIC)
        if ASKED[1][1] in json.dumps(asked):
            return said("It runs dry in August [1].")
        return faults.refusal(400, f"the key {key} may not ask this")

    chat.always = quoting
    flags = (*paid(chat), "--set", "evaluation.max_error_share=1", "--set", "generation.concurrency=1")
    content = evaluated(asking, "--runner", "prefect", *flags, PREFECT_LOGGING_LEVEL="DEBUG")
    assert content["errors"] == 2
    userinfo = chat.url.replace("//", f"//someone:{CANARY}@")
    content = evaluated(asking, "--runner", "prefect", *flags, "--set", f'generation.base_url="{userinfo}"')
    assert content["errors"] == 2
    chat.always = lambda _: faults.refusal(
        401, f"wrong key: {chat.headers[-1]['authorization']}", code="invalid_api_key"
    )
    evaluated(asking, "--runner", "prefect", *flags, "--fresh", "-v", exit_code=2, PREFECT_LOGGING_LEVEL="DEBUG")
    forms = (CANARY.encode(), base64.b64encode(CANARY.encode()).rstrip(b"=")[:-1], BASIC.split()[1].encode())
    places = (server.home, asking.folder / "prefect", asking.store, asking.folder / "tmp")
    files = [path for folder in places for path in folder.rglob("*") if path.is_file()]
    assert [path for path in files if any(form in path.read_bytes() for form in forms)] == []
    kept = {path.name for path in files}
    assert {"answers.sqlite", "run.json", "questions.parquet", "report.html"} <= kept
    for table in lasting(content["path"]).values():
        assert CANARY not in json.dumps(table.to_pylist())


def test_sigterm_ends_the_run_as_crashed_with_143_and_the_next_one_goes_on(
    asking: Project, server: Server, chat: Served
) -> None:
    def stopping(_: Asked) -> Answer:
        return said("At nine [1].") if len(chat.asked) == 1 else Answer(hang=True)

    chat.always = stopping
    flags = (*paid(chat), "--set", "generation.concurrency=1")
    process = asking.start("eval", "q.jsonl", "--runner", "prefect", *flags)
    assert eventually(lambda: len(chat.asked) == 2 or process.poll() is not None, bool, 120)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 143
    assert "the same command continues" in err
    assert "Traceback" not in err
    assert alive(asking.mark) == []
    run = server.newest()
    assert run["state_type"] == "CRASHED"
    assert server.settled(run["id"], 1) == ["observe CRASHED"]
    assert not (Path(asking.store) / "results").exists()
    chat.released.set()
    chat.always = said("At nine [1].")
    chat.asked.clear()
    assert evaluated(asking, "--runner", "direct", *flags)["usage"]["requests"] == len(chat.asked) == 2
