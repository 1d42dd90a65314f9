"""Who runs the stages: this process directly, or Prefect. Both call the same functions in the same order."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

from flows.show import note
from rag import wiring
from rag.errors import RaglineError
from rag.pipeline import Options, Outcome, Progress, reindex
from rag.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from eval.run import Evaluated
    from eval.run import Options as EvalOptions
    from eval.types import Dataset

Runner = Literal["auto", "prefect", "direct"]


def run_index(
    settings: Settings,
    options: Options,
    runner: Runner,
    progress: Progress,
    *,
    configs: Sequence[str] = (),
    sets: Sequence[str] = (),
    verbose: bool = False,
) -> Outcome:
    """Re-index with the runner asked for; `configs` and `sets` are where the settings came from, for Prefect's record.

    Raises what the stages raise, and RaglineError for a server out of reach.
    """
    if chosen(runner) == "prefect":
        from flows.server import prefect_ready

        with prefect_ready(verbose=verbose) as recording:
            from flows.reindex import run_recorded

            return run_recorded(settings, options, progress, recording, configs, sets)
    with wiring.reindex(settings, options, progress) as run:
        return reindex(run)


def run_eval(
    settings: Settings,
    dataset: Dataset,
    options: EvalOptions,
    runner: Runner,
    progress: Progress,
    *,
    configs: Sequence[str] = (),
    sets: Sequence[str] = (),
    verbose: bool = False,
) -> Evaluated:
    """Ask and score a question set with the runner asked for. Raises as `run_index`."""
    from eval.run import Evaluation, evaluate

    if chosen(runner) == "prefect":
        from flows.server import prefect_ready

        with prefect_ready(verbose=verbose) as recording:
            from flows.evaluate import run_recorded

            return run_recorded(settings, dataset, options, progress, recording, configs, sets)
    with Evaluation(settings, dataset, options, progress) as run:
        return evaluate(run)


@contextlib.contextmanager
def together(runner: Runner, *, verbose: bool = False) -> Iterator[Runner]:
    """Several flows with one start of Prefect: the runner that was chosen for all of them."""
    runner = chosen(runner)
    if runner == "direct":
        yield runner
        return
    from flows.server import prefect_ready

    with prefect_ready(verbose=verbose):
        yield runner


def chosen(runner: Runner, reachable: Callable[[str], bool] | None = None) -> Literal["prefect", "direct"]:
    """`auto` is Prefect where a server is configured and answers; a configured one that does not is said.

    Raises RaglineError when `prefect` is asked for and the configured server does not answer.
    """
    if runner == "direct":
        return "direct"
    from flows.server import configured

    url = configured()
    if not url and runner == "auto":
        note("no Prefect server is configured: running without one (--runner prefect records the run)")
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
    except urllib.error.HTTPError as error:
        return error.code in (401, 403)  # it is there, and wants a key, which Prefect will send
    except (OSError, ValueError):
        return False
