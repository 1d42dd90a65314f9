"""The vector cache keeps what was paid for, finds it by content, and never hands out a damaged row."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.clock import SystemClock
from rag.digest import text_keys
from rag.embedding import cache as cache_module
from rag.embedding import upkeep
from rag.embedding.cache import VectorCache, broken_segments, segment_names
from rag.errors import Damaged, FormatTooNew
from rag.types import EmbeddingIdentity

IDENTITY = EmbeddingIdentity("openai", "text-embedding-3-small")
WIDTH = 12


def keys_of(*texts: str) -> np.ndarray:
    return text_keys(IDENTITY, "passage", texts)


def vectors_of(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, WIDTH), dtype=np.float32)


def tokens_of(count: int) -> np.ndarray:
    return np.arange(1, count + 1, dtype=np.uint32)


@pytest.fixture
def cache(tmp_path: Path) -> VectorCache:
    return VectorCache(tmp_path, IDENTITY, SystemClock())


def test_what_was_added_comes_back_bit_for_bit_in_the_order_asked_for(cache: VectorCache) -> None:
    keys, vectors = keys_of("a", "b", "c"), vectors_of(3)
    cache.add(keys, vectors, tokens_of(3))
    asked = keys[[2, 0, 1, 2]]
    found = cache.lookup(asked)
    assert found.hit.all()
    where = np.arange(4)
    assert (found.gather(where) == vectors[[2, 0, 1, 2]]).all()


def test_a_text_that_was_never_stored_is_a_miss(cache: VectorCache) -> None:
    cache.add(keys_of("a"), vectors_of(1), tokens_of(1))
    assert cache.lookup(keys_of("b", "a")).hit.tolist() == [False, True]


def test_an_empty_cache_has_only_misses(cache: VectorCache) -> None:
    assert cache.lookup(keys_of("a", "b")).hit.tolist() == [False, False]


def test_keys_that_share_a_prefix_are_told_apart(cache: VectorCache) -> None:
    keys = np.zeros((4, 32), np.uint8)
    keys[:, 31] = [3, 1, 2, 9]
    cache.add(keys[:3], vectors_of(3), tokens_of(3))
    found = cache.lookup(keys)
    assert found.hit.tolist() == [True, True, True, False]
    assert (found.gather(np.arange(3)) == vectors_of(3)).all()


def test_the_oldest_segment_wins_for_a_key_in_two(cache: VectorCache) -> None:
    keys = keys_of("a")
    cache.add(keys, vectors_of(1, seed=1), tokens_of(1))
    later = VectorCache(cache.folder.parent.parent, IDENTITY, SystemClock())
    later._write(keys, vectors_of(1, seed=2), tokens_of(1), stamp=9_999_999_999_999)
    found = cache.lookup(keys)
    assert (found.gather(np.arange(1)) == vectors_of(1, seed=1)).all()


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 9)), max_size=30), st.booleans())
def test_lookup_equals_a_dictionary(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, int]], merge: bool
) -> None:
    cache = VectorCache(tmp_path_factory.mktemp("cache"), IDENTITY, SystemClock())
    model: dict[int, int] = {}
    for stamp, (name, value) in enumerate(rows):
        keys = keys_of(str(name))
        cache._write(keys, np.full((1, WIDTH), value, np.float32), tokens_of(1), stamp=stamp)
        model.setdefault(name, value)
    if merge:
        cache.merge(above=1)
    asked = list(range(31))
    keys = keys_of(*map(str, asked))
    found = cache.lookup(keys)
    assert found.hit.tolist() == [name in model for name in asked]
    where = np.flatnonzero(found.hit)
    if len(where):
        assert found.gather(where)[:, 0].tolist() == [model[int(name)] for name in where]


def test_a_segment_is_read_by_pyarrow_alone_as_the_format_page_says(cache: VectorCache) -> None:
    cache.add(keys_of("a", "b"), vectors_of(2), tokens_of(2))
    (name,) = segment_names(cache.folder)
    table = pa.ipc.open_file(pa.memory_map(str(cache.folder / name))).read_all()
    assert table.column_names == ["key", "vector", "tokens", "check"]
    stored = {row["key"]: row["vector"] for row in table.to_pylist()}
    for key, vector in zip(keys_of("a", "b"), vectors_of(2), strict=True):
        assert np.allclose(stored[key.tobytes()], vector, atol=0)
    assert sorted(stored) == [row["key"] for row in table.to_pylist()]


def test_small_segments_are_merged_and_nothing_is_lost(cache: VectorCache) -> None:
    names = [str(number) for number in range(70)]
    for number, name in enumerate(names):
        cache.add(keys_of(name), vectors_of(1, seed=number), tokens_of(1))
    assert cache.merge() > 0
    assert len(segment_names(cache.folder)) == 1
    keys = keys_of(*names)
    found = cache.lookup(keys)
    assert found.hit.all()
    assert (found.gather(np.arange(70)) == np.concatenate([vectors_of(1, seed=n) for n in range(70)])).all()


def two_vectors_for_one_key(cache: VectorCache) -> np.ndarray:
    """Small and old, large and younger, small and youngest; the middle one and the last have another vector for "b"."""
    for stamp, names in enumerate(("a", "bc" + "x" * 50, "b")):
        keys = keys_of(*(f"{name}{place}" if name == "x" else name for place, name in enumerate(names)))
        cache._write(keys, np.full((len(keys), WIDTH), stamp + 1, np.float32), tokens_of(len(keys)), stamp=stamp + 1)
    return keys_of("b")


def test_a_merge_reaches_not_past_a_large_segment(cache: VectorCache, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = two_vectors_for_one_key(cache)
    monkeypatch.setattr(cache_module, "SMALL_BYTES", 3_000)
    assert cache.merge(above=1) == 0
    assert cache.lookup(asked).gather(np.arange(1))[0, 0] == 2


def test_a_prune_leaves_the_oldest_vector_the_winner(cache: VectorCache) -> None:
    asked = two_vectors_for_one_key(cache)
    store = cache.folder.parent.parent
    needed = {key.tobytes() for key in keys_of("a", "b")}
    cache.add(keys_of("b"), vectors_of(1), tokens_of(1), stamp=9)  # and gives the folder its namespace.json
    assert upkeep.prune(store, needed, SystemClock(), dry_run=False)
    assert VectorCache(store, IDENTITY, SystemClock()).lookup(asked).gather(np.arange(1))[0, 0] == 2


def test_a_reader_that_meets_a_vanished_file_lists_again(cache: VectorCache, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        cache.add(keys_of(str(number)), vectors_of(1), tokens_of(1))
    stale = segment_names(cache.folder)
    cache.merge(above=1)
    listings = iter([stale])
    real = segment_names
    monkeypatch.setattr(cache_module, "segment_names", lambda folder: next(listings, None) or real(folder))
    reader = VectorCache(cache.folder.parent.parent, IDENTITY, SystemClock())
    assert reader.lookup(keys_of("3")).hit.all()


def test_a_name_without_a_file_behind_it_is_damage_not_a_wait_without_end(cache: VectorCache) -> None:
    cache.add(keys_of("a"), vectors_of(1), tokens_of(1))
    (cache.folder / f"{1:013d}-{'a' * 16}.arrow").symlink_to("nowhere")
    with pytest.raises(Damaged, match="leads nowhere"):
        VectorCache(cache.folder.parent.parent, IDENTITY, SystemClock()).lookup(keys_of("a"))


def test_a_newer_format_is_refused(cache: VectorCache) -> None:
    cache.add(keys_of("a"), vectors_of(1), tokens_of(1))
    path = cache.folder / "namespace.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    with pytest.raises(FormatTooNew, match="99"):
        VectorCache(cache.folder.parent.parent, IDENTITY, SystemClock())


@pytest.fixture
def one_segment(cache: VectorCache) -> Path:
    cache.add(keys_of(*"abcdefgh"), vectors_of(8), tokens_of(8))
    return cache.folder / segment_names(cache.folder)[0]


def test_no_flipped_byte_of_a_segment_ever_gives_a_wrong_vector_and_verify_finds_each(
    cache: VectorCache, one_segment: Path
) -> None:
    sound = one_segment.read_bytes()
    keys = keys_of(*"abcdefgh")
    wrong = unnamed = 0
    for position in range(0, len(sound), 3):
        flipped = bytearray(sound)
        flipped[position] ^= 1 << (position % 8)
        one_segment.write_bytes(flipped)
        assert [path for path, _, _ in broken_segments(cache.folder.parent.parent)] == [one_segment]
        reader = VectorCache(cache.folder.parent.parent, IDENTITY, SystemClock())
        try:
            found = reader.lookup(keys)
            where = np.flatnonzero(found.hit)
            got = found.gather(where)
        except Damaged as error:
            unnamed += str(one_segment) not in error.message
            continue
        wrong += not (got == vectors_of(8)[where]).all()
    assert (wrong, unnamed) == (0, 0)


@pytest.mark.slow
def test_repair_keeps_every_sound_record_whatever_byte_is_flipped(cache: VectorCache, one_segment: Path) -> None:
    store = cache.folder.parent.parent
    cache._write(keys_of("other"), vectors_of(1, seed=5), tokens_of(1), stamp=1)
    sound, name = one_segment.read_bytes(), one_segment
    keys = keys_of(*"abcdefgh")
    for position in range(0, len(sound), 7):
        flipped = bytearray(sound)
        flipped[position] ^= 0x10
        name.write_bytes(flipped)
        for path, _, _ in list(broken_segments(store)):
            mended = upkeep.mend(path)
            assert mended.kept >= 7
            assert mended.lost is not None
            assert mended.lost <= 1
        assert not list(broken_segments(store))
        found = VectorCache(store, IDENTITY, SystemClock()).lookup(keys)
        where = np.flatnonzero(found.hit)
        assert len(where) >= 7
        assert (found.gather(where) == vectors_of(8)[where]).all()
        for other in segment_names(cache.folder):
            if not other.startswith("0000000000001-"):
                (cache.folder / other).unlink()


def test_a_truncated_segment_is_found_and_dropped_by_repair(cache: VectorCache, one_segment: Path) -> None:
    one_segment.write_bytes(one_segment.read_bytes()[:100])
    store = cache.folder.parent.parent
    with pytest.raises(Damaged, match="damaged"):
        VectorCache(store, IDENTITY, SystemClock()).lookup(keys_of("a"))
    ((path, _, _),) = broken_segments(store)
    assert upkeep.mend(path).lost is None
    assert not list(broken_segments(store))


def test_prune_drops_what_is_not_needed_and_says_what_it_would_cost(cache: VectorCache, one_segment: Path) -> None:
    store = cache.folder.parent.parent
    needed = {key.tobytes() for key in keys_of(*"abc")}
    (dry,) = upkeep.prune(store, needed, SystemClock(), dry_run=True)
    assert (dry.vectors, dry.tokens) == (5, 4 + 5 + 6 + 7 + 8)
    assert one_segment.exists()
    assert upkeep.prune(store, needed, SystemClock(), dry_run=False) == [dry]
    assert (
        VectorCache(store, IDENTITY, SystemClock()).lookup(keys_of(*"abcdefgh")).hit.tolist()
        == [True] * 3 + [False] * 5
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault", ["cache.add.before_write", "create.before_fsync", "create.before_rename", "cache.add.after_write"]
)
def test_a_writer_killed_anywhere_leaves_whole_segments_only(tmp_path: Path, fault: str) -> None:
    script = """
import sys, numpy as np
from pathlib import Path
from rag.clock import SystemClock
from rag.digest import text_keys
from rag.embedding.cache import VectorCache
from rag.types import EmbeddingIdentity
identity = EmbeddingIdentity("openai", "text-embedding-3-small")
cache = VectorCache(Path(sys.argv[1]), identity, SystemClock())
for number in range(5):
    keys = text_keys(identity, "passage", [f"{number}-{i}" for i in range(10)])
    cache.add(keys, np.ones((10, 12), np.float32), np.ones(10, np.uint32))
    print(number, flush=True)
"""
    environment = {**os.environ, "RAGLINE_FAULT": f"{fault}:3:kill", "PYTHONPATH": "."}
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, env=environment, check=False
    )
    assert done.returncode == -signal.SIGKILL
    acknowledged = len(done.stdout.split())
    store = VectorCache(tmp_path, IDENTITY, SystemClock())
    assert not list(broken_segments(tmp_path))
    for number in range(acknowledged):
        assert store.lookup(keys_of(*[f"{number}-{i}" for i in range(10)])).hit.all()
