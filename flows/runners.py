"""Who runs the stages: this process directly, or Prefect. Both call the same functions in the same order."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

from flows.show import note
from rag import wiring
from rag.errors import RaglineError
from rag.pipeline import Options, Outcome, Progress, reindex
from rag.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

Runner = Literal["auto", "prefect", "direct"]


def run_index(
    settings: Settings, options: Options, runner: Runner, progress: Progress, *, verbose: bool = False
) -> Outcome:
    """Re-index with the runner asked for. Raises what the stages raise, and RaglineError for a server out of reach."""
    if chosen(runner) == "prefect":
        from flows.server import prefect_ready

        with prefect_ready(verbose=verbose):
            from flows.reindex import run_recorded

            return run_recorded(settings, options, progress)
    with wiring.reindex(settings, options, progress) as run:
        return reindex(run)


def chosen(runner: Runner, reachable: Callable[[str], bool] | None = None) -> Literal["prefect", "direct"]:
    """`auto` is Prefect where a server is configured and answers; a configured one that does not is said.

    Raises RaglineError when `prefect` is asked for and the configured server does not answer.
    """
    url = os.environ.get("PREFECT_API_URL", "")
    if runner == "direct" or (runner == "auto" and not url):
        return "direct"
    if not url:
        return "prefect"
    if (reachable or _answers)(url):
        return "prefect"
    what = f"the Prefect server of PREFECT_API_URL ({url}) does not answer"
    if runner == "prefect":
        raise RaglineError.at(
            "PREFECT_API_URL", what, "start it (`make server`), unset the variable, or use --runner direct"
        )
    note(f"warning: {what}; running without it")
    return "direct"


def _answers(url: str) -> bool:
    import urllib.error
    import urllib.request

    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/health", timeout=5) as reply:  # noqa: S310 - the user's own setting
            return bool(reply.status == 200)
    except (OSError, ValueError):
        return False
