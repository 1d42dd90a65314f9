"""What a measure of answers is worth: its agreement with people, before anybody believes its means."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from eval.judge import Judge, Verdict
from eval.judging.agreement import Agreement, Floats, agreements
from eval.judging.people import Judged, JudgedSet, read_judged
from eval.measures.answers import rouge_l, token_scores
from eval.statistics import CONFIDENCE, DRAWS
from rag.digest import canonical, digest
from rag.errors import Damaged, ProviderFailed, refuse_newer
from rag.storage import write
from rag.types import Json, Usage

F1_RIGHT: Final = 0.5
"""An answer is right by F1 from here on."""
ROUGE_RIGHT: Final = 0.5
JUDGE: Final = "judge"
PEOPLE: Final = "people"
FORMAT: Final = 1
CONCURRENCY: Final = 8
_REMEDY = "run the calibration of this judge again"


@dataclass(frozen=True, slots=True)
class Calibration:
    """How far measures, and a judge, agree with people on one set of judged answers."""

    dataset: str
    format: str
    sha256: str
    answers: int
    """Those that were looked at, of all systems."""
    limit: int | None
    seed: int
    left_out: Mapping[str, int]
    """Why answers of the set do not count, and how many."""
    judge: Mapping[str, Json] | None
    """The judge's identity; None without one."""
    agreements: tuple[Agreement, ...]
    usage: Usage
    usd_saved: float | None
    cached: int
    """Verdicts of the judge that called nothing."""

    def of(self, rater: str = JUDGE, system: str | None = None) -> Agreement | None:
        """One rater's agreement with people, by default the judge's over all systems; None where it is not here."""
        return next(
            (each for each in self.agreements if (each.rater, each.system, each.against) == (rater, system, PEOPLE)),
            None,
        )

    def as_json(self) -> dict[str, Json]:
        """Everything, as JSON has it; `from_json` reads it back."""
        found: dict[str, Json] = json.loads(json.dumps(asdict(self)))
        settings = {"f1_right": F1_RIGHT, "rouge_l_right": ROUGE_RIGHT, "confidence": CONFIDENCE, "draws": DRAWS}
        return {"format_version": FORMAT, **found, **settings}

    def rows(self) -> list[dict[str, Json]]:
        """A row for each rater and system, as a table shows them."""
        return [
            {**asdict(each), "system": each.system or "all", "rater": _label(each.rater)} for each in self.agreements
        ]


def from_json(value: Mapping[str, Any]) -> Calibration:
    """What `as_json` has written. Raises KeyError, TypeError or ValueError for anything else."""
    names = Calibration.__dataclass_fields__
    given = {name: value[name] for name in names}
    given["agreements"] = tuple(Agreement(**each) for each in value["agreements"])
    given["usage"] = Usage(**value["usage"])
    return Calibration(**given)


async def calibrate(
    path: Path,
    judge: Judge | None = None,
    limit: int | None = None,
    seed: int = 0,
    *,
    concurrency: int = CONCURRENCY,
    progress: Callable[[int, int], None] | None = None,
) -> Calibration:
    """Compare EM, F1, Contains, ROUGE-L and, where one is given, a judge with the people who judged the same answers.

    Parameters
    ----------
    path
        EVOUNA, OpenQA-eval, or a table of one's own: see `eval.judging.people.read_judged`.
    judge
        Its Correctness is asked for each answer: one call or two. None compares the measures alone.
    limit, seed
        At most so many answers, drawn by their digest; also the seed of the bootstrap. Each measure sees the same ones.
    progress
        Told after each verdict how many are done, and of how many.

    Answers to one question are drawn together in the bootstrap. A measure that is no yes or no is right from `F1_RIGHT`
    and `ROUGE_RIGHT` on. Raises UsageError for a set that cannot be read; what the judge raises where every call fails,
    and KeyMissing and UnknownModel at once.
    """
    found = read_judged(path)
    judged = _sample(found, limit, seed)
    raters = _measured(judged)
    verdicts: Sequence[Verdict | None] = ()
    if judge is not None:
        verdicts = await _judged(judge, judged, concurrency, progress)
        said = (each.value if each is not None else None for each in verdicts)
        raters[JUDGE] = np.array([np.nan if value is None else value for value in said])
    paid = [each for each in verdicts if each is not None]
    saved = sum((Usage(usd=each.usd_saved) for each in paid), Usage())
    return Calibration(
        dataset=found.name,
        format=found.format,
        sha256=found.sha256,
        answers=len(judged),
        limit=limit,
        seed=seed,
        left_out=found.left_out,
        judge=judge.identity("correctness") if judge is not None else None,
        agreements=tuple(_agreements(judged, raters, seed)),
        usage=sum((each.usage for each in paid), Usage()),
        usd_saved=saved.usd,
        cached=sum(each.cached for each in paid),
    )


def keep(store: Path, calibration: Calibration) -> Path | None:
    """Put the calibration of a judge into the store, in place of an earlier one of the same judge.

    Gives the file; None without a judge: nothing would ask for it. Raises StorageFailed.
    """
    if calibration.judge is None:
        return None
    path = _place(store, calibration.judge)
    write(path, json.dumps(calibration.as_json(), indent=1, ensure_ascii=False).encode("utf-8"))
    return path


def stored(store: Path, judge: Judge) -> Calibration | None:
    """The last calibration of this judge: same model, server and Correctness prompt; None where there is none.

    Raises Damaged, FormatTooNew.
    """
    path = _place(store, judge.identity("correctness"))
    try:
        value = json.loads(path.read_bytes())
        refuse_newer(path, value["format_version"], FORMAT)
        found = from_json(value)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise Damaged.at(str(path), f"{path} is no calibration that can be read", _REMEDY) from error
    return found if found.judge == judge.identity("correctness") else None


def _place(store: Path, judge: Mapping[str, Json]) -> Path:
    return store / "calibrations" / f"{digest(judge)[:16]}.json"


def _sample(found: JudgedSet, limit: int | None, seed: int) -> Sequence[Judged]:
    if limit is None or limit >= len(found.judged):
        return found.judged
    keys = [
        hashlib.sha256(canonical([seed, each.question, each.system, each.answer])).digest() for each in found.judged
    ]
    drawn = sorted(range(len(keys)), key=lambda at: keys[at])[: max(limit, 0)]
    return [found.judged[at] for at in sorted(drawn)]


def _measured(judged: Sequence[Judged]) -> dict[str, Floats]:
    answers, accepted = [each.answer for each in judged], [each.expected for each in judged]
    tokens = token_scores(answers, accepted)
    return {
        "EM": tokens.exact,
        "F1": (tokens.f1 >= F1_RIGHT).astype(np.float64),
        "Contains": tokens.contains,
        "ROUGE-L": (rouge_l(answers, accepted) >= ROUGE_RIGHT).astype(np.float64),
    }


def _label(rater: str) -> str:
    return {"F1": f"F1 >= {F1_RIGHT}", "ROUGE-L": f"ROUGE-L >= {ROUGE_RIGHT}"}.get(rater, rater)


async def _judged(
    judge: Judge, judged: Sequence[Judged], concurrency: int, progress: Callable[[int, int], None] | None
) -> list[Verdict | None]:
    """The verdict on each answer, None where its call failed."""
    gate = asyncio.Semaphore(concurrency)
    failures: list[ProviderFailed] = []
    done = 0

    async def one(item: Judged) -> Verdict | None:
        nonlocal done
        async with gate:
            try:
                verdict = await judge.correctness(item.question, item.expected, item.answer)
            except ProviderFailed as error:
                failures.append(error)
                verdict = None
        done += 1
        if progress is not None:
            progress(done, len(judged))
        return verdict

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(item)) for item in judged]
    except ExceptionGroup as several:
        raise several.exceptions[0] from None
    if failures and len(failures) == len(judged):
        raise failures[0]
    return [task.result() for task in tasks]


def _agreements(judged: Sequence[Judged], raters: Mapping[str, Floats], seed: int) -> list[Agreement]:
    people = np.array([each.right for each in judged], dtype=np.float64)
    clusters = [each.question for each in judged]
    names = dict.fromkeys(name for each in judged for name in each.recorded)
    recorded = {name: np.array([_number(each.recorded.get(name)) for each in judged]) for name in sorted(names)}
    systems = list(dict.fromkeys(each.system for each in judged))
    found: list[Agreement] = []
    for system in (None, *(systems if len(systems) > 1 else ())):
        rows = [at for at, each in enumerate(judged) if system in (None, each.system)]
        chosen = {name: values[rows] for name, values in {**raters, **recorded}.items()}
        found += agreements(chosen, (PEOPLE, people[rows]), [clusters[at] for at in rows], system, seed=seed)
    both = [at for at, each in enumerate(judged) if each.people]
    if both:
        first, second = (np.array([judged[at].people[which] for at in both], dtype=np.float64) for which in (0, 1))
        within = [clusters[at] for at in both]
        found += agreements({"second person": second}, ("first person", first), within, seed=seed)
    return found


def _number(value: bool | None) -> float:  # noqa: FBT001 - a verdict
    return np.nan if value is None else float(value)
