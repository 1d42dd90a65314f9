"""Which ragline this is."""

from __future__ import annotations

import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def release() -> str:
    """The version of the installed package, or that of the checkout it runs from."""
    try:
        return version("ragline")
    except PackageNotFoundError:
        content = (Path(__file__).resolve().parents[1] / "pyproject.toml").read_text(encoding="utf-8")
        return str(tomllib.loads(content)["project"]["version"])
