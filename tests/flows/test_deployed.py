"""The schedule: prefect.yaml with a real worker, and `ragline serve`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.flows.making import ROOT, TEXTS, Project, Server, alive, end_group, eventually

pytestmark = [pytest.mark.prefect, pytest.mark.slow]
FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


def prefect(made: Project, *arguments: str, cwd: Path = ROOT) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", *arguments],
        cwd=cwd,
        env=_environment(made),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _environment(made: Project, **more: str) -> dict[str, str]:
    """What stands in the environment of a worker: where the store and the corpus are."""
    own = {
        "RAGLINE_STORE": str(made.store),
        "RAGLINE_CORPUS__PATHS": f'["{made.folder / "corpus"}"]',
        "RAGLINE_EVALUATION__DATASET": str(asked(made)),
    }
    return {**made.environment, **own, **more}


@pytest.fixture
def worker(served: Project, server: Server) -> Iterator[Path]:
    """A process worker of the pool `ragline`, in a folder that has nothing to do with the project."""
    prefect(served, "work-pool", "create", "ragline", "--type", "process", "--overwrite")
    elsewhere = served.folder / "elsewhere"
    elsewhere.mkdir()
    log = served.folder / "worker.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "prefect", "worker", "start", "--pool", "ragline"],
            cwd=elsewhere,
            env=_environment(served, PREFECT_WORKER_QUERY_SECONDS="1"),
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield log
    finally:
        end_group(process)


def run_of(server: Server, deployment: str, **parameters: Any) -> Any:
    """Ask for a run of a deployment, and give it when it has ended."""
    made = server.ask(
        f"/deployments/{deployment}/create_flow_run", {"parameters": parameters, "state": {"type": "SCHEDULED"}}
    )
    return eventually(lambda: server.ask(f"/flow_runs/{made['id']}"), lambda run: run["state_type"] in FINAL, 180)


def named(server: Server, flow: str) -> Any:
    return server.ask(f"/deployments/name/{flow}/{flow}")


def asked(made: Project) -> Path:
    """One question about the corpus of a project, as a file."""
    quote = "the summit at nine"
    text = TEXTS["trains.md"]
    start = text.index(quote)
    gold = {"doc_id": "trains.md", "start": start, "end": start + len(quote), "quote": quote}
    row = {"question_id": "q1", "question": "When does the last train leave the summit?", "answers": ["at nine"]}
    path = made.folder / "questions.jsonl"
    path.write_text(json.dumps({**row, "answerable": True, "gold": [gold]}) + "\n")
    return path


def evaluated(server: Server, deployment: str) -> Any:
    """The first run of a deployment that has ended, whoever asked for it."""

    def ended() -> Any:
        runs = server.ask("/flow_runs/filter", {"flow_runs": {"deployment_id": {"any_": [deployment]}}})
        return [run for run in runs if run["state_type"] in FINAL]

    return eventually(ended, bool, 180)[0]


def test_a_worker_runs_the_deployment_of_prefect_yaml(served: Project, server: Server, worker: Path) -> None:
    prefect(served, "deploy", "--all")
    deployment = named(server, "reindex")
    assert [schedule["schedule"]["cron"] for schedule in deployment["schedules"]] == ["15 3 * * *"]
    assert deployment["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"
    assert deployment["global_concurrency_limit"]["limit"] == 1

    refused = run_of(server, deployment["id"])
    assert refused["state_type"] == "FAILED", worker.read_text()
    assert "is new and empty" in refused["state"]["message"]
    assert "create_store" in refused["state"]["message"]
    assert not served.store.exists()

    first = run_of(server, deployment["id"], create_store=True)
    assert first["state_name"] == "Published", first["state"]["message"]
    again = run_of(server, deployment["id"])
    assert again["state_name"] == "Unchanged", again["state"]["message"]
    assert (served.store / "indexes/main/v000001").is_dir()
    follows = evaluated(server, named(server, "evaluate")["id"])  # a version that went live is asked at once
    assert follows["state_name"] == "Evaluated", follows["state"]["message"]
    (run,) = (served.store / "results").glob("*/run.json")
    assert json.loads(run.read_bytes())["index"]["version"] == "v000001"


@pytest.mark.skipif(not shutil.which("git"), reason="git is not here")
def test_a_store_inside_pulled_code_is_refused(served: Project, server: Server, worker: Path) -> None:
    code = served.folder / "code"
    for name in ("flows", "eval", "rag"):
        shutil.copytree(ROOT / name, code / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(served.folder / "corpus", code / "corpus")
    shutil.copy(served.folder / "ragline.toml", code)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.invalid", "-C", str(code)]
    for arguments in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "code"]):
        subprocess.run([*git, *arguments], check=True, capture_output=True)

    flow = server.ask("/flows/", {"name": "reindex"})
    step = {"prefect.deployments.steps.git_clone": {"repository": code.as_uri(), "branch": "main"}}
    made = {
        "name": "pulled",
        "flow_id": flow["id"],
        "entrypoint": "flows/reindex.py:reindex",
        "pull_steps": [step],
        "work_pool_name": "ragline",
        "job_variables": {"env": {"RAGLINE_STORE": "store", "RAGLINE_CORPUS__PATHS": '["corpus"]'}},
        "enforce_parameter_schema": False,
    }
    deployment = server.ask("/deployments/", made)
    run = run_of(server, deployment["id"], create_store=True)
    assert run["state_type"] == "FAILED", worker.read_text()
    assert "lies in the code that Prefect pulled" in run["state"]["message"], run["state"]["message"]


def test_serve_runs_what_is_asked_for_and_ends_with_the_signal(served: Project, server: Server) -> None:
    refused = served.run("serve")
    assert refused.returncode == 2
    assert "--create-store" in refused.stderr
    process = served.start("serve", "--cron", "0 0 1 1 *", "--create-store", PREFECT_RUNNER_POLL_FREQUENCY="1")
    try:
        assert process.stderr is not None
        assert "re-indexing by 0 0 1 1 *" in process.stderr.readline()

        def ready() -> Any:
            rows = server.ask("/deployments/filter", {"deployments": {"name": {"any_": ["reindex"]}}})
            return [row for row in rows if (row["entrypoint"] or "").endswith("flows.reindex.reindex")]

        (deployment,) = eventually(ready, bool, 60)
        assert deployment["schedules"][0]["schedule"]["timezone"] == "UTC"
        run = run_of(server, deployment["id"])
        assert run["state_name"] == "Published", run["state"]["message"]
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
        assert process.returncode == 143
    finally:
        process.kill()
        process.communicate()
    assert eventually(lambda: alive(served.mark), lambda left: not left) == []


def test_serve_without_a_configured_server_has_its_own_which_dies_with_it(alone: Project) -> None:
    assert alone.index("--runner", "direct")["reason"] == "published"
    process = alone.start("serve", "--cron", "0 0 1 1 *")
    assert process.stderr is not None
    assert "make server" in process.stderr.readline()
    assert "re-indexing by" in process.stderr.readline()
    process.kill()
    process.communicate()
    assert eventually(lambda: alive(alone.mark), lambda left: not left, 10) == []
    assert os.listdir(alone.folder / "tmp") == []


@pytest.mark.parametrize(
    ("flags", "place"),
    [
        (("--cron", "every night"), "schedule.cron"),
        (("--set", 'schedule.timezone="Mars/Olympus"'), "schedule.timezone"),
    ],
)
def test_serve_refuses_a_schedule_that_is_none(alone: Project, flags: tuple[str, ...], place: str) -> None:
    done = alone.run("serve", "--create-store", *flags)
    assert done.returncode == 2
    assert place in done.stderr
