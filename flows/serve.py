"""`ragline serve`: the scheduled re-index and the evaluation that follows, without a work pool. Each run is a process of its own.

Two runs never overlap: the store's lock decides (state Skipped), the deployment's limit only spares the attempt. A
version that goes live is an event, `flows.reindex.PUBLISHED`, and where `evaluation.dataset` is set it is asked at once.
"""

from __future__ import annotations

import signal
import zoneinfo
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flows.server import prefect_ready
from flows.show import note
from rag import storage
from rag.errors import Problem, RaglineError, SettingsError, UsageError
from rag.settings import Settings

if TYPE_CHECKING:
    from prefect.deployments.runner import RunnerDeployment


def serve(
    settings: Settings,
    cron: str,
    configs: Sequence[str],
    sets: Sequence[str],
    *,
    create_store: bool = False,
    verbose: bool = False,
) -> None:
    """Re-index by `cron` in schedule.timezone until a signal.

    Raises SettingsError for a schedule that is none, UsageError for a new, empty store, RaglineError without a server.
    """
    _refuse_no_schedule(cron, settings.schedule.timezone)
    if not create_store and not storage.is_store(settings.store):
        what = f"the store {settings.store} is new and empty, and a scheduled run does not begin one"
        raise UsageError(what, [Problem("store", what, "run `ragline index` first, or give --create-store")])
    with prefect_ready(verbose=verbose, scheduling=True):
        made = [_reindexing(settings, cron, configs, sets, create_store=create_store)]
        then = ""
        if settings.evaluation.dataset:
            made.append(_evaluating(settings, configs, sets))
            then = f", then asking {settings.evaluation.dataset} of each new version"
        note(f"re-indexing by {cron} ({settings.schedule.timezone}){then}; Ctrl-C ends it")
        _run(made)


def _reindexing(
    settings: Settings, cron: str, configs: Sequence[str], sets: Sequence[str], *, create_store: bool
) -> RunnerDeployment:
    from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
    from prefect.deployments.runner import RunnerDeployment
    from prefect.schedules import Cron
    from prefect.types.entrypoint import EntrypointType

    from flows.reindex import reindex

    _refuse_secrets(sets)
    try:
        schedule = Cron(cron, timezone=settings.schedule.timezone)
        return RunnerDeployment.from_flow(
            reindex,
            "reindex",
            schedule=schedule,
            parameters={**_settings_from(configs, sets), "create_store": create_store},
            concurrency_limit=ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW),
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
    except ValueError as error:
        raise _no_schedule(cron, str(error).splitlines()[-1].strip()) from error


def _evaluating(settings: Settings, configs: Sequence[str], sets: Sequence[str]) -> RunnerDeployment:
    from prefect.deployments.runner import RunnerDeployment
    from prefect.events import DeploymentEventTrigger
    from prefect.types.entrypoint import EntrypointType

    from flows.evaluate import evaluate
    from flows.reindex import PUBLISHED, resource

    trigger = DeploymentEventTrigger(
        name=f"{settings.corpus.name} went live",
        expect={PUBLISHED},
        match={"prefect.resource.id": resource(settings.corpus.name)},
    )
    return RunnerDeployment.from_flow(
        evaluate,
        "evaluate",
        triggers=[trigger],
        parameters=_settings_from(configs, sets),
        entrypoint_type=EntrypointType.MODULE_PATH,
    )


def _settings_from(configs: Sequence[str], sets: Sequence[str]) -> dict[str, object]:
    """Where a deployed run takes its settings from, wherever it runs."""
    return {"configs": [str(Path(path).resolve()) for path in configs], "sets": list(sets)}


def _refuse_secrets(sets: Sequence[str]) -> None:
    from flows.recorded import hidden

    problems = [
        Problem(f"--set {hidden(text)}", "holds a secret, and Prefect would store it", "set it in the environment")
        for text in sets
        if hidden(text) != text
    ]
    if problems:
        raise UsageError("a flag holds a secret", problems)


def _run(deployments: Sequence[RunnerDeployment]) -> None:
    """Prefect's runner, ended by the signals as every command of ours is."""
    import asyncio

    from prefect.runner import Runner

    runner = Runner(limit=1)
    for deployment in deployments:
        runner.add_deployment(deployment)
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # asyncio has its own way with that, and with no other
    try:
        asyncio.run(runner.start())
    except SystemExit:  # the runner's own answer to SIGTERM
        signal.signal(signal.SIGTERM, before)
        signal.raise_signal(signal.SIGTERM)
        raise


def _refuse_no_schedule(cron: str, timezone: str) -> None:
    if len(cron.split()) not in (5, 6) and not cron.startswith("@"):
        raise _no_schedule(cron, "has not five fields")
    try:
        zoneinfo.ZoneInfo(timezone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError) as error:
        what = f"{timezone!r} is no time zone"
        raise SettingsError(
            what, [Problem("schedule.timezone", what, "write UTC, or for example Europe/Zurich")]
        ) from error


def _no_schedule(cron: str, why: str) -> RaglineError:
    what = f"{cron!r} is no schedule: {why}"
    return SettingsError(what, [Problem("schedule.cron", what, 'write five fields, for example "15 3 * * *"')])
