"""Canonical JSON that carries its own sha256: no flipped byte of it passes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from rag.digest import canonical, digest
from rag.errors import Damaged, refuse_newer
from rag.storage import write
from rag.types import Json

SEAL = "sealed_sha256"
_REMEDY = "run `ragline verify`, then `ragline repair` or `ragline rollback`"


def write_sealed(path: Path, values: Mapping[str, Json]) -> None:
    """Write canonical JSON that carries its own sha256, so that no flipped byte passes. Raises StorageFailed."""
    write(path, canonical({**values, SEAL: digest(dict(values))}) + b"\n")


def read_sealed(path: Path, newest: int = 1, remedy: str = _REMEDY) -> dict[str, Json]:
    """Read what `write_sealed` wrote. Raises Damaged, FormatTooNew for a `format` above `newest`, OSError."""
    return parse_sealed(path.read_bytes(), path, newest, remedy)


def parse_sealed(data: bytes, path: Path, newest: int, remedy: str = _REMEDY) -> dict[str, Json]:
    """The values of sealed bytes. Raises Damaged, FormatTooNew."""
    try:
        values = json.loads(data)
        found, sealed = values.get("format", 1), values.pop(SEAL, None)
        right = sealed == digest(values) and data == canonical({**values, SEAL: sealed}) + b"\n"
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise damaged(path, "it is no JSON object", remedy) from error
    # a newer format may be sealed in another way
    if right or sealed is None:
        refuse_newer(path, found, newest)
    if not right:
        raise damaged(path, "its bytes do not match the sha256 they carry", remedy)
    return dict(values)


def damaged(path: Path, why: str, remedy: str = _REMEDY) -> Damaged:
    """The error of a sealed file that cannot be believed."""
    return Damaged.at(str(path), f"{path} is damaged: {why}", remedy)
