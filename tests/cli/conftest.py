"""A small corpus, and the command run in this process or in one of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flows.cli import main
from tests.house import lexical_in_process

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a corpus and a ragline.toml, which is the working directory."""
    corpus = tmp_path / "docs"
    corpus.mkdir()
    (corpus / "pass.md").write_text(
        "---\nlang: en\n---\n# Marl Pass\n\nThe pass is closed by Lucie Ferrand from November to April.\n"
    )
    (corpus / "depot.md").write_text(
        "---\nlang: de\n---\n# Depot\n\nDas Depot in Tessen hat vier Gleise und eine Drehscheibe.\n"
    )
    (corpus / "viaduct.md").write_text("# Aarle Viaduct\n\nThe viaduct has seven arches and was built in 1908.\n")
    (tmp_path / "ragline.toml").write_text('store = "store"\n[corpus]\npaths = ["docs"]\n')
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("RAGLINE_") or name in ("OPENAI_API_KEY", "PREFECT_API_URL"):
            monkeypatch.delenv(name)
    return tmp_path


class Said:
    """What a command said, and how it ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def ragline(place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """`run(*words)`: the command in this process, which builds the lexical index itself; `shell` is the whole of it."""
    monkeypatch.setattr("rag.retrieval.lexical.build_in_child", lexical_in_process)

    def run(*words: str) -> Said:
        capsys.readouterr()
        code = main(list(words))
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return Said(code, out, err)

    return run


@pytest.fixture
def shell(place: Path) -> Any:
    """`run(line)`: a line of the shell, in which `ragline` is the real command."""

    def run(line: str, **environment: str) -> Said:
        command = f'ragline() {{ "{sys.executable}" -m flows.cli "$@"; }}; {line}'
        around = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
        done = subprocess.run(["bash", "-c", command], env=around, cwd=place, capture_output=True, check=False)
        err = done.stderr.decode()
        assert "Traceback" not in err
        assert "Exception ignored" not in err
        return Said(done.returncode, done.stdout.decode(), err)

    return run
