"""Replies that were paid for survive processes, kills and damage, and a damaged one is never believed."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval import answers
from eval.answers import FILE, AnswerStore, Kept
from rag.errors import Busy, FormatTooNew, RaglineError, StorageFailed
from rag.types import Completion, Usage
from tests.servers.virtual import VirtualClock

ROOT = Path(__file__).resolve().parents[2]
KEYS = [f"{number:064x}" for number in range(8)]


def kept(number: int = 0) -> Kept:
    usage = Usage(1, 10 + number, 5, 0.25)
    return Kept(Completion(f"Reply {number}. " * 20, f"toy-{number}", usage), 1.5 + number)


def opened(folder: Path) -> AnswerStore:
    return AnswerStore(folder / FILE, VirtualClock())


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of a store of eight replies."""
    folder = tmp_path_factory.mktemp("template")
    with opened(folder) as store:
        for number, key in enumerate(KEYS):
            store.put(key, kept(number))
    return (folder / FILE).read_bytes()


@pytest.fixture
def filled(template: bytes, tmp_path: Path) -> Path:
    """The folder of that store, closed."""
    (tmp_path / FILE).write_bytes(template)
    return tmp_path


texts = st.text(st.characters(exclude_categories=[]) | st.sampled_from(["\ud800", "\0", "\U0001f600"]))


@given(texts, texts, st.none() | st.floats(0, 1e9), texts, st.floats(0, 1e6))
def test_any_reply_is_given_back_as_it_was_kept(
    text: str, model: str, usd: float | None, finish: str, seconds: float
) -> None:
    wanted = Kept(Completion(text, model, Usage(1, 2, 3, usd), finish), seconds)
    with AnswerStore(None, VirtualClock()) as store:
        store.put(KEYS[0], wanted)
        assert store.get(KEYS[0]) == wanted
        assert store.get(KEYS[1]) is None


def test_another_process_reads_what_one_has_kept_and_a_later_reply_replaces_it(filled: Path) -> None:
    with opened(filled) as first, opened(filled) as second:
        assert [second.get(key) for key in KEYS] == [kept(number) for number in range(8)]
        first.put(KEYS[0], kept(9))
        assert second.get(KEYS[0]) == kept(9)
        assert first.notes == second.notes == []


@pytest.mark.parametrize(
    "damage",
    [
        "value = replace(value, 'Reply', 'Other')",
        "value = (SELECT value FROM answers WHERE key LIKE '%1')",
        "value = (SELECT value FROM answers WHERE key LIKE '%1'), sha256 = (SELECT sha256 FROM answers WHERE key LIKE '%1')",
        "sha256 = replace(sha256, substr(sha256, 1, 1), 'x')",
        "value = ''",
        "value = CAST(x'ff' AS TEXT)",
        "value = 7",
        "sha256 = x''",
    ],
)
def test_a_record_that_was_changed_is_a_miss(damage: str, filled: Path) -> None:
    with contextlib.closing(sqlite3.connect(filled / FILE)) as connection, connection:
        connection.execute(f"UPDATE answers SET {damage} WHERE key = ?", (KEYS[0],))
    with opened(filled) as store:
        assert store.get(KEYS[0]) is None
        assert len(store.notes) == 1
        assert store.get(KEYS[1]) == kept(1)
        store.put(KEYS[0], kept(0))
        assert store.get(KEYS[0]) == kept(0)


@given(place=st.integers(0, 2**20), mask=st.integers(1, 255))
def test_whatever_byte_of_the_file_flips_no_wrong_reply_comes_out(
    place: int, mask: int, filled: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    raw = bytearray((filled / FILE).read_bytes())
    raw[place % len(raw)] ^= mask
    folder = tmp_path_factory.mktemp("flipped")
    (folder / FILE).write_bytes(raw)
    # the version is no reply, and one that reads as a newer one is refused
    with contextlib.suppress(FormatTooNew), opened(folder) as store:
        for number, key in enumerate(KEYS):
            assert store.get(key) in (None, kept(number))
        store.put(KEYS[0], kept(3))
        assert store.get(KEYS[0]) == kept(3)


@pytest.mark.parametrize("content", [b"no database at all " * 500, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_file_that_is_no_database_is_set_aside_and_a_new_one_begun(content: bytes, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(content)
    with opened(tmp_path) as store:
        assert "set aside" in store.notes[0]
        store.put(KEYS[0], kept())
    with opened(tmp_path) as store:
        assert (store.get(KEYS[0]), store.notes) == (kept(), [])
    (aside,) = tmp_path.glob("*.damaged-*")
    assert aside.read_bytes() == content


def test_a_database_of_another_kind_is_set_aside(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as connection, connection:
        connection.execute("CREATE TABLE answers (question TEXT)")
    with opened(tmp_path) as store:
        store.put(KEYS[0], kept())
        assert store.get(KEYS[0]) == kept()
    assert len(list(tmp_path.glob("*.damaged-*"))) == 1


def test_two_who_meet_the_same_damage_set_it_aside_once(filled: Path) -> None:
    with opened(filled) as first, opened(filled) as second:
        for store in (first, second):
            store._connection.execute("PRAGMA cache_size = 0")
        raw = (filled / FILE).read_bytes()
        (filled / FILE).write_bytes(raw[:4096] + b"\xff" * (len(raw) - 4096))
        assert first.get(KEYS[0]) is None
        first.put(KEYS[1], kept(1))
        assert second.get(KEYS[1]) == kept(1)
    assert len([path for path in filled.glob("*.damaged-*") if not path.name.endswith(("-wal", "-shm"))]) == 1


def test_a_newer_format_is_refused_and_left_as_it_is(filled: Path) -> None:
    with contextlib.closing(sqlite3.connect(filled / FILE)) as connection:
        connection.execute("PRAGMA user_version = 2")
    with pytest.raises(FormatTooNew, match="has format 2") as caught:
        opened(filled)
    assert caught.value.exit_code == 2
    assert sorted(path.name for path in filled.iterdir()) == [FILE]
    with contextlib.closing(sqlite3.connect(filled / FILE)) as connection:
        assert connection.execute("SELECT count(*) FROM answers").fetchone() == (8,)


def test_a_full_disk_is_one_clear_error_and_loses_nothing(filled: Path) -> None:
    with opened(filled) as store:
        store._connection.execute("PRAGMA max_page_count = 1")
        with pytest.raises(StorageFailed, match=r"No space left on device.* bytes free") as caught:
            store.put(KEYS[0], Kept(Completion("x" * 100_000, "toy", Usage()), 1.0))
        assert "make space" in caught.value.problems[0].remedy
        assert store.get(KEYS[3]) == kept(3)


def test_a_folder_in_its_place_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    with pytest.raises(StorageFailed, match=r"cannot write .*answers\.sqlite"):
        opened(tmp_path)


@pytest.fixture
def read_only(filled: Path) -> Iterator[Path]:
    if subprocess.run(["mount", "--bind", filled, filled], capture_output=True, check=False).returncode:
        pytest.skip("a read-only mount needs root")
    subprocess.run(["mount", "-o", "remount,bind,ro", filled], check=True)
    yield filled
    subprocess.run(["umount", "-l", filled], check=True)


def test_a_read_only_store_is_one_clear_error(read_only: Path) -> None:
    with pytest.raises(StorageFailed, match="Read-only file system") as caught:
        opened(read_only)
    assert "make the store writable" in caught.value.problems[0].remedy


def test_a_file_that_stays_locked_is_busy(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "_PATIENCE", 0.05)
    with opened(filled) as store, contextlib.closing(sqlite3.connect(filled / FILE)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert store.get(KEYS[0]) == kept(0), "readers never wait"
        with pytest.raises(Busy, match="in use by another process") as caught:
            store.put(KEYS[0], kept(1))
    assert caught.value.exit_code == 3


WRITER = """
import sys
from pathlib import Path
from eval.answers import AnswerStore, Kept
from rag.clock import SystemClock
from rag.types import Completion, Usage

folder, first, last = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
with AnswerStore(folder / "answers.sqlite", SystemClock()) as store:
    for number in range(first, last):
        store.put(f"{number:064x}", Kept(Completion(f"reply {number}", "toy", Usage()), 1.0))
        print(number, flush=True)
"""


def writer(folder: Path, first: int, last: int) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", WRITER, str(folder), str(first), str(last)]
    return subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_processes_that_write_at_once_lose_nothing_and_a_killed_one_only_what_it_had_not_told(tmp_path: Path) -> None:
    writers = [writer(tmp_path, 0, 60), writer(tmp_path, 30, 90), writer(tmp_path, 100, 1_000_000)]
    output = writers[-1].stdout
    assert output is not None
    told = [int(output.readline()) for _ in range(25)]
    writers[-1].kill()
    for process in writers:
        process.communicate()
    assert [process.returncode for process in writers] == [0, 0, -9]
    with opened(tmp_path) as store:
        for number in [*range(90), *told]:
            found = store.get(f"{number:064x}")
            assert found is not None
            assert found.completion.text == f"reply {number}"


def test_a_record_is_what_the_page_of_formats_says(filled: Path) -> None:
    with contextlib.closing(sqlite3.connect(filled / FILE)) as connection:
        (value,) = connection.execute("SELECT value FROM answers WHERE key = ?", (KEYS[2],)).fetchone()
    assert json.loads(value) == {
        "at": "2026-11-22T12:00:00Z",
        "completion": {
            "finish_reason": "stop",
            "model": "toy-2",
            "text": "Reply 2. " * 20,
            "usage": {"requests": 1, "input_tokens": 12, "output_tokens": 5, "usd": 0.25},
        },
        "seconds": 3.5,
    }


def test_what_sqlite_says_beside_all_that_is_still_a_named_error(filled: Path) -> None:
    store = opened(filled)
    store.close()
    store.close()
    with pytest.raises(RaglineError, match=r"answers\.sqlite: .*closed database"):
        store.get(KEYS[0])
