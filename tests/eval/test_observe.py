"""Questions through a real index, the real generators and a real server: every outcome is observed, and paid for once."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eval.answers import FILE, AnswerStore
from eval.observe import Observing, observe
from eval.types import Failure, Observed, Question
from rag.clock import SystemClock
from rag.embedding import ledger
from rag.errors import KeyMissing, ProviderFailed, StorageFailed
from rag.generation.prompt import ABSTENTION, load_prompt
from rag.settings import Settings
from rag.types import Usage
from rag.wiring import Desk, World
from tests.eval.observing import BRIDGE, GOATS, NOBODY, QUESTIONS, chat_settings, lasting, reply, whole
from tests.servers import faults
from tests.servers.faults import Answer, Asked, Served, refusal

ALL = Observing(("retrieved", "oracle", "closed_book"), 2, documents=3, search_depth=6, k=2, concurrency=3)
ONE = replace(ALL, arms=("retrieved",), repeats=1)


@pytest.fixture
def served() -> Iterator[Served]:
    with faults.serving() as served:
        served.always = reply
        yield served


def observed(
    settings: Settings,
    plan: Observing = ONE,
    questions: Sequence[Question] = QUESTIONS,
    folder: Path | None = None,
    failures: Mapping[str, Failure] | None = None,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> list[Observed]:
    async def work(desk: Desk) -> list[Observed]:
        answers = AnswerStore(folder / FILE, SystemClock()) if folder else None
        try:
            return await observe(desk, questions, failures or {}, plan, answers, progress)
        finally:
            await desk.generator.close() if hasattr(desk.generator, "close") else None
            if answers:
                answers.close()

    with Desk(settings, None, World(SystemClock(), {})) as desk:
        return asyncio.run(work(desk))


def test_the_extractive_default_answers_in_every_arm_in_order_and_the_same_again(small_index: Settings) -> None:
    steps: list[tuple[int, int]] = []
    found = observed(small_index, ALL, progress=lambda *step: steps.append(step))
    assert steps == [(done, 18) for done in range(19)]
    wanted = [(question, arm, repeat) for question in QUESTIONS for arm in ALL.arms for repeat in range(2)]
    assert [(each.question, each.arm, each.repeat) for each in found] == wanted
    assert lasting(observed(small_index, replace(ALL, concurrency=1))) == lasting(found)
    for each in found:
        assert (each.failure, each.prompt, each.prompt_sha256, each.cached) == (None, None, None, False)
        assert (each.usage, each.usd_saved) == (Usage(), 0.0)
        assert each.answer is not None
        assert each.answer.passages == each.ranking[: each.prompt_passages]
        assert each.answer.abstained == (each.question is NOBODY or each.arm == "closed_book")
        assert (each.retrieve_seconds > 0) == (each.arm == "retrieved")
    for each in found[:4]:
        assert each.answer is not None
        assert "renewed in 2019" in each.answer.text
        assert each.answer.version == 1
    retrieved, oracle, closed_book = found[0], found[2], found[4]
    assert (retrieved.prompt_passages, len(retrieved.ranking) >= 6) == (2, True)
    assert (oracle.prompt_passages, [passage.doc_id for passage in oracle.ranking]) == (1, ["bridge.md"])
    assert (closed_book.prompt_passages, closed_book.ranking) == (0, ())


def test_a_model_is_asked_what_the_row_says_and_never_twice(
    served: Served, small_index: Settings, tmp_path: Path
) -> None:
    settings = chat_settings(small_index, served.url)
    first = observed(settings, ALL, folder=tmp_path)
    calls = list(served.asked)
    # an oracle without gold is not asked; where gold is all that was retrieved, both arms ask the same
    assert len(calls) == len({(json.dumps(call), n) for n, call in enumerate(calls)}) <= 16
    for each in first:
        assert each.answer is not None
        nothing_given = each.arm == "oracle" and each.question is NOBODY
        assert each.answer.abstained == (each.prompt is None) == nothing_given
        assert (each.generate_seconds is None) == nothing_given
    sent = {each.prompt for each in first} - {None}
    assert sent == {
        "\n\n".join(f"# {turn['role']}\n\n{turn['content']}" for turn in call["messages"]) for call in calls
    }
    billed = sum((each.usage for each in first), Usage())
    assert (billed.requests, billed.input_tokens, billed.output_tokens) == (16, 1600, 160)
    assert billed.usd == pytest.approx(16 * 0.0002)

    again = observed(settings, ALL, folder=tmp_path)
    assert len(served.asked) == len(calls)
    assert lasting(again) == lasting(first)
    for before, now in zip(first, again, strict=True):
        assert now.cached == (now.prompt is not None)
        assert now.generate_seconds == before.generate_seconds
        assert now.usage == Usage()
        assert now.usd_saved == (0.0002 if now.cached else 0.0)
        assert before.answer is not None
        assert before.answer.usage.input_tokens == (100 if before.prompt else 0)

    assert {each.prompt_sha256 for each in first if each.arm != "closed_book"} == {load_prompt().sha256}
    closed = [each for each in first if each.arm == "closed_book"]
    assert len({each.prompt_sha256 for each in closed}) == 1
    for each in closed:
        assert each.answer is not None
        assert (each.answer.prompt, each.answer.citations) == ("closed_book.v1", ())
        assert each.prompt is not None
        assert each.question.text in each.prompt
        assert "passage" not in each.prompt
        assert each.answer.text == f"You asked: {each.question.text}"


def test_a_change_of_what_decides_a_reply_asks_again_and_fresh_asks_everything(
    served: Served, small_index: Settings, tmp_path: Path
) -> None:
    settings = chat_settings(small_index, served.url)
    for count, (plan, changed) in enumerate(
        [
            (ONE, settings),
            (replace(ONE, repeats=2), settings),
            (ONE, chat_settings(small_index, served.url, max_tokens=7)),
            (replace(ONE, fresh=True), settings),
        ],
        1,
    ):
        observed(changed, plan, [BRIDGE], tmp_path)
        assert len(served.asked) == count
    # the same server under another spelling of its address is the same server
    observed(chat_settings(small_index, served.url + "/"), ONE, [BRIDGE], tmp_path)
    assert len(served.asked) == 4


def test_a_prompt_of_ones_own_is_named_by_its_digest(served: Served, small_index: Settings, tmp_path: Path) -> None:
    path = tmp_path / "mine.md"
    path.write_text("Read {passages} and answer {question}", encoding="utf-8")
    settings = chat_settings(small_index, served.url, prompt=path)
    (found,) = observed(settings, ONE, [BRIDGE])
    assert found.prompt_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.prompt == f"# user\n\n{served.asked[0]['messages'][0]['content']}"
    path.write_text("Read {passages} and then answer {question}", encoding="utf-8")
    observed(settings, ONE, [BRIDGE], tmp_path)
    assert len(served.asked) == 2


def test_what_was_paid_is_in_the_ledger_and_what_was_not_is_not(
    served: Served, small_index: Settings, tmp_path: Path
) -> None:
    before = len(list(ledger.entries(small_index.store)))
    for _ in range(2):
        observed(chat_settings(small_index, served.url), ONE, folder=tmp_path)
    (entry,) = list(ledger.entries(small_index.store))[before:]
    assert (entry.model, entry.requests, entry.tokens) == ("openai/toy", 3, 330)
    assert entry.usd == pytest.approx(0.0006)


def failing(text: str, failure: Answer) -> Callable[[Asked], Answer]:
    """A server that fails for one question."""
    return lambda asked: failure if text in asked["messages"][-1]["content"] else reply(asked)


CANARY = "sk-canary-5f2e9c71d04b"
FAILURES: dict[str, tuple[Answer, str]] = {
    "a refusal": (whole("I cannot help with that.", "content_filter"), "the model refused"),
    "a thought without end": (whole("", "length"), "wrote nothing within max_tokens"),
    "too long": (
        refusal(400, "maximum context length is 128 tokens", code="context_length_exceeded"),
        "context length",
    ),
    "its own fault": (refusal(400, f"bad request of {CANARY}"), "bad request of [key]"),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_a_question_that_fails_is_a_row_and_the_others_are_answered(
    kind: str, served: Served, small_index: Settings, tmp_path: Path
) -> None:
    failure, said = FAILURES[kind]
    served.always = failing(GOATS.text, failure)
    settings = chat_settings(small_index, served.url)
    found = observed(settings, ONE, folder=tmp_path)
    assert [each.answer is None for each in found] == [False, True, False]
    goats = found[1]
    assert goats.failure is not None
    assert (goats.failure.type, said in goats.failure.message) == ("ProviderFailed", True)
    assert CANARY not in repr(goats)
    assert goats.prompt is not None, "what was asked in vain is known"
    assert len(goats.ranking) >= 6
    # a refusal was billed, an error was not; neither is kept
    assert goats.usage.requests == (1 if failure.status == 200 else 0)
    served.asked.clear()
    assert lasting(observed(settings, ONE, folder=tmp_path)) == lasting(found)
    assert len(served.asked) == 1


def test_a_question_that_cannot_be_asked_costs_nothing_and_is_a_row(served: Served, small_index: Settings) -> None:
    odd = [replace(BRIDGE, question_id=name, text=text) for name, text in (("blank", " \n"), ("lone", "Who\ud800?"))]
    why = Failure("QuoteGone", "line 7: the quote is gone")
    found = observed(
        chat_settings(small_index, served.url),
        replace(ONE, arms=("retrieved", "oracle")),
        [*odd, GOATS, BRIDGE],
        failures={"goats": why},
    )
    assert [each.failure and each.failure.type for each in found[::2]] == [
        "UsageError",
        "UsageError",
        "QuoteGone",
        None,
    ]
    assert [each.failure for each in found[4:6]] == [why, why]
    assert len(served.asked) == 2


@pytest.mark.parametrize("status", [401, 404])
def test_what_is_wrong_for_every_question_ends_the_run(status: int, served: Served, small_index: Settings) -> None:
    served.always = refusal(status)
    with pytest.raises(Exception, match=str(status)) as caught:
        observed(chat_settings(small_index, served.url), ALL)
    assert not isinstance(caught.value, ProviderFailed)
    assert len(served.asked) <= ALL.concurrency


def test_a_missing_key_ends_the_run_before_anything_is_sent(served: Served, small_index: Settings) -> None:
    with pytest.raises(KeyMissing, match="NO_SUCH_KEY"):
        observed(chat_settings(small_index, "http://192.0.2.1/v1", api_key_env="NO_SUCH_KEY"))


def test_a_store_that_cannot_keep_a_reply_ends_the_run(
    served: Served, small_index: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise StorageFailed("no space")

    monkeypatch.setattr(AnswerStore, "put", full)
    with pytest.raises(StorageFailed):
        observed(chat_settings(small_index, served.url), ALL, folder=tmp_path)
    assert len(served.asked) <= ALL.concurrency


def test_no_more_questions_are_under_way_than_were_allowed(served: Served, small_index: Settings) -> None:
    under_way, most, asked_for = 0, 0, 0
    import threading

    lock, met = threading.Lock(), threading.Barrier(3, timeout=10)

    def slow(asked: Asked) -> Answer:
        nonlocal under_way, most, asked_for
        with lock:
            under_way += 1
            asked_for += 1
            most = max(most, under_way)
            together = 2 <= asked_for <= 7  # the first goes alone, to learn the limits, and two are left at the end
        if together:
            met.wait()
        with lock:
            under_way -= 1
        return reply(asked)

    served.always = slow
    found = observed(chat_settings(small_index, served.url), replace(ONE, repeats=3))
    assert (most, len(found)) == (3, 9)


def test_an_interrupted_run_keeps_what_came_and_asks_for_the_rest(
    served: Served, small_index: Settings, tmp_path: Path
) -> None:
    settings = chat_settings(small_index, served.url)
    plan = replace(ALL, concurrency=1)

    def stop(done: int, _: int) -> None:
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        observed(settings, plan, folder=tmp_path, progress=stop)
    before = len(served.asked)
    found = observed(settings, plan, folder=tmp_path)
    assert (before, len(served.asked)) == (7, 16)
    assert lasting(found) == lasting(observed(settings, ALL))


def test_a_text_that_the_embedding_model_refuses_fails_alone(
    small_index: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = Desk.embed
    refused: list[int] = []

    async def picky(desk: Desk, questions: Sequence[str]) -> Any:
        if any("goats" in question for question in questions):
            refused.append(len(questions))
            error = ProviderFailed("a text is too long")
            error.splittable = True
            raise error
        return await sound(desk, questions)

    monkeypatch.setattr(Desk, "embed", picky)
    found = observed(small_index)
    assert [each.failure and each.failure.message for each in found] == [None, "a text is too long", None]
    assert [bool(each.ranking) for each in found] == [True, False, True]
    assert refused == [3, 2, 1]


def test_nothing_to_ask_is_nothing_observed(small_index: Settings) -> None:
    steps: list[tuple[int, int]] = []
    assert observed(small_index, ALL, [], progress=lambda *step: steps.append(step)) == []
    assert steps == [(0, 0)]


def test_an_abstaining_model_abstains_in_every_arm(served: Served, small_index: Settings) -> None:
    served.always = lambda asked: whole(
        "I do not know." if "No documents" in asked["messages"][0]["content"] else "The passages do not answer this."
    )
    for each in observed(chat_settings(small_index, served.url), ALL):
        assert each.answer is not None
        assert (each.answer.abstained, each.answer.text) == (True, ABSTENTION)
