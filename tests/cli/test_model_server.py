"""The same run on a real OpenAI-compatible server: one setting changed, nothing paid twice, cited answers from a chat model."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from flows.cli import main
from rag.providers.limits import PROBE

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


def test_a_text_over_the_context_is_found_left_out_and_remembered_and_the_rest_is_there(ragline: Any) -> None:
    Path("docs/long.md").write_text("# Long\n\n" + "The rails go on and on through the snow. " * 900)
    for number in range(20):
        Path(f"docs/hut{number}.md").write_text(f"# Hut {number}\n\nThe hut of kilometre {number} has {number} beds.\n")
    large = ("--set", "chunking.max_tokens=8192", "--set", "corpus.max_failed_share=0.5")
    code, out = ragline("index", "--json", "--max-tokens", "100000", *large)
    outcome = json.loads(out)
    assert (code, outcome["reason"], outcome["embedded"]) == (0, "published", 24)
    lost = pq.read_table("store/indexes/main/v000001/excluded.parquet").to_pylist()
    assert len(lost) == outcome["excluded_chunks"] > 1
    assert {(row["stage"], row["reason"], row["doc_id"]) for row in lost} == {("embed", "refused", "long.md")}
    assert all("too large" in row["detail"] for row in lost)
    code, out = ragline("index", "--json", "--max-tokens", "100000", *large)
    assert (code, json.loads(out)["reason"], json.loads(out)["embedded"]) == (0, "unchanged", 0)
    (spent,) = json.loads(ragline("spend", "--json")[1])["rows"]
    assert (spent["requests"], spent["tokens"]) == (outcome["billed"]["requests"], outcome["billed"]["tokens"])
    assert ragline("verify")[0] == 0


@pytest.mark.slow
def test_limits_of_the_settings_are_kept_where_a_server_tells_none(ragline: Any) -> None:
    """Nobody knows what a bucket holds there, so that nothing is taken from it but the first request."""
    for number in range(60):
        Path(f"docs/halt{number}.md").write_text(f"# Halt {number}\n\nThe train stops at halt {number} on request.\n")
    per_minute = 3_000
    begun = time.monotonic()
    code, out = ragline(
        "index", "--json", "--max-tokens", "10000", "--set", f"embedding.tokens_per_minute={per_minute}"
    )
    seconds = time.monotonic() - begun
    outcome = json.loads(out)
    assert (code, outcome["embedded"]) == (0, 64)
    assert outcome["billed"]["requests"] > 1
    assert outcome["billed"]["tokens"] <= PROBE + per_minute * seconds / 60
