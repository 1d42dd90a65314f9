"""The flow `evaluate`: the stages of eval/run.py as Prefect tasks. See flows/recorded.py."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from eval.datasets.read import read
from eval.run import STAGES, Evaluated, Evaluation, Options, Progress
from eval.types import Dataset
from flows.recorded import Handed, Stages, ended_badly, hidden, safe
from rag.counted import counted
from rag.errors import UsageError
from rag.settings import Settings, load

if TYPE_CHECKING:
    from flows.server import Recording

COMMAND = "prefect deployment evaluate"


TOLD: Mapping[str, Callable[[Evaluation, Any], str]] = {
    "observe": lambda _, count: f"{counted(count, 'answer')} observed",
    "score": lambda _, count: counted(count, "score"),
    "save": lambda _, result: f"run {result.run_id}",
}
STAGED: Stages[Evaluation, Evaluated] = Stages(STAGES, TOLD)


@flow(name="evaluate", persist_result=False, result_serializer="json", retries=0, validate_parameters=False)
def evaluate(
    configs: list[str] | None = None, sets: list[str] | None = None, *, dataset: str | None = None, name: str = ""
) -> State[None]:
    """Ask the published index the questions of `evaluation.dataset`, or another data set, and keep the run.

    configs: settings files, later wins; without one, the nearest ragline.toml. sets: `section.key=value`. Keys of
    providers come from the environment only.
    """
    handed = STAGED.handed()
    try:
        if handed is None:
            handed = _asked(load([Path(path) for path in configs or []], os.environ, sets or []), dataset, name)
        result = STAGED.run(handed)
    except Exception as error:  # noqa: BLE001 - see the head of flows/recorded.py
        if handed:
            handed.error = error
        return ended_badly(error)
    _report(result)
    message = f"run {result.run_id}: {counted(result.record['counts']['questions'], 'question')}"
    return Failed(name="Invalid", message=message) if result.invalid else Completed(name="Evaluated", message=message)


def _asked(settings: Settings, dataset: str | None, name: str) -> Handed[Evaluation, Evaluated]:
    """What a deployed run is about. Raises UsageError."""
    path = Path(dataset) if dataset else settings.evaluation.dataset
    if path is None:
        what = "no question set is named"
        raise UsageError.at("evaluation.dataset", what, "set [evaluation] dataset, or the parameter dataset")
    questions, options = read(path), Options(name=name, command=(COMMAND,))
    return Handed(lambda: Evaluation(settings, questions, options, lambda *_: None))


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
    return STAGED.recorded(
        Handed(lambda: Evaluation(settings, dataset, options, progress)),
        lambda: evaluate(
            list(configs),
            [hidden(text) for text in sets],
            dataset=str(dataset.path),
            name=options.name,
            return_state=True,
        ),
        recording,
    )


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
