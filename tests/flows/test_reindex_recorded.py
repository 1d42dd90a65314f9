"""The flow against a real Prefect server: what it records, and what it never holds."""

from __future__ import annotations

import base64
import http.server
import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rag import storage
from rag.clock import SystemClock
from tests.batches.making import NEVER
from tests.flows.making import CANARY, Project, Server, alive, eventually, project, stopped_itself
from tests.provider import Options, threaded

pytestmark = [pytest.mark.prefect, pytest.mark.slow]

DONE = [f"{name} COMPLETED" for name in ("build", "embed", "look", "plan", "publish", "read")]
PAID = ("--set", 'embedding.model="openai/text-embedding-3-small"')
KEYED = ("--set", "embedding.api_key_env=OPENAI_API_KEY")
"""Without it a server of `base_url` gets no key at all."""
VOLATILE = {"run_id", "seconds"}


@pytest.fixture
def refusing() -> Iterator[str]:
    """An API that refuses every key, and quotes it."""

    class Refusing(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            said = {"error": {"message": f"wrong key: {self.headers['Authorization']}", "code": "invalid_api_key"}}
            data = json.dumps(said).encode()
            self.send_response(401)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_address[1]}/v1"
        listening.shutdown()


def test_a_run_is_recorded_with_its_tasks_artifacts_and_event(served: Project, server: Server) -> None:
    done = served.run("index", "--runner", "prefect")
    assert done.returncode == 0, done.stderr
    assert "version 1 is live" in done.stdout
    assert "Prefect" not in done.stderr
    assert "flow run" not in done.stderr.lower()

    run = server.newest()
    assert (run["state_type"], run["state_name"]) == ("COMPLETED", "Published")
    assert run["state"]["message"] == "version 1 is live"
    assert server.settled(run["id"], len(DONE)) == DONE

    artifacts = server.ask("/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run["id"]]}}})
    by_key = {artifact["key"]: artifact for artifact in artifacts}
    assert by_key.keys() == {"reindex-main", "reindex-main-causes"}
    assert "- added: 3 (`paths.md`, `trains.md`, `water.md`)" in by_key["reindex-main"]["data"]
    causes = json.loads(by_key["reindex-main-causes"]["data"])
    assert [cause["cause"] for cause in causes] == ["new"]
    assert causes[0]["texts"] == 3

    def events() -> list[dict[str, object]]:
        asked = {"filter": {"event": {"name": ["ragline.version.published"]}}}
        return [
            event
            for event in server.ask("/events/filter", asked)["events"]
            if any(related["prefect.resource.id"].endswith(run["id"]) for related in event["related"])
        ]

    (event,) = eventually(events, bool)
    assert event["payload"]["version"] == 1  # type: ignore[index]


def test_both_runners_leave_the_same_bytes_and_tell_the_same(served: Project, tmp_path: Path) -> None:
    other = project(tmp_path / "direct")
    recorded = served.index("--runner", "prefect")
    direct = other.index("--runner", "direct")
    assert {name: recorded[name] for name in recorded.keys() - VOLATILE} == {
        name: direct[name] for name in direct.keys() - VOLATILE
    }
    assert _bytes(served) == _bytes(other)
    assert len(_bytes(served)) > 5


def _bytes(made: Project) -> dict[str, bytes]:
    version = made.store / "indexes/main/v000001"
    return {
        path.relative_to(version).as_posix(): path.read_bytes()
        for path in version.rglob("*")
        if path.is_file() and path.name != "build.json"
    }


def test_every_ending_has_its_state_and_the_command_its_exit_code(
    served: Project, server: Server, refusing: str
) -> None:
    def ends(exit_code: int, state: str, *arguments: str) -> str:
        content = served.index("--runner", "prefect", *arguments)
        assert content["exit_code"] == exit_code, content
        run = server.newest()
        assert f"{run['state_type']} {run['state_name']}" == state
        return str(run["state"]["message"])

    ends(4, "FAILED OverBudget", *PAID, "--max-usd", "0")
    said = ends(2, "FAILED Failed", *PAID, *KEYED, "--set", f'embedding.base_url="{refusing}"', "--max-tokens", "10000")
    assert "wrong key" not in said or CANARY not in said
    ends(0, "COMPLETED Published")
    ends(0, "COMPLETED Unchanged")
    with storage.lock(served.store, "the test", SystemClock()):
        assert "`the test`" in ends(3, "COMPLETED Skipped")
    (served.folder / "corpus/more.md").write_text("# More\n\nBread is sold on Sundays.\n")
    ends(0, "COMPLETED Staged", "--no-publish")
    ends(0, "COMPLETED Published")
    assert served.run("rollback", "--reason", "too early").returncode == 0
    (served.folder / "corpus/more.md").write_text("# More\n\nBread is sold on Mondays.\n")
    assert "too early" in ends(6, "FAILED NotPublished")
    ends(2, "FAILED Failed", "--set", 'corpus.include=["*.none"]')


def test_batches_are_submitted_and_waited_for(served: Project, server: Server) -> None:
    with threaded(Options(key=CANARY, batch=NEVER)) as sim:
        words = ("--batch", *PAID, *KEYED, "--set", f'embedding.base_url="{sim.url}"', "--max-tokens", "10000")

        def ends(state: str) -> None:
            assert served.index("--runner", "prefect", *words)["exit_code"] == 0
            run = server.newest()
            assert f"{run['state_type']} {run['state_name']}" == state
            assert server.settled(run["id"], len(DONE)) == DONE

        ends("COMPLETED Submitted")
        ends("COMPLETED Waiting")
        online = served.index("--runner", "prefect", *(word for word in words if word != "--batch"))
        assert online["exit_code"] == 3
        run = server.newest()
        assert f"{run['state_type']} {run['state_name']}" == "FAILED InBatch", "nobody else does the work"


def test_no_key_and_no_result_is_in_a_file_of_prefect(served: Project, server: Server, refusing: str) -> None:
    userinfo = refusing.replace("//", f"//someone:{CANARY}@")
    paid = (*PAID, *KEYED, "--max-tokens", "10000", "--set")
    for url in (refusing, userinfo):
        content = served.index(
            "--runner", "prefect", *paid, f'embedding.base_url="{url}"', PREFECT_LOGGING_LEVEL="DEBUG"
        )
        assert content["exit_code"] != 0
        assert CANARY not in json.dumps(content)
    assert served.index("--runner", "prefect")["exit_code"] == 0
    forms = (CANARY.encode(), base64.b64encode(CANARY.encode()).rstrip(b"=")[:-1])
    holding = [
        path
        for folder in (server.home, served.folder / "prefect", served.store)
        for path in folder.rglob("*")
        if path.is_file() and any(form in path.read_bytes() for form in forms)
    ]
    assert holding == []
    for home in (server.home, served.folder / "prefect"):
        assert not [path for path in home.rglob("*") if path.is_file() and "storage" in path.parts]


def test_sigterm_ends_the_run_as_crashed_with_143(served: Project, server: Server) -> None:
    process = served.start("index", "--runner", "prefect", RAGLINE_FAULT="lock.held:1:pause")
    assert eventually(lambda: stopped_itself(process), bool, 120)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGCONT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 143
    assert "the same command continues" in err
    assert "Traceback" not in err
    assert alive(served.mark) == []
    run = server.newest()
    assert run["state_type"] == "CRASHED"
    assert server.settled(run["id"], 1) == ["look CRASHED"]
    assert served.index("--runner", "direct")["reason"] == "published"
