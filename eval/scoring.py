"""Observations -> scores: one for each observation and measure, whatever became of it.

What can have no value is `not_applicable`, with its reason; else what failed is an `error`; else it is computed, for all
observations of all arms and repeats at once. A failure of generation leaves the measures of the ranking alone: only
where there is no ranking either has retrieval failed.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from eval.measures.answers import Answers
from eval.measures.gathered import GATHER
from eval.measures.names import Condition, Family, Floats, Measure
from eval.measures.registry import MEASURES
from eval.types import Observed, Score, Scored, Status
from rag.errors import Problem, ProviderFailed, UsageError
from rag.providers.secrets import hidden
from rag.types import Usage

if TYPE_CHECKING:
    from eval.judge import Judge, Verdict

Embed: TypeAlias = Callable[[Sequence[str]], Awaitable[NDArray[np.float32]]]
"""Texts -> vectors, float32 [n, d]."""
Heard: TypeAlias = "dict[tuple[int, Measure], Verdict | ProviderFailed]"
_OURS = "ragline"
_TEXTS = 256


@dataclass(frozen=True, slots=True)
class _Rest:
    """The observations that a condition lets through, and the scores of the others."""

    positions: list[int]
    """Of those let through, ascending."""
    others: Mapping[int, Score]


async def score(
    observed: Sequence[Observed],
    measures: Sequence[Measure],
    judge: Judge | None,
    embed: Embed | None,
    progress: Callable[[int, int], None],
    concurrency: int = 8,
) -> Scored:
    """Score every observation with every measure.

    Parameters
    ----------
    observed, measures
        In the order that the result has; arms and repeats as they come.
    judge
        For judged measures.
    embed
        For measures that need vectors: the index's own model.
    progress
        Called with (done, all) judgements, from 0 on; not at all without judged measures.
    concurrency
        Judgements under way at once.

    A judgement whose call fails is an error of that one score. Raises UsageError where a measure needs a judge or an
    embedding model and there is none; what `embed` raises; what the judge raises that no other question would escape
    (a missing key, an unknown model, a spent budget, a full disk).
    """
    refuse(measures, judge=judge is not None, embed=embed is not None)
    conditions = dict.fromkeys(MEASURES[each.name].when for each in measures)
    with _no_collection():
        rests = {when: _let_through(observed, when) for when in conditions}
    columns: dict[Measure, list[Score]] = {}
    groups: dict[tuple[Family, Condition], list[Measure]] = {}
    for measure in measures:
        entry = MEASURES[measure.name]
        groups.setdefault((entry.family, entry.when), []).append(measure)
    for (family, when), members in groups.items():
        if family == "judged":
            continue
        rest = rests[when]
        with _no_collection():
            data = GATHER[family]([observed[at] for at in rest.positions], members)
        if embed is not None and any(MEASURES[each.name].embeds for each in members):
            data = Answers(data.said, data.accepted, await _vectors(data, embed))
        with _no_collection():
            for measure in members:
                values = MEASURES[measure.name].values(data, measure) if rest.positions else np.zeros(0)
                columns[measure] = _column(len(observed), rest, _computed(measure, values, len(rest.positions)))
    asked = [each for each in measures if MEASURES[each.name].family == "judged"]
    heard: Heard = {}
    if judge is not None and asked:
        heard = await _judged(observed, asked, rests, judge, progress, concurrency)
        for measure in asked:
            rest = rests[MEASURES[measure.name].when]
            columns[measure] = _column(
                len(observed), rest, [_verdict(heard[at, measure], judge.name) for at in rest.positions]
            )
    seconds: list[float | None] = [None] * len(observed)
    usage, saved = Usage(), Usage()
    # added up in the order of observation, so that the last digit does not hang on which call came first
    for (at, _), verdict in heard.items():
        if not isinstance(verdict, ProviderFailed) and _called(verdict):
            seconds[at] = (seconds[at] or 0.0) + verdict.seconds
            usage += verdict.usage
            saved += Usage(usd=verdict.usd_saved)
    rows = zip(*(columns[each] for each in measures), strict=True) if measures else (() for _ in observed)
    return Scored(tuple(observed), tuple(measures), tuple(rows), tuple(seconds), usage, saved.usd)


def refuse(measures: Iterable[Measure], *, judge: bool, embed: bool) -> None:
    """Raise UsageError, with every mistake, where a measure needs a judge or an embedding model that is not there."""
    problems = []
    for measure in measures:
        entry = MEASURES[measure.name]
        if entry.family == "judged" and not judge:
            what = f"{measure} needs a judge, and there is none"
            problems.append(Problem(str(measure), what, "set judge.model, or leave the measure out"))
        if entry.embeds and not embed:
            what = f"{measure} needs the embedding model of an index, and there is none"
            problems.append(Problem(str(measure), what, "leave the measure out"))
    if problems:
        raise UsageError("; ".join(each.what for each in problems), problems)


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Nothing here makes cycles, and a collection walks through every passage of the run: half a second for a million."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _let_through(observed: Sequence[Observed], when: Condition) -> _Rest:
    positions: list[int] = []
    others: dict[int, Score] = {}
    made: dict[tuple[Status, str], Score] = {}
    for at, each in enumerate(observed):
        status, why = Status.NOT_APPLICABLE, when.absent(each)
        if why is None and each.failure is not None and (when.rests_on == "answer" or not each.ranking):
            # what it said stands in the row of the question
            status, why = Status.ERROR, each.failure.type
        if why is None:
            positions.append(at)
        else:
            others[at] = made.setdefault((status, why), Score(None, status, why, _OURS))
    return _Rest(positions, others)


def _column(count: int, rest: _Rest, scores: Iterable[Score]) -> list[Score]:
    found = {**rest.others, **dict(zip(rest.positions, scores, strict=True))}
    return [found[at] for at in range(count)]


def _computed(measure: Measure, values: Floats, count: int) -> list[Score]:
    """Scores of these values; equal values share one. Raises ValueError for a measure that breaks its word."""
    if values.shape != (count,) or not np.isfinite(values).all():
        raise ValueError(f"{measure} gave {values.shape} values for {count} observations, or one that is no number")
    made: dict[float, Score] = {}
    return [
        made.get(value) or made.setdefault(value, Score(value, Status.SCORED, None, _OURS)) for value in values.tolist()
    ]


async def _vectors(answers: Answers, embed: Embed) -> dict[str, NDArray[np.float32]]:
    """The vector of each text that is not blank; each text is embedded once."""
    every = dict.fromkeys([*answers.said, *(text for row in answers.accepted for text in row)])
    texts = [text for text in every if text.strip()]
    found: dict[str, NDArray[np.float32]] = {}
    for start in range(0, len(texts), _TEXTS):
        part = texts[start : start + _TEXTS]
        found.update(zip(part, await embed(part), strict=True))
    return found


async def _judged(
    observed: Sequence[Observed],
    measures: Sequence[Measure],
    rests: Mapping[Condition, _Rest],
    judge: Judge,
    progress: Callable[[int, int], None],
    concurrency: int,
) -> Heard:
    """What the judge says of each observation that a measure lets through, in the order of observations."""
    wanted = sorted(
        ((at, measure) for measure in measures for at in rests[MEASURES[measure.name].when].positions),
        key=lambda each: each[0],
    )
    gate = asyncio.Semaphore(concurrency)
    done = 0
    progress(done, len(wanted))

    async def one(at: int, measure: Measure) -> Verdict | ProviderFailed:
        nonlocal done
        async with gate:
            try:
                found: Verdict | ProviderFailed = await MEASURES[measure.name].values(judge, observed[at])
            except ProviderFailed as error:
                found = error
        done += 1
        progress(done, len(wanted))
        return found

    tasks = [asyncio.ensure_future(one(at, measure)) for at, measure in wanted]
    try:
        found = await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return dict(zip(wanted, found, strict=True))


def _called(verdict: Verdict) -> bool:
    """Whether the judge was asked, now or when its reply came into the store."""
    return verdict.cached or verdict.usage.requests > 0 or verdict.seconds > 0


def _verdict(verdict: Verdict | ProviderFailed, judge: str) -> Score:
    if isinstance(verdict, ProviderFailed):
        return Score(None, Status.ERROR, f"{type(verdict).__name__}: {hidden(verdict.message)}", judge)
    status = Status.UNSCORED if verdict.value is None else Status.SCORED
    return Score(verdict.value, status, verdict.reason, judge if _called(verdict) else _OURS)
