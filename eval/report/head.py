"""What was run: the title, one paragraph, the facts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath

from eval.report.load import Row, Run
from eval.report.markup import Child, Html, shown, tag
from eval.report.numbers import UNKNOWN, count, day, seconds, share
from rag.counted import counted


def head(run: Run) -> Html:
    """The top of the page."""
    facts = [part for name, value in _facts(run) for part in (tag("dt", name), tag("dd", value, dir="auto"))]
    return tag(
        "header",
        tag("p", "Evaluation report", class_="kind"),
        tag("h1", *_title(run)),
        _alarm(run),
        tag("p", *_lead(run), class_="lead"),
        tag("dl", *facts, class_="facts"),
    )


def title(run: Run) -> str:
    """One line for the tab of a browser."""
    index = part(run, "index")
    return f"{_dataset(run)} on {index.get('name') or UNKNOWN} {index.get('version') or ''}".strip() + " - evaluation"


def part(run: Run, name: str) -> Row:
    """An object of run.json; empty where it is absent."""
    found = run.about.get(name)
    return found if isinstance(found, dict) else {}


def generator(run: Run) -> str | None:
    """The model that answered."""
    return model(run, "generation") or next((row["model"] for row in run.questions if row["model"]), None)


def model(run: Run, role: str) -> str | None:
    """The model of a role, as it was asked for."""
    return next((each.get("id") for each in run.about.get("models") or () if each.get("role") == role), None)


def _dataset(run: Run) -> str:
    return PurePath(str(part(run, "dataset").get("path") or "questions")).name


def _title(run: Run) -> list[Child]:
    index = part(run, "index")
    where = " ".join(str(index[each]) for each in ("name", "version") if index.get(each))
    return [tag("bdi", _dataset(run)), " on ", tag("bdi", where or UNKNOWN)]


def _alarm(run: Run) -> Html | None:
    if run.about.get("status") != "invalid":
        return None
    counts = part(run, "counts")
    errors, rows = counts.get("errors") or 0, counts.get("rows") or len(run.questions)
    allowed = (part(run, "settings").get("evaluation") or {}).get("max_error_share")
    more = "" if allowed is None else f", more than the {share(float(allowed), 1)} that the settings allow"
    says = f" {counted(errors, 'row')} of {count(rows)} ended in an error{more}. Its figures show what happened; "
    return tag(
        "p",
        tag("strong", "This run is invalid."),
        says + "do not compare them with another run and do not quote them.",
        class_="alarm",
        role="note",
    )


def _lead(run: Run) -> Iterator[Child]:
    index, dataset, counts = part(run, "index"), part(run, "dataset"), part(run, "counts")
    asked = counts.get("questions") or len({row["question_id"] for row in run.questions})
    unanswerable = len({row["question_id"] for row in run.questions if not row["answerable"]})
    yield counted(asked, "question")
    if unanswerable:
        yield f", {count(unanswerable)} of them without an answer in the documents,"
    yield " were put to the index "
    yield tag("bdi", f"{index.get('name') or UNKNOWN} {index.get('version') or ''}".strip())
    if index.get("documents") is not None:
        yield f" ({counted(index['documents'], 'document')} in {counted(index.get('chunks') or 0, 'chunk')})"
    if generator(run):
        yield " and answered by "
        yield tag("bdi", generator(run))
    yield f" on {day(run.about.get('created_at'))}."
    limit, where = dataset.get("limit"), dataset.get("where")
    if limit:
        yield f" They are a seeded sample of {count(limit)} from a larger set, or all where it has fewer."
    if where:
        yield " Only questions with these tags were asked: "
        yield tag("code", _chosen(where))
        yield "."


def _facts(run: Run) -> Iterator[tuple[str, Child]]:
    index, dataset, counts, times = (part(run, each) for each in ("index", "dataset", "counts", "seconds"))
    yield "Run", tag("code", str(run.about.get("run_id") or run.folder.name))
    if run.about.get("name"):
        yield "Name", str(run.about["name"])
    yield "Status", str(run.about.get("status") or UNKNOWN)
    yield "Data set", f"{dataset.get('path') or UNKNOWN} ({dataset.get('format') or 'format unknown'})"
    embedding = index.get("embedding_model")
    if embedding:
        dimensions = index.get("dimensions")
        yield "Embedding", f"{embedding}" + (f", {dimensions} dimensions" if dimensions else "")
    retrieval = part(run, "settings").get("retrieval") or {}
    if retrieval:
        yield "Retrieval", ", ".join(f"{name} {retrieval[name]}" for name in ("mode", "k") if retrieval.get(name))
    yield "Generator", generator(run) or UNKNOWN
    if run.judges or model(run, "judge"):
        yield "Judge", ", ".join(sorted(set(run.judges.values()))) or model(run, "judge")
    arms = ", ".join(each.replace("_", " ") for each in run.arms)
    repeats = run.about.get("repeats") or 1
    yield "Arms", arms + (f", each {repeats} times" if repeats > 1 else "")
    words = (("ok", "answered"), ("abstained", "abstained"), ("errors", "errors"))
    parts = [f"{count(counts[name])} {word}" for name, word in words if counts.get(name) is not None]
    yield "Rows", f"{count(counts.get('rows') or len(run.questions))}: " + ", ".join(parts)
    yield "Took", seconds(times.get("total"))
    git = part(run, "git")
    commit = (
        f", commit {str(git['commit'])[:10]}{' with changes' if git.get('dirty') else ''}" if git.get("commit") else ""
    )
    yield "Ragline", shown(f"{run.about.get('ragline_version') or UNKNOWN}{commit}")


def _chosen(where: object) -> str:
    """`[{tag, values}]` of run.json as it was asked for."""
    given = where if isinstance(where, list) else []
    pairs = [(each.get("tag"), value) for each in given if isinstance(each, dict) for value in each.get("values") or ()]
    return ", ".join(f"{tag}={value}" for tag, value in pairs)
