"""A run of questions from its data set to its folder: the stages in order, what both runners call.

with Evaluation(settings, dataset, options, progress) as run:
    print(evaluate(run).folder)
"""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from eval import results, runs, tables
from eval.about import AgreementInfo, DatasetInfo, IndexInfo, ModelInfo, PromptInfo, RunInfo, new_run_id, settings_json
from eval.answers import AnswerStore
from eval.calibrate import stored
from eval.datasets import select
from eval.datasets.resolve import resolve
from eval.fuse import Fused
from eval.judge import Judge
from eval.judging.prompts import load_prompts
from eval.measures import registry
from eval.measures.names import Measure
from eval.observe import Observing, observe
from eval.record import tables as record_tables
from eval.report.render import render
from eval.scoring import refuse, score
from eval.types import Dataset, Observed, Question, Scored, Status
from rag import wiring
from rag.embedding.account import Account
from rag.embedding.booked import BookedChat
from rag.errors import UsageError
from rag.generation.answer import GroundedGenerator
from rag.providers.prices import price
from rag.release import release
from rag.settings import Generation, Settings
from rag.settings import Judge as JudgeSettings
from rag.sync import close_sync, run_sync
from rag.wiring import Desk, World

COMMAND = "ragline eval"
ANSWERS = "answers.sqlite"
_LONGEST_NAME = 100
Progress = Callable[[str, int, int | None], None]
"""A stage, how much of it is done, of how much."""


@dataclass(frozen=True, slots=True)
class Options:
    """What is asked beside the settings."""

    version: int | str | None = None
    """A version by its number, an experiment by its name; None is the published one."""
    name: str = ""
    limit: int | None = None
    """At most so many questions, drawn with `evaluation.seed`."""
    where: Mapping[str, Sequence[str]] | None = None
    """{tag: values}: only questions with one of the values of every tag."""
    fresh: bool = False
    """Every reply is paid for anew."""
    command: tuple[str, ...] = (COMMAND,)


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A run that lies in the store."""

    folder: Path
    record: Mapping[str, Any]
    """All of run.json."""
    summary: Sequence[Mapping[str, Any]]
    """The rows of summary.parquet."""
    notes: tuple[str, ...]
    """What a reader of the figures has to know."""
    verdicts: int
    """What the judge was asked for."""
    verdicts_failed: int

    @property
    def run_id(self) -> str:
        return self.folder.name

    @property
    def invalid(self) -> bool:
        """Whether more answers, or more verdicts, failed than `evaluation.max_error_share` allows."""
        return bool(self.record["status"] == "invalid")

    def as_json(self) -> dict[str, Any]:
        """The fields of `ragline eval --json`."""
        index = self.record["index"]
        named = ("measure", "arm", "slice_tag", "slice_value", "n", "unscored", "errors", "mean", "low", "high")
        return {
            "run_id": self.run_id,
            "path": str(self.folder),
            "index": index["name"],
            "version": index["version"],
            "status": self.record["status"],
            "questions": self.record["counts"]["questions"],
            "errors": self.record["counts"]["errors"],
            "usage": self.record["usage"],
            "notes": list(self.notes),
            "summary": [{key: row[key] for key in named} for row in self.summary],
        }


def choose(settings: Settings, dataset: Dataset, options: Options) -> tuple[Dataset, tuple[Measure, ...]]:
    """The questions that are asked, and what they are scored with. Nothing is opened.

    Raises UsageError for unknown tags and measures, and for judged ones without a judge.
    """
    name = options.name
    if len(name) > _LONGEST_NAME or not name.isprintable() or name.startswith((" ", "@")):
        what = f"{name[:_LONGEST_NAME]!r} cannot be the name of a run"
        remedy = f"write at most {_LONGEST_NAME} characters that can be printed, and no blank or @ in front"
        raise UsageError.at("--name", what, remedy)
    asked, judge = settings.evaluation, settings.judge.model is not None
    chosen: Sequence[Question] = dataset.questions
    if options.where:
        chosen = select.where(chosen, options.where)
    if options.limit is not None:
        chosen = select.sample(chosen, options.limit, asked.seed)
    measures = registry.parse(asked.measures) if asked.measures else registry.defaults(chosen, judge=judge)
    refuse(measures, judge=judge, embed=True)
    return replace(dataset, questions=tuple(chosen)), measures


def refuse_unready(settings: Settings, measures: Sequence[Measure], world: World | None = None) -> None:
    """Raise what generator and judge would at their first question: KeyMissing, UnknownModel, SettingsError."""
    around = world or World.real()
    wiring.refuse_unready(settings.generation, settings, around)
    if _judged(measures):
        load_prompts(settings.judge.prompt)
        wiring.refuse_unready(settings.judge, settings, around)


def _judged(measures: Sequence[Measure]) -> bool:
    return any(registry.MEASURES[measure.name].family == "judged" for measure in measures)


class Evaluation:
    """One run. Nothing is paid for before all that was asked for is known to be right."""

    def __init__(
        self, settings: Settings, dataset: Dataset, options: Options, progress: Progress, world: World | None = None
    ) -> None:
        """Open the version, choose questions and measures, find the gold.

        Raises UsageError for unknown measures, tags and gold documents, StorageFailed; else as Desk does.
        """
        self.settings = settings
        self._options = options
        self._progress = progress
        self._world = world or World.real()
        self._begun = self._world.clock.utc()
        self.run_id = new_run_id(self._begun)
        self._dataset, self._measures = choose(settings, dataset, options)
        refuse_unready(settings, self._measures, self._world)
        results.run_ids(settings.store / results.RESULTS)  # what is no folder is said before anything is paid for
        self._desk = Desk(settings, options.version, self._world, command=COMMAND)
        try:
            self._answers = AnswerStore(settings.store / ANSWERS, self._world.clock)
            try:
                judged = _judged(self._measures)
                self._judge = made_judge(settings, self._answers, self._world, fresh=options.fresh) if judged else None
                self._resolved = resolve(self._dataset, self._texts)
            except BaseException:
                self._answers.close()
                raise
        except BaseException:
            self._desk.close()
            raise
        self._observed: list[Observed] = []
        self._scored: Scored | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the figures has to know."""
        return (*self._dataset.notes, *self._resolved.notes, *self._desk.notes, *dict.fromkeys(self._answers.notes))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._answers.close()
        close_sync(self._judge)
        self._desk.__exit__(kind, *error)

    def observe(self) -> int:
        """Retrieve for and answer every question; gives how many observations there are."""
        asked = self.settings.evaluation
        deep = registry.depth(self._measures, asked.search_depth)
        plan = Observing(
            arms=asked.arms,
            repeats=asked.repeats,
            documents=deep.documents,
            search_depth=max(asked.search_depth, deep.chunks),
            k=self.settings.retrieval.k,
            concurrency=self.settings.generation.concurrency,
            fresh=self._options.fresh,
        )
        self._observed = run_sync(
            observe(
                self._desk,
                self._resolved.questions,
                self._resolved.failures,
                plan,
                self._answers,
                lambda done, of: self._progress("answer", done, of),
            )
        )
        return len(self._observed)

    def score(self) -> int:
        """Score every observation; gives how many scores there are."""
        self._progress("score", 0, None)
        with accounted(self._judge):
            scored = run_sync(
                score(
                    self._observed,
                    self._measures,
                    self._judge,
                    self._desk.embed,
                    lambda done, of: self._progress("judge", done, of),
                    self.settings.judge.concurrency,
                )
            )
        self._scored = scored
        return len(scored.observed) * len(scored.measures)

    def save(self) -> Evaluated:
        """Write the run's folder."""
        assert self._scored is not None
        self._progress("write", 0, None)
        folder = results.save(self.settings.store, self._scored, self._info(self._world.clock.utc()), render)
        record = runs.opened(folder).record
        lines = record_tables(record)
        summary = tables.read(folder, lines["summary"]).to_pylist()
        return Evaluated(folder, record, summary, self.notes, *self._verdicts())

    def _texts(self, doc_ids: Any) -> Mapping[str, str]:
        return {doc_id: row["text"] for doc_id, row in self._desk.opened.documents.get(doc_ids, ("text",)).items()}

    def _verdicts(self) -> tuple[int, int]:
        """How many verdicts the judge was asked for, and how many of them failed."""
        if self._judge is None or self._scored is None:
            return 0, 0
        found = [each.status for row in self._scored.scores for each in row if each.scored_by == self._judge.name]
        return len(found), found.count(Status.ERROR)

    def _info(self, finished: datetime) -> RunInfo:
        settings, asked, opened = self.settings, self.settings.evaluation, self._desk.opened
        manifest = opened.manifest
        failed = sum(each.answer is None for each in self._observed)
        verdicts, verdicts_failed = self._verdicts()
        invalid = failed > asked.max_error_share * len(self._observed)
        invalid = invalid or verdicts_failed > asked.max_error_share * verdicts
        commit, dirty = code_state()
        made = [(model, section) for model, section in self._chats() if model is not None]
        prices = wiring.prices(settings)
        known = {model: price(model, section.base_url, prices) for model, section in made}
        return RunInfo(
            run_id=self.run_id,
            name=self._options.name,
            status="invalid" if invalid else "complete",
            created_at=self._begun,
            finished_at=finished,
            ragline_version=release(),
            command=self._options.command,
            commit=commit,
            dirty=dirty,
            index=IndexInfo(
                name=settings.corpus.name,
                version=opened.number or str(self._options.version),
                content_sha256=manifest.content_digest,
                published=opened.number in {each.version for each in wiring.versions(settings).state().published},
                documents=manifest.counts["documents"],
                chunks=manifest.counts["chunks"],
                embedding_model=manifest.embedding.name,
                dimensions=manifest.dimensions,
            ),
            dataset=DatasetInfo(
                path=str(self._dataset.path),
                format=self._dataset.format,
                sha256=self._dataset.sha256,
                questions=len(self._dataset.questions),
                answerable=sum(each.answerable for each in self._dataset.questions),
                limit=self._options.limit,
                where=self._options.where,
            ),
            settings=settings_json(settings),
            arms=asked.arms,
            repeats=asked.repeats,
            search_depth=asked.search_depth,
            seed=asked.seed,
            models=(
                ModelInfo("embedding", manifest.embedding.name, manifest.embedding.base_url or None),
                ModelInfo("generation", self._desk.generator.name, settings.generation.base_url),
                *([ModelInfo("judge", self._judge.name, settings.judge.base_url)] if self._judge else ()),
            ),
            prompts=self._prompts(),
            priced_on=max((each.as_of or "settings" for each in known.values() if each), default=None),
            unpriced=tuple(sorted(model for model, each in known.items() if each is None)),
            agreement=self._agreement(),
        )

    def _agreement(self) -> tuple[AgreementInfo, ...]:
        calibration = stored(self.settings.store, self._judge) if self._judge else None
        found = calibration.of() if calibration else None
        if calibration is None or found is None:
            return ()
        assert self._judge is not None
        return (
            AgreementInfo(
                self._judge.name,
                calibration.dataset,
                found.n,
                found.agreement,
                found.kappa,
                found.low,
                found.high,
            ),
        )

    def _chats(self) -> list[tuple[str | None, Generation | JudgeSettings]]:
        """The models that cost something."""
        used: list[tuple[str | None, Generation | JudgeSettings]] = []
        if isinstance(self._desk.generator, GroundedGenerator):
            used.append((self.settings.generation.model, self.settings.generation))
        if self._judge:
            used.append((self.settings.judge.model, self.settings.judge))
        return used

    def _prompts(self) -> tuple[PromptInfo, ...]:
        generator = self._desk.generator
        found = []
        if isinstance(generator, GroundedGenerator):
            prompt = generator.prompt
            found.append(PromptInfo("answer", prompt.label, prompt.version, prompt.sha256))
        if self._judge:
            found += [
                PromptInfo(f"judge {name}", prompt.label, prompt.version, prompt.sha256)
                for name, prompt in self._judge.prompts.items()
            ]
        return tuple(found)


STAGES: tuple[Callable[[Evaluation], object], ...] = (Evaluation.observe, Evaluation.score, Evaluation.save)


def evaluate(run: Evaluation) -> Evaluated:
    """All stages in order. Raises what they raise; whatever was paid for is kept."""
    for stage in STAGES:
        gave = stage(run)
    assert isinstance(gave, Evaluated)
    return gave


def made_judge(settings: Settings, store: AnswerStore, world: World, *, fresh: bool = False) -> Judge:
    """The judge of [judge]. Nothing is sent. Raises SettingsError, UnknownModel."""
    asked = settings.judge
    chat = wiring.chat_model(asked, settings, world)
    account = Account(settings.store, world.clock, COMMAND, chat.name, strict=False)
    judge = Judge(
        Fused(BookedChat(chat, account)),
        load_prompts(asked.prompt),
        store,
        base_url=wiring.chat_address(asked),
        max_tokens=asked.max_tokens,
        fresh=fresh,
    )
    judge.account = account
    return judge


@contextlib.contextmanager
def judging(settings: Settings, *, fresh: bool = False) -> Iterator[Judge | None]:
    """The judge of [judge] over the store's replies, None without one. Raises SettingsError, UnknownModel."""
    if settings.judge.model is None:
        yield None
        return
    world = World.real()
    with AnswerStore(settings.store / ANSWERS, world.clock) as store:
        judge = made_judge(settings, store, world, fresh=fresh)
        try:
            yield judge
        finally:
            close_sync(judge)


@contextlib.contextmanager
def accounted(judge: Judge | None) -> Iterator[None]:
    """A line in the ledger for what the judge is paid in here, whatever ends it; as with a desk, a full disk does no harm."""
    outcome = "failed"
    try:
        yield
        outcome = "done"
    finally:
        if judge is not None and judge.account is not None:
            judge.account.close(outcome)


def code_state() -> tuple[str | None, bool | None]:
    """The commit of this code, and whether it differs from it; None where it is no git checkout."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None, None
    found = []
    for command in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no")):
        try:
            done = subprocess.run(["git", "-C", root, *command], capture_output=True, check=True, timeout=20)  # noqa: S607 - as PATH has it
        except (OSError, subprocess.SubprocessError):
            return None, None
        found.append(done.stdout.decode().strip())
    return (found[0] if re.fullmatch(r"[0-9a-f]{40,64}", found[0]) else None), bool(found[1])
