"""The page of a run: everything is told, nothing breaks out, nothing is fetched, and it stays small."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval import tables
from eval.report.load import load
from eval.report.markup import Html, escape, shown, tag
from eval.report.passages import gold_marks, long_text
from eval.report.render import render
from eval.report.worst import BYTES
from eval.statistics import summarise
from eval.types import Status
from rag.errors import Damaged, FormatTooNew, NotFound
from tests.eval import made_runs

RUN = "20261122T080000Z-3f9a1c"
VOID = {"meta", "br"}
Row = dict[str, Any]
TEXT = "The rack is sprayed every fourteen days. Spraying is possible down to -15 °C measured at the rack."
GOLD = 80 + TEXT.index("down to -15")


def question(name: str, **changes: object) -> Row:
    """A row of `questions` that went well."""
    words = f"How cold may it be for spraying, {name}?"
    expected = ["-15 °C"]
    gold = [{"doc_id": "rack.md", "start": GOLD, "end": GOLD + 11, "quote": "down to -15", "grade": 1}]
    return {
        "run_id": RUN,
        "question_id": name,
        "arm": "retrieved",
        "repeat": 0,
        "question": words,
        "question_sha256": "0" * 64,
        "status": "ok",
        "error_type": None,
        "error_message": None,
        "answer": "Down to -15 °C.",
        "cause": None,
        "model": "local/extractive",
        "prompt": "system\n\nAnswer from the passages.\n\nuser\n\nHow cold?",
        "prompt_sha256": "1" * 64,
        "expected_json": json.dumps(expected),
        "gold_json": json.dumps(gold),
        "citations_json": json.dumps([{"doc_id": "rack.md", "start": GOLD, "end": GOLD + 11, "quote": "down to -15"}]),
        "tags_json": json.dumps({"type": "fact"}),
        "answerable": True,
        "abstained": False,
        "answer_cached": False,
        "gold_count": 1,
        "first_gold_rank": 1,
        "retrieved_count": 1,
        "prompt_passages": 1,
        "input_tokens": 200,
        "output_tokens": 9,
        "usd": 0.0,
        "usd_saved": 0.0,
        "retrieve_seconds": 0.004,
        "generate_seconds": 0.012,
        "judge_seconds": None,
        "asked_at_utc": None,
    } | changes


def passage(name: str, rank: int = 1, **changes: object) -> Row:
    """A row of `retrieved` that holds the gold."""
    return {
        "run_id": RUN,
        "question_id": name,
        "arm": "retrieved",
        "repeat": 0,
        "rank": rank,
        "score": 3.25 - rank / 10,
        "dense_rank": 2,
        "lexical_rank": None,
        "dense_score": 0.5,
        "lexical_score": None,
        "chunk_id": f"rack.md@{rank * 100}-{rank * 100 + len(TEXT)}",
        "doc_id": "rack.md",
        "source": "rack.md",
        "heading_path": "Rack > Spraying",
        "text": TEXT,
        "char_start": 80,
        "char_end": 80 + len(TEXT),
        "tokens": 20,
        "judged": True,
        "grade": 1,
        "gold_chars": 11,
        "in_prompt": True,
        "cited": True,
    } | changes


def score(name: str, measure: str, value: float | None, **changes: object) -> Row:
    """A row of `scores`."""
    return {
        "run_id": RUN,
        "question_id": name,
        "arm": "retrieved",
        "repeat": 0,
        "measure": measure,
        "value": value,
        "status": "unscored" if value is None else "scored",
        "reason": None,
        "cluster_id": name,
        "scored_by": "ragline",
    } | changes


def summary(questions: Sequence[Row], scores: Sequence[Row], higher: Mapping[str, bool]) -> Iterable[Row]:
    """Rows of `summary` as the harness makes them."""
    tags = {(row["question_id"], row["arm"], row["repeat"]): json.loads(row["tags_json"]) for row in questions}
    slices: dict[tuple[str, str, str, str], list[Row]] = {}
    for row in scores:
        own = tags[row["question_id"], row["arm"], row["repeat"]]
        for slice_tag, value in [("all", "all"), *own.items()]:
            slices.setdefault((row["arm"], slice_tag, value, row["measure"]), []).append(row)
    for (arm, slice_tag, value, measure), rows in slices.items():
        values = np.array([[np.nan if row["value"] is None else row["value"]] for row in rows])
        statuses = [[Status[row["status"].upper()]] for row in rows]
        found = summarise(values, [row["cluster_id"] for row in rows], statuses, draws=200)[0]
        yield {
            "run_id": RUN,
            "run_name": "",
            "index_name": "main",
            "index_version": "v000007",
            "dataset": "data/questions/vallorne.jsonl",
            "arm": arm,
            "measure": measure,
            "slice_tag": slice_tag,
            "slice_value": value,
            "n": found.n,
            "unscored": found.unscored,
            "errors": found.errors,
            "clusters": found.clusters,
            "mean": found.mean,
            "low": found.low,
            "high": found.high,
            "mean_errors_zero": found.mean_errors_zero,
            "confidence": 0.95,
            "interval": "none" if found.low is None else "bootstrap_clustered",
            "higher_is_better": higher.get(measure, True),
            "enough": not found.few_clusters,
        }


def about(questions: Sequence[Row], measures: Iterable[str], written: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """run.json."""
    return {
        "schema_version": 1,
        "run_id": RUN,
        "name": None,
        "status": "complete",
        "fingerprint": "f" * 64,
        "created_at": "2026-11-22T08:00:00Z",
        "finished_at": "2026-11-22T08:00:31Z",
        "ragline_version": "0.1.0",
        "command": ["ragline", "eval"],
        "git": {"commit": "9fa273b0123456789", "dirty": True},
        "index": {
            "name": "main",
            "version": "v000007",
            "content_sha256": "c" * 64,
            "published": True,
            "documents": 112,
            "chunks": 604,
            "embedding_model": "local/wordllama",
            "dimensions": 256,
        },
        "dataset": {
            "path": "data/questions/vallorne.jsonl",
            "format": "canonical",
            "sha256": "d" * 64,
            "questions": len(questions),
            "answerable": sum(row["answerable"] for row in questions),
            "limit": None,
            "where": None,
        },
        "corpus": {"name": "main", "sha256": "e" * 64},
        "settings": {
            "retrieval": {"mode": "hybrid", "k": 5, "weights": None},
            "generation": {"model": "local/extractive"},
            "evaluation": {"max_error_share": 0.02},
        },
        "arms": list(dict.fromkeys(row["arm"] for row in questions)),
        "repeats": 1,
        "search_depth": 100,
        "seed": 0,
        "models": [
            {"role": "embedding", "id": "local/wordllama", "base_url": None, "reported": "local/wordllama"},
            {"role": "generation", "id": "local/extractive", "base_url": None, "reported": "local/extractive"},
        ],
        "prompts": [{"role": "generation", "path": "answer.v1", "version": "1", "sha256": "a" * 64}],
        "measures": [
            {"name": each, "version": 1, "higher_is_better": True, "low": 0.0, "high": 1.0} for each in measures
        ],
        "counts": {
            "questions": len({row["question_id"] for row in questions}),
            "rows": len(questions),
            "ok": sum(row["status"] == "ok" for row in questions),
            "abstained": sum(row["status"] == "abstained" for row in questions),
            "errors": sum(row["status"] == "error" for row in questions),
        },
        "usage": {
            "requests": 0,
            "input_tokens": 0,
            "output_tokens": 0,
            "usd": 0.0,
            "usd_saved": 0.0,
            "priced_on": None,
            "unpriced": [],
        },
        "seconds": {"retrieve": 0.6, "generate": 1.9, "judge": None, "total": 31.0},
        "tables": [dict(each) for each in written],
        "volatile": tables.volatile(),
        "agreement": [],
    }


def run_folder(
    folder: Path,
    questions: Sequence[Row],
    retrieved: Sequence[Row] = (),
    scores: Sequence[Row] = (),
    higher: Mapping[str, bool] | None = None,
    **changes: object,
) -> Path:
    """A run folder as RESULTS.md has it."""
    from datetime import datetime

    folder.mkdir(parents=True, exist_ok=True)
    asked = [row | {"asked_at_utc": row["asked_at_utc"] or datetime(2026, 11, 22, 8)} for row in questions]
    rows = {
        "questions": asked,
        "retrieved": retrieved,
        "scores": scores,
        "summary": list(summary(questions, scores, higher or {})),
    }
    for name in rows:
        (folder / f"{name}.parquet").unlink(missing_ok=True)
    written = [tables.write(folder, name, each) for name, each in rows.items()]
    values = about(questions, dict.fromkeys(row["measure"] for row in scores), written) | changes
    (folder / "run.json").write_text(json.dumps(values))
    return folder


def sample(folder: Path, **changes: Any) -> Path:
    """Thirty questions in two arms: one failed, some wrong, two kinds, one judge."""
    questions, retrieved, scores = [], [], []
    for at in range(30):
        name = f"q{at:02}"
        tags = json.dumps({"type": "number" if at % 5 == 0 else "fact"})
        failed, wrong = at == 7, at % 4 == 0
        for arm in ("retrieved", "oracle"):
            row = question(name, arm=arm, tags_json=tags, answer_cached=at % 2 == 0)
            if failed and arm == "retrieved":
                broken = {"error_type": "ProviderFailed", "error_message": "four times 500", "generate_seconds": None}
                row |= {"status": "error", "answer": None, "cause": "error", **broken}
            elif wrong and arm == "retrieved":
                row |= {"answer": f"Every fourteen days, {name}.", "cause": "answered_wrongly"}
            questions.append(row)
            for measure, value in (("Contains", 0.0 if wrong and arm == "retrieved" else 1.0), ("F1", 0.4 + at / 100)):
                state: Row = {"arm": arm}
                if row["status"] == "error":
                    state |= {"status": "error", "reason": "the question failed"}
                scores.append(score(name, measure, None if "status" in state else value, **state))
        state = {"status": "error", "reason": "the question failed"} if failed else {}
        scores.append(score(name, "nDCG@10", None if failed else 1 / (1 + at % 3), **state))
        state = {"scored_by": "openai/gpt-4o", "reason": "It names the figure." if at % 6 else "no JSON in the reply"}
        scores.append(score(name, "Correctness", 1.0 if at % 6 else None, **state))
        retrieved += [
            passage(name),
            passage(name, 2, gold_chars=0, in_prompt=False, cited=False, judged=False, grade=None),
        ]
    return run_folder(folder, questions, retrieved, scores, **changes)


class Page(HTMLParser):
    """A page as a parser that forgives nothing sees it."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.within: dict[str, list[str]] = {}
        self.feed(page)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"an attribute twice in {tag}"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"{tag} closed and never opened"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        self.within.setdefault(self.open[-1] if self.open else "", []).append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def having(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for each, attributes in self.tags if each == name]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return render(sample(tmp_path_factory.mktemp("sample")))


def part(page: str, name: str) -> str:
    """The text of one section."""
    found = re.search(rf'<section id="{name}".*?</section>', page, re.DOTALL)
    assert found
    return Page(found[0]).text


def test_every_part_is_there_and_the_contents_lead_to_it(page: str) -> None:
    parsed = Page(page)
    sections = [str(each["id"]) for each in parsed.having("section")]
    wanted = ["results", "conclusions", "slices", "spread", "causes", "effort", "worst", "settings", "trace"]
    assert sections == wanted
    assert [each["href"] for each in parsed.having("a")] == ["#results", *(f"#{each}" for each in wanted)]


def test_the_head_says_what_was_run(page: str) -> None:
    words = Page(page[: page.index("<main>")] + "</body></html>").text
    for each in ("vallorne.jsonl", "main v000007", "local/extractive", "22 November 2026, 08:00 UTC", "112 documents"):
        assert each in words
    assert "60: 59 answered, 0 abstained, 1 errors" in words


def test_the_headline_has_mean_interval_n_unscored_errors_and_both_means_where_they_differ(page: str) -> None:
    found = re.search(r'<tr role="row"><th[^>]*><span class="measure">Contains</span>.*?</tr>', page, re.DOTALL)
    assert found
    cells = [Page(f"{each}</td>").text for each in re.findall(r"(<td.*?)</td>", found[0], re.DOTALL)]
    # 30 questions, one an error, 8 wrong: 21 of 29
    assert cells[:2] == ["retrieved", "0.724"]
    assert re.fullmatch(r"0\.\d{3} to 0\.\d{3}", cells[2])
    assert cells[4:] == ["29", "0", "1", "0.700 with errors as 0"]


def test_a_judged_mean_names_its_judge_and_what_is_known_of_it(tmp_path: Path, page: str) -> None:
    assert "How far this judge agrees with people has not been measured" in part(page, "results")
    known = {"judge": "openai/gpt-4o", "dataset": "evouna-nq", "n": 500, "agreement": 0.873, "kappa": 0.7049}
    words = part(render(sample(tmp_path, agreement=[known])), "results")
    assert "agreed with people on 87 % of 500 answers, Cohen's kappa 0.70 (evouna-nq)" in words


def test_what_cannot_be_concluded_is_said(page: str) -> None:
    words = part(page, "conclusions")
    assert "Contains is 0.724 over 29 questions." in words
    assert "1 error left out, Contains is 0.724; counted as 0, it is 0.700." in words
    assert "Given the gold passages (oracle), Contains is 0.276 higher: 1.000 against 0.724" in words
    assert "without a usable verdict are 5 of Correctness" in words
    assert "local/extractive copies sentences" in words
    assert "1 slice of 2: they hold too few questions" in words


def test_few_clusters_are_said_in_the_table_and_in_words(tmp_path: Path) -> None:
    questions = [question(f"q{at}") for at in range(8)]
    scores = [score(f"q{at}", "Contains", at % 2, cluster_id=f"c{at % 4}") for at in range(8)]
    page = render(run_folder(tmp_path, questions, [], scores))
    assert "few clusters (4): too few to conclude" in part(page, "results")
    assert "With few clusters (under 20; here 4)" in part(page, "conclusions")


def test_a_small_slice_is_grey_and_says_so(page: str) -> None:
    found = re.search(r'<section id="slices".*?</section>', page, re.DOTALL)
    assert found
    grey = re.findall(r'<tr role="row" class="muted"><th.*?</th>', found[0])
    assert len(grey) == 1
    assert Page(grey[0].removeprefix('<tr role="row" class="muted">')).text == "number too few to conclude"


def test_an_invalid_run_says_so_loudly_and_concludes_nothing(tmp_path: Path) -> None:
    page = render(sample(tmp_path, status="invalid"))
    head = page[: page.index("<nav")]
    assert '<p class="alarm" role="note"><strong>This run is invalid.</strong>' in head
    assert "1 row of 60 ended in an error, more than the 2 % that the settings allow" in head
    assert "Nothing about quality" in part(page, "conclusions")


def test_drawings_are_told_in_words(page: str) -> None:
    parsed = Page(page)
    drawn = [each for each in parsed.having("svg") if each.get("role") == "img"]
    ids = {attributes["id"] for _, attributes in parsed.tags if "id" in attributes}
    assert len(drawn) == 5
    assert all(name in ids for each in drawn for name in str(each["aria-labelledby"]).split())
    assert "29 questions, each 0 or 1. 0: 8 (28 %); 1: 21 (72 %)." in parsed.within["desc"]
    assert all(each.get("aria-hidden") == "true" for each in parsed.having("svg") if each not in drawn)


def test_the_worst_questions_stand_in_order_each_with_all_of_it(page: str) -> None:
    items = page.split('<details class="question">')[1:]
    names = [re.findall(r"Question <code>(\w+)</code>", each)[0] for each in items]
    # the error; Contains 0 by nDCG, then by name; then the rest is right
    assert names == ["q07", "q08", "q20", "q04", "q16", "q28", "q00", "q12", "q24"]
    error, wrong = (
        Page(items[0].rpartition("</details>")[0]).text,
        Page(items[1].partition("</section>")[0].rpartition("</details>")[0]).text,
    )
    assert "None: ProviderFailed four times 500" in error
    for each in (
        "-15 °C",
        "Every fourteen days, q08.",
        "It cites 1 passage",
        "Answered wrongly",
        "rack.md",
        f"{GOLD}–{GOLD + 11}",
    ):
        assert each in wrong
    for each in (
        "score 3.15",
        "rank 2 by vectors",
        "grade 1",
        "11 characters of gold",
        "Answer from the passages.",
        "oracle",
    ):
        assert each in wrong
    assert "1 passage below, without gold and not in the prompt" in wrong
    assert "<mark>down to -15</mark>" in items[1]


def test_at_most_fifty_questions_are_shown_and_the_others_counted(tmp_path: Path) -> None:
    questions = [question(f"q{at}", cause="not_retrieved") for at in range(70)]
    page = render(run_folder(tmp_path, questions, [], [score(f"q{at}", "Contains", 0.0) for at in range(70)]))
    assert page.count('<details class="question">') == 50
    assert "The 50 worst of 70 questions of 70 that failed or fall short in Contains" in part(page, "worst")


def test_time_and_cost_are_split_and_the_cache_stands_apart(tmp_path: Path) -> None:
    questions = [
        question("a", usd=0.25, usd_saved=0.0, judge_seconds=2.0),
        question("b", usd=0.0, usd_saved=0.25, answer_cached=True, judge_seconds=1.0),
    ]
    usage = {"requests": 3, "input_tokens": 700, "output_tokens": 19, "usd": 0.75, "usd_saved": 0.25}
    scores = [score(each, "Correctness", 1.0, scored_by="openai/gpt-4o") for each in "ab"]
    page = render(
        run_folder(tmp_path, questions, [], scores, usage=usage | {"priced_on": "2026-11-01", "unpriced": []})
    )
    words = part(page, "effort")
    assert "Generate, asked now 1 200 9 $0.25" in words
    assert "Generate, from cache 0 200 9 $0.00 $0.25" in words
    assert "Judge and others 2 500 10 $0.50 $0.00" in words
    assert "Whole run, billed 3 700 19 $0.75 $0.25" in words
    assert "Judge 2 – 1.5 s 1.95 s 3 s" in words


def test_an_unknown_price_is_unknown_and_not_nothing(tmp_path: Path) -> None:
    usage = {"requests": 1, "input_tokens": 1, "output_tokens": 1, "usd": None, "usd_saved": None, "priced_on": None}
    folder = run_folder(tmp_path, [question("a", usd=None)], usage=usage | {"unpriced": ["vllm/own"]})
    words = part(render(folder), "effort")
    assert "Whole run, billed 1 1 1 unknown unknown" in words
    assert "No price is known for vllm/own" in words


def test_the_page_is_whole_and_leads_nowhere(page: str) -> None:
    import base64
    import hashlib

    parsed = Page(page)
    assert parsed.tags[0][0] == "html"
    names = {name for name, _ in parsed.tags}
    assert not names & {"script", "img", "link", "iframe", "object", "embed", "form", "base", "image", "use", "a:href"}
    for name, attributes in parsed.tags:
        assert not attributes.keys() & {"src", "srcset", "style", "xlink:href", "action", "background"}
        assert not any(each.startswith("on") for each in attributes)
        assert str(attributes.get("href", "#")).startswith("#"), name
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    [style] = parsed.within["style"]
    assert "url(" not in style
    assert "@import" not in style
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert parsed.having("meta")[1]["content"] == (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


def test_tables_are_tables_with_headers_and_rows_of_one_length(page: str) -> None:
    for body in re.findall(r"<table.*?</table>", page, re.DOTALL):
        parsed = Page(body)
        heads = parsed.having("th")
        assert all(each["scope"] in {"col", "row", "rowgroup"} for each in heads)
        width = sum(each["scope"] == "col" for each in heads)
        for row in re.findall(r"<tr.*?</tr>", body, re.DOTALL):
            cells = Page(row).tags[1:]
            assert sum(int(own.get("colspan") or 1) for name, own in cells if name in {"th", "td"}) == width


def test_the_same_folder_gives_the_same_bytes(tmp_path: Path, page: str) -> None:
    assert render(sample(tmp_path)) == page


HIDDEN = "".join(chr(each) for each in (0, 7, 0x1B, 0x85, 0xAD, 0x200B, 0x202E, 0x2066, 0x2028, 0xFEFF, 0xE0041))


def hostile(folder: Path, strings: Sequence[str]) -> Path:
    """Each string wherever a document, a model or a person may have put it."""
    questions, retrieved, scores = [], [], []
    half = (len(strings) + 1) // 2
    for at, (text, other) in enumerate(zip(strings[:half], [*strings[half:], strings[0]], strict=False)):
        name = f"{at}{text}"
        quote = [{"doc_id": text, "start": 80, "end": 90, "quote": text, "grade": 1}]
        own = {"question": text, "answer": text, "cause": text, "model": text, "prompt": other, "prompt_sha256": text}
        own |= {
            "expected_json": json.dumps([text]),
            "gold_json": json.dumps(quote),
            "citations_json": json.dumps(quote),
        }
        own |= {"tags_json": json.dumps({text: text}), "error_type": text, "error_message": text}
        questions.append(question(name, **own, status="error" if at % 2 else "ok"))
        places = {"doc_id": text, "source": other, "heading_path": text, "text": other, "chunk_id": text}
        retrieved += [passage(name, 1, **places), passage(name, 2, **places, in_prompt=False, gold_chars=0)]
        scores.append(score(name, "Contains", 0.0, reason=other, scored_by=text, cluster_id=text))
    folder = run_folder(folder, questions, retrieved, scores)
    values = json.loads((folder / "run.json").read_text())
    text = "".join(strings)
    values |= {"name": text, "command": [text], "agreement": [{"judge": strings[0], "agreement": 0.5, "dataset": text}]}
    values["index"] |= {"name": text, "embedding_model": text}
    values["dataset"] |= {"path": text, "where": [{"tag": text, "values": [text]}]}
    values["settings"] |= {text: {text: [text, {text: text}]}}
    values["models"][1] |= {"id": text, "reported": text}
    (folder / "run.json").write_text(json.dumps(values))
    return folder


MARKUP = (
    '</details></section></main><script>alert("x")</script>',
    "<img src=x onerror=alert(1)>",
    "\"><svg onload=alert(1)>' onmouseover='x",
    "</pre></code></title></style></textarea><!-- x",
    "]]></desc></title></svg><style>@import 'x'</style>",
    "&lt;b&gt; &amp; &#60;script&#62; &notit;",
    "\n\nfirst lines\r\nand \rthe others",
    HIDDEN,
    "שלום \u202eabc\u202c مرحبا",
)


def test_nothing_that_a_document_says_becomes_markup(tmp_path: Path, page: str) -> None:
    found = render(hostile(tmp_path, MARKUP))
    parsed, plain = Page(found), Page(page)
    assert {name for name, _ in parsed.tags} <= {name for name, _ in plain.tags}
    known = {(name, each) for name, own in plain.tags for each in own}
    assert {(name, each) for name, own in parsed.tags for each in own} <= known | {("tr", "class"), ("span", "class")}
    for text in MARKUP[:6]:
        assert sum(text in each for each in parsed.texts) > 2
    assert not any(each in found for each in HIDDEN)


@pytest.mark.slow
def test_the_naughty_strings_stay_text(tmp_path: Path, datasets: Path, page: str) -> None:
    strings = json.loads((datasets / "hostile-text" / "blns.json").read_text("utf-8"))
    known = {name for name, _ in Page(page).tags} | {"i"}
    for at in range(0, len(strings), 98):
        found = render(hostile(tmp_path / str(at), strings[at : at + 98]))
        parsed = Page(found)
        assert {name for name, _ in parsed.tags} <= known
        assert all(str(own.get("href", "#")).startswith("#") for _, own in parsed.tags)
        assert not any(each in found for each in HIDDEN)
        # questions without anything hidden stand there letter by letter
        said = {" ".join(each.split()) for each in parsed.texts}
        assert all(
            " ".join(each.split()) in said
            for each in strings[at : at + 98]
            if each.isascii() and each.isprintable() and each.strip() and len(each) < 300
        )


@given(st.text())
def test_text_comes_back_as_it_went_in(text: str) -> None:
    assert not any(each in shown(text) for each in HIDDEN)
    parsed = Page(tag("p", text, title=text))
    plain = text.replace("\r\n", "\n")
    assert parsed.tags[0] == ("p", {"title": str(_unescaped(escape(plain)))})
    if shown(plain) == escape(plain):
        assert "".join(parsed.texts) == plain
        assert len(parsed.tags) == 1
    else:
        assert {name for name, _ in parsed.tags} == {"p", "span"}


def _unescaped(text: Html) -> str:
    import html

    return html.unescape(text)


def test_everything_that_hides_or_turns_the_order_is_shown() -> None:
    import unicodedata

    turns = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    for code in [*range(0x30000), *range(0xE0000, 0xE1000)]:
        letter = chr(code)
        hides = unicodedata.category(letter) in {"Cc", "Zl", "Zp", "Cs"} or unicodedata.bidirectional(letter) in turns
        if hides and letter not in "\n\t":
            assert f"U+{code:04X}" in shown(letter)
            assert f"[U+{code:04X}]" == escape(letter)
    assert shown("می\u200cخواهم 👩\u200d🚒") == "می\u200cخواهم 👩\u200d🚒"


@given(
    st.text(alphabet="abc <&\u202e\n", max_size=400),
    st.lists(st.tuples(st.integers(0, 420), st.integers(0, 420)), max_size=4),
    st.integers(1, 200),
)
def test_marks_and_folds_lose_no_letter(text: str, spans: list[tuple[int, int]], fold: int) -> None:
    gold = [{"doc_id": "d", "start": 50 + min(pair), "end": 50 + max(pair)} for pair in spans]
    marks = gold_marks({"doc_id": "d", "char_start": 50, "char_end": 50 + len(text)}, gold)
    parsed = Page(f"<main>{long_text(text, marks, fold=fold)}</main>")
    inside = {at for pair in spans for at in range(min(pair), max(pair)) if at < len(text)}
    marked = "".join(letter for at, letter in enumerate(text) if at in inside)
    kept = [each for name in ("div", "mark", "span") for each in parsed.within.get(name, [])]
    assert sum(len(each) if not each.startswith("U+") else each.count("U+") for each in kept) == len(text)
    found = re.findall(r"<mark>(.*?)</mark>", long_text(text, marks, fold=fold), re.DOTALL)
    assert (
        "".join(found) == "".join(re.findall(r"<mark>(.*?)</mark>", f"<mark>{shown(marked)}</mark>", re.DOTALL))
        or found
    )


def test_a_long_passage_is_folded_and_a_cut_one_says_how_much_is_gone() -> None:
    text = "x" * 5_000
    assert "4,300 more characters" in long_text(text)
    assert "left out" not in long_text(text)
    assert "3,000 characters characters" not in long_text(text, limit=2_000)
    assert "3,000 characters more, left out to keep this page small" in long_text(text, limit=2_000)


@pytest.mark.slow
def test_three_hundred_questions_with_huge_passages_stay_under_three_megabytes(tmp_path: Path) -> None:
    names = [f"q{at:03}" for at in range(300)]
    long = ("<b>\u202e漢字 & " * 2_000)[:12_000]
    questions = [question(each, cause="answered_wrongly", answer=long, prompt=long * 5) for each in names]
    retrieved = [passage(each, rank, text=long, char_end=80 + len(long)) for each in names[:50] for rank in range(1, 7)]
    found = render(run_folder(tmp_path, questions, retrieved, [score(each, "F1", 0.25) for each in names]))
    assert BYTES // 3 < len(found.encode()) < 3_000_000
    assert found.count('<details class="question">') == 50
    assert "left out to keep this page small: they are in the Parquet file" in found


def test_a_run_without_answers_is_about_retrieval(tmp_path: Path) -> None:
    questions = [question(f"q{at}", expected_json="[]", answer=None, prompt=None, model=None) for at in range(30)]
    scores = [score(f"q{at}", "RR@10", 1.0 if at else 0.5) for at in range(30)]
    page = render(run_folder(tmp_path, questions, [passage("q0")], scores))
    assert page.count('<details class="question">') == 1
    assert "All 1 question of 30 that failed or fall short in RR@10" in part(page, "worst")


@pytest.mark.parametrize("arm", ["closed_book", "retrieved"])
def test_a_run_of_one_question_or_none_still_has_a_page(tmp_path: Path, arm: str) -> None:
    assert "No measure has a value" in render(run_folder(tmp_path / "none", []))
    page = render(run_folder(tmp_path / "one", [question("a", arm=arm)], [], [score("a", "EM", 0.0, arm=arm)]))
    assert Page(page).text.count("few clusters (1)") == 1


def test_a_measure_of_which_less_is_better_is_worst_where_it_is_high(tmp_path: Path) -> None:
    questions = [question(f"q{at}") for at in range(4)]
    scores = [score(f"q{at}", "F1", at / 4) for at in range(4)]
    page = render(run_folder(tmp_path, questions, [], scores, {"F1": False}))
    assert re.findall(r"Question <code>(\w+)</code>", page) == ["q3", "q2", "q1"]
    assert "lower is better" in part(page, "results")


def test_repeats_of_a_question_are_one_question_shown_by_its_worst(tmp_path: Path) -> None:
    questions = [question("a", repeat=at) for at in range(3)]
    scores = [score("a", "F1", value, repeat=at) for at, value in enumerate((0.5, 0.25, 0.75))]
    page = render(run_folder(tmp_path, questions, [], scores, repeats=3))
    assert page.count('<details class="question">') == 1
    assert "repeat 1" in part(page, "worst")
    assert "between 0.5 and 0.6: 1" in part(page, "spread")


def test_a_folder_that_the_harness_itself_has_written_has_its_page(tmp_path: Path) -> None:
    page = render(made_runs.saved(tmp_path))
    parsed = Page(page)
    assert parsed.text.count("q-bell") >= 1
    assert {measure for measure in ("R@5", "nDCG@10") if measure in part(page, "results")} == {"R@5", "nDCG@10"}
    assert "\x00" not in page


def test_a_part_of_the_set_is_called_a_part(tmp_path: Path) -> None:
    folder = sample(tmp_path)
    values = json.loads((folder / "run.json").read_text())
    values["dataset"] |= {"limit": 30, "where": [{"tag": "type", "values": ["fact", "number"]}]}
    (folder / "run.json").write_text(json.dumps(values))
    page = render(folder)
    assert "seeded sample of 30" in Page(page).text
    assert "<code>type=fact, type=number</code>" in page
    assert "only a part of it was asked" in part(page, "conclusions")


def test_what_is_missing_is_named_all_at_once(tmp_path: Path) -> None:
    folder = sample(tmp_path)
    (folder / "scores.parquet").unlink()
    (folder / "run.json").unlink()
    with pytest.raises(NotFound) as caught:
        render(folder)
    assert [each.what for each in caught.value.problems] == ["run.json is missing", "scores.parquet is missing"]


def test_a_run_of_a_newer_ragline_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatTooNew):
        render(sample(tmp_path, schema_version=99))


@pytest.mark.parametrize(("name", "data"), [("run.json", b"{"), ("run.json", b"[]"), ("summary.parquet", b"PAR1 not")])
def test_a_broken_file_is_damage_that_names_it(tmp_path: Path, name: str, data: bytes) -> None:
    folder = sample(tmp_path)
    (folder / name).write_bytes(data)
    with pytest.raises(Damaged, match=name):
        render(folder)


def test_prompts_and_passages_are_read_for_the_questions_that_are_shown(tmp_path: Path) -> None:
    run = load(sample(tmp_path))
    assert not any("prompt" in row for row in run.questions)
    assert run.prompts(["q03"]).keys() == {("retrieved", "q03", 0), ("oracle", "q03", 0)}
    assert [row["rank"] for row in run.passages(["q03", "q09"])["retrieved", "q09", 0]] == [1, 2]
    assert run.passages([]) == {}


def test_reading_brings_no_pandas(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = "import sys; from pathlib import Path; from eval.report.render import render; render(Path(sys.argv[1])); "
    code += "sys.exit('pandas' in sys.modules)"
    root = Path(__file__).resolve().parents[2]
    assert subprocess.run([sys.executable, "-c", code, str(sample(tmp_path))], cwd=root, check=False).returncode == 0


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """WCAG 2.2, relative luminance."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_every_pair_of_colours_has_the_contrast_of_level_aa(scheme: int) -> None:
    style = resources.files("eval.report").joinpath("page.css").read_text("utf-8")
    block = re.findall(r":root \{(.*?)\}", style, re.DOTALL)[scheme]
    colour = dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", block))
    for ground in ("paper", "panel"):
        for ink in ("ink", "soft", "accent", "bad"):
            assert contrast(colour[ink], colour[ground]) >= 4.5, (ink, ground)
        assert contrast(colour["band"], colour[ground]) >= 3, ground
    assert contrast(colour["ink"], colour["gold"]) >= 4.5
    assert contrast(colour["ink"], colour["alarm"]) >= 4.5
    assert contrast(colour["bad"], colour["alarm"]) >= 4.5


def test_the_examples_in_the_docstrings_hold() -> None:
    import doctest

    from eval.report import markup, numbers

    assert [doctest.testmod(each).failed for each in (markup, numbers)] == [0, 0]
