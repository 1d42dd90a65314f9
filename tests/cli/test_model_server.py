"""The same run on a real OpenAI-compatible server: one setting changed, nothing paid twice, cited answers from a chat model."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from flows.cli import main

pytestmark = pytest.mark.server


@pytest.fixture
def ragline(
    tmp_path: Path, model_server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Any:
    corpus = tmp_path / "docs"
    corpus.mkdir()
    for number, word in enumerate(("viaduct", "tunnel", "depot", "summit")):
        (corpus / f"{word}.md").write_text(f"# The {word}\n\nThe {word} was opened in 19{number}1 by the director.\n")
    (tmp_path / "ragline.toml").write_text(
        f'store = "store"\n[corpus]\npaths = ["docs"]\n'
        f'[embedding]\nmodel = "openai/smollm2"\nbase_url = "{model_server}/v1"\ntimeout_seconds = 300\n'
        f'[generation]\nmodel = "openai/smollm2"\nbase_url = "{model_server}/v1"\nmax_tokens = 24\ntimeout_seconds = 300\n'
    )
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("RAGLINE_") or name in ("OPENAI_API_KEY", "PREFECT_API_URL"):
            monkeypatch.delenv(name)

    def run(*words: str) -> tuple[int, str]:
        capsys.readouterr()
        code = main(list(words))
        return code, capsys.readouterr().out

    return run


def test_a_server_without_a_price_needs_a_token_cap_and_then_everything_works(ragline: Any) -> None:
    code, out = ragline("plan", "--json")
    plan = json.loads(out)
    assert (code, plan["usd"], plan["tokens_exact"], plan["within_budget"]) == (0, None, False, False)
    code, out = ragline("index", "--json")
    assert code == 4
    assert "--max-tokens" in json.loads(out)["error"]["problems"][0]["remedy"]

    code, out = ragline("index", "--json", "--max-tokens", "10000")
    outcome = json.loads(out)
    assert (code, outcome["reason"], outcome["embedded"]) == (0, "published", 4)
    code, out = ragline("index", "--json")
    assert (json.loads(out)["reason"], json.loads(out)["embedded"]) == ("unchanged", 0)

    code, out = ragline("ask", "--json", "When was the tunnel opened?", "-k", "2")
    answer = json.loads(out)
    assert code == 0
    assert answer["usage"]["requests"] == 1
    assert answer["usage"]["output_tokens"] > 0
    assert len(answer["passages"]) == 2
    for citation in answer["citations"]:
        text = Path("docs", citation["doc_id"]).read_text()
        assert text[citation["start"] : citation["end"]] == citation["quote"]

    code, out = ragline("ask", "--json", "--stream", "When was the depot opened?", "-k", "1")
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert "".join(line["delta"] for line in lines[:-1]) == lines[-1]["answer"]
    entry = json.loads(next(Path("store/ledger").glob("*.jsonl")).read_text().splitlines()[0])
    assert (entry["usd"], entry["tokens"] > 0, entry["outcome"]) == (None, True, "done")
