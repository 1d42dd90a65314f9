"""A store, and folders ready to publish."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rag.index.versions import Versions
from tests.index.making import make_folder, texts, vectors


@pytest.fixture
def versions(tmp_path: Path) -> Versions:
    return Versions(tmp_path / "store", "main")


@pytest.fixture
def stage(tmp_path: Path) -> Callable[..., Path]:
    """stage(count, seed) -> a finished folder on the store's file system."""
    made: list[int] = []

    def staged(count: int = 40, seed: int = 1, dimensions: int = 32, **options: object) -> Path:
        made.append(1)
        folder = tmp_path / "store" / "staging" / f"version-{len(made)}"
        make_folder(folder, texts(count, seed), vectors(count, dimensions, seed), **options)  # type: ignore[arg-type]
        return folder

    return staged
