"""`ragline eval` as a process with a chat server: nothing is paid twice, whatever ended the run before."""

from __future__ import annotations

import json
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.evaluating import PRICES, ROWS, Place, answered, chat, fingerprint, furnish, is_judged, lasting
from tests.servers import faults
from tests.servers.faults import Answer, Asked, Served

pytestmark = pytest.mark.slow
CALLS_AT_ONCE = 2
"""As `chat` sets it."""


@pytest.fixture
def served() -> Iterator[Served]:
    with faults.serving() as serving:
        serving.always = answered
        yield serving


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A furnished folder with a published version."""
    folder = tmp_path_factory.mktemp("indexed") / "place"
    furnish(folder)
    assert Place(folder).run("index", "--runner", "direct").returncode == 0
    return folder


@pytest.fixture
def place(indexed: Path, tmp_path: Path, served: Served) -> Place:
    """Questions that a server answers and judges, about a published version."""
    folder = Path(shutil.copytree(indexed, tmp_path / "place"))
    with (folder / "ragline.toml").open("a") as file:
        file.write("\n".join([chat("generation", served.url), chat("judge", served.url), PRICES]))
    return Place(folder)


def asked_for(served: Served) -> Counter[str]:
    return Counter(json.dumps(asked, sort_keys=True) for asked in served.asked)


def test_the_same_run_again_calls_nothing_and_gives_the_same_tables_and_fresh_calls_again(
    place: Place, served: Served
) -> None:
    words = ("--arms", "retrieved,closed_book", "--repeats", "2")
    first = place.evaluate(*words)
    paid = asked_for(served)
    assert first["usage"]["requests"] == paid.total() > ROWS * 4
    assert first["usage"]["usd"] > 0
    ledger = (place.store / "ledger").rglob("*.jsonl")
    assert sum(len(path.read_text().splitlines()) for path in ledger) == 2, "one line for each model that was paid"

    served.asked.clear()
    second = place.evaluate(*words)
    assert served.asked == []
    assert lasting(second["path"]) == lasting(first["path"])
    assert fingerprint(second["path"]) == fingerprint(first["path"])
    assert (second["usage"]["requests"], second["usage"]["usd"]) == (0, 0)
    assert second["usage"]["usd_saved"] == pytest.approx(first["usage"]["usd"] + first["usage"]["usd_saved"])
    assert second["summary"] == first["summary"]

    fresh = place.evaluate(*words, "--fresh")
    assert asked_for(served).keys() == paid.keys()
    assert fresh["usage"]["requests"] == len(served.asked) > ROWS * 4
    assert lasting(fresh["path"]) == lasting(first["path"])
    assert fingerprint(fresh["path"]) == fingerprint(first["path"])


@pytest.mark.parametrize("stage", ["answers", "verdicts"])
def test_killed_in_the_middle_the_next_run_repeats_no_stored_call(place: Place, served: Served, stage: str) -> None:
    shutil.copytree(place.store, place.folder / "calm")
    undisturbed = place.evaluate("--store", "calm")
    whole, judged = asked_for(served), sum(map(is_judged, served.asked))
    served.asked.clear()
    stop_at = 4 if stage == "answers" else whole.total() - judged + 6
    reached = threading.Event()

    def until_killed(asked: Asked) -> Answer:
        if len(served.asked) > stop_at:
            reached.set()
        return Answer(hang=True) if reached.is_set() else answered(asked)

    served.always = until_killed
    process = place.start("eval", "--runner", "direct", "--json")
    assert reached.wait(60)
    process.kill()
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL
    assert not (place.store / "results").exists()
    first = asked_for(served)
    assert any(map(is_judged, served.asked)) == (stage == "verdicts")

    served.released.set()
    served.always = answered
    served.asked.clear()
    again = place.evaluate()
    assert (first | asked_for(served)).keys() == whole.keys()
    twice = (first & asked_for(served)).total()
    # what was under way when it was killed, and nothing else
    assert twice <= CALLS_AT_ONCE
    assert lasting(again["path"]) == lasting(undisturbed["path"])
    assert fingerprint(again["path"]) == fingerprint(undisturbed["path"])
    assert place.staged() == []
    assert place.runs() == sorted([again["run_id"], "LATEST", "views.sql"])


@pytest.mark.parametrize(
    ("point", "kept"),
    [("move_folder.before_rename:1", 0), ("move_folder.after_rename:1", 1), ("create.before_rename:5", 0)],
)
def test_killed_while_it_writes_a_run_is_whole_or_not_there(
    place: Place, served: Served, point: str, kept: int
) -> None:
    done = place.run("eval", "--runner", "direct", "--json", RAGLINE_FAULT=f"{point}:kill")
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "")
    served.asked.clear()
    results = place.store / "results"
    left = [path for path in results.iterdir() if path.is_dir()] if results.exists() else []
    assert len(left) == kept
    assert place.staged() != []
    again = place.evaluate()
    assert served.asked == []
    assert place.staged() == []
    for run in left:
        assert lasting(run) == lasting(again["path"])
    assert place.runs() == sorted([*(run.name for run in left), again["run_id"], "LATEST", "views.sql"])
    assert (results / "LATEST").read_text() == again["run_id"] + "\n"


@pytest.mark.parametrize(
    ("number", "code", "word", "stage", "flags"),
    [
        (signal.SIGTERM, 143, "terminated", "answers", ()),
        (signal.SIGHUP, 143, "terminated", "answers", ()),
        (signal.SIGINT, 130, "interrupted", "answers", ()),
        (signal.SIGINT, 130, "interrupted", "verdicts", ("--json",)),
    ],
)
def test_a_signal_ends_it_at_once_with_a_message_and_what_was_paid_is_kept_and_accounted_for(
    place: Place, served: Served, number: signal.Signals, code: int, word: str, stage: str, flags: tuple[str, ...]
) -> None:
    reached = threading.Event()

    def until_stopped(asked: Asked) -> Answer:
        if len(served.asked) > (2 if stage == "answers" else ROWS + 3):
            reached.set()
            return Answer(hang=True)
        return answered(asked)

    served.always = until_stopped
    process = place.start("eval", "--runner", "direct", *flags)
    assert reached.wait(60)
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert process.returncode == code
    assert "Traceback" not in err
    assert "Exception ignored" not in err
    if flags:
        said = json.loads(out)
        assert (said["command"], said["ok"], said["exit_code"], said["error"]["type"]) == (
            "eval",
            False,
            code,
            "Stopped",
        )
        assert word in said["error"]["message"]
    else:
        assert f"ragline: {word}; what was answered and paid for is kept, and the same command continues" in err
    assert not (place.store / "results").exists()
    spent = sum(json.loads(line)["requests"] for line in ledger_lines(place))
    first = len(served.asked)
    served.released.set()
    served.always = answered
    served.asked.clear()
    whole = place.evaluate()
    assert first - CALLS_AT_ONCE <= spent <= first, "the ledger knows what the stopped run has paid"
    assert place.staged() == []
    assert whole["usage"]["requests"] == len(served.asked)


def ledger_lines(place: Place) -> list[str]:
    return [
        line for path in sorted((place.store / "ledger").rglob("*.jsonl")) for line in path.read_text().splitlines()
    ]


def test_a_damaged_store_of_answers_is_set_aside_said_and_paid_for_again(place: Place, served: Served) -> None:
    first = place.evaluate("--limit", "2")
    for path in place.store.glob("answers.sqlite*"):
        path.write_bytes(b"no database" * 1000)
    served.asked.clear()
    done = place.run("eval", "--runner", "direct", "--limit", "2")
    assert done.returncode == 0
    assert len(served.asked) == first["usage"]["requests"]
    assert "answers.sqlite is damaged: it was set aside" in done.stderr


def test_vectors_of_questions_and_answers_are_paid_for_once_too(tmp_path: Path, served: Served) -> None:
    furnish(tmp_path / "place", "\n".join(["[embedding]", 'model = "openai/toy"', f'base_url = "{served.url}"']))
    place = Place(tmp_path / "place")
    served.always = None
    words = ("--max-tokens", "100000")
    assert place.run("index", "--runner", "direct", *words).returncode == 0
    served.asked.clear()
    measures = ("--measures", "R@5,Similarity")
    first = place.evaluate(*measures)
    texts = [text for asked in served.asked for text in asked["input"]]
    assert len(set(texts)) == len(texts) > ROWS
    served.asked.clear()
    second = place.evaluate(*measures)
    assert served.asked == []
    assert lasting(second["path"]) == lasting(first["path"])
    assert place.evaluate(*measures, "--fresh")["summary"] == first["summary"]
