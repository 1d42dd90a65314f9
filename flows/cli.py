"""The `ragline` command: parses, calls one function of `flows.commands`, prints, ends with a documented exit code.

Nothing heavy is imported before the arguments are known to be right: `--help` and mistakes answer at once.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from flows.show import OutputFailed, as_typed, drop_output, few, note, put

SCHEMA_VERSION = 1
EXIT_CODES = """exit codes:
  0 done, or nothing to do          4 over budget                     10 a gate or threshold failed
  1 failed                          5 damaged: see `verify`           11 (for a later release)
  2 usage, settings, corpus, key    6 built, but not published        20 changes wait (plan --detailed-exitcode)
  3 busy: a run or a batch has it                                     130, 143 stopped by a signal"""


SAME_SECONDS = 0.3
"""Signals so near to each other are one."""
_stopping: list[float] = []
"""When the first signal came."""


class Stopped(BaseException):
    """SIGTERM arrived, or the terminal is gone."""


class Mistake(Exception):
    """Arguments that are none; `parser` is the one that met them."""

    def __init__(self, parser: Parser, message: str) -> None:
        super().__init__(message)
        self.parser = parser


class Parser(argparse.ArgumentParser):
    """Leaves the telling of a mistake to `main`, which knows the arguments."""

    def error(self, message: str) -> NoReturn:
        raise Mistake(self, message)

    def words(self) -> list[str]:
        """Every flag and choice of this parser."""
        return [word for action in self._actions for word in (*action.option_strings, *map(str, action.choices or []))]

    def words_below(self) -> list[str]:
        """Those of its commands."""
        parsers = [
            made for action in self._actions if isinstance(action.choices, dict) for made in action.choices.values()
        ]
        return [word for made in parsers for word in made.words()]


def _everywhere(made: Parser, *, before: bool) -> None:
    """The flags of every command, which stand before it or behind it.

    argparse lets what is behind the command overwrite what stood before it, defaults included: so there are no defaults
    behind it, and lists are kept apart until `_parsed` joins them.
    """
    group = made.add_argument_group("everywhere, before the command or behind it")
    mark = "_before" if before else ""
    absent: dict[str, Any] = {} if before else {"default": argparse.SUPPRESS}
    group.add_argument("--json", action="store_true", help="one JSON object on stdout, nothing else", **absent)
    for flag, dest, metavar, text in (
        ("--config", "config", "FILE", "settings file; repeatable, later wins"),
        ("--set", "sets", "section.key=value", "repeatable"),
    ):
        group.add_argument(flag, action="append", default=[], metavar=metavar, dest=dest + mark, help=text)
    group.add_argument("--store", metavar="FOLDER", help="where versions and vectors lie", **absent)
    group.add_argument("--index", metavar="NAME", help="which index of the store (default: corpus.name)", **absent)
    group.add_argument("-v", "--verbose", action="store_true", help="tracebacks, and Prefect's own log", **absent)


def _parsed(given: Sequence[str]) -> argparse.Namespace:
    """The arguments of a command line. Raises Mistake, and SystemExit for `--help`."""
    arguments = parser().parse_args(given)
    arguments.given = list(given)
    for name in ("config", "sets"):
        setattr(arguments, name, getattr(arguments, f"{name}_before") + getattr(arguments, name, []))
    return arguments


def parser() -> Parser:
    """Every command with its flags and an example."""
    common = Parser(add_help=False)
    _everywhere(common, before=False)
    top = Parser(
        prog="ragline",
        description="Re-index a corpus on a schedule without paying twice, and know whether the RAG got better.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="store_true", help="print the version and stop")
    _everywhere(top, before=True)
    commands = top.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)

    def add(name: str, text: str, example: str) -> Parser:
        made: Parser = commands.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog=f"example:\n  {example}",
            parents=[common],
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        return made

    def runner(made: Parser) -> None:
        made.add_argument(
            "--runner",
            choices=["auto", "prefect", "direct"],
            default="auto",
            help="who runs the stages (default: auto)",
        )

    def spending(made: Parser) -> None:
        made.add_argument("--max-usd", type=float, metavar="USD", help="stop before this run costs more")
        made.add_argument("--max-tokens", type=int, metavar="N", help="stop before this run sends more tokens")
        made.add_argument("--rehash", action="store_true", help="read every file, whatever its stat says")

    def waiting(made: Parser) -> None:
        made.add_argument(
            "--wait", type=_not_negative, default=0.0, metavar="SECONDS", help="wait for another run to end"
        )

    plan = add(
        "plan", "what would be embedded, what it costs and why; sends nothing", "ragline plan --detailed-exitcode"
    )
    plan.add_argument("--detailed-exitcode", action="store_true", help="20 when changes wait, 0 when none do")
    plan.add_argument("--out", type=_filled, metavar="FILE", help="keep the plan, for `ragline index --plan FILE`")
    plan.add_argument("--batch", action="store_true", help="at the price of batches: see `ragline index --help`")
    spending(plan)

    index = add("index", "read, chunk, embed, build, verify, publish", "ragline index --max-usd 2")
    index.add_argument(
        "--plan", type=_filled, metavar="FILE", help="do exactly what `ragline plan --out FILE` has shown, or nothing"
    )
    index.add_argument("--no-publish", action="store_true", help="stage the new version without making it live")
    index.add_argument(
        "--allow-removed", action="store_true", help="publish even if many documents vanished, this once"
    )
    index.add_argument(
        "--batch",
        action="store_true",
        help="at half the price, within a day: submit what is missing and leave; the same command again picks it up "
        "and, once nothing is missing, builds and publishes",
    )
    index.add_argument(
        "--ignore-batches",
        action="store_true",
        help="send what an open batch holds all the same, and pay for it twice; with --batch: give up batches that "
        "cannot be picked up",
    )
    for made in (plan, index):
        made.add_argument(
            "--retry-refused", action="store_true", help="send the texts again that the provider has refused before"
        )
    spending(index)
    waiting(index)
    runner(index)

    ask = add(
        "ask", "answer a question with citations and passages", 'ragline ask "Who closes the pass?" --where lang=en'
    )
    ask.add_argument("question", metavar="QUESTION")
    ask.add_argument("--stream", action="store_true", help="print the answer as it comes; with --json: JSON lines")
    ask.add_argument(
        "--where", action="append", default=[], metavar="key=value", help="only documents with this metadata"
    )
    ask.add_argument("--version", type=_version, dest="number", metavar="V", help="ask this version, not the live one")
    ask.add_argument("-k", type=_positive, metavar="K", help="how many passages (default: retrieval.k)")

    evaluate = add(
        "eval", "ask a question set, score the answers, keep the run", "ragline eval --fail-under 'R@5>=0.85'"
    )
    evaluate.add_argument("dataset", nargs="?", type=_filled, metavar="DATASET", help="default: evaluation.dataset")
    evaluate.add_argument("--name", default="", help="a name that finds the run again")
    evaluate.add_argument("--version", type=_version, dest="number", metavar="V", help="evaluate this version")
    evaluate.add_argument(
        "--arms", type=_names, metavar="ARM,...", help="of retrieved, oracle, closed_book (default: evaluation.arms)"
    )
    evaluate.add_argument(
        "--measures", type=_names, metavar="M,...", help="such as nDCG@10,Contains (default: what the set allows)"
    )
    evaluate.add_argument("--repeats", type=_positive, metavar="N", help="answers to each question")
    evaluate.add_argument("--limit", type=_positive, metavar="N", help="a seeded sample of at most N questions")
    evaluate.add_argument(
        "--where", action="append", default=[], metavar="tag=value", help="only questions with this tag"
    )
    evaluate.add_argument(
        "--fail-under", action="append", default=[], metavar="'R@5>=0.85'", help="exit 10 when a mean misses it"
    )
    evaluate.add_argument("--fresh", action="store_true", help="pay for every reply anew")
    evaluate.add_argument("--reindex", action="store_true", help="index and publish what has changed, first")
    evaluate.add_argument(
        "--corpus-from-dataset", action="store_true", help="ask an experiment made of the corpus that the set brings"
    )
    evaluate.add_argument("--qrels", type=_filled, metavar="NAME", help="which judgements, where a folder has several")
    evaluate.add_argument(
        "--calibrate",
        type=_filled,
        metavar="PATH",
        help="instead: how measures and the judge agree with people's verdicts",
    )
    runner(evaluate)
    add("runs", "the runs of the store, newest first", "ragline runs")
    shown = add("show", "a run's table, or one question with all it met", "ragline show @latest ops-012")
    shown.add_argument(
        "run", metavar="RUN", help="a run_id or the beginning of one, a name, @latest, @previous, a folder"
    )
    shown.add_argument("question", nargs="?", metavar="QUESTION", help="a question_id, or the beginning of one")
    report = add("report", "where the HTML report of a run lies", "ragline report @latest --output report.html")
    report.add_argument("run", nargs="?", default="@latest", metavar="RUN", help="default: @latest")
    report.add_argument("--output", type=_filled, metavar="FILE", help="write it anew, to this file")
    export = add("export", "copy runs into a folder for analysts", "ragline export results-for-anna @latest")
    export.add_argument("folder", type=_filled, metavar="DIR")
    export.add_argument("runs", nargs="*", metavar="RUN", help="default: all")
    score = add("score", "score a TREC run; needs no index", "ragline score qrels.trec run.trec --measures nDCG@10,AP")
    score.add_argument("qrels", metavar="QRELS")
    score.add_argument("run", metavar="RUN")
    score.add_argument("--measures", type=_names, metavar="M,...", help="such as 'nDCG@10,P(rel=2)@5'")
    score.add_argument("--per-query", action="store_true", help="the values of each query too")
    dataset = add("dataset", "describe a question set, or convert it", "ragline dataset convert squad.json ours.jsonl")
    dataset.add_argument("action", choices=["describe", "convert"])
    dataset.add_argument("dataset", type=_filled, metavar="DATASET")
    dataset.add_argument("output", nargs="?", metavar="OUTPUT", help="of convert: a .jsonl, .jsonl.gz or .parquet")
    dataset.add_argument("--qrels", type=_filled, metavar="NAME", help="which judgements, where a folder has several")

    status = add("status", "version, age, hold, last try, lock holder, spend", "ragline status --max-age 26h")
    status.add_argument("--max-age", metavar="AGE", help="exit 10 when the live version is older: 90m, 26h, 7d")
    spend = add("spend", "what was spent, by month, command and model", "ragline spend --since 30d")
    spend.add_argument("--since", metavar="WHEN", help="30d, 12h, 8w, or a date such as 2026-11-01 (default: all)")
    add("versions", "the versions of an index", "ragline versions")
    publish = add("publish", "make a staged or older version live, and lift the hold", "ragline publish 7")
    publish.add_argument(
        "number", nargs="?", type=_version, metavar="V", help="default: the newest, even if it was rolled back"
    )
    rollback = add(
        "rollback",
        "make live again what was live before, or a version that is named, and hold it there",
        'ragline rollback --reason "wrong prices"',
    )
    rollback.add_argument("number", nargs="?", type=_version, metavar="V", help="default: the one published before")
    rollback.add_argument(
        "--reason", default="", help="why; it stands in `status` and in the refusal of the next index"
    )
    verify = add("verify", "hold every file against its digest; trusts no memory", "ragline verify")
    verify.add_argument(
        "number", nargs="?", type=_version, metavar="V", help="default: all versions, CURRENT and the cache"
    )
    repair = add("repair", "make anew what is broken, and only that", "ragline repair")
    repair.add_argument(
        "--drop", action="store_true", help="remove versions that cannot be mended and are neither live nor being read"
    )
    gc = add("gc", "remove versions that nobody needs", "ragline gc --dry-run")
    gc.add_argument(
        "--keep", type=_positive, metavar="N", help="how many of the newest stay (default: index.keep_versions)"
    )
    gc.add_argument("--dry-run", action="store_true", help="say what would go")
    cache = add("cache", "the vector cache: stats, compact, prune", "ragline cache prune --dry-run")
    cache.add_argument("action", choices=["stats", "compact", "prune"])
    cache.add_argument("--dry-run", action="store_true", help="say what would go, and what it would cost to buy back")
    for made in (publish, rollback, repair, gc, cache):
        waiting(made)
    settings = add("settings", "each value with its origin", "ragline settings --check")
    settings.add_argument("--check", action="store_true", help="test corpus, key, model, price, store and lock")
    serve = add("serve", "schedule: re-index by cron", 'ragline serve --cron "15 3 * * *"')
    serve.add_argument("--cron", metavar="CRON", help="default: schedule.cron")
    serve.add_argument("--create-store", action="store_true", help="the first run may begin a new, empty store")
    return top


def _whole(text: str) -> int:
    """A whole number of at most 18 digits, or -1."""
    return int(text) if text.isdecimal() and len(text) <= 18 else -1


def _positive(text: str) -> int:
    if _whole(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 up")
    return int(text)


def _filled(text: str) -> str:
    """A value that a script's empty variable has not taken away: none would mean something else."""
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty: give a value, or leave it out")
    return text


def _names(text: str) -> str:
    return _filled(text) if text.strip(", ") else _filled("")


def _not_negative(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return value


def _version(text: str) -> int:
    number = _whole(text.removeprefix("v"))
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no version; write 7 or v000007")
    return number


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    _open_streams()
    given = sys.argv[1:] if argv is None else list(argv)
    arguments = argparse.Namespace(json="--json" in given, stream="--stream" in given, command="ragline")
    try:
        try:
            arguments = _parsed(given)
        except Mistake as mistake:
            return _mistaken(arguments, mistake, given)
        except SystemExit as stop:  # help
            put("", flush=True)
            return int(stop.code or 0)
        with _listening():
            code = _run(arguments)
            put("", flush=True)
    except KeyboardInterrupt:
        return _stopped(arguments, 130, "interrupted")
    except Stopped:
        return _stopped(arguments, 143, "terminated")
    except OutputFailed as failed:
        drop_output()
        if isinstance(failed.__cause__, BrokenPipeError):
            return 141  # the reader has gone, and wants no word of it
        note(f"ragline: the output cannot be written: {failed.__cause__}; what the command did stands")
        return 1
    return code


def _mistaken(arguments: argparse.Namespace, mistake: Mistake, given: Sequence[str]) -> int:
    """Tell a mistake, with the nearest name for a misspelt command or flag."""
    message, words, below = str(mistake), mistake.parser.words(), mistake.parser.words_below()
    known = {*words, *below}
    wrong = next((word for word in message.replace("'", " ").split() if word in given and word not in known), "")
    if near := difflib.get_close_matches(wrong, words, n=1) or difflib.get_close_matches(wrong, below, n=1):
        message += f"; did you mean {near[0]}?"
    if arguments.json:
        _tell(arguments, 2, {"error": _error_json("UsageError", message, [])})
    else:
        note(f"ragline: {message}")
        note(f"see `{mistake.parser.prog} --help`")
    return 2


def _open_streams() -> None:
    """Streams that can be written: a closed one leads nowhere, and what an encoding lacks is escaped."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            # the lowest free descriptor is the closed one, which else would become a file of the store
            nowhere = Path(os.devnull).open(mode, encoding="utf-8")  # noqa: SIM115 - open to the end
            os.set_inheritable(nowhere.fileno(), True)  # noqa: FBT003 - takes no keyword
            setattr(sys, name, nowhere)
        elif mode == "w" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def _listening() -> Iterator[None]:
    """A signal stops the command in good order, and a second one at once."""
    _stopping.clear()
    before = {number: signal.signal(number, _stop) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
    for number in (signal.SIGHUP, signal.SIGINT):  # `nohup`, or in the background of a shell
        if before[number] == signal.SIG_IGN:
            signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        if not _stopping:  # on the way out a second signal finds the same
            for number, handler in before.items():
                signal.signal(number, handler)


def _stop(number: int, _: object) -> None:
    if not _stopping:
        _stopping.append(time.monotonic())
        raise KeyboardInterrupt if number == signal.SIGINT else Stopped
    # a terminal's Ctrl-C comes from it and once more from `make` or `uv run`; and no exception may meet another one
    if time.monotonic() - _stopping[0] > SAME_SECONDS:
        with contextlib.suppress(OSError):
            os.write(2, b"\nragline: stopped at once; what is stored is kept, and the same command continues\n")
        os._exit(130 if number == signal.SIGINT else 143)


def _stopped(arguments: argparse.Namespace, code: int, word: str) -> int:
    what = f"{word}; what was answered and paid for is kept, and the same command continues"
    if arguments.json:
        with contextlib.suppress(OutputFailed):
            _tell(arguments, code, {"error": _error_json("Stopped", what, [])})
    else:
        with contextlib.suppress(OutputFailed):
            put("", flush=True)
        note("")
        note(f"ragline: {what}")
    # threads of a request under way must not hold up the end
    with contextlib.suppress(OSError):
        sys.stderr.flush()
    os._exit(code)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.version is True:
        from rag.release import release

        put(f"ragline {release()}\n")
        return 0
    if not arguments.command:
        if arguments.json:
            arguments.command = "ragline"
            _tell(arguments, 2, {"error": _error_json("UsageError", "no command is named", [])})
        else:
            put(parser().format_help())
        return 2
    from flows import commands, harness
    from rag.errors import RaglineError, SettingsError
    from rag.settings import without_secret
    from rag.storage import unreadable

    named = [
        *(("--config", path) for path in arguments.config),
        ("--store", arguments.store),
        ("--index", arguments.index),
    ]
    about = [(flag, text) for flag, text in named if text]
    as_typed([*about, *(("--set", without_secret(text)) for text in arguments.sets)])
    try:
        result = (commands.COMMANDS | harness.COMMANDS)[arguments.command](arguments)
    except OutputFailed:
        raise
    except RaglineError as error:
        if isinstance(error, SettingsError):  # a mistake is not to be typed again
            as_typed(about)
        _report(arguments, error)
        return error.exit_code
    except MemoryError:
        _report(arguments, RaglineError.at("memory", "the machine has no memory left", "free some, then run it again"))
        return 1
    except Exception as error:
        if isinstance(error, OSError) and isinstance(error.filename, str | bytes):
            failed = unreadable(os.fsdecode(error.filename), error)
            failed.__cause__ = error
            _report(arguments, failed)
            return failed.exit_code
        if arguments.verbose:
            raise
        what = f"{type(error).__name__}: {error}"
        remedy = "this is a mistake of ragline: run it again with -v and report what it prints"
        _report(arguments, RaglineError.at("ragline", what, remedy))
        return 1
    if arguments.json and result.content is not None:
        _tell(arguments, result.exit_code, result.content)
    return int(result.exit_code)


def _report(arguments: argparse.Namespace, error: Any) -> None:
    if arguments.verbose:
        with contextlib.suppress(OSError):
            traceback.print_exception(error)
    if arguments.json:
        _tell(arguments, error.exit_code, {"error": _error_json(type(error).__name__, error.message, error.problems)})
        return
    note(f"ragline: {error.message}")
    problems, more = few(error.problems)
    for problem, following in zip(problems, [*problems[1:], None], strict=True):
        if problem.what == error.message:
            note(f"  {problem.where}: -> {problem.remedy}")
            continue
        note(f"  {problem.where}: {problem.what}")
        if following is None or following.remedy != problem.remedy:  # one remedy of several stands below them
            note(f"    -> {problem.remedy}")
    if more:
        note(f"  {more}")


def _error_json(kind: str, message: str, problems: Sequence[Any]) -> dict[str, Any]:
    rows = [{"where": problem.where, "what": problem.what, "remedy": problem.remedy} for problem in problems]
    return {"type": kind, "message": message, "problems": rows}


def _tell(arguments: argparse.Namespace, exit_code: int, content: dict[str, Any]) -> None:
    """The one JSON object of a command, in one line where it ends a stream of lines."""
    head = {"schema_version": SCHEMA_VERSION, "command": arguments.command, "ok": exit_code in (0, 20)}
    # elsewhere the stream's own escapes would not be those of JSON
    ascii_only = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    indent = None if getattr(arguments, "stream", False) else 2
    whole = {**head, "exit_code": exit_code, **content}
    put(json.dumps(whole, ensure_ascii=ascii_only, allow_nan=False, indent=indent) + "\n", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
