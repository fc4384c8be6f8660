"""The last step of every marginal-based mechanism: from noisy answers to a model that can be sampled."""

from collections.abc import Mapping, Sequence

from dpsynth.coding.codec import Codec
from dpsynth.coding.query import Query
from dpsynth.models.tabular.graphical.estimation import Measurement, Zero, estimate
from dpsynth.models.tabular.graphical.model import GraphicalModel
from dpsynth.models.tabular.marginals.interactions import Interaction, Pair
from dpsynth.models.tabular.marginals.model import MarginalModel
from dpsynth.models.tabular.marginals.nudging import wanted
from dpsynth.models.tabular.marginals.one_way import OneWay
from dpsynth.privacy.session import Session
from dpsynth.progress import Progress

NEARLY_EXACT = 1e-12
"""Smallest variance of a proportion: keeps the fit well posed where the noise is tiny."""


def one_way_measurements(counts: OneWay) -> list[Measurement]:
    """Return the columns' own proportions as measurements."""
    return [
        Measurement((name,), table, max(counts.variance[name], NEARLY_EXACT))
        for name, table in counts.proportions.items()
    ]


def state_query(counts: OneWay, columns: Sequence[str]) -> Query:
    """Return the question for a marginal over the states that the joint model tells apart."""
    return Query(tuple(columns), tuple(counts.bins.maps[c] for c in columns))


def count_tables(
    session: Session, counts: OneWay, tables: Sequence[Sequence[str]], rhos: Sequence[float], *, ridge: float = 1.0
) -> list[Measurement]:
    """Count marginals over the states. Formal guarantee: one `Session.count`, costs the sum of `rhos`.

    Parameters
    ----------
    session, counts
        The open session, and what is known of the columns.
    tables, rhos
        Columns of each marginal, and its price.
    ridge
        Slack of the fit in variances of the noise: 1 is all but least squares, more shrinks what the noise explains.
    """
    answers = session.count([state_query(counts, columns) for columns in tables], rhos)
    return [
        Measurement(a.columns, a.counts / counts.rows, max(ridge * (a.sigma / counts.rows) ** 2, NEARLY_EXACT))
        for a in answers
    ]


def zeros_of(codec: Codec, counts: OneWay) -> list[Zero]:
    """Return the schema's constraints, as far as a fit takes them up, as structural zeros over the states."""
    return [(columns, counts.bins.impossible(columns, table)) for columns, table in codec.zeros()]


def fit_model(
    session: Session,
    counts: OneWay,
    measured: Sequence[Measurement],
    report: Progress,
    pairs: Mapping[Pair, Interaction] | None = None,
) -> MarginalModel:
    """Fit a graphical model to the columns, the measured tables and the schema's constraints.

    Of the `pairs` those that its tree does not hold are kept beside it: drawn records are made to agree with them.

    Privacy contract: post-processing of what the session answered.
    """
    report("fitting the model", 0.3)
    zeros = zeros_of(session.codec, counts)
    fit = estimate(counts.bins.shape, [*one_way_measurements(counts), *measured], zeros=zeros, progress=report)
    report("fitting the model", 1.0)
    graph = GraphicalModel(fit.tree, fit.beliefs)
    return MarginalModel(
        session.codec,
        session.statement(),
        graph=graph,
        bins=counts.bins,
        rows=round(counts.rows),
        counts=counts.released(),
        wanted=wanted(graph, pairs or {}),
    )
