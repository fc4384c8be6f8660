"""Whether groups of patients are as large in the synthetic cohort as among real patients.

The slope of log(synthetic share / real share) on log(real size) tells the direction (Ganev 2022): below 0 small groups
grow at the cost of large ones ("Robin Hood"), above 0 they shrink ("Matthew").
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dpsynth.evaluation.arrays.groups import Grouping
from dpsynth.evaluation.arrays.table import Floats, Table
from dpsynth.evaluation.metrics.released import ReleasedCounts
from dpsynth.evaluation.protocol import Protocol
from dpsynth.evaluation.result import Disclosure, Interval, Result, estimate, not_estimable
from dpsynth.evaluation.statistics.bootstrap import percentile

__all__ = ["log_ratio", "released_shares", "representation", "slope", "synthetic_shares"]

DRAWS = 2_000


def log_ratio(real: Floats, synthetic: Floats) -> tuple[Floats, Floats]:
    """Return log of synthetic over real share of each group, and its standard error by the delta method.

    Parameters
    ----------
    real, synthetic : ndarray, shape (groups,)
        Counts; the result is NaN where one of them is 0.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = real / real.sum(), synthetic / synthetic.sum()
        value = np.log(shares[1]) - np.log(shares[0])
        error = np.sqrt((1 - shares[0]) / real + (1 - shares[1]) / synthetic)
    present = np.asarray((real > 0) & (synthetic > 0))
    return np.where(present, value, np.nan), np.where(present, error, np.nan)


def slope(real: Floats, synthetic: Floats) -> Floats:
    """Return the least-squares slope of the log ratio of shares on log size, 0.5 added to each count.

    Parameters
    ----------
    real, synthetic : ndarray, shape (..., groups)
    """
    real, synthetic = real + 0.5, synthetic + 0.5
    size = np.log(real)
    ratio = np.log(synthetic / synthetic.sum(axis=-1, keepdims=True)) - np.log(real / real.sum(axis=-1, keepdims=True))
    centred = size - size.mean(axis=-1, keepdims=True)
    spread = (centred**2).sum(axis=-1)
    return np.asarray((centred * ratio).sum(axis=-1) / np.where(spread > 1e-12, spread, np.nan))


def representation(
    real: Table, synthetic: Sequence[Table], groupings: Sequence[Grouping], terms: Protocol
) -> list[Result]:
    """Return shares, log ratios and slopes for each grouping; counts of several synthetic draws are added up."""
    results: list[Result] = []
    for grouping in groupings:
        size = len(grouping.labels)
        counts: Floats = np.bincount(grouping.codes(real), minlength=size).astype(np.float64)
        each = [np.bincount(grouping.codes(table), minlength=size).astype(np.float64) for table in synthetic]
        drawn: Floats = np.stack(each).sum(axis=0)
        kept = np.flatnonzero(counts + drawn)
        labels = [grouping.labels[place] for place in kept]
        results += _ratios(grouping.name, labels, counts[kept], drawn[kept], terms)
        results.append(_slope(grouping.name, labels, counts[kept], drawn[kept], terms))
    return results


def synthetic_shares(synthetic: Table, groupings: Sequence[Grouping]) -> list[Result]:
    """Return the share of each group in a synthetic cohort: it touches nothing else, so it may be published."""
    results: list[Result] = []
    for grouping in groupings:
        counts = np.bincount(grouping.codes(synthetic), minlength=len(grouping.labels))
        for place in np.flatnonzero(counts):
            fields: dict[str, Any] = {"n": int(counts[place]), "group": grouping.labels[place]}
            fields |= {"disclosure": Disclosure.PUBLIC, "detail": {"grouping": grouping.name}}
            results.append(estimate("share", counts[place] / len(synthetic), **fields))
    return results


def released_shares(released: Sequence[ReleasedCounts], groupings: Sequence[Grouping], terms: Protocol) -> list[Result]:
    """Return the log ratio of shares of each group whose counts the budget paid for, against those noisy counts.

    Notes
    -----
    Privacy contract: post-processing of released counts and of the synthetic cohort; the results are public.
    """
    tables = {table.columns: table for table in released if table.labels}
    results: list[Result] = []
    for grouping in groupings:
        table = tables.get(grouping.columns)
        if table is not None and not grouping.edges and float(table.counts.sum()) > 0 and table.synthetic.sum() > 0:
            results += _released_ratios(grouping, table, terms)
    return results


def _released_ratios(grouping: Grouping, table: ReleasedCounts, terms: Protocol) -> list[Result]:
    """Compare shares of the release with noisy shares.

    With independent noise of standard deviation sigma on each of k counts that add up to C, the share p of a cell has
    variance sigma^2 ((1 - p)^2 + (k - 1) p^2) / C^2 (delta method), and its logarithm that over p^2.
    """
    from scipy.stats import norm

    reach = float(norm.ppf(0.5 + terms.level / 2))
    noisy, mine = (np.asarray(side, dtype=np.float64).ravel() for side in (table.counts, table.synthetic))
    results: list[Result] = []
    for label, count, own in zip(table.labels, noisy, mine, strict=True):
        fields: dict[str, Any] = {"group": _named(grouping, label), "n": max(0, round(count))}
        fields["disclosure"] = Disclosure.PUBLIC
        if count <= reach * table.sigma or own == 0:
            reason = "the released count is within its noise of 0" if own else "no synthetic patient is in this group"
            results.append(not_estimable("representation", reason, **fields))
            continue
        share, total = count / noisy.sum(), noisy.sum()
        error = table.sigma * np.sqrt((1 - share) ** 2 + (len(noisy) - 1) * share**2) / (share * total)
        value = float(np.log(own / mine.sum()) - np.log(share))
        interval = Interval(
            value - reach * error, value + reach * error, terms.level, ("noise of the counts",), "delta"
        )
        detail = {
            "grouping": grouping.name,
            "source": "released counts",
            "real_rows": round(count),
            "real_share": share,
        }
        detail |= {"synthetic_rows": int(own), "synthetic_share": own / mine.sum()}
        results.append(estimate("representation", value, interval=interval, detail=detail, **fields))
    return results


def _named(grouping: Grouping, label: str) -> str:
    """Return the name that a grouping gives the cell that a released table calls `label`."""
    joined = " & ".join(f"{name}={part}" for name, part in zip(grouping.columns, label.split(", "), strict=False))
    return joined if joined in grouping.labels else label


def _ratios(name: str, labels: list[str], real: Floats, synthetic: Floats, terms: Protocol) -> list[Result]:
    from scipy.stats import norm

    reach = float(norm.ppf(0.5 + terms.level / 2))
    results: list[Result] = []
    for label, n, m, value, error in zip(labels, real, synthetic, *log_ratio(real, synthetic), strict=True):
        detail = {"grouping": name, "real_rows": int(n), "synthetic_rows": int(m)}
        detail |= {"real_share": n / real.sum(), "synthetic_share": m / synthetic.sum()}
        fields: dict[str, Any] = {"n": int(n), "group": label, "disclosure": terms.disclosure, "detail": detail}
        if np.isnan(value):
            where = "real" if n == 0 else "synthetic"
            results.append(not_estimable("representation", f"no {where} patient is in this group", **fields))
            continue
        covers = ("real patients", "synthetic rows")
        interval = Interval(value - reach * error, value + reach * error, terms.level, covers, "delta method")
        results.append(estimate("representation", value, interval=interval, **fields))
    return results


def _slope(name: str, labels: list[str], real: Floats, synthetic: Floats, terms: Protocol) -> Result:
    fields: dict[str, Any] = {"n": len(labels), "group": name, "disclosure": terms.disclosure}
    if len(labels) < 3:
        return not_estimable("representation_slope", f"needs three groups or more, found {len(labels)}", **fields)
    value = float(slope(real, synthetic))
    if np.isnan(value):
        return not_estimable("representation_slope", "all groups are of one size", **fields)
    rng = np.random.default_rng(terms.seed)
    drawn = slope(
        *(rng.multinomial(int(side.sum()), side / side.sum(), size=DRAWS).astype(float) for side in (real, synthetic))
    )
    interval = percentile(drawn, ("real patients", "synthetic rows"), terms.level)
    return estimate("representation_slope", value, interval=interval, **fields)
