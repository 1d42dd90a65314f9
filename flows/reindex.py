"""The flow `reindex`: the stages of rag/pipeline.py as Prefect tasks. See flows/recorded.py."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.schemas.objects import State
from prefect.events import emit_event
from prefect.runtime import deployment
from prefect.states import Completed, Failed

from flows.recorded import Handed, Stages, ended_badly, hidden, safe
from flows.show import usd
from rag import storage, wiring
from rag.counted import counted
from rag.errors import UsageError
from rag.pipeline import STAGES, Options, Outcome, Progress, Reindex
from rag.settings import Settings, load

if TYPE_CHECKING:
    from flows.server import Recording

PUBLISHED = "ragline.version.published"
"""The event of a version that went live; its resource is `ragline.index.NAME`, its payload says which version."""
COMMAND = "prefect deployment reindex"
NAMES = {0: "Published", 6: "NotPublished"}
ENDED = {
    "unchanged": "Unchanged",
    "no_publish": "Staged",
    "experiment": "Experiment",
    "batch_submitted": "Submitted",
    "batch_waiting": "Waiting",
}
IDS_SHOWN = 10
_WORKSPACE = re.compile(r"^tmp.*prefect$")
"""The folder that a process worker makes for a run, and removes."""


TOLD: Mapping[str, Callable[[Reindex, Any], str]] = {
    "look": lambda _, same: "nothing has changed" if same else "something may have changed",
    "read": lambda *_: "read",
    "plan": lambda _, made: (
        f"{counted(made.chunks, 'chunk')}, {counted(made.cached, 'text')} in the cache, {made.to_embed:,} to embed: {usd(made.usd)}"
    ),
    "embed": lambda _, count: f"{counted(count, 'text')} embedded",
    "build": lambda run, _: "built" if run.staged else "nothing to build",
    "publish": lambda _, outcome: outcome.message,
}
STAGED: Stages[Reindex, Outcome] = Stages(STAGES, TOLD)


@flow(name="reindex", persist_result=False, result_serializer="json", retries=0, validate_parameters=False)
def reindex(
    configs: list[str] | None = None,
    sets: list[str] | None = None,
    *,
    publish: bool = True,
    allow_removed: bool = False,
    rehash: bool = False,
    create_store: bool = False,
    plan: str | None = None,
    batch: bool = False,
    retry_refused: bool = False,
) -> State[None]:
    """Re-index the corpus that the settings name.

    configs: settings files, later wins; without one, the nearest ragline.toml. sets: `section.key=value`. Keys of
    providers come from the environment only. create_store: begin a new, empty store. plan: the file of a plan that is
    carried out, or nothing is. batch: through the provider's batches, which a later run picks up. retry_refused: send the
    texts again that the provider has refused before.
    """
    handed = STAGED.handed()
    try:
        if handed is None:
            settings = load([Path(path) for path in configs or []], os.environ, sets or [])
            _refuse_what_would_pay_again(settings, create_store=create_store)
            options = Options(
                command=COMMAND,
                publish=publish,
                allow_removed=allow_removed,
                rehash=rehash,
                retry_refused=retry_refused,
                plan_file=Path(plan) if plan else None,
                batch=batch,
            )
            handed = Handed(lambda: wiring.reindex(settings, options, lambda *_: None))
        outcome = STAGED.run(handed)
    except Exception as error:  # noqa: BLE001 - see the head of flows/recorded.py
        if handed:
            handed.error = error
        return ended_badly(error)
    _report(outcome)
    return _ended_well(outcome)


def run_recorded(
    settings: Settings,
    options: Options,
    progress: Progress,
    recording: Recording,
    configs: Sequence[str] = (),
    sets: Sequence[str] = (),
) -> Outcome:
    """The flow in this process, for `ragline index`: its outcome, or what its stages raised, as itself.

    Settings go by hand; what Prefect is told of them is where they come from. Raises RaglineError where Prefect fails.
    """
    return STAGED.recorded(
        Handed(lambda: wiring.reindex(settings, options, progress)),
        lambda: reindex(
            list(configs),
            [hidden(text) for text in sets],
            publish=options.publish,
            allow_removed=options.allow_removed,
            rehash=options.rehash,
            plan=str(options.plan_file) if options.plan_file else None,
            batch=options.batch,
            retry_refused=options.retry_refused,
            return_state=True,
        ),
        recording,
    )


def _ended_well(outcome: Outcome) -> State[None]:
    if outcome.exit_code:
        return Failed(name=NAMES[outcome.exit_code], message=outcome.message)
    return Completed(name=ENDED.get(outcome.reason, NAMES[0]), message=outcome.message)


def _report(outcome: Outcome) -> None:
    """Two artifacts, and an event when a version went live."""
    made = outcome.plan
    key = f"reindex-{made.index.replace('_', '-')}"
    changes = made.documents
    lists = [
        f"- {word}: {len(ids):,}" + (f" ({_listed(ids)})" if ids else "")
        for word, ids in (("added", changes.added), ("changed", changes.changed), ("removed", changes.removed))
    ]
    cost = "nothing" if not outcome.usage.requests or outcome.usage.usd == 0 else usd(outcome.usage.usd)
    saved = f", the cache saved {usd(made.saved_usd)}" if made.saved_usd else ""
    lines = [
        f"# Index {made.index}: {outcome.reason}",
        "",
        f"{safe(outcome.message)}. Live before: version {made.current_version or 'none'}. Run `{outcome.run_id}`, {outcome.seconds:.1f} s.",
        "",
        "## Documents",
        "",
        *lists,
        f"- unchanged: {changes.unchanged:,}",
        f"- left out: {counted(changes.excluded, 'source')}, {counted(outcome.excluded_chunks, 'chunk')}",
        "",
        "## Embedded",
        "",
        f"{outcome.embedded:,} of {counted(made.texts, 'text')}; cost: {cost}{saved}. Why: the table `{key}-causes`.",
    ]
    create_markdown_artifact("\n".join(lines), key=key, description=f"What the re-index of {made.index} did")
    create_table_artifact(
        [asdict(cause) for cause in made.causes], key=f"{key}-causes", description="Why texts were embedded"
    )
    if outcome.published:
        payload: Mapping[str, Any] = {
            "index": made.index,
            "version": outcome.version,
            "previous_version": made.current_version,
            "run_id": outcome.run_id,
        }
        what = {"prefect.resource.id": resource(made.index), "prefect.resource.name": made.index}
        emit_event(PUBLISHED, resource=what, payload=dict(payload))


def resource(index: str) -> str:
    """What the events of an index are about."""
    return f"ragline.index.{index}"


def _listed(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - IDS_SHOWN:,} more" if len(ids) > IDS_SHOWN else ""
    return ", ".join(f"`{safe(doc_id)}`" for doc_id in ids[:IDS_SHOWN]) + more


def _refuse_what_would_pay_again(settings: Settings, *, create_store: bool) -> None:
    """A deployed run with a store that is new, or gone by tomorrow, would pay for everything every night.

    Raises UsageError.
    """
    if not deployment.id:
        return
    store = settings.store.resolve()
    code = Path.cwd().resolve()
    roots = {code, Path(__file__).resolve().parents[1]}
    if _is_pulled(code) and any(store.is_relative_to(root) for root in roots):
        what = f"the store {store} lies in the code that Prefect pulled, and goes with it"
        raise UsageError.at("store", what, "name a folder that stays: RAGLINE_STORE=/path in the worker's environment")
    if not create_store and not storage.is_store(store):
        what = f"the store {store} is new and empty: everything would be embedded and paid for again"
        remedy = "check store and RAGLINE_STORE; for a first run set the parameter create_store, or run `ragline index`"
        raise UsageError.at("store", what, remedy)


def _is_pulled(code: Path) -> bool:
    """Whether the working directory was made for this one run: by its name, or because a pull step fetches it."""
    if any(_WORKSPACE.match(part) for part in code.parts):
        return True
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        steps = client.read_deployment(str(deployment.id)).pull_steps or []
    fetching = ("git_clone", "pull_from", "pull_with", "clone")
    return any(word in name for step in steps for name in step for word in fetching)
