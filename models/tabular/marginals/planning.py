"""What a mechanism expects before it spends anything: noise, errors and time, from public facts alone."""

from collections.abc import Mapping, Sequence

import numpy as np

from dpsynth.coding.codec import Codec
from dpsynth.models.base import Synthesizer
from dpsynth.models.plan import Plan, PlanItem
from dpsynth.models.tabular.marginals import one_way
from dpsynth.models.tabular.marginals.binning import Bins, group
from dpsynth.models.tabular.marginals.groups import group_columns, smallest_group
from dpsynth.models.tabular.marginals.interactions import MEAN_ABSOLUTE
from dpsynth.models.tabular.marginals.one_way import DISCOVERY_SHARE, SHAPE_SHARE, Look, OneWay
from dpsynth.privacy.spending.accounting import rho_for
from dpsynth.privacy.spending.budget import Budget
from dpsynth.privacy.spending.events import Accounting
from dpsynth.privacy.tables.discovery import delta_for_discovery
from dpsynth.schema.schema import Schema

ASSUMED_VALUES = 10
"""Values that a column is assumed to have whose values are still to be discovered, unless its `max_values` is less."""
LOST = 0.25
"""A cell of one column whose noise is more than this share of its expected count is called lost in the noise."""


def public_codec(schema: Schema) -> Codec:
    """Return the codec of a schema; columns to discover get stand-in values."""
    codec = Codec(schema)
    values = {}
    for name in codec.pending:
        most = getattr(schema.columns[name], "max_values", None) or ASSUMED_VALUES
        values[name] = [f"value {i + 1}" for i in range(min(most, ASSUMED_VALUES))]
    return codec.with_discovered(values) if values else codec


def rho_of(schema: Schema, budget: Budget, accounting: Accounting) -> float:
    """Return what the budget can pay, less what discovering values will cost."""
    rho = rho_for(budget, accounting, reserved_delta=delta_for_discovery(budget, schema))
    return rho * (1 - DISCOVERY_SHARE) if schema.to_discover else rho


def even_one_way(schema: Schema, codec: Codec, bins: int | None, rows: int, rho: float) -> OneWay:
    """One-way counts as they would be if every column were spread evenly over its codes."""
    many = set(one_way.many_cells(codec))
    price = rho * (1 - SHAPE_SHARE * len(many) / len(codec.columns))
    variance = {
        name: (schema.max_rows_per_patient / rows) ** 2 / (2 * price * share)
        for name, share in one_way.column_shares(schema, list(codec.columns)).items()
    }
    maps = {}
    for name, code in codec.columns.items():
        spread, alone = np.full(code.size, 1 / code.size), code.size - code.ordered
        size = bins or one_way.bins_for(float(np.sqrt(variance[name])))
        maps[name] = group(spread, code.ordered, size + alone) if name in many else np.arange(code.size)
    within = {name: 1.0 / np.bincount(codes)[codes] for name, codes in maps.items()}
    looks, proportions = {}, {}
    for name, codes in maps.items():
        size = int(codes.max()) + 1
        proportions[name] = np.full(size, 1 / size)
        looks[name] = Look(rows * proportions[name], np.full(size, variance[name] * rows**2), codes)
    return OneWay(Bins(maps, within), proportions, variance, float(rows), looks)


def blurred(counts: OneWay) -> float:
    """Return the mean total variation that bins blur of a column, by the rule that settled their number."""
    cut = [len(counts.proportions[name]) for name, codes in counts.bins.maps.items() if codes.max() + 1 < len(codes)]
    return sum(one_way.CURVATURE / bins for bins in cut) / len(counts.proportions)


def noise_items(schema: Schema, counts: OneWay, what: str, tables: int, rho: float) -> tuple[PlanItem, float]:
    """One line for pairs that are counted at equal prices, and the total variation that their noise makes."""
    sizes = [len(table) for table in counts.proportions.values()]
    cells = float(np.mean([a * b for i, a in enumerate(sizes) for b in sizes[i + 1 :]]))
    sigma = schema.max_rows_per_patient / float(np.sqrt(2 * rho / tables))
    error = min(0.5 * MEAN_ABSOLUTE * cells * sigma / counts.rows, 1.0)
    return PlanItem(what, tables, round(cells * tables), sigma, "noise before the fit shrinks it"), error


def plan_of(
    maker: Synthesizer,
    schema: Schema,
    budget: Budget,
    rows: int,
    counts: OneWay,
    *,
    items: Sequence[PlanItem],
    pair_error: float | None,
    blur: float = 0.0,
    group_noise: Mapping[str, float] | None = None,
) -> Plan:
    """Return the plan of a marginal-based mechanism from its noise and its questions.

    Parameters
    ----------
    counts
        One-way counts as they would be (`even_one_way`).
    items
        The questions besides.
    pair_error
        Expected total variation error of a pair's association; None where pairs are not modelled.
    blur
        Total variation that bins blur of a column, where their number was chosen against it (`blurred`).
    group_noise
        For each column the noise in rows on a cell of its interaction with the target, where that is measured for sure.
    """
    sigma = float(np.sqrt(np.mean(list(counts.variance.values())))) * rows
    cells = sum(len(table) for table in counts.proportions.values())
    first = PlanItem("columns", len(counts.proportions), cells, sigma, _worth(counts, sigma))
    columns = _one_way_error(counts, sigma) + blur
    errors = {"1-way": min(columns, 1.0)}
    if pair_error is not None:
        errors["2-way"] = min(2 * columns + pair_error, 1.0)
    return Plan(
        model=maker.name,
        epsilon=budget.epsilon,
        delta=budget.delta,
        rho=rho_of(schema, budget, maker.accounting),
        rows=rows,
        items=(first, *items),
        expected_error=errors,
        expected_seconds=_seconds(maker, len(counts.proportions), rows),
        warnings=_warnings(schema, counts, sigma),
        smallest_groups=_smallest_groups(schema, counts, group_noise or {}),
    )


def one_way_error(counts: OneWay) -> float:
    """Return the expected mean total variation distance that noise alone makes of one column, at most 1."""
    return min(_one_way_error(counts, float(np.sqrt(np.mean(list(counts.variance.values())))) * counts.rows), 1.0)


def _one_way_error(counts: OneWay, sigma: float) -> float:
    return float(np.mean([0.5 * MEAN_ABSOLUTE * len(t) * sigma / counts.rows for t in counts.proportions.values()]))


def _smallest_groups(schema: Schema, counts: OneWay, noise: Mapping[str, float]) -> dict[str, float]:
    """Size from which on a group is represented, by the columns of the schema's subgroups and policy."""
    outcomes = len(counts.proportions[schema.target]) if schema.target is not None else 1
    sizes = {}
    for name in dict.fromkeys((*schema.subgroups, *group_columns(schema))):
        count = float(np.sqrt(counts.variance[name])) * counts.rows
        sizes[name] = smallest_group(count, noise.get(name, 0.0), outcomes if name in noise else 1)
    return sizes


def _worth(counts: OneWay, sigma: float) -> str:
    evenly = [counts.rows / len(table) for table in counts.proportions.values()]
    return f"evenly spread cells hold {min(evenly):,.0f} rows and more; the noise is {sigma:,.1f}"


def _warnings(schema: Schema, counts: OneWay, sigma: float) -> tuple[str, ...]:
    warnings = [
        f"column {name!r}: an evenly filled cell would hold {counts.rows / len(table):,.0f} rows, the noise is "
        f"{sigma:,.0f}; merge values or spend more"
        for name, table in counts.proportions.items()
        if sigma > LOST * counts.rows / len(table)
    ]
    cap = schema.max_rows_per_patient
    if cap > 1:
        warnings.append(f"up to {cap} rows a patient: all noise is {cap} times that of one row a patient")
    return tuple(warnings)


# Seconds on two cores, measured on SUPPORT2 (9,105 x 31) and at 1,000,000 x 50; see benchmarks/results.
SECONDS = {"independent": (0.5, 0.0), "mst": (1.5, 0.5e-3), "aim": (10.0, 8e-3), "prism": (3.0, 3e-3)}


def _seconds(maker: Synthesizer, columns: int, rows: int) -> float:
    base, each_pair = SECONDS.get(maker.name, maker.seconds)
    pairs = columns * (columns - 1) / 2
    return round(base + each_pair * pairs + 1e-7 * rows * columns, 1)
