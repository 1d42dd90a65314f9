"""Versions of one index: publish, rollback, open, gc. One swap of CURRENT is the only moment that matters.

CURRENT.backup is a copy, written after each swap: no reader looks at it, `restore_current` puts it in place of a
damaged CURRENT.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rag.clock import Clock, SystemClock, text
from rag.digest import file_sha256
from rag.errors import Damaged, NotFound, Problem, RaglineError, UsageError
from rag.index.current import CURRENT_REMEDY, Current, Hold, Published, damaged
from rag.index.manifest import BUILD, MANIFEST, Manifest
from rag.index.opening import load_manifest, open_pinned, pin_version, unread
from rag.index.search import OpenVersion
from rag.sealed import read_sealed
from rag.storage import faultpoint, move_folder, remove_file, remove_folder, sync_tree, unreadable, write
from rag.types import Json

_NAME = re.compile(r"v(\d{6,})")
_GONE_TRIES = 100
_HISTORY = 100
"""Publishings that CURRENT remembers when their versions are gone."""


@dataclass(frozen=True, slots=True)
class Version:
    """A line of `ragline versions`. Figures are None where the manifest cannot be read."""

    version: int
    content_digest: str | None
    documents: int | None
    chunks: int | None
    published: bool
    """Whether it was ever published."""
    current: bool
    build: Mapping[str, Json]
    """build.json, {} where it is missing or damaged."""


class Versions:
    """The versions of one index in a store. What writes is called under the store's lock (`rag.storage.lock`)."""

    def __init__(self, store: Path, name: str, clock: Clock | None = None) -> None:
        self.root = store / "indexes" / name
        self.name = name
        self._clock = clock or SystemClock()
        self._current = self.root / "CURRENT"
        self._backup = self.root / "CURRENT.backup"

    # -- reading

    def folder(self, version: int) -> Path:
        return self.root / f"v{version:06d}"

    def numbers(self) -> list[int]:
        """The versions whose folders exist, ascending."""
        if not self.root.is_dir():
            return []
        matches = ((_NAME.fullmatch(path.name), path) for path in self.root.iterdir())
        return sorted(int(match[1]) for match, path in matches if match and path.is_dir())

    def state(self) -> Current:
        """What CURRENT says, or nothing at all in a store without versions.

        Raises Damaged where there are versions and no CURRENT that can be read; FormatTooNew, StorageFailed.
        """
        try:
            data = self._current.read_bytes()
        except FileNotFoundError:
            if self.numbers() or self._backup.exists():
                raise damaged(self._current, "it is missing", CURRENT_REMEDY) from None
            return Current(None, None, 0, None)
        except IsADirectoryError:
            remedy = "move it away, then run `ragline repair`"
            raise damaged(self._current, "it is a folder, not a file", remedy) from None
        except OSError as error:
            raise unreadable(self._current, error) from error
        return Current.parse(data, self._current)

    def vouched(self, version: int) -> str | None:
        """The sha256 that a version's manifest must have: only CURRENT knows it, and only that of the live version."""
        with contextlib.suppress(Damaged):
            state = self.state()
            return state.manifest_sha256 if state.version == version else None
        return None

    def listed(self) -> list[Version]:
        """Every version that exists, oldest first. Raises as `state`."""
        state = self.state()
        published = {entry.version for entry in state.published}
        found: list[Version] = []
        for number in self.numbers():
            build: Mapping[str, Json] = {}
            with contextlib.suppress(RaglineError, OSError):
                build = read_sealed(self.folder(number) / BUILD)
            manifest: Manifest | None = None
            with contextlib.suppress(RaglineError, OSError):
                manifest = Manifest.load(self.folder(number) / MANIFEST)
            counts = manifest.counts if manifest else {}
            found.append(
                Version(
                    number,
                    manifest.content_digest if manifest else None,
                    counts.get("documents"),
                    counts.get("chunks"),
                    number in published,
                    number == state.version,
                    build,
                )
            )
        return found

    def find(self, content_digest: str) -> int | None:
        """The newest sound version with this content, published or not."""
        for number in reversed(self.numbers()):
            with contextlib.suppress(RaglineError, OSError):
                if Manifest.load(self.folder(number) / MANIFEST).content_digest == content_digest:
                    return self._existing(number)
        return None

    # -- writing

    def publish_staged(self, folder: Path) -> int:
        """Give a finished folder its number and make it the live version. Returns the number.

        Raises UsageError while a hold is on (ask `state().hold` first, then `stage_only`); StorageFailed.
        """
        state = self._writable_state()
        if state.hold:
            raise UsageError(
                "a rollback holds this index", [Problem("CURRENT", "a rollback holds it", "ragline publish lifts it")]
            )
        number = self._number(folder, state)
        self._swap(self._published(state, number))
        return number

    def stage_only(self, folder: Path) -> int:
        """Keep a finished folder as a numbered version without publishing it. Returns the number."""
        state = self._writable_state()
        number = self._number(folder, state)
        self._swap(replace(state, last=number))
        return number

    def publish(self, version: int | None = None) -> int:
        """Make an existing version live and lift the hold; the newest one by default.

        Works without a readable CURRENT: it is written anew. Raises NotFound, Damaged.
        """
        if version is None and not self.numbers():
            raise self._nothing_published()
        state = self._writable_state()
        number = max(self.numbers()) if version is None else version
        self._swap(self._published(state, self._existing(number)))
        return number

    def rollback(self, version: int | None, reason: str, who: str) -> int:
        """Make an older version live and hold it there. Returns its number.

        The default is the one that was live before CURRENT's. Raises NotFound, Damaged.
        """
        state = self.state()
        if state.version is None:
            raise self._nothing_published()
        target = version if version is not None else self.rollback_target(state)
        if target is None:
            what = f"no version that was published before {state.version} is left"
            remedy = (
                "name one: `ragline versions` lists them" if len(self.numbers()) > 1 else "there is no other one yet"
            )
            raise NotFound(what, [Problem(self.name, what, remedy)])
        if target == state.version:
            what = f"version {target} is live already"
            raise UsageError(what, [Problem(self.name, what, "name another: `ragline versions` lists them")])
        self._existing(target)
        hold = Hold(who, self._now(), reason, state.version)
        self._swap(replace(state, version=target, manifest_sha256=self._manifest_sha256(target), hold=hold))
        return target

    def restore_current(self) -> int | None:
        """Put CURRENT.backup in place of a CURRENT that cannot be read. Returns the version live now.

        Raises Damaged where the copy is no better: which version is to be live is then for `publish V` to say.
        """
        with contextlib.suppress(Damaged):
            return self.state().version
        remedy = f"run `ragline publish V`; it has {', '.join(map(str, self.numbers())) or 'no version'}"
        try:
            state = Current.parse(self._backup.read_bytes(), self._backup)
        except (OSError, Damaged) as error:
            raise damaged(self._current, f"and so is its copy ({error})", remedy) from error
        if state.version is not None:
            self._existing(state.version)
            if self._manifest_sha256(state.version) != state.manifest_sha256:
                raise damaged(self._backup, f"version {state.version} is not the one it names", remedy)
        self._swap(replace(state, last=max([state.last, *self.numbers()])))
        return state.version

    def rollback_target(self, state: Current) -> int | None:
        """The version that was live before CURRENT's and still exists."""
        exists, seen, version = set(self.numbers()), {state.version}, state.version
        before = {entry.version: entry.after for entry in state.published}
        while version in before:
            version = before[version]
            if version is None or version in seen:
                break
            if version in exists:
                return version
            seen.add(version)
        return None

    def _now(self) -> str:
        return text(self._clock.utc())

    def _writable_state(self) -> Current:
        """CURRENT for a writer: what was never there begins here, so that a kill leaves no versions without one."""
        try:
            state = self.state()
        except Damaged:
            with contextlib.suppress(Damaged, OSError):
                return Current.parse(self._backup.read_bytes(), self._backup)
            return Current(None, None, max(self.numbers(), default=0), None)
        if not self._current.exists():
            self._swap(state)
        return state

    def _number(self, folder: Path, state: Current) -> int:
        number = max([state.last, *self.numbers()]) + 1
        sync_tree(folder)
        faultpoint("versions.staged")
        move_folder(folder, self.folder(number))
        faultpoint("versions.numbered")
        return number

    def _published(self, state: Current, number: int) -> Current:
        """The state with this version live and no hold. Publishing what is live already only lifts the hold."""
        old, recent = state.published[:-_HISTORY], state.published[-_HISTORY:]
        history = [*(entry for entry in old if self.folder(entry.version).is_dir()), *recent]
        if number != state.version or not history:
            history = [entry for entry in history if entry.version != number]
            history.append(Published(number, self._now(), state.version if state.version != number else None))
        last = max([state.last, number, *self.numbers()])
        return Current(number, self._manifest_sha256(number), last, None, tuple(history))

    def _swap(self, state: Current) -> None:
        data = state.to_bytes()
        faultpoint("versions.before_swap")
        write(self._current, data)
        faultpoint("versions.swapped")
        write(self._backup, data)
        faultpoint("versions.backed_up")

    def _existing(self, number: int) -> int:
        """The number, if every file of the version is what its manifest promises. Raises NotFound, Damaged."""
        folder = self.folder(number)
        if not folder.is_dir():
            raise self._missing(number)
        manifest = load_manifest(folder)
        for name, wanted in manifest.files.items():
            path = folder / name
            actual = file_sha256(path) if path.is_file() else "no file"
            if actual != wanted.sha256:
                raise damaged(path, f"sha256 {wanted.sha256} expected, {actual} found", "run `ragline repair`")
        return number

    def _manifest_sha256(self, number: int) -> str:
        return hashlib.sha256((self.folder(number) / MANIFEST).read_bytes()).hexdigest()

    def _missing(self, number: int) -> NotFound:
        what = f"index {self.name!r} has no version {number}"
        have = ", ".join(map(str, self.numbers())) or "none"
        return NotFound(what, [Problem(self.name, what, f"it has {have}")])

    def _nothing_published(self) -> NotFound:
        what = f"index {self.name!r} has no published version in {self.root.parent.parent}"
        waiting = self.numbers()
        remedy = (
            f"run `ragline publish {waiting[-1]}`"
            if waiting
            else "run `ragline index`, or name another with --index or --store"
        )
        return NotFound(what, [Problem(self.name, what, remedy)])

    # -- opening

    def open(self, version: int | None = None, *, remember: bool = True) -> OpenVersion:
        """Pin a version (CURRENT's by default), check its files, and give it mapped.

        Each file is hashed as a stream the first time and, with `remember`, known again by device, inode, size, mtime
        and ctime; without, nothing is written.
        Raises NotFound, Damaged, FormatTooNew.
        """
        for _ in range(_GONE_TRIES):
            number, sha256 = self._wanted(version)
            folder = self.folder(number)
            pin = pin_version(folder)
            if pin is not None:
                try:
                    return open_pinned(folder, number, pin, sha256, remember=remember)
                except BaseException:
                    pin.close()
                    raise
            if not folder.is_dir():
                if version is not None:
                    raise self._missing(number)
                if self._wanted(None)[0] == number:
                    raise damaged(folder, "CURRENT names it and it is gone", CURRENT_REMEDY)
            time.sleep(0.01)
        raise self._missing(number)

    def _wanted(self, version: int | None) -> tuple[int, str | None]:
        """A version's number and its manifest's sha256, which only CURRENT knows. An explicit one needs no CURRENT."""
        if version is not None:
            return version, None
        state = self.state()
        if state.version is None:
            raise self._nothing_published()
        return state.version, state.manifest_sha256

    # -- cleaning

    def gc(self, keep: int, *, dry_run: bool = False) -> tuple[int, ...]:
        """Remove what is not needed; gives the numbers removed (or that would be).

        Kept are CURRENT's version and the one a rollback would go to, the newest `keep`, those that a reader holds, and
        unpublished ones newer than CURRENT's. Raises as `state`; StorageFailed.
        """
        state, numbers = self.state(), self.numbers()
        ever = {entry.version for entry in state.published}
        kept = {state.version, self.rollback_target(state), *(numbers[-keep:] if keep > 0 else [])}
        kept |= {number for number in numbers if number not in ever and number > (state.version or 0)}
        return self._remove([number for number in numbers if number not in kept], state, dry_run=dry_run)

    def drop(self, versions: Iterable[int]) -> tuple[int, ...]:
        """Remove these versions but the live one and those that a reader holds; gives the numbers removed.

        For versions that are damaged for good: nothing else is kept. Raises as `state`; StorageFailed.
        """
        state = self.state()
        return self._remove([number for number in versions if number != state.version], state)

    def _remove(self, numbers: Sequence[int], state: Current, *, dry_run: bool = False) -> tuple[int, ...]:
        removed: tuple[int, ...] = ()
        last = max(self.numbers(), default=0)
        if not dry_run and state.last < last:
            self._swap(replace(state, last=last))
        for number in numbers:
            with unread(self.folder(number)) as free:
                if not free:
                    continue
                removed += (number,)
                if not dry_run:
                    faultpoint("versions.gc")
                    remove_folder(self.folder(number))
        if not dry_run:
            self._sweep_trash()
        return removed

    def _sweep_trash(self) -> None:
        """Finish what a killed gc or publish left: temp siblings of folders and of CURRENT, memories of the gone."""
        for path in (self.root / "opened").glob("*"):
            if not (self.root / path.stem).is_dir():
                remove_file(path)
        for path in self.root.glob(".*.tmp"):
            if path.is_dir():
                remove_folder(path)
            else:
                remove_file(path)
