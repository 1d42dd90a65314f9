"""What lies at the paths of a corpus: every file a reader knows, and a row for everything else that was found."""

from __future__ import annotations

import difflib
import errno
import os
import stat
from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from rag.corpus.page import Unreadable
from rag.corpus.patterns import Patterns, compiled, is_magic
from rag.corpus.readers import READERS, PageReader, reader_of
from rag.corpus.reasons import CLOSED, Reason
from rag.corpus.spec import CorpusSpec
from rag.errors import CorpusMissing, Problem
from rag.types import Excluded

PAGE_LIMIT = 256 * 1024 * 1024
"""Bytes of a file that is one document."""
_INODE = (1 << 63) - 1
THE_STORE = "the store: what this program has written itself is no document"
_STORE_FOLDERS = frozenset({"batches", "cache", "indexes", "ledger", "results", "staging"})
_Link = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Root:
    """One entry of `CorpusSpec.paths`: the folder that doc_ids are relative to."""

    folder: str
    label: str
    """Names the folder in `source`: as few last parts of its path as tell the roots apart."""
    pattern: str | None = None
    """What of the folder is listed: None for all, else a glob relative to it."""
    single: str | None = None
    """The one file that is listed, if the path names a file."""


@dataclass(slots=True)
class Listing:
    """What was found, not in order: `paths[i]` lies below `roots[root_of[i]]` and has the stat `stats[4 i : 4 i + 4]`."""

    roots: tuple[Root, ...]
    paths: list[str] = field(default_factory=list)
    root_of: list[int] = field(default_factory=list)
    stats: array[int] = field(default_factory=lambda: array("q"))
    """size, mtime_ns, ctime_ns, inode of each path."""
    excluded: list[Excluded] = field(default_factory=list)


def roots_of(spec: CorpusSpec) -> tuple[Root, ...]:
    """The listed folders, in the order of the paths. Raises CorpusMissing that names every path that is not there."""
    found: list[Root] = []
    problems: list[Problem] = []
    for path in spec.paths:
        absolute = os.path.abspath(path)
        if os.path.isdir(absolute):
            found.append(Root(absolute, ""))
        elif os.path.lexists(absolute):
            found.append(Root(os.path.dirname(absolute), "", single=os.path.basename(absolute)))
        elif is_magic(str(path)):
            folder, pattern = _unmagic(absolute)
            if os.path.isdir(folder):
                found.append(Root(folder, "", pattern=pattern))
            else:
                problems.append(_missing(folder, str(path)))
        else:
            problems.append(_missing(absolute, str(path)))
    store = _real(spec.store)
    for root in found:
        place = os.path.join(root.folder, root.single or "")
        if store and _is_the_store(_real(place), store):
            what = f"the corpus path {place.rstrip('/')} is in the store, among what this program has written itself"
            problems.append(
                Problem("corpus.paths", what, "name the folder of the documents, or put the store elsewhere")
            )
    if problems:
        raise CorpusMissing("; ".join(problem.what for problem in problems), problems)
    labels = _labels([root.folder for root in found])
    return tuple(Root(root.folder, labels[root.folder], root.pattern, root.single) for root in found)


def _unmagic(absolute: str) -> tuple[str, str]:
    parts = absolute.split("/")
    first = next(at for at, part in enumerate(parts) if is_magic(part))
    return "/".join(parts[:first]) or "/", "/".join(parts[first:])


def _missing(absolute: str, asked: str) -> Problem:
    folder, name = os.path.split(absolute)
    while not os.path.isdir(folder):
        folder, name = os.path.split(folder)
    try:
        near = difflib.get_close_matches(name, sorted(os.listdir(folder))[:10_000], 1)
    except OSError:
        near = []
    remedy = (
        f"did you mean {os.path.join(folder, near[0])}?"
        if near
        else f"{folder} exists, but nothing like {name!r} in it"
    )
    return Problem(asked, f"no such file or folder: {asked}", remedy)


def _labels(folders: list[str]) -> dict[str, str]:
    """Folder -> the shortest tail of its path that no other folder has."""
    different = set(folders)
    labels = {}
    for folder in different:
        parts = folder.strip("/").split("/")
        tails = ["/".join(parts[-n:]) for n in range(1, len(parts) + 1)]
        others = [other for other in different if other != folder]
        free = (tail for tail in tails if not any(f"/{other}".endswith(f"/{tail}") for other in others))
        labels[folder] = next(free, folder)
    return labels


def takes(spec: CorpusSpec, path: Path) -> bool:
    """Whether a file at this path would be found, be it to be read or to be left out. Raises CorpusMissing."""
    absolute = os.path.realpath(path)
    if spec.store and is_inside(absolute, _real(spec.store)):
        return False
    include, exclude = compiled(spec.include), compiled(spec.exclude)
    for root in roots_of(spec):
        folder = os.path.realpath(root.folder)
        if not is_inside(absolute, folder):
            continue
        name = os.path.relpath(absolute, folder)
        pattern = compiled((root.pattern or "**/*",), anywhere=False)
        parents = (name[:at] for at, letter in enumerate(name) if letter == "/")
        if any(map(exclude.match, (name, *parents))) or not include.match(name):
            continue
        if name == root.single if root.single is not None else pattern.match(name):
            return True
    return False


def listed(spec: CorpusSpec) -> Listing:
    """Walk all roots. Raises CorpusMissing when a path is not there."""
    listing = Listing(roots_of(spec))
    include = compiled(spec.include)
    # `drafts/**` also names the folder, which then is not even entered.
    exclude = compiled((*spec.exclude, *(f"/{tree[:-3]}" for tree in spec.exclude if tree.endswith("/**"))))
    seen: set[str] | None = set() if len(listing.roots) > 1 else None
    for number, root in enumerate(listing.roots):
        _Walk(root, number, include, exclude, bool(spec.exclude), listing, seen, _real(spec.store)).run()
    return listing


@dataclass(slots=True)
class _Walk:
    """The walk through one root."""

    root: Root
    number: int
    include: Patterns
    exclude: Patterns
    excludes: bool
    listing: Listing
    seen: set[str] | None
    """Absolute paths that an earlier root has listed; None when there is only one root."""
    store: str
    """The resolved folder of the store; empty where there is none."""
    pattern: Patterns = field(init=False)
    real: str = field(init=False)
    entered: set[_Link] = field(default_factory=set)
    stack: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pattern = compiled((self.root.pattern or "**/*",), anywhere=False)
        self.real = os.path.realpath(self.root.folder)

    def run(self) -> None:
        if self.root.single is not None:
            self._single(self.root.single)
            return
        self.stack = [(self.root.folder.rstrip("/") + "/", "")]
        while self.stack:
            folder, prefix = self.stack.pop()
            try:
                entries = os.scandir(folder)
            except FileNotFoundError:
                continue
            except OSError as error:
                self._out(prefix.rstrip("/") or ".", CLOSED, error.strerror or str(error))
                continue
            with entries:
                self._folder(entries, folder, prefix)

    def _single(self, name: str) -> None:
        """A file that the user names is taken whatever it is called and wherever a link leads."""
        path = os.path.join(self.root.folder, name)
        if self._wanted(name):
            try:
                self._file(name, os.stat(path), path)
            except OSError as error:
                self._out(name, "unreadable", error.strerror or str(error))

    def _folder(self, entries: Iterable[os.DirEntry[str]], folder: str, prefix: str) -> None:
        # One pass over perhaps a hundred thousand names: the usual case goes straight through.
        everything = self.include.files is None and self.pattern.files is None and not self.excludes
        for entry in entries:
            name = entry.name
            path = prefix + name
            if name[0] == ".":
                self._hidden(entry, path)
            elif entry.is_symlink():
                self._link(entry, path, folder)
            elif entry.is_dir(follow_symlinks=False):
                self._enter(folder + name + "/", path + "/")
            elif everything or self._wanted(path):
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    self._out(path, "unreadable", error.strerror or str(error))
                    continue
                self._file(path, status, folder + name)

    def _wanted(self, path: str) -> bool:
        if not (self.pattern.match(path) and self.include.match(path)):
            return False
        return not self.exclude.match(path)

    def _enter(self, folder: str, prefix: str) -> None:
        if self.exclude.match(prefix[:-1]):
            return
        if not (self.pattern.below(prefix) and self.include.below(prefix)):
            return
        # only a folder of the store's name is resolved: that costs a system call for each part of its path
        if self.store and folder.endswith(self.store[self.store.rfind("/") :] + "/") and _real(folder) == self.store:
            self._out(prefix[:-1], "outside the corpus", THE_STORE)
        else:
            self.stack.append((folder, prefix))

    def _file(self, path: str, status: os.stat_result, absolute: str) -> None:
        if self.seen is not None:
            if absolute in self.seen:
                return
            self.seen.add(absolute)
        if not stat.S_ISREG(status.st_mode):
            self._out(path, "not a file", f"a {_kind(status.st_mode)}; it was not opened")
            return
        known = reader_of(path[path.rfind("/") + 1 :])
        if known is None:
            self._out(path, "unsupported", f"no reader for this suffix; known: {', '.join(sorted(READERS))}")
        elif status.st_size > PAGE_LIMIT and isinstance(known[0], PageReader):
            self._out(path, "too large", f"{status.st_size:,} bytes; the limit for one document is {PAGE_LIMIT:,}")
        elif not path.isascii() and not _is_unicode(path):
            self._out(path, "surrogates", "the name of the file is not valid UTF-8; rename it")
        else:
            self.listing.paths.append(path)
            self.listing.root_of.append(self.number)
            self.listing.stats.extend(stat_row(status))

    def _hidden(self, entry: os.DirEntry[str], path: str) -> None:
        if entry.is_dir(follow_symlinks=False):
            below = self.pattern.below(path + "/") and self.include.below(path + "/")
            wanted = below and not self.exclude.match(path)
        else:
            wanted = self._wanted(path)
        if wanted and not self._again(os.path.join(self.root.folder, path)):
            self._out(path, "hidden", "the name begins with a dot; list it by its own path if it belongs to the corpus")

    def _link(self, entry: os.DirEntry[str], path: str, folder: str) -> None:
        """A link is followed within its root only; a folder is entered through one link at most, so loops end."""
        try:
            status = entry.stat()
        except OSError as error:
            status = None
            why = "a loop of links" if error.errno == errno.ELOOP else "a link that leads nowhere"
        if status is not None and stat.S_ISDIR(status.st_mode):
            wanted = self.pattern.below(path + "/") and self.include.below(path + "/")
            wanted = wanted and not self.exclude.match(path)
        else:
            wanted = self._wanted(path)
        if not wanted:
            return
        target = os.path.realpath(folder + entry.name)
        if status is None:
            self._out(path, "link", why)
        elif not is_inside(target, self.real):
            self._out(path, "outside the corpus", "a link that leads out of the listed folder")
        elif self.store and is_inside(target, self.store):
            self._out(path, "outside the corpus", THE_STORE)
        elif not stat.S_ISDIR(status.st_mode):
            self._file(path, status, folder + entry.name)
        elif is_inside(os.path.realpath(folder), target) or (status.st_dev, status.st_ino) in self.entered:
            self._out(path, "link", "a link to a folder that is being listed, or was listed through another link")
        else:
            self.entered.add((status.st_dev, status.st_ino))
            self._enter(folder + entry.name + "/", path + "/")

    def _again(self, absolute: str) -> bool:
        if self.seen is None:
            return False
        if absolute in self.seen:
            return True
        self.seen.add(absolute)
        return False

    def _out(self, path: str, reason: Reason, detail: str) -> None:
        source = source_name(self.root, path)
        self.listing.excluded.append(Excluded(source, "read", reason, detail))


def _real(folder: Path | str | None) -> str:
    return os.path.realpath(folder) if folder else ""


def _is_the_store(path: str, store: str) -> bool:
    """Whether a resolved path is the store or one of its own folders; a corpus may lie in a folder beside those."""
    return path == store or (is_inside(path, store) and path[len(store) :].split("/")[1] in _STORE_FOLDERS)


def source_name(root: Root, path: str) -> str:
    """How a source is called: the root's label and the path below it, as valid Unicode."""
    name = f"{root.label}/{path}"
    return name if _is_unicode(name) else os.fsencode(name).decode("utf-8", "backslashreplace")


def stat_row(status: os.stat_result) -> tuple[int, int, int, int]:
    """What tells a changed file: size, mtime_ns, ctime_ns, inode."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino & _INODE


def is_inside(path: str, folder: str) -> bool:
    """Whether a resolved path is the resolved folder or lies below it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _kind(mode: int) -> str:
    kinds = {stat.S_IFIFO: "FIFO", stat.S_IFSOCK: "socket", stat.S_IFCHR: "device", stat.S_IFBLK: "device"}
    return kinds.get(stat.S_IFMT(mode), "special file")


def open_source(root: Root, path: str, inode: int) -> tuple[int, os.stat_result]:
    """A descriptor of a listed file and its status. Raises OSError, and Unreadable for what is no longer what was listed.

    A FIFO in the file's place does not block, and a link out of the root in its place, or in that of a folder above it,
    is not followed: an inode that the listing does not know has to prove where it lies.
    """
    absolute = os.path.join(root.folder, path)
    handle = os.open(absolute, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        status = os.fstat(handle)
        replaced = stat_row(status)[3] != inode and root.single is None
        away = replaced and not is_inside(os.path.realpath(absolute), os.path.realpath(root.folder))
    except BaseException:
        os.close(handle)
        raise
    if stat.S_ISREG(status.st_mode) and not away:
        return handle, status
    os.close(handle)
    if away:
        raise Unreadable("outside the corpus", "a link that leads out of the listed folder")
    raise Unreadable("not a file", f"a {_kind(status.st_mode)}")


def nothing_found(spec: CorpusSpec, excluded: Iterable[Excluded]) -> CorpusMissing:
    """The error for a corpus without a single file that could be read."""
    paths = ", ".join(str(path) for path in spec.paths)
    reasons = Counter(row.reason for row in excluded)
    left_out = ", ".join(f"{count:,} {reason}" for reason, count in sorted(reasons.items()))
    what = f"no document at {paths}" + (f" (left out: {left_out})" if left_out else "")
    remedy = "put documents there, or change [corpus] paths, include or exclude"
    return CorpusMissing.at(str(Path(paths)) if len(spec.paths) == 1 else "corpus.paths", what, remedy)
