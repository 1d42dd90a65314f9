"""What can and what cannot be concluded, in sentences that the tables bear out."""

from __future__ import annotations

from collections.abc import Iterator

from eval.report.head import generator, part
from eval.report.load import Row, Run, base
from eval.report.markup import Html, section, tag
from eval.report.numbers import between, count, figure, share
from eval.statistics import FEW, paired
from rag.counted import counted


def conclusions(run: Run) -> Html:
    """Two lists of sentences."""
    can, cannot = list(_can(run)), list(_cannot(run))
    lists = [
        tag("div", tag("h3", name), tag("ul", *(tag("li", each) for each in said)))
        for name, said in (("What this run shows", can), ("What it does not show", cannot))
        if said
    ]
    return section("conclusions", "What can be concluded", tag("div", *lists, class_="pair"))


def _can(run: Run) -> Iterator[str]:
    if run.about.get("status") == "invalid":
        yield "Nothing about quality: too many questions ended in an error. The errors stand under the worst questions."
        return
    for measure in dict.fromkeys(each for each in (run.answer_measure, run.retrieval_measure) if each):
        yield from _mean(run, measure, run.whole[run.main, measure])
    yield from _abstention(run)
    yield from _arms(run)


def _mean(run: Run, measure: str, row: Row) -> Iterator[str]:
    if row["mean"] is None:
        yield f"{measure} has no value: {counted(row['errors'], 'error')}, {count(row['unscored'])} unscored."
        return
    what = f"{measure} is {figure(row['mean'])} over {counted(row['n'], 'question')}"
    if len({each["question_id"] for each in run.questions}) < row["n"]:
        what = f"{measure} is {figure(row['mean'])} over {counted(row['n'], 'answer')}"
    if row["clusters"] < FEW or row["low"] is None:
        yield f"{what} from {counted(row['clusters'], 'cluster')}."
    else:
        yield f"{what}. For questions like these it lies {_range(row)} with {share(row['confidence'], 1)} confidence."
    zero = row["mean_errors_zero"]
    if zero is not None and row["errors"] and abs(zero - row["mean"]) > 1e-12:
        errors = counted(row["errors"], "error")
        yield f"{errors} left out, {measure} is {figure(row['mean'])}; counted as 0, it is {figure(zero)}."


def _abstention(run: Run) -> Iterator[str]:
    rows = [row for row in run.questions if row["arm"] == run.main and row["status"] != "error"]
    hard, easy = ([row for row in rows if row["answerable"] is answerable] for answerable in (False, True))
    if hard and any(row["answer"] is not None for row in rows):
        right, wrong = (sum(bool(row["abstained"]) for row in some) for some in (hard, easy))
        yield (
            f"Of {counted(len(hard), 'question')} that the documents do not answer, it abstained from {count(right)} and "
            f"answered {count(len(hard) - right)} all the same. Of {count(len(easy))} that they do answer, it "
            f"abstained from {count(wrong)}."
        )


def _arms(run: Run) -> Iterator[str]:
    measure = run.answer_measure
    if measure is None or run.main != "retrieved":
        return
    others = {
        "oracle": "Given the gold passages (oracle)",
        "closed_book": "Given no passage at all (closed book)",
    }
    for arm, given in others.items():
        found = _change(run, measure, run.main, arm)
        if found is None:
            continue
        first, second, low, high, n = found
        size = figure(abs(second - first))
        differs = low > 0 or high < 0
        word = "higher" if second > first else "lower"
        change = f"{size} {word}" if differs else "not to be told from the retrieved arm"
        yield (
            f"{given}, {measure} is {change}: {figure(second)} against {figure(first)}, difference {between(low, high)}, "
            f"paired over {counted(n, 'question')}."
        )


def _change(run: Run, measure: str, first: str, second: str) -> tuple[float, float, float, float, int] | None:
    """Means of two arms over the questions that both have scored, and the interval of their difference."""
    one, two = run.values(first, measure), run.values(second, measure)
    both = [name for name in one if name in two]
    clusters = {row["question_id"]: row["cluster_id"] for row in run.scores}
    if not both:
        return None
    found = paired([[one[name]] for name in both], [[two[name]] for name in both], [clusters[name] for name in both])[0]
    if found.first is None or found.second is None or found.low is None or found.high is None or found.few_clusters:
        return None
    return found.first, found.second, found.low, found.high, found.n


def _cannot(run: Run) -> Iterator[str]:
    whole = [row for (arm, _), row in run.whole.items() if arm == run.main]
    few = [row["measure"] for row in whole if row["clusters"] < FEW]
    if few:
        fewest = min(row["clusters"] for row in whole)
        yield (
            f"With few clusters (under {FEW}; here {count(fewest)}) an interval is too narrow to rely on: "
            f"{', '.join(few)} can be read as a sketch, not as a result."
        )
    elif whole:
        yield (
            "Whether another run is better: two intervals that overlap may still differ. Pairing the scores of the same "
            "questions sees smaller differences."
        )
    unscored = [f"{count(row['unscored'])} of {row['measure']}" for row in whole if row["unscored"]]
    if unscored:
        yield f"What the missing values would have been: without a usable verdict are {', '.join(unscored)}."
    if generator(run) == "local/extractive":
        yield (
            "How a language model would answer: local/extractive copies sentences out of the passages and writes none "
            "of its own."
        )
    yield from _exactness(run)
    yield from _judgement(run, whole)
    yield from _slices(run)
    if part(run, "dataset").get("limit") or part(run, "dataset").get("where"):
        yield "The figures of the whole question set: only a part of it was asked."


def _exactness(run: Run) -> Iterator[str]:
    if base(run.answer_measure or "") in {"Contains", "EM", "F1", "ROUGE-L"} and not run.judges:
        yield (
            f"Whether an answer is right in other words: {run.answer_measure} compares words with the accepted answers, "
            "so a right answer that says it differently counts as wrong, and a wrong one that mentions it as right."
        )


def _judgement(run: Run, whole: list[Row]) -> Iterator[str]:
    for row in whole:
        if base(row["measure"]) == "Judged" and row["mean"] is not None and row["mean"] < 0.95:
            yield (
                f"How good documents are that nobody judged: {row['measure']} is {figure(row['mean'])}, and the other "
                "measures of the ranking take an unjudged document for a bad one."
            )
    if run.judges and not run.about.get("agreement"):
        names = ", ".join(each for each in run.measures if each in run.judges)
        yield f"Whether people would judge {names} alike: the judge's agreement with people is not known."


def _slices(run: Run) -> Iterator[str]:
    rows = [row for row in run.summary if row["slice_tag"] != "all" and row["arm"] == run.main]
    rows = [row for row in rows if row["measure"] in run.headline[:1]]
    small = sum(not row["enough"] for row in rows)
    if small:
        yield f"Anything about {counted(small, 'slice')} of {count(len(rows))}: they hold too few questions and are greyed."
    if len(rows) - small > 10:
        yield (
            f"That a slice stands out for a reason: among {count(len(rows) - small)} slices some do by chance. Take it "
            "as a question for new data."
        )


def _range(row: Row) -> str:
    return f"between {figure(row['low'])} and {figure(row['high'])}"
