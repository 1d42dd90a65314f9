"""The ledger knows what was paid: while it is paid, after a kill, and once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.clock import SystemClock
from rag.embedding import ledger
from rag.embedding.account import SYNC_SECONDS, Account
from rag.embedding.ledger import Entry, Unreadable
from rag.embedding.spend import moment, summed
from rag.errors import FormatTooNew, StorageFailed, UsageError
from rag.types import Usage

ONE = Usage(1, 100, 0, 0.25)


class Told(SystemClock):
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.date = datetime(2026, 11, 22, 3, 15, tzinfo=UTC)
        self.seconds = 0.0

    def utc(self) -> datetime:
        return self.date

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Told:
    return Told()


def account(store: Path, clock: Told, model: str = "openai/x", *, strict: bool = True) -> Account:
    return Account(store, clock, "ragline index", model, 0.5, strict=strict)


def dies(account: Account) -> None:
    """As a kill does: the kernel lets go of the file, and nobody writes a line."""
    assert account._log is not None
    account._log.__exit__()


def opened(store: Path) -> list[Path]:
    return sorted((store / "ledger/open").glob("*"))


def outcomes(store: Path) -> list[tuple[str, int]]:
    return [(line.outcome, line.requests) for line in ledger.spent(store) if isinstance(line, Entry)]


def test_an_entry_is_there_before_anything_is_paid_and_is_a_line_when_it_ends(tmp_path: Path, clock: Told) -> None:
    with account(tmp_path, clock) as spending:
        (path,) = opened(tmp_path)
        assert json.loads(path.read_text())["requests"] == 0
        assert outcomes(tmp_path) == [], "nothing is paid yet"
        spending.bill(ONE)
        spending.bill(ONE)
        assert outcomes(tmp_path) == [("running", 2)]
        assert list(ledger.lines(tmp_path)) == []
    assert opened(tmp_path) == []
    (line,) = ledger.lines(tmp_path)
    assert isinstance(line, Entry)
    assert (line.outcome, line.requests, line.tokens, line.usd, line.saved_usd) == ("done", 2, 200, 0.5, 0.5)
    assert path.stem == line.id


def test_a_run_that_was_answered_nothing_is_no_line(tmp_path: Path, clock: Told) -> None:
    with pytest.raises(ZeroDivisionError), account(tmp_path, clock):
        raise ZeroDivisionError
    assert (opened(tmp_path), outcomes(tmp_path)) == ([], [])


def test_a_run_that_fails_says_so(tmp_path: Path, clock: Told) -> None:
    def fail() -> None:
        with account(tmp_path, clock) as spending:
            spending.bill(ONE)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert outcomes(tmp_path) == [("failed", 1)]


def test_a_killed_run_is_counted_by_readers_and_made_a_line_by_the_next_writer_once(
    tmp_path: Path, clock: Told
) -> None:
    spending, other = account(tmp_path, clock), account(tmp_path, clock, "openai/y")
    for each in (spending, other):
        each.open()
        each.bill(ONE)
    spending.bill(ONE)
    dies(spending)
    assert sorted(outcomes(tmp_path)) == [("killed", 2), ("running", 1)]
    assert len(opened(tmp_path)) == 2, "who only reads leaves it as it is"
    clock.date += timedelta(days=20)
    (settled,) = ledger.settle(tmp_path)
    assert (settled.outcome, settled.month) == ("killed", "2026-11"), "the month in which it was paid"
    assert ledger.settle(tmp_path) == []
    assert sorted(outcomes(tmp_path)) == [("killed", 2), ("running", 1)]
    assert len(opened(tmp_path)) == 1
    other.close("done")
    assert sorted(outcomes(tmp_path)) == [("done", 1), ("killed", 2)]


def test_a_process_that_dies_between_its_line_and_the_end_of_its_entry_is_counted_once(
    tmp_path: Path, clock: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAGLINE_FAULT", "ledger.written:1:5")
    monkeypatch.setattr("rag.storage._passed", {})
    with pytest.raises(OSError, match=r"ledger\.written"), account(tmp_path, clock) as spending:
        spending.bill(ONE)
    assert len(opened(tmp_path)) == 1
    assert outcomes(tmp_path) == [("done", 1)]
    clock.date += timedelta(days=20)
    assert ledger.settle(tmp_path) == []
    assert (opened(tmp_path), outcomes(tmp_path)) == ([], [("done", 1)])


def test_a_writer_that_dies_between_the_line_of_a_killed_run_and_its_entry_leaves_one_line(
    tmp_path: Path, clock: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    spending = account(tmp_path, clock)
    spending.open()
    spending.bill(ONE)
    dies(spending)
    monkeypatch.setattr("rag.storage._passed", {})
    monkeypatch.setenv("RAGLINE_FAULT", "ledger.settled:1:5")
    ledger.settle(tmp_path)
    assert len(opened(tmp_path)) == 1
    monkeypatch.delenv("RAGLINE_FAULT")
    for _ in range(2):
        assert outcomes(tmp_path) == [("killed", 1)]
        assert ledger.settle(tmp_path) == []
    assert opened(tmp_path) == []


def test_of_a_torn_entry_the_last_whole_line_counts_and_one_without_any_is_swept(tmp_path: Path, clock: Told) -> None:
    spending = account(tmp_path, clock)
    spending.open()
    spending.bill(ONE)
    dies(spending)
    (path,) = opened(tmp_path)
    whole = path.read_text()
    path.write_text(whole + whole[:50])
    assert outcomes(tmp_path) == [("killed", 1)]
    path.with_name("other.jsonl").write_text(whole[:50])
    assert len(ledger.settle(tmp_path)) == 1
    assert opened(tmp_path) == []


def test_an_open_entry_that_is_none_is_named_and_stays(tmp_path: Path) -> None:
    path = ledger.open_folder(tmp_path) / "x.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("no entry\n")
    assert ledger.settle(tmp_path) == []
    assert ledger.spent(tmp_path) == [Unreadable(path, 1)]
    assert ledger.month(tmp_path, datetime(2026, 11, 1, tzinfo=UTC)).unpriced == 1


def test_an_entry_of_a_newer_format_is_refused_by_readers_and_left_by_writers(tmp_path: Path, clock: Told) -> None:
    spending = account(tmp_path, clock)
    spending.open()
    spending.bill(ONE)
    dies(spending)
    (path,) = opened(tmp_path)
    path.write_text(path.read_text().replace('"format": 2', '"format": 3'))
    with pytest.raises(FormatTooNew):
        ledger.spent(tmp_path)
    assert ledger.settle(tmp_path) == []
    assert opened(tmp_path) == [path]


def test_a_line_of_format_1_has_no_id_and_counts(tmp_path: Path) -> None:
    line = {"at": "2026-11-01T00:00:00Z", "command": "ragline index", "format": 1, "model": "openai/x",
            "outcome": "done", "requests": 1, "saved_usd": None, "tokens": 10, "usd": 0.5}  # fmt: skip
    path = tmp_path / "ledger/2026-11.jsonl"
    path.parent.mkdir()
    path.write_text((json.dumps(line) + "\n") * 2)
    assert [each.id for each in ledger.entries(tmp_path)] == ["", ""]
    path.write_text(json.dumps({**line, "at": "../../2026-11"}) + "\n")
    assert list(ledger.lines(tmp_path)) == [Unreadable(path, 1)]


def test_every_answer_is_on_disk_and_one_a_second_is_synced(
    tmp_path: Path, clock: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: Counter[str] = Counter()
    spending = account(tmp_path, clock)
    spending.open()
    monkeypatch.setattr("os.fsync", lambda _: synced.update(["fsync"]))
    for number in range(20):
        clock.seconds += SYNC_SECONDS / 4
        spending.bill(ONE)
        assert outcomes(tmp_path) == [("running", number + 1)]
    assert synced["fsync"] == 5
    spending.close("done")


@contextmanager
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def refuse(*_: object, **__: object) -> None:
        raise StorageFailed("no space")

    with monkeypatch.context() as patch:
        patch.setattr("rag.storage.HeldLog.add", refuse)
        patch.setattr("rag.storage.append_line", refuse)
        yield


def test_an_index_pays_nothing_that_it_cannot_write_down_and_a_question_is_answered_all_the_same(
    tmp_path: Path, clock: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    with full_disk(monkeypatch):
        with pytest.raises(StorageFailed):
            account(tmp_path, clock).open()
        with account(tmp_path, clock, strict=False) as spending:
            spending.bill(ONE)
    with account(tmp_path / "later", clock) as spending:
        with full_disk(monkeypatch):
            spending.bill(ONE)
        spending.bill(ONE)
    assert outcomes(tmp_path / "later") == [("done", 2)]


ENTRIES = st.builds(
    Entry,
    at=st.sampled_from(["2026-09-30T23:59:59Z", "2026-10-01T00:00:00Z", "2026-11-02T10:00:00Z"]),
    command=st.sampled_from(["ragline index", "ragline eval"]),
    model=st.sampled_from(["openai/x", "openai/y"]),
    requests=st.integers(1, 9),
    tokens=st.integers(0, 1000),
    usd=st.none() | st.integers(0, 100).map(float),
    saved_usd=st.none() | st.integers(0, 100).map(float),
    outcome=st.sampled_from(["done", "failed", "killed", "running"]),
)


@given(st.lists(ENTRIES, max_size=30), st.none() | st.just(datetime(2026, 10, 1, tzinfo=UTC)))
def test_the_rows_of_spend_come_to_the_total_and_nothing_is_counted_twice(
    entries: list[Entry], since: datetime | None
) -> None:
    found = summed([*entries, Unreadable(Path("x"), 1)], since)
    wanted = [each for each in entries if since is None or each.at >= "2026-10"]
    sums = [row.sum for row in found.rows]
    for name in ("runs", "requests", "tokens", "unpriced"):
        assert sum(getattr(each, name) for each in sums) == getattr(found.total, name)
    assert sum(each.usd or 0 for each in sums) == (found.total.usd or 0) == sum(each.usd or 0 for each in wanted)
    assert found.total.runs == len(wanted)
    assert found.total.unpriced == sum(each.usd is None for each in wanted)
    assert (found.total.usd is None) == all(each.usd is None for each in wanted), "unknown is not 0"
    keys = [(row.month, row.command, row.model) for row in found.rows]
    assert keys == sorted({(each.at[:7], each.command, each.model) for each in wanted})
    assert found.unreadable == ("x:1",)


def test_a_month_is_that_of_utc_and_counts_all_commands_and_what_is_open(tmp_path: Path, clock: Told) -> None:
    clock.date = datetime(2026, 10, 31, 23, 59, tzinfo=UTC)
    ledger.record(tmp_path, clock.date, "ragline index", "openai/x", replace(ONE, usd=7.0), None, "done")
    clock.date += timedelta(minutes=2)
    ledger.record(tmp_path, clock.date, "ragline eval", "openai/y", ONE, None, "failed")
    ledger.record(tmp_path, clock.date, "ragline eval", "openai/z", replace(ONE, usd=None), None, "done")
    spending = account(tmp_path, clock)
    spending.open()
    spending.bill(ONE)
    assert ledger.month(tmp_path, clock.date) == ledger.Month(0.5, 1)
    dies(spending)
    assert ledger.month(tmp_path, clock.date) == ledger.Month(0.5, 1)
    assert ledger.month(tmp_path, datetime(2026, 10, 3, tzinfo=UTC)) == ledger.Month(7.0, 0)
    assert ledger.month(tmp_path / "nowhere", clock.date) == ledger.Month(0, 0)


NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("30d", datetime(2026, 10, 23, 12, tzinfo=UTC)),
        ("1.5h", datetime(2026, 11, 22, 10, 30, tzinfo=UTC)),
        ("2w", datetime(2026, 11, 8, 12, tzinfo=UTC)),
        ("90m", datetime(2026, 11, 22, 10, 30, tzinfo=UTC)),
        ("2026-11-01", datetime(2026, 11, 1, tzinfo=UTC)),
        ("2026-11-01T10:00:00Z", datetime(2026, 11, 1, 10, tzinfo=UTC)),
    ],
)
def test_a_moment_is_an_age_or_a_date(text: str, wanted: datetime) -> None:
    assert moment(text, NOW) == wanted


@pytest.mark.parametrize(
    "text", ["", "soon", "30", "d", "-3d", "2026-02-30", "2026-11", "2027-01-01", "999999999w", "٣d"]
)
def test_what_is_no_moment_is_told_with_what_to_write(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        moment(text, NOW)
    assert caught.value.problems[0].where == "--since"
