"""Upkeep of a store: verify everything, make anew what is broken and only that, and drop what nobody needs."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rag import storage
from rag.clock import Clock, text
from rag.counted import counted
from rag.digest import file_sha256
from rag.embedding import upkeep as cache_upkeep
from rag.embedding.cache import CACHE_FORMATS, NEWER_REMEDY, REPAIR, VectorCache, broken_segments
from rag.embedding.jobs import Jobs
from rag.errors import Busy, Damaged, Problem, RaglineError
from rag.index.experiments import Experiments
from rag.index.manifest import BUILD, MANIFEST, Manifest
from rag.index.tables import ChunkTable
from rag.index.verify import Finding, check_current, check_version, put_back, remake_index
from rag.index.versions import Versions
from rag.ports import Floats
from rag.retrieval import lexical
from rag.sealed import write_sealed

if TYPE_CHECKING:
    from rag.pipeline import Reindex

_ROWS = 4_096
_DROP = "`ragline repair --drop` removes this version, which is not the live one"


@dataclass(frozen=True, slots=True)
class Report:
    """What `verify_store` found in a store: how many files it read, and what is wrong."""

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
    """Hold CURRENT, one version or all, every cache segment and open batch against what they promise.

    Raises NotFound, and FormatTooNew for a batch of a newer version.
    """
    current = check_current(versions)
    checked = current.checked
    problems = [replace(finding, file=str(versions.root / finding.file)) for finding in current.findings]
    spare = _spare(versions)
    for number in versions.numbers() if version is None else [version]:
        found = check_version(versions, number)
        checked += found.checked
        for finding in found.findings:
            remedy = finding.repair
            if number in spare:
                remedy = _DROP if finding.file == MANIFEST else f"{remedy}; or {_DROP}"
            problems.append(replace(finding, file=str(versions.folder(number) / finding.file), repair=remedy))
    if version is None:
        checked += sum(1 for _ in (store / "cache").rglob("*.arrow"))
        for segment, expected, actual in broken_segments(store):
            remedy = NEWER_REMEDY if expected == CACHE_FORMATS else f"`{REPAIR}` keeps what is sound"
            problems.append(Finding(str(segment), expected, actual, remedy))
        jobs = Jobs(store)
        checked += sum(1 for _ in jobs.folder.glob("*.json*"))
        problems += [
            Finding(where.where, "what its sha256 promises", "something else", where.remedy)
            for error in jobs.broken()
            for where in error.problems
        ]
    return Report(checked, tuple(problems))


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
        mended.append(f"{path}: {counted(result.kept, 'record')} kept, {gone} lost")
    for number in versions.numbers():
        found = check_version(versions, number)
        broken = set(found.files)
        if not broken:
            continue
        folder = versions.folder(number)
        mended += _drop_strangers(folder, found.findings)
        broken -= {finding.file for finding in found.findings if finding.expected == "no such file"}
        if BUILD in broken:
            _write_build_record(folder, clock)
            mended.append(f"{folder / BUILD}: written anew; what it said of its own run is lost")
            broken.discard(BUILD)
        if broken and not _remade_here(folder, broken, store, clock):
            _remade_from_corpus(versions, number, broken, remake, account)
        after = set(check_version(versions, number).files)
        mended += [f"{folder / name}: made anew, byte for byte" for name in sorted(broken - after)]
    mended += _restored(versions)
    dropped: tuple[int, ...] = ()
    if drop:
        dropped = versions.drop(number for number in sorted(_spare(versions)) if check_version(versions, number).files)
    left = verify_store(versions, store).problems
    return Repaired(tuple(mended), lost, account.embedded, account.usd, account.failed, dropped, left)


def _restored(versions: Versions) -> Iterator[str]:
    """CURRENT from its copy, or the copy from CURRENT."""
    found = check_current(versions)
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
    write_sealed(folder / BUILD, {"format": 1, "created": None, "rewritten": text(clock.utc())})


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


def _remade_from_corpus(
    versions: Versions, number: int, broken: set[str], remake: Callable[[], Reindex], account: _Account
) -> None:
    """Run the stages again up to the build and put back what the manifest (or CURRENT) vouches for."""
    folder = versions.folder(number)
    wanted = versions.vouched(number)
    if MANIFEST in broken and wanted is None:
        return
    try:
        with remake() as run, contextlib.ExitStack() as ended:
            ended.callback(account.add, run)
            run.look()
            run.read()
            planned = run.plan().content_digest
            with contextlib.suppress(Damaged, OSError):
                if planned not in (None, Manifest.load(folder / MANIFEST).content_digest):
                    account.failed += (f"{folder}: the corpus or the settings have changed since it was made",)
                    return
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


def prune(store: Path, clock: Clock, *, dry_run: bool) -> list[cache_upkeep.Prunable]:
    """Drop the vectors that no version and no experiment needs, under the store's lock. Raises Damaged, Busy."""
    if not dry_run and (others := storage.at_work(store)):
        # it has no version yet that would say what it paid for
        what = f"an evaluation embeds for its experiment ({', '.join(others)})"
        raise Busy.at(str(store / "staging"), what, "wait for it to end")
    return cache_upkeep.prune(store, needed_keys(store), clock, dry_run=dry_run)


def needed_keys(store: Path) -> set[bytes]:
    """The cache keys (32 bytes) of every chunk of every version and experiment of every index. Raises Damaged."""
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
        experiments = Experiments(store, root.name)
        folders = {versions.folder(number): number for number in versions.numbers()}
        for folder in (*folders, *map(experiments.folder, experiments.names())):
            path = folder / "chunks.parquet"
            try:
                for part in ChunkTable(path).stream(("key",)):
                    keys.update(map(bytes.fromhex, part["key"]))
            except Damaged as error:
                what = f"{path} cannot be read, so nobody can say which vectors it needs"
                remedy = f"run `{REPAIR}`" + ("" if folders.get(folder) == live else f"; {_DROP}")
                if folder not in folders:
                    remedy = f"remove {folder}: `ragline eval` makes an experiment again"
                raise Damaged(what, [Problem(str(path), what, remedy)]) from error
    return keys
