"""run.json: what a run was, every key in every run, so that a number can be traced to what made it.

Keys never depend on data: what could have any name stands as a list of objects.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from eval.about import DatasetInfo, ModelInfo, RunInfo, redacted
from eval.measures.registry import MEASURES
from eval.rows import status
from eval.tables import SCHEMA_VERSION, TABLES, damaged, volatile
from eval.types import Scored
from rag import clock
from rag.digest import digest
from rag.errors import refuse_newer
from rag.types import Json

RUN = "run.json"
KEYS = (
    *("schema_version", "run_id", "name", "status", "fingerprint", "created_at", "finished_at", "ragline_version"),
    *("command", "git", "index", "dataset", "corpus", "settings", "arms", "repeats", "search_depth", "seed", "models"),
    *("prompts", "measures", "counts", "usage", "seconds", "tables", "volatile", "agreement"),
)
_TEXTS = ("run_id", "status", "fingerprint", "created_at")
_LISTS = ("command", "arms", "models", "prompts", "measures", "volatile", "agreement")
_OBJECTS: Mapping[str, tuple[str, ...]] = {
    "index": ("name", "version", "embedding_model"),
    "dataset": ("path",),
    "settings": ("retrieval",),
    "counts": ("questions", "rows", "ok", "abstained", "errors"),
    "usage": ("requests", "usd"),
    "seconds": (),
}
"""With the keys that are read from them."""
_REPLIES = ("model", "base_url", "max_tokens")
"""Of a chat model's settings: what its replies hang on."""


def fingerprint(info: RunInfo, scored: Scored) -> str:
    """sha256 of everything that the figures depend on: equal fingerprints, equal Parquet but for volatile columns.

    Settings count where they change an answer or a score: not where something lies, how fast it is asked, what it may
    cost, and not what the index was made with, which its content says.
    """
    settings: Any = info.settings
    asked = {
        "retrieval": settings["retrieval"],
        **{role: {key: settings[role][key] for key in _REPLIES} for role in ("generation", "judge")},
        "arms": list(info.arms),
        "repeats": info.repeats,
        "search_depth": info.search_depth,
        "seed": info.seed,
    }
    return digest(
        {
            "schema_version": SCHEMA_VERSION,
            "settings": asked,
            "index": info.index.content_sha256,
            "dataset": {"sha256": info.dataset.sha256, "limit": info.dataset.limit, "where": _where(info.dataset)},
            "prompts": [[each.role, each.sha256] for each in info.prompts],
            "measures": [[each["name"], each["version"]] for each in _measures(scored)],
            "code": [info.ragline_version, info.commit, info.dirty],
        }
    )


def run_json(info: RunInfo, scored: Scored, tables: Sequence[Mapping[str, Json]]) -> dict[str, Json]:
    """All of run.json; `tables` as `eval.tables.write` gives them."""
    observed = scored.observed
    became = Counter(map(status, observed))
    index = asdict(info.index) | {"version": info.index.label}
    values: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "run_id": info.run_id,
        "name": info.name or None,
        "status": info.status,
        "fingerprint": fingerprint(info, scored),
        "created_at": clock.text(info.created_at),
        "finished_at": clock.text(info.finished_at),
        "ragline_version": info.ragline_version,
        "command": [redacted(part) for part in info.command],
        "git": {"commit": info.commit, "dirty": info.dirty},
        "index": index,
        "dataset": asdict(info.dataset) | {"where": _where(info.dataset)},
        "corpus": {"name": info.index.name, "sha256": info.index.content_sha256},
        "settings": dict(info.settings),
        "arms": list(info.arms),
        "repeats": info.repeats,
        "search_depth": info.search_depth,
        "seed": info.seed,
        "models": [
            {"role": each.role, "id": each.id, "base_url": each.base_url and redacted(each.base_url)}
            | {"reported": _reported(each, scored)}
            for each in info.models
        ],
        "prompts": [asdict(each) for each in info.prompts],
        "measures": _measures(scored),
        "counts": {
            "questions": len({each.question.question_id for each in observed}),
            "rows": len(observed),
            "ok": became["ok"],
            "abstained": became["abstained"],
            "errors": became["error"],
        },
        "usage": _usage(info, scored),
        "seconds": {
            "retrieve": sum(each.retrieve_seconds for each in observed),
            "generate": _total(each.generate_seconds for each in observed),
            "judge": _total(scored.judge_seconds),
            "total": (info.finished_at - info.created_at).total_seconds(),
        },
        "tables": [dict(each) for each in tables],
        "volatile": volatile(),
        "agreement": [asdict(each) for each in info.agreement],
    }
    assert tuple(values) == KEYS
    return values


def read(folder: Path) -> dict[str, Any]:
    """run.json of a run's folder. Raises Damaged where it is not whole, FormatTooNew."""
    path = folder / RUN
    try:
        values = json.loads(path.read_bytes())
    except OSError as error:
        raise damaged(path, str(error.strerror or error)) from error
    except (ValueError, RecursionError) as error:
        raise damaged(path, "it is no JSON") from error
    if not isinstance(values, dict):
        raise damaged(path, "it is no JSON object")
    refuse_newer(path, values.get("schema_version"), SCHEMA_VERSION)
    if absent := [key for key in KEYS if key not in values]:
        raise damaged(path, f"it lacks {', '.join(absent)}")
    if wrong := _wrong(values):
        raise damaged(path, f"{', '.join(wrong)} is not what it is in a run")
    try:
        listed = tables(values)
        for name in TABLES:
            refuse_newer(folder / listed[name]["file"], listed[name]["schema_version"], SCHEMA_VERSION)
            str(listed[name]["sha256"])
    except (KeyError, TypeError) as error:
        raise damaged(path, "it does not tell of every table") from error
    return values


def _wrong(values: Mapping[str, Any]) -> list[str]:
    found = [key for key in _TEXTS if not isinstance(values[key], str)]
    found += [key for key in _LISTS if not isinstance(values[key], list)]
    for key, parts in _OBJECTS.items():
        if not isinstance(values[key], dict) or not values[key].keys() >= set(parts):
            found.append(key)
    return found if isinstance(values["schema_version"], int) else ["schema_version", *found]


def tables(record: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The line of each table in run.json, by the table's name."""
    return {Path(each["file"]).stem: each for each in record["tables"]}


def _where(dataset: DatasetInfo) -> Json:
    if dataset.where is None:
        return None
    return [{"tag": tag, "values": list(values)} for tag, values in dataset.where.items()]


def _reported(model: ModelInfo, scored: Scored) -> list[str]:
    """The names that the models themselves gave, sorted."""
    if model.role == "generation":
        return sorted({each.answer.model for each in scored.observed if each.answer})
    if model.role == "judge":
        return sorted({each.scored_by for row in scored.scores for each in row} - {"ragline"})
    return []


def _measures(scored: Scored) -> list[dict[str, Any]]:
    found = []
    for measure in scored.measures:
        entry = MEASURES[measure.name]
        bounds = {"low": entry.low, "high": entry.high}
        same = {"name": str(measure), "version": entry.version, "higher_is_better": entry.higher_is_better}
        found.append(same | bounds)
    return found


def _usage(info: RunInfo, scored: Scored) -> dict[str, Any]:
    """What the run was billed, judge included; usd and usd_saved are null where a part of them is unknown."""
    billed = sum((each.usage for each in scored.observed), scored.judge_usage)
    saved = [each.usd_saved for each in scored.observed] + [scored.judge_usd_saved]
    known = [each for each in saved if each is not None]
    return {
        "requests": billed.requests,
        "input_tokens": billed.input_tokens,
        "output_tokens": billed.output_tokens,
        "usd": billed.usd,
        "usd_saved": sum(known) if len(known) == len(saved) else None,
        "priced_on": info.priced_on,
        "unpriced": list(info.unpriced),
    }


def _total(seconds: Iterable[float | None]) -> float:
    return sum(each for each in seconds if each is not None)
