"""Starting the simulator: in a process of its own, or in a thread of this one; and the handle that a test holds."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.provider.app import Account
from tests.provider.http import Server
from tests.provider.options import Options, flags
from tests.provider.routes import Routes
from tests.provider.vectors import digest

AWAY = 5.0
"""For so many seconds a fault may keep the simulator away from those who ask at /sim."""
ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Simulator:
    """A running one, asked over HTTP at /sim; none of that is logged."""

    port: int
    options: Options
    pid: int = 0
    """Of its process; 0 when it is a thread of this one."""

    @property
    def url(self) -> str:
        """For OpenAI's client."""
        return f"{self.anthropic_url}/v1"

    @property
    def anthropic_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def key(self) -> str:
        return self.options.key

    def log(self, path: str = "", *, texts: bool = False) -> list[dict[str, Any]]:
        """The requests whose path holds this; see log.Entry. `texts` are their sha256, or without asking their number."""
        found: list[dict[str, Any]] = self._ask("GET", f"/sim/log?texts={int(texts)}")
        return [entry for entry in found if path in entry["path"]]

    def bill(self) -> dict[str, Any]:
        """`texts`: how often each was billed, by its sha256; `models`, `tokens`, `usd`."""
        found: dict[str, Any] = self._ask("GET", "/sim/bill")
        return found

    def billed(self, text: str) -> int:
        """How often this text was paid for, batches included."""
        times: int = self.bill()["texts"].get(digest(text).hex(), 0)
        return times

    def refusals(self) -> list[dict[str, Any]]:
        """The requests that met a limit; not those that were wrong, or refused by a fault."""
        return [entry for entry in self.log() if entry["refused"] in {"requests", "tokens", "output-tokens"}]

    def span(self, model: str = "") -> dict[str, float]:
        """`least` and `actual` seconds of the run so far, and what they consist of; see app.Account.span."""
        found: dict[str, float] = self._ask("GET", f"/sim/span?model={model}")
        return found

    def least_span(self, model: str = "") -> float:
        return self.span(model)["least"]

    def faults(self, *placements: Mapping[str, Any]) -> None:
        """Replace all that is placed; see placement.Placement."""
        self._ask("POST", "/sim/faults", list(placements))

    def add_fault(self, **placement: Any) -> None:
        self._ask("POST", "/sim/faults", placement)

    def limits(self, **limits: float) -> None:
        """`rpm`, `tpm`, `otpm`, from now on."""
        self._ask("POST", "/sim/limits", limits)

    def batches(self, **terms: Any) -> None:
        """How batches created from now on go; see lines.Terms."""
        self._ask("POST", "/sim/batch", terms)

    def all_batches(self) -> list[dict[str, Any]]:
        """As /v1/batches shows them, the newest first; not logged."""
        found: list[dict[str, Any]] = self._ask("GET", "/sim/batches")["data"]
        return found

    def all_files(self) -> list[dict[str, Any]]:
        """As /v1/files shows them, the newest first; not logged."""
        found: list[dict[str, Any]] = self._ask("GET", "/sim/files")["data"]
        return found

    def forget(self, batch: str) -> None:
        """From now on there is no batch of this id, and never was."""
        self._ask("POST", "/sim/forget", {"batch": batch})

    def reset(self) -> None:
        """Forget all requests, charges and bills; the next request finds limits as at the start."""
        self._ask("POST", "/sim/reset")

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | Sequence[Any] | None = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        until = time.monotonic() + AWAY
        try:
            while True:
                try:
                    connection.connect()
                    break
                except ConnectionRefusedError:
                    if time.monotonic() > until:
                        raise
                    time.sleep(0.01)
            connection.request(method, path, json.dumps({} if body is None else body))
            reply = connection.getresponse()
            found = json.loads(reply.read())
        finally:
            connection.close()
        if reply.status != 200:
            raise ValueError(found["error"])
        return found


async def serve(options: Options, ready: threading.Event | None = None, ports: list[int] | None = None) -> None:
    """Serve until cancelled. The port goes to `ports`, or to standard output."""
    account = Account(options)
    server = Server(Routes(account), account.clock, options.port)
    await server.open()
    if ports is None:
        told = {"port": server.port, "url": f"http://127.0.0.1:{server.port}/v1"}
        print(json.dumps(told), flush=True)  # noqa: T201 - the parent waits for this line
    else:
        ports.append(server.port)
    if ready:
        ready.set()
    try:
        await asyncio.Event().wait()
    finally:
        await server.close()
        await account.close()


@contextlib.contextmanager
def running(options: Options | None = None) -> Iterator[Simulator]:
    """A simulator in a process of its own, up for the block; it dies with this process."""
    options = options or Options()
    command = [sys.executable, "-m", "tests.provider", "--with-parent"]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        with process.stdin:
            process.stdin.write(json.dumps(flags(options)) + "\n")
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"the simulator did not start: it left with {process.wait()}")
        yield Simulator(json.loads(line)["port"], options, process.pid)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@contextlib.contextmanager
def threaded(options: Options | None = None) -> Iterator[Simulator]:
    """A simulator in a thread of this process: quicker to start, but it shares the interpreter with its client."""
    options = options or Options()
    loop = asyncio.new_event_loop()
    ready, ports = threading.Event(), list[int]()
    task = loop.create_task(serve(options, ready, ports))

    def run() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            loop.run_until_complete(task)
        ready.set()

    thread = threading.Thread(target=run, name="provider", daemon=True)
    thread.start()
    try:
        ready.wait(10)
        yield Simulator(ports[0], options)
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join(10)
        loop.close()
