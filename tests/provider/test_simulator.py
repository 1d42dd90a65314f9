"""It stands alone, starts quickly, is told by flags what Options say, and leaves with who started it."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import provider
from tests.provider import Options
from tests.provider.options import flags, parse
from tests.provider.simulator import ROOT
from tests.provider.wire import connected, embed

HERE = Path(__file__).parent


def test_it_imports_nothing_of_what_is_tested_with_it() -> None:
    for path in HERE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.partition(".")[0] for name in names} & {"rag", "eval", "flows"}, path


def test_flags_say_what_options_say() -> None:
    options = Options(rule="sliding", drained=True, faults=({"fault": "nan", "at": [1]},), batch={"expire": 0.5})
    assert parse(flags(options)) == options
    assert parse([]) == Options()
    with pytest.raises(SystemExit):
        parse(["--rule", "none"])
    with pytest.raises(ValueError, match="rule is one of bucket60"):
        Options(rule="none")


def test_a_process_of_its_own_starts_quickly_and_answers() -> None:
    begun = time.monotonic()
    with provider.running(Options(tpm=100)) as sim:
        assert time.monotonic() - begun < 5  # a fifth of a second on a quiet machine
        assert sim.pid != os.getpid()
        assert sim.key not in Path(f"/proc/{sim.pid}/cmdline").read_text()
        assert embed(sim, "word " * 100).status == 200
        assert embed(sim, "a").status == 429
        assert len(sim.refusals()) == 1
    with pytest.raises(ProcessLookupError):
        os.kill(sim.pid, 0)


def test_it_dies_with_the_process_that_started_it() -> None:
    script = (
        "import time\nfrom tests import provider\n"
        "with provider.running() as sim:\n    print(sim.pid, flush=True)\n    time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    for _ in range(200):
        try:
            state = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return
        if state == "Z":  # dead; nobody has looked yet
            return
        time.sleep(0.01)
    pytest.fail("it outlived its parent")


def test_a_request_that_is_no_http_is_refused() -> None:
    with provider.threaded() as sim, connected(sim) as line:
        line.sendall(b"hello\r\n\r\n")
        assert line.recv(100).startswith(b"HTTP/1.1 400")


def test_a_body_may_come_in_chunks() -> None:
    with provider.threaded() as sim, connected(sim) as line:
        head = f"POST /v1/embeddings HTTP/1.1\r\nauthorization: Bearer {sim.key}\r\ntransfer-encoding: chunked\r\n\r\n"
        body = b'{"model":"text-embedding-3-small",', b'"input":"a"}'
        line.sendall(head.encode() + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in body) + b"0\r\n\r\n")
        assert line.recv(100).startswith(b"HTTP/1.1 200")
