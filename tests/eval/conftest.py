"""A small corpus, indexed once for every test of the harness that asks a real index."""

from __future__ import annotations

import pytest

from rag.settings import Settings
from tests.eval.observing import indexed


@pytest.fixture(scope="session")
def small_index(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of a store with one published version of `tests.eval.observing.TEXTS`, in small chunks."""
    return indexed(tmp_path_factory.mktemp("small"), "chunking.max_tokens=32", "chunking.overlap_tokens=8")
