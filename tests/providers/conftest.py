"""A server for the providers that misbehaves on demand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers import faults


@pytest.fixture
def served() -> Iterator[faults.Served]:
    with faults.serving() as served:
        yield served
