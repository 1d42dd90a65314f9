"""docs/formats.md is executed: every decoder of the page runs on a real store and says what the library says."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval import answers, cached
from eval.answers import AnswerStore, Kept
from rag.clock import SystemClock
from rag.digest import canonical, text_keys
from rag.embedding import jobs, ledger, refusals
from rag.embedding.account import Account
from rag.embedding.cache import Segment, VectorCache, namespaces, segment_names
from rag.embedding.jobs import Jobs, Left, Line, line_id, new_job
from rag.errors import FormatTooNew
from rag.index import build
from rag.index.current import Current
from rag.index.manifest import BUILD, MANIFEST, Manifest
from rag.index.memory import Memory
from rag.index.plan_file import PlanFile
from rag.index.tables import ChunkTable, DocumentTable, ExcludedRow, Table
from rag.index.verify import check_folder
from rag.index.versions import Versions
from rag.pipeline import LAST, plan_only
from rag.providers import remembered
from rag.providers.openai_batches import OpenAIBatches
from rag.providers.settings import UNTOLD, Allowed, ModelSettings, Surroundings
from rag.retrieval.lexical import LexicalIndex
from rag.sealed import read_sealed, write_sealed
from rag.storage import lock, lock_holder, write
from rag.types import Completion, Message, Usage
from tests.generation.making import Scripted
from tests.house import House

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
DOCUMENTS = {
    "a.md": "---\ntitle: Älpha\nyear: 1908\nshare: 0.1\ntags: [x, ü]\n---\n# Älpha\n\nThe first letter.\n\n## Use\n\n"
    + "".join(f"It begins the word number {number} of the letters. " for number in range(60))
    + "\n",
    "b.md": "# Beta\n\nThe second letter.\n\n## Use > more\n\nIt follows alpha.\n",
    "one.txt": "Delta is the fourth letter.\n",
    "two.txt": "Delta is the fourth letter.\n",
    "records.jsonl": '{"id": "r\\u00fc", "title": "Gamma", "text": "The third letter.", "size": 1e300}\n'
    '{"id": "r2", "title": "Gamma", "text": "The third letter again.", "size": 2.5}\n',
    "film.mp4": "no text\n",
}

HOSTED = ModelSettings("openai/text-embedding-3-small")
WHEN = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
REPLIES = {"0" * 64: 0.5, "1" * 64: None}


@dataclass(frozen=True)
class Place:
    """The folder that the page's code runs in, and its store."""

    root: Path
    house: House
    sent: dict[str, str]
    """key -> the text sent"""

    @property
    def store(self) -> Path:
        return self.house.store

    @property
    def versions(self) -> Versions:
        return Versions(self.store, "main")

    @property
    def one(self) -> Path:
        return self.versions.folder(1)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Two versions, the second edited, spent for and rolled back; a plan, and somebody who spends."""
    root = tmp_path_factory.mktemp("formats")
    (root / "data").mkdir()
    house = House(root / "data")
    house.terms = {"free": False, "usd_per_million": 0.02, "max_usd": 5.0}
    for name, text in DOCUMENTS.items():
        house.write(name, text)
    assert house.index().version == 1
    house.write("b.md", "# Beta\n\nThe second letter, edited.\n")
    assert house.index().version == 2
    house.sets = ["chunking.max_tokens=64"]
    assert house.index(purpose="experiment").experiment
    house.sets = []
    found = Versions(house.store, "main")
    found.rollback(None, "wrong prices", "somebody")
    with AnswerStore(house.store / answers.FILE, house.parts().clock) as store:
        for key, usd in REPLIES.items():
            store.put(key, Kept(Completion("Älpha", "toy-1", Usage(1, 9, 2, usd)), 1.25))
    texts = house.sent()
    keys = text_keys(house.model.identity, "passage", texts)
    with house.run(command="ragline plan", purpose="plan") as run:
        plan_only(run)
        run.plan_to_keep().save(root / "plan.json")
    begun(house)
    for reason in ("too long", "Ä: too long"):
        refusals.remember(namespaces(house.store)[0], {b"k" * 32: reason, b"l" * 32: "400"}, WHEN)
    remembered.remember(house.store, HOSTED, Allowed(3000.0, 1_000_000.0), WHEN)
    with Account(house.store, house.parts().clock, "ragline eval", "openai/toy") as account:
        account.bill(Usage(2, 30, 4, 0.125))
        yield Place(root, house, {key.tobytes().hex(): text for key, text in zip(keys, texts, strict=True)})


def begun(house: House) -> None:
    """A batch that has left a text; nobody has submitted it."""
    batches = OpenAIBatches(ModelSettings("openai/toy", base_url="http://127.0.0.1:9/v1"), Surroundings(SystemClock()))
    texts = [["Älpha", "Beta"], ["Gamma"]]
    keys = [[key.tobytes() for key in text_keys(batches.identity, "passage", part)] for part in texts]
    lines = [Line(line_id(part), tuple(key.hex() for key in part), (7,) * len(part)) for part in keys]
    job = new_job("main", batches.identity, SystemClock().utc(), 2, lines)
    left = Left(lines[1].keys, "expired", "too late")
    sent = b"".join(batches.line(line.custom_id, part) for line, part in zip(lines, texts, strict=True))
    write(Jobs(house.store).texts_path(job), sent)
    Jobs(house.store).save(dataclasses.replace(job, sha256=hashlib.sha256(sent).hexdigest(), left=(left,)))


def blocks() -> dict[str, tuple[str, str]]:
    """Heading (with a number from the second on) -> language and code of each block of the page."""
    found: dict[str, tuple[str, str]] = {}
    heading = ""
    for match in re.finditer(r"^#+ ([^\n]+)$|^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        if match[1]:
            heading = match[1]
            continue
        count = sum(name.partition("#")[0] == heading for name in found)
        found[heading + (f"#{count + 1}" if count else "")] = (match[2], match[3])
    return found


def said(code: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a block prints when it runs in this folder."""
    assert not re.search(r"\b(?:import|from) (?:rag|eval|flows)\b", code)
    monkeypatch.chdir(root)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, "docs/formats.md", "exec"), {"__name__": "formats"})
    return out.getvalue().splitlines()


def namespace_lines(place: Place, lines: list[str]) -> None:
    (folder,) = namespaces(place.store)
    assert lines == [f"{folder.name} {VectorCache(place.store, place.house.model.identity, None).folder.name} 16"]  # type: ignore[arg-type]


def key_lines(place: Place, lines: list[str]) -> None:
    rows = place.house.chunks(1)
    prefixes = [place.sent[str(row["key"])].removesuffix(str(row["text"])) for row in rows]
    assert lines == [f"{row['chunk_id']} {prefix!r}" for row, prefix in zip(rows, prefixes, strict=True)]
    assert {"", "Älpha > Use\n\n"} <= set(prefixes)


def segment_lines(place: Place, lines: list[str]) -> None:
    wanted: list[str] = []
    for folder in namespaces(place.store):
        for name in segment_names(folder):
            segment = Segment(folder / name)
            segment.check(np.arange(len(segment)), segment.keys, segment.vectors)
            wanted.append(f"{name} True")
            for key, vector, tokens in zip(segment.keys, segment.vectors, segment.tokens, strict=True):
                wanted.append(f"{key.tobytes().hex()} {vector[0]!s} {tokens} True")
    assert lines == wanted
    assert len(wanted) > len(place.sent)


def refused_lines(place: Place, lines: list[str]) -> None:
    (folder,) = namespaces(place.store)
    known = refusals.known(folder)
    assert lines == [f"{folder.name} {key.hex()} {known[key]} 2026-11-22T12:00:00Z" for key in sorted(known)]
    assert list(known.values()) == ["Ä: too long", "400"]


def current_lines(place: Place, lines: list[str]) -> None:
    state = place.versions.state()
    assert state.hold is not None
    hold = (state.hold.reason, state.hold.from_version)
    published = [(entry.version, entry.after) for entry in state.published]
    assert lines == [f"True {state.version} {state.last} {hold} {published}"] * 2
    assert (state.version, published) == (1, [(1, None), (2, 1)])


def manifest_lines(place: Place, lines: list[str]) -> None:
    wanted: list[str] = []
    for number in place.versions.numbers():
        folder = place.versions.folder(number)
        manifest = Manifest.load(folder / MANIFEST)
        wanted.append(f"{folder.name} True {manifest.content_digest}")
        wanted += [f"{name} {file.bytes} True" for name, file in sorted(manifest.files.items())]
    assert lines == wanted


def build_lines(place: Place, lines: list[str]) -> None:
    names = ("run_id", "previous_version", "texts", "cached", "embedded", "usd")
    wanted: list[str] = []
    for version in place.versions.listed():
        wanted.append(" ".join(str(version.build[name]) for name in names))
        wanted.append(" ".join(str(version.build[name]) for name in ("added", "changed", "removed")))
    assert lines == wanted
    assert wanted[-1] == "[] ['b.md'] []"


def chunk_lines(place: Place, lines: list[str]) -> None:
    wanted = [
        f"{row.row} {row.chunk_id} {row.heading_path} {row.tokens} {row.duplicate_of} True"
        for row in ChunkTable(place.one / "chunks.parquet")
    ]
    assert lines == wanted
    assert sum(row["duplicate_of"] is not None for row in place.house.chunks(1)) == 1


def document_lines(place: Place, lines: list[str]) -> None:
    table = DocumentTable(place.one / "documents.parquet")
    metadata = list(table.metadata())
    columns = table.get([doc_id for doc_id, *_ in metadata], ("title", "reader"))
    wanted = [
        f"{doc_id} {columns[doc_id]['title']} {columns[doc_id]['reader']} {values} {chunks} True"
        for doc_id, values, _, chunks in metadata
    ]
    assert lines == wanted


def excluded_lines(place: Place, lines: list[str]) -> None:
    rows = list(Table(place.one / "excluded.parquet", ExcludedRow))
    assert lines == [f"{row.source} {row.doc_id} {row.stage} {row.reason}" for row in rows]
    assert any(row.source.endswith("film.mp4") for row in rows)


def index_lines(place: Place, lines: list[str]) -> None:
    rows = [Manifest.load(place.versions.folder(number) / MANIFEST).rows for number in (1, 2)]
    assert lines == [f"main IxFI IndexFlatIP {count} 16 True None" for count in rows]


def flat_lines(place: Place, lines: list[str]) -> None:
    assert lines == [f"{Manifest.load(place.one / MANIFEST).rows} 16 True"]


def self_test_lines(_place: Place, lines: list[str]) -> None:
    assert lines == [f"{number} True True" for number in range(build.SELF_TESTS)]


def lexical_lines(place: Place, lines: list[str]) -> None:
    index = LexicalIndex(lambda name: place.one / "lexical" / name)
    compared = 0
    for line in lines:
        stem, _, entries = line.partition(" ")
        # a stem that is stemmed again to another one cannot be asked for by itself
        if index._analyse(stem) == [stem]:
            scores = index.scores(stem)
            rows = np.flatnonzero(scores)
            assert entries == str(dict(zip(rows.tolist(), scores[rows].round(5).tolist(), strict=True)))
            compared += 1
    assert compared > 10


def memory_lines(place: Place, lines: list[str]) -> None:
    remembered = Memory(place.store, "main").load()
    assert remembered is not None
    found = remembered.snapshot
    rows = zip(found.paths, found.stats.tolist(), found.sha256, strict=True)
    assert lines == [" ".join([path, *map(str, stat), digest.tobytes().hex()]) for path, stat, digest in rows]
    assert Manifest.load(place.versions.folder(2) / MANIFEST).content_digest == remembered.content_digest


def opened_lines(place: Place, lines: list[str]) -> None:
    # what was opened is remembered: the second run opened version 1, the experiment version 2
    names = sorted(Manifest.load(place.one / MANIFEST).files)
    assert lines == [f"v00000{number} {name} True" for number in (1, 2) for name in names]


def last_lines(place: Place, lines: list[str]) -> None:
    last = read_sealed(place.versions.root / LAST)
    assert lines == [f"{last['run_id']} published 2 version 2 is live"]


def limit_lines(place: Place, lines: list[str]) -> None:
    told = remembered.allowed(place.store, HOSTED)
    assert lines == [f"openai text-embedding-3-small OPENAI_API_KEY {told.requests} {told.tokens} 2026-11-22T12:00:00Z"]


def newer_limits(place: Place) -> None:
    told: list[Allowed] = []
    newer_sealed(place.store / remembered.NAME, lambda: told.append(remembered.allowed(place.store, HOSTED)))
    assert told == [UNTOLD]


def ledger_lines(place: Place, lines: list[str]) -> None:
    entries = list(ledger.entries(place.store))
    assert lines == [
        f"{entry.model} {entry.requests} {entry.tokens} {entry.usd} {entry.saved_usd} {entry.outcome}"
        for entry in entries
    ]
    assert len(entries) == 3, "two runs and an experiment"


def open_lines(place: Place, lines: list[str]) -> None:
    (entry,) = ledger.open_entries(place.store)
    assert isinstance(entry, ledger.Entry)
    assert lines == [f"{entry.id} 2 34 0.125 running"]
    assert entry.outcome == ledger.RUNNING


def plan_lines(place: Place, lines: list[str]) -> None:
    kept = PlanFile.load(place.root / "plan.json")
    plan, changed = kept.plan, kept.documents
    assert lines == [
        f"ragline plan {kept.created} True",
        f"main {plan['to_embed']} {plan['tokens']} {kept.texts_sha256}",
        " ".join([*changed.added, *changed.changed, *changed.removed]),
    ]
    assert list(changed.changed) == ["b.md"]


def batch_lines(place: Place, lines: list[str]) -> None:
    (job,) = Jobs(place.store).all()
    assert lines == [
        f"{job.digest} True written None 2 [1]",
        "True True ['Älpha', 'Beta'] [7, 7]",
        "True True ['Gamma'] [7]",
    ]


def answer_lines(_place: Place, lines: list[str]) -> None:
    assert lines == ["1", *(f"{key} toy-1 {usd} 1.25 True" for key, usd in REPLIES.items())]


def lock_lines(_place: Place, lines: list[str]) -> None:
    assert lines == ["free, last held by ragline index"]


def digest_lines(place: Place, lines: list[str]) -> None:
    digests = [Manifest.load(place.versions.folder(number) / MANIFEST).content_digest for number in (1, 2)]
    assert lines == [f"v{number:06d} {digest} True" for number, digest in enumerate(digests, 1)]
    assert digests[0] != digests[1]


CHECKS: dict[str, Callable[[Place, list[str]], None]] = {
    "namespace.json": namespace_lines,
    "The key of a text": key_lines,
    "A segment of the vector cache": segment_lines,
    "refused.jsonl": refused_lines,
    "CURRENT": current_lines,
    "manifest.json": manifest_lines,
    "build.json": build_lines,
    "chunks.parquet": chunk_lines,
    "documents.parquet": document_lines,
    "excluded.parquet": excluded_lines,
    "index.faiss": index_lines,
    "index.faiss#2": flat_lines,
    "self_test": self_test_lines,
    "lexical/": lexical_lines,
    "sources.memory": memory_lines,
    "opened/": opened_lines,
    "last.json": last_lines,
    "limits.json": limit_lines,
    "The ledger": ledger_lines,
    "The ledger#2": open_lines,
    "A plan": plan_lines,
    "A batch": batch_lines,
    "answers.sqlite": answer_lines,
    ".lock": lock_lines,
    "content_digest": digest_lines,
}


@pytest.mark.parametrize("heading", [name for name, (language, _) in blocks().items() if language == "python"])
def test_a_decoder_says_what_the_library_says(heading: str, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    CHECKS[heading](place, said(blocks()[heading][1], place.root, monkeypatch))


def test_every_block_of_the_page_is_run() -> None:
    other = {name: language for name, (language, _) in blocks().items() if name not in CHECKS}
    assert other == {"The store": "text"}


def test_every_file_of_a_store_is_in_the_list_and_every_line_of_it_is_a_file(place: Place) -> None:
    patterns = [line.split("  ")[0] for line in blocks()["The store"][1].splitlines()]
    unseen = set(patterns)
    expressions = {name: re.sub(r"<\w+>", "[^/]+", re.escape(name)) for name in patterns}
    for path in place.store.rglob("*"):
        if path.is_file():
            name = path.relative_to(place.store).as_posix()
            fitting = {pattern for pattern, expression in expressions.items() if re.fullmatch(expression, name)}
            assert fitting, name
            unseen -= fitting
    passing = ("staging/", "answers.sqlite-<", "answers.sqlite.damaged")
    assert {name for name in unseen if "/experiments/" not in name and not name.startswith(passing)} == set()


def test_the_key_of_a_reply_is_the_one_of_the_page(place: Place) -> None:
    with AnswerStore(None, place.house.parts().clock) as store:
        chat = cached.CachedChat(Scripted(), store, "http://box/v1", "f" * 64, {"temperature": 0}, 2)
        found = chat.key([Message("system", "ä"), Message("user", "?")], 50)
    stated = {
        "format": 1,
        "model": "test/scripted",
        "base_url": "http://box/v1",
        "prompt_sha256": "f" * 64,
        "parameters": {"temperature": 0},
        "max_tokens": 50,
        "messages": [["system", "ä"], ["user", "?"]],
        "repeat": 2,
    }
    assert found == hashlib.sha256(json.dumps(stated, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def test_a_held_lock_is_said_to_be_held(tmp_path: Path, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with lock(tmp_path / "data" / "store", "ragline gc", place.house.parts().clock):
        assert said(blocks()[".lock"][1], tmp_path, monkeypatch) == ["held by ragline gc"]
        holder = lock_holder(tmp_path / "data" / "store")
    assert holder is not None
    assert holder.command == "ragline gc"


def test_each_kind_of_index_is_the_one_in_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = dict(re.findall(r"^\| `(\w+)` \| (Index\w+ \| `\w+`) \|", PAGE, re.MULTILINE))
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((12, 32))[rng.integers(0, 12, 600)] + 0.3 * rng.standard_normal((600, 32))
    wanted: list[str] = []
    for kind in sorted(table):
        path = tmp_path / "data/store/indexes" / kind / "v000001/index.faiss"
        facts: Any = build.build(lambda: iter([vectors.astype(np.float32)]), 600, 32, kind, path)
        name, fourcc = table[kind].replace("`", "").split(" | ")
        wanted.append(f"{kind} {fourcc} {name} 600 32 True {next(iter(facts['tuned'].values()), None)}")
    assert said(blocks()["index.faiss"][1], tmp_path, monkeypatch) == wanted
    assert len(wanted) == 3


def test_the_digest_of_a_document_of_many_blocks_is_the_one_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    house = House(tmp_path / "data")
    house.sets = ["chunking.max_tokens=16", "chunking.overlap_tokens=0", "chunking.strategy='tokens'"]
    # the same few words over and over are few texts to embed and many chunks
    house.write("long.txt", "".join(f"alpha beta gamma delta epsilon zeta eta theta {n % 10}\n" for n in range(6_000)))
    assert len(house.chunks(house.index().version or 0)) > 4_096
    (line,) = said(blocks()["content_digest"][1], tmp_path, monkeypatch)
    assert line.endswith(" True")


def test_the_digest_of_a_version_without_refused_texts_is_the_one_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    house = House(tmp_path / "data")
    for number in range(40):
        house.write(f"n{number:02}.md", f"# Note {number}\n\nText {number}.\n\n## More\n\nMore of {number}.\n")
    house.write("whole.txt", "Bad from the beginning.\n")
    house.model.refused = {"# Note 7", "Bad"}
    assert house.index().excluded_chunks == 2
    (line,) = said(blocks()["content_digest"][1], tmp_path, monkeypatch)
    assert line.endswith(" True")


def newer_cache(place: Place) -> None:
    path = namespaces(place.store)[0] / "namespace.json"
    with changed(path, canonical({**json.loads(path.read_bytes()), "format": 2})):
        VectorCache(place.store, place.house.model.identity, place.house.parts().clock)


def newer_refused(place: Place) -> None:
    path = namespaces(place.store)[0] / refusals.NAME
    with changed(path, path.read_bytes() + b'{"format": 2}\n'):
        refusals.known(path.parent)


def newer_current(place: Place) -> None:
    path = place.versions.root / "CURRENT"
    line = canonical({**json.loads(path.read_bytes().splitlines()[0]), "format": 2})
    Current.parse(line + b"\n" + hashlib.sha256(line).hexdigest().encode() + b"\n", path)


def newer_sealed(path: Path, read: Callable[[], object]) -> None:
    content = json.loads(path.read_bytes())
    content.pop("sealed_sha256")
    before = path.read_bytes()
    write_sealed(path, {**content, "format": 2})
    try:
        read()
    finally:
        path.write_bytes(before)


def newer_tables(place: Place) -> None:
    import pyarrow.parquet as pq

    tables: dict[str, Callable[[Path], object]] = {
        "chunks": ChunkTable,
        "documents": DocumentTable,
        "excluded": lambda path: Table(path, ExcludedRow),
    }
    for name, opened in tables.items():
        table = pq.read_table(place.one / f"{name}.parquet")
        metadata = {**table.schema.metadata, b"ragline.schema_version": b"2"}
        path = place.root / f"{name}.parquet"
        pq.write_table(table.replace_schema_metadata(metadata), path)
        with pytest.raises(FormatTooNew):
            opened(path)
    raise FormatTooNew("all three")


def newer_lexical(place: Place) -> None:
    path = place.one / "lexical" / "lexical.json"
    with changed(path, canonical({**json.loads(path.read_bytes()), "format": 2})):
        LexicalIndex(lambda name: place.one / "lexical" / name)


def newer_memory(place: Place) -> None:
    path = place.versions.root / "sources.memory"
    head, _, body = path.read_bytes().partition(b"\n")
    with changed(path, canonical({**json.loads(head), "format": 2}) + b"\n" + body):
        assert Memory(place.store, "main").load() is None


def newer_ledger(place: Place) -> None:
    before = list(ledger.entries(place.store))
    (path,) = (place.store / "ledger").glob("*.jsonl")
    line = json.loads(path.read_text().splitlines()[0])
    more = json.dumps({**line, "format": 3}) + "\n" + json.dumps({**line, "format": 3, "more": 1}) + "\n"
    with changed(path, path.read_bytes() + more.encode()):
        assert len(list(ledger.entries(place.store))) == len(before) + 1


def newer_batch(place: Place) -> None:
    (path,) = (place.store / "batches").glob("*.json")
    newer_sealed(path, Jobs(place.store).all)


def newer_answers(place: Place) -> None:
    import sqlite3

    path = place.root / answers.FILE
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 2")
    AnswerStore(path, place.house.parts().clock).close()


@contextlib.contextmanager
def changed(path: Path, data: bytes) -> Any:
    before = path.read_bytes()
    stat = path.stat()
    path.write_bytes(data)
    try:
        yield
    finally:
        path.write_bytes(before)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


NEWER: dict[str, Callable[[Place], None]] = {
    "vector cache": newer_cache,
    "refused.jsonl": newer_refused,
    "CURRENT": newer_current,
    "manifest.json": lambda place: newer_sealed(place.one / MANIFEST, lambda: Manifest.load(place.one / MANIFEST)),
    "build.json": lambda place: newer_sealed(place.one / BUILD, lambda: list(check_folder(place.one))),
    "chunks, documents, excluded": newer_tables,
    "lexical": newer_lexical,
    "sources.memory": newer_memory,
    "last.json": lambda place: newer_sealed(
        place.versions.root / LAST, lambda: read_sealed(place.versions.root / LAST)
    ),
    "limits.json": newer_limits,
    "ledger": newer_ledger,
    "a batch": newer_batch,
    "a plan": lambda place: newer_sealed(place.root / "plan.json", lambda: PlanFile.load(place.root / "plan.json")),
    "answers.sqlite": newer_answers,
}


def test_a_newer_format_meets_what_the_table_says(place: Place) -> None:
    table = dict(re.findall(r"^\| ([^|]+) \| \d+ \| [^|]+ \| (refused|forgotten|read) \|$", PAGE, re.MULTILINE))
    assert set(table) == set(NEWER)
    for name, fate in table.items():
        expected = pytest.raises(FormatTooNew) if fate == "refused" else contextlib.nullcontext()
        with expected:
            NEWER[name](place)


def test_the_versions_of_the_page_are_those_of_the_code() -> None:
    from rag.corpus import snapshot
    from rag.digest import CACHE_FORMAT
    from rag.index import current, manifest, memory, plan_file, tables
    from rag.retrieval import lexical

    numbers = [
        CACHE_FORMAT,
        current.CURRENT_FORMAT,
        manifest.MANIFEST_FORMAT,
        tables.SCHEMA_VERSION,
        lexical.LEXICAL_FORMAT,
        memory.FORMAT,
        snapshot.FORMAT,
        answers.FORMAT,
        cached.KEY_FORMAT,
    ]
    # raised with a format: then its line in the table, its section and CHANGELOG.md change, too
    assert numbers == [1] * 9
    assert (ledger.FORMAT, plan_file.FORMAT, jobs.FORMAT, refusals.FORMAT, remembered.FORMAT) == (2, 1, 1, 1, 1)
