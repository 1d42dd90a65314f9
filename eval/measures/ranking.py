"""The ranking measures: a value for each judged query, over all queries at once.

Each function's formulas are in its entry. A judged query without results has the value 0 in all of them: the ranking
has no judged document, so nothing is ever added up.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eval.measures.conditions import JUDGED_DOCUMENTS
from eval.measures.matching import Ints, Matched
from eval.measures.names import Entry, Floats, Measure, Parameter, setting

_REL = {"rel": Parameter(1, "the lowest grade that is relevant")}
_QRELS = "judgements of documents (qrels) and rankings"
_GRADES = "graded judgements and rankings"
_ZERO = "no results: 0; no relevant document judged: 0; no judgements: not applicable, counted; unjudged document: not relevant"


def _level(measure: Measure, entry: Entry) -> int:
    return int(setting(measure, entry, "rel"))


def _hits(matched: Matched, measure: Measure, level: int) -> NDArray[np.bool_]:
    """Which of the judged documents that were retrieved are relevant, and within the cutoff."""
    hits = matched.grade >= level
    if measure.cutoff is not None:
        hits &= matched.rank < measure.cutoff
    return hits


def _ordinals(matched: Matched, query: Ints) -> Ints:
    """0, 1, 2 ... within each query; the queries stand in order."""
    counts = matched.count(query)
    return np.arange(len(query)) - (np.cumsum(counts) - counts)[query]


def _share(part: Floats | Ints, whole: Floats | Ints) -> Floats:
    """Part of whole, 0 where the whole is 0."""
    out = np.zeros(len(whole), np.float64)
    np.divide(part, whole, out=out, where=whole != 0)
    return out


def _sum(matched: Matched, query: Ints, values: Floats) -> Floats:
    # without a single value bincount gives whole numbers
    return np.bincount(query, weights=values, minlength=len(matched.queries)).astype(np.float64, copy=False)


def _precision(matched: Matched, measure: Measure) -> Floats:
    assert measure.cutoff is not None
    return matched.count(matched.query[_hits(matched, measure, _level(measure, P))]) / measure.cutoff


def _recall(matched: Matched, measure: Measure) -> Floats:
    level = _level(measure, R)
    return _share(matched.count(matched.query[_hits(matched, measure, level)]), matched.relevant(level))


def _success(matched: Matched, measure: Measure) -> Floats:
    return (matched.count(matched.query[_hits(matched, measure, _level(measure, SUCCESS))]) > 0).astype(np.float64)


def _reciprocal_rank(matched: Matched, measure: Measure) -> Floats:
    hits = _hits(matched, measure, _level(measure, RR))
    values = np.zeros(len(matched.queries))
    # of several values for one query the last stays, so backwards: the first hit
    values[matched.query[hits][::-1]] = 1.0 / (matched.rank[hits][::-1] + 1)
    return values


def _average_precision(matched: Matched, measure: Measure) -> Floats:
    level = _level(measure, AP)
    hits = _hits(matched, measure, level)
    query = matched.query[hits]
    precision = (_ordinals(matched, query) + 1) / (matched.rank[hits] + 1)
    return _share(_sum(matched, query, precision), matched.relevant(level))


def _gain(grade: Ints, rank: Ints, measure: Measure) -> Floats:
    gain = grade.astype(np.float64)
    if setting(measure, NDCG, "dcg") == "exp-log2":
        gain = np.exp2(gain) - 1.0
    return gain / np.log2(np.arange(2, rank.max(initial=0) + 3))[rank]


def _ndcg(matched: Matched, measure: Measure) -> Floats:
    hits = _hits(matched, measure, 1)
    found = _sum(matched, matched.query[hits], _gain(matched.grade[hits], matched.rank[hits], measure))
    place = np.arange(len(matched.judged_query)) - matched.judged_starts[matched.judged_query]
    best = matched.judged_grade > 0
    if measure.cutoff is not None:
        best &= place < measure.cutoff
    ideal = _sum(matched, matched.judged_query[best], _gain(matched.judged_grade[best], place[best], measure))
    return _share(found, ideal)


def _judged(matched: Matched, measure: Measure) -> Floats:
    assert measure.cutoff is not None
    looked_at = np.minimum(matched.retrieved, measure.cutoff)
    return _share(matched.count(matched.query[matched.rank < measure.cutoff]), looked_at)


def _r_precision(matched: Matched, measure: Measure) -> Floats:
    level = _level(measure, RPREC)
    relevant = matched.relevant(level)
    hits = (matched.grade >= level) & (matched.rank < relevant[matched.query])
    return _share(matched.count(matched.query[hits]), relevant)


def _bpref(matched: Matched, measure: Measure) -> Floats:
    level = _level(measure, BPREF)
    relevant = matched.relevant(level)
    other = matched.relevant(0, below=level)
    judged = matched.grade >= 0
    query, hit = matched.query[judged], matched.grade[judged] >= level
    # the judged documents of a query before each hit, less the hits among them
    above = _ordinals(matched, query)[hit] - _ordinals(matched, query[hit])
    query = query[hit]
    at_most = np.minimum(other, relevant)[query]
    lost = _share(np.minimum(above, relevant[query]), at_most)
    return _share(_sum(matched, query, 1.0 - lost), relevant)


NDCG = Entry(
    name="nDCG",
    family="ranking",
    when=JUDGED_DOCUMENTS,
    says="how much of the gain that the best ranking would bring in its first K documents this one brings",
    formula="DCG@K / DCG@K of all judged documents, best grade first; "
    "DCG@K = sum over ranks i <= K of gain(i) / log2(i + 1); gain = grade, 0 below 1",
    needs=_GRADES,
    source="Järvelin and Kekäläinen, TOIS 20(4), 2002; `exp-log2` (gain 2^grade - 1): Burges and others, ICML 2005",
    missing=_ZERO,
    values=_ndcg,
    cutoff="optional",
    parameters={"dcg": Parameter("log2", "how a grade becomes a gain", ("log2", "exp-log2"))},
    aliases=("NDCG",),
    trec_eval="ndcg, ndcg_cut_K",
)
P = Entry(
    name="P",
    family="ranking",
    when=JUDGED_DOCUMENTS,
    says="the share of the first K places that hold a relevant document",
    formula="relevant documents among the first K / K, also where fewer than K were retrieved",
    needs=_QRELS,
    source="van Rijsbergen, Information Retrieval, 1979",
    missing=_ZERO,
    values=_precision,
    cutoff="required",
    parameters=_REL,
    aliases=("Precision",),
    trec_eval="P_K",
)
R = Entry(
    name="R",
    family="ranking",
    when=JUDGED_DOCUMENTS,
    says="the share of the relevant documents that is found among the first K",
    formula="relevant documents among the first K / relevant documents judged",
    needs=_QRELS,
    source="van Rijsbergen, Information Retrieval, 1979",
    missing=_ZERO,
    values=_recall,
    cutoff="required",
    parameters=_REL,
    aliases=("Recall",),
    trec_eval="recall_K",
)
RR = Entry(
    name="RR",
    family="ranking",
    when=JUDGED_DOCUMENTS,
    says="how high the first relevant document stands",
    formula="1 / rank of the first relevant document, 0 where none is among the first K",
    needs=_QRELS,
    source="Kantor and Voorhees, The TREC-5 Confusion Track, 2000",
    missing=_ZERO,
    values=_reciprocal_rank,
    cutoff="optional",
    parameters=_REL,
    aliases=("MRR",),
    trec_eval="recip_rank",
)
AP = Entry(
    name="AP",
    family="ranking",
    when=JUDGED_DOCUMENTS,
    says="precision at each relevant document, averaged over all relevant ones; its mean is MAP",
    formula="sum of P@i over the ranks i <= K of relevant documents / relevant documents judged",
    needs=_QRELS,
    source="Harman, Evaluation issues in information retrieval, IP&M 28(4), 1992",
    missing=_ZERO,
    values=_average_precision,
    cutoff="optional",
    parameters=_REL,
    aliases=("MAP",),
    trec_eval="map, map_cut_K",
)
SUCCESS = Entry(
    name="Success",
    family="ranking",
    when=JUDGED_DOCUMENTS,
    says="whether any relevant document is among the first K (also called hit rate)",
    formula="1 if a relevant document is among the first K, else 0",
    needs=_QRELS,
    source="trec_eval",
    missing=_ZERO,
    values=_success,
    cutoff="required",
    parameters=_REL,
    trec_eval="success_K",
)
JUDGED = Entry(
    name="Judged",
    family="ranking",
    when=JUDGED_DOCUMENTS,
    says="how far the other measures can be believed: the share of the first K documents that anybody judged",
    formula="judged documents, of whatever grade, among the first K / the smaller of K and the documents retrieved",
    needs=_QRELS,
    source="ir_measures (trec_eval's unj_K is its complement, but divides by K and takes negative grades as unjudged)",
    missing="no results: 0; no judgements: not applicable, counted",
    values=_judged,
    cutoff="required",
)
RPREC = Entry(
    name="Rprec",
    family="ranking",
    when=JUDGED_DOCUMENTS,
    says="precision among as many documents as are relevant",
    formula="relevant documents among the first R / R, with R relevant documents judged",
    needs=_QRELS,
    source="Buckley and Voorhees, Retrieval System Evaluation, in: TREC, 2005",
    missing=_ZERO,
    values=_r_precision,
    parameters=_REL,
    aliases=("RPrec",),
    trec_eval="Rprec",
)
BPREF = Entry(
    name="Bpref",
    family="ranking",
    when=JUDGED_DOCUMENTS,
    says="how seldom a document judged not relevant stands above a relevant one; unjudged ones do not matter",
    formula="sum over retrieved relevant documents of 1 - min(n, R) / min(N, R), divided by R; n: documents judged "
    "not relevant above it, N: all of them, R: relevant documents judged; grades below 0 count as unjudged",
    needs=_QRELS,
    source="Buckley and Voorhees, Retrieval Evaluation with Incomplete Information, SIGIR 2004",
    missing="no results: 0; no relevant document judged: 0; no judgements: not applicable, counted; "
    "unjudged document: passed over",
    values=_bpref,
    parameters=_REL,
    aliases=("BPref",),
    trec_eval="bpref",
)
