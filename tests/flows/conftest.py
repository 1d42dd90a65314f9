from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flows.making import Project, Server, end_group, eventually, project


@pytest.fixture(scope="session")
def template_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where temporary servers of these tests keep their empty database."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def alone(tmp_path: Path, template_cache: Path) -> Project:
    """A project that knows of no Prefect server."""
    return project(tmp_path / "alone", XDG_CACHE_HOME=str(template_cache))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real `prefect server start`, with a home of its own."""
    home = tmp_path_factory.mktemp("prefect-server")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
        "PREFECT_HOME": str(home),
        "PREFECT_UI_ENABLED": "false",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    made = Server(f"http://127.0.0.1:{port}/api", home)
    try:
        assert eventually(lambda: _healthy(made) or process.poll() is not None, bool, 180)
        assert process.poll() is None
        yield made
    finally:
        end_group(process)


def _healthy(server: Server) -> bool:
    try:
        return bool(server.ask("/health"))
    except OSError:
        return False


@pytest.fixture
def served(tmp_path: Path, server: Server) -> Project:
    """A project whose runs are recorded by the server."""
    return project(tmp_path / "served", PREFECT_API_URL=server.url)
