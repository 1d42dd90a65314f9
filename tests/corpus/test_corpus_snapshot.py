from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rag.corpus.read import Reading
from rag.corpus.snapshot import Snapshot, snapshot
from rag.corpus.spec import CorpusSpec

LATER = 4 * 10**18


def corpus(folder: Path, files: dict[str, str]) -> CorpusSpec:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return CorpusSpec((folder,))


def test_an_unchanged_corpus_is_not_read_again(tmp_path: Path) -> None:
    spec = corpus(tmp_path / "c", {"a.md": "a", "b/c.md": "c"})
    first = snapshot(spec, None, LATER)
    again = snapshot(spec, Snapshot.from_bytes(first.to_bytes()), LATER)
    assert (first.hashed, again.hashed) == (2, 0)
    assert again.digest == first.digest
    assert np.array_equal(again.sha256, first.sha256)


def test_only_what_changed_is_read_again(tmp_path: Path) -> None:
    spec = corpus(tmp_path / "c", {"a.md": "a", "b.md": "b", "c.md": "c"})
    first = snapshot(spec, None, LATER)
    (tmp_path / "c" / "b.md").write_text("B")
    corpus(tmp_path / "c", {"d.md": "d"})
    (tmp_path / "c" / "c.md").unlink()
    again = snapshot(spec, first, LATER)
    assert (again.hashed, again.paths) == (2, ["a.md", "b.md", "d.md"])
    assert again.digest == snapshot(spec, None, LATER).digest != first.digest


def test_a_touch_is_read_again_and_changes_nothing(tmp_path: Path) -> None:
    spec = corpus(tmp_path / "c", {"a.md": "a"})
    first = snapshot(spec, None, LATER)
    os.utime(tmp_path / "c" / "a.md", ns=(1, 1))
    again = snapshot(spec, first, LATER)
    assert (again.hashed, again.digest) == (1, first.digest)


def test_a_file_changed_within_two_seconds_of_its_reading_is_not_trusted(tmp_path: Path) -> None:
    spec = corpus(tmp_path / "c", {"a.md": "a"})
    written = (tmp_path / "c" / "a.md").stat().st_ctime_ns
    soon = snapshot(spec, None, written + 1_000_000_000)
    assert snapshot(spec, soon, written + 10_000_000_000).hashed == 1
    settled = snapshot(spec, None, written + 2_000_000_001)
    assert snapshot(spec, settled, written + 10_000_000_000).hashed == 0


def test_the_same_size_and_mtime_do_not_hide_an_edit(tmp_path: Path) -> None:
    spec = corpus(tmp_path / "c", {"a.md": "one"})
    path = tmp_path / "c" / "a.md"
    first = snapshot(spec, None, LATER)
    before = path.stat()
    path.write_text("two")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert snapshot(spec, first, LATER).digest != first.digest


def test_rehash_reads_everything(tmp_path: Path) -> None:
    spec = corpus(tmp_path / "c", {"a.md": "a", "b.md": "b"})
    first = snapshot(spec, None, LATER)
    again = snapshot(spec, first, LATER, rehash=True)
    assert (again.hashed, again.digest) == (2, first.digest)


def test_the_digest_knows_no_place_time_or_order_of_paths(tmp_path: Path) -> None:
    corpus(tmp_path / "one" / "a", {"x.md": "x", "y.md": "y"})
    corpus(tmp_path / "one" / "b", {"z.md": "z"})
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    one = snapshot(CorpusSpec((tmp_path / "one" / "a", tmp_path / "one" / "b")), None, LATER)
    two = snapshot(CorpusSpec((tmp_path / "two" / "b", tmp_path / "two" / "a")), None, LATER)
    assert one.digest == two.digest
    assert str(tmp_path).encode() not in one.to_bytes()


def test_a_rename_an_edit_and_a_new_exclusion_change_the_digest(tmp_path: Path) -> None:
    spec = corpus(tmp_path / "c", {"a.md": "a", "b.md": "b"})
    seen = {snapshot(spec, None, LATER).digest}
    (tmp_path / "c" / "b.md").rename(tmp_path / "c" / "d.md")
    seen.add(snapshot(spec, None, LATER).digest)
    (tmp_path / "c" / "d.md").write_text("e")
    seen.add(snapshot(spec, None, LATER).digest)
    corpus(tmp_path / "c", {".hidden.md": "h"})
    seen.add(snapshot(spec, None, LATER).digest)
    assert len(seen) == 4


def test_damage_and_newer_formats_are_forgotten(tmp_path: Path) -> None:
    data = snapshot(corpus(tmp_path / "c", {"a.md": "a", "ü.md": "b"}), None, LATER).to_bytes()
    assert Snapshot.from_bytes(data) is not None
    for at in range(len(data)):
        assert Snapshot.from_bytes(data[:at]) is None
        assert Snapshot.from_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]) is None
    assert Snapshot.from_bytes(data + b"x") is None


def test_a_memory_of_other_roots_is_of_no_use_and_no_harm(tmp_path: Path) -> None:
    one = corpus(tmp_path / "one", {"a.md": "a"})
    two = corpus(tmp_path / "two", {"a.md": "b"})
    both = CorpusSpec((*two.paths, *one.paths), exclude=("b.md",))
    memory = snapshot(one, None, LATER)
    assert snapshot(two, memory, LATER).digest == snapshot(two, None, LATER).digest
    assert snapshot(both, memory, LATER).hashed == 1
    assert snapshot(both, memory, LATER).digest == snapshot(both, None, LATER).digest


def test_a_file_edited_after_the_snapshot_is_read_as_it_is_and_the_reading_says_stale(tmp_path: Path) -> None:
    spec = corpus(tmp_path / "c", {"a.md": "old", "r.jsonl": '{"id": 1, "text": "x"}\n'})
    taken = snapshot(spec, None, LATER)
    reading = Reading(taken, spec)
    assert len(list(reading)) == 2
    assert not reading.stale
    for name, text in (("a.md", "new"), ("r.jsonl", '{"id": 1, "text": "y"}\n')):
        (tmp_path / "c" / name).write_text(text)
        reading = Reading(taken, spec)
        list(reading)
        assert reading.stale
        taken = snapshot(spec, taken, LATER)
    (tmp_path / "c" / "a.md").unlink()
    reading = Reading(taken, spec)
    assert [getattr(item, "reason", "") for item in reading] == ["", "unreadable"] or reading.stale


NAMES = st.from_regex(r"[a-zA-Zé0-9]{1,3}(/[a-z]{1,2}){0,2}\.(md|txt)", fullmatch=True)


@given(st.dictionaries(NAMES, st.text("ab", min_size=1), min_size=1, max_size=8), st.data())
def test_with_memory_a_snapshot_equals_one_without(files: dict[str, str], data: st.DataObject) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "c"
        spec = corpus(folder, files)
        memory = snapshot(spec, None, LATER)
        for path in sorted(files):
            action = data.draw(st.sampled_from(["keep", "edit", "touch", "remove", "rename"]))
            if action == "edit":
                (folder / path).write_text(files[path] + "!")
            elif action == "touch":
                os.utime(folder / path, ns=(5, 5))
            elif action == "remove":
                (folder / path).unlink()
            elif action == "rename":
                (folder / path).rename(folder / f"renamed-{path.replace('/', '-')}")
        corpus(folder, {"always.md": "there"})
        with_memory, without = snapshot(spec, memory, LATER), snapshot(spec, None, LATER)
        assert with_memory.digest == without.digest
        assert with_memory.paths == without.paths
        assert np.array_equal(with_memory.sha256, without.sha256)
        assert np.array_equal(with_memory.stats, without.stats)
        assert with_memory.hashed <= without.hashed
