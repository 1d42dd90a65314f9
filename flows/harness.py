"""The commands of the harness, one function a command: questions are asked, runs are shown. What is decided is decided in `eval`."""

from __future__ import annotations

import re
from argparse import Namespace
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows import show
from flows.commands import Result, filters, listed, recorded_as, settings_of, show_outcome
from flows.show import note, say
from rag.counted import counted
from rag.errors import Problem, UsageError
from rag.settings import Corpus, Settings

if TYPE_CHECKING:
    from eval.types import Dataset

THRESHOLD_MISSED = 10
CAUSES_SHOWN = 5
FAILURES_SHOWN = 3


def evaluate(arguments: Namespace) -> Result:
    from eval import threshold
    from eval.datasets.read import read
    from eval.run import Options, choose, refuse_unready
    from flows.runners import run_eval, run_index, together
    from rag import pipeline

    settings = settings_of(arguments)
    _refuse_contradictions(arguments)
    if arguments.calibrate:
        return _calibrate(arguments, settings)
    wanted = threshold.parse(arguments.fail_under)
    path = Path(arguments.dataset) if arguments.dataset else settings.evaluation.dataset
    if path is None:
        raise UsageError.at("DATASET", "no question set is named", "name a file, or set [evaluation] dataset")
    dataset = read(path, arguments.qrels)  # its mistakes are told before any work is done
    options = Options(
        version=arguments.number,
        name=arguments.name,
        limit=arguments.limit,
        where=filters(arguments.where),
        fresh=arguments.fresh,
        command=("ragline", *arguments.given),
    )
    _, measures = choose(settings, dataset, options)
    threshold.refuse_unmeasured(wanted, measures)
    refuse_unready(settings, measures)
    if arguments.corpus_from_dataset:
        settings = _own_corpus(settings, dataset)
    if not arguments.json:
        note(f"{near(dataset.path)}: {counted(len(dataset.questions), 'question')}, read as {dataset.format}")
        show.each(dataset.notes, note, note)
    quiet, verbose = arguments.json, arguments.verbose
    with together(arguments.runner, verbose=verbose) as runner, show.progress(quiet=quiet) as progress:
        if options.version is None:
            publishes = arguments.reindex and not arguments.corpus_from_dataset
            made = pipeline.Options(command="ragline eval", purpose="index" if publishes else "experiment")
            outcome = run_index(settings, made, runner, progress, **recorded_as(arguments))
            made_of = outcome.version if outcome.version is not None else outcome.experiment
            options = replace(options, version=made_of)
            if not arguments.json:
                show_outcome(outcome)
        result = run_eval(settings, dataset, options, runner, progress, **recorded_as(arguments))
    missed = threshold.failed(wanted, result.summary)
    if not arguments.json:
        say()
        show_run(result.record, result.summary, result.folder)
        show.each([each for each in result.notes if each not in dataset.notes], note, note)
    for sentence in missed:
        note(sentence)
    content = {**result.as_json(), "missed": missed}
    if not result.invalid:
        return Result(content, THRESHOLD_MISSED if missed else 0)
    counts = result.record["counts"]
    verdicts = f" and {result.verdicts_failed:,} of {result.verdicts:,} verdicts" if result.verdicts_failed else ""
    invalid = (
        f"the run is invalid: {counts['errors']:,} of {counts['rows']:,} answers{verdicts} failed, more than "
        f"evaluation.max_error_share = {settings.evaluation.max_error_share:g}; it is kept as {result.run_id}"
    )
    note(invalid)
    remedy = "mend what failed, then run the same command again: what was answered is kept"
    problems = [
        {"where": what, "what": f"{message} ({count:,} times)", "remedy": remedy}
        for (what, message), count in _failures(result.folder)
    ]
    error = {"type": "Invalid", "message": invalid, "problems": problems}
    return Result({**content, "error": error}, 1)


def _refuse_contradictions(arguments: Namespace) -> None:
    """Raise UsageError for flags that another one would leave without effect."""
    problems = [
        Problem(f"{flag} {other}", f"{other} has no effect beside {flag}: {why}", f"leave out {flag} or {other}")
        for flag, other, why in (
            ("--corpus-from-dataset", "--reindex", "what comes with a set is never published"),
            ("--corpus-from-dataset", "--index", "the set names its own index"),
            ("--version", "--reindex", "a version that is there is asked as it is"),
        )
        if _given(arguments, flag) and _given(arguments, other)
    ]
    if problems:
        raise UsageError(problems[0].what, problems)


def _given(arguments: Namespace, flag: str) -> bool:
    name = {"--version": "number"}.get(flag, flag.removeprefix("--").replace("-", "_"))
    return getattr(arguments, name) not in (None, False)


def _own_corpus(settings: Settings, dataset: Dataset) -> Settings:
    """Settings whose corpus is what the data set brings along, under an index name of its own."""
    from eval.datasets.corpus import corpus_sha256, write_corpus
    from rag import storage

    stem = re.sub(r"[^a-z0-9]+", "-", dataset.path.name.split(".")[0].lower()).strip("-") or "dataset"
    folder = settings.store / "datasets" / f"{stem[:40]}-{corpus_sha256(dataset)[:8]}"
    path = folder / "corpus.jsonl"
    if not path.exists():
        storage.make_folder(folder)
        write_corpus(dataset, path)
    corpus = Corpus(
        name=folder.name,
        paths=(path,),
        id_column=("id",),
        text_column=("text",),
        title_column=("title",),
        max_failed_share=settings.corpus.max_failed_share,
    )
    return settings.model_copy(update={"corpus": corpus})


def _calibrate(arguments: Namespace, settings: Settings) -> Result:
    from eval import calibrate
    from eval.run import accounted, judging
    from rag.sync import run_sync

    with (
        judging(settings, fresh=arguments.fresh) as judge,
        show.progress(quiet=arguments.json) as progress,
        accounted(judge),
    ):
        found = run_sync(
            calibrate.calibrate(
                Path(arguments.calibrate),
                judge,
                arguments.limit,
                settings.evaluation.seed,
                progress=lambda done, of: progress("judge", done, of),
            )
        )
    kept = calibrate.keep(settings.store, found)
    if not arguments.json:
        rows = found.rows()
        header = ["rater", "system", "n", "unscored", "agreement", "kappa", "low", "high", "said right"]
        keys = ["rater", "system", "n", "unscored", "agreement", "kappa", "low", "high", "said_right"]
        show.table([[_figure(row[key]) for key in keys] for row in rows], header)
        say()
        say(f"{counted(found.answers, 'answer')} of {found.dataset}, read as {found.format}")
        if judge is None:
            note("no judge is named: set judge.model to see its agreement with people too")
    return Result({**found.as_json(), "kept": str(kept) if kept else None})


def runs(arguments: Namespace) -> Result:
    from eval import runs as stored

    found = stored.listed(settings_of(arguments).store)
    rows = [_listed(run.record) for run in reversed(found.runs)]
    if not arguments.json:
        if rows:
            show.table(
                [
                    [
                        *(each[key] for key in ("run_id", "name", "index", "version")),
                        near(each["dataset"]),
                        *(each[key] for key in ("questions", "errors", "status")),
                    ]
                    for each in rows
                ],
                ["run", "name", "index", "version", "data set", "questions", "errors", "status"],
            )
        else:
            say("there is no run yet: run `ragline eval`")
        for problem in (*found.damaged, *found.newer):
            note(f"{problem.what} -> {problem.remedy}")
    unreadable = [problem.what for problem in (*found.damaged, *found.newer)]
    return Result({"runs": rows, "unreadable": unreadable}, 5 if found.damaged else 0)


def show_question(arguments: Namespace) -> Result:
    from eval.runs import find, one, opened

    folder = find(settings_of(arguments).store, arguments.run)
    if arguments.question is None:
        record, summary = opened(folder).record, _summary(folder)
        if not arguments.json:
            show_run(record, summary, folder)
        return Result({"path": str(folder), "run": record, "summary": summary})
    found = one(folder, arguments.question)
    if not arguments.json:
        for observation in found["observations"]:
            _show_observation(observation)
    return Result(found)


def report(arguments: Namespace) -> Result:
    from eval.report.render import render
    from eval.runs import find
    from rag import storage

    folder = find(settings_of(arguments).store, arguments.run)
    path = _output(arguments.output) if arguments.output else folder / "report.html"
    if arguments.output or not path.exists():
        storage.write(path, render(folder).encode())
    if not arguments.json:
        say(str(path))
    return Result({"run_id": folder.name, "path": str(path)})


def _output(text: str) -> Path:
    """The file that is meant, links followed. Raises UsageError for what is none: a rename would put a file in its place."""
    path = Path(text)
    if path.exists() and not path.is_file():
        raise UsageError.at("--output", f"{text} is no file", "name a file, such as report.html")
    return path.resolve() if path.is_symlink() else path


def export(arguments: Namespace) -> Result:
    from eval.runs import export as copied

    paths = copied(settings_of(arguments).store, Path(arguments.folder), arguments.runs)
    if not arguments.json:
        say(f"{counted(len(paths), 'run')} in {arguments.folder}; try: cd {arguments.folder}; duckdb -init views.sql")
    return Result({"folder": arguments.folder, "runs": [path.name for path in paths]})


def score(arguments: Namespace) -> Result:
    from eval.measures.registry import RANKING
    from eval.score import score_files

    found = score_files(Path(arguments.qrels), Path(arguments.run), listed(arguments.measures or "") or RANKING)
    if not arguments.json:
        rows = [[str(measure), f"{mean:.4f}"] for measure, mean in zip(found.measures, found.means, strict=True)]
        if arguments.per_query:
            by_query = [
                [query, *(f"{value:.4f}" for value in row)]
                for query, row in zip(found.queries, found.values.tolist(), strict=True)
            ]
            show.table([*by_query, ["all", *(cell for _, cell in rows)]], ["query", *map(str, found.measures)])
        else:
            show.table(rows, ["measure", "mean"])
        say()
        say(f"{counted(len(found.queries), 'judged query', 'judged queries')}")
        for sentence in found.notes():
            note(sentence)
    return Result(found.as_json(per_query=arguments.per_query))


def dataset(arguments: Namespace) -> Result:
    from eval.datasets.convert import write
    from eval.datasets.describe import describe
    from eval.datasets.read import read

    found = read(Path(arguments.dataset), arguments.qrels)
    if arguments.action == "convert":
        if arguments.output is None:
            raise UsageError.at("OUTPUT", "no file to write is named", "name one ending with .jsonl or .parquet")
        write(found, Path(arguments.output))
        if not arguments.json:
            say(f"{counted(len(found.questions), 'question')} of {found.path} ({found.format}) in {arguments.output}")
        return Result({"format": found.format, "questions": len(found.questions), "path": arguments.output})
    content = describe(found)
    if not arguments.json:
        for key, value in content.items():
            if isinstance(value, Mapping):
                inner = (f"{name}: {_brief(each)}" for name, each in value.items())
                say(f"{key.replace('_', ' ')}:" + ("" if value else " none"))
                for text in inner:
                    say(f"  {text}")
            elif isinstance(value, list):
                for text in value:
                    say(f"{key}: {text}")
            else:
                say(f"{key.replace('_', ' ')}: {value}")
    return Result(content)


def show_run(record: Mapping[str, Any], summary: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """The table of a run, and what stands behind it."""
    arms = record["arms"]
    whole = [row for row in summary if (row["slice_tag"], row["slice_value"]) == ("all", "all")]
    rows = [
        [
            *([row["arm"]] if len(arms) > 1 else []),
            row["measure"],
            _figure(row["mean"]),
            f"{row['low']:.3f} to {row['high']:.3f}" if row["low"] is not None else None,
            f"{row['n']:,}",
            _remark(row),
        ]
        for row in whole
        if row["n"] or row["unscored"] or row["errors"]  # the others do not apply to their arm
    ]
    show.table(rows, [*(["arm"] if len(arms) > 1 else []), "measure", "mean", "95 % interval", "n", ""])
    counts, usage, index = record["counts"], record["usage"], record["index"]
    generation = next((model["id"] for model in record["models"] if model["role"] == "generation"), "?")
    say()
    for arm in arms:
        if not any(row["n"] for row in whole if row["arm"] == arm):
            why = ": no question names the passages that answer it" if arm == "oracle" else ""
            say(f"{arm}: nothing can be measured{why}")
    times = record["repeats"]
    ways = f"in {len(arms)} arms, " if len(arms) > 1 else ""
    say(
        f"{counted(counts['questions'], 'question')} of {near(record['dataset']['path'])} to {index['name']} {index['version']} "
        f"({index['embedding_model']}, {record['settings']['retrieval']['mode']}), "
        f"{ways}{f'each {times} times, ' if times > 1 else ''}answered by {generation}: "
        f"{counts['ok']:,} answered, {counts['abstained']:,} abstained, {counts['errors']:,} failed"
    )
    if usage["requests"] or usage["usd_saved"]:
        spent = f"{counted(usage['requests'], 'request')}, {usage['input_tokens']:,} tokens in, {usage['output_tokens']:,} out"
        say(f"{spent}, {show.usd(usage['usd'])}; replies that were there saved {show.usd(usage['usd_saved'])}")
    for each in record["agreement"]:
        say(
            f"{each['judge']} agreed with people on {each['n']:,} answers of {each['dataset']}: kappa {_figure(each['kappa'])}"
        )
    for (what, message), count in _failures(folder):
        say(f"{counted(count, what)} failed: {message}")
    if causes := _causes(folder):
        of = f" of {arms[0]}" if len(arms) > 1 else ""
        say(f"not right{of}: {', '.join(f'{count:,} {cause}' for cause, count in causes)}")
    say(f"run {record['run_id']}: {near(folder / 'report.html')}")


def near(path: Path | str) -> str:
    """A path as somebody would type it here."""
    found = Path(path)
    return str(found.relative_to(Path.cwd()) if found.is_relative_to(Path.cwd()) else found)


def _summary(folder: Path) -> list[dict[str, Any]]:
    from eval import record, tables

    lines = record.tables(record.read(folder))
    rows: list[dict[str, Any]] = tables.read(folder, lines["summary"]).to_pylist()
    return rows


def _causes(folder: Path) -> list[tuple[str, int]]:
    """Why answers were wrong, and how often, in the arm asked for first; the most frequent first."""
    record, rows = _columns(folder, "questions", "arm", "cause")
    found = Counter(row["cause"] for row in rows if row["cause"] and row["arm"] == record["arms"][0])
    return found.most_common(CAUSES_SHOWN)


def _failures(folder: Path) -> list[tuple[tuple[str, str], int]]:
    """The commonest errors, each with what failed (an answer, a verdict) and how often."""
    _, answers = _columns(folder, "questions", "error_message")
    _, scores = _columns(folder, "scores", "status", "scored_by", "reason")
    found = Counter(("answer", row["error_message"]) for row in answers if row["error_message"])
    found.update(
        ("verdict", row["reason"]) for row in scores if row["status"] == "error" and row["scored_by"] != "ragline"
    )
    return found.most_common(FAILURES_SHOWN)


def _columns(folder: Path, table: str, *names: str) -> tuple[Mapping[str, Any], list[dict[str, Any]]]:
    """run.json, and columns of a table."""
    from eval import record, tables

    values = record.read(folder)
    return values, tables.read(folder, record.tables(values)[table]).select(names).to_pylist()


def _remark(row: Mapping[str, Any]) -> str:
    """What must be known of a mean."""
    said = [
        *([f"{row['unscored']:,} unscored"] if row["unscored"] else []),
        *([f"{row['errors']:,} failed: {_figure(row['mean_errors_zero'])} with them as 0"] if row["errors"] else []),
        *(["few clusters"] if not row["enough"] else []),
        *(["lower is better"] if not row["higher_is_better"] else []),
    ]
    return "; ".join(said)


def _show_observation(observation: Mapping[str, Any]) -> None:
    row = observation["row"]
    say(f"{row['question_id']} ({row['arm']}, repeat {row['repeat']}): {row['question']}")
    say(f"status: {row['status']}" + (f", {row['cause']}" if row["cause"] else ""))
    if row["error_message"]:
        say(f"error: {row['error_type']}: {row['error_message']}")
    if row["answer"] is not None:
        say(f"answer: {row['answer']}")
    say(f"expected: {row['expected_json']}")
    say()
    scores = [
        [each["measure"], _figure(each["value"]), each["status"], each["reason"]] for each in observation["scores"]
    ]
    show.table(scores, ["measure", "value", "status", "reason"])
    say()
    passages, rest = show.few(observation["retrieved"])
    shown = [
        [
            each["rank"],
            f"{each['score']:.3f}",
            each["grade"],
            each["gold_chars"],
            "yes" if each["cited"] else "",
            each["chunk_id"],
            each["text"][:60],
        ]
        for each in passages
    ]
    show.table(shown, ["rank", "score", "grade", "gold", "cited", "chunk", "text"])
    if rest:
        say(rest)
    if row["prompt"]:
        say()
        show.put(show.plain(row["prompt"]) + "\n")
    say()


def _listed(record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "run_id": record["run_id"],
        "name": record["name"],
        "index": record["index"]["name"],
        "version": record["index"]["version"],
        "dataset": record["dataset"]["path"],
        "questions": record["counts"]["questions"],
        "errors": record["counts"]["errors"],
        "status": record["status"],
        "created_at": record["created_at"],
    }


def _figure(value: Any) -> str | None:
    return f"{value:.3f}" if isinstance(value, float) else None if value is None else str(value)


def _brief(value: Any) -> str:
    if not isinstance(value, Mapping):
        return "yes" if value is True else "no" if value is False else str(value)
    shown, rest = show.few([f"{name} ({count:,})" for name, count in value.items()])
    return ", ".join([*shown, *([rest] if rest else [])])


COMMANDS = {
    "eval": evaluate,
    "runs": runs,
    "show": show_question,
    "report": report,
    "export": export,
    "score": score,
    "dataset": dataset,
}
