"""A key that must turn up nowhere: every command at its loudest, in success, in every failure and after a crash.

The key, and the user and password of an address, may stand where the user has put them: in the environment of our
processes and in ragline.toml, which lies outside of what is searched.
"""

from __future__ import annotations

import base64
import gzip
import itertools
import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.batches.making import NOW
from tests.cli.evaluating import furnish
from tests.cli.forking import Command, Ended, Forge, forging
from tests.cli.searched import forms, hits
from tests.provider import Options, Simulator, threaded
from tests.servers import faults
from tests.servers.faults import Answer, Asked, Served, items, refusal, reply

KEY = "canary/5Ff0+a91cQz77==xK"
"""With letters that are quoted in addresses and in JSON, and of no shape that a pattern could know."""
PASSWORD = "pw+canary/81bNq=Z3k"
SECRETS = (KEY, PASSWORD)
VARIABLE = "CREDENTIALS_OF_ANNA"
"""Not named like a key."""
LOUD = {
    "OPENAI_LOG": "debug",
    "ANTHROPIC_LOG": "debug",
    "PREFECT_LOGGING_LEVEL": "DEBUG",
    "PREFECT_LOGGING_ROOT_LEVEL": "DEBUG",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "rag,eval,flows,openai,anthropic,httpx,httpx2,httpcore,httpcore2",
}
EMBEDDING = "openai/text-embedding-3-small"
GPT, CLAUDE = "openai/gpt-6-luna", "anthropic/claude-haiku-4-5"
INDEX = ("index", "-v", "--runner", "direct")
ASK = ("ask", "-v", "Who closes the pass?")
EVAL = ("eval", "-v", "--runner", "direct", "--limit", "3", "--fresh")

pytestmark = pytest.mark.slow
with_and_without = pytest.mark.parametrize("userinfo", [False, True], ids=["plain address", "user in the address"])


@dataclass
class Nest:
    """What is searched, with projects in it; what a command says lies there, too."""

    root: Path
    outside: Path
    forge: Forge
    count: Iterator[int] = field(default_factory=itertools.count)

    def project(
        self, url: str, chat: str = GPT, chat_url: str = "", *, embedding: str = EMBEDDING, userinfo: bool = False
    ) -> Project:
        number = next(self.count)
        folder, config = self.root / f"project{number}", self.outside / f"{number}.toml"
        furnish(folder)
        (folder / "ragline.toml").unlink()
        part = f"//anna:{quote(PASSWORD, safe='')}@" if userinfo else "//"
        url, chat_url = (address.replace("//", part) for address in (url, chat_url or url))
        model = f'model = "{chat}"\nbase_url = "{chat_url}"\napi_key_env = "{VARIABLE}"\ntimeout_seconds = 5\n'
        config.write_text(
            f'store = "{folder / "store"}"\n[corpus]\npaths = ["{folder / "docs"}"]\n'
            f'[evaluation]\ndataset = "{folder / "q.jsonl"}"\nmax_error_share = 0\n'
            f'[embedding]\nmodel = "{embedding}"\nbase_url = "{url}"\napi_key_env = "{VARIABLE}"\n'
            f"dimensions = 8\ntimeout_seconds = 1\n[generation]\n{model}[judge]\n{model}"
            f'[prices]\n"{embedding}" = {{ input = 0.02 }}\n"{chat}" = {{ input = 0.1 }}\n'
        )
        return Project(folder, config, self.forge)

    def refuse_hits(self) -> None:
        assert len([*self.root.rglob("*.err")]) > 3
        assert hits(self.root, SECRETS) == []


@dataclass
class Project:
    folder: Path
    config: Path
    forge: Forge

    def start(self, *words: str, **more: str) -> Command:
        environment = {VARIABLE: KEY, "TMPDIR": str(self.folder.parent / "tmp"), **more}
        return self.forge.start(self.folder, *words, "--config", str(self.config), **environment)

    def run(self, *words: str, **more: str) -> Ended:
        ended = self.start(*words, **more).wait()
        assert "this is a mistake of ragline" not in ended.err, ended.err
        return ended


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    with forging(tmp_path_factory.mktemp("said"), hasty=True, **LOUD) as made:
        yield made


@pytest.fixture
def nest(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, forge: Forge) -> Nest:
    for name in ("said", "tmp"):
        (tmp_path / name).mkdir()
    forge.folder = tmp_path / "said"
    return Nest(tmp_path, tmp_path_factory.mktemp("outside"), forge)


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with threaded(Options(key=KEY, batch=NOW, answer="By Lucie Ferrand, in November [1].")) as running:
        yield running


@pytest.fixture
def served() -> Iterator[Served]:
    with faults.serving() as serving:
        yield serving


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("form", forms(KEY))
def test_the_search_finds_a_secret_however_it_is_written_and_packed(tmp_path: Path, secret: str, form: str) -> None:
    text = f"said: {forms(secret)[form]}, and more"
    (tmp_path / "log.txt").write_text(text)
    pq.write_table(pa.table({"message": ["a" * 999, text]}), tmp_path / "rows.parquet", compression="zstd")
    (tmp_path / "rows.gz").write_bytes(gzip.compress(text.encode()))
    with sqlite3.connect(tmp_path / "rows.db") as opened:
        opened.execute("CREATE TABLE said (text)")
        opened.execute("INSERT INTO said VALUES (?)", [text])
    opened.close()
    (tmp_path / "clean.txt").write_text(text.replace(forms(secret)[form], "[key]"))
    assert {hit.partition(":")[0] for hit in hits(tmp_path, SECRETS)} == {
        "log.txt",
        "rows.parquet",
        "rows.gz",
        "rows.db",
    }


@with_and_without
@pytest.mark.parametrize("chat", [GPT, CLAUDE])
def test_every_command_that_succeeds(nest: Nest, sim: Simulator, chat: str, userinfo: bool) -> None:
    made = nest.project(sim.url, chat, sim.url if chat == GPT else sim.anthropic_url)
    if userinfo:  # the simulator lets nobody in who comes with a password instead of the key
        made = nest.project(sim.url, chat, userinfo=True)
    told = ("settings", "settings --check", "plan", "status", "spend", "versions", "runs", "cache stats")
    for words in map(str.split, told):
        assert made.run(*words).code == made.run(*words, "--json").code == 0
    if userinfo:
        assert made.run(*INDEX).code == 2
        assert made.run("plan", "-v", "--out", "plan.json").code == 0
    else:
        assert made.run("plan", "-v", "--out", "plan.json").code == 0
        assert made.run(*INDEX, "--plan", "plan.json").code == 0
        assert made.run(*ASK).code == made.run(*ASK, "--stream").code == made.run(*ASK, "--json").code == 0
        assert made.run(*EVAL).code == 0
        for words in map(
            str.split, (*told, "verify", "show @latest", "report @latest --output r.html", "export out", "repair")
        ):
            assert made.run(*words).code == 0, words
    nest.refuse_hits()


def test_every_way_in_which_a_provider_fails(nest: Nest, sim: Simulator) -> None:
    """Each fails for as long as it is asked; they wait together."""
    kinds = {"401": 2, "403": 2, "404": 2, "500": 1, "html": 1, "lost": 1, "half": 1, "hang": 1, "error_inside": 1}
    kinds |= {"429_quota": 1, "other_model": 1, "reset": 1, "empty_object": 1, "400_nameless": 1, "nan": 1}
    made = nest.project(sim.url)
    assert made.run(*INDEX).code == 0
    sim.faults(*({"fault": kind, "text": f"poison-{kind} "} for kind in kinds))
    waiting = {}
    for kind in kinds:
        broken = nest.project(sim.url)
        for path in broken.folder.glob("docs/*"):
            path.unlink()
        (broken.folder / "docs/bad.md").write_text(f"# Bad\n\nThere is poison-{kind} here.\n")
        waiting[kind, "index"] = broken.start(*INDEX)
        waiting[kind, "ask"] = made.start("ask", "-v", f"What of poison-{kind} in November?")
    ended = {which: command.wait(180) for which, command in waiting.items()}
    for (kind, command), found in ended.items():
        assert found.code == kinds[kind], (kind, command, found)
    assert "Incorrect API key provided: [key]" in ended["401", "index"].err
    sim.faults({"fault": "401", "path": "chat"})
    assert made.run(*EVAL).code == 2
    sim.faults({"fault": "500", "path": "chat"})
    assert made.run(*EVAL).code == 1
    assert made.run("show", "@latest", "pass-1").code in (0, 2)
    nest.refuse_hits()


BASIC = base64.b64encode(f"anna:{PASSWORD}".encode()).decode()
SAID = " ".join(f"({form})" for form in forms(KEY).values()) + f" Authorization: Bearer {KEY} "
SAID_TOO = SAID + " ".join(f"({form})" for form in forms(PASSWORD).values()) + f" Authorization: Basic {BASIC} "
"""By a server that was sent a user and password as well."""


def _as_json(value: object, status: int = 200) -> Answer:
    return Answer(status, json.dumps(value).encode(), {"content-type": "application/json"})


def _in_headers(said: str) -> Callable[[Asked], Answer]:
    names = ("x-request-id", "retry-after", "x-ratelimit-limit-tokens", "x-echo", "openai-model", "content-encoding")

    def answer(asked: Asked) -> Answer:
        right = reply(asked)
        return Answer(200, right.body, {**right.headers, **dict.fromkeys(names, said)})

    return answer


def echoes(said: str) -> Mapping[str, Answer | Callable[[Asked], Answer]]:
    """Replies that quote; cut off after some 300 letters, the long ones would hold half a key."""
    long = "x" * 280 + said
    return {
        "401": refusal(401, said),
        "403": refusal(403, long),
        "404": refusal(404, said),
        "400 of a text": refusal(400, said, param="input"),
        "422 in its fields": refusal(422, "no", param=said, code=said),
        "429 for good": refusal(429, f"insufficient_quota {said}"),
        "text of a 400": Answer(400, long.encode(), {"content-type": "text/plain"}),
        "HTML of a 400": Answer(400, f"<html>{said}".encode(), {"content-type": "text/html"}),
        "detail of a 400": _as_json({"detail": long}, 400),
        "a deep 400": _as_json({"error": {"message": {"deep": [said]}}}, 400),
        "an error inside": _as_json({"error": {"message": long}}),
        "no JSON": Answer(200, said.encode(), {"content-type": "application/json"}),
        "model": lambda asked: reply(asked, model=said),
        "vectors": lambda asked: reply(asked, [{**item, "embedding": said} for item in items(asked)]),
        "headers": _in_headers(said),
        "a redirect": Answer(302, b"", {"location": f"http://127.0.0.1:1/{said}"}),
        "a redirect to nowhere": Answer(302, b"", {"location": f"canary://{quote(KEY)}"}),
    }


@with_and_without
def test_a_server_that_says_again_what_it_was_sent(nest: Nest, served: Served, userinfo: bool) -> None:
    """Each reply has a model and a project of its own, so that all can be asked at once."""
    known = echoes(SAID_TOO if userinfo else SAID)
    models = {f"openai/echo-{number}": name for number, name in enumerate(known)}

    def answer(asked: Asked) -> Answer:
        echo = known[models[f"openai/{asked['model']}"]]
        return echo if isinstance(echo, Answer) else echo(asked)

    served.always = answer
    made = {model: nest.project(served.url, embedding=model, userinfo=userinfo) for model in models}
    said = {}
    for command in (INDEX, ("index", "--runner", "direct", "--json"), ("status",)):
        running = {model: project.start(*command) for model, project in made.items()}
        for model, each in running.items():
            said[models[model], command] = ended = each.wait(120)
            assert ended.code in ((0,) if command == ("status",) else (1, 2)), (models[model], ended)
    sent = served.headers[-1]["authorization"]
    assert sent == (f"Basic {BASIC}" if userinfo else f"Bearer {KEY}")
    for name in ("401", "403", "text of a 400", "an error inside", "model"):
        assert "[key]" in said[name, INDEX].err, name
    nest.refuse_hits()


def _choice(text: object, finish: str = "stop", model: str = "gpt-6-luna", refusal: str | None = None) -> Answer:
    message = {"role": "assistant", "content": text, "refusal": refusal}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return _as_json({"model": model, "choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 9}})


def _events(*pieces: str, finish: str = "stop", model: str = "gpt-6-luna", after: str = "[DONE]") -> Answer:
    head: dict[str, object] = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": model}
    deltas: list[dict[str, object]] = []
    deltas.extend({"delta": {"content": piece}} for piece in pieces)
    deltas.append({"delta": {}, "finish_reason": finish})
    chunks = [json.dumps({**head, "choices": [{"index": 0, **delta}]}) for delta in deltas]
    body = "".join(f"data: {chunk}\n\n" for chunk in [*chunks, after])
    return Answer(200, body.encode(), {"content-type": "text/event-stream"})


def answers(said: str) -> Mapping[str, Answer]:
    verdict = {"reason": said, "correct": True, "claims": [{"claim": said, "supported": True}]}
    return {
        "text": _choice(said),
        "finish": _choice("Yes [1].", finish=said),
        "model": _choice("Yes [1].", model=said),
        "refusal": _choice("", refusal=said),
        "no text": _choice([said]),
        "verdict": _choice(json.dumps(verdict)),
        "400": refusal(400, said),
    }


def streams(said: str) -> Mapping[str, Answer]:
    return {
        "whole": _events(said),
        "letter by letter": _events(*said),
        "in halves": _events(*(part for form in said.split() for part in (form[:9], form[9:], " "))),
        "finish": _events("Yes [1].", finish=said),
        "model": _events("Yes [1].", model=said),
        "an error": _events("Yes", after=json.dumps({"error": {"message": said}})),
        "no JSON": _events("Yes", after=said),
    }


@with_and_without
def test_a_chat_model_that_says_again_what_it_was_sent(nest: Nest, served: Served, userinfo: bool) -> None:
    said = SAID_TOO if userinfo else SAID
    known = [*answers(said).items(), *streams(said).items()]

    def answer(asked: Asked) -> Answer:
        return reply(asked) if "input" in asked else known[int(asked["model"].removeprefix("echo-"))][1]

    served.always = answer
    made = nest.project(served.url, userinfo=userinfo)
    assert made.run(*INDEX).code == 0
    running: dict[tuple[str, ...], Command] = {}
    for number, (name, _) in enumerate(known):
        model = [word for part in ("generation", "judge") for word in ("--set", f'{part}.model="openai/echo-{number}"')]
        whole = ((), ("--json",)) if name in answers("") else (("--stream",), ("--stream", "--json"))
        for more in whole:
            running[name, *more] = made.start(*ASK, *more, *model)
        if name in answers(""):
            running[name, "eval"] = made.start(*EVAL, "--name", f"echo-{number}", *model)
    ended = {which: command.wait(120) for which, command in running.items()}
    for which, each in ended.items():
        assert each.code in (0, 1), (which, each)
        assert "this is a mistake of ragline" not in each.err, (which, each)
    for line in ("runs", "show echo-0", "show echo-1", "report echo-0 --output report.html", "export out"):
        assert made.run(*line.split()).code == 0, line
    deltas = [json.loads(line) for line in ended["letter by letter", "--stream", "--json"].out.splitlines()]
    told = "".join(delta.get("delta", "") for delta in deltas)
    assert told.count("[key]") == deltas[-1]["answer"].count("[key]") > 5
    (nest.root / "joined.txt").write_text(told)
    nest.refuse_hits()


def test_a_crash_anywhere_with_its_traceback(nest: Nest, sim: Simulator) -> None:
    points = ("embed.before_request", "embed.answered", "embed.stored", "ledger.billed", "cache.add.before_write")
    for point, action in itertools.product((*points, "pipeline.before_manifest"), ("5", "22", "kill")):
        made = nest.project(sim.url)
        ended = made.start(*INDEX, RAGLINE_FAULT=f"{point}:1:{action}").wait()
        assert ended.code == (-9 if action == "kill" else 1), (point, ended)
        assert ("Traceback" in ended.err) == (action != "kill")
        assert made.run("status").code == 0
        assert made.run(*INDEX).code == 0
    nest.refuse_hits()


def test_mistakes_of_the_settings_are_told_without_what_stands_in_them(nest: Nest, sim: Simulator) -> None:
    made = nest.project(sim.url)
    secret = f"anna:{quote(PASSWORD, safe='')}@"
    wrong = [
        f"http://{secret}127.0.0.1:port/v1",
        f"ftp://{secret}127.0.0.1/v1",
        f"http://{secret}",
        f"http://anna:{PASSWORD}@127.0.0.1/v1",  # its slash ends the host
        f"http://anna@corp:{quote(PASSWORD, safe='')}@127.0.0.1:x/v1",
    ]
    for url, words in itertools.product(wrong, (("plan",), INDEX, ("settings",), ("settings", "--check"))):
        assert made.run(*words, "-v", "--set", f'embedding.base_url="{url}"').code in (0, 2), url
    nowhere = f'embedding.base_url="http://{secret}127.0.0.1:1/v1"'
    for words in (("settings", "--json"), ("plan", "--json"), ("plan", "--out", "plan.json")):
        assert made.run(*words, "--set", nowhere).code == 0
    for mistake in (f'embedding.base_urll="http://{secret}host"', f"embedding.max_usd=http://{secret}host"):
        assert made.run("plan", "--set", mistake).code == 2
    for mistake in (f'embedding.api_key="{KEY}"', f"embedding.key={KEY}", f'embedding.api_key_env="{KEY}"'):
        assert made.run("plan", "--set", mistake).code == made.run("settings", "--json", "--set", mistake).code == 2
    assert made.run(*INDEX, **{VARIABLE: f"{KEY}\u00e4"}).code == 2
    assert made.run("settings", RAGLINE_EMBEDDING__BASE_URL=f"http://{secret}127.0.0.1/v1").code == 0
    nest.refuse_hits()


def test_batches_in_success_and_failure(nest: Nest, sim: Simulator, served: Served) -> None:
    made = nest.project(sim.url)
    batch = ("index", "-v", "--runner", "direct", "--batch")
    assert made.run("plan", "--batch").code == 0
    for kind in ("401", "403", "500"):
        sim.faults({"fault": kind, "path": "/v1/"})
        assert made.run(*batch).code in (1, 2)
    sim.faults()
    assert made.run(*batch).code == 0
    sim.faults({"fault": "401", "path": "/v1/"})
    assert made.run(*batch).code == 2
    sim.faults()
    for _ in range(20):
        ended = made.run(*batch, "--json")
        assert ended.code == 0, ended
        if ended.json["reason"] == "published":
            break
        time.sleep(0.2)
    assert made.run("status").code == 0
    assert made.run("spend").code == 0
    served.always = refusal(400, SAID_TOO)
    assert nest.project(served.url, userinfo=True).run(*batch).code in (1, 2)
    nest.refuse_hits()
