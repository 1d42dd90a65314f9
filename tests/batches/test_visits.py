"""Visits to a Batch API over real HTTP: what is picked up, kept, sent again, given up; and that no text is billed twice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rag.embedding import refusals
from rag.embedding.batches import ROUNDS
from rag.embedding.jobs import Jobs
from rag.embedding.run import BEARABLE
from rag.errors import Damaged, FormatTooNew, KeyMissing, OverBudget, ProviderFailed, UsageError
from rag.sealed import write_sealed
from tests.provider import Options, Simulator, threaded

from .making import NEVER, NOW, Desk, right, sentences

TEXTS = sentences(18)


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with threaded(Options(batch=NOW)) as running:
        yield running


@pytest.fixture
def desk(sim: Simulator, tmp_path: Path) -> Desk:
    return Desk(sim, tmp_path / "store")


def test_submitted_picked_up_and_kept_at_half_the_price(desk: Desk, sim: Simulator) -> None:
    first = desk.visit(TEXTS)
    assert (first.missing, len(first.submitted), desk.spent.tokens) == (18, 1, 0)
    assert "submitted 18 texts (108 tokens, $0.000001 at the price of batches) in 1 batch: batch_sim" in first.message
    (job,) = desk.jobs
    assert (job.state, job.texts, job.tokens, len(job.lines)) == ("submitted", 18, 108, 5)
    desk.settled()
    second = desk.visit(TEXTS)
    assert (second.missing, second.open, second.submitted) == (0, (), ())
    assert (desk.spent.requests, desk.spent.tokens, desk.spent.texts) == (5, 108, 18)
    assert np.array_equal(desk.stored(TEXTS), right(TEXTS))
    assert desk.billed() == {1}
    assert desk.spending() == [(5, 108, pytest.approx(108 * 0.01 / 1e6), "done")]
    assert desk.jobs == []
    assert list((desk.store / "batches").iterdir()) == []
    assert sim.all_files() == [], "what was merged is removed there"


def test_while_it_runs_nothing_is_sent_and_its_progress_is_told(desk: Desk, sim: Simulator) -> None:
    sim.batches(**NEVER)
    desk.visit(TEXTS)
    again = desk.visit(TEXTS)
    assert (again.missing, again.submitted) == (18, ())
    assert "18 texts in 1 batch under way: batch_sim000001 " in again.message
    assert "`ragline index --batch` again picks up what has ended (all have ended by 20" in again.message
    assert len(sim.all_batches()) == 1


def test_a_new_text_is_submitted_beside_those_under_way(desk: Desk, sim: Simulator) -> None:
    desk.visit(TEXTS[:10])
    after = desk.visit(TEXTS)
    assert [job.texts for job in after.submitted] == [8]
    desk.visits(TEXTS)
    assert desk.billed() == {1}
    assert np.array_equal(desk.stored(TEXTS), right(TEXTS))


def test_what_is_wanted_no_more_is_picked_up_all_the_same_for_it_is_paid(desk: Desk) -> None:
    desk.visit(TEXTS)
    desk.settled()
    assert desk.visit(None).open == ()
    assert len(desk.stored(TEXTS)) == 18


def test_files_hold_no_more_than_a_provider_takes(desk: Desk, sim: Simulator) -> None:
    sim.batches(max_inputs=8, max_bytes=1_200)
    desk.texts_per_file, desk.bytes_per_file = 8, 1_200
    first = desk.visit(TEXTS)
    assert [job.texts for job in first.submitted] == [8, 8, 2]
    desk.bytes_per_file = 400
    more = sentences(8, "word")
    assert [job.texts for job in desk.visit([*TEXTS, *more]).submitted] == [4, 4]
    desk.visits([*TEXTS, *more])
    assert desk.billed() == {1}


def test_failed_lines_go_again_and_only_those(desk: Desk, sim: Simulator) -> None:
    sim.batches(fail_every=2)
    desk.visit(TEXTS)
    desk.settled()
    sim.batches(fail_every=0)
    second = desk.visit(TEXTS)
    assert (second.missing, [job.round for job in second.submitted]) == (8, [2])
    assert len(desk.stored([text for at, text in enumerate(TEXTS) if at // 4 not in (1, 3)])) == 10
    desk.visits(TEXTS)
    assert desk.billed() == {1}
    assert np.array_equal(desk.stored(TEXTS), right(TEXTS))
    assert len(desk.spending()) == 2


def test_what_has_expired_goes_again(desk: Desk, sim: Simulator) -> None:
    sim.batches(expire=0.4)
    desk.visit(TEXTS)
    desk.settled()
    sim.batches(expire=None)
    found = desk.visits(TEXTS)
    assert found.missing == 0
    assert desk.billed() == {1}
    assert np.array_equal(desk.stored(TEXTS), right(TEXTS))


def test_a_cancelled_batch_keeps_what_was_done_and_the_rest_goes_again(desk: Desk, sim: Simulator) -> None:
    import openai

    sim.batches(seconds=[0, 60, 0])
    desk.visit(TEXTS)
    with openai.OpenAI(base_url=sim.url, api_key=sim.key) as client:
        while client.batches.retrieve("batch_sim000001").status != "in_progress":
            pass
        client.batches.cancel("batch_sim000001")
    desk.settled()
    sim.batches(**NOW)
    desk.visits(TEXTS)
    assert desk.billed() == {1}
    assert np.array_equal(desk.stored(TEXTS), right(TEXTS))


def test_what_never_comes_is_named_after_three_batches_and_one_may_try_anew(desk: Desk, sim: Simulator) -> None:
    sim.batches(fail_every=5)
    for _ in range(ROUNDS):
        sim.batches(fail_every=5 if not desk.jobs else 1)
        assert desk.visit(TEXTS).submitted
        desk.settled()
    with pytest.raises(ProviderFailed) as caught:
        desk.visit(TEXTS)
    assert "2 texts cannot be had by batches, after up to 3 of them" in caught.value.message
    assert [problem.where for problem in caught.value.problems] == ["notes.md@16-17", "notes.md@17-18"]
    assert "without --batch" in caught.value.problems[0].remedy
    assert "failed: 500" in caught.value.problems[0].what
    with pytest.raises(ProviderFailed):
        desk.visit(TEXTS)
    assert desk.visit(TEXTS[:16]).missing == 0, "nobody wants them any more"
    assert desk.jobs == []
    assert desk.billed() == {1}


def test_a_suspected_text_stays_alone_when_its_line_fails_for_another_reason(desk: Desk, sim: Simulator) -> None:
    sim.batches(refuse="number 6 ")
    desk.visit(TEXTS)
    desk.settled()
    sim.batches(fail_every=1)
    (second,) = desk.visit(TEXTS).submitted
    desk.settled()
    sim.batches(fail_every=0)
    (third,) = desk.visit(TEXTS).submitted
    assert [len(line.keys) for line in second.lines] == [len(line.keys) for line in third.lines] == [1, 1, 1, 1]
    desk.settled()
    assert len(desk.visit(TEXTS).refused) == 1
    assert desk.billed() == {1}


def test_texts_that_batches_have_given_up_are_tried_anew_where_that_is_asked_for(desk: Desk, sim: Simulator) -> None:
    sim.batches(fail_every=1)
    for _ in range(ROUNDS):
        desk.visit(TEXTS)
        desk.settled()
    with pytest.raises(ProviderFailed):
        desk.visit(TEXTS)
    sim.batches(fail_every=0)
    assert [job.round for job in desk.visit(TEXTS, give_up=True).submitted] == [1]
    desk.visits(TEXTS)
    assert desk.billed() == {1}


@pytest.mark.parametrize("named", [True, False])
def test_a_refused_text_is_found_in_the_next_batch_and_left_out_with_its_reason(
    desk: Desk, sim: Simulator, *, named: bool
) -> None:
    sim.batches(refuse="number 6 ", refusal="400_context" if named else "400_nameless")
    desk.visit(TEXTS)
    desk.settled()
    second = desk.visit(TEXTS)
    assert (second.missing, second.refused) == (4, {})
    (job,) = second.submitted
    assert sorted(len(line.keys) for line in job.lines) == ([1, 3] if named else [1, 1, 1, 1])
    desk.settled()
    third = desk.visit(TEXTS)
    assert third.missing == 0
    key = desk.wanted(TEXTS).keys[6].tobytes()
    assert {*third.refused} == {key}
    assert third.refused[key].startswith("400: ")
    assert refusals.known(desk.cache.folder) == third.refused
    assert desk.billed() == {1}
    others = [text for at, text in enumerate(TEXTS) if at != 6]
    assert np.array_equal(desk.stored(others), right(others))
    assert desk.jobs == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "damage",
    ["short", "long", "duplicate", "missing_index", "nan", "inf", "zero", "float16", "wrong_dimension", "other_model"],
)
def test_a_wrong_vector_in_a_batch_is_not_stored_and_its_line_goes_again(
    desk: Desk, sim: Simulator, damage: str
) -> None:
    desk.visit(TEXTS[:4])
    desk.visits(TEXTS[:4])
    sim.batches(damage=damage, damaged="number 9 ")
    desk.visit(TEXTS)
    desk.settled()
    sim.batches(damage="")
    again = desk.visit(TEXTS)
    assert again.missing == 4
    assert np.array_equal(desk.stored(TEXTS[:8]), right(TEXTS[:8]))
    assert [(job.round, job.texts) for job in again.submitted] == [(2, 4)]
    desk.visits(TEXTS)
    assert np.array_equal(desk.stored(TEXTS), right(TEXTS))
    assert set(sim.bill()["texts"].values()) == {1, 2}, "a wrong answer is billed, and has to be bought again"


@pytest.mark.parametrize("order", range(4))
def test_of_a_model_that_nobody_knows_the_vectors_are_as_wide_as_most_of_them(
    desk: Desk, sim: Simulator, order: int
) -> None:
    sim.batches(damage="float16", damaged="number 9 ", seed=order)
    desk.visit(TEXTS[4:])
    desk.settled()
    sim.batches(damage="")
    desk.visits(TEXTS[4:])
    assert np.array_equal(desk.stored(TEXTS[4:]), right(TEXTS[4:]))
    sim.batches(damage="float16", damaged="")
    desk.visit(TEXTS)
    desk.settled()
    assert desk.visit(TEXTS).missing == 4, "those in the cache say how wide"


def test_reversed_vectors_are_put_in_order_and_one_for_all_is_refused(desk: Desk, sim: Simulator) -> None:
    sim.batches(damage="reversed", damaged="number 9 ")
    desk.visits(TEXTS)
    assert np.array_equal(desk.stored(TEXTS), right(TEXTS))
    more = sentences(4, "word")
    sim.batches(damage="same_vector", damaged="")
    desk.visit([*TEXTS, *more])
    desk.settled()
    assert desk.visit([*TEXTS, *more]).missing == 4


def test_a_line_that_is_answered_twice_is_not_believed(desk: Desk, sim: Simulator) -> None:
    sim.batches(repeat="number 9 ")
    desk.visit(TEXTS)
    desk.settled()
    sim.batches(repeat="")
    assert desk.visit(TEXTS).missing == 4
    desk.visits(TEXTS)
    assert np.array_equal(desk.stored(TEXTS), right(TEXTS))


# -- the provider forgets, refuses, has no room


def test_a_batch_that_nobody_knows_is_one_clear_message_and_nothing_is_sent_until_it_is_given_up(
    desk: Desk, sim: Simulator
) -> None:
    sim.batches(**NEVER)
    desk.visit(TEXTS)
    sim.batches(**NOW)
    sim.forget("batch_sim000001")
    for _ in range(2):
        with pytest.raises(ProviderFailed) as caught:
            desk.visit([*TEXTS, "one more"])
    (problem,) = caught.value.problems
    assert "batch_sim000001 (18 texts" in problem.what
    assert "another account or project" in problem.what
    assert "--ignore-batches" in problem.remedy
    assert sim.all_batches() == []
    given_up = desk.visit(TEXTS, give_up=True)
    assert [job.texts for job in given_up.submitted] == [18]
    assert "it is given up, and counted as spent" in given_up.message
    assert desk.spending() == [(0, 108, pytest.approx(1.08e-6), "lost")]
    desk.visits(TEXTS)
    assert desk.billed() == {1}


def test_others_are_picked_up_beside_one_that_is_lost(desk: Desk, sim: Simulator) -> None:
    sim.batches(**NEVER)
    desk.visit(TEXTS[:8])
    sim.batches(**NOW)
    desk.visit(TEXTS)
    sim.forget("batch_sim000001")
    desk.settled()
    with pytest.raises(ProviderFailed):
        desk.visit(TEXTS)
    assert np.array_equal(desk.stored(TEXTS[8:]), right(TEXTS[8:]))


def test_a_file_that_is_refused_as_a_whole_is_told_with_its_reason_and_tried_again(desk: Desk, sim: Simulator) -> None:
    sim.batches(max_inputs=10)
    desk.visit(TEXTS)
    desk.settled()
    with pytest.raises(ProviderFailed) as caught:
        desk.visit(TEXTS)
    assert "the file has 18 inputs; the maximum is 10" in caught.value.message.lower()
    assert "nothing of it was done or billed" in caught.value.message
    assert sim.all_files() == []
    sim.batches(max_inputs=50_000)
    assert [job.round for job in desk.visit(TEXTS).submitted] == [1]
    desk.visits(TEXTS)
    assert desk.billed() == {1}


@pytest.mark.slow
def test_what_has_no_room_in_the_queue_waits_for_the_earlier_ones(desk: Desk, sim: Simulator) -> None:
    sim.batches(seconds=[0, 3, 0], enqueued_tokens=100)
    desk.texts_per_file = 8
    first = desk.visit(TEXTS)
    assert [job.tokens for job in first.submitted] == [48, 48, 12]
    while any(batch["status"] == "validating" for batch in sim.all_batches()):
        pass
    failed = [batch["id"] for batch in sim.all_batches() if batch["status"] == "failed"]
    assert len(failed) == 1
    second = desk.visit(TEXTS)
    assert second.submitted == ()
    assert "held back until there is room in the provider's queue (100 tokens at once)" in second.message
    assert len(sim.all_batches()) == 3, "nothing is tried in vain"
    desk.settled()
    third = desk.visit(TEXTS)
    assert len(third.submitted) == 1
    desk.visits(TEXTS)
    assert desk.billed() == {1}
    assert np.array_equal(desk.stored(TEXTS), right(TEXTS))
    assert sim.all_files() == []


def test_a_file_that_alone_is_over_the_queue_is_cut_into_smaller_ones(desk: Desk, sim: Simulator) -> None:
    sim.batches(enqueued_tokens=50)
    desk.visit(TEXTS)
    desk.settled()
    second = desk.visit(TEXTS)
    assert [job.tokens for job in second.submitted] == [48]
    assert "10 texts held back" in second.message
    desk.visits(TEXTS)
    assert desk.billed() == {1}
    assert np.array_equal(desk.stored(TEXTS), right(TEXTS))


# -- replies that are lost, half, or somebody else's


@pytest.mark.slow
@pytest.mark.parametrize("path", ["POST /v1/files", "POST /v1/batches"])
@pytest.mark.parametrize("fault", ["lost", "reset_late", "half", "500", "html"])
def test_a_lost_reply_makes_no_second_file_and_no_second_batch(
    desk: Desk, sim: Simulator, path: str, fault: str
) -> None:
    sim.faults({"fault": fault, "at": [1], "path": path})
    assert len(desk.visit(TEXTS).submitted) == 1
    desk.visits(TEXTS)
    assert len(sim.all_batches()) == 1
    assert desk.billed() == {1}
    assert sim.all_files() == []


@pytest.mark.slow
@pytest.mark.parametrize("path", ["GET /v1/batches/", "GET /v1/files/", "DELETE /v1/files/"])
@pytest.mark.parametrize("fault", ["half", "reset", "html", "429_after_0", "500"])
def test_what_goes_wrong_on_the_way_back_is_asked_for_again(desk: Desk, sim: Simulator, path: str, fault: str) -> None:
    desk.visit(TEXTS)
    desk.settled()
    sim.faults({"fault": fault, "at": [1], "path": path})
    assert desk.visit(TEXTS).missing == 0
    assert np.array_equal(desk.stored(TEXTS), right(TEXTS))
    assert sim.all_files() == []


def test_files_that_cannot_be_removed_are_removed_by_the_next_visit(desk: Desk, sim: Simulator) -> None:
    desk.visit(TEXTS)
    desk.settled()
    sim.faults({"fault": "403", "path": "DELETE /v1/files/"})
    found = desk.visit(TEXTS)
    assert found.missing == 0, "what was bought is here, and may be published"
    assert "could not be removed there: openai/text-embedding-3-small: 403" in found.notes[0]
    assert np.array_equal(desk.stored(TEXTS), right(TEXTS))
    assert len(desk.spending()) == 1
    sim.faults()
    assert desk.visit(TEXTS).missing == 0
    assert (desk.jobs, sim.all_files()) == ([], [])
    assert len(desk.spending()) == 1


def test_an_output_that_stays_unreadable_is_told_and_may_be_given_up(desk: Desk, sim: Simulator) -> None:
    desk.visit(TEXTS)
    desk.settled()
    sim.faults({"fault": "html", "path": "GET /v1/files/"})
    with pytest.raises(ProviderFailed) as caught:
        desk.visit(TEXTS)
    assert "has ended, and cannot be read" in caught.value.message
    assert "--ignore-batches" in caught.value.problems[0].remedy
    assert [job.state for job in desk.jobs] == ["ended"]
    sim.faults()
    assert desk.visit(TEXTS).missing == 0, "nothing was lost meanwhile"


def test_an_output_that_is_gone_is_told_and_given_up_when_asked(desk: Desk, sim: Simulator) -> None:
    import openai

    desk.visit(TEXTS)
    desk.settled()
    (batch,) = sim.all_batches()
    with openai.OpenAI(base_url=sim.url, api_key=sim.key) as client:
        client.files.delete(batch["output_file_id"])
    with pytest.raises(ProviderFailed, match="is gone"):
        desk.visit(TEXTS)
    assert len(desk.visit(TEXTS, give_up=True).submitted) == 1


def test_a_wrong_key_is_told_without_it_and_loses_nothing(desk: Desk, sim: Simulator) -> None:
    desk.visit(TEXTS)
    desk.settled()
    desk.key = "sk-wrong-0123456789abcdef"
    with pytest.raises(KeyMissing) as caught:
        desk.visit(TEXTS)
    assert desk.key not in str(caught.value)
    assert [job.state for job in desk.jobs] == ["submitted"]
    desk.key = sim.key
    assert desk.visit(TEXTS).missing == 0


@pytest.mark.parametrize("path", ["POST /v1/files", "POST /v1/batches"])
def test_a_server_without_batches_is_one_clear_message_and_nothing_waits_for_it(
    desk: Desk, sim: Simulator, path: str
) -> None:
    desk.texts_per_file = 8
    sim.faults({"fault": "404", "path": path})
    with pytest.raises(UsageError) as caught:
        desk.visit(TEXTS)
    assert "offers no batches" in caught.value.message
    assert caught.value.exit_code == 2
    assert desk.billed() == set()
    assert desk.jobs == []
    assert list((desk.store / "batches").iterdir()) == []
    assert sim.all_files() == []


def test_a_server_that_turns_out_to_take_no_more_batches_keeps_those_that_it_has(desk: Desk, sim: Simulator) -> None:
    desk.texts_per_file = 8
    sim.faults({"fault": "404", "path": "POST /v1/files", "at": [2]})
    with pytest.raises(UsageError):
        desk.visit(TEXTS)
    assert [(job.state, job.texts) for job in desk.jobs] == [("submitted", 8)]
    sim.faults()
    desk.visits(TEXTS)
    assert desk.billed() == {1}


def test_one_line_that_is_over_the_queue_is_told_and_not_sent_for_ever(desk: Desk, sim: Simulator) -> None:
    sim.batches(enqueued_tokens=5)
    desk.visit(TEXTS[:2])
    desk.settled()
    with pytest.raises(ProviderFailed) as caught:
        desk.visit(TEXTS[:2])
    assert "Limit: 5" in caught.value.message
    assert "without --batch sends its texts online" in caught.value.problems[0].remedy
    assert (desk.jobs, sim.all_files()) == ([], [])


# -- caps


def test_no_more_is_submitted_than_a_cap_allows_and_the_next_run_submits_the_rest(desk: Desk, sim: Simulator) -> None:
    desk.terms = Desk(sim, desk.store, max_tokens=50).terms
    with pytest.raises(OverBudget) as caught:
        desk.visit(TEXTS)
    assert "8 texts submitted by this run" in caught.value.message
    assert [job.texts for job in desk.jobs] == [8]
    with pytest.raises(OverBudget):
        desk.visit(TEXTS)
    assert desk.visit(TEXTS).submitted
    desk.visits(TEXTS)
    assert desk.billed() == {1}


def test_what_a_cap_leaves_of_files_that_are_written_is_named_in_full(desk: Desk, sim: Simulator) -> None:
    desk.texts_per_file = 8
    sim.add_fault(fault="500", path="POST /v1/files")
    with pytest.raises(ProviderFailed):
        desk.visit(TEXTS)
    sim.faults()
    desk.terms = replace(desk.terms, max_tokens=11)
    with pytest.raises(OverBudget) as caught:
        desk.visit(TEXTS)
    assert "`--max-tokens 108` or more lets the next run send the rest" in caught.value.problems[0].remedy
    desk.terms = replace(desk.terms, max_tokens=108)
    desk.visits(TEXTS)
    assert desk.billed() == {1}


def test_nothing_is_written_or_sent_where_no_price_is_known_and_no_cap_is_set(desk: Desk, sim: Simulator) -> None:
    desk.terms = Desk(sim, desk.store, usd_per_million=None).terms
    with pytest.raises(OverBudget, match="no price is known"):
        desk.visit(TEXTS)
    assert desk.jobs == []
    assert sim.all_files() == []


# -- what lies in the store


@pytest.mark.parametrize("odd", [{"state": "flying"}, {"batch_id": None}])
def test_a_state_that_cannot_be_is_damage(desk: Desk, odd: dict[str, Any]) -> None:
    desk.visit(TEXTS)
    (job,) = desk.jobs
    write_sealed(desk.store / "batches" / f"{job.digest}.json", {**job.to_json(), **odd})
    with pytest.raises(Damaged, match="cannot be"):
        desk.visit(TEXTS)


def test_a_damaged_state_is_named_and_may_be_given_up(desk: Desk) -> None:
    desk.visit(TEXTS)
    desk.settled()
    (path,) = (desk.store / "batches").glob("*.json")
    path.write_bytes(path.read_bytes().replace(b'"round":1', b'"round":2'))
    with pytest.raises(Damaged, match=path.name) as caught:
        desk.visit(TEXTS)
    assert "--ignore-batches" in caught.value.problems[0].remedy
    assert [job.texts for job in desk.visit(TEXTS, give_up=True).submitted] == [18]
    assert desk.spending() == [(0, 0, None, "lost")], "what it cost nobody knows any more"


def test_a_damaged_file_of_texts_is_named_and_may_be_given_up(desk: Desk) -> None:
    desk.visit(TEXTS)
    desk.settled()
    (path,) = (desk.store / "batches").glob("*.jsonl")
    path.write_bytes(path.read_bytes().replace(b"number 9 ", b"number 8 "))
    with pytest.raises(ProviderFailed, match=path.name) as caught:
        desk.visit(TEXTS)
    assert "--ignore-batches" in caught.value.problems[0].remedy
    assert [job.texts for job in desk.visit(TEXTS, give_up=True).submitted] == [18]


@pytest.mark.parametrize("harm", ["changed", "gone"])
def test_a_file_that_is_damaged_before_it_was_sent_is_written_anew(desk: Desk, sim: Simulator, harm: str) -> None:
    sim.add_fault(fault="500", path="POST /v1/files")
    with pytest.raises(ProviderFailed):
        desk.visit(TEXTS)
    sim.faults()
    (path,) = (desk.store / "batches").glob("*.jsonl")
    if harm == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes().replace(b"number 3", b"number 8"))
    again = desk.visit(TEXTS)
    assert [job.texts for job in again.submitted] == [18]
    assert "nothing of it was sent, and its texts are written anew" in again.message
    desk.visits(TEXTS)
    assert np.array_equal(desk.stored(TEXTS), right(TEXTS))
    assert desk.billed() == {1}


def test_a_damaged_segment_of_the_cache_is_no_fault_of_the_batch(desk: Desk) -> None:
    other = sentences(4, "word")
    desk.visits(other)
    desk.visit(TEXTS)
    desk.settled()
    (segment,) = desk.cache.folder.glob("*.arrow")
    whole = segment.read_bytes()
    segment.write_bytes(whole[:100])
    with pytest.raises(Damaged, match="cache segment"):
        desk.visit(TEXTS, give_up=True)
    assert [job.state for job in desk.jobs] == ["ended"]
    segment.write_bytes(whole)
    assert desk.visit(TEXTS).missing == 0
    assert desk.billed() == {1}


def test_where_a_provider_refuses_every_text_none_is_blamed(desk: Desk, sim: Simulator) -> None:
    many = sentences(2 * BEARABLE)
    sim.batches(refuse="number", refusal="400_nameless")
    for _ in range(2):
        assert desk.visit(many).submitted
        desk.settled()
    with pytest.raises(ProviderFailed, match=f"{2 * BEARABLE} texts cannot be had by batches"):
        desk.visit(many)
    assert refusals.known(desk.cache.folder) == {}


def test_a_state_of_a_newer_version_is_refused(desk: Desk) -> None:
    desk.visit(TEXTS)
    (path,) = (desk.store / "batches").glob("*.json")
    content = json.loads(path.read_bytes())
    del content["sealed_sha256"]
    write_sealed(path, {**content, "format": 2})
    for give_up in (False, True):
        with pytest.raises(FormatTooNew):
            desk.visit(TEXTS, give_up=give_up)


def test_another_index_waits_for_the_batch_and_picks_it_up_but_withdraws_nothing(desk: Desk, sim: Simulator) -> None:
    desk.visit(TEXTS)
    other = desk.visit(TEXTS[:8], index="other")
    assert (other.missing, other.submitted) == (8, ()) or other.missing == 0
    desk.settled()
    assert desk.visit(TEXTS[:8], index="other").missing == 0
    assert desk.visit(TEXTS).missing == 0
    assert desk.billed() == {1}


def test_what_another_index_could_not_submit_stands_in_nobodys_way(desk: Desk, sim: Simulator) -> None:
    desk.texts_per_file = 8
    sim.add_fault(fault="500", path="POST /v1/files")
    with pytest.raises(ProviderFailed):
        desk.visit(TEXTS, index="other")
    sim.faults()
    assert sorted(job.texts for job in desk.jobs) == [2, 8, 8]
    found = desk.visit(TEXTS[:12])
    assert sum(job.texts for job in found.submitted) == 12
    assert {job.index for job in found.submitted} == {"main"}
    assert "2 texts not submitted yet" in found.message
    desk.visits(TEXTS[:12])
    desk.visits(TEXTS)
    assert desk.billed() == {1}


@pytest.mark.parametrize("state", ["written", "uploaded"])
def test_what_was_not_submitted_and_is_wanted_no_more_is_withdrawn(
    desk: Desk, sim: Simulator, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    stopped_at(monkeypatch, f"batch.{state}")
    with pytest.raises(Stopped):
        desk.visit(TEXTS)
    monkeypatch.undo()
    assert [job.state for job in desk.jobs] == [state]
    desk.visit(TEXTS[:4])
    assert [job.texts for job in desk.jobs] == [4]
    assert len(sim.all_batches()) == 1
    desk.visits(TEXTS[:4])
    assert desk.billed() == {1}
    assert sim.all_files() == []


class Stopped(BaseException):
    """Instead of a kill, in this process."""


def stopped_at(monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    def faultpoint(name: str) -> None:
        if name == point:
            raise Stopped

    monkeypatch.setattr("rag.storage.faultpoint", faultpoint)


def test_files_of_jobs_that_were_never_noted_are_swept(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped_at(monkeypatch, "batch.file_written")
    with pytest.raises(Stopped):
        desk.visit(TEXTS)
    monkeypatch.undo()
    (desk.store / "batches" / ".half.jsonl.0123456789ab.tmp").write_text("half")
    assert len(list((desk.store / "batches").iterdir())) == 2
    desk.visits(TEXTS)
    assert list((desk.store / "batches").iterdir()) == []


def test_the_key_stands_in_no_file_of_the_store(desk: Desk, sim: Simulator) -> None:
    desk.visit(TEXTS)
    desk.settled()
    sim.faults({"fault": "401", "path": "GET /v1/batches/"})
    with pytest.raises(KeyMissing) as caught:
        desk.visit(TEXTS)
    assert sim.key not in str(caught.value) + repr(caught.value.__context__)
    for path in desk.store.rglob("*"):
        assert path.is_dir() or sim.key.encode() not in path.read_bytes()


def test_jobs_are_read_back_as_they_were_written(desk: Desk, sim: Simulator) -> None:
    sim.batches(refuse="number 6 ", refusal="400_context", fail_every=2)
    desk.visit(TEXTS)
    desk.settled()
    sim.batches(**NEVER)
    desk.visit(TEXTS)
    for job in desk.jobs:
        path = desk.store / "batches" / f"{job.digest}.json"
        before = path.read_bytes()
        Jobs(desk.store).save(job)
        assert path.read_bytes() == before
