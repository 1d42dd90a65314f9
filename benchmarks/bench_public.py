"""What `ragline eval` finds on public sets that bring their corpus: every retrieval mode, and the arms on SQuAD.

Default settings, local/wordllama, local/extractive; each run is the command itself. Differences to lexical are paired, over
the clusters that the runs themselves name. RAGLINE_DATASETS names the folder. The tables of docs/retrieval.md are made of
the figures here: `--tables` writes them anew from the results that lie there, and measures nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from measure import RESULTS, save, with_tables

from eval import record, tables
from eval.statistics import paired

ROOT = Path(__file__).resolve().parents[1]
DATASETS = Path(os.environ.get("RAGLINE_DATASETS", ROOT.parent / "shared" / "datasets"))
PAGE = ROOT / "docs" / "retrieval.md"
MODES = ("lexical", "dense", "hybrid", "rrf")
DEFAULT = "hybrid"
ARMS = ("retrieved", "oracle", "closed_book")
SETS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "squad2-dev-slice": (
        (),
        (
            *("R@1", "R@5", "R@10", "nDCG@10", "RR@10", "SpanHit@5", "SpanR@5"),
            *("EM", "F1", "Contains", "ROUGE-L", "WronglyAbstained", "WronglyAnswered", "CitationP", "CitationR"),
        ),
    ),
    "cranfield": (
        ("--qrels", "graded"),
        ("R@1", "R@5", "R@10", "R@100", "nDCG@10", "RR@10", "AP@100", "Success@5", "Judged@10"),
    ),
}
"""Set -> what else is said of it, and what is measured."""
COMPARED = {"squad2-dev-slice": ("R@1", "R@5", "nDCG@10"), "cranfield": ("R@1", "R@5", "nDCG@10")}
REFERENCE = {"squad2-dev-slice": "squad2-dev-slice,", "cranfield": "cranfield, graded"}
"""Set -> how its row of reference figures begins in the README of the data sets."""
NAMES = {"recall": "R", "MRR": "RR", "MAP": "AP", "success": "Success"}
Row = dict[str, Any]


def asked(name: str, store: Path, mode: str) -> Row:
    """One run: its JSON object, and what the process took."""
    more, measures = SETS[name]
    arms = ARMS if mode == DEFAULT and name == "squad2-dev-slice" else ARMS[:1]
    command = [sys.executable, "-m", "flows.cli", "eval", str(DATASETS / name), "--corpus-from-dataset", *more]
    command += ["--json", "--runner", "direct", "--store", str(store), "--set", f"retrieval.mode={mode}"]
    command += ["--measures", ",".join(measures), "--arms", ",".join(arms)]
    with (store / "out.json").open("w+b") as out:
        process = subprocess.Popen(command, stdout=out, cwd=store, env={**os.environ, "PYTHONPATH": str(ROOT)})
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        text = out.read()
    if process.returncode:
        raise SystemExit(f"{name} {mode}: exit {process.returncode}: {text.decode()}")
    return {**json.loads(text), "cpu_s": used.ru_utime + used.ru_stime, "peak_mb": used.ru_maxrss / 1024}


def values(run: Path, measures: tuple[str, ...]) -> tuple[np.ndarray, list[str]]:
    """The values of the arm retrieved, [questions, measures], NaN where there is none, and the clusters."""
    rows = tables.read(run, record.tables(record.read(run))["scores"]).to_pylist()
    found: dict[str, dict[str, Row]] = {}
    for row in rows:
        if row["arm"] == "retrieved":
            found.setdefault(row["question_id"], {})[row["measure"]] = row
    every = [[found[name][each]["value"] for each in measures] for name in found]
    return np.array(every, dtype=np.float64), [next(iter(row.values()))["cluster_id"] for row in found.values()]


def difference(of: Path, to: Path, measures: tuple[str, ...]) -> dict[str, list[float]]:
    """{measure: mean paired difference, and its 95 % interval}."""
    (ours, clusters), (theirs, _) = values(of, measures), values(to, measures)
    found = paired(theirs, ours, clusters)
    return {name: rounded(each.difference, each.low, each.high) for name, each in zip(measures, found, strict=True)}


def rounded(*found: float | None) -> list[float]:
    return [round(each, 6) for each in found if each is not None]


def cell(row: Row) -> Row:
    """What is kept of a row of the summary."""
    kept = {key: round(row[key], 6) if isinstance(row[key], float) else row[key] for key in ("mean", "low", "high")}
    return {"n": row["n"], **kept}


def whole(run: Row, arm: str) -> dict[str, Row]:
    """{measure: mean with its interval} of an arm, for all questions; those that do not apply are left out."""
    rows = [row for row in run["summary"] if (row["arm"], row["slice_tag"], row["n"] > 0) == (arm, "all", True)]
    if any(row["errors"] or row["unscored"] for row in rows):
        raise SystemExit(f"{run['path']}: something failed")
    return {row["measure"]: cell(row) for row in rows}


def measure(name: str) -> Row:
    """All runs of a set, in one store."""
    compared = COMPARED[name]
    with tempfile.TemporaryDirectory() as folder:
        runs = {mode: asked(name, Path(folder), mode) for mode in MODES}
        paths = {mode: Path(run["path"]) for mode, run in runs.items()}
        about = record.read(paths[DEFAULT])
        modes = {
            mode: {
                "measures": whole(run, "retrieved"),
                "minus_lexical": difference(paths[mode], paths["lexical"], compared) if mode != "lexical" else {},
                "cpu_s": round(run["cpu_s"], 1),
                "peak_mb": round(run["peak_mb"]),
            }
            for mode, run in runs.items()
        }
        better = {
            each: max(("lexical", "dense"), key=lambda mode: modes[mode]["measures"][each]["mean"]) for each in compared
        }
        against = {
            each: {"better": single, "hybrid_minus_it": difference(paths["hybrid"], paths[single], (each,))[each]}
            for each, single in better.items()
        }
    return {
        "questions": about["dataset"]["questions"],
        "answerable": about["dataset"]["answerable"],
        "documents": about["index"]["documents"],
        "chunks": about["index"]["chunks"],
        "rows": about["counts"]["rows"],
        "reference": reference(name),
        "modes": modes,
        "hybrid_against_the_better_side": against,
        "arms": {arm: whole(runs[DEFAULT], arm) for arm in about["arms"]},
    }


def reference(name: str) -> dict[str, float]:
    """{measure: figure} of BM25 in the README of the data sets."""
    header: list[str] = []
    for line in (DATASETS / "README.md").read_text(encoding="utf-8").splitlines():
        cells = [part.strip() for part in line.strip("|").split("|")]
        if cells[0] == "set":
            header = cells
        if cells[0].startswith(REFERENCE[name]):
            named = [(each.partition("@"), float(figure)) for each, figure in zip(header[1:], cells[1:], strict=True)]
            return {f"{NAMES.get(base, base)}@{cutoff}": figure for (base, _, cutoff), figure in named}
    raise SystemExit(f"no reference figures for {name}")


def figure(row: Row) -> str:
    """`0.906 (0.891 to 0.921)`."""
    return f"{row['mean']:.3f} ({row['low']:.3f} to {row['high']:.3f})"


def table(header: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows))


def modes_table(found: Row, names: tuple[str, ...]) -> str:
    """A row a mode, the difference to lexical behind its mean; below them the reference of BM25."""
    rows = []
    for mode in MODES:
        measures, minus = found["modes"][mode]["measures"], found["modes"][mode]["minus_lexical"]
        cells = []
        for name in names:
            delta = " ({:+.3f}, {:+.3f} to {:+.3f})".format(*minus[name]) if name in minus else ""
            cells.append(f"{measures[name]['mean']:.3f}{delta}" if mode != "lexical" else figure(measures[name]))
        rows.append([f"`{mode}`", *cells])
    known = found["reference"]
    rows.append(["BM25, reference", *(f"{known[name]:.3f}" if name in known else "" for name in names)])
    return table(["mode", *names], rows)


def arms_table(found: Row) -> str:
    """A row a measure, a column an arm."""
    arms = found["arms"]
    names = dict.fromkeys(name for measures in arms.values() for name in measures)
    rows = [[name, *(figure(arms[arm][name]) if name in arms[arm] else "" for arm in arms)] for name in names]
    return table(["measure", *(f"`{arm}`" for arm in arms)], rows)


def sections(results: dict[str, Row]) -> dict[str, str]:
    """{marker: Markdown} of docs/retrieval.md."""
    squad, cranfield = results["squad2-dev-slice"], results["cranfield"]
    title = "**SQuAD slice: {answerable:,} answerable questions, {documents:,} passages, {chunks:,} chunks**"
    return {
        "squad-modes": f"{title.format(**squad)}\n\n{modes_table(squad, ('R@1', 'R@5', 'R@10', 'nDCG@10', 'RR@10'))}",
        "cranfield-modes": "**Cranfield: {questions:,} queries, {documents:,} documents with text, graded**".format(
            **cranfield
        )
        + "\n\n"
        + modes_table(cranfield, ("R@1", "R@5", "R@10", "R@100", "nDCG@10", "RR@10", "AP@100", "Success@5")),
        "squad-arms": arms_table(squad),
        "cost": "The {rows:,} answers of SQuAD's three arms took {cpu_s:.0f} CPU seconds and {peak_mb:,} MB, "
        "indexing left out.".format(rows=squad["rows"], **squad["modes"][DEFAULT]),
    }


def rewritten(page: str, results: dict[str, Row]) -> str:
    """The page with its tables made anew. Raises ValueError where markers are missing."""
    return with_tables(page, sections(results), "bench_public.py")


def write_page() -> None:
    """The tables of docs/retrieval.md, from benchmarks/results/public.json."""
    results = json.loads((RESULTS / "public.json").read_text(encoding="utf-8"))["results"]
    PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8"), results), encoding="utf-8")


if __name__ == "__main__":
    if "--tables" not in sys.argv:
        save("public", {name: measure(name) for name in SETS})
    write_page()
