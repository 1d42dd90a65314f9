"""A server for the providers that misbehaves on demand."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import pytest

from tests.servers import faults


@pytest.fixture
def served() -> Iterator[faults.Served]:
    with faults.serving() as served:
        yield served


@pytest.fixture(autouse=True)
def no_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """To read the machine's certificates takes a client longer than ten requests on loopback, which need none."""
    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", lambda *_, **__: None)
