"""A corpus with questions about it, `ragline` as a process over it, a chat server that answers and judges, and the tables."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eval import record, tables
from tests.servers.faults import Answer, Asked

ROOT = Path(__file__).resolve().parents[2]
TEXTS = {
    "pass.md": "# Marl Pass\n\nThe pass is closed by Lucie Ferrand from November to April.\n",
    "depot.md": "# Depot\n\nThe depot in Tessen has four tracks and a turntable of 1931.\n",
    "viaduct.md": "# Aarle Viaduct\n\nThe viaduct has seven arches and was built in 1908.\n",
    "soup.md": "# Soup\n\nLentil soup costs seven crowns at the buffet of the summit.\n",
    "goats.md": "# Goats\n\nThe herdsman sends his goats down with the Tuesday freight.\n",
    "line.md": "# Line\n\n" + "".join(f"Stop {n} of the line lies at {100 + 7 * n} metres. " for n in range(60)) + "\n",
}
ASKED: Sequence[tuple[str, str, str, str]] = (
    ("pass-1", "Who closes the pass in November?", "Lucie Ferrand", "pass.md"),
    ("depot-1", "How many tracks has the depot in Tessen?", "four", "depot.md"),
    ("depot-2", "Of which year is the turntable of the depot?", "1931", "depot.md"),
    ("viaduct-1", "How many arches has the Aarle viaduct?", "seven arches", "viaduct.md"),
    ("viaduct-2", "When was the viaduct built?", "1908", "viaduct.md"),
    ("soup-1", "What does lentil soup cost?", "seven crowns", "soup.md"),
    ("goats-1", "With which train do the goats go down?", "Tuesday freight", "goats.md"),
    ("line-1", "How high does stop 31 of the line lie?", "317 metres", "line.md"),
)
UNANSWERABLE = ("nobody-1", "nobody-2")
ROWS = len(ASKED) + len(UNANSWERABLE)


def questions() -> list[dict[str, Any]]:
    """The question set, as its file has it."""
    found: list[dict[str, Any]] = []
    for question_id, text, quote, doc_id in ASKED:
        start = TEXTS[doc_id].index(quote)
        gold = {"doc_id": doc_id, "start": start, "end": start + len(quote), "quote": quote}
        tags = {"about": question_id.partition("-")[0], "kind": "number" if quote[0].isdigit() else "word"}
        row = {"question_id": question_id, "question": text, "answers": [quote], "answerable": True}
        found.append({**row, "gold": [gold], "tags": tags})
    for question_id, text in zip(
        UNANSWERABLE, ("Who owns the lake?", "How many tracks has the depot in Marl?"), strict=True
    ):
        row = {"question_id": question_id, "question": text, "answers": [], "answerable": False, "gold": []}
        found.append({**row, "tags": {"about": "nothing", "kind": "word"}})
    return found


def furnish(folder: Path, *sections: str) -> None:
    """Corpus, questions and ragline.toml into a folder."""
    (folder / "docs").mkdir(parents=True)
    for name, text in TEXTS.items():
        (folder / "docs" / name).write_text(text)
    rows = "".join(json.dumps(row) + "\n" for row in questions())
    (folder / "q.jsonl").write_text(rows)
    settings = ['store = "store"', "[corpus]", 'paths = ["docs"]', "[evaluation]", 'dataset = "q.jsonl"', *sections]
    (folder / "ragline.toml").write_text("\n".join(settings) + "\n")


def chat(section: str, url: str, *more: str) -> str:
    """The section of a chat model at a server."""
    lines = (f"[{section}]", 'model = "openai/toy"', f'base_url = "{url}"', "concurrency = 2", *more)
    return "\n".join(lines)


PRICES = '[prices]\n"openai/toy" = { input = 1.0, output = 10.0 }'


@dataclass
class Place:
    """A furnished folder, worked on by the real command in processes of their own."""

    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def store(self) -> Path:
        return self.folder / "store"

    def start(self, *words: str, **more: str) -> subprocess.Popen[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAGLINE_", "PREFECT_"))}
        return subprocess.Popen(
            [sys.executable, "-m", "flows.cli", *words],
            cwd=self.folder,
            env={**kept, "PYTHONPATH": str(ROOT), **self.environment, **more},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*words, **more)
        out, err = process.communicate(timeout=300)
        assert "Traceback" not in err, err
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def evaluate(self, *words: str, exit_code: int = 0, **more: str) -> dict[str, Any]:
        """The object of `ragline eval --json`."""
        done = self.run("eval", "--runner", "direct", "--json", *words, **more)
        assert done.returncode == exit_code, done.stdout + done.stderr
        content: dict[str, Any] = json.loads(done.stdout)
        return content

    def runs(self) -> list[str]:
        """What lies under results/, sorted."""
        return sorted(path.name for path in (self.store / "results").iterdir())

    def staged(self) -> list[str]:
        return [path.name for path in (self.store / "staging").iterdir()]


def lasting(run: Path | str) -> dict[str, Any]:
    """The four tables of a run without what may differ between identical runs, in Arrow."""
    folder = Path(run)
    content = record.read(folder)
    lines = record.tables(content)
    return {name: tables.read(folder, lines[name]).drop_columns(_there(content, name)) for name in tables.TABLES}


def _there(content: Mapping[str, Any], table: str) -> list[str]:
    return [column.name for column in tables.TABLES[table] if column.name in content["volatile"]]


def fingerprint(run: Path | str) -> str:
    return str(record.read(Path(run))["fingerprint"])


def answered(asked: Asked) -> Answer:
    """A right reply, whatever is asked: an answer that cites its first passage, or the verdict of a mild judge."""
    text = "\n".join(message["content"] for message in asked["messages"])
    if not is_judged(asked):
        question = re.search(r"<question>\n(.*)\n</question>", text)
        return said(f"Of {question[1] if question else 'that'} nobody knows more [1].")
    if '"correct"' in text:
        return said('{"reason": "It says so.", "correct": true}')
    if '"statements"' in text:
        return said('{"statements": [{"statement": "It lies there.", "relevant": true}]}')
    if '"claims"' in text:
        return said('{"claims": [{"claim": "It lies there.", "supported": true}]}')
    return said("{}")


def is_judged(asked: Asked) -> bool:
    """Whether a request is one of the judge."""
    return "Reply with one JSON object" in asked["messages"][0]["content"]


def said(text: str) -> Answer:
    """A reply of a chat server."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 100, "completion_tokens": 10}
    body = json.dumps({"model": "toy-1", "choices": [choice], "usage": usage}).encode()
    return Answer(200, body, {"content-type": "application/json"})
