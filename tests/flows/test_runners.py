from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flows.runners import chosen
from flows.server import configured
from rag.errors import RaglineError
from rag.storage import is_store
from tests.flows.making import ROOT, project

NOBODY = "http://127.0.0.1:9/api"


@pytest.fixture(autouse=True)
def no_prefect(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("PREFECT_API_URL", "PREFECT_PROFILE", "PREFECT_PROFILES_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))


def test_auto_runs_directly_where_no_server_is_configured() -> None:
    assert chosen("auto") == "direct"


def test_prefect_without_a_configured_server_is_prefect_all_the_same() -> None:
    assert chosen("prefect") == "prefect"


def test_auto_takes_a_configured_server_that_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", NOBODY)
    assert chosen("auto", lambda url: url == NOBODY) == "prefect"


def test_auto_says_once_that_a_configured_server_does_not_answer_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", NOBODY)
    assert chosen("auto") == "direct"
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert NOBODY in said[0]
    assert said[0].startswith("warning: ")


def test_prefect_with_a_server_out_of_reach_fails_and_names_the_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", NOBODY)
    with pytest.raises(RaglineError, match="does not answer") as failed:
        chosen("prefect")
    assert failed.value.exit_code == 1
    assert "--runner direct" in failed.value.problems[0].remedy


def test_direct_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", NOBODY)
    assert chosen("direct", lambda _: pytest.fail("asked")) == "direct"


def test_the_server_of_the_active_profile_is_configured_too(tmp_path: Path) -> None:
    assert configured() is None
    (tmp_path / "profiles.toml").write_text(f'active = "work"\n[profiles.work]\nPREFECT_API_URL = "{NOBODY}"\n')
    assert configured() == NOBODY


@pytest.mark.parametrize(
    "content", ["", "active = 3", 'active = "x"\n[profiles]', "[profiles\n", 'active="p"\nprofiles=[]']
)
def test_a_profile_file_that_names_no_server_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "profiles.toml").write_text(content)
    assert configured() is None


def test_a_store_with_vectors_or_versions_is_one(tmp_path: Path) -> None:
    assert not is_store(tmp_path)
    (tmp_path / "cache").mkdir()
    assert is_store(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["--help"], ["plan"], ["index", "--runner", "direct"], ["serve", "--help"]])
def test_a_command_that_needs_no_prefect_does_not_import_it(tmp_path: Path, arguments: list[str]) -> None:
    made = project(tmp_path / "p")
    code = (
        "import sys\nfrom flows.cli import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit:\n    pass\n"
        "assert not [name for name in sys.modules if name.split('.')[0] == 'prefect']"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=made.folder,
        env={**made.environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
