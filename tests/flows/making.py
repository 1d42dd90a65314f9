"""A small project, the `ragline` command as a process, and what Prefect and /proc know about it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[2]
CANARY = "canary-5Ff0a91cQz77"
"""A provider's key that must turn up nowhere."""
TEXTS = {
    "trains.md": "# Trains\n\nThe last train leaves the summit at nine.\n",
    "water.md": "# Water\n\nThe spring behind the hut runs dry in August.\n",
    "paths.md": "# Paths\n\nThe ridge path is closed until the snow is gone.\n",
}


@dataclass(frozen=True)
class Project:
    """A folder with a corpus, settings and an environment of its own."""

    folder: Path
    environment: Mapping[str, str]

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def mark(self) -> str:
        """What stands in the environment of each of its processes, the temporary server's too."""
        return f"TMPDIR={self.environment['TMPDIR']}"

    def start(self, *arguments: str, **more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "flows.cli", *arguments],
            cwd=self.folder,
            env={**self.environment, **more},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments, **more)
        out, err = process.communicate(timeout=300)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def index(self, *arguments: str, **more: str) -> dict[str, Any]:
        """The object of `ragline index --json`."""
        done = self.run("index", "--json", *arguments, **more)
        assert done.stdout, done.stderr
        content: dict[str, Any] = json.loads(done.stdout)
        assert content["exit_code"] == done.returncode
        return content


def project(folder: Path, **environment: str) -> Project:
    """Three Markdown files and a ragline.toml in a folder."""
    corpus = folder / "corpus"
    corpus.mkdir(parents=True)
    for name, text in TEXTS.items():
        (corpus / name).write_text(text)
    (folder / "tmp").mkdir()
    (folder / "ragline.toml").write_text('store = "store"\n[corpus]\npaths = ["corpus"]\n')
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PREFECT_", "RAGLINE_")) and name != "DO_NOT_TRACK"
    }
    own = {
        "PYTHONPATH": str(ROOT),
        "PREFECT_HOME": str(folder / "prefect"),
        "TMPDIR": str(folder / "tmp"),
        "OPENAI_API_KEY": CANARY,
    }
    return Project(folder, {**kept, **own, **environment})


def alive(mark: str) -> list[str]:
    """Command lines of the living processes that carry a mark in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            marked = mark.encode() in (entry / "environ").read_bytes().split(b"\0")
            state = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0]
            if marked and state != "Z":
                found.append((entry / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


def eventually(look: Callable[[], T], right: Callable[[T], bool], seconds: float = 30.0) -> T:
    """What `look` gives as soon as it is right; what it gave last when time is up."""
    until = time.monotonic() + seconds
    while True:
        seen = look()
        if right(seen) or time.monotonic() > until:
            return seen
        time.sleep(0.1)


def stopped_itself(process: subprocess.Popen[str]) -> bool:
    """Whether a process waits at a fault point whose action is `pause`."""
    if process.poll() is not None:
        raise AssertionError(process.communicate())
    return Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T"


@dataclass(frozen=True)
class Server:
    """A running Prefect server."""

    url: str
    home: Path

    def ask(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The reply; a server whose database is busy says 503 and is asked again, as Prefect's own client does."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data, {"Content-Type": "application/json"})

        def answered() -> tuple[Any, ...]:
            try:
                with urllib.request.urlopen(request, timeout=30) as reply:
                    return (json.load(reply),)
            except urllib.error.HTTPError as error:
                if error.code != 503:
                    raise
                return ()

        return eventually(answered, bool)[0]

    def flow_runs(self, tag: str | None = None) -> list[Any]:
        """Newest first."""
        return list(self.ask("/flow_runs/filter", {"sort": "START_TIME_DESC", "limit": 50}))

    def newest(self) -> Any:
        """The newest run that a command began; those of a deployment may follow from any version that goes live."""
        return next(run for run in self.flow_runs() if run["deployment_id"] is None)

    def task_states(self, flow_run: str) -> list[str]:
        rows = self.ask("/task_runs/filter", {"flow_runs": {"id": {"any_": [flow_run]}}})
        return sorted(f"{row['name'].split('-')[0]} {row['state_type']}" for row in rows)

    def settled(self, flow_run: str, tasks: int) -> list[str]:
        """The task states once that many have ended; they come through a queue, after the command has ended."""

        def whole(states: Sequence[str]) -> bool:
            return len(states) == tasks and not any(state.endswith(("RUNNING", "PENDING")) for state in states)

        return eventually(lambda: self.task_states(flow_run), whole)


def end_group(process: subprocess.Popen[Any]) -> None:
    """Stop what a test started in a session of its own."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(10)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
        else:
            return
