"""Texts that a provider will not take, remembered beside its vectors, so that no run asks again.

`refused.jsonl` in the namespace of the cache holds a line for each: its key, the provider's reason, and when.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from pathlib import Path

from rag import storage
from rag.clock import text
from rag.errors import refuse_newer

FORMAT = 1
NAME = "refused.jsonl"
_REMEDY = "upgrade ragline; if no newer one has ever written here, remove the file: what it names is asked for again"


def known(folder: Path) -> dict[bytes, str]:
    """Key -> reason of every text of a namespace that was refused. A torn line is passed over: it costs one request.

    Raises StorageFailed, FormatTooNew.
    """
    return {key: reason for key, reason, _ in _lines(folder)}


def _lines(folder: Path) -> Iterator[tuple[bytes, str, str]]:
    """Key, reason and the line itself."""
    path = folder / NAME
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except FileNotFoundError:
        return
    except OSError as error:
        raise storage.unreadable(path, error) from error
    for line in lines:
        try:
            values = json.loads(line)
            refuse_newer(path, values["format"], FORMAT, _REMEDY)
            key, reason = bytes.fromhex(values["key"]), str(values["reason"]).encode("utf-8", "replace").decode()
        except (ValueError, TypeError, KeyError, RecursionError):
            continue
        yield key, reason, line


def remember(folder: Path, refused: Mapping[bytes, str], at: datetime) -> None:
    """Add some, durable when this returns. Raises StorageFailed."""
    lines = [
        json.dumps({"format": FORMAT, "key": key.hex(), "reason": reason, "at": text(at)}, sort_keys=True)
        for key, reason in refused.items()
    ]
    if lines:
        storage.append_line(folder / NAME, "\n".join(lines))


def forget(folder: Path, keys: Collection[bytes]) -> None:
    """Ask for these again. Raises StorageFailed, FormatTooNew."""
    lines = list(_lines(folder))
    kept = [line for key, _, line in lines if key not in keys]
    if len(kept) == len(lines):
        return
    if kept:
        storage.write(folder / NAME, "".join(f"{line}\n" for line in kept).encode())
    else:
        storage.remove_file(folder / NAME)
