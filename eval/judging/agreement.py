"""How far two raters agree beyond chance, with an interval: yes or no on the same answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eval.statistics import CONFIDENCE, DRAWS, resample

Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Agreement:
    """One rater against another over the answers that both have judged."""

    rater: str
    against: str
    system: str | None
    """Whose answers; None for those of all systems."""
    n: int
    unscored: int
    """Answers without a verdict of the rater: in none of the figures."""
    agreement: float | None
    """Share of the answers with equal verdicts; None without any."""
    kappa: float | None
    """Cohen's kappa; None where chance alone would agree everywhere."""
    low: float | None
    """None under two clusters."""
    high: float | None
    said_right: float | None
    """Share of the answers that the rater calls right."""
    against_right: float | None
    """The same of the other."""


def cohen_kappa(agreement: ArrayLike, first: ArrayLike, second: ArrayLike) -> Floats:
    """(agreement - chance) / (1 - chance), NaN where chance is 1 (Cohen, 1960).

    `agreement` is the share of equal verdicts, `first` and `second` the shares that each calls right; chance is
    first x second + (1 - first) x (1 - second).

    >>> float(cohen_kappa(0.75, 0.5, 0.5)), float(cohen_kappa(0.2, 0.0, 0.8))
    (0.5, 0.0)
    """
    both, one, two = (np.asarray(each, dtype=np.float64) for each in (agreement, first, second))
    chance = one * two + (1 - one) * (1 - two)
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Floats = np.where(chance < 1, (both - chance) / (1 - chance), np.nan)
    # a difference of rounding must not look like disagreement beyond chance
    return np.where(np.abs(found) < 1e-12, 0.0, found)


def agreements(
    verdicts: Mapping[str, ArrayLike],
    against: tuple[str, ArrayLike],
    clusters: Sequence[str],
    system: str | None = None,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> list[Agreement]:
    """Each rater against one and the same other, an Agreement a rater.

    Parameters
    ----------
    verdicts
        Of each rater, a value for each answer: 1 right, 0 wrong, NaN no verdict.
    against
        The other's name and verdicts. Answers without one of these count nowhere.
    clusters
        What the answers belong to that are drawn together: those to one question.
    draws, seed
        Of the bootstrap: percentile interval at `statistics.CONFIDENCE`. Draws without a kappa are left out of it.
    """
    other = np.asarray(against[1], dtype=np.float64)
    numbers: dict[str, int] = {}
    where = np.array([numbers.setdefault(name, len(numbers)) for name in clusters], dtype=np.intp)
    columns: list[Floats] = []
    counted: list[NDArray[np.bool_]] = []
    unscored: list[int] = []
    for given in verdicts.values():
        values = np.asarray(given, dtype=np.float64)
        kept = ~np.isnan(values) & ~np.isnan(other)
        columns += [np.where(kept, each, 0.0) for each in (values == other, values, other)]
        counted += [kept] * 3
        unscored.append(int((np.isnan(values) & ~np.isnan(other)).sum()))
    sums, counts = np.zeros((2, len(numbers), len(columns)))
    for at, (column, kept) in enumerate(zip(columns, counted, strict=True)):
        np.add.at(sums[:, at], where, column)
        np.add.at(counts[:, at], where, kept)
    drawn = resample(sums, counts, draws, seed)
    found: list[Agreement] = []
    for at, name in enumerate(verdicts):
        of = slice(3 * at, 3 * at + 3)
        n = int(counts[:, of.start].sum())
        agreed, said, right = (float(each) / n for each in sums[:, of].sum(axis=0)) if n else (None, None, None)
        kappa = float(cohen_kappa(agreed, said, right)) if n else np.nan  # type: ignore[arg-type]
        kappas = cohen_kappa(*drawn[:, of].T)
        kappas = kappas[~np.isnan(kappas)]
        enough = len(kappas) > 0 and int((counts[:, of.start] > 0).sum()) > 1 and not np.isnan(kappa)
        tail = (1 - CONFIDENCE) / 2
        low, high = (float(each) for each in np.quantile(kappas, [tail, 1 - tail])) if enough else (None, None)
        found.append(
            Agreement(
                rater=name,
                against=against[0],
                system=system,
                n=n,
                unscored=unscored[at],
                agreement=agreed,
                kappa=None if np.isnan(kappa) else kappa,
                low=low,
                high=high,
                said_right=said,
                against_right=right,
            )
        )
    return found
