"""`index --batch` from the corpus to the version: submit, leave, pick up, publish; and what runs beside it may not pay again."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from rag import wiring
from rag.clock import SystemClock
from rag.embedding import ledger
from rag.embedding.jobs import Jobs
from rag.errors import Damaged, InBatch, KeyMissing, OverBudget, PlanOutdated, ProviderFailed, RaglineError, UsageError
from rag.index.manifest import BUILD
from rag.index.tables import ExcludedRow, Table
from rag.index.versions import Versions
from rag.pipeline import Options, Reindex, plan_only, reindex
from rag.providers.models import MODELS, Price
from rag.providers.openai_batches import OpenAIBatches
from rag.providers.settings import ModelSettings, Surroundings
from rag.sealed import read_sealed
from rag.settings import load
from rag.status import status
from rag.storage import lock_holder
from rag.upkeep import verify_store
from tests.provider import Options as SimOptions
from tests.provider import Simulator, threaded

from .house import MODEL, BatchHouse, fill
from .making import NEVER, NOW


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with threaded(SimOptions(batch=NOW)) as running:
        yield running


@pytest.fixture
def house(sim: Simulator, tmp_path: Path) -> BatchHouse:
    made = BatchHouse(tmp_path, sim.url)
    fill(made)
    return made


def index_bytes(house: BatchHouse) -> bytes:
    live = Versions(house.store, "main").state().version
    assert live is not None
    return (Versions(house.store, "main").folder(live) / "index.faiss").read_bytes()


def test_submit_leave_pick_up_publish_and_all_is_as_online(house: BatchHouse, sim: Simulator, tmp_path: Path) -> None:
    planned = house.plan(batch=True)
    assert (planned.to_embed, planned.requests, planned.minutes) == (24, 6, None)
    first = house.index(batch=True)
    assert (first.reason, first.exit_code, first.version, first.embedded) == ("batch_submitted", 0, None, 0)
    assert [job.texts for job in first.batches] == [24]
    assert "`ragline index --batch` again picks up" in first.message
    assert Versions(house.store, "main").numbers() == []
    house.settled()
    second = house.index(batch=True)
    assert (second.reason, second.version, second.embedded) == ("published", 1, 24)
    assert set(sim.bill()["texts"].values()) == {1}
    (tmp_path / "online").mkdir()
    online = BatchHouse(tmp_path / "online", sim.url)
    fill(online)
    assert online.index().reason == "published"
    assert index_bytes(house) == index_bytes(online)
    assert house.index(batch=True).reason == "unchanged"


def test_what_is_taken_when_it_is_asked_for_again_is_published_by_whoever_picks_it_up(
    house: BatchHouse, sim: Simulator
) -> None:
    sim.faults({"fault": "400_context", "text": "number 3 "})
    assert house.index().excluded_chunks == 1
    sim.faults()
    assert house.index(batch=True, retry_refused=True).reason == "batch_submitted"
    house.settled()
    second = house.index(batch=True)
    assert (second.reason, second.version, second.excluded_chunks) == ("published", 2, 0)
    assert house.index(batch=True).reason == house.index().reason == "unchanged"


def test_plan_shows_half_the_price(house: BatchHouse) -> None:
    online, batch = house.plan(), house.plan(batch=True)
    assert online.tokens == batch.tokens
    assert online.usd is not None
    assert batch.usd == pytest.approx(online.usd / 2)
    house.sets = [f"prices.{MODEL}={{input=0.02}}"]
    assert house.plan(batch=True).usd == online.usd, "what another server takes for batches nobody knows"


def test_the_price_of_batches_is_half_at_openai_itself_and_what_was_said_elsewhere() -> None:
    def price(base_url: str | None = None, own: Price | None = None) -> float | None:
        asked = ModelSettings(MODEL, base_url=base_url, prices={MODEL: own} if own else {})
        return OpenAIBatches(asked, Surroundings(SystemClock(), {})).price

    known = MODELS[MODEL].price
    assert known
    assert price() == known.input / 2
    assert price(own=Price(4.0)) == 2.0
    assert price(own=Price(4.0, batch=3.0)) == price("http://127.0.0.1:1/v1", own=Price(4.0, batch=3.0)) == 3.0
    assert price("http://127.0.0.1:1/v1", own=Price(4.0)) == 4.0
    assert price("http://127.0.0.1:1/v1") is None


@pytest.mark.parametrize(
    ("planned", "told"), [(True, "given in the plan, None now"), (False, "None in the plan, given now")]
)
def test_a_plan_by_the_batch_is_another_than_one_online_whatever_is_known_of_prices(
    house: BatchHouse, sim: Simulator, planned: bool, told: str
) -> None:
    path = house.corpus.parent / "plan.json"
    with house.run(purpose="plan", batch=planned) as run:
        plan_only(run)
        run.plan_to_keep().save(path)
    with pytest.raises(PlanOutdated) as caught:
        house.index(plan_file=path, batch=not planned)
    assert next((each.where, each.what) for each in caught.value.problems) == ("settings", f"--batch: {told}")
    assert (sim.bill()["texts"], sim.all_batches()) == ({}, [])
    assert house.index(plan_file=path, batch=planned).reason == ("batch_submitted" if planned else "published")


def test_what_a_batch_cost_stands_in_build_json_and_once_in_the_ledger(house: BatchHouse) -> None:
    house.published()
    build = read_sealed(Versions(house.store, "main").folder(1) / BUILD)
    (entry,) = ledger.entries(house.store)
    assert (entry.outcome, entry.requests, entry.tokens) == ("done", 6, build["tokens"])
    assert entry.usd == build["usd"] == pytest.approx(entry.tokens * 0.01 / 1e6)
    assert (build["embedded"], build["requests"]) == (24, 6)


def test_while_texts_are_under_way_no_other_run_pays_for_them(house: BatchHouse, sim: Simulator) -> None:
    sim.batches(**NEVER)
    house.index(batch=True)
    with pytest.raises(InBatch) as caught:
        house.index()
    assert caught.value.exit_code == 3
    assert "24 of 24 texts to embed are under way in 1 batch (batch_sim000001)" in caught.value.message
    assert "--ignore-batches" in caught.value.problems[0].remedy
    with pytest.raises(InBatch) as caught:
        house.index(purpose="experiment")
    assert "--ignore-batches" not in caught.value.problems[0].remedy
    assert sim.bill()["texts"] == {}
    assert house.index(batch=True).reason == "batch_waiting"
    assert house.index(ignore_batches=True).reason == "published"
    assert set(sim.bill()["texts"].values()) == {1}


@pytest.mark.parametrize(
    ("fault", "error"), [("404", UsageError), ("403", KeyMissing), ("400_context", ProviderFailed)]
)
def test_what_could_not_be_uploaded_is_in_nobodys_way(
    house: BatchHouse, sim: Simulator, fault: str, error: type[RaglineError]
) -> None:
    sim.faults({"fault": fault, "path": "POST /v1/files"})
    with pytest.raises(error):
        house.index(batch=True)
    with house.run(purpose="plan") as run:
        plan_only(run)
        assert run.obstacles() == ()
    assert house.index().reason == "published"
    assert house.index(batch=True).reason == "unchanged"
    assert Jobs(house.store).all() == []
    assert set(sim.bill()["texts"].values()) == {1}


def test_a_damaged_batch_stops_who_would_send_its_texts_and_no_other(house: BatchHouse, sim: Simulator) -> None:
    sim.batches(**NEVER)
    house.index(batch=True)
    (path,) = (house.store / "batches").glob("*.json")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(Damaged) as caught:
        house.index()
    assert str(path) in str(caught.value)
    assert "--ignore-batches" in str(caught.value)
    assert status(house.store, "main", SystemClock().utc()).broken_batches == (caught.value.message,)
    with house.run(purpose="plan") as run:
        plan_only(run)
        assert [(obstacle.reason, obstacle.exit_code) for obstacle in run.obstacles()] == [("in_batch", 5)]
    assert house.index(ignore_batches=True).reason == "published"
    assert house.index().reason == "unchanged"


def test_texts_that_no_batch_holds_are_refused_with_the_others_and_not_sent(house: BatchHouse, sim: Simulator) -> None:
    sim.batches(**NEVER)
    house.index(batch=True)
    house.write("more.md", "# More\n\nOne text more.\n")
    with pytest.raises(InBatch, match="24 of 25 texts"):
        house.index()
    assert sim.bill()["texts"] == {}
    for number in range(24):
        (house.corpus / f"n{number:02}.md").unlink()
    assert house.index().reason == "published", "what nobody wants any more is in nobody's way"


def test_a_plan_foresees_that(house: BatchHouse, sim: Simulator) -> None:
    sim.batches(**NEVER)
    house.index(batch=True)

    def obstacles(*, batch: bool) -> list[tuple[str, int]]:
        with house.run(purpose="plan", batch=batch) as run:
            plan_only(run)
            return [(obstacle.reason, obstacle.exit_code) for obstacle in run.obstacles()]

    assert obstacles(batch=False) == [("in_batch", 3)]
    assert obstacles(batch=True) == []


def test_an_unchanged_corpus_still_picks_up_what_is_paid(house: BatchHouse, sim: Simulator) -> None:
    house.published()
    text = (house.corpus / "n03.md").read_text()
    house.write("n03.md", "# Note 3\n\nAnother text.\n")
    house.index(batch=True)
    house.settled()
    house.write("n03.md", text)
    assert house.index(batch=True).reason == "unchanged"
    assert Jobs(house.store).all() == []
    house.write("n03.md", "# Note 3\n\nAnother text.\n")
    assert house.index(batch=True).reason == "published"
    assert set(sim.bill()["texts"].values()) == {1}


@pytest.mark.slow
def test_an_edit_after_submitting_submits_only_the_edit(house: BatchHouse, sim: Simulator) -> None:
    sim.batches(seconds=[0, 4, 0])  # longer than a busy machine takes to come back
    house.index(batch=True)
    house.write("n03.md", "# Note 3\n\nAnother text.\n")
    after = house.index(batch=True)
    assert [job.texts for job in after.batches] == [24, 1]
    house.published()
    assert set(sim.bill()["texts"].values()) == {1}


def test_a_refused_text_is_a_row_of_excluded_and_the_rest_is_published(house: BatchHouse, sim: Simulator) -> None:
    sim.batches(refuse="Text number 7 ", refusal="400_context")
    outcome = house.published()
    assert (outcome.reason, outcome.excluded_chunks) == ("published", 1)
    (row,) = Table(Versions(house.store, "main").folder(1) / "excluded.parquet", ExcludedRow)
    assert (row.doc_id, row.stage, row.reason) == ("n07.md", "embed", "refused")
    assert set(sim.bill()["texts"].values()) == {1}
    house.write("more.md", "# More\n\nOne text more.\n")
    assert [job.texts for job in house.index(batch=True).batches] == [1], "it is not asked for again"


def test_what_batches_could_not_do_is_named_by_its_chunk_and_done_online(house: BatchHouse, sim: Simulator) -> None:
    sim.batches(fail_every=1)
    for _ in range(3):
        house.index(batch=True)
        house.settled()
    with pytest.raises(ProviderFailed) as caught:
        house.index(batch=True)
    assert caught.value.problems[0].where.startswith("n00.md@")
    assert house.index().reason == "published"
    assert house.index(batch=True).reason == "unchanged"
    assert Jobs(house.store).all() == []


def test_the_monthly_cap_counts_what_is_under_way(house: BatchHouse, sim: Simulator) -> None:
    planned = house.plan(batch=True)
    assert planned.usd is not None
    sim.batches(**NEVER)
    house.index(batch=True)
    house.sets = [f"embedding.max_usd_per_month={planned.usd:.9f}"]
    assert not house.plan(batch=True).crossed, "what is in a batch is counted once"
    house.write("more.md", "# More\n\nOne text more.\n")
    assert house.plan(batch=True).crossed.startswith("max_usd_per_month")
    with pytest.raises(OverBudget, match="max_usd_per_month"):
        house.index(batch=True)
    assert len(Jobs(house.store).all()) == 1


def test_status_and_verify_know_of_open_batches(house: BatchHouse, sim: Simulator) -> None:
    sim.batches(**NEVER)
    house.index(batch=True)

    (job,) = status(house.store, "main", SystemClock().utc()).batches
    assert (job.batch_id, job.texts, job.state) == ("batch_sim000001", 24, "submitted")
    assert not verify_store(Versions(house.store, "main"), house.store).problems
    (path,) = (house.store / "batches").glob("*.jsonl")
    path.write_bytes(path.read_bytes()[:-9])
    (problem,) = verify_store(Versions(house.store, "main"), house.store).problems
    assert problem.file == str(path)


def test_a_run_by_the_batch_is_the_one_writer(house: BatchHouse) -> None:
    with house.run(batch=True, command="ragline index --batch") as run:
        run.look()
        holder = lock_holder(house.store)
        assert holder is not None
        assert holder.command == "ragline index --batch"


@pytest.mark.parametrize("model", ["local/wordllama"])
def test_a_model_that_takes_no_batches_is_one_clear_message(tmp_path: Path, model: str) -> None:
    (tmp_path / "corpus").mkdir()
    settings = load(
        [], {}, [f"store='{tmp_path}/s'", "corpus.paths=['corpus']", f"embedding.model='{model}'"], tmp_path
    )
    with pytest.raises(UsageError, match="takes no batches") as caught:
        wiring.reindex(settings, Options(batch=True), lambda *_: None)
    assert caught.value.exit_code == 2
    assert not (tmp_path / "s").exists()


def test_both_runs_of_the_stages_are_the_same(house: BatchHouse) -> None:
    with house.run(batch=True) as run:
        for stage in (Reindex.look, Reindex.read, Reindex.plan, Reindex.embed, Reindex.build):
            stage(run)
        assert run.staged is None
        assert dataclasses.asdict(Reindex.publish(run))["reason"] == "batch_submitted"
    house.settled()
    with house.run(batch=True) as run:
        assert reindex(run).reason == "published"
