"""docs/measures.md, made from the registry and the certificate; `python -m eval.measures.document` puts it in place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from eval.measures.certificate import DIGESTS, FIXTURES, SOURCE, VALUES
from eval.measures.names import Entry
from eval.measures.registry import MEASURES, RANKING
from rag.storage import write

PAGE = Path(__file__).resolve().parents[2] / "docs" / "measures.md"
_FAMILIES = {
    "ranking": "Measures of a ranking",
    "span": "Measures of retrieved text",
    "answer": "Measures of an answer",
    "abstention": "Measures of when nothing is answered",
    "citation": "Measures of citations",
    "judged": "Measures that a chat model judges",
}
_HEAD = f"""# Measures

This page is made from the registry in `eval/measures/registry.py`; change it there, then
`python -m eval.measures.document`.

A measure is written by its name, settings in brackets, cutoff behind @: `nDCG@10`, `P(rel=2)@5`. Only settings that
differ from their default are printed. Where nothing is asked for, a ranking gets {", ".join(f"`{each}`" for each in RANKING)}.

Scored runs are ranked as trec_eval ranks them: score descending, ties by document id descending; the rank column is
not looked at. Scores are compared as 64-bit numbers; pytrec_eval rounds them to 32 bits first, and so sees ties
between scores that differ after the seventh digit. A ranking of this project's own has an order and needs no scores.
A document that a ranking names again counts where it stands first; in a file of a run that is a mistake.

The means are over all judged queries, as with trec_eval's `-c`: a judged query without results is a 0 and not left
out. Queries without judgements are in no mean, and are counted.

## What a question of an evaluation gets

Each measure asked for gives each question, in each arm and repeat, exactly one score with a status:

- `not_applicable`: there can be no value, and the reason says why. It counts nowhere, also where the question failed.
- `error`: there would be a value, but what it rests on failed. Measures of a ranking and of retrieved text rest on
  retrieval alone: a generator that fails leaves them alone.
- `unscored`: the judge's reply was of no use, or found nothing to judge.
- `scored`: a finite number.

Rankings are of documents, each at the place of its best chunk (MaxP), and K counts distinct documents; a chunk that
stands for equal ones in other documents ranks all of them. Measures of retrieved text look at the first K chunks. Both
are for the arm `retrieved`: `oracle` is given the gold, `closed_book` retrieves nothing. Where only gold spans are
written, a document that holds one has grade 1. A measure without a cutoff looks as deep as `evaluation.search_depth`.
Answers are compared without their citation markers, and an answer that abstained is empty. Where the arm `oracle` has
no gold passage to give, no measure of its answer is applicable.
"""


def page() -> str:
    """The whole page, the same bytes for the same registry."""
    parts = [_HEAD]
    for family, title in _FAMILIES.items():
        entries = [entry for entry in MEASURES.values() if entry.family == family]
        if entries:
            parts += [f"\n## {title}\n", *(line for entry in entries for line in _entry(entry))]
    return "".join([*parts, *_certificate()])


def _entry(entry: Entry) -> Iterator[str]:
    best = "" if entry.higher_is_better else ", lower is better"
    bounds = ("-inf" if entry.low is None else f"{entry.low:g}", "inf" if entry.high is None else f"{entry.high:g}")
    yield f"\n### {entry.form}\n\n{entry.says[0].upper()}{entry.says[1:]}.\n\n"
    yield f"- formula: {entry.formula}\n- range: {' to '.join(bounds)}{best}\n- needs: {entry.needs}\n"
    for key, each in entry.parameters.items():
        choices = f" ({', '.join(f'`{choice}`' for choice in each.choices)})" if each.choices else ""
        yield f"- setting `{key}`: {each.says}{choices}, default `{each.default}`\n"
    yield f"- what is missing: {entry.missing}\n- source: {entry.source}\n"
    if entry.trec_eval:
        yield f"- in trec_eval: {', '.join(f'`{name.strip()}`' for name in entry.trec_eval.split(','))}\n"
    if entry.aliases:
        yield f"- also read as: {', '.join(f'`{name}`' for name in entry.aliases)}\n"
    yield f"- version: {entry.version}\n"


def _certificate() -> Iterator[str]:
    yield f"\n## Certificate\n\nEqual to the printed digits in all {VALUES:,} values of these measures that trec_eval printed "
    yield f"in its own tests ({SOURCE}):\n\n| printed | qrels | run | options |\n|---|---|---|---|\n"
    for each in FIXTURES:
        yield f"| {each.printed} | {each.qrels} | {each.run} | {each.options or '(none)'} |\n"
    yield "\n| file | sha256 |\n|---|---|\n"
    for name, digest in DIGESTS.items():
        yield f"| {name} | `{digest}` |\n"


if __name__ == "__main__":
    write(PAGE, page().encode())
