"""The page from top to bottom."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from pathlib import Path

from eval.report.conclusions import conclusions
from eval.report.effort import effort
from eval.report.head import head, title
from eval.report.headline import headline
from eval.report.load import load
from eval.report.markup import Html, escape, tag, trusted
from eval.report.settings import settings, trace
from eval.report.slices import slices
from eval.report.spread import causes, spread
from eval.report.worst import worst

_CONTENTS = {
    "results": "Results",
    "conclusions": "Conclusions",
    "slices": "By kind",
    "spread": "Distributions",
    "causes": "Causes",
    "effort": "Time and cost",
    "worst": "Worst questions",
    "settings": "Settings",
    "trace": "Tracing",
}


def render(folder: Path) -> str:
    """The report of a run as one HTML document: no script, nothing fetched, every text of a document escaped.

    Reads run.json and the four Parquet files of the folder, and nothing else. Raises NotFound where one is missing,
    FormatTooNew for a run of a newer ragline, Damaged for a file that cannot be read.
    """
    run = load(folder)
    parts = {
        "results": headline(run),
        "conclusions": conclusions(run),
        "slices": slices(run),
        "spread": spread(run),
        "causes": causes(run),
        "effort": effort(run),
        "worst": worst(run),
        "settings": settings(run),
        "trace": trace(run),
    }
    present = {name: part for name, part in parts.items() if part is not None}
    links = [tag("li", tag("a", _CONTENTS[name], href=f"#{name}")) for name in present]
    body = tag(
        "body",
        tag("a", "Skip to the results", href="#results", class_="skip"),
        head(run),
        tag("nav", tag("ul", *links), aria_label="Contents"),
        tag("main", *present.values()),
    )
    return "<!DOCTYPE html>\n" + tag("html", _head(title(run)), body, lang="en") + "\n"


def _head(name: str) -> Html:
    style = resources.files("eval.report").joinpath("page.css").read_text("utf-8")
    # what stands in the page may neither run nor fetch, even if a text got out of its element
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name_="color-scheme", content="light dark"),
        tag("title", escape(name)),
        tag("style", trusted(style)),
    )
