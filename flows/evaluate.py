"""The flow `evaluate`: the stages of eval/run.py as Prefect tasks, one a stage, in the same order. See flows/reindex.py."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import Task, flow, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from eval.datasets.read import read
from eval.run import STAGES, Evaluated, Evaluation, Options, Progress
from eval.types import Dataset
from flows.reindex import ended_badly, hidden, safe
from flows.show import note
from rag.counted import counted
from rag.errors import RaglineError, UsageError
from rag.settings import Settings, load

if TYPE_CHECKING:
    from flows.server import Recording

COMMAND = "prefect deployment evaluate"


@dataclass(slots=True)
class Handed:
    """What a command gives to the flow in its own process, what stands between its tasks, and what comes back."""

    settings: Settings
    dataset: Dataset
    options: Options
    progress: Progress
    run: Evaluation | None = None
    result: Evaluated | None = None
    error: Exception | None = None
    tasks: int = 0


_handed: ContextVar[Handed | None] = ContextVar("handed_evaluation", default=None)
_under_way: dict[str, Handed] = {}
TOLD: Mapping[str, Callable[[Any], str]] = {
    "observe": lambda count: f"{counted(count, 'answer')} observed",
    "score": lambda count: counted(count, "score"),
    "save": lambda result: f"run {result.run_id}",
}
"""What the state of each stage says of what it gave."""


def _stage(work: Callable[[Evaluation], object]) -> Task[[str], State[None]]:
    """A stage as a task: run id in, a state with a sentence out, its exception kept for the flow."""

    def run(run_id: str) -> State[None]:
        handed = _under_way[run_id]
        assert handed.run is not None
        try:
            gave = work(handed.run)
            handed.result = gave if isinstance(gave, Evaluated) else None
            return Completed(message=TOLD[work.__name__](gave))
        except Exception as error:  # noqa: BLE001 - the flow raises it again, inside the run's own frame
            handed.error = error
            return ended_badly(error)

    run.__doc__ = work.__doc__
    as_task = task(name=work.__name__, persist_result=False, cache_policy=NO_CACHE, result_serializer="json")
    return as_task(run)


TASKS = tuple(map(_stage, STAGES))


@flow(name="evaluate", persist_result=False, result_serializer="json", retries=0, validate_parameters=False)
def evaluate(
    configs: list[str] | None = None, sets: list[str] | None = None, *, dataset: str | None = None, name: str = ""
) -> State[None]:
    """Ask the published index the questions of `evaluation.dataset`, or another data set, and keep the run.

    configs: settings files, later wins; without one, the nearest ragline.toml. sets: `section.key=value`. Keys of
    providers come from the environment only.
    """
    handed = _handed.get()
    try:
        if handed is None:
            handed = _asked(load([Path(path) for path in configs or []], os.environ, sets or []), dataset, name)
        result = _run(handed)
    except Exception as error:  # noqa: BLE001 - see the head of flows/reindex.py
        if handed:
            handed.error = error
        return ended_badly(error)
    _report(result)
    message = f"run {result.run_id}: {counted(result.record['counts']['questions'], 'question')}"
    return Failed(name="Invalid", message=message) if result.invalid else Completed(name="Evaluated", message=message)


def _asked(settings: Settings, dataset: str | None, name: str) -> Handed:
    """What a deployed run is about. Raises UsageError."""
    path = Path(dataset) if dataset else settings.evaluation.dataset
    if path is None:
        what = "no question set is named"
        raise UsageError.at("evaluation.dataset", what, "set [evaluation] dataset, or the parameter dataset")
    return Handed(settings, read(path), Options(name=name, command=(COMMAND,)), lambda *_: None)


def _run(handed: Handed) -> Evaluated:
    with Evaluation(handed.settings, handed.dataset, handed.options, handed.progress) as run:
        handed.run = run
        _under_way[run.run_id] = handed
        try:
            for stage in TASKS:
                handed.tasks += 1
                stage(run.run_id, return_state=True)
                if handed.error:
                    raise handed.error
        finally:
            del _under_way[run.run_id]
    assert handed.result is not None
    return handed.result


def run_recorded(
    settings: Settings,
    dataset: Dataset,
    options: Options,
    progress: Progress,
    recording: Recording,
    configs: Sequence[str] = (),
    sets: Sequence[str] = (),
) -> Evaluated:
    """The flow in this process, for `ragline eval`: its result, or what its stages raised, as itself.

    Settings go by hand; what Prefect is told of them is where they come from. Raises RaglineError where Prefect fails.
    """
    handed = Handed(settings, dataset, options, progress)
    token = _handed.set(handed)
    try:
        state = evaluate(
            list(configs),
            [hidden(text) for text in sets],
            dataset=str(dataset.path),
            name=options.name,
            return_state=True,
        )
        if state.state_details.flow_run_id:
            recording.expected[str(state.state_details.flow_run_id)] = handed.tasks
    except Exception as error:
        if not handed.result and not handed.error:
            what = f"Prefect failed before the run began: {type(error).__name__}: {hidden(str(error))}"
            raise RaglineError.at("prefect", what, "check the server, or use --runner direct") from error
        note(f"warning: Prefect could not record how this run ended ({type(error).__name__})")
    finally:
        _handed.reset(token)
    if handed.error:
        raise handed.error
    assert handed.result is not None
    return handed.result


def _report(result: Evaluated) -> None:
    """Two artifacts: the table of all questions, and where the run lies."""
    record = result.record
    key = f"evaluate-{record['index']['name'].replace('_', '-')}"
    named = ("arm", "measure", "mean", "low", "high", "n", "unscored", "errors")
    rows = [{name: row[name] for name in named} for row in result.summary if row["slice_tag"] == "all"]
    create_table_artifact(rows, key=f"{key}-summary", description="Means over all questions, with 95 % intervals")
    counts = record["counts"]
    index = f"{record['index']['name']} {record['index']['version']}"
    asked = f"{counted(counts['questions'], 'question')} of {safe(record['dataset']['path'])} to index {index}"
    became = f"{counts['ok']:,} answered, {counts['abstained']:,} abstained, {counts['errors']:,} failed"
    lines = [
        f"# Run {result.run_id}: {record['status']}",
        f"{asked}: {became}.",
        f"Tables and report: `{safe(str(result.folder))}`",
    ]
    create_markdown_artifact("\n\n".join(lines), key=key, description=f"What was asked of {index}")
