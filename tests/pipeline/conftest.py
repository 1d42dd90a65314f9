"""The small house of tests/house.py, with four documents in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.house import CountingModel, House

__all__ = ["CountingModel", "House"]


@pytest.fixture
def house(tmp_path: Path) -> House:
    made = House(tmp_path)
    made.write("a.md", "---\ntitle: Alpha\n---\n# Alpha\n\nThe first letter.\n\n## Use\n\nIt begins words.\n")
    made.write("b.md", "# Beta\n\nThe second letter.\n\n## Use\n\nIt follows alpha.\n")
    made.write("c/c.md", "# Gamma\n\nThe third letter.\n")
    made.write("d.txt", "Delta is the fourth letter.\n")
    return made
