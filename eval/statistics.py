"""What a mean is worth: bootstrap intervals over clusters of questions, of all measures at once.

Questions that share a document are not independent: they are drawn together (cluster bootstrap; Field and Welsh, 2007).
A draw's figure is the sum of the scored values over their number (ratio estimator), so that what is missing leaves the
denominator too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eval.types import Question, Status

Floats: TypeAlias = NDArray[np.float64]
FEW = 20
"""Fewer clusters than this say too little for a conclusion."""
DRAWS = 2_000
CONFIDENCE = 0.95
_BLOCK = 1 << 18
"""Multiplications of one product: too few to wake more threads, which would cost more than they do."""


@dataclass(frozen=True, slots=True)
class Summary:
    """The mean of one measure with its percentile interval."""

    n: int
    """Denominator of `mean`."""
    unscored: int
    errors: int
    mean: float | None
    """None without a scored value."""
    low: float | None
    """None under two clusters, where an interval has no meaning."""
    high: float | None
    clusters: int
    """Those with a value in `mean`."""
    mean_errors_zero: float | None
    """`mean` with every error as a value of 0."""

    @property
    def few_clusters(self) -> bool:
        """Whether there are too few clusters for a conclusion."""
        return self.clusters < FEW


@dataclass(frozen=True, slots=True)
class Difference:
    """The second run minus the first, over the questions that both have scored."""

    n: int
    unscored: int
    """Questions without a value in one run or both, errors aside."""
    errors: int
    """Questions that are an error in one run or both."""
    first: float | None
    second: float | None
    difference: float | None
    low: float | None
    high: float | None
    clusters: int

    @property
    def few_clusters(self) -> bool:
        """Whether there are too few clusters for a conclusion."""
        return self.clusters < FEW


def cluster_ids(questions: Sequence[Question]) -> list[str]:
    """The cluster of each question: the connected components of questions that share a gold document.

    An unanswerable question stands with the document that it was written about. The name of a cluster is its first
    document; a question without any is alone, under its own name.
    """
    documents = [
        {each.doc_id for each in question.gold} or ({question.about} if question.about else set())
        for question in questions
    ]
    return components([question.question_id for question in questions], documents)


def components(names: Sequence[str], documents: Sequence[Collection[str]]) -> list[str]:
    """The connected components of items that share a document: of each item the first document of its component.

    An item without documents is alone, and named by its own name (after "question:" where a document has that name).
    """
    parent: dict[str, str] = {}

    def root(document: str) -> str:
        while parent.setdefault(document, document) != document:
            parent[document] = document = parent[parent[document]]
        return document

    for shared in documents:
        for one, other in zip(sorted(shared), sorted(shared)[1:], strict=False):
            low, high = sorted((root(one), root(other)))
            parent[high] = low
        for document in shared:
            root(document)
    taken = parent.keys() | set(names)
    found: list[str] = []
    for name, shared in zip(names, documents, strict=True):
        own = name
        while not shared and own in (parent if own == name else taken):
            own = f"question:{own}"
        found.append(root(next(iter(shared))) if shared else own)
    return found


def resample(sums: ArrayLike, counts: ArrayLike, draws: int = DRAWS, seed: int = 0) -> Floats:
    """Ratio estimates of bootstrap draws over clusters: float64 [draws, measures], NaN where a draw holds no value.

    Parameters
    ----------
    sums, counts
        The sum of the scored values of each cluster and their number, [clusters, measures].
    draws, seed
        How often as many clusters are drawn with replacement, and the seed of PCG64. The numbers drawn are those of
        `scipy.stats.bootstrap` with `rng=numpy.random.default_rng(seed)`.

    Memory beside the arguments and the result: a block of draws, at least one, each a row of counts.
    """
    totals, sizes = np.asarray(sums, dtype=np.float64), np.asarray(counts, dtype=np.float64)
    clusters = len(totals)
    out = np.full((draws, totals.shape[1]), np.nan)
    if not clusters:
        return out
    rng = np.random.Generator(np.random.PCG64(seed))
    # columns of equal counts are the rule: one product serves them
    seen: dict[bytes, int] = {}
    kind = [seen.setdefault(column.tobytes(), len(seen)) for column in sizes.T]
    both = np.hstack([totals, sizes[:, [kind.index(each) for each in range(len(seen))]]])
    rows = max(1, _BLOCK // max(1, both.size))
    buffer = np.empty((rows, clusters))
    for start in range(0, draws, rows):
        drawn = rng.integers(0, clusters, (min(rows, draws - start), clusters))
        times = buffer[: len(drawn)]
        for at, row in enumerate(drawn):
            times[at] = np.bincount(row, minlength=clusters)
        found = times @ both
        size = found[:, totals.shape[1] :][:, kind]
        np.divide(found[:, : totals.shape[1]], size, out=out[start : start + len(drawn)], where=size > 0)
    return out


def summarise(
    values: ArrayLike,
    clusters: Sequence[str],
    statuses: ArrayLike | None = None,
    *,
    errors: Literal["missing", "zero"] = "missing",
    draws: int = DRAWS,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> list[Summary]:
    """The means of all measures with their intervals, one Summary a measure.

    Parameters
    ----------
    values
        [questions, measures]; what stands where nothing is scored does not matter.
    clusters
        The cluster of each question, as `cluster_ids` gives them.
    statuses
        A Status for each value; None takes NaN for UNSCORED and the rest for SCORED.
    errors
        Whether errors leave the mean and its interval, or are values of 0 in both.

    Raises ValueError for shapes that do not fit, and for a scored value that is not finite.
    """
    scores, found = _checked(values, statuses, len(clusters))
    failed = found == Status.ERROR
    scored = found == Status.SCORED
    filled = np.where(scored, scores, 0.0)
    kept = scored | failed if errors == "zero" else scored
    means = _means(filled, kept)
    zero = _means(filled, scored | failed)
    low, high, present = _interval(filled, kept, clusters, draws, seed, confidence)
    return [
        Summary(
            n=int(kept[:, at].sum()),
            unscored=int((found[:, at] == Status.UNSCORED).sum()),
            errors=int(failed[:, at].sum()),
            mean=means[at],
            low=low[at],
            high=high[at],
            clusters=present[at],
            mean_errors_zero=zero[at],
        )
        for at in range(scores.shape[1])
    ]


def paired(
    first: ArrayLike,
    second: ArrayLike,
    clusters: Sequence[str],
    statuses: tuple[ArrayLike | None, ArrayLike | None] = (None, None),
    *,
    errors: Literal["missing", "zero"] = "missing",
    draws: int = DRAWS,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> list[Difference]:
    """Differences of two runs over the same questions in the same order, one Difference a measure.

    Only questions with a value in both runs count. Parameters and errors raised are those of `summarise`.
    """
    scores_a, found_a = _checked(first, statuses[0], len(clusters))
    scores_b, found_b = _checked(second, statuses[1], len(clusters))
    if scores_a.shape != scores_b.shape:
        raise ValueError(f"the runs have the shapes {scores_a.shape} and {scores_b.shape}")
    valid = (Status.SCORED, Status.ERROR) if errors == "zero" else (Status.SCORED,)
    kept = np.isin(found_a, valid) & np.isin(found_b, valid)
    failed = (found_a == Status.ERROR) | (found_b == Status.ERROR)
    absent = ((found_a == Status.UNSCORED) | (found_b == Status.UNSCORED)) & ~failed
    filled_a = np.where(found_a == Status.SCORED, scores_a, 0.0)
    filled_b = np.where(found_b == Status.SCORED, scores_b, 0.0)
    one, two, change = (_means(filled, kept) for filled in (filled_a, filled_b, filled_b - filled_a))
    low, high, present = _interval(filled_b - filled_a, kept, clusters, draws, seed, confidence)
    return [
        Difference(
            n=int(kept[:, at].sum()),
            unscored=int(absent[:, at].sum()),
            errors=int(failed[:, at].sum()),
            first=one[at],
            second=two[at],
            difference=change[at],
            low=low[at],
            high=high[at],
            clusters=present[at],
        )
        for at in range(scores_a.shape[1])
    ]


def slices(tags: Sequence[Mapping[str, str]], names: Collection[str] | None = None) -> dict[tuple[str, str], list[int]]:
    """The questions of each value of each tag: {(tag, value): positions}, sorted; `names` keeps only these tags."""
    found: dict[tuple[str, str], list[int]] = {}
    for at, row in enumerate(tags):
        for item in row.items():
            if names is None or item[0] in names:
                found.setdefault(item, []).append(at)
    return dict(sorted(found.items()))


def _checked(values: ArrayLike, statuses: ArrayLike | None, questions: int) -> tuple[Floats, NDArray[np.uint8]]:
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 2 or len(scores) != questions:
        raise ValueError(f"the values have the shape {scores.shape}, and there are {questions:,} questions")
    if statuses is None:
        found = np.where(np.isnan(scores), Status.UNSCORED, Status.SCORED).astype(np.uint8)
    else:
        found = np.asarray(statuses, dtype=np.uint8)
    if found.shape != scores.shape:
        raise ValueError(f"the values have the shape {scores.shape}, their statuses {found.shape}")
    wrong = (found == Status.SCORED) & ~np.isfinite(scores)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise ValueError(f"question {row} is scored {scores[row, column]} in measure {column}, not a finite number")
    return scores, found


def _means(values: Floats, kept: NDArray[np.bool_]) -> list[float | None]:
    # the values as they stand, not sums of clusters: the mean must not depend on how questions are grouped
    columns = [values[kept[:, at], at] for at in range(values.shape[1])]
    return [float(column.mean()) if len(column) else None for column in columns]


def _interval(
    values: Floats, kept: NDArray[np.bool_], clusters: Sequence[str], draws: int, seed: int, confidence: float
) -> tuple[list[float | None], list[float | None], list[int]]:
    """Lower and upper end for each measure, and in how many clusters it has a value."""
    # in the order of first occurrence, so that without clusters a draw is a draw of the rows as they stand
    numbers: dict[str, int] = {}
    where = np.array([numbers.setdefault(name, len(numbers)) for name in clusters], dtype=np.intp)
    sums, counts = np.zeros((2, len(numbers), values.shape[1]))
    np.add.at(sums, where, np.where(kept, values, 0.0))
    np.add.at(counts, where, kept)
    present = [int(each) for each in (counts > 0).sum(axis=0)]
    estimates = resample(sums, counts, draws, seed)
    tail = (1 - confidence) / 2
    low: list[float | None] = []
    high: list[float | None] = []
    for at, size in enumerate(present):
        column = estimates[:, at]
        drawn = column[~np.isnan(column)]
        ends = np.quantile(drawn, [tail, 1 - tail]) if size > 1 and len(drawn) else None
        low.append(None if ends is None else float(ends[0]))
        high.append(None if ends is None else float(ends[1]))
    return low, high, present
