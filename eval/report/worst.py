"""The questions that went worst, each with everything that its scores come from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from eval.report.load import Key, Row, Run, key, parsed
from eval.report.markup import Child, Column, Group, Html, folded, join, section, table, tag
from eval.report.numbers import count, figure
from eval.report.order import ranked, value_of
from eval.report.passages import in_full, long_text, passages, place
from eval.report.spread import cause_name, meaning
from rag.counted import counted

MOST = 50
"""Questions shown."""
BYTES = 2_400_000
"""That they may take together; the page then stays under 3 MB."""
_LIMITS = (None, 8_000, 2_500, 600, 120)
"""Characters kept of each text, tried in this order until a question fits its share."""


def worst(run: Run) -> Html:
    """At most MOST questions of the main arm: errors, then by the answer measure, then by retrieval."""
    found_short = ranked(run)
    shown = found_short[:MOST]
    names = {row["question_id"] for row in shown}
    prompts, found = run.prompts(names), run.passages(names)
    left, items = BYTES, []
    for at, row in enumerate(shown):
        item = _fitting(run, row, prompts, found, left // (len(shown) - at))
        left -= len(item.encode())
        items.append(item)
    asked = len({row["question_id"] for row in run.questions})
    by = [each for each in (run.answer_measure, run.retrieval_measure) if each]
    short = f" in {by[0]}" if by else ""
    if not shown:
        says = f"No question failed or falls short{short}."
    else:
        which = f"The {count(len(shown))} worst of" if len(found_short) > len(shown) else "All"
        order = f", then by {' and then '.join(by)}" if by else ""
        says = (
            f"{which} {counted(len(found_short), 'question')} of {count(asked)} that failed or fall short{short}: errors first"
            f"{order}. Gold is marked in the passages. On paper, only what is open is printed."
        )
    return section("worst", "The worst questions", tag("p", says), *items)


def _fitting(run: Run, row: Row, prompts: dict[Key, str], found: dict[Key, list[Row]], size: int) -> Html:
    """The question with as much text as fits."""
    prompt, retrieved = prompts.get(key(row)), found.get(key(row), [])
    lengths = [len(each["text"]) for each in retrieved if in_full(each)] + [len(row["answer"] or "")]
    item = Html("")
    for limit in _LIMITS:
        # markup only adds: what is too long before it is not worth the making
        if limit is not None or sum(lengths) + len(prompt or "") <= size:
            if limit is not None and limit != _LIMITS[-1] and sum(min(each, limit) for each in lengths) > size:
                continue
            item = _question(run, row, prompt, retrieved, limit)
            if len(item.encode()) <= size:
                return item
    left = tag("p", "Its texts are too large for this page: they are in the Parquet files.")
    return folded(_summary(run, row, 120), left, class_="question") if len(item.encode()) > 2 * size else item


def _question(run: Run, row: Row, prompt: str | None, retrieved: list[Row], limit: int | None) -> Html:
    gold: list[Any] = [each for each in parsed(row["gold_json"]) or [] if isinstance(each, dict)]
    return folded(
        _summary(run, row, limit),
        tag("p", "Question ", tag("code", row["question_id"]), *_where(row), class_="small"),
        tag("h4", "Expected"),
        _expected(row, limit),
        tag("h4", "Answer"),
        *_answer(row, limit),
        tag("h4", "Why it is wrong"),
        _why(row),
        *_gold(row, gold, limit),
        *([tag("h4", "Scores"), _scores(run, row, limit)] if row["status"] != "error" else []),
        *_others(run, row, limit),
        tag("h4", "Passages"),
        passages(retrieved, gold, limit),
        tag("h4", "Prompt"),
        _prompt(row, prompt, limit),
        class_="question",
    )


def _summary(run: Run, row: Row, limit: int | None) -> Html:
    values = [
        tag("span", f"{measure} {figure(value_of(run, row, measure))}", class_="badge")
        for measure in dict.fromkeys((run.answer_measure, run.retrieval_measure))
        if measure
    ]
    cause = [tag("span", cause_name(row["cause"]), class_="badge cause")] if row["cause"] else []
    text = row["question"]
    cut = 400 if limit is None else min(400, limit)
    asked = text if len(text) <= cut else f"{text[:cut]} \N{HORIZONTAL ELLIPSIS}"
    return join([tag("span", asked, class_="asked", dir="auto"), tag("span", *cause, *values, class_="badges")])


def _where(row: Row) -> Iterator[Child]:
    tags = parsed(row["tags_json"])
    if isinstance(tags, dict) and tags:
        yield ", "
        yield tag("bdi", ", ".join(f"{name} = {value}" for name, value in tags.items())[:1000])
    if row["repeat"]:
        yield f", repeat {row['repeat']}"


def _expected(row: Row, limit: int | None) -> Html:
    forms = [str(each) for each in parsed(row["expected_json"]) or []]
    if not row["answerable"]:
        return tag("p", "No answer: the documents do not hold one, and the right reply is to abstain.")
    if not forms:
        return tag("p", "Nobody wrote down an answer.")
    more = (
        [tag("p", f"{counted(len(forms) - 10, 'more form')} in questions.parquet.", class_="small")]
        if len(forms) > 10
        else []
    )
    items = [tag("li", long_text(each, limit=limit)) for each in forms[:10]]
    return join([tag("ul", *items, class_="plain"), *more])


def _answer(row: Row, limit: int | None) -> Iterator[Child]:
    if row["status"] == "error":
        yield tag("p", "None: ", tag("strong", row["error_type"] or "error"), class_="bad")
        yield long_text(row["error_message"] or "", limit=limit)
        return
    if row["abstained"]:
        yield tag("p", "It abstained:")
    yield long_text(row["answer"] or "", limit=limit)
    cited = [each for each in parsed(row["citations_json"]) or [] if isinstance(each, dict)]
    items = [
        tag(
            "li",
            place(each.get("doc_id"), each.get("start"), each.get("end")),
            long_text(str(each.get("quote") or ""), limit=limit),
        )
        for each in cited[:20]
    ]
    if items:
        yield tag("p", f"It cites {counted(len(cited), 'passage')}:", class_="small")
        yield tag("ol", *items, class_="quotes")
    elif not row["abstained"]:
        yield tag("p", "It cites nothing.", class_="small")


def _why(row: Row) -> Html:
    if not row["cause"]:
        return tag("p", "No cause: the answer counts as right, or nobody can tell. See the scores.")
    if row["status"] == "error":
        return tag("p", "It failed, so that there is nothing to score; the error stands above.")
    rank = row["first_gold_rank"]
    where = (
        f" The first passage with gold has rank {rank}; the first {row['prompt_passages']} were given." if rank else ""
    )
    return tag(
        "p", tag("strong", f"{cause_name(row['cause']).capitalize()}."), " ", meaning(row["cause"], row["arm"]) + where
    )


def _gold(row: Row, gold: Sequence[Row], limit: int | None) -> Iterator[Child]:
    if not gold:
        return
    items = []
    for each in gold[:20]:
        quote = each.get("quote")
        grade = f", grade {each['grade']}" if each.get("start") is None and each.get("grade") is not None else ""
        words = long_text(str(quote), limit=limit) if quote else None
        items.append(tag("li", place(each.get("doc_id"), each.get("start"), each.get("end")), grade, words))
    more = f"; {counted(len(gold) - 20, 'more')} in questions.parquet" if len(gold) > 20 else ""
    rank = row["first_gold_rank"]
    found = f"first found at rank {rank}" if rank else "not found, however deep"
    yield tag("h4", "Gold")
    yield tag("p", f"{found[0].upper()}{found[1:]}{more}.", class_="small")
    yield tag("ul", *items, class_="quotes")


def _scores(run: Run, row: Row, limit: int | None) -> Html:
    found = run.scored.get(key(row), {})
    cells: list[list[Child]] = []
    for measure in run.measures:
        score = found.get(measure)
        if score is None or score["status"] == "not_applicable":
            continue
        by = None if score["scored_by"] in ("ragline", "") else tag("bdi", score["scored_by"])
        value = figure(score["value"]) if score["status"] == "scored" else score["status"]
        reason = long_text(score["reason"], limit=limit, fold=300) if score["reason"] else None
        cells.append([measure, value, join([by, ": " if by and reason else None, reason])])
    return table(
        None, [Column("Measure"), Column("Value", "num"), Column("Reason", "note")], [Group(None, cells)], "list"
    )


def _others(run: Run, row: Row, limit: int | None) -> Iterator[Child]:
    """What the other arms said to the same question."""
    others = [
        each
        for each in run.questions
        if each["question_id"] == row["question_id"] and each["arm"] != row["arm"] and each["repeat"] == row["repeat"]
    ]
    if not others:
        return
    yield tag("h4", "Other arms")
    items = []
    for each in others:
        value = (
            f" ({run.answer_measure} {figure(value_of(run, each, run.answer_measure))})" if run.answer_measure else ""
        )
        said = each["answer"] if each["answer"] is not None else f"error: {each['error_type']}"
        items += [tag("dt", each["arm"].replace("_", " ") + value), tag("dd", long_text(said, limit=limit))]
    yield tag("dl", *items, class_="terms")


def _prompt(row: Row, prompt: str | None, limit: int | None) -> Html:
    if prompt is None:
        return tag("p", "None: this generator takes no prompt, or none was sent.")
    kept = prompt if limit is None else prompt[: limit * 4]
    left = len(prompt) - len(kept)
    more = (
        tag("p", f"{counted(left, 'character')} more: column prompt of questions.parquet.", class_="small")
        if left
        else None
    )
    digest = f", sha256 {row['prompt_sha256']}" if row["prompt_sha256"] else ""
    return folded(
        f"As it was sent, {counted(len(prompt), 'character')}{digest}", tag("pre", "\n", kept, dir="auto"), more
    )
