"""A plan on disk is what it was, or is refused; what changed since is found as by comparing the corpora themselves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.errors import Damaged, FormatTooNew, NotFound, PlanOutdated, UsageError
from rag.index.plan_file import (
    NO_TEXTS,
    Agreed,
    Documents,
    PlanFile,
    differences,
    is_plan,
    refuse,
    refuse_place,
    set_apart,
    since,
    texts_sha256,
)
from rag.sealed import write_sealed

AGREED = Agreed("main", "/store", {"chunker": {"max_tokens": 256}, "index_kind": "auto"}, 0.02)
COUNTS: dict[str, Any] = {"current_version": 7, "to_embed": 5}
PLAN = PlanFile(
    "2026-11-22T03:15:00Z", "0.1.0", AGREED, COUNTS, "a" * 64, "b" * 64, ["markdown/1"], Documents({}, {}, [])
)


def test_a_plan_reads_as_it_was_written_and_over_an_older_one(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    for plan in (PLAN, replace(PLAN, documents=Documents({"a.md": "0" * 16}, {}, ["b.md"]))):
        refuse_place(path)
        plan.save(path)
        assert PlanFile.load(path) == plan


def test_no_flipped_byte_and_no_cut_passes(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    PLAN.save(path)
    data = path.read_bytes()
    for at in range(0, len(data), 7):
        for wrong in (data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], data[:at]):
            path.write_bytes(wrong)
            with pytest.raises((Damaged, FormatTooNew, UsageError)) as caught:
                PlanFile.load(path)
            assert isinstance(caught.value, UsageError) == (not is_plan(path)), "it may never have been one"
            assert "verify" not in str(caught.value), "no command mends a plan"


def test_what_is_no_plan_a_newer_one_and_none_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    with pytest.raises(NotFound):
        PlanFile.load(path)
    with pytest.raises(UsageError, match="no file"):
        PlanFile.load(tmp_path)
    with pytest.raises(UsageError, match="cannot be read: File name too long"):
        PlanFile.load(tmp_path / ("x" * 300))
    for other in (b"", b"# Read me\n", b"[]", b'{"a":1}', bytes(range(256))):
        path.write_bytes(other)
        with pytest.raises(UsageError, match="is no plan"):
            PlanFile.load(path)
    write_sealed(path, {"format": 1, "counts": {}})
    with pytest.raises(UsageError, match="no plan"):
        PlanFile.load(path)
    write_sealed(path, {"format": 2, "kind": "ragline plan", "what": "nobody knows"})
    with pytest.raises(FormatTooNew):
        PlanFile.load(path)
    write_sealed(path, {"format": 1, "kind": "ragline plan", "agreed": {"index": "main"}})
    with pytest.raises(Damaged, match="lacks or misuses"):
        PlanFile.load(path)


def test_a_plan_is_written_over_a_plan_and_over_nothing_else(tmp_path: Path) -> None:
    settings = tmp_path / "ragline.toml"
    settings.write_text("[corpus]\n")
    for path, told in (
        (settings, "not overwritten"),
        (tmp_path, "is a folder"),
        (tmp_path / "nowhere" / "plan.json", "there is no folder"),
        (tmp_path / ("x" * 300), "File name too long"),
    ):
        with pytest.raises(UsageError, match=told):
            refuse_place(path)
    damaged = tmp_path / "plan.json"
    PLAN.save(damaged)
    damaged.write_bytes(damaged.read_bytes()[:100])
    refuse_place(damaged)
    (tmp_path / "empty").touch()
    refuse_place(tmp_path / "empty")


CORPUS = st.dictionaries(st.sampled_from("abcdef"), st.sampled_from(["1", "2", "3"]))


def against(live: dict[str, str], now: dict[str, str]) -> Documents:
    """A corpus as it differs from the live version."""
    return Documents(
        {name: state for name, state in now.items() if name not in live},
        {name: state for name, state in now.items() if name in live and live[name] != state},
        sorted(live.keys() - now.keys()),
    )


@given(CORPUS, CORPUS, CORPUS)
def test_what_changed_since_is_what_the_two_corpora_say(
    live: dict[str, str], then: dict[str, str], now: dict[str, str]
) -> None:
    wanted = {
        "added": sorted(now.keys() - then.keys()),
        "changed": sorted(name for name in now.keys() & then.keys() if now[name] != then[name]),
        "gone": sorted(then.keys() - now.keys()),
    }
    assert dict(since(against(live, then), against(live, now))) == {word: ids for word, ids in wanted.items() if ids}


@pytest.mark.parametrize(
    ("change", "aspect", "told"),
    [
        ({"agreed": replace(AGREED, index="notes")}, "index", "the plan is for the index main, this is notes"),
        ({"agreed": replace(AGREED, store="/other")}, "store", "the plan is for the store /store, this is /other"),
        (
            {"agreed": replace(AGREED, settings={"chunker": {"max_tokens": 128}, "index_kind": "auto"})},
            "settings",
            "chunking.max_tokens: 256 in the plan, 128 now",
        ),
        (
            {"agreed": replace(AGREED, settings={"chunker": {"max_tokens": 256}, "index_kind": "hnsw"})},
            "settings",
            "index.kind: auto in the plan, hnsw now",
        ),
        ({"agreed": replace(AGREED, usd_per_million=None)}, "price", "$0.02 a million tokens in the plan, unknown now"),
        ({"plan": {**COUNTS, "current_version": None}}, "live version", "7 in the plan, none now"),
        ({"documents": Documents({}, {}, ["a.md"])}, "corpus", "1 document gone since: a.md"),
        ({"readers": ["markdown/2"]}, "corpus", "the readers: markdown/1 in the plan, markdown/2 now"),
        ({"left_out_sha256": "c" * 64}, "corpus", "what is left out of it is not the same"),
        ({"texts_sha256": "c" * 64, "plan": {**COUNTS, "to_embed": 3}}, "cache", "2 of 5 texts embedded since"),
        ({"texts_sha256": "c" * 64, "plan": {**COUNTS, "to_embed": 9}}, "cache", "4 texts lost since, 9 to embed"),
        ({"texts_sha256": "c" * 64}, "cache", "5 texts to embed as planned, but others"),
    ],
)
def test_each_difference_is_named_for_what_it_is(change: dict[str, Any], aspect: str, told: str) -> None:
    (found,) = differences(PLAN, replace(PLAN, **change))
    assert (found.aspect, found.what.startswith(told)) == (aspect, True), found.what
    with pytest.raises(PlanOutdated, match="nothing was sent") as caught:
        refuse(Path("plan.json"), PLAN.created, [found])
    assert caught.value.exit_code == 1
    assert aspect in caught.value.message


def test_what_says_nothing_about_what_is_sent_is_no_difference() -> None:
    later = replace(PLAN, created="2027-01-01T00:00:00Z", ragline="9.9", plan={**COUNTS, "max_usd": 1.0, "minutes": 3})
    assert differences(PLAN, later) == []
    assert differences(PLAN, replace(later, left_out_sha256=None)) == [], "where nothing was read nothing is compared"
    refuse(Path("plan.json"), PLAN.created, [])


def test_of_many_documents_ten_are_named_and_all_are_counted() -> None:
    many = Documents({f"{number:03}.md": "0" * 16 for number in range(25)}, {}, [])
    (found,) = differences(PLAN, replace(PLAN, documents=many))
    assert found.what.startswith("25 documents added since: 000.md, 001.md")
    assert found.what.endswith("009.md and 15 more")


def test_all_differences_are_told_at_once() -> None:
    other = replace(AGREED, index="notes", store="/other", usd_per_million=1.0)
    assert [each.aspect for each in set_apart(AGREED, other)] == ["index", "store", "price"]
    with pytest.raises(PlanOutdated, match=r"another index and another store") as caught:
        refuse(Path("plan.json"), PLAN.created, set_apart(AGREED, other))
    assert len(caught.value.problems) == 3


def test_the_digest_of_texts_knows_each_key_each_count_and_their_order() -> None:
    rng = np.random.default_rng(3)
    keys, tokens = rng.integers(0, 256, (4, 32), np.uint8), np.array([1, 2, 3, 4], np.uint32)
    found = {
        texts_sha256(keys, tokens),
        texts_sha256(keys[::-1], tokens[::-1]),
        texts_sha256(keys, tokens[::-1]),
        texts_sha256(keys[:3], tokens[:3]),
        texts_sha256(keys[::2], tokens[::2]),
        NO_TEXTS,
    }
    assert len(found) == 6
    assert texts_sha256(np.asfortranarray(keys), tokens.astype(">u4")) == texts_sha256(keys, tokens)
