"""The stages of a run as Prefect tasks, one a stage, in the same order: what both flows are made of.

Prefect only watches. It retries nothing and stores no result: our store is the memory, our one retry loop the retrier, and
our lock decides who runs. Tasks take the id of a run and give a state with a sentence; documents, vectors and answers stay
where they are. An exception never leaves a task or a flow: Prefect would write it to disk, with whatever it holds.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.show import note, plain
from rag.errors import Busy, InBatch, OverBudget, RaglineError, without_userinfo
from rag.providers.secrets import Key

if TYPE_CHECKING:
    from flows.server import Recording

NAMES: Mapping[type[RaglineError], str] = {Busy: "Skipped", OverBudget: "OverBudget", InBatch: "InBatch"}
_SECRET_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD)$")


class Numbered(Protocol):
    """A run with an id."""

    @property
    def run_id(self) -> str: ...


Run = TypeVar("Run", bound=Numbered)
Result = TypeVar("Result")


@dataclass(slots=True)
class Handed(Generic[Run, Result]):
    """What a command gives to a flow in its own process, what stands between its tasks, and what comes back."""

    open: Callable[[], AbstractContextManager[Run]]
    run: Run | None = None
    result: Result | None = None
    error: Exception | None = None
    tasks: int = 0


class Stages(Generic[Run, Result]):
    """The stages of one kind of run; the last gives the result.

    `told` says what the state of each stage says, of the run and of what the stage gave, by the stage's name.
    """

    def __init__(
        self, stages: Sequence[Callable[[Run], object]], told: Mapping[str, Callable[[Run, Any], str]]
    ) -> None:
        self._told = told
        self._last = stages[-1]
        self._handed: ContextVar[Handed[Run, Result] | None] = ContextVar("handed", default=None)
        self._under_way: dict[str, Handed[Run, Result]] = {}
        self._tasks = tuple(map(self._as_task, stages))

    def handed(self) -> Handed[Run, Result] | None:
        """What a command of this process handed to the flow; None in a deployed run."""
        return self._handed.get()

    def run(self, handed: Handed[Run, Result]) -> Result:
        """Every stage as a task. Raises what a stage raised."""
        with handed.open() as run:
            handed.run = run
            self._under_way[run.run_id] = handed
            try:
                for stage in self._tasks:
                    handed.tasks += 1
                    stage(run.run_id, return_state=True)
                    if handed.error:
                        raise handed.error
            finally:
                del self._under_way[run.run_id]
        assert handed.result is not None
        return handed.result

    def recorded(self, handed: Handed[Run, Result], flow: Callable[[], State[Any]], recording: Recording) -> Result:
        """The flow in this process: its result, or what its stages raised, as itself.

        What is handed goes by hand; Prefect is told where settings come from. Raises RaglineError where Prefect fails.
        """
        token = self._handed.set(handed)
        try:
            state = flow()
            if state.state_details.flow_run_id:
                recording.expected[str(state.state_details.flow_run_id)] = handed.tasks
        except Exception as error:
            if not handed.result and not handed.error:
                what = f"Prefect failed before the run began: {type(error).__name__}: {hidden(str(error))}"
                raise RaglineError.at("prefect", what, "check the server, or use --runner direct") from error
            note(f"warning: Prefect could not record how this run ended ({type(error).__name__})")
        finally:
            self._handed.reset(token)
        if handed.error:
            raise handed.error
        assert handed.result is not None
        return handed.result

    def _as_task(self, work: Callable[[Run], Any]) -> Task[[str], State[None]]:
        """A stage as a task: run id in, a state with a sentence out, its exception kept for the flow."""

        def run(run_id: str) -> State[None]:
            handed = self._under_way[run_id]
            assert handed.run is not None
            try:
                gave = work(handed.run)
                handed.result = gave if work is self._last else None
                return Completed(message=self._told[work.__name__](handed.run, gave))
            except Exception as error:  # noqa: BLE001 - the flow raises it again, inside the run's own frame
                handed.error = error
                return ended_badly(error)

        run.__doc__ = work.__doc__
        as_task = task(name=work.__name__, persist_result=False, cache_policy=NO_CACHE, result_serializer="json")
        return as_task(run)


def ended_badly(error: Exception) -> State[None]:
    """The state of an exception. A busy store is none of our failures: another run does the work.

    Of texts in a batch no other run takes care unless somebody asks for it: that is to be seen.
    """
    if not isinstance(error, RaglineError):
        return Failed(message=hidden(f"{type(error).__name__}: {error}"))
    lines = [error.message, *(f"{problem.where}: {problem.what} -> {problem.remedy}" for problem in error.problems)]
    message = hidden("\n".join(lines))
    name = NAMES.get(type(error))
    return Completed(name=name, message=message) if isinstance(error, Busy) else Failed(name=name, message=message)


def hidden(text: str) -> str:
    """The text without user names in addresses, and without what stands in variables named for a secret."""
    text = without_userinfo(text)
    for name, value in os.environ.items():
        if _SECRET_NAME.search(name.upper()):
            text = Key(value).hide(text)
    return text


def safe(text: str) -> str:
    """A document's own words cannot close the code span or draw a link."""
    return plain(text).replace("`", "'").replace("\n", " ").replace("<", "&lt;")
