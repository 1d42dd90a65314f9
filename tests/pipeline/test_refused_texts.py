"""A text that the provider will not take: found, left out with its reason, remembered, and asked for again when told to."""

from __future__ import annotations

import json
import shutil
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rag import upkeep
from rag.embedding import refusals
from rag.embedding import upkeep as cache_upkeep
from rag.errors import CorpusFailed, FormatTooNew, KeyMissing, ProviderFailed
from rag.index.plan_file import PlanFile
from rag.index.tables import DocumentTable, ExcludedRow, Table
from rag.index.versions import Versions
from rag.pipeline import Outcome, plan_only
from tests import provider
from tests.provided import ProvidedHouse
from tests.provider import Simulator

from .test_reindex import version_bytes

GOOD = "## More\n\nA train leaves at dawn."
BAD = "# Note 17\n\nA word of poison in the text.\n"
REFUSED = {"400_context": "maximum context length is 8192 tokens", "400_nameless": "its content is not acceptable"}


@pytest.fixture(autouse=True)
def no_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """To read the machine's certificates takes a client longer than all its requests on loopback, which need none."""
    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", lambda *_, **__: None)


@pytest.fixture(scope="module")
def running() -> Iterator[Simulator]:
    with provider.running() as sim:
        yield sim


@pytest.fixture
def sim(running: Simulator) -> Simulator:
    running.reset()
    running.faults()
    return running


@pytest.fixture
def house(tmp_path: Path, sim: Simulator) -> ProvidedHouse:
    """Thirty notes; one has a chunk that is refused and one that is not, another is refused whole."""
    made = ProvidedHouse(tmp_path, sim, texts=8)
    for number in range(30):
        language = "de" if number % 3 else "en"
        made.write(f"n{number:02}.md", f"---\nlang: {language}\n---\n# Note {number}\n\nText number {number}.\n")
    made.write("n17.md", f"---\nlang: fi\n---\n{BAD}\n{GOOD}\n")
    made.sets = ["corpus.max_failed_share=0.2"]
    return made


def poison(sim: Simulator, fault: str = "400_context", **more: Any) -> None:
    sim.faults({"fault": fault, "text": "poison", **more})


def excluded(house: ProvidedHouse, version: int) -> list[ExcludedRow]:
    return list(Table(Versions(house.store, "main").folder(version) / "excluded.parquet", ExcludedRow))


def chunks_of(house: ProvidedHouse, version: int) -> dict[str, int]:
    table = DocumentTable(Versions(house.store, "main").folder(version) / "documents.parquet")
    return {document.doc_id: document.chunks for document in table}


def remembered(house: ProvidedHouse) -> Path:
    (found,) = (house.store / "cache").glob(f"*/{refusals.NAME}")
    return found


def sound(house: ProvidedHouse) -> bool:
    return not upkeep.verify_store(Versions(house.store, "main"), house.store).problems


def published(outcome: Outcome, version: int, left_out: int) -> bool:
    return (outcome.reason, outcome.version, outcome.excluded_chunks) == ("published", version, left_out)


@pytest.mark.parametrize("fault", REFUSED)
def test_it_is_found_and_left_out_with_its_reason_and_the_rest_is_indexed(
    house: ProvidedHouse, sim: Simulator, fault: str
) -> None:
    poison(sim, fault)
    assert published(house.index(), 1, 1)
    (row,) = excluded(house, 1)
    assert (row.source, row.doc_id, row.stage, row.reason) == ("corpus/n17.md", "n17.md", "embed", "refused")
    assert REFUSED[fault] in row.detail
    with Versions(house.store, "main").open() as opened:
        assert opened.manifest.counts == {
            "documents": 30,
            "chunks": 30,
            "duplicates": 0,
            "excluded": 0,
            "excluded_chunks": 1,
        }
        assert chunks_of(house, 1) == {f"n{number:02}.md": 1 for number in range(30)}
        chunks = house.chunks(1)
        for language, numbers in {
            "en": range(0, 30, 3),
            "fi": [17],
            "de": {*range(30)} - {*range(0, 30, 3), 17},
        }.items():
            names = {str(chunks[row]["doc_id"]) for row in opened.where({"lang": [language]})}
            assert names == {f"n{number:02}.md" for number in numbers}
        (row_of_17,) = opened.where({"lang": ["fi"]})
        assert chunks[row_of_17]["text"] == GOOD
    assert sound(house)
    assert house.wrong_vectors(house.texts_sent()) == []
    assert house.paid_twice_for_nothing() == []


def test_what_was_left_out_is_not_asked_for_again_and_plan_says_the_same(house: ProvidedHouse, sim: Simulator) -> None:
    poison(sim)
    first = house.index()
    with Versions(house.store, "main").open() as opened:
        assert first.as_json()["content_digest"] == opened.manifest.content_digest
    sim.reset()
    plan = house.plan()
    assert (plan.to_embed, plan.chunks, plan.content_digest) == (0, 30, first.as_json()["content_digest"])
    assert (house.index().reason, house.index().excluded_chunks) == ("unchanged", 1)
    (house.store / "indexes/main/sources.memory").unlink()  # everything is read again
    plan = house.plan()
    assert (plan.to_embed, plan.chunks, plan.content_digest) == (0, 30, first.as_json()["content_digest"])
    outcome = house.index()
    assert (outcome.reason, outcome.version, outcome.excluded_chunks) == ("unchanged", 1, 1)
    assert outcome.message == "the content is that of the live version"
    assert Versions(house.store, "main").numbers() == [1]
    assert sim.log() == []


def test_the_version_answers(house: ProvidedHouse, sim: Simulator) -> None:
    poison(sim)
    house.index()
    sim.faults()
    with house.desk() as desk:
        answer = desk.ask("When does the train leave?", where={"lang": ["fi"]})
        assert [passage.text for passage in answer.passages] == [GOOD]
        assert all("poison" not in passage.text for passage in desk.retrieve("a word of poison in the text", k=30))


def test_it_stays_left_out_when_its_document_is_renamed_and_nothing_is_sent(
    house: ProvidedHouse, sim: Simulator
) -> None:
    poison(sim)
    house.index()
    sim.reset()
    (house.corpus / "n17.md").rename(house.corpus / "renamed.md")
    assert house.plan().to_embed == 0
    outcome = house.index()
    assert published(outcome, 2, 1)
    assert outcome.embedded == 0
    assert sim.log() == []
    assert [row.doc_id for row in excluded(house, 2)] == ["renamed.md"]
    assert sound(house)


@pytest.mark.parametrize("fault", REFUSED)
def test_a_text_that_stands_twice_is_left_out_twice_and_the_arithmetic_holds(
    house: ProvidedHouse, sim: Simulator, fault: str
) -> None:
    house.write("a-twin.md", BAD)
    house.write("z-twin.md", f"{BAD}\n## Else\n\nText number 3.\n")
    house.write("z-more.md", "# Note 3\n\nText number 3.\n")
    poison(sim, fault)
    plan = house.plan()
    assert (plan.chunks, plan.duplicates, plan.to_embed) == (35, 3, 32)
    outcome = house.index()
    assert published(outcome, 1, 3)
    assert outcome.embedded == 31
    assert sorted(str(row.doc_id) for row in excluded(house, 1)) == ["a-twin.md", "n17.md", "z-twin.md"]
    with Versions(house.store, "main").open() as opened:
        counts = opened.manifest.counts
        assert (counts["documents"], counts["chunks"], counts["duplicates"]) == (33, 32, 1)
        assert opened.rows == 32
    assert chunks_of(house, 1)["a-twin.md"] == 0, "a document without a chunk is a document"
    after = house.plan()
    assert (after.chunks, after.duplicates, after.to_embed) == (32, 1, 0)
    assert sound(house)


def test_too_many_refused_end_the_run_with_a_way_out_and_nothing_published(
    house: ProvidedHouse, sim: Simulator
) -> None:
    house.sets = ["corpus.max_failed_share=0.03"]
    poison(sim)
    with pytest.raises(
        CorpusFailed, match=r"refused 1 chunk \(3\.2%\), more than corpus\.max_failed_share = 3\.0%"
    ) as caught:
        house.index()
    assert caught.value.exit_code == 1
    assert "--retry-refused" in caught.value.problems[0].remedy
    assert "maximum context length" in caught.value.message
    assert Versions(house.store, "main").numbers() == []
    assert len(house.stored()) == 30, "what was paid is kept"
    sim.reset()
    for run in (house.plan, house.index):
        with pytest.raises(CorpusFailed, match="more than corpus"):
            run()
    assert sim.log() == []
    house.sets = ["corpus.max_failed_share=0.04"]
    assert published(house.index(), 1, 1)
    assert sim.log() == []


def test_where_everything_is_refused_the_run_ends_soon_and_blames_no_text(house: ProvidedHouse, sim: Simulator) -> None:
    house.sets = ["corpus.max_failed_share=1"]
    sim.faults({"fault": "400_nameless"})
    with pytest.raises(
        ProviderFailed, match=r"21 of 21 texts were refused, the last, n\d+\.md@\d+-\d+: .*not acceptable"
    ):
        house.index()
    assert len(sim.log()) < 60
    assert list((house.store / "cache").glob(f"*/{refusals.NAME}")) == []
    sim.faults()
    assert published(house.index(), 1, 0)


def test_one_that_is_the_only_text_leaves_a_cache_that_can_be_kept_up(tmp_path: Path, sim: Simulator) -> None:
    house = ProvidedHouse(tmp_path, sim)
    house.write("bad.md", BAD)
    poison(sim)
    with pytest.raises(CorpusFailed, match="refused 1 chunk"):
        house.index()
    kept_up(house)
    house.write("good.md", "# Good\n\nGood text.\n")
    house.sets = ["corpus.max_failed_share=0.5"]
    assert published(house.index(), 1, 1)
    kept_up(house)


def kept_up(house: ProvidedHouse) -> None:
    """Every errand of upkeep, with what is remembered of refused texts left as it is."""
    before, content = remembered(house).read_bytes(), {name: house.stored() for name in ("before", "after")}
    assert sound(house)
    stats = cache_upkeep.stats(house.store)
    assert [row.vectors for row in stats] == [len(content["before"])]
    assert cache_upkeep.compact(house.store, house.clock) >= 0
    for dry_run in (True, False):
        assert upkeep.prune(house.store, house.clock, dry_run=dry_run) == []
    done = upkeep.repair(
        Versions(house.store, "main"), house.store, house.clock, lambda: house.run(purpose="repair", command="x")
    )
    assert (done.mended, done.left, done.embedded) == ((), (), 0)
    assert remembered(house).read_bytes() == before
    assert house.stored().keys() == content["after"].keys()


@pytest.mark.slow
def test_upkeep_and_gc_leave_what_is_remembered_alone(house: ProvidedHouse, sim: Simulator) -> None:
    poison(sim)
    house.index()
    for number in range(3):
        house.write("more.md", f"# More\n\nText for the {number}th time.\n")
        house.index()
    versions = Versions(house.store, "main")
    assert versions.gc(1, dry_run=False)
    upkeep.prune(house.store, house.clock, dry_run=False)
    kept_up(house)
    sim.reset()
    (house.store / "indexes/main/sources.memory").unlink()
    assert house.index().reason == "unchanged"
    assert sim.log() == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "broken",
    ["chunks.parquet", "documents.parquet", "excluded.parquet", "index.faiss", "lexical/data.npy", "manifest.json"],
)
def test_repair_makes_a_version_with_exclusions_anew_byte_for_byte(
    house: ProvidedHouse, sim: Simulator, broken: str
) -> None:
    house.write("z-twin.md", BAD)
    poison(sim)
    house.index()
    before = version_bytes(house, 1)
    path = Versions(house.store, "main").folder(1) / broken
    path.write_bytes(before[broken][:-1] + bytes([before[broken][-1] ^ 1]))
    assert not sound(house)
    sim.reset()
    done = upkeep.repair(
        Versions(house.store, "main"), house.store, house.clock, lambda: house.run(purpose="repair", command="x")
    )
    assert (done.failed, done.left, done.embedded) == ((), (), 0)
    assert version_bytes(house, 1) == before
    assert sim.log() == []


@pytest.mark.slow
def test_two_stores_with_the_same_refusals_have_the_same_bytes(
    tmp_path: Path, house: ProvidedHouse, sim: Simulator
) -> None:
    poison(sim, "400_context")
    house.index()
    other = ProvidedHouse(tmp_path / "other", sim, texts=3)
    shutil.rmtree(other.corpus)
    shutil.copytree(house.corpus, other.corpus)
    other.sets = house.sets
    sim.faults({"fault": "500", "at": [1, 3]}, {"fault": "400_context", "text": "poison"})
    other.index()
    assert version_bytes(other, 1) == version_bytes(house, 1)


@pytest.mark.slow
def test_asked_for_again_it_is_published_once_the_provider_takes_it(house: ProvidedHouse, sim: Simulator) -> None:
    poison(sim)
    house.index()
    without = version_bytes(house, 1)
    sim.reset()
    again = house.index(retry_refused=True)
    assert (again.reason, again.version, again.excluded_chunks) == ("unchanged", 1, 1)
    assert [(entry["texts"], entry["status"]) for entry in sim.log()] == [(1, 400)]
    assert house.index().reason == "unchanged"
    assert len(sim.log()) == 1, "and it is remembered again"
    sim.faults()
    taken = house.index(retry_refused=True)
    assert published(taken, 2, 0)
    assert [(cause.cause, cause.texts) for cause in taken.plan.causes] == [("refused before", 1)]
    assert taken.embedded == 1
    assert chunks_of(house, 2)["n17.md"] == 2
    assert excluded(house, 2) == []
    assert list((house.store / "cache").glob(f"*/{refusals.NAME}")) == []
    assert version_bytes(house, 1) == without
    assert house.index().reason == "unchanged"
    assert sound(house)
    assert house.paid_twice_for_nothing() == []


def test_what_was_refused_before_a_run_died_is_remembered(house: ProvidedHouse, sim: Simulator) -> None:
    house.embedding["concurrency"] = 1
    house.write("a.md", BAD)  # comes first
    sim.faults({"fault": "400_context", "text": "poison"}, {"fault": "401", "at": [4]})
    with pytest.raises(KeyMissing):
        house.index()
    asked = len([entry for entry in sim.log() if entry["status"] == 400])
    assert asked >= 2
    assert published(house.index(), 1, 2)
    assert len([entry for entry in sim.log() if entry["status"] == 400]) == asked


def test_an_experiment_leaves_it_out_too_and_publishes_nothing(house: ProvidedHouse, sim: Simulator) -> None:
    poison(sim)
    outcome = house.index(purpose="experiment")
    assert (outcome.reason, outcome.excluded_chunks) == ("experiment", 1)
    sim.reset()
    assert published(house.index(), 1, 1)
    assert sim.log() == []


@pytest.mark.slow
def test_a_plan_that_was_kept_is_carried_out_whether_it_is_known_or_not(house: ProvidedHouse, sim: Simulator) -> None:
    poison(sim)
    path = house.corpus.parent / "plan.json"
    for version, name in enumerate(("first.md", "second.md"), 1):
        house.write(name, f"# {name}\n\nA good text.\n")
        with house.run(command="ragline plan", purpose="plan") as run:
            plan_only(run)
            run.plan_to_keep().save(path)
        assert published(house.index(plan_file=path), version, 1)
    assert PlanFile.load(path).plan["to_embed"] == 1


TORN: dict[str, Callable[[bytes], bytes]] = {
    "half a line": lambda line: line[: len(line) // 2],
    "no JSON": lambda _: b"\xff\xfe what\n",
    "no object": lambda _: b"[1]\nnull\n7\n",
    "no key": lambda line: line.replace(b'"key"', b'"kez"'),
    "a key that is none": lambda line: line.replace(b'"key": "', b'"key": "zz'),
    "nothing": lambda _: b"",
}


@pytest.mark.parametrize("how", TORN)
def test_a_torn_line_costs_one_request_and_the_next_line_is_whole(
    house: ProvidedHouse, sim: Simulator, how: str
) -> None:
    poison(sim)
    house.index()
    before = version_bytes(house, 1)
    path = remembered(house)
    whole = path.read_bytes()
    path.write_bytes(TORN[how](whole))
    (house.store / "indexes/main/sources.memory").unlink()
    sim.reset()
    outcome = house.index()
    assert (outcome.reason, outcome.version, outcome.excluded_chunks) == ("unchanged", 1, 1)
    assert [(entry["texts"], entry["status"]) for entry in sim.log()] == [(1, 400)]
    assert version_bytes(house, 1) == before
    assert refusals.known(path.parent).keys() == {bytes.fromhex(json.loads(whole)["key"])}
    assert sound(house)


def test_one_of_a_newer_ragline_is_refused(house: ProvidedHouse, sim: Simulator) -> None:
    poison(sim)
    house.index()
    path = remembered(house)
    path.write_bytes(path.read_bytes().replace(b'"format": 1', b'"format": 2'))
    house.write("new.md", "# New\n\nNew.\n")
    with pytest.raises(FormatTooNew, match=r"refused\.jsonl has format 2"):
        house.index()
    with pytest.raises(FormatTooNew, match="remove the file"):
        house.index(retry_refused=True)
    assert b'"format": 2' in path.read_bytes(), "what a newer one remembers is left as it is"


def test_to_ask_again_where_nothing_was_ever_embedded_is_an_ordinary_run(house: ProvidedHouse, sim: Simulator) -> None:
    assert published(house.index(retry_refused=True), 1, 0)


def test_a_reason_that_no_file_takes_is_kept_readably_also_by_the_next_run(
    house: ProvidedHouse, sim: Simulator
) -> None:
    poison(sim)
    house.index()
    path = remembered(house)
    path.write_bytes(path.read_bytes().replace(b"maximum context", rb"\ud800 context"))
    house.write("new.md", "# New\n\nNew.\n")
    assert published(house.index(), 2, 1)
    (row,) = excluded(house, 2)
    assert "'input[0]': ? context length" in row.detail
