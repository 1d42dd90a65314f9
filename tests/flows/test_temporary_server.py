"""Our own temporary Prefect server: it records the run, and nothing of it is left, however we end."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.searched import Watch
from tests.flows.making import CANARY, Project, alive, eventually, stopped_itself
from tests.servers import faults

pytestmark = [pytest.mark.prefect, pytest.mark.slow]
PAUSED = {"RAGLINE_FAULT": "lock.held:1:pause"}


def left_over(made: Project) -> list[str]:
    """Processes and files of Prefect that are still there."""
    homes = [str(path) for path in (made.folder / "tmp").iterdir()]
    return alive(made.mark) + homes + [str(path) for path in [made.folder / "prefect"] if path.exists()]


def test_a_run_without_a_configured_server_gets_one_and_leaves_nothing(alone: Project) -> None:
    done = alone.run("index", "--runner", "prefect")
    assert done.returncode == 0, done.stderr
    assert "version 1 is live" in done.stdout
    told, *progress = done.stderr.splitlines()
    assert "make server" in told
    assert "PREFECT_API_URL" in told
    assert progress[0].startswith("reading and cutting")
    assert not any("warning" in line or "Prefect" in line for line in progress), done.stderr
    assert left_over(alone) == []


def test_the_next_one_starts_from_a_template_and_a_damaged_template_is_made_anew(
    alone: Project, template_cache: Path
) -> None:
    def template() -> Path:
        (found,) = template_cache.glob("ragline/prefect-*.db")
        return found

    if not list(template_cache.glob("ragline/*")):
        assert alone.index("--runner", "prefect")["exit_code"] == 0
    sound = template().read_bytes()
    assert alone.index("--runner", "prefect")["exit_code"] == 0
    assert template().read_bytes() == sound
    template().write_bytes(sound[:5000] + b"\0" * 4000 + sound[9000:])
    assert alone.index("--runner", "prefect")["exit_code"] == 0
    assert template().read_bytes()[:5000] == sound[:5000] or len(template().read_bytes()) > 9000
    assert template().read_bytes() != sound[:5000] + b"\0" * 4000 + sound[9000:]


def test_the_server_is_given_no_key(alone: Project) -> None:
    process = alone.start("index", "--runner", "prefect", **PAUSED)
    try:
        assert eventually(lambda: stopped_itself(process), bool, 120)
        servers = [
            entry for entry in Path("/proc").iterdir() if entry.name.isdigit() and _is_server_of(entry, process.pid)
        ]
        assert len(servers) == 1
        assert CANARY.encode() not in (servers[0] / "environ").read_bytes()
    finally:
        process.kill()
        process.communicate()
    assert eventually(lambda: left_over(alone), lambda left: not left) == []


def test_no_key_is_in_a_file_or_a_command_line_while_it_runs(alone: Project) -> None:
    with faults.serving() as quoting, Watch(alone.folder / "tmp", alone.mark.encode(), [CANARY]) as watch:
        quoting.always = lambda _: faults.refusal(401, f"wrong key: {quoting.headers[-1]['authorization']}")
        paid = ('embedding.model="openai/m"', "embedding.api_key_env=OPENAI_API_KEY", "embedding.max_tokens=10000")
        flags = [word for setting in paid for word in ("--set", setting)]
        for url in (quoting.url, quoting.url.replace("//", f"//someone:{CANARY}@")):
            told = {"RAGLINE_EMBEDDING__BASE_URL": url, "PREFECT_LOGGING_LEVEL": "DEBUG"}
            done = alone.run("index", "-v", "--runner", "prefect", *flags, **told)
            assert done.returncode == 2, done.stderr
            assert "[key]" in done.stderr
            assert CANARY not in done.stdout + done.stderr
    assert any(name.endswith(".db") for name in watch.files)
    assert any("uvicorn" in line or "prefect" in line for line in watch.processes)
    assert watch.hits == []
    assert [line for line in watch.holders if "flows.cli" not in line] == [], "only our own command is given the key"


def _is_server_of(entry: Path, parent: int) -> bool:
    try:
        return (entry / "stat").read_text().rsplit(")", 1)[1].split()[1] == str(parent)
    except OSError:
        return False


def test_kill_leaves_no_process_and_no_folder(alone: Project) -> None:
    process = alone.start("index", "--runner", "prefect", **PAUSED)
    assert eventually(lambda: stopped_itself(process), bool, 120)
    assert len(alive(alone.mark)) == 2
    process.kill()
    process.communicate()
    assert eventually(lambda: left_over(alone), lambda left: not left, 10) == []
    assert alone.index("--runner", "direct")["reason"] == "published"


def test_kill_while_the_server_starts_leaves_nothing_either(alone: Project) -> None:
    process = alone.start("index", "--runner", "prefect")
    assert eventually(lambda: alive(alone.mark), lambda found: len(found) == 2, 60)
    process.kill()
    process.communicate()
    assert eventually(lambda: left_over(alone), lambda left: not left, 10) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_server_and_run_within_ten_seconds(alone: Project, number: int, code: int) -> None:
    process = alone.start("index", "--runner", "prefect", **PAUSED)
    assert eventually(lambda: stopped_itself(process), bool, 120)
    process.send_signal(number)
    process.send_signal(signal.SIGCONT)
    _, err = process.communicate(timeout=10)
    assert process.returncode == code
    assert "Traceback" not in err
    assert eventually(lambda: left_over(alone), lambda left: not left, 5) == []


def test_two_flows_in_one_process_pay_for_one_server(alone: Project) -> None:
    code = (
        "import os\nfrom pathlib import Path\n"
        "from flows.runners import run_index\nfrom flows.server import prefect_ready\n"
        "from rag.pipeline import Options\nfrom rag.settings import load\n"
        "settings = load([Path('ragline.toml')], os.environ)\n"
        "with prefect_ready() as outer:\n"
        "    reasons = [run_index(settings, Options(), 'prefect', lambda *_: None).reason for _ in range(2)]\n"
        "    with prefect_ready() as inner:\n"
        "        assert inner is outer\n"
        "print(reasons, sorted(outer.expected.values()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=alone.folder,
        env=dict(alone.environment),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "['published', 'unchanged'] [6, 6]\n", done.stderr
    assert done.stderr.count("temporary Prefect server") == 1
    assert "warning" not in done.stderr
    assert left_over(alone) == []
