"""The warm start of a network: rows of a marginal-based model, and what that model knows of the columns.

Formal guarantee: all that is asked of the data is asked by that model's own fit; what is here is post-processing.
"""

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from dpsynth.models.tabular.deep.conditions import MOST_STATES, ConditionTable, condition_columns
from dpsynth.models.tabular.deep.layout import Layout
from dpsynth.models.tabular.deep.model import PaidTable
from dpsynth.models.tabular.independent import Independent
from dpsynth.models.tabular.marginals.binning import totals
from dpsynth.models.tabular.marginals.one_way import OneWay
from dpsynth.models.tabular.prism import Prism
from dpsynth.privacy.session import Session
from dpsynth.progress import Progress

WARMUPS = ("prism", "independent", "none")


def warm_known(
    session: Session, name: str, rows: int, wanted: list[str] | None, report: Progress
) -> tuple[PaidTable, Mapping[str, Any]]:
    """Fit a marginal-based model with all that questions may cost.

    Returns
    -------
    tuple
        Columns and conditions as the model's rows have them, and the fine codes of the rows.
    """
    maker = Prism() if name == "prism" else Independent()
    model = maker.fit(session, report)
    codes = model.sample_codes(rows, {}, np.random.default_rng(0))
    bins = model.bins
    proportions = {c: totals(bins.maps[c][codes[c]], np.full(rows, 1 / rows), bins.shape[c]) for c in codes}
    counts = OneWay(bins, proportions, dict.fromkeys(codes, 0.0), float(model.rows), {})
    sizes = counts.merged(session.codec, MOST_STATES).bins.shape
    columns = condition_columns(session.schema, sizes, wanted)
    layout = Layout.of(session.codec, counts, columns, MOST_STATES)
    states = np.ravel_multi_index(
        [np.zeros(rows, dtype=int), *(layout.bins.maps[c][codes[c]] for c in columns)], (1, *layout.condition_sizes)
    )
    table = np.bincount(states, minlength=prod(layout.condition_sizes)).reshape(layout.condition_sizes) / rows
    noise = max((released.sigma for released in model.released() if released.columns[0] in columns), default=0.0)
    return PaidTable(layout, ConditionTable(columns, table, noise), model.rows, model.released()), codes
