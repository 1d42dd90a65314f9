"""Questions -> what became of each, in each arm and repeat: what was retrieved, asked, answered and billed.

Nothing here is resumed: what was paid for is in the store of answers, and is not asked for again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from eval import context
from eval.answers import AnswerStore
from eval.cached import Asked, CachedChat
from eval.fuse import Fused
from eval.types import Arm, Failure, Observed, Question
from rag.errors import ProviderFailed
from rag.generation.answer import GroundedGenerator
from rag.generation.prompt import CLOSED_BOOK_PROMPT, Prompt, load_prompt
from rag.ports import Generator
from rag.providers.secrets import hidden
from rag.types import Answer, Message, Passage, Usage
from rag.wiring import Desk, chat_address

Progress = Callable[[int, int], None]
"""How many observations are done, of how many."""
_BATCH = 128
"""Questions whose vectors are searched together."""


@dataclass(frozen=True, slots=True)
class Observing:
    """What is to be observed."""

    arms: tuple[Arm, ...]
    repeats: int
    documents: int
    """Distinct documents that a ranking needs: the largest cutoff of the measures."""
    search_depth: int
    """Passages that a ranking has at least, where the index has as many: how far the first gold is searched for."""
    k: int
    """The first so many passages are given to the generator."""
    concurrency: int
    """Questions under way at once, where a chat model answers."""
    fresh: bool = False
    """Whether every reply is paid for anew."""


@dataclass(frozen=True, slots=True)
class _Given:
    """What one question is answered from in one arm."""

    ranking: tuple[Passage, ...] = ()
    prompt_passages: int = 0
    seconds: float = 0.0
    failure: Failure | None = None


async def observe(
    desk: Desk,
    questions: Sequence[Question],
    failures: Mapping[str, Failure],
    plan: Observing,
    answers: AnswerStore | None,
    progress: Progress,
) -> list[Observed]:
    """Retrieve for and answer every question, in question order, then in the order of the arms, then by repeat.

    Parameters
    ----------
    failures
        {question_id: why it cannot be asked}: such a question is observed as failed, and costs nothing.
    answers
        Where replies are kept; None keeps them for this call alone.

    `retrieve_seconds` is a question's share of its batch, the same in every repeat. What fails for one question becomes
    its `failure`. Raises what is the same for every question: KeyMissing, UnknownModel, SettingsError, OverBudget,
    Damaged, StorageFailed, Busy. Whatever ends it, replies that were paid for are kept.
    """
    jobs = [(question, arm, repeat) for question in questions for arm in plan.arms for repeat in range(plan.repeats)]
    progress(0, len(jobs))
    mute = {question.question_id: _NO_QUESTION for question in questions if not _can_be_asked(question.text)}
    failures = {**mute, **failures}
    asked = [question for question in questions if question.question_id not in failures]
    given = {(question_id, arm): _Given(failure=why) for question_id, why in failures.items() for arm in plan.arms}
    for arm in plan.arms:
        for question, found in zip(asked, await _ARMS[arm](desk, asked, plan), strict=True):
            given[question.question_id, arm] = found
    done: dict[int, Observed] = {}
    waiting = iter(enumerate(jobs))

    async def work(writers: _Writers) -> None:
        for place, (question, arm, repeat) in waiting:
            done[place] = await writers.observed(question, arm, repeat, given[question.question_id, arm])
            progress(len(done), len(jobs))
            # a stored answer, or one without a model, awaits nothing: without this no cancellation would ever come in
            await asyncio.sleep(0)

    with contextlib.nullcontext(answers) if answers else AnswerStore(None, desk.clock) as store:
        writers = _Writers(desk, store, fresh=plan.fresh)
        # without a server to wait for, more at once would only wait for each other, and each look slow
        most = plan.concurrency if isinstance(desk.generator, GroundedGenerator) else 1
        await _together([work(writers) for _ in range(min(most, len(jobs)))])
    return [done[place] for place in range(len(jobs))]


async def _together(work: Sequence[Coroutine[Any, Any, None]]) -> None:
    """All of it to its end; the first error ends the rest, and is raised as it is."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _retrieved(desk: Desk, questions: Sequence[Question], plan: Observing) -> list[_Given]:
    given: list[_Given] = []
    for start in range(0, len(questions), _BATCH):
        batch = questions[start : start + _BATCH]
        begun = desk.clock.monotonic()
        found = await _found(desk, [question.text for question in batch], plan)
        seconds = (desk.clock.monotonic() - begun) / len(batch)
        given += [replace(each, seconds=seconds) for each in found]
        await asyncio.sleep(0)
    return given


async def _found(desk: Desk, texts: Sequence[str], plan: Observing) -> list[_Given]:
    """What retrieval finds for each text. One that the embedding model refuses fails alone."""
    try:
        rankings = await context.retrieved(desk, texts, plan.documents, max(plan.k, plan.search_depth))
    except ProviderFailed as error:
        if not error.splittable or len(texts) == 1:
            return [_Given(failure=_failure(error))] * len(texts)
        half = len(texts) // 2
        return [*await _found(desk, texts[:half], plan), *await _found(desk, texts[half:], plan)]
    return [_Given(ranking, min(plan.k, len(ranking))) for ranking in rankings]


_NO_QUESTION = Failure("UsageError", "the question is empty, or no valid Unicode")


def _can_be_asked(text: str) -> bool:
    try:
        return bool(text.strip() and text.encode())
    except UnicodeEncodeError:
        return False


async def _gold(desk: Desk, questions: Sequence[Question], plan: Observing) -> list[_Given]:
    return [_Given(ranking, len(ranking)) for ranking in context.gold(desk.opened, questions, plan.k)]


async def _nothing(_desk: Desk, questions: Sequence[Question], _plan: Observing) -> list[_Given]:
    return [_Given()] * len(questions)


_ARMS: Mapping[Arm, Callable[[Desk, Sequence[Question], Observing], Awaitable[list[_Given]]]] = {
    "retrieved": _retrieved,
    "oracle": _gold,
    "closed_book": _nothing,
}


class _Writers:
    """Who answers, in each arm and repeat: the desk's generator, its chat model behind the store of answers."""

    def __init__(self, desk: Desk, store: AnswerStore, *, fresh: bool) -> None:
        self._desk = desk
        self._store = store
        self._fresh = fresh
        self._chats: dict[tuple[str, int], CachedChat] = {}
        self._fused = Fused(desk.generator.chat) if isinstance(desk.generator, GroundedGenerator) else None
        self._closed_book = load_prompt(built_in=CLOSED_BOOK_PROMPT, placeholders=("question",))

    async def observed(self, question: Question, arm: Arm, repeat: int, given: _Given) -> Observed:
        """The question answered from what is given. Raises what is the same for every question."""
        clock, own = self._desk.clock, self._desk.generator
        asked_at, begun = clock.utc(), clock.monotonic()
        generator, asked, prompt = own, None, None
        if isinstance(own, GroundedGenerator):
            prompt = self._closed_book if arm == "closed_book" else own.prompt
            asked = Asked(self._chat(prompt, repeat))
            generator = GroundedGenerator(asked, prompt, own.max_tokens)
        answer, failure = None, given.failure
        if failure is None:
            try:
                answer = await _answer(generator, question.text, given.ranking[: given.prompt_passages])
                answer = replace(answer, version=self._desk.version)
            except ProviderFailed as error:
                failure = _failure(error)
        call = asked.call if asked else None
        seconds = call.seconds if call else clock.monotonic() - begun if answer and not asked else None
        usage = call.usage if call else Usage()
        return Observed(
            question=question,
            arm=arm,
            repeat=repeat,
            ranking=given.ranking,
            prompt_passages=given.prompt_passages,
            answer=answer,
            failure=failure,
            prompt=prompt_text(asked.messages) if asked and asked.messages else None,
            prompt_sha256=prompt.sha256 if prompt else None,
            cached=bool(call and call.cached),
            usage=usage,
            usd_saved=call.usd_saved if call else 0.0,
            retrieve_seconds=given.seconds,
            generate_seconds=seconds,
            asked_at=asked_at,
        )

    def _chat(self, prompt: Prompt, repeat: int) -> CachedChat:
        """One for each prompt and repeat, so that equal calls of two arms are one."""
        key = (prompt.sha256, repeat)
        if key not in self._chats:
            assert self._fused is not None
            address = chat_address(self._desk.settings.generation)
            self._chats[key] = CachedChat(
                self._fused, self._store, address, prompt.sha256, {}, repeat, fresh=self._fresh
            )
        return self._chats[key]


async def _answer(generator: Generator, question: str, passages: Sequence[Passage]) -> Answer:
    async for item in generator.answer(question, passages):
        if isinstance(item, Answer):
            return item
    raise AssertionError("a generator ends with its answer")


def prompt_text(messages: Sequence[Message]) -> str:
    """Messages as one text, each under its role."""
    return "\n\n".join(f"# {message.role}\n\n{message.content}" for message in messages)


def _failure(error: ProviderFailed) -> Failure:
    return Failure(type(error).__name__, hidden(error.message))
