"""A re-index pays for what is new, publishes what is complete, and says why."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path

import pytest

from rag.embedding import ledger
from rag.errors import CorpusFailed, CorpusMissing, KeyMissing, OverBudget, ProviderFailed
from rag.index.current import Current, Hold
from rag.index.versions import Versions
from rag.pipeline import Loss, Options, plan_only, verdict
from rag.sealed import read_sealed
from rag.storage import lock_holder

from .conftest import CountingModel, House


def version_bytes(house: House, version: int) -> dict[str, bytes]:
    folder = house.store / "indexes/main" / f"v{version:06d}"
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "build.json")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_the_first_run_embeds_every_text_once_and_publishes(house: House) -> None:
    planned = house.plan()
    assert house.sent() == []
    outcome = house.index()
    assert (outcome.reason, outcome.version, outcome.exit_code) == ("published", 1, 0)
    assert len(house.sent()) == planned.to_embed == outcome.embedded > 0
    assert [cause.cause for cause in planned.causes] == ["new"]


def test_the_second_run_does_nothing_at_all(house: House) -> None:
    house.index()
    house.sent()
    outcome = house.index()
    assert (outcome.reason, outcome.version, outcome.embedded) == ("unchanged", 1, 0)
    assert house.sent() == []
    assert Versions(house.store, "main").numbers() == [1]


def test_the_arithmetic_of_the_plan_holds(house: House) -> None:
    house.write("twin.md", "# Beta\n\nThe second letter.\n\n## Use\n\nIt follows alpha.\n")
    house.write("picture.png", "no text")
    plan = house.plan()
    assert plan.chunks == plan.texts + plan.duplicates
    assert plan.duplicates > 0
    assert plan.texts == plan.cached + plan.to_embed
    counts = plan.documents.counts()
    assert counts["added"] + counts["excluded"] == sum(path.is_file() for path in house.corpus.rglob("*"))


def rename(house: House) -> None:
    (house.corpus / "a.md").rename(house.corpus / "z.md")


def move(house: House) -> None:
    shutil.move(house.corpus / "a.md", house.corpus / "c" / "a.md")


def edit_metadata(house: House) -> None:
    house.write(
        "a.md", "---\ntitle: Omega\ntags: [x]\n---\n# Alpha\n\nThe first letter.\n\n## Use\n\nIt begins words.\n"
    )


def copy(house: House) -> None:
    shutil.copy(house.corpus / "b.md", house.corpus / "copy.md")


@pytest.mark.parametrize("change", [rename, move, edit_metadata, copy])
def test_what_changes_no_text_sends_nothing_and_makes_a_new_version(house: House, change: object) -> None:
    house.index()
    house.sent()
    change(house)  # type: ignore[operator]
    outcome = house.index()
    assert house.sent() == []
    assert (outcome.reason, outcome.version, outcome.embedded) == ("published", 2, 0)


def test_touched_files_publish_nothing(house: House) -> None:
    house.index()
    house.sent()
    for path in house.corpus.rglob("*.md"):
        os.utime(path)
    outcome = house.index()
    assert (outcome.reason, outcome.version) == ("unchanged", 1)
    assert house.sent() == []


def test_records_in_another_order_publish_nothing(house: House) -> None:
    records = [{"id": f"r{number}", "text": f"Record number {number}."} for number in range(5)]
    house.write("r.jsonl", "".join(json.dumps(record) + "\n" for record in records))
    house.index()
    house.write("r.jsonl", "".join(json.dumps(record) + "\n" for record in reversed(records)))
    assert house.index().reason == "unchanged"


def test_an_edit_is_named_as_the_cause_and_only_its_chunk_is_sent(house: House) -> None:
    house.index()
    house.sent()
    house.write("b.md", "# Beta\n\nThe second letter.\n\n## Use\n\nIt follows alpha, always.\n")
    plan = house.plan()
    assert [(cause.cause, cause.texts) for cause in plan.causes] == [("edited", 1)]
    house.index()
    assert len(house.sent()) == 1


def test_a_heading_edit_costs_the_chunks_beneath_it_and_the_plan_says_so(house: House) -> None:
    house.index()
    house.write("b.md", "# Second\n\nThe second letter.\n\n## Use\n\nIt follows alpha.\n")
    causes = {cause.cause: cause for cause in house.plan().causes}
    assert set(causes) == {"edited", "heading edited"}
    heading = causes["heading edited"]
    assert (heading.before, heading.after) == ("Beta > Use", "Second > Use")


def test_another_model_and_another_chunking_are_causes_with_before_and_after(house: House) -> None:
    house.index()
    house.model = CountingModel("other")
    (cause,) = house.plan().causes
    assert (cause.cause, cause.before, cause.after) == ("model changed", "model=counting", "model=other")
    house.model = CountingModel()
    house.sets = ["chunking.embed_heading_path=false"]
    assert {cause.cause for cause in house.plan().causes} == {"chunking changed"}


def test_an_emptied_cache_is_a_cause(house: House) -> None:
    house.index()
    shutil.rmtree(house.store / "cache")
    house.write("new.md", "# New\n\nSomething new.\n")
    causes = {cause.cause: cause.texts for cause in house.plan().causes}
    assert causes == {"empty cache": 6, "new": 1}


def test_a_removed_document_is_gone_from_the_next_version_and_named_in_build_json(house: House) -> None:
    house.index()
    (house.corpus / "d.txt").unlink()
    outcome = house.index()
    assert outcome.reason == "published"
    assert "d.txt" not in {row["doc_id"] for row in house.chunks(2)}
    build = read_sealed(house.store / "indexes/main/v000002/build.json")
    assert build["removed"] == ["d.txt"]


def test_too_many_vanished_documents_are_staged_not_published(house: House) -> None:
    house.index()
    for name in ("a.md", "b.md"):
        (house.corpus / name).unlink()
    outcome = house.index()
    assert (outcome.reason, outcome.exit_code, outcome.published) == ("refused", 6, False)
    assert "--allow-removed" in outcome.message
    assert "its corpus?" not in outcome.message
    versions = Versions(house.store, "main")
    assert versions.state().version == 1
    again = house.index()
    assert (again.reason, again.version) == ("refused", outcome.version)
    allowed = house.index(allow_removed=True)
    assert (allowed.reason, allowed.version) == ("published", outcome.version)
    assert versions.state().version == outcome.version


def test_where_nothing_is_left_it_may_be_another_corpus(house: House) -> None:
    house.index()
    for path in house.corpus.rglob("*.*"):
        path.unlink()
    house.write("other.md", "# Other\n\nThis is of another house.\n")
    outcome = house.index()
    assert outcome.reason == "refused"
    assert f"(nothing of it is left: is {house.corpus} its corpus?)" in outcome.message


def break_live(house: House, version: int) -> None:
    path = house.store / f"indexes/main/v{version:06d}/index.faiss"
    path.write_bytes(path.read_bytes()[:-1] + b"!")


@pytest.mark.parametrize("remembered", [True, False])
def test_a_damaged_live_version_lets_no_half_mounted_corpus_through(house: House, *, remembered: bool) -> None:
    house.index()
    break_live(house, 1)
    for name in ("a.md", "b.md"):
        (house.corpus / name).unlink()
    if not remembered:
        (house.store / "indexes/main/sources.memory").unlink()
    outcome = house.index()
    assert (outcome.reason, outcome.exit_code, outcome.version) == ("refused", 6, 2)
    assert ("2 of 4 sources (50%) vanished" if remembered else "nobody knows how many") in outcome.message
    assert "live version was no help" in outcome.message
    assert house.index().reason == "refused", "a refused corpus is not what the next one is compared with"
    assert house.index(allow_removed=True).reason == "published"


def test_a_damaged_live_version_is_replaced_where_nothing_vanished(house: House) -> None:
    house.index()
    break_live(house, 1)
    house.write("e.md", "# Epsilon\n\nThe fifth.\n")
    assert house.index().reason == "published"


def foreseen(house: House) -> list[tuple[str, int]]:
    with house.run(command="ragline plan", purpose="plan") as run:
        plan_only(run)
        return [(obstacle.reason, obstacle.exit_code) for obstacle in run.obstacles()]


def test_a_plan_foresees_what_keeps_the_run_from_publishing(house: House) -> None:
    assert foreseen(house) == []
    house.index()
    assert foreseen(house) == []
    texts = {name: (house.corpus / name).read_text() for name in ("a.md", "b.md")}
    for name in texts:
        (house.corpus / name).unlink()
    assert foreseen(house) == [("refused", 6)]
    assert (house.index().reason, house.index(allow_removed=True).reason) == ("refused", "published")
    house.write("a.md", texts["a.md"])
    assert (foreseen(house), house.index().reason) == ([], "published")
    Versions(house.store, "main").rollback(None, "wrong letters", "aino")
    assert foreseen(house) == [("held", 6)]
    assert house.index().reason == "held"
    house.write("b.md", "# Beta\n\nAnother letter.\n")
    house.terms = {"free": False}
    assert foreseen(house) == [("over_budget", 4), ("held", 6)]
    house.terms["max_tokens"] = 10_000
    assert foreseen(house) == [("held", 6)]
    (house.corpus / "b.md").unlink()
    (house.corpus / "a.md").unlink()
    assert foreseen(house) == [], "the content of the live version is no news, whatever holds"


def test_a_missing_key_ends_a_run_before_it_reads_and_is_foreseen_by_a_plan_that_needs_none(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise KeyMissing("TOY_KEY is not set")

    house.index()
    parts = house.parts
    with monkeypatch.context() as patch:
        patch.setattr(house, "parts", lambda: dataclasses.replace(parts(), find_key=missing))
        assert house.index().reason == "unchanged", "where nothing is read nothing could be sent"
        house.write("e.md", "# Epsilon\n\nThe fifth.\n")
        assert foreseen(house) == [("key_missing", 2)]
        patch.setattr("rag.pipeline.prepare", lambda *_: pytest.fail("the corpus was read"))
        with pytest.raises(KeyMissing):
            house.index()
        shutil.rmtree(house.store)
        patch.setattr("rag.pipeline.snapshot", lambda *_, **__: pytest.fail("the corpus was hashed"))
        with pytest.raises(KeyMissing):
            house.index()
    assert house.index().reason == "published"


def test_a_plan_writes_nothing_to_the_store(house: House) -> None:
    house.index()
    house.write("e.md", "# Epsilon\n\nThe fifth.\n")

    def seen() -> dict[str, int]:
        return {str(path): path.stat().st_mtime_ns for path in house.store.rglob("*")}

    before = seen()
    house.plan()
    assert seen() == before


def test_records_wait_in_the_folder_of_the_run_and_not_in_that_of_the_system(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.write("r.jsonl", '{"id": "r1", "text": "Record number one."}\n')
    monkeypatch.setattr("tempfile.gettempdir", lambda: pytest.fail("the system's temporary folder was asked for"))
    assert house.index().reason == "published"


def test_a_model_that_cannot_be_closed_does_not_keep_the_lock(house: House) -> None:
    async def close() -> None:
        raise OSError("the connection is gone")

    house.model.close = close  # type: ignore[attr-defined]
    with pytest.raises(OSError, match="gone"):
        house.index()
    assert lock_holder(house.store) is None
    del house.model.close  # type: ignore[attr-defined]
    assert house.index().reason == "unchanged"


def test_the_verdict_follows_from_the_state_and_what_vanished() -> None:
    free = Current(3, "", 3, None)
    held = Current(2, "", 3, Hold("aino", "then", "wrong {letters}", 3))
    half, all_there = Loss(5, 10, "document"), Loss(0, 10, "document")
    cases = [
        (free, all_there, Options(), "published"),
        (free, half, Options(), "refused"),
        (free, None, Options(), "refused"),
        (free, half, Options(allow_removed=True), "published"),
        (free, all_there, Options(publish=False), "no_publish"),
        (held, all_there, Options(allow_removed=True), "held"),
        (Current(None, None, 0, None), Loss(0, 0, "document"), Options(), "published"),
    ]
    for state, loss, options, wanted in cases:
        assert verdict(state, loss, 0.3, options)[0] == wanted
    assert "wrong {letters}" in verdict(held, half, 0.3, Options())[1]


def test_a_rename_of_everything_is_no_loss(house: House) -> None:
    house.index()
    for name in ("a.md", "b.md", "d.txt"):
        (house.corpus / name).rename(house.corpus / f"new-{name}")
    assert house.index().reason == "published"


def test_a_hold_stages_and_says_who_until_publish_lifts_it(house: House) -> None:
    house.index()
    house.write("e.md", "# Epsilon\n\nThe fifth.\n")
    house.index()
    versions = Versions(house.store, "main")
    before = version_bytes(house, 1)
    versions.rollback(None, "wrong letters", "aino")
    assert versions.state().version == 1
    assert version_bytes(house, 1) == before
    house.write("f.md", "# Zeta\n\nThe sixth.\n")
    outcome = house.index()
    assert (outcome.reason, outcome.exit_code, outcome.version) == ("held", 6, 3)
    assert "aino" in outcome.message
    assert "wrong letters" in outcome.message
    assert house.index().version == 3, "the staged version is not made a second time"
    assert versions.publish() == 3
    assert house.index().reason == "unchanged"


def test_content_that_comes_back_is_published_without_building_it_again(house: House) -> None:
    house.index()
    path = house.write("e.md", "# Epsilon\n\nThe fifth.\n")
    house.index()
    path.unlink()
    outcome = house.index()
    assert (outcome.reason, outcome.version) == ("published", 1)


def test_no_publish_stages(house: House) -> None:
    house.index()
    house.write("e.md", "# Epsilon\n\nThe fifth.\n")
    outcome = house.index(publish=False)
    assert (outcome.reason, outcome.exit_code, outcome.version) == ("no_publish", 0, 2)
    assert Versions(house.store, "main").state().version == 1


def test_a_failing_provider_keeps_what_it_answered_and_the_next_run_sends_only_the_rest(house: House) -> None:
    for number in range(40):
        house.write(f"n{number}.txt", f"Text number {number}.\n")
    planned = house.plan()
    house.model.fail_at = 3
    with pytest.raises(ProviderFailed):
        house.index()
    first = house.sent()
    assert Versions(house.store, "main").numbers() == []
    house.model.fail_at = None
    house.index()
    second = house.sent()
    assert len(first) + len(second) == planned.to_embed
    assert not set(first) & set(second)


def test_the_cap_stops_before_it_is_crossed_and_keeps_what_is_paid(house: House) -> None:
    for number in range(40):
        house.write(f"n{number}.txt", f"Text number {number}.\n")
    total = house.plan().tokens
    house.terms = {"free": False, "usd_per_million": 1_000_000.0, "max_usd": total / 2}
    assert house.plan().crossed.startswith("max_usd")
    with pytest.raises(OverBudget, match="max_usd"):
        house.index()
    paid = len(house.sent())
    assert 0 < paid < house.plan().texts
    assert house.plan().cached == paid
    (entry,) = ledger.entries(house.store)
    assert entry.outcome == "failed"
    assert entry.requests > 0
    house.terms["max_usd"] = None
    house.index()
    assert len(house.sent()) == house.plan().texts - paid


def test_without_a_known_price_a_token_cap_is_demanded(house: House) -> None:
    house.terms = {"free": False}
    with pytest.raises(OverBudget, match="no price is known"):
        house.index()
    assert house.sent() == []
    house.terms["max_tokens"] = 10_000
    assert house.index().reason == "published"


def test_an_empty_corpus_and_one_of_pictures_are_told_with_their_reasons(house: House) -> None:
    shutil.rmtree(house.corpus)
    house.corpus.mkdir()
    with pytest.raises(CorpusMissing):
        house.index()
    house.write("picture.png", "no text")
    with pytest.raises(CorpusMissing, match="unsupported"):
        house.index()


def test_too_many_unreadable_documents_fail_the_run_and_name_the_first(house: House) -> None:
    (house.corpus / "bad.txt").write_bytes(b"caf\xe9 \xff\xfe\xfa broken")
    with pytest.raises(CorpusFailed, match=r"bad\.txt|max_failed_share") as caught:
        house.index()
    assert any("bad.txt" in problem.where for problem in caught.value.problems)
    house.sets = ["corpus.max_failed_share=0.5"]
    outcome = house.index()
    assert (outcome.reason, outcome.plan.documents.excluded) == ("published", 1)


def test_a_folder_that_cannot_be_entered_stops_the_run_before_its_documents_are_dropped(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.index()
    real = os.scandir

    def refuse(path: str) -> object:
        # root enters every folder, so the refusal comes from here
        if str(path).endswith("/c/"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(CorpusFailed, match="cannot be entered") as caught:
        house.index()
    assert "c" in caught.value.problems[0].where
    assert Versions(house.store, "main").numbers() == [1]


def test_two_stores_get_the_same_bytes_whatever_the_order_of_work(house: House, tmp_path: Path) -> None:
    house.index()
    (tmp_path / "other").mkdir()
    other = House(tmp_path / "other")
    for path in sorted(house.corpus.rglob("*"), reverse=True):
        if path.is_file():
            other.write(path.relative_to(house.corpus).as_posix(), path.read_text())
    other.model = CountingModel(texts=1)
    other.index()
    assert version_bytes(house, 1) == version_bytes(other, 1)


def test_spans_are_exact_and_no_vector_segment_is_opened_by_a_run_without_changes(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.index()
    for row in house.chunks(1):
        text = (house.corpus / str(row["doc_id"])).read_text()
        assert text[int(str(row["char_start"])) : int(str(row["char_end"]))] == row["text"]

    def refuse(*_: object) -> None:
        raise AssertionError("a segment was opened")

    monkeypatch.setattr("rag.embedding.cache.Segment.__init__", refuse)
    assert house.index().reason == "unchanged"
