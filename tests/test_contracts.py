"""The drawing of the house is kept: floors, doors, and who may write files."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [path for floor in ("rag", "eval", "flows") for path in sorted((ROOT / floor).rglob("*.py"))]


def test_imports_go_down_only() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("pattern", "allowed"),
    [
        (r"\bpickle\b|\bcloudpickle\b", set()),
        (r"(?<![\w.])(eval|exec)\(", set()),
        (r"yaml\.(load|unsafe_load)\(", {"rag/corpus/markdown.py"}),
        (r"allow_pickle=True|shell=True|verify=False|extractall\(", set()),
        (r"open\([^)]*[\"'][wax]b?\+?[\"']|write_text\(|write_bytes\(", {"rag/storage.py", "flows/server.py"}),
    ],
    ids=["pickle", "eval", "unsafe yaml", "unsafe flags", "writing files"],
)
def test_what_could_run_code_or_write_files_stands_where_it_is_meant_to(pattern: str, allowed: set[str]) -> None:
    found = {
        path.relative_to(ROOT).as_posix()
        for path in SOURCES
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(pattern, line) and not line.lstrip().startswith(("#", '"""'))
    }
    assert found <= allowed


def test_no_flow_file_shadows_a_package() -> None:
    assert not [path for path in (ROOT / "flows").glob("*.py") if path.stem in ("rag", "eval")]


def test_no_lock_file_names_a_host() -> None:
    for path in ROOT.glob("requirements*.lock"):
        assert not re.search(r"https?://|file:|index-url|find-links", path.read_text(encoding="utf-8")), path.name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "absent"),
    [
        (["--help"], ["numpy", "pydantic", "rich", "pyarrow", "prefect", "openai"]),
        (["indx"], ["numpy", "pydantic", "rich", "pyarrow", "prefect", "openai"]),
        (["settings"], ["prefect", "openai", "faiss", "pandas"]),
        (["versions"], ["prefect", "openai", "faiss", "pandas"]),
        (["index"], ["prefect", "openai"]),
        (["ask", "Who closes the pass?"], ["prefect", "openai", "pandas"]),
    ],
)
def test_a_command_imports_nothing_it_does_not_need(words: list[str], absent: list[str], tmp_path: Path) -> None:
    if words[0] in ("index", "ask"):
        corpus = tmp_path / "corpus"
        corpus.mkdir()
        (corpus / "pass.md").write_text("# Pass\n\nLucie Ferrand closes the pass.\n", encoding="utf-8")
        sets = ["--set", f"corpus.paths=['{corpus}']", "--store", str(tmp_path), "--runner", "direct"]
        subprocess.run([sys.executable, "-m", "flows.cli", "index", *sets], cwd=ROOT, check=True, capture_output=True)
    script = (
        "import sys\nfrom flows.cli import main\n"
        f"try: main({words!r} + {[] if words[0] in ('--help', 'indx') else ['--store', str(tmp_path)]!r})\n"
        "except SystemExit: pass\n"
        f"print([name for name in {absent!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[]"
