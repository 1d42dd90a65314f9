"""Experiments: versions of settings that are not live, made by `ragline eval`, apart from the numbered ones.

An experiment is named by its content, so that two evaluations that make the same one at once need no lock: the first
rename wins. No CURRENT names one, `publish` and `rollback` never see one, and losing one costs building it again.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from rag import storage
from rag.errors import Damaged, NotFound, Problem, RaglineError
from rag.index.manifest import BUILD, MANIFEST
from rag.index.opening import open_pinned, pin_version, unread
from rag.index.search import OpenVersion
from rag.sealed import read_sealed

_NAME = re.compile(r"[0-9a-f]{16}")


class Experiments:
    """The experiments of one index in a store."""

    def __init__(self, store: Path, name: str) -> None:
        self.root = store / "indexes" / name / "experiments"

    def folder(self, name: str) -> Path:
        return self.root / name

    def names(self) -> list[str]:
        """Every experiment, oldest first."""
        found = [path for path in self.root.glob("*") if _NAME.fullmatch(path.name) and path.is_dir()]
        return [path.name for path in sorted(found, key=_made)]

    def made_of(self, fingerprint: str) -> str | None:
        """The sound experiment that was made of these sources and settings."""
        for name in self.names():
            with contextlib.suppress(RaglineError, OSError):
                if read_sealed(self.folder(name) / BUILD).get("fingerprint") == fingerprint and self.sound(name):
                    return name
        return None

    def sound(self, name: str) -> bool:
        """Whether the experiment is there. A damaged one is dropped, for it is made again."""
        try:
            self.open(name).close()
        except NotFound:
            return False
        except Damaged:
            storage.remove_folder(self.folder(name))
            return False
        return True

    def open(self, name: str) -> OpenVersion:
        """The experiment, pinned against `gc`; its number is 0. Raises NotFound, Damaged, FormatTooNew."""
        folder = self.folder(name)
        pin = pin_version(folder)
        if pin is None:
            what = f"there is no experiment {name}"
            raise NotFound(what, [Problem(str(folder), what, "run `ragline eval` with its settings again")])
        try:
            return open_pinned(folder, 0, pin, None)
        except BaseException:
            pin.close()
            raise

    def keep(self, folder: Path, name: str) -> None:
        """Give a finished folder its name; one that has it already holds the same. Raises StorageFailed."""
        storage.sync_tree(folder)
        try:
            storage.move_folder(folder, self.folder(name))
        except OSError:
            if not self.folder(name).is_dir():
                raise

    def gc(self, keep: int, *, dry_run: bool = False) -> tuple[str, ...]:
        """Remove all but the newest `keep` and those that a reader holds; gives what goes. Raises StorageFailed."""
        removed = tuple(self._removed(self.names()[: -keep or None], dry_run=dry_run))
        if not dry_run:
            for path in (self.root / "opened").glob("*"):
                if not self.folder(path.stem).is_dir():
                    storage.remove_file(path)
        return removed

    def _removed(self, names: list[str], *, dry_run: bool) -> Iterator[str]:
        for name in names:
            with unread(self.folder(name)) as free:
                if free:
                    if not dry_run:
                        storage.remove_folder(self.folder(name))
                    yield name


def _made(folder: Path) -> tuple[float, str]:
    try:
        return (folder / MANIFEST).stat().st_mtime, folder.name
    except OSError:
        return 0.0, folder.name
