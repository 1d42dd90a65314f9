"""A plan that was kept is carried out exactly, or nothing is sent and everything that differs is said."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rag.errors import Damaged, OverBudget, PlanOutdated, RaglineError
from rag.index.plan_file import PlanFile
from rag.index.versions import Versions
from rag.pipeline import plan_only
from rag.storage import lock_holder
from tests.house import WIDTH

from .conftest import CountingModel, House


def keep(house: House, name: str = "plan.json") -> Path:
    """`ragline plan --out`."""
    path = house.corpus.parent / name
    with house.run(command="ragline plan", purpose="plan") as run:
        plan_only(run)
        run.plan_to_keep().save(path)
    return path


def test_a_plan_is_carried_out_and_what_is_sent_is_what_it_says(house: House) -> None:
    path = keep(house)
    assert house.sent() == []
    planned = PlanFile.load(path).plan
    outcome = house.index(plan_file=path)
    assert (outcome.reason, outcome.version) == ("published", 1)
    assert len(house.sent()) == planned["to_embed"] == outcome.embedded > 0
    assert outcome.plan.as_json() == {name: planned[name] for name in outcome.plan.as_json()}


def test_a_plan_with_nothing_to_do_is_carried_out_while_there_is_nothing_to_do(house: House) -> None:
    house.index()
    path = keep(house)
    (house.store / "indexes/main/sources.memory").unlink()
    assert keep(house, "read.json").is_file()
    for kept in (path, house.corpus.parent / "read.json"):
        assert house.index(plan_file=kept).reason == "unchanged", "whether everything was read or nothing"
    house.write("e.md", "# Epsilon\n\nThe fifth.\n")
    with pytest.raises(PlanOutdated, match=r"the corpus changed since the plan .*plan\.json was made"):
        house.index(plan_file=path)


def test_a_plan_with_something_to_do_is_refused_where_nothing_has_to_be_done_any_more(house: House) -> None:
    house.index()
    text = (house.corpus / "b.md").read_text()
    house.write("b.md", "# Beta\n\nAnother letter.\n")
    path = keep(house)
    house.write("b.md", text)
    with pytest.raises(PlanOutdated, match="the corpus changed since") as caught:
        house.index(plan_file=path)
    assert "1 document changed since: b.md" in str(caught.value)


def add(house: House) -> None:
    house.write("e.md", "# Epsilon\n\nThe fifth.\n")


def edit(house: House) -> None:
    house.write("new.md", "# New\n\nSomething else.\n")


def edit_metadata(house: House) -> None:
    house.write("new.md", "---\nlang: en\n---\n# New\n\nSomething new.\n")


def edit_what_was_live(house: House) -> None:
    house.write("d.txt", "Delta is the fifth letter.\n")


def remove(house: House) -> None:
    (house.corpus / "new.md").unlink()


def leave_out(house: House) -> None:
    house.write("picture.png", "no text")


def rechunk(house: House) -> None:
    house.sets = ["chunking.max_tokens=64"]


def remodel(house: House) -> None:
    house.model = CountingModel("other")


def rekind(house: House) -> None:
    house.sets = ["index.kind='hnsw'"]


def rename_the_index(house: House) -> None:
    house.sets = ["corpus.name='other'"]


def reprice(house: House) -> None:
    house.terms = {**house.terms, "usd_per_million": 0.5}


def move_the_store(house: House) -> None:
    house.store = Path(shutil.copytree(house.store, house.store.with_name("elsewhere")))


def index_meanwhile(house: House) -> None:
    house.index()


def roll_back(house: House) -> None:
    Versions(house.store, "main").rollback(None, "wrong letters", "aino")


def lose_the_cache(house: House) -> None:
    shutil.rmtree(house.store / "cache")


def embed_meanwhile(house: House) -> None:
    with house.run(command="ragline plan", purpose="plan") as run:
        plan_only(run)
        assert run._prepared
        assert run._planned
        missing = run._planned.missing
        vectors = np.ones((len(missing), WIDTH), np.float32)
        run._cache.add(run._prepared.keys[missing], vectors, run._prepared.tokens[missing])


@pytest.mark.parametrize(
    ("change", "headline", "told"),
    [
        (add, "the corpus changed", "1 document added since: e.md"),
        (edit, "the corpus changed", "1 document changed since: new.md"),
        (edit_metadata, "the corpus changed", "1 document changed since: new.md"),
        (edit_what_was_live, "the corpus changed", "1 document changed since: d.txt"),
        (remove, "the corpus changed", "1 document gone since: new.md"),
        (leave_out, "the corpus changed", "what is left out of it is not the same"),
        (rechunk, "the settings changed", "chunking.max_tokens: 256 in the plan, 64 now"),
        (remodel, "the settings changed", "embedding.model: counting in the plan, other now"),
        (rekind, "the settings changed", "index.kind: auto in the plan, hnsw now"),
        (reprice, "the price changed", "$0.02 a million tokens in the plan, $0.5 now"),
        (rename_the_index, "for another index", "for the index main, this is other"),
        (move_the_store, "for another store", "elsewhere"),
        (index_meanwhile, "the live version changed", "2 in the plan, 3 now"),
        (roll_back, "the live version changed", "2 in the plan, 1 now"),
        (lose_the_cache, "the cache changed", "texts lost since"),
        (embed_meanwhile, "the cache changed", "1 of 1 text embedded since"),
    ],
)
def test_whatever_changed_since_is_said_and_nothing_is_sent(
    house: House, change: Callable[[House], None], headline: str, told: str
) -> None:
    house.terms = {"free": False, "usd_per_million": 0.02, "max_usd": 5.0}
    house.index()
    house.write("c/c.md", "# Gamma\n\nThe third letter, edited.\n")
    house.index()
    house.write("new.md", "# New\n\nSomething new.\n")
    path = keep(house)
    change(house)
    house.sent()
    numbers = Versions(house.store, "main").numbers()
    with pytest.raises(PlanOutdated) as caught:
        house.index(plan_file=path)
    assert headline in caught.value.message
    assert "nothing was sent" in caught.value.message
    assert told in str(caught.value)
    assert all(str(path) in problem.remedy for problem in caught.value.problems)
    assert caught.value.exit_code == 1
    assert house.sent() == []
    assert Versions(house.store, "main").numbers() == numbers
    assert lock_holder(house.store) is None


def test_what_is_known_before_anything_is_read_is_said_before_anything_is_read(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = keep(house)
    rechunk(house)
    rename_the_index(house)
    house.sets.append("chunking.max_tokens=64")
    monkeypatch.setattr("rag.pipeline.snapshot", lambda *_, **__: pytest.fail("the corpus was listed"))
    with pytest.raises(PlanOutdated, match="for another index") as caught:
        house.index(plan_file=path)
    assert [problem.where for problem in caught.value.problems] == ["index", "settings"]
    assert not (house.store / "indexes").exists()


def test_caps_hold_for_a_plan_too_and_what_is_left_then_is_no_longer_that_plan(house: House) -> None:
    for number in range(40):
        house.write(f"n{number}.txt", f"Text number {number}.\n")
    path = keep(house)
    house.terms = {"free": False, "usd_per_million": 1_000_000.0, "max_usd": house.plan().tokens / 2}
    with pytest.raises(PlanOutdated, match="the price changed"):
        house.index(plan_file=path)
    path = keep(house)
    with pytest.raises(OverBudget):
        house.index(plan_file=path)
    paid = len(house.sent())
    house.terms["max_usd"] = None
    with pytest.raises(PlanOutdated, match="the cache changed") as caught:
        house.index(plan_file=path)
    assert f"{paid} of " in str(caught.value)
    assert "`ragline index` alone sends only the rest" in str(caught.value)
    assert house.index().reason == "published"


def test_a_plan_that_cannot_be_read_ends_the_run_before_it_locks_the_store(house: House) -> None:
    path = keep(house)
    path.write_bytes(path.read_bytes()[:-40])
    for given, kind in ((path, Damaged), (path.with_name("none.json"), RaglineError)):
        with pytest.raises(kind) as caught:
            house.index(plan_file=given)
        assert caught.value.exit_code == (5 if kind is Damaged else 2)
        assert "ragline plan --out" in caught.value.problems[0].remedy
    assert not house.store.exists()


def test_no_text_of_the_corpus_stands_in_a_plan(house: House) -> None:
    house.index()
    house.write("b.md", "# Zweite\n\nThe second letter.\n\n## Use\n\nIt follows alpha.\n")
    house.write("n.md", "---\ntitle: Canarytitle\n---\n# Canaryhead\n\nCanarytext.\n")
    path = keep(house)
    kept = path.read_text()
    causes = json.loads(kept)["plan"]["causes"]
    assert "heading edited" in {cause["cause"] for cause in causes}
    assert not [word for word in ("Zweite", "Beta", "anary", "letter") if word in kept]


def test_a_plan_made_of_a_damaged_live_version_can_be_carried_out(house: House) -> None:
    house.index()
    path = house.store / "indexes/main/v000001/index.faiss"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    add(house)
    assert house.index(plan_file=keep(house)).version == 2


def test_a_plan_is_for_what_it_was_made_with_whatever_the_caps_are(house: House) -> None:
    house.terms = {"free": False, "usd_per_million": 0.02, "max_usd": 5.0}
    path = keep(house)
    house.terms |= {"max_usd": 1.0, "max_tokens": 10_000, "requests_per_minute": 100}
    parts = dataclasses.replace(house.parts(), concurrency=1)
    assert parts.terms.max_usd == 1.0
    assert house.index(plan_file=path).reason == "published"
