"""Publish, rollback, hold, gc: one number never means two things, and a reader keeps what it has."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

import pytest

from rag.digest import stream_sha256
from rag.errors import Damaged, FormatTooNew, NotFound, UsageError
from rag.index.current import Current
from rag.index.versions import Versions
from tests.index.making import vectors

Stage = Callable[..., Path]


class Noon:
    """A clock that stands still."""

    def utc(self) -> datetime:
        return datetime(2026, 11, 22, 12, tzinfo=UTC)

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        raise AssertionError


def test_current_is_two_lines_that_anyone_can_read(versions: Versions, stage: Stage) -> None:
    versions = Versions(versions.root.parent.parent, "main", Noon())
    assert versions.state().version is None
    assert versions.publish_staged(stage()) == 1
    line, seal, rest = (versions.root / "CURRENT").read_bytes().split(b"\n")
    assert rest == b""
    assert seal.decode() == sha256(line).hexdigest()
    manifest = sha256((versions.folder(1) / "manifest.json").read_bytes()).hexdigest()
    assert json.loads(line) == {
        "format": 1,
        "version": 1,
        "manifest_sha256": manifest,
        "last": 1,
        "hold": None,
        "published": [{"version": 1, "at": "2026-11-22T12:00:00Z", "after": None}],
    }
    assert (versions.root / "CURRENT.backup").read_bytes() == (versions.root / "CURRENT").read_bytes()


def test_a_rollback_holds_until_something_is_published(versions: Versions, stage: Stage) -> None:
    for seed in (1, 2, 3):
        versions.publish_staged(stage(seed=seed))
    assert versions.rollback(None, "worse answers", "ann") == 2
    current = versions.state()
    assert current.version == 2
    assert current.hold is not None
    assert (current.hold.by, current.hold.reason, current.hold.from_version) == ("ann", "worse answers", 3)
    assert json.loads((versions.root / "CURRENT").read_bytes().split(b"\n")[0])["hold"]["from"] == 3
    with pytest.raises(UsageError, match="rollback holds"):
        versions.publish_staged(stage(seed=4))
    assert versions.stage_only(stage(seed=4)) == 4
    assert versions.state() == Current(2, current.manifest_sha256, 4, current.hold, current.published)
    assert versions.publish(4) == 4
    assert versions.state().hold is None
    assert versions.rollback(None, "again", "ann") == 2, "3 was rolled back from, 2 was live before 4"
    assert versions.rollback(None, "again", "ann") == 1
    with pytest.raises(NotFound, match="no version that was published before 1 is left") as caught:
        versions.rollback(None, "once more", "ann")
    assert caught.value.exit_code == 2


def test_publishing_the_live_version_only_lifts_the_hold(versions: Versions, stage: Stage) -> None:
    for seed in (1, 2):
        versions.publish_staged(stage(seed=seed))
    versions.rollback(None, "worse", "ann")
    history = versions.state().published
    versions.publish(1)
    assert versions.state().hold is None
    assert versions.state().published == history
    versions.publish_staged(stage(seed=3))
    assert versions.rollback(None, "worse", "ann") == 1


def test_rollback_names_what_it_cannot_do(versions: Versions, stage: Stage) -> None:
    with pytest.raises(NotFound, match="no published version"):
        versions.rollback(None, "", "")
    versions.publish_staged(stage())
    with pytest.raises(NotFound, match="no version 9"):
        versions.rollback(9, "", "")
    with pytest.raises(UsageError, match="live already"):
        versions.rollback(1, "", "")
    with pytest.raises(NotFound, match="no version 9"):
        versions.publish(9)
    with pytest.raises(NotFound, match="no version 9"):
        versions.open(9)


def test_a_number_is_never_used_twice(versions: Versions, stage: Stage) -> None:
    versions.publish_staged(stage(seed=1))
    for seed in (2, 3):
        versions.stage_only(stage(seed=seed))
    assert versions.drop([2, 3]) == (2, 3)
    assert versions.numbers() == [1]
    assert versions.publish_staged(stage(seed=4)) == 4
    (versions.root / "CURRENT").unlink()
    (versions.root / "CURRENT.backup").unlink()
    assert versions.publish_staged(stage(seed=5)) == 5


def test_a_staged_first_version_is_not_published_and_not_damage(versions: Versions, stage: Stage) -> None:
    assert versions.stage_only(stage()) == 1
    assert versions.state().version is None
    with pytest.raises(NotFound, match="no published version") as caught:
        versions.open()
    assert "ragline publish 1" in caught.value.problems[0].remedy
    with versions.open(1) as opened:
        assert opened.number == 1
    assert versions.publish() == 1
    with versions.open() as opened:
        assert opened.number == 1


def test_the_list_says_what_was_ever_published(versions: Versions, stage: Stage) -> None:
    versions.publish_staged(stage(seed=1))
    versions.publish_staged(stage(seed=2))
    versions.stage_only(stage(seed=3))
    found = versions.listed()
    assert [(v.version, v.published, v.current, v.documents, v.chunks) for v in found] == [
        (1, True, False, 20, 40),
        (2, True, True, 20, 40),
        (3, False, False, 20, 40),
    ]
    assert found[0].build["created"] == "2026-11-22T00:00:00Z"
    digest = found[2].content_digest
    assert digest is not None
    assert versions.find(digest) == 3
    assert versions.find("0" * 64) is None


@pytest.mark.parametrize("damage", ["missing", "flipped", "empty"])
def test_versions_without_a_readable_current_are_damage_that_can_be_mended(
    damage: str, versions: Versions, stage: Stage
) -> None:
    for seed in (1, 2):
        versions.publish_staged(stage(seed=seed))
    versions.rollback(None, "worse", "ann")
    before = versions.state()
    current = versions.root / "CURRENT"
    data = current.read_bytes()
    if damage == "missing":
        current.unlink()
    else:
        current.write_bytes(b"" if damage == "empty" else data.replace(b"worse", b"wurse"))
    for read in (versions.state, versions.open, versions.listed):
        with pytest.raises(Damaged) as caught:
            read()
        assert caught.value.exit_code == 5
        assert "ragline repair" in caught.value.problems[0].remedy
    assert versions.restore_current() == 1
    assert versions.state() == before
    current.unlink()
    (versions.root / "CURRENT.backup").unlink()
    with pytest.raises(Damaged, match="and so is its copy") as lost:
        versions.restore_current()
    assert "publish V" in lost.value.problems[0].remedy
    assert versions.publish(2) == 2
    assert versions.state().version == 2


def test_a_newer_current_is_refused(versions: Versions, stage: Stage) -> None:
    versions.publish_staged(stage())
    line = (versions.root / "CURRENT").read_bytes().split(b"\n")[0].replace(b'"format":1', b'"format":2')
    (versions.root / "CURRENT").write_bytes(line + b"\n" + sha256(line).hexdigest().encode() + b"\n")
    for act in (versions.state, versions.open, lambda: versions.publish(1), versions.restore_current):
        with pytest.raises(FormatTooNew):
            act()


def test_a_version_with_a_missing_or_cut_file_is_not_published(versions: Versions, stage: Stage) -> None:
    for seed in (1, 2):
        versions.publish_staged(stage(seed=seed))
    os.truncate(versions.folder(1) / "index.faiss", 100)
    with pytest.raises(Damaged, match=r"index\.faiss"):
        versions.rollback(None, "worse", "ann")
    (versions.folder(1) / "index.faiss").unlink()
    with pytest.raises(Damaged, match="no file found"):
        versions.publish(1)
    assert versions.state().version == 2


def test_gc_keeps_what_is_needed(versions: Versions, stage: Stage) -> None:
    for seed in range(1, 7):
        versions.publish_staged(stage(seed=seed))
    versions.stage_only(stage(seed=7))
    assert versions.gc(4, dry_run=True) == (1, 2, 3)
    assert versions.numbers() == [1, 2, 3, 4, 5, 6, 7]
    with versions.open(3):
        assert versions.gc(4) == (1, 2)
    assert versions.numbers() == [3, 4, 5, 6, 7]
    assert versions.gc(0) == (3, 4), "6 is live, 5 is where a rollback goes, 7 waits to be published"
    assert sorted(path.name for path in versions.root.iterdir()) == [
        "CURRENT", "CURRENT.backup", "opened", "v000005", "v000006", "v000007"
    ]  # fmt: skip
    assert versions.rollback(None, "worse", "ann") == 5


def test_gc_leaves_a_version_that_another_process_reads(versions: Versions, stage: Stage) -> None:
    for seed in (1, 2, 3):
        versions.publish_staged(stage(seed=seed))
    store = versions.root.parent.parent
    with subprocess.Popen(
        [sys.executable, "-m", "tests.index.worker", str(store), "hold", "1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    ) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"open\n"
        assert versions.gc(1) == ()
        reader.kill()
    assert versions.gc(1) == (1,)


def test_an_open_version_outlives_the_removal_of_its_folder(versions: Versions, stage: Stage) -> None:
    import shutil

    versions.publish_staged(stage())
    with versions.open() as opened:
        shutil.rmtree(versions.folder(1))
        assert opened.search(vectors(40)[:3], 1)[1].ravel().tolist() == [0, 1, 2]
        assert opened.chunks.rows([7])[0].row == 7
        assert opened.documents.get(["doc-00001"])
    opened.close()


@pytest.mark.slow
def test_readers_never_fail_while_versions_come_and_go(versions: Versions, stage: Stage) -> None:
    import shutil

    folders = [stage(seed=seed) for seed in (1, 2)]
    versions.publish_staged(shutil.copytree(folders[0], folders[0].with_name("first")))
    failures: list[BaseException] = []
    reads: list[int] = []
    done = threading.Event()

    def read() -> None:
        while not done.wait(0.001):
            try:
                with versions.open() as opened:
                    opened.search(vectors(40)[:1], 1)
                    assert opened.chunks.rows([0])[0].text.endswith("number 0")
                    reads.append(opened.number)
            except BaseException as error:  # noqa: BLE001
                failures.append(error)
                return

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for turn in range(20):
        versions.publish_staged(shutil.copytree(folders[turn % 2], folders[0].with_name(f"copy-{turn}")))
        versions.gc(1)
    done.set()
    for reader in readers:
        reader.join()
    assert failures == []
    assert len(set(reads)) > 5


def test_a_file_is_hashed_once_and_again_when_its_stat_changes(
    versions: Versions, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rag.index import opening

    hashed: list[int] = []

    def counted(file: BinaryIO) -> str:
        hashed.append(1)
        return stream_sha256(file)

    monkeypatch.setattr(opening, "stream_sha256", counted)
    versions.publish_staged(stage())
    versions.open().close()
    count = len(hashed)
    assert count == 9
    versions.open().close()
    assert len(hashed) == count
    os.utime(versions.folder(1) / "index.faiss")
    versions.open().close()
    assert len(hashed) == count + 1
    data = bytearray((versions.folder(1) / "index.faiss").read_bytes())
    data[-1] ^= 1
    (versions.folder(1) / "index.faiss").write_bytes(data)
    with pytest.raises(Damaged, match=r"index\.faiss") as caught:
        versions.open()
    assert "ragline repair" in caught.value.problems[0].remedy


def test_a_memory_that_cannot_be_kept_or_read_does_no_harm(versions: Versions, stage: Stage) -> None:
    versions.publish_staged(stage())
    (versions.root / "opened").write_bytes(b"a file where a folder should be")
    versions.open().close()
    (versions.root / "opened").unlink()
    versions.open().close()
    (versions.root / "opened" / "v000001.json").write_bytes(b"{")
    versions.open().close()


def test_a_manifest_swapped_for_another_versions_is_damage(versions: Versions, stage: Stage) -> None:
    for seed in (1, 2):
        versions.publish_staged(stage(seed=seed))
    (versions.folder(2) / "manifest.json").write_bytes((versions.folder(1) / "manifest.json").read_bytes())
    with pytest.raises(Damaged, match="not the one in CURRENT"):
        versions.open()
