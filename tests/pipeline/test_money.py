"""What a run may spend, what it has spent, and what is said of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from rag.clock import SystemClock
from rag.embedding import ledger
from rag.errors import OverBudget, ProviderFailed
from rag.index.manifest import BUILD
from rag.index.versions import Versions
from rag.pipeline import Options, Reindex, plan_only, reindex
from rag.ports import Embedded
from rag.sealed import read_sealed
from rag.status import spent
from rag.types import Role, Usage

from .conftest import CountingModel, House


class Told(SystemClock):
    """A clock whose date is set by hand."""

    def __init__(self, date: datetime) -> None:
        self.date = date

    def utc(self) -> datetime:
        return self.date


class Exact(CountingModel):
    """Bills what was planned."""

    def __init__(self, count: Callable[[str], int]) -> None:
        super().__init__()
        self._count = count

    async def embed(self, texts: Sequence[str], role: Role) -> Embedded:
        answer = await super().embed(texts, role)
        return dataclasses.replace(answer, tokens=sum(map(self._count, texts)))


@pytest.fixture
def priced(house: House) -> House:
    """A dollar a token."""
    for number in range(20):
        house.write(f"n{number}.txt", f"Text number {number}.\n")
    house.model = Exact(house.parts().tokenizer.count)
    house.terms = {"free": False, "usd_per_million": 1_000_000.0}
    return house


def foreseen(house: House) -> list[str]:
    with house.run(command="ragline plan", purpose="plan") as run:
        plan_only(run)
        return [obstacle.message for obstacle in run.obstacles()]


def outcomes(house: House) -> list[str]:
    return [line.outcome for line in ledger.spent(house.store) if isinstance(line, ledger.Entry)]


def spend(house: House, usd: float | None, date: datetime, command: str = "ragline eval") -> None:
    ledger.record(house.store, date, command, "openai/x", Usage(1, 10, 0, usd), None, "done")


def test_the_month_is_not_crossed_whoever_spent_it_and_what_is_paid_is_kept(priced: House) -> None:
    now = datetime.now(UTC)
    total = priced.plan().tokens
    spend(priced, 1_000.0, now)
    spend(priced, None, now)
    spend(priced, 9_000.0, now.replace(year=now.year - 1))
    priced.terms["max_usd_per_month"] = 1_000.0 + total / 2
    (told,) = foreseen(priced)
    assert "max_usd_per_month" in told
    assert "1 run of unknown price not counted" in told
    with pytest.raises(OverBudget, match=r"max_usd_per_month = .*\$1,000\.00 spent") as caught:
        priced.index()
    assert caught.value.exit_code == 4
    paid = len(priced.sent())
    assert 0 < paid < priced.plan().texts
    (entry,) = [line for line in ledger.entries(priced.store) if line.command == "ragline index"]
    assert entry.usd is not None
    assert entry.usd <= total / 2
    with pytest.raises(OverBudget, match=r"the first request would cross max_usd_per_month"):
        priced.index()
    priced.terms["max_usd_per_month"] = 10_000.0
    assert priced.index().reason == "published"
    assert len(priced.sent()) + paid >= priced.plan().texts


def test_a_new_month_begins_with_nothing_spent(priced: House) -> None:
    priced.terms["max_usd_per_month"] = 100.0
    clock = Told(datetime(2026, 10, 31, 23, 59, tzinfo=UTC))
    spend(priced, 100.0, clock.date)

    def index() -> str:
        with Reindex(dataclasses.replace(priced.parts(), clock=clock), Options()) as run:
            return reindex(run).reason

    with pytest.raises(OverBudget, match="the first request"):
        index()
    clock.date = datetime(2026, 11, 1, tzinfo=UTC)
    with pytest.raises(OverBudget, match="the next request"):
        index()
    priced.terms["max_usd_per_month"] = 10_000.0
    assert index() == "published"


def test_nothing_to_send_crosses_no_cap_however_much_the_month_has_cost(priced: House) -> None:
    priced.index()
    priced.terms |= {"max_usd_per_month": 1.0, "max_usd": 0.0}
    (priced.corpus / "n1.txt").rename(priced.corpus / "renamed.txt")
    assert foreseen(priced) == []
    assert (priced.index().reason, priced.index().embedded) == ("published", 0)


def test_what_other_processes_spend_at_this_moment_counts(priced: House) -> None:
    from rag.embedding.account import Account

    priced.terms["max_usd_per_month"] = 1_000.0
    with Account(priced.store, SystemClock(), "ragline eval", "openai/x") as account:
        account.bill(Usage(1, 10, 0, 999.0))
        with pytest.raises(OverBudget, match=r"\$999\.00 spent"):
            priced.index()


def test_the_ledger_of_a_run_under_way_says_what_was_answered_before_it_is_stored(
    priced: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rag.embedding.cache import VectorCache

    seen: list[tuple[int, int]] = []
    add = VectorCache.add

    def look(cache: VectorCache, *args: Any) -> None:
        (line,) = ledger.open_entries(priced.store)
        assert isinstance(line, ledger.Entry)
        seen.append((line.requests, priced.model.requests))
        add(cache, *args)

    monkeypatch.setattr(VectorCache, "add", look)
    run = priced.run()
    with run:
        reindex(run)
    assert seen
    assert all(0 < counted <= sent for counted, sent in seen)
    assert [line.id for line in ledger.entries(priced.store)] == [run.run_id]


def test_a_run_that_pays_nothing_is_in_no_ledger(priced: House) -> None:
    priced.index()
    priced.index()
    priced.write("copy.txt", "Text number 1.\n")
    priced.index()
    assert len(list(ledger.entries(priced.store))) == 1
    priced.terms = {}
    priced.write("free.txt", "Nothing is billed for this one.\n")
    priced.index()
    assert len(list(ledger.entries(priced.store))) == 1


def kill(run: Reindex) -> None:
    """Leave a run as a kill -9 does: its account is not closed, and the kernel lets go of it."""
    from rag.embedding.account import Account

    def gone(account: Account, _: str) -> None:
        assert account._log is not None
        account._log.__exit__()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Account, "close", gone)
        with pytest.raises(ProviderFailed), run:
            reindex(run)


def test_a_killed_run_is_accounted_for_by_the_next_and_its_texts_are_saved_then(priced: House) -> None:
    planned = priced.plan()
    priced.model.fail_at = 3
    kill(priced.run())
    priced.model.fail_at = None
    first = len(priced.sent())
    assert outcomes(priced) == ["killed"]
    assert spent(priced.store).runs == 1
    outcome = priced.index()
    assert outcomes(priced) == ["killed", "done"]
    killed, done = ledger.entries(priced.store)
    assert killed.requests == 2
    build = read_sealed(Versions(priced.store, "main").folder(1) / BUILD)
    assert (build["run_id"], build["embedded"]) == (done.id, planned.to_embed - first)
    assert (build["usd"], build["tokens"], build["requests"]) == (done.usd, done.tokens, done.requests)
    assert build["saved_usd"] == outcome.plan.saved_usd == planned.usd - (outcome.plan.usd or 0)  # type: ignore[operator]
    assert (build["cached"], outcome.usage.usd) == (first, done.usd)
    assert outcome.as_json()["billed"] == {"requests": done.requests, "tokens": done.tokens, "usd": done.usd}


def test_the_next_writer_accounts_for_the_dead_even_if_it_sends_nothing(priced: House) -> None:
    priced.index()
    priced.write("more.txt", "One more text.\n")
    priced.model.fail_at = priced.model.requests + 2
    priced.write("yet.txt", "x " * 40)
    priced.model.limits = dataclasses.replace(priced.model.limits, texts=1)
    kill(priced.run())
    (priced.corpus / "more.txt").unlink()
    (priced.corpus / "yet.txt").unlink()
    assert priced.index().reason == "unchanged"
    assert [line.outcome for line in ledger.entries(priced.store)] == ["done", "killed"]
    assert not list(ledger.open_folder(priced.store).iterdir())


def test_a_plan_and_an_experiment_leave_the_dead_to_the_next_writer(priced: House) -> None:
    priced.model.fail_at = 2
    kill(priced.run())
    priced.model.fail_at = None
    priced.plan()
    priced.index(purpose="experiment")
    assert [line.outcome for line in ledger.entries(priced.store)] == ["done"]
    assert sorted(outcomes(priced)) == ["done", "killed"]


def test_a_cap_below_the_first_request_says_what_is_needed(priced: House, tmp_path: Path) -> None:
    priced.terms["max_usd"] = 1.0
    with pytest.raises(OverBudget, match=r"the first request would cross max_usd = 1 \(\$0\.00 used, ") as caught:
        priced.index()
    assert (caught.value.exit_code, priced.sent(), outcomes(priced)) == (4, [], [])
    needed = caught.value.problems[0].remedy.split("`")[1]
    total = priced.plan().tokens
    assert needed == f"--max-usd {total}.00"
    priced.terms["max_usd"] = float(total)
    assert priced.index().reason == "published"


def test_minutes_follow_from_the_tighter_of_the_two_limits(priced: House) -> None:
    plan = priced.plan()
    assert plan.minutes is None
    priced.terms |= {"requests_per_minute": plan.requests, "tokens_per_minute": plan.tokens * 10}
    assert priced.plan().minutes == 1
    priced.terms |= {"tokens_per_minute": plan.tokens // 4}
    assert priced.plan().minutes == pytest.approx(4, rel=0.1)
