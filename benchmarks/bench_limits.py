"""How near to the least possible time a paid embedding comes, and what it trips, beside other clients, in one run.

    PYTHONPATH=. .venv/bin/python benchmarks/bench_limits.py [--quick] [--no-peers]

A provider on loopback holds the limits by one of four rules; nobody is told which. The least possible time is read off the
provider's own log: when its rule could first have admitted the last token of the run, and that request's service time.
`ratio` is the time from the first request to the last reply, over that. Real time, one run after another: half an hour.
The peers are run as their users do, 64 texts a request where they let the caller choose: openai's AsyncOpenAI behind a
semaphore of 16, with its own retries (10, and the default 2), and langchain-openai in an environment of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measure import RESULTS, save, with_tables

from tests import provider
from tests.providers.paced_http import MODEL, WIDTH, Ran, ours, run

PROFILES: dict[str, tuple[int, int, int, int, int]] = {
    # requests and tokens a minute; tokens of a run of half a minute; what a minute holds; tokens of a text
    "tokens": (3_000, 1_000_000, 560_000, 1_000_000, 330),
    "many tokens": (5_000, 5_000_000, 2_800_000, 5_000_000, 330),
    "requests": (120, 10_000_000, 300_000, 600_000, 20),
    "both": (240, 1_000_000, 560_000, 1_000_000, 330),
}
PAGE = Path(__file__).resolve().parents[1] / "docs" / "limits.md"
LANGCHAIN = "langchain-openai==1.7.3"
Client = Callable[[provider.Simulator, list[str], int], None]


def account(profile: str, rule: str, **more: Any) -> provider.Options:
    rpm, tpm, *_ = PROFILES[profile]
    return provider.Options(rule=rule, rpm=rpm, tpm=tpm, base_ms=200.0, per_ktoken_ms=20.0, **more)


def tokens_of(profile: str, rule: str, *, drained: bool, minutes: float = 0.0) -> int:
    _, _, half, minute, _ = PROFILES[profile]
    if minutes:
        return int(minutes * minute)
    return half + (minute if rule == "bucket60" and not drained else 0)


def openai_client(retries: int) -> Client:
    """AsyncOpenAI as its documentation has it: a semaphore, and the library's own retries."""

    def work(sim: provider.Simulator, texts: list[str], concurrency: int) -> None:
        import openai

        async def all_of_them() -> None:
            gate = asyncio.Semaphore(concurrency)
            async with openai.AsyncOpenAI(api_key=sim.key, base_url=sim.url, max_retries=retries) as client:

                async def one(part: list[str]) -> None:
                    async with gate:
                        await client.embeddings.create(model=MODEL, input=part, dimensions=WIDTH)

                parts = [texts[start : start + 64] for start in range(0, len(texts), 64)]
                await asyncio.gather(*map(one, parts), return_exceptions=True)

        asyncio.run(all_of_them())

    return work


def langchain(python: Path) -> Client:
    """OpenAIEmbeddings.embed_documents, in an environment that has it."""
    code = (
        "import json, sys\nfrom langchain_openai import OpenAIEmbeddings\nasked = json.load(sys.stdin)\n"
        "model = OpenAIEmbeddings(model=asked['model'], base_url=asked['url'], api_key=asked['key'],\n"
        "    dimensions=asked['width'], check_embedding_ctx_length=False, chunk_size=64)\n"
        "model.embed_documents(asked['texts'])\n"
    )

    def work(sim: provider.Simulator, texts: list[str], concurrency: int) -> None:  # noqa: ARG001 - it sends one by one
        asked = {"model": MODEL, "url": sim.url, "key": sim.key, "width": WIDTH, "texts": texts}
        subprocess.run([python, "-c", code], input=json.dumps(asked), text=True, stderr=subprocess.DEVNULL, check=False)

    return work


def row(name: str, done: Ran, client: str = "ragline") -> dict[str, Any]:
    made = {
        "client": client,
        "run": name,
        "ratio": round(done.ratio, 3),
        "least_s": round(done.least, 1),
        "seconds": round(done.seconds, 1),
        "requests": done.requests,
        "refused": len(done.refused),
        "texts": done.texts,
        "lost": done.lost,
        "billed_twice": done.billed_twice,
        "client_cpu_s": round(done.cpu_seconds, 2),
    }
    print(json.dumps(made), file=sys.stderr, flush=True)
    return made


def alone(profiles: list[str]) -> list[dict[str, Any]]:
    """The account is ours: both buckets at all profiles, empty and full; both windows."""
    rows = []
    for profile in profiles:
        each = PROFILES[profile][-1]
        for rule in ("bucket60", "bucket1"):
            for drained in (True, False):
                name = f"{profile}, {rule}, {'drained' if drained else 'full'}"
                tokens = tokens_of(profile, rule, drained=drained)
                rows.append(row(name, run(account(profile, rule, drained=drained), tokens, each, concurrency=32)))
    for rule in ("sliding", "minute"):
        tokens = tokens_of("tokens", rule, drained=False, minutes=1.7)
        options = account("tokens", rule, phase=25.0 * (rule == "minute"))
        rows.append(row(f"tokens, {rule}, full", run(options, tokens, 330, concurrency=32)))
    return rows


def shared() -> list[dict[str, Any]]:
    """Somebody else uses 40 % of the account; then limits that are cut to a quarter after ten seconds."""
    rows = []
    for rule in ("bucket60", "bucket1", "sliding"):
        done = run(account("tokens", rule, drained=True, second_consumer=0.4), 900_000, 330)
        rows.append(row(f"tokens, {rule}, drained, 40 % used by another", done))
    for rule in ("bucket60", "bucket1"):
        done = run(account("tokens", rule, drained=True), 300_000, 330, cut_after=10.0)
        rows.append(row(f"tokens, {rule}, drained, cut to a quarter", done))
    return rows


def beside(python: Path | None) -> list[dict[str, Any]]:
    """The same account and texts for us and for other clients."""
    clients: dict[str, Client] = {
        "ragline": ours,
        "AsyncOpenAI, 10 retries": openai_client(10),
        "AsyncOpenAI, 2 retries": openai_client(2),
    }
    if python:
        clients["langchain-openai"] = langchain(python)
    rows = []
    for profile in ("tokens", "many tokens"):
        for name, client in clients.items():
            options = account(profile, "bucket60", drained=True)
            done = run(options, tokens_of(profile, "bucket60", drained=True), 330, client=client)
            rows.append(row(f"{profile}, bucket60, drained", done, name))
    return rows


def environment(folder: Path) -> Path | None:
    """A Python with langchain-openai; None where it cannot be had."""
    uv = Path(sys.executable).with_name("uv")
    python = folder / "peer" / "bin" / "python"
    for command in ([uv, "venv", "-q", folder / "peer"], [uv, "pip", "install", "-q", "--python", python, LANGCHAIN]):
        if subprocess.run(command, check=False).returncode:
            return None
    return python


def table(rows: list[dict[str, Any]], *, of_clients: bool = False) -> str:
    """Runs as Markdown."""
    first = "client | run" if of_clients else "run"
    lines = [
        f"| {first} | least s | took s | ratio | requests | refused | texts lost | billed twice | CPU s |",
        "|---" * (10 if of_clients else 9) + "|",
    ]
    for made in rows:
        client = f"{made['client']} | " if of_clients else ""
        lines.append(
            f"| {client}{made['run']} | {made['least_s']} | {made['seconds']} | {_ratio(made)} | {made['requests']:,} | "
            f"{made['refused']:,} | {made['lost']:,} of {made['texts']:,} | {made['billed_twice']:,} | {made['client_cpu_s'] or '-'} |"  # '-': in a process of its own
        )
    return "\n".join(lines)


def _ratio(made: dict[str, Any]) -> str:
    """Of one that loses texts the time says nothing."""
    return "-" if made["lost"] else f"{made['ratio']:.3f}"


def rewritten(page: str, results: dict[str, Any]) -> str:
    """docs/limits.md with its tables made anew. Raises ValueError where markers are missing."""
    sections = {
        "alone": table(results["alone"]),
        "shared": table(results["shared"]),
        "beside": table(results["beside"], of_clients=True),
    }
    return with_tables(page, sections, "bench_limits.py")


def write_page() -> None:
    results = json.loads((RESULTS / "limits.json").read_text(encoding="utf-8"))["results"]
    PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8"), results), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one profile")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--tables", action="store_true", help="only make the tables of docs/limits.md anew")
    asked = parser.parse_args()
    if asked.tables:
        write_page()
        return
    profiles = ["tokens"] if asked.quick else list(PROFILES)
    with tempfile.TemporaryDirectory() as folder:
        python = None if asked.no_peers else environment(Path(folder))
        results = {"alone": alone(profiles), "shared": [] if asked.quick else shared(), "beside": beside(python)}
    save("limits", results)
    if results["shared"] and python:
        write_page()


if __name__ == "__main__":
    main()
