"""One function a command: settings in, library called, result shown. What is decided is decided in `rag`."""

from __future__ import annotations

import contextlib
import errno
import getpass
import json
import os
import re
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows import show
from flows.show import HIDDEN, advise, note, say
from rag import clock, storage, wiring
from rag.clock import SystemClock
from rag.counted import counted, plain
from rag.embedding import ledger
from rag.errors import Busy, Damaged, Problem, RaglineError, UsageError, without_userinfo
from rag.index.tables import HEADING_SEPARATOR
from rag.settings import Settings, load, nearest

if TYPE_CHECKING:
    from rag.embedding.plan import Plan
    from rag.embedding.spend import Spend, Sum
    from rag.index.verify import Finding
    from rag.pipeline import Outcome
    from rag.status import Status
    from rag.types import Answer


VALUES_SHOWN = 20
TORN = " is no line of the ledger, and is not counted: mend or remove it"


@dataclass(frozen=True, slots=True)
class Result:
    """What a command gives for `--json` (None: it has printed its own), and its exit code."""

    content: dict[str, Any] | None
    exit_code: int = 0


def flags_of(arguments: Namespace) -> dict[str, str]:
    """The flags that stand for a setting: `section.key=value` -> the flag as it was written. Raises UsageError."""
    found: dict[str, str] = {}
    for flag, key in (("store", "store"), ("index", "corpus.name")):
        text = getattr(arguments, flag)
        if text is not None:
            if not text:
                raise UsageError.at(f"--{flag}", f"--{flag} is empty", "give a value, or leave the flag out")
            # TOML knows no surrogates, so what is not ASCII stays as it is
            found[f"{key}={json.dumps(text, ensure_ascii=False)}"] = f"--{flag} {text}"
    for flag in ("arms", "measures"):
        text = getattr(arguments, flag, None)
        if text is not None and arguments.command == "eval":
            found[f"evaluation.{flag}={json.dumps(listed(text))}"] = f"--{flag} {text}"
    for flag, key in (
        ("max_usd", "embedding.max_usd"),
        ("max_tokens", "embedding.max_tokens"),
        ("repeats", "evaluation.repeats"),
    ):
        value = getattr(arguments, flag, None)
        if value is not None:
            found[f"{key}={value}"] = f"--{flag.replace('_', '-')} {value}"
    return found


def listed(text: str) -> list[str]:
    """What a flag lists: split at the commas outside brackets."""
    return [part.strip() for part in re.split(r",(?![^(]*\))", text) if part.strip()]


def sets_of(arguments: Namespace) -> list[str]:
    """Every `section.key=value` of a command line, the flags that stand for a setting included."""
    return [*arguments.sets, *flags_of(arguments)]


def settings_of(arguments: Namespace) -> Settings:
    """Settings with the flags of this command on top. Raises SettingsError."""
    configs = [Path(path) for path in arguments.config]
    settings = load(configs, os.environ, sets_of(arguments), flags=flags_of(arguments))
    storage.check_place(settings.store)
    found = [] if configs else nearest(Path.cwd())
    if found and found[0].parent != Path.cwd():
        note(f"settings of {found[0]}, the nearest above this folder")
    network = storage.is_network(settings.store)
    if network:
        note(f"warning: {settings.store} lies on {network}; locks and renames promise less on a network file system")
    return settings


def tell_corpus(arguments: Namespace, settings: Settings) -> None:
    """Say what a new index is made of that got its name by a flag and no corpus: its user may mean another."""
    origin = settings.origins.get("corpus.paths", "")
    if arguments.index and origin and not origin.startswith("--set ") and not wiring.versions(settings).numbers():
        paths = ", ".join(map(str, settings.corpus.paths))
        remedy = "for another, give --set 'corpus.paths=[\"folder\"]'"
        note(f"index {settings.corpus.name} is new, and is made of the corpus of {origin} ({paths}); {remedy}")


@contextlib.contextmanager
def writing(arguments: Namespace, store: Path) -> Iterator[None]:
    """Be the one writer of a store that exists; a dry run only looks, and needs no lock. Raises NotFound, Busy."""
    storage.existing(store)
    if getattr(arguments, "dry_run", False):
        yield
        return
    words = " ".join(filter(None, ("ragline", arguments.command, getattr(arguments, "action", None))))
    with storage.lock(store, words, SystemClock(), arguments.wait):
        ledger.settle(store)
        yield


def plan(arguments: Namespace) -> Result:
    from rag.pipeline import Options, plan_only

    settings = settings_of(arguments)
    tell_corpus(arguments, settings)
    out = Path(arguments.out) if arguments.out else None
    if out:
        wiring.refuse_place_of_plan(settings, out)
    with show.progress(quiet=arguments.json) as progress:
        options = Options(
            command="ragline plan",
            purpose="plan",
            rehash=arguments.rehash,
            batch=arguments.batch,
            retry_refused=arguments.retry_refused,
        )
        run = wiring.reindex(settings, options, progress)
        with run:
            made = plan_only(run)
            unchanged, obstacles = run.unchanged, run.obstacles()
            if out:
                run.plan_to_keep().save(out)
    if not arguments.json:
        show_plan(made, unchanged=unchanged, by_batch=arguments.batch)
        for obstacle in obstacles:
            note(f"{obstacle.message} (exit {obstacle.exit_code})")
        if out:
            flags = "--batch " * arguments.batch + "--retry-refused " * arguments.retry_refused
            advise(f"kept as {out}: `ragline index {flags}--plan {out}` does exactly this, or nothing")
    content = {**made.as_json(), "obstacles": [asdict(obstacle) for obstacle in obstacles]}
    if out:
        content["out"] = str(out)
    return Result(content, 20 if arguments.detailed_exitcode and not unchanged else 0)


def index(arguments: Namespace) -> Result:
    from flows.runners import run_index
    from rag.pipeline import Options

    settings = settings_of(arguments)
    tell_corpus(arguments, settings)
    options = Options(
        command="ragline index --batch" if arguments.batch else "ragline index",
        publish=not arguments.no_publish,
        allow_removed=arguments.allow_removed,
        rehash=arguments.rehash,
        retry_refused=arguments.retry_refused,
        wait=arguments.wait,
        batch=arguments.batch,
        ignore_batches=arguments.ignore_batches,
        plan_file=Path(arguments.plan) if arguments.plan else None,
    )
    with show.progress(quiet=arguments.json) as progress:
        outcome = run_index(settings, options, arguments.runner, progress, **recorded_as(arguments))
    if not arguments.json:
        show_outcome(outcome)
    return Result(outcome.as_json(), outcome.exit_code)


def recorded_as(arguments: Namespace) -> dict[str, Any]:
    """What Prefect is told of a command line, and how loud it may be."""
    return {"configs": arguments.config, "sets": sets_of(arguments), "verbose": arguments.verbose}


def ask(arguments: Namespace) -> Result:
    settings = settings_of(arguments)
    where = filters(arguments.where)
    if any("\ud800" <= letter <= "\udfff" for letter in arguments.question):
        raise UsageError.at("QUESTION", "the question is not UTF-8", "type it where the terminal speaks UTF-8")
    with wiring.Desk(settings, arguments.number, command="ragline ask") as desk:
        if not arguments.stream:
            answer = desk.ask(arguments.question, arguments.k, where)
        else:
            answer = _streamed(desk, arguments, where)
        if where and not answer.passages:
            _tell_values(desk, where)
        for line in desk.notes:
            note(f"warning: {line}")
    if not arguments.json:
        show_answer(answer, with_text=not arguments.stream)
    return Result(answer_json(answer))


def _tell_values(desk: wiring.Desk, where: Mapping[str, Sequence[str]]) -> None:
    """What a filter that left nothing could have asked for."""
    note("no document matches " + " ".join(f"--where {key}={value}" for key in where for value in where[key]))
    for key in where:
        values = desk.opened.documents.values(key)
        shown = ", ".join(f"{value} ({count:,})" for value, count in values.most_common(VALUES_SHOWN))
        more = f" and {len(values) - VALUES_SHOWN:,} more" if len(values) > VALUES_SHOWN else ""
        note(f"  {key} can be {shown}{more}")


def _streamed(desk: wiring.Desk, arguments: Namespace, where: Mapping[str, Sequence[str]] | None) -> Answer:
    from rag.sync import run_sync

    async def listen() -> Answer:
        last: Answer | None = None
        async for piece in desk.astream(arguments.question, arguments.k, where):
            if not isinstance(piece, str):
                last = piece
            elif arguments.json:
                show.put(json.dumps({"delta": piece}) + "\n", flush=True)
            else:
                show.put(show.plain(piece), flush=True)
        assert last is not None
        return last

    answer = run_sync(listen())
    if not arguments.json:
        say()
    return answer


def status(arguments: Namespace) -> Result:
    from rag.status import status as look

    limit = _seconds(arguments.max_age) if arguments.max_age is not None else None
    settings = settings_of(arguments)
    found = look(settings.store, settings.corpus.name, SystemClock().utc())
    too_old = limit is not None and found.older_than(limit)
    if not arguments.json:
        show_status(found)
        if too_old:
            note(f"the live version is older than {arguments.max_age}")
    return Result(found.as_json(), 5 if found.broken else 10 if too_old else 0)


def spend(arguments: Namespace) -> Result:
    from rag.embedding import spend as spending

    since = spending.moment(arguments.since, SystemClock().utc()) if arguments.since is not None else None
    store = settings_of(arguments).store
    found = spending.spend(store, since)
    if not store.exists():
        note(f"there is no store at {store}")
    if not arguments.json:
        show_spend(found)
    return Result(found.as_json())


def versions(arguments: Namespace) -> Result:
    settings = settings_of(arguments)
    found = wiring.versions(settings)
    state = found.state()
    listed = found.listed()
    published = {entry.version: entry.at for entry in state.published}
    rows: list[dict[str, Any]] = [
        {
            "version": entry.version,
            "content_digest": entry.content_digest,
            "created": entry.build.get("created"),
            "documents": entry.documents,
            "chunks": entry.chunks,
            "published": entry.published,
            "published_at": published.get(entry.version),
            "usd": entry.build.get("usd"),
        }
        for entry in listed
    ]
    hold = asdict(state.hold) if state.hold else None
    experiments = wiring.experiments(settings).names()
    if not arguments.json:
        if not rows:
            advise(f"index {found.name} has no version yet: run `ragline index`")
        else:
            show.table(
                [
                    [
                        ("* " if row["version"] == state.version else "  ") + f"v{row['version']:06d}",
                        row["created"],
                        f"{row['documents']:,}" if row["documents"] is not None else None,
                        f"{row['chunks']:,}" if row["chunks"] is not None else None,
                        row["published_at"] or "staged",
                        (row["content_digest"] or "unreadable")[:12],
                    ]
                    for row in rows
                ],
                ["  version", "built", "documents", "chunks", "published", "content"],
            )
        if state.hold:
            say()
            say(f"held since {state.hold.at} by {state.hold.by}: {state.hold.reason or 'no reason given'}")
        if experiments:
            say()
            say(f"experiments of `ragline eval`, never published: {', '.join(experiments)}")
    content = {"index": found.name, "current": state.version, "hold": hold, "versions": rows}
    return Result({**content, "experiments": experiments})


def publish(arguments: Namespace) -> Result:
    settings = settings_of(arguments)
    with writing(arguments, settings.store):
        found = wiring.versions(settings)
        hold = None
        with contextlib.suppress(Damaged):  # a CURRENT that cannot be read is written anew
            hold = found.state().hold
        number = found.publish(arguments.number)
    if not arguments.json:
        why = ": the newest" if arguments.number is None else ""
        if hold and hold.from_version == number:
            why += f"{',' if why else ': the one'} which {hold.by} rolled back ({hold.reason or 'no reason given'})"
        say(f"version {number} is live{why}" + "; the hold is lifted" * bool(hold))
    return Result({"index": found.name, "version": number, "lifted": asdict(hold) if hold else None})


def rollback(arguments: Namespace) -> Result:
    settings = settings_of(arguments)
    with writing(arguments, settings.store):
        found = wiring.versions(settings)
        number = found.rollback(arguments.number, arguments.reason, _user())
        hold, newest = found.state().hold, max(found.numbers())
    if not arguments.json:
        newer = f"; `ragline publish` makes the newest live, now {newest}" if newest != number else ""
        advise(
            f"version {number} is live and held: `ragline index` stages and does not publish until the hold is lifted"
        )
        advise(f"`ragline publish {number}` lifts it and keeps this version{newer}")
    return Result({"index": found.name, "version": number, "hold": asdict(hold) if hold else None})


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return f"uid {os.getuid()}"


def verify(arguments: Namespace) -> Result:
    from rag.upkeep import verify_store

    settings = settings_of(arguments)
    versions = wiring.versions(settings)
    if arguments.number is None and not versions.numbers():
        storage.existing(settings.store)
        note(f"index {versions.name!r} has no version; only the cache is verified")
    report = verify_store(versions, settings.store, arguments.number)
    problems = [asdict(problem) for problem in report.problems]
    if not arguments.json:
        show.each(report.problems, _show_finding)
        say(f"{counted(report.checked, 'file')} checked, {counted(len(problems), 'problem')}")
    return Result({"checked": report.checked, "problems": problems}, 5 if problems else 0)


def _show_finding(finding: Finding) -> None:
    say(finding.file)
    say(f"  expected  {finding.expected}")
    say(f"  actual    {finding.actual}")
    say(f"  repair    {finding.repair}")


def repair(arguments: Namespace) -> Result:
    from rag.pipeline import Options, Reindex
    from rag.upkeep import repair as mend

    settings = settings_of(arguments)

    def remake() -> Reindex:
        return wiring.reindex(settings, Options(command="ragline repair", purpose="repair"), lambda *_: None)

    with writing(arguments, settings.store):
        done = mend(wiring.versions(settings), settings.store, SystemClock(), remake, drop=arguments.drop)
    if not arguments.json:
        show.each(done.mended, say)
        show.each(done.dropped, lambda number: say(f"v{number:06d}: could not be mended, and is removed"))
        show.each(done.failed, lambda line: note(f"could not be made anew: {line}"), note)
        if done.left:
            say("still not right:")
            show.each(done.left, _show_finding)
        if not done.mended and not done.dropped and not done.left:
            say("nothing is broken")
        if done.embedded:
            say(
                f"{counted(done.embedded, 'text')} embedded again{'' if done.usd == 0 else f' for {show.usd(done.usd)}'}"
            )
        if done.lost_records:
            say(
                f"lost from the cache: {counted(done.lost_records, 'record')}, embedded again by the next build that needs it"
            )
    content = {
        "mended": list(done.mended),
        "lost_records": done.lost_records,
        "embedded": done.embedded,
        "usd": done.usd,
        "failed": list(done.failed),
        "dropped": list(done.dropped),
        "problems": [asdict(finding) for finding in done.left],
    }
    return Result(content, 5 if done.left else 0)


def gc(arguments: Namespace) -> Result:
    settings = settings_of(arguments)
    with writing(arguments, settings.store):
        found = wiring.versions(settings)
        keep = arguments.keep if arguments.keep is not None else settings.index.keep_versions
        removed = found.gc(keep, dry_run=arguments.dry_run)
        experiments = wiring.experiments(settings).gc(keep, dry_run=arguments.dry_run)
        swept = [] if arguments.dry_run else [str(path) for path in storage.sweep_staging(settings.store)]
    if not arguments.json:
        word = "would be removed" if arguments.dry_run else "removed"
        names = [*(f"v{number:06d}" for number in removed), *(f"experiment {name}" for name in experiments)]
        what = f"{counted(len(removed), 'version')} and {counted(len(experiments), 'experiment')}"
        say(f"{what} {word}" + ": " * bool(names) + ", ".join(names))
    content = {"index": found.name, "removed": list(removed), "experiments": list(experiments), "swept": swept}
    return Result({**content, "dry_run": arguments.dry_run})


def cache(arguments: Namespace) -> Result:
    return {"stats": _cache_stats, "compact": _cache_compact, "prune": _cache_prune}[arguments.action](arguments)


def _cache_stats(arguments: Namespace) -> Result:
    from rag.embedding import upkeep

    rows = upkeep.stats(settings_of(arguments).store)
    if not arguments.json:
        header = ["namespace", "segments", "vectors", "tokens", "size"]
        cells = [
            (row.namespace, row.segments, f"{row.vectors:,}", f"{row.tokens:,}", show.size(row.bytes)) for row in rows
        ]
        show.table(cells, header)
    return Result({"namespaces": [asdict(row) for row in rows]})


def _cache_compact(arguments: Namespace) -> Result:
    from rag.embedding import upkeep

    store = settings_of(arguments).store
    with writing(arguments, store):
        removed = upkeep.compact(store, SystemClock(), dry_run=arguments.dry_run)
    if not arguments.json:
        say(f"{counted(removed, 'file')} {'would be merged' if arguments.dry_run else 'merged'} away")
    return Result({"removed_files": removed, "dry_run": arguments.dry_run})


def _cache_prune(arguments: Namespace) -> Result:
    from rag.upkeep import prune

    settings = settings_of(arguments)
    with writing(arguments, settings.store):
        dropped = prune(settings.store, SystemClock(), dry_run=arguments.dry_run)
    rows_json = []
    for row in dropped:
        price = wiring.price_of(settings, row.model)
        usd = None if price is None else price.usd(row.tokens)
        name = row.model.name
        rows_json.append({"model": name, "vectors": row.vectors, "tokens": row.tokens, "usd": usd})
        if not arguments.json:
            word = "would be dropped" if arguments.dry_run else "dropped"
            cost = "a price is not known" if usd is None else f"{show.usd(usd)} to buy back"
            say(f"{name}: {counted(row.vectors, 'vector')} {word} ({counted(row.tokens, 'token')}, {cost})")
    if not dropped and not arguments.json:
        say("every vector is needed by some version")
    return Result({"dry_run": arguments.dry_run, "dropped": rows_json})


def settings(arguments: Namespace) -> Result:
    loaded = settings_of(arguments)
    rows = [(place, value, origin) for place, value, origin in loaded.rows()]
    content: dict[str, Any] = {
        "settings": [
            {"key": place, "value": _plain_value(value), "origin": without_userinfo(origin, HIDDEN)}
            for place, value, origin in rows
        ]
    }
    checks: list[dict[str, Any]] = []
    if arguments.check:
        checks = check_settings(loaded)
        content["checks"] = checks
    if not arguments.json:
        lines = [[place, _shown(value), without_userinfo(origin, HIDDEN)] for place, value, origin in rows]
        show.table(lines, ["setting", "value", "from"])
        for check in checks:
            say(f"{'ok  ' if check['ok'] else 'FAIL'}  {check['check']}: {check['what']}")
    return Result(content, 0 if all(check["ok"] for check in checks) else 2)


def check_settings(loaded: Settings) -> list[dict[str, Any]]:
    """Try what a run would need: corpus, model, key, price, generator, store and lock. Sends nothing."""
    world = wiring.World.real()

    def store() -> str:
        return describe_store(loaded.store)

    tests: list[tuple[str, Callable[[], str]]] = [
        ("corpus", lambda: wiring.describe_corpus(loaded)),
        ("embedding", lambda: wiring.describe_embedding(loaded, world)),
        ("generation", lambda: f"{wiring.generator(loaded, world).name} is known"),
        ("store", store),
    ]
    checks: list[dict[str, Any]] = []
    for name, test in tests:
        try:
            checks.append({"check": name, "ok": True, "what": test()})
        except RaglineError as error:
            remedy = "; ".join(problem.remedy for problem in error.problems)
            checks.append({"check": name, "ok": isinstance(error, Busy), "what": f"{error.message} -> {remedy}"})
    return checks


def describe_store(store: Path) -> str:
    """Whether a run could write the store now, in a sentence; writes nothing itself. Raises Busy, StorageFailed."""
    there = next(folder for folder in (store, *store.absolute().parents) if folder.is_dir())
    if not os.access(there, os.W_OK | os.X_OK):
        raise storage.unreadable(there, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
    if (store / ".lock").is_dir():
        raise storage.unreadable(store / ".lock", IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR)))
    if holder := storage.lock_holder(store):
        raise storage.busy(store, holder)
    if not storage.is_store(store):
        return f"{store} is not there yet; `ragline index` begins it"
    return f"{store} can be written and is free"


def serve(arguments: Namespace) -> Result:
    from flows.serve import serve as serve_forever

    loaded = settings_of(arguments)
    serve_forever(
        loaded,
        arguments.cron or loaded.schedule.cron,
        arguments.config,
        sets_of(arguments),
        create_store=arguments.create_store,
        verbose=arguments.verbose,
    )
    return Result(None)


COMMANDS: dict[str, Callable[[Namespace], Result]] = {
    "plan": plan,
    "index": index,
    "ask": ask,
    "status": status,
    "spend": spend,
    "versions": versions,
    "publish": publish,
    "rollback": rollback,
    "verify": verify,
    "repair": repair,
    "gc": gc,
    "cache": cache,
    "settings": settings,
    "serve": serve,
}


def filters(given: Sequence[str]) -> dict[str, list[str]] | None:
    """`key=value` flags: OR within one key, AND over keys. Raises UsageError."""
    found: dict[str, list[str]] = {}
    problems = []
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key:
            problems.append(Problem(f"--where {text}", "is not key=value", "write for example --where lang=en"))
        found.setdefault(key, []).append(value)
    if problems:
        raise UsageError("a filter is not key=value", problems)
    return found or None


def show_status(found: Status) -> None:
    state, live = found.state, found.live
    say(f"index {found.index} in {found.store}")
    if found.broken:
        advise(f"  live       version {state.version}, which is damaged: run `ragline verify`")
    elif live:
        since = f"{'found unchanged ' if found.confirmed else ''}{_age(found.age_seconds)} ago"
        say(f"  live       version {live.version}, published {found.published_at} ({since})")
        if live.documents is not None and live.chunks is not None:
            say(f"  holds      {counted(live.documents, 'document')}, {counted(live.chunks, 'chunk')}")
    else:
        advise("  live       nothing yet: run `ragline index`")
    if hold := state.hold:
        why = hold.reason or "no reason given"
        say(f"  hold       by {hold.by} at {hold.at}, from version {hold.from_version}: {why}")
    if last := found.last_try:
        # what was advised then may be done by now
        done = last["version"] == state.version and last["reason"] not in ("published", "unchanged")
        told = f"version {state.version}, which is live by now" if done and live else last["message"]
        advise(f"  last try   {last['at']} {last['reason']}: {told}")
    say(f"  in use by  {found.holder or 'nobody'}")
    show_batches(found)
    spent = found.spent
    say(f"  spent      {show.usd(spent.usd)} in {counted(spent.runs, 'run')}, {counted(spent.tokens, 'token')}")
    show.each(spent.unreadable, lambda line: note(line + TORN), note)


def show_batches(found: Status) -> None:
    """A line for each open batch; what it will cost is spent when it has ended."""
    mark = "batches    "
    for job in found.batches:
        cost = "unknown cost" if job.usd is None else show.usd(job.usd)
        status = job.status or job.state
        done = "" if job.done is None else f", {job.done:,} of {counted(len(job.lines), 'line')} done when last asked"
        index = "" if job.index == found.index else f", of index {job.index}"
        name = job.batch_id or "without an id yet"
        model = job.embedding.name
        say(f"  {mark}{name}, {job.made}, {counted(job.texts, 'text')} of {model}, {cost}, {status}{done}{index}")
        mark = " " * len(mark)
    if found.batches:
        advise(f"  {mark}`ragline index --batch` picks up what has ended, under the settings of its model")
    show.each(found.broken_batches, note, note)


def show_spend(found: Spend) -> None:
    """A table with a total, and what is in no sum."""
    since = f" since {clock.text(found.since)}" if found.since else ""
    if not found.rows and found.unreadable:
        say(f"nothing that can be read was spent{since}")
    elif not found.rows:
        say(f"nothing was spent{since}")
    else:
        rows = [[row.month, row.command, row.model, *_summed(row.sum)] for row in found.rows]
        header = ["month", "command", "model", "runs", "requests", "tokens", "cost", "saved"]
        show.table([*rows, ["total", "", "", *_summed(found.total)]], header)
    if found.total.unpriced:
        note(f"{counted(found.total.unpriced, 'run')} of unknown price: not in the cost; give it under [prices]")
    if found.running:
        note(f"{counted(found.running, 'run')} under way: counted with what is answered so far")
    if found.killed:
        note(
            f"{counted(found.killed, 'run')} killed: counted with what was answered; what was under way then may be billed"
        )
    show.each(found.unreadable, lambda line: note(line + TORN), note)


def _summed(found: Sum) -> list[str | None]:
    cost = None if found.usd is None else show.usd(found.usd)
    saved = None if found.saved_usd is None else show.usd(found.saved_usd)
    if found.unpriced and cost:
        cost += f" + {found.unpriced:,} unknown"
    return [f"{found.runs:,}", f"{found.requests:,}", f"{found.tokens:,}", cost or f"{found.unpriced:,} unknown", saved]


def show_plan(made: Plan, *, unchanged: bool, by_batch: bool) -> None:
    counts = made.documents.counts()
    live = f"version {made.current_version}" if made.current_version is not None else "nothing"
    say(f"index {made.index}, live: {live}")
    say("  documents  " + ", ".join(f"{count:,} {name}" for name, count in counts.items()))
    say(f"  chunks     {made.chunks:,}, {counted(made.duplicates, 'duplicate')} among them")
    exact = "" if made.tokens_exact else " (an upper bound: the tokenizer of this model is not known)"
    say(f"  texts      {made.texts:,}: {made.cached:,} in the cache, {made.to_embed:,} to embed")
    if made.to_embed:
        took = "" if made.minutes is None else f", {show.lasting(made.minutes)} at the limits"
        where = (
            counted(made.requests, "line") + " of batches, within a day"
            if by_batch
            else counted(made.requests, "request")
        )
        say(f"  to send    {counted(made.tokens, 'token')}{exact} in {where}{took}")
        priced = f" (prices of {made.terms.priced_on}{', by the batch' * by_batch})" if made.terms.priced_on else ""
        say(f"  cost       {show.usd(made.usd)}{priced}")
        if month := made.terms.month_so_far:
            say(f"  this month {month} of max_usd_per_month = {plain(made.terms.max_usd_per_month or 0.0)}")
        say()
        show.table(
            [
                [cause.cause, f"{cause.texts:,}", f"{cause.tokens:,}", show.usd(cause.usd), cause.before, cause.after]
                for cause in made.causes
            ],
            ["cause", "texts", "tokens", "cost", "before", "after"],
            indent="  ",
        )
    if unchanged:
        say("nothing has changed: `ragline index` would do nothing")


def show_outcome(outcome: Outcome) -> None:
    made = outcome.plan
    changes = made.documents
    documents = changes.unchanged + len(changes.added) + len(changes.changed)
    saved = f", {show.usd(made.saved_usd)} saved by the cache" if made.saved_usd else ""
    cost = "" if outcome.usage.usd == 0 else f" for {show.usd(outcome.usage.usd)}"
    sent = f"{counted(outcome.embedded, 'text')} embedded{cost}, {made.cached:,} from the cache{saved}"
    say(f"{counted(documents, 'document')}, {counted(made.chunks, 'chunk')}: {sent}")
    if (changes.excluded or outcome.excluded_chunks) and not outcome.in_batches:
        left_out = f"{counted(changes.excluded, 'source')}, {counted(outcome.excluded_chunks, 'chunk')}"
        say(f"left out: {left_out} (excluded.parquet says why)")
    if outcome.in_batches:
        for line in outcome.told:  # one thing a line: there are ids to be found again
            advise(f"  {line}")
    else:
        (note if outcome.exit_code else advise)(f"{outcome.message} ({outcome.seconds:.1f} s)")


def show_answer(answer: Answer, *, with_text: bool) -> None:
    if with_text:
        show.put(show.plain(answer.text) + "\n")
    if answer.citations:
        say()
    for citation in answer.citations:
        path = f", {HEADING_SEPARATOR.join(citation.heading_path)}" if citation.heading_path else ""
        say(f"[{citation.passage}] {citation.doc_id}@{citation.start}-{citation.end}{path}")
        if citation.quote.strip() != answer.text.strip():
            say(f'    "{" ".join(citation.quote.split())}"')
    say()
    say("passages:")
    for passage in answer.passages:
        path = f"  {HEADING_SEPARATOR.join(passage.heading_path)}" if passage.heading_path else ""
        also = f"  (also in {len(passage.also_in)} more)" if passage.also_in else ""
        say(f"  {passage.rank:>2}  {passage.score:6.3f}  {passage.doc_id}@{passage.start}-{passage.end}{path}{also}")
    say()
    say(
        f"{answer.model}, version {answer.version}"
        + (f", {show.usd(answer.usage.usd)}" if answer.usage.requests else "")
    )


def answer_json(answer: Answer) -> dict[str, Any]:
    """The fields of `ragline ask --json`."""
    return {
        "question": answer.question,
        "answer": answer.text,
        "abstained": answer.abstained,
        "citations": [
            {
                "passage": citation.passage,
                "doc_id": citation.doc_id,
                "start": citation.start,
                "end": citation.end,
                "quote": citation.quote,
                "heading_path": HEADING_SEPARATOR.join(citation.heading_path),
            }
            for citation in answer.citations
        ],
        "passages": [
            {
                "rank": passage.rank,
                "score": passage.score,
                "doc_id": passage.doc_id,
                "start": passage.start,
                "end": passage.end,
                "heading_path": HEADING_SEPARATOR.join(passage.heading_path),
                "text": passage.text,
                "also_in": [span.chunk_id for span in passage.also_in],
                "title": passage.title,
                "source": passage.source,
            }
            for passage in answer.passages
        ],
        "model": answer.model,
        "version": answer.version,
        "usage": asdict(answer.usage),
    }


def _seconds(text: str) -> float:
    """Seconds of `90m`, `26h` or `7d`. Raises UsageError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if not match:
        raise UsageError.at("--max-age", f"{text!r} is no age", "write 90m, 26h or 7d")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]


def _age(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _plain_value(value: Any) -> Any:
    """As JSON has it, without the user and password of an address."""
    found = json.loads(
        json.dumps(value, default=lambda other: other.model_dump() if hasattr(other, "model_dump") else str(other))
    )
    return without_userinfo(found, HIDDEN) if isinstance(found, str) else found


def _shown(value: Any) -> str | None:
    return None if value is None else json.dumps(_plain_value(value), ensure_ascii=False)
