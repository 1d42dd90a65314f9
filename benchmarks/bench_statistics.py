"""Bootstrap intervals of all measures at once against scipy's percentile bootstrap, in one run, equal draw by draw.

10,000 questions x 10 measures, 1,000 draws without clusters; scipy in its two ways: all measures as the rows of one
sample in batches that suit it (the same draws for all of them), and a measure at a time with its own defaults. Then our
interval as it is reported: 2,000 draws over clusters of about four questions.
"""

from __future__ import annotations

import argparse
import statistics

import numpy as np
from measure import cpu_seconds, peak_mb, ratio, save
from scipy import __version__
from scipy.stats import bootstrap

from eval.statistics import resample, summarise

DRAWS = 1_000


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--measures", type=int, default=10)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    values = rng.random((arguments.count, arguments.measures))
    alone = [str(at) for at in range(arguments.count)]
    clusters = [str(at) for at in rng.integers(0, arguments.count // 4, arguments.count)]
    rows = np.ascontiguousarray(values.T)

    def one(sample: np.ndarray, batch: int | None) -> np.ndarray:
        found = bootstrap(
            (sample,),
            np.mean,
            n_resamples=DRAWS,
            batch=batch,
            axis=-1,
            method="percentile",
            rng=np.random.default_rng(3),
        )
        return found.bootstrap_distribution

    def ours() -> object:
        return summarise(values, alone, draws=DRAWS, seed=3)

    equal = np.abs(resample(values, np.ones_like(values), DRAWS, 3).T - one(rows, 20)).max()
    assert equal < 1e-12
    before = peak_mb()
    reported = statistics.median(cpu_seconds(lambda: summarise(values, clusters)) for _ in range(5))
    after = peak_mb()
    batches = {batch: cpu_seconds(lambda batch=batch: one(rows, batch)) for batch in (5, 20, 100)}
    best = min(batches, key=batches.__getitem__)
    results = {
        "questions": arguments.count,
        "measures": arguments.measures,
        "draws": DRAWS,
        "scipy": __version__,
        "largest_difference_of_a_draw": float(equal),
        "scipy_all_measures_at_once": {"batch": best, **ratio(ours, lambda: one(rows, best))},
        "scipy_a_measure_at_a_time": ratio(ours, lambda: [one(row, None) for row in rows], 3),
        "clustered": {"draws": 2_000, "clusters": len(set(clusters)), "cpu_s": reported, "added_mb": after - before},
    }
    save("statistics", results)


if __name__ == "__main__":
    main()
