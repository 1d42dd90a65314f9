"""A Prefect server to record runs in: the configured one, or a temporary one of ours that dies with us.

This file is also the temporary server's program (`python server.py PARENT SOCKET PIPE HOME KIND`), so it imports nothing of
the project at its head. Nothing that the server is given, stores or logs outlives the run: its home is a temporary folder.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

START_SECONDS = 180.0
"""A cold start under load took 40 s."""
SETTLE_SECONDS = 10.0
HASTE_SECONDS = 2.0
FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
LASTING = "export PREFECT_API_URL=http://127.0.0.1:4200/api"
PR_SET_PDEATHSIG = 1

_QUIET = {"PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL", "PREFECT_INTERNAL_LOGGING_LEVEL": "CRITICAL"}
_ALWAYS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
    "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
    "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
}
DATABASE, TEMPLATE = "prefect.db", "template.db"
# what only a server with schedules or a screen needs
_RECORD_ONLY = {
    "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",
    "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_ENABLED": "false",
    "PREFECT_SERVER_EVENTS_STREAM_OUT_ENABLED": "false",
}
_PASSED_ON = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_", "TZ", "TMP", "LD_", "PYTHON", "VIRTUAL_ENV")
"""The server gets no more of our environment than this: no keys, and no address with a password in it."""


def configured() -> str | None:
    """The API that PREFECT_API_URL or Prefect's active profile names; found without importing Prefect."""
    environ = os.environ
    if environ.get("PREFECT_API_URL"):
        return environ["PREFECT_API_URL"]
    home = Path(environ.get("PREFECT_HOME") or "~/.prefect").expanduser()
    path = Path(environ.get("PREFECT_PROFILES_PATH") or home / "profiles.toml")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        profile = content["profiles"][environ.get("PREFECT_PROFILE") or content["active"]]
        url = profile.get("PREFECT_API_URL")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return url if isinstance(url, str) and url else None


@dataclass(slots=True)
class Recording:
    """Where runs are recorded, and what is to be there before a temporary server may stop."""

    url: str
    process: subprocess.Popen[bytes] | None = None
    log: Path | None = None
    expected: dict[str, int] = field(default_factory=dict)
    """flow run id -> task runs"""

    def settle(self, seconds: float) -> bool:
        """Send what waits in this process, and wait until a temporary server has stored it. False: not all in time."""
        until = time.monotonic() + seconds
        if "prefect" in sys.modules:
            from prefect.events.worker import EventsWorker
            from prefect.logging.handlers import APILogWorker

            EventsWorker.drain_all(timeout=seconds, at_exit=False)
            APILogWorker.drain_all(timeout=max(0.0, until - time.monotonic()), at_exit=False)
        while self.process and self.expected:
            try:
                states = [run["state_type"] for run in self._ask("/task_runs/filter", {"limit": 200})]
            except (OSError, ValueError):
                return False
            if len(states) >= sum(self.expected.values()) and all(state in FINAL for state in states):
                return True
            if time.monotonic() > until:
                return False
            time.sleep(0.1)
        return True

    def _ask(self, path: str, body: Mapping[str, Any]) -> Any:
        request = urllib.request.Request(  # noqa: S310 - our own server
            f"{self.url}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=HASTE_SECONDS) as reply:  # noqa: S310
            return json.load(reply)


_open: list[Recording] = []


@contextlib.contextmanager
def prefect_ready(*, verbose: bool = False, scheduling: bool = False) -> Iterator[Recording]:
    """Prefect, set up and imported, with a server that answers: the configured one, else a temporary one.

    `scheduling` asks a temporary server for its schedules and automations too. Inside itself it gives what is there, so
    that several flows pay for one start. Call it from the main thread, before anything imports Prefect.
    Raises RaglineError when no server can be started.
    """
    from flows.show import note

    if _open:
        yield _open[-1]
        return
    url = configured()
    with contextlib.ExitStack() as stack:
        quiet = {} if verbose else {name: value for name, value in _QUIET.items() if name not in os.environ}
        if url:
            stack.enter_context(_environment({**_ALWAYS, **quiet}))
            recording = Recording(url)
        else:
            note(
                f"a temporary Prefect server records this run; for a history that lasts: `make server`, then {LASTING}"
            )
            recording = stack.enter_context(_temporary_server(scheduling=scheduling, verbose=verbose))
            home = str(recording.log.parent) if recording.log else ""
            own = {"PREFECT_API_URL": recording.url, "PREFECT_HOME": home, "PREFECT_LOGGING_TO_API_ENABLED": "false"}
            stack.enter_context(_environment({**_ALWAYS, **quiet, **own}, without="PREFECT_"))
        # while the server starts on the other core
        import prefect.context

        prefect.context.refresh_global_settings_context()
        _await_health(recording)
        seconds = SETTLE_SECONDS
        _open.append(recording)
        try:
            yield recording
        except Exception:
            raise
        except BaseException:
            seconds = 0.0 if recording.process else HASTE_SECONDS
            raise
        finally:
            _open.remove(recording)
            if seconds and not recording.settle(seconds):
                note("warning: Prefect's record of this run is not complete; the run itself is")


@contextlib.contextmanager
def _environment(values: Mapping[str, str], without: str | None = None) -> Iterator[None]:
    """os.environ with other values for the length of the block."""
    before = dict(os.environ)
    if without:
        for name in [name for name in before if name.startswith(without) and "LOGGING" not in name]:
            del os.environ[name]
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def _temporary_server(*, scheduling: bool, verbose: bool) -> Iterator[Recording]:
    """A server on a free loopback port, in a process of its own that ends with this one, even on kill -9."""
    home = Path(tempfile.mkdtemp(prefix="ragline-prefect-"))
    log = home / "server.log"
    _take_template(home)
    process: subprocess.Popen[bytes] | None = None
    watched, held = os.pipe()
    try:
        with socket.create_server(("127.0.0.1", 0)) as listener, log.open("wb") as output:
            port = listener.getsockname()[1]
            environment = {name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON)}
            environment |= {**_ALWAYS, **({} if scheduling else _RECORD_ONLY), "PREFECT_HOME": str(home)}
            environment |= {"PREFECT_UI_ENABLED": "false", "PREFECT_API_DATABASE_MIGRATE_ON_START": "false"}
            environment |= {"PREFECT_SERVER_LOGGING_LEVEL": "WARNING", "PREFECT_LOGGING_LEVEL": "WARNING"}
            kind = "scheduling" if scheduling else "recording"
            # -P: neither this folder nor the working directory may shadow a package
            command = [sys.executable, "-P", str(Path(__file__).resolve())]
            command += [*map(str, (os.getpid(), listener.fileno(), watched)), str(home), kind]
            process = subprocess.Popen(
                command,
                env=environment,
                pass_fds=(listener.fileno(), watched),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=None if verbose else output,
                start_new_session=True,
            )
        yield Recording(f"http://127.0.0.1:{port}/api", process, log)
    finally:
        os.close(watched)
        if process is not None:
            _stop(process)
        os.close(held)
        shutil.rmtree(home, ignore_errors=True)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the server and whatever it may have started; at most five seconds."""
    for number, seconds in ((signal.SIGTERM, 4.0), (signal.SIGKILL, 1.0)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
            return


def _template() -> Path:
    """An empty database of this release of Prefect: making one takes as long as all the rest of its start."""
    from importlib.metadata import version

    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return cache / "ragline" / f"prefect-{version('prefect')}.db"


def _take_template(home: Path) -> None:
    """Begin with the template, where there is a sound one."""
    database = home / DATABASE
    try:
        shutil.copyfile(_template(), database)
        with contextlib.closing(sqlite3.connect(database)) as opened:
            opened.execute("SELECT version_num FROM alembic_version").fetchone()[0]
            sound = opened.execute("PRAGMA quick_check").fetchone()[0] == "ok"
    except (OSError, sqlite3.Error, TypeError):
        sound = False
    if not sound:
        database.unlink(missing_ok=True)


def _keep_template(home: Path) -> None:
    """Keep what the server made for the next one; harmless if the disk refuses."""
    from rag import storage
    from rag.errors import RaglineError

    with contextlib.suppress(OSError, RaglineError):
        storage.write(_template(), (home / TEMPLATE).read_bytes())


def _await_health(recording: Recording) -> None:
    """Wait for the server's first answer: a temporary one listens already, and answers when it is ready."""
    from rag.errors import RaglineError

    if recording.process is None:
        return
    try:
        urllib.request.urlopen(f"{recording.url}/health", timeout=START_SECONDS).close()  # noqa: S310
    except OSError as error:
        said = recording.log.read_text(encoding="utf-8", errors="replace").strip() if recording.log else ""
        last = said.splitlines()[-1] if said else str(error)
        remedy = "run it again with -v to see why, or use --runner direct"
        raise RaglineError.at("prefect", f"the temporary Prefect server did not start: {last}", remedy) from error
    if recording.log:
        _keep_template(recording.log.parent)


# -- from here on: the program of the server's process


def main(parent: int, listener: int, watched: int, home: Path, kind: str) -> NoReturn:
    """Serve until a signal, or until the process that started us is gone. The home goes with us."""

    def end(*_: object) -> NoReturn:
        shutil.rmtree(home, ignore_errors=True)
        os._exit(0)

    def watch() -> None:
        os.read(watched, 1)  # returns when the last holder of the other end is gone
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(HASTE_SECONDS)
        end()

    signal.signal(signal.SIGTERM, end)
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before the line above
        end()
    threading.Thread(target=watch, daemon=True).start()

    import uvicorn
    from prefect.server.api.server import create_app

    if not (home / DATABASE).exists():
        _make_database(home)
    app = create_app(ephemeral=kind == "recording", final=True)
    config = uvicorn.Config(app, log_config=None, lifespan="on", timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=listener)])
    end()


def _make_database(home: Path) -> None:
    """Prefect's migrations, and a copy of the empty result for the next server."""
    import asyncio

    from prefect.server.database import provide_database_interface

    async def make() -> None:
        database = provide_database_interface()
        await database.create_db()
        await (await database.engine()).dispose()

    asyncio.run(make())
    source, target = sqlite3.connect(home / DATABASE), sqlite3.connect(home / TEMPLATE)
    with contextlib.closing(source), contextlib.closing(target):
        source.backup(target)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]), sys.argv[5])
