"""Upkeep of a store: verify everything, make anew what is broken and only that, and drop what nobody needs."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rag import storage
from rag.clock import Clock
from rag.digest import file_sha256
from rag.embedding import upkeep as cache_upkeep
from rag.embedding.cache import CACHE_FORMATS, NEWER_REMEDY, REPAIR, VectorCache, broken_segments
from rag.errors import Damaged, Problem, RaglineError
from rag.index.manifest import BUILD, MANIFEST, Manifest, write_sealed
from rag.index.tables import ChunkTable
from rag.index.verify import Finding, put_back, remake_index, verify
from rag.index.versions import Versions
from rag.ports import Floats
from rag.retrieval import lexical

if TYPE_CHECKING:
    from rag.pipeline import Reindex

_ROWS = 4_096
_DROP = "`ragline repair --drop` removes this version, which is not the live one"


@dataclass(frozen=True, slots=True)
class Report:
    """What `verify` found in a store: how many files it read, and what is wrong."""

    checked: int
    problems: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Repaired:
    """What `repair` did: a line for each thing mended, and what it could not mend."""

    mended: tuple[str, ...]
    lost_records: int
    embedded: int
    """Texts that were sent again to make files anew."""
    usd: float | None
    """What they cost; None where no price is known."""
    failed: tuple[str, ...]
    """Why the corpus could not be read or embedded again."""
    dropped: tuple[int, ...]
    left: tuple[Finding, ...]


@dataclass(slots=True)
class _Account:
    """What the runs of one repair sent, and why they failed."""

    embedded: int = 0
    usd: float | None = 0.0
    failed: tuple[str, ...] = ()

    def add(self, run: Reindex) -> None:
        usd = run.usage.usd
        self.embedded += run.spent.texts
        self.usd = None if self.usd is None or usd is None else self.usd + usd


def verify_store(versions: Versions, store: Path, version: int | None = None) -> Report:
    """Hold CURRENT, one version or all, and every cache segment against what they promise. Raises NotFound."""
    checked = 0
    findings: dict[tuple[str, str], Finding] = {}
    numbers: list[int | None] = [version] if version is not None else [*versions.numbers()] or [None]
    spare = _spare(versions)
    for number in numbers:
        found = verify(versions, number)
        checked += found.checked
        for finding in found.findings:
            at = versions.root if finding.file.startswith("CURRENT") else versions.folder(found.version or 0)
            path = str(at / finding.file)
            remedy = finding.repair
            if at != versions.root and found.version in spare:
                remedy = _DROP if finding.file == MANIFEST else f"{remedy}; or {_DROP}"
            findings[path, finding.expected] = Finding(path, finding.expected, finding.actual, remedy)
    if version is None:
        checked += sum(1 for _ in (store / "cache").rglob("*.arrow"))
        for segment, expected, actual in broken_segments(store):
            remedy = NEWER_REMEDY if expected == CACHE_FORMATS else f"`{REPAIR}` keeps what is sound"
            findings[str(segment), expected] = Finding(str(segment), expected, actual, remedy)
    return Report(checked, tuple(findings.values()))


def _spare(versions: Versions) -> set[int]:
    """The versions that are not live; none while nobody can say which one is."""
    try:
        return {*versions.numbers()} - {versions.state().version or 0}
    except Damaged:
        return set()


def repair(
    versions: Versions, store: Path, clock: Clock, remake: Callable[[], Reindex], *, drop: bool = False
) -> Repaired:
    """Mend what `verify_store` finds, under the store's lock. `remake` gives a run that may read the corpus again.

    What follows from other files of a version is made from them; what does not is made from the corpus, if that still
    has the version's content. A file is put back only when it is byte for byte what the manifest promises. With `drop`
    versions that stay damaged are removed, but the live one and those that a reader holds.
    """
    mended: list[str] = []
    lost, account = 0, _Account()
    identities = [manifest.embedding for manifest in _manifests(versions)]
    for path, expected, _ in list(broken_segments(store)):
        if expected == CACHE_FORMATS:
            continue
        if path.name == "namespace.json":
            if cache_upkeep.mend_namespace(path, identities):
                mended.append(f"{path}: written anew")
            continue
        result = cache_upkeep.mend(path)
        lost += result.lost or 0
        gone = "an unknown number" if result.lost is None else f"{result.lost:,}"
        mended.append(f"{path}: {result.kept:,} records kept, {gone} lost")
    for number in versions.numbers():
        found = verify(versions, number)
        broken = {name for name in found.files if not name.startswith("CURRENT")}
        if found.version is None or not broken:
            continue
        folder = versions.folder(found.version)
        mended += _drop_strangers(folder, found.findings)
        broken -= {finding.file for finding in found.findings if finding.expected == "no such file"}
        if BUILD in broken:
            _write_build_record(folder, clock)
            mended.append(f"{folder / BUILD}: written anew; what it said of its own run is lost")
            broken.discard(BUILD)
        if broken and not _remade_here(folder, broken, store, clock):
            _remade_from_corpus(versions, found.version, broken, remake, account)
        after = {name for name in verify(versions, found.version).files if not name.startswith("CURRENT")}
        mended += [f"{folder / name}: made anew, byte for byte" for name in sorted(broken - after)]
    mended += _restored(versions)
    dropped: tuple[int, ...] = ()
    if drop:
        dropped = versions.drop(number for number in sorted(_spare(versions)) if _is_damaged(versions, number))
    left = verify_store(versions, store).problems
    return Repaired(tuple(mended), lost, account.embedded, account.usd, account.failed, dropped, left)


def _is_damaged(versions: Versions, number: int) -> bool:
    return any(not name.startswith("CURRENT") for name in verify(versions, number).files)


def _restored(versions: Versions) -> Iterator[str]:
    """CURRENT from its copy, or the copy from CURRENT."""
    found = verify(versions)
    if "CURRENT" in found.files:
        try:
            version = versions.restore_current()
        except Damaged:
            return
        yield f"{versions.root / 'CURRENT'}: put back from its copy; version {version} is live"
    elif "CURRENT.backup" in found.files:
        storage.write(versions.root / "CURRENT.backup", (versions.root / "CURRENT").read_bytes())
        yield f"{versions.root / 'CURRENT.backup'}: copied from CURRENT"


def _manifests(versions: Versions) -> Iterator[Manifest]:
    for number in versions.numbers():
        try:
            yield Manifest.load(versions.folder(number) / MANIFEST)
        except (RaglineError, OSError):
            continue


def _drop_strangers(folder: Path, findings: Iterable[Finding]) -> Iterator[str]:
    for finding in findings:
        if finding.expected == "no such file":
            storage.remove_file(folder / finding.file)
            yield f"{folder / finding.file}: removed, it belonged to no version"


def _write_build_record(folder: Path, clock: Clock) -> None:
    write_sealed(
        folder / BUILD, {"format": 1, "created": None, "rewritten": clock.utc().strftime("%Y-%m-%dT%H:%M:%SZ")}
    )


def _remade_here(folder: Path, broken: set[str], store: Path, clock: Clock) -> bool:
    """Make index.faiss and the lexical index from the version's own tables and the cache; False where more is needed."""
    if any(name != "index.faiss" and not name.startswith("lexical/") for name in broken):
        return False
    try:
        if any(name.startswith("lexical/") for name in broken):
            lexical.remake(folder)
        if "index.faiss" in broken:
            remake_index(folder, _blocks(folder, store, clock))
    except (RaglineError, KeyError):
        return False
    return True


def _blocks(folder: Path, store: Path, clock: Clock) -> Callable[[], Iterator[Floats]]:
    """The vectors of a version's chunks out of the cache. Raises KeyError where one is lost."""
    manifest = Manifest.load(folder / MANIFEST)
    cache = VectorCache(store, manifest.embedding, clock)

    def blocks() -> Iterator[Floats]:
        for part in ChunkTable(folder / "chunks.parquet").stream(("key",)):
            keys = np.frombuffer(bytes.fromhex("".join(part["key"])), np.uint8).reshape(-1, 32)
            for start in range(0, len(keys), _ROWS):
                found = cache.lookup(keys[start : start + _ROWS])
                yield found.gather(np.arange(len(found.keys)))

    return blocks


def _vouched(versions: Versions, number: int) -> str | None:
    """The sha256 of a version's manifest: only CURRENT knows it, and only that of the live version."""
    with contextlib.suppress(Damaged):
        state = versions.state()
        return state.manifest_sha256 if state.version == number else None
    return None


def _remade_from_corpus(
    versions: Versions, number: int, broken: set[str], remake: Callable[[], Reindex], account: _Account
) -> None:
    """Run the stages again up to the build and put back what the manifest (or CURRENT) vouches for."""
    folder = versions.folder(number)
    wanted = _vouched(versions, number)
    if MANIFEST in broken and wanted is None:
        return
    try:
        with remake() as run, contextlib.ExitStack() as ended:
            ended.callback(account.add, run)
            run.look()
            run.read()
            run.plan()
            run.embed()
            run.build()
            if run.staged is None:
                return
            if MANIFEST in broken and file_sha256(run.staged / MANIFEST) == wanted:
                with storage.create(folder / MANIFEST) as file, (run.staged / MANIFEST).open("rb") as source:
                    shutil.copyfileobj(source, file)
            for name in sorted(broken - {MANIFEST}):
                try:
                    put_back(folder, name, run.staged / name)
                except (Damaged, OSError, KeyError):
                    continue
    except RaglineError as error:
        account.failed += (f"{folder}: {error.message}",)


def needed_keys(store: Path) -> set[bytes]:
    """The cache keys (32 bytes) of every chunk of every version of every index. Raises Damaged."""
    keys: set[bytes] = set()
    indexes = store / "indexes"
    for root in sorted(path for path in indexes.iterdir() if path.is_dir()) if indexes.is_dir() else []:
        versions = Versions(store, root.name)
        live = versions.state().version
        if live is not None and live not in versions.numbers():
            what = f"{versions.folder(live)} is gone, so nobody can say which vectors it needs"
            raise Damaged(
                what, [Problem(str(versions.folder(live)), what, "run `ragline index` first, which builds it anew")]
            )
        for number in versions.numbers():
            path = versions.folder(number) / "chunks.parquet"
            try:
                for part in ChunkTable(path).stream(("key",)):
                    keys.update(map(bytes.fromhex, part["key"]))
            except Damaged as error:
                what = f"{path} cannot be read, so nobody can say which vectors it needs"
                remedy = f"run `{REPAIR}`" + ("" if number == live else f"; {_DROP}")
                raise Damaged(what, [Problem(str(path), what, remedy)]) from error
    return keys
