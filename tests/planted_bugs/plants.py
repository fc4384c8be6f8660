"""Broken variants of our own code, as seen in published libraries: each breaks one guarantee and nothing else.

A plant takes a monkeypatch and puts the fault in. Plants of DP-SGD stand in a module of their own beside this one.
"""

import math
import os
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dpsynth.coding.codec import Codec
from dpsynth.columns.typed import text_of
from dpsynth.evaluation.coins import Coins
from dpsynth.privacy.answers import PrivateAnswers
from dpsynth.privacy.images import sums
from dpsynth.privacy.images.features import Division
from dpsynth.privacy.mechanisms import BATCH, SystemNoise
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.events import gaussian_scale, selection_epsilon
from dpsynth.privacy.spending.ledger import Ledger
from dpsynth.privacy.spending.privacy_filter import Account
from dpsynth.privacy.tables.quantiles import boundaries, tree_queries

Patch = pytest.MonkeyPatch
GAUSSIAN = SystemNoise.gaussian
PART = Division.__call__
FEATURES = sums._features


# -- noise ------------------------------------------------------------------------------------------------------------


def sigma_halved(patch: Patch) -> None:
    """Draw half of the noise that was paid for."""
    patch.setattr(SystemNoise, "gaussian", lambda self, values, sigma: GAUSSIAN(self, values, sigma / 2))


def noise_predictable(patch: Patch) -> None:
    """Draw from a default seed."""

    def seeded(_self: Any, values: Any, sigma: float) -> Any:
        return values + np.rint(np.random.default_rng(0).normal(0, sigma, values.shape)).astype(np.int64)

    patch.setattr(SystemNoise, "gaussian", seeded)


def noise_reused(patch: Patch) -> None:
    """Draw for one batch and add the same noise to every batch: differences of answers are then exact."""

    def tiled(self: Any, values: Any, sigma: float) -> Any:
        drawn = GAUSSIAN(self, np.zeros(BATCH, dtype=np.int64), sigma)
        return values + np.resize(drawn, values.shape)

    patch.setattr(SystemNoise, "gaussian", tiled)


def noise_in_a_try(patch: Patch) -> None:
    """Go on without noise when drawing it fails."""

    def trying(self: Any, values: Any, sigma: float) -> Any:
        try:
            return GAUSSIAN(self, values, sigma)
        except Exception:
            return values

    patch.setattr(SystemNoise, "gaussian", trying)


def noise_not_rounded_to_integers(patch: Patch) -> None:
    """Add a floating-point normal and give the sum out: its low bits tell the exact count."""

    def floating(_self: Any, values: Any, sigma: float) -> Any:
        return values + np.random.default_rng().normal(0, sigma, values.shape)

    patch.setattr(SystemNoise, "gaussian", floating)


def noise_of_63_bits(patch: Patch) -> None:
    """Make the noise of a training from 63 bits: 7 standard deviations out most whole numbers are left out (ours)."""
    from scipy.special import ndtri

    def coarse(n: int, sigma: float) -> Any:
        words = np.frombuffer(os.urandom(8 * n), dtype=np.uint64)
        below = ((words >> np.uint64(1)).astype(np.float64) + 0.5) * 2.0**-64
        return np.rint(sigma * np.where(words & np.uint64(1), 1.0, -1.0) * ndtri(np.minimum(below, 0.5)))

    patch.setattr("dpsynth.privacy.mechanisms._rounded_normals", coarse)


def rows_kept_by_a_seed(patch: Patch) -> None:
    """Choose which rows over the cap are dropped by a fixed seed."""
    patch.setattr(SystemNoise, "secret", lambda _self: bytes(32))


# -- sensitivity ------------------------------------------------------------------------------------------------------


def cap_ignored_in_measurement(patch: Patch) -> None:
    """Scale the noise of counts to a patient with one row."""
    patch.setattr("dpsynth.privacy.checks.noise_scale", lambda _sensitivity, rho: gaussian_scale(1.0, rho))


def cap_ignored_in_selection(patch: Patch) -> None:
    """Scale the noise of selections to a patient with one row."""
    patch.setattr(
        "dpsynth.privacy.checks.selection_scale", lambda _sensitivity, rho, accounting: 2 / _epsilon(rho, accounting)
    )


def rows_over_the_cap_kept(patch: Patch) -> None:
    """Count every row of a patient, while the noise covers the cap."""
    patch.setattr("dpsynth.sources.memory.kept_positions", lambda patients, *_: np.arange(len(patients)))


def parts_of_equal_size(patch: Patch) -> None:
    """Divide images so that the parts are of equal size: where one goes depends on the others."""

    def balanced(self: Division, levels: Any, top: int, groups: Any) -> Any:
        order = np.argsort(PART(self, levels, top, groups), kind="stable")
        parts = np.zeros(len(levels), dtype=np.intp)
        parts[order] = np.arange(len(levels)) * self.parts // max(1, len(levels))
        return parts

    patch.setattr(Division, "__call__", balanced)


def images_in_two_parts(patch: Patch) -> None:
    """Add each image to its part and to the next one, as soft clusters would, while the noise covers one."""

    def twice(images: Any, features: Any) -> Any:
        for part, cells, vectors in FEATURES(images, features):
            yield part, cells, vectors
            yield part, (cells + 1) % images.cells, vectors

    patch.setattr("dpsynth.privacy.images.sums._features", twice)


def selection_as_if_monotone(patch: Patch) -> None:
    """Call the exponential mechanism without its factor 1/2, although an L1 error moves both ways."""
    patch.setattr(
        "dpsynth.privacy.checks.selection_scale",
        lambda sensitivity, rho, accounting: sensitivity / _epsilon(rho, accounting),
    )


def interaction_norm_squared(patch: Patch) -> None:
    """Take the squared norm of an interaction for its norm: too small, because it is below 1."""
    patch.setattr("dpsynth.privacy.table_questions.math", SimpleNamespace(sqrt=lambda x: x, prod=math.prod))


def triple_priced_as_a_pair(patch: Patch) -> None:
    """Take the norm of an interaction over its first two columns only: that of a pair, whatever is asked."""

    def prod(factors: Any) -> float:
        return math.prod(list(factors)[1:])

    patch.setattr("dpsynth.privacy.table_questions.math", SimpleNamespace(sqrt=math.sqrt, prod=prod))


def interaction_of_one_row_each(patch: Patch) -> None:
    """Ask the interactions of triples as if no patient had more than one row."""
    asked = Session.interactions

    def capless(self: Any, queries: Any, rhos: Any) -> Any:
        if any(len(query.columns) > 2 for query in queries):
            patch.setattr(Session, "sensitivity", 1)
        return asked(self, queries, rhos)

    patch.setattr(Session, "interactions", capless)


def joint_errors_as_one(patch: Patch) -> None:
    """Forget that m errors move together, by sqrt(m)."""
    patch.setattr("dpsynth.privacy.table_questions.math", SimpleNamespace(sqrt=lambda _: 1.0, prod=math.prod))


def _epsilon(rho: float, accounting: Any) -> float:
    return selection_epsilon(rho, accounting)


# -- budget and ledger ------------------------------------------------------------------------------------------------


def spends_without_refusing(patch: Patch) -> None:
    """Note what is spent and stop nothing: the check that comes after."""
    patch.setattr(Account, "debit", lambda self, events: self.events.extend(events))


def quantiles_unpaid(patch: Patch) -> None:
    """Take quantiles from counts that nobody debited."""

    def free(self: Any, column: str, k: int, rho: float) -> Any:
        code = self.codec.columns[column]
        queries = tree_queries(column, code.size, code.ordered)
        sigma = gaussian_scale(self.sensitivity, rho / len(queries))
        return boundaries(self._asked.counts(queries, [sigma] * len(queries)), code.ordered, k)

    patch.setattr(Session, "quantiles", free)


def discovery_delta_not_charged(patch: Patch) -> None:
    """Leave the deltas of key discovery out of the total."""
    patch.setattr("dpsynth.privacy.spending.privacy_filter.total_delta", lambda _events: 0.0)


def ledger_written_afterwards(patch: Patch) -> None:
    """Write the reservation when the run ends: a killed run leaves no trace."""
    reserve, close = Account.reserve, Account.close
    patch.setattr(Account, "reserve", lambda self, ledger, **facts: setattr(self, "_late", (ledger, facts)))

    def late(self: Any, *, failing: bool) -> None:
        ledger, facts = self._late
        reserve(self, ledger, **facts)
        close(self, failing=failing)

    patch.setattr(Account, "close", late)


def tuning_not_counted(patch: Patch) -> None:
    """Count the newest run of a dataset and forget the ones before it."""
    from dpsynth.privacy.spending import ledger_totals as totals

    total = totals.total_epsilon
    patch.setattr(totals, "total_epsilon", lambda runs, delta: total(runs[-1:], delta))


def killed_runs_are_free(patch: Patch) -> None:
    """Count only runs that committed: after kill -9 the spend is gone."""
    runs, spent = Ledger.runs, Ledger.spent
    patch.setattr(Ledger, "runs", lambda self: [run for run in runs(self) if run.closed])
    patch.setattr(Ledger, "spent", lambda self: _without_open(spent(self), runs(self)))


def _without_open(spent: Any, runs: Any) -> Any:
    return spent if all(run.closed for run in runs) else type(spent)(0.0, 0.0, 0, 0, 0)


def another_ledger_taken(patch: Patch) -> None:
    """Keep a run in whatever ledger is named, also beside one that knows what was spent."""
    for module in ("dpsynth.jobs.fit", "dpsynth.privacy.session"):
        patch.setattr(
            f"{module}.ledger_of", lambda _cohort, named: named if isinstance(named, Ledger) else Ledger(named)
        )


def ledger_named_once_is_forgotten(patch: Patch) -> None:
    """Leave nothing beside the data that leads to a ledger which was named (a fault of ours)."""
    patch.setattr("dpsynth.privacy.spending.ledger_pointer.write", lambda _place, _ledger: None)


def patient_columns_added_up(patch: Patch) -> None:
    """Take a stay and a person for one unit because both are called patient (a fault of ours)."""
    patch.setattr("dpsynth.privacy.spending.ledger._differ", lambda one, other: one.unit != other.unit)


# -- who is who -------------------------------------------------------------------------------------------------------


def rows_hashed_by_a_data_frame(patch: Patch) -> None:
    """Put rows on their side by what pandas makes of their columns: one value decides on a column's type."""

    def hashed(cohort: Any, _secret: Any) -> Any:
        keys = pd.util.hash_pandas_object(cohort.to_pandas(), index=False).to_numpy()
        return [key.tobytes() for key in keys]

    patch.setattr("dpsynth.evaluation.coins.row_digests", hashed)


def sides_by_content(patch: Patch) -> None:
    """Give equal rows one coin: all of them are on one side."""
    patch.setattr(Coins, "_of_rows", lambda self, digests: np.array([self._coin(b"row", one) for one in digests]))


def coins_that_everybody_knows(patch: Patch) -> None:
    """Draw no secret: whoever knows a patient's identifier knows on which side they are."""
    patch.setattr(Coins, "draw", classmethod(lambda cls: cls(b"0" * 32)))


def coins_by_place(patch: Patch) -> None:
    """Give the rows coins by where they stand: one row more moves all that come after it."""
    patch.setattr(Coins, "toss", lambda self, cohort: np.random.default_rng(self.secret[0]).random(len(cohort)))


def frames_read_by_column(patch: Patch) -> None:
    """Let Arrow choose a type for objects of several types: the first one decides how the others are read."""
    patch.setattr("dpsynth.files.tables._of_one_type", lambda _series: True)


def decimals_cast_as_a_column(patch: Patch) -> None:
    """Let Arrow cast decimals, which it does by the scale of the column: the digits of its longest value."""
    patch.setattr("dpsynth.columns.typed.doubles", lambda array: array.cast("float64", safe=False))


def singles_with_their_tail(patch: Patch) -> None:
    """Take a float32 for the double that it is exactly; where another value makes it text it has other digits."""
    patch.setattr("dpsynth.columns.typed.doubles", lambda array: array.cast("float64", safe=False))
    patch.setattr("dpsynth.columns.matching.shortest", lambda number: number)


def sheets_read_by_column(patch: Patch) -> None:
    """Turn a whole column into text where one of its cells is text."""
    from dpsynth.files.office import OfficeFile

    read = OfficeFile.columns

    def by_column(self: OfficeFile, *args: Any, **options: Any) -> dict[str, list[Any]]:
        columns = read(self, *args, **options)
        return {
            name: [value if value is None else str(value) for value in values]
            if any(isinstance(value, str) for value in values)
            else values
            for name, values in columns.items()
        }

    patch.setattr(OfficeFile, "columns", by_column)


def moments_parsed_as_a_column(patch: Patch) -> None:
    """Let Arrow choose one type for dates and moments that stand together."""
    import pyarrow as pa

    patch.setattr("dpsynth.files.tables._of_one_type", lambda _series: True)
    patch.setattr("dpsynth.files.tables.mixed_moments", lambda _name, _column, values, _missing: pa.array(values))


def identifiers_with_blanks(patch: Patch) -> None:
    """Take identifiers as they are written: a blank makes a further patient, who has rows of their own."""
    patch.setattr("dpsynth.columns.typed.identifiers", lambda _name, array, _missing_values: text_of(array))


# -- what is known of the data ----------------------------------------------------------------------------------------


def keys_without_noise(patch: Patch) -> None:
    """Release every value that occurs."""

    def exact(self: Any, column: str, _sigma: float, threshold: int) -> list[tuple[Any, int]]:
        return [(value, threshold + count) for value, count in self._parts.values(column).items()]

    patch.setattr(PrivateAnswers, "keys", exact)


def threshold_for_another_delta(patch: Patch) -> None:
    """Release discovered values from the threshold of ten times the delta that is charged."""
    patch.setattr("dpsynth.privacy.tables.discovery.SLACK", -9.0)


def discovered_identifiers_published(patch: Patch) -> None:
    """Take discovered values for categories, whatever they are written like."""
    patch.setattr("dpsynth.privacy.table_questions.check_publishable", lambda *_: None)


def errors_carry_values(patch: Patch) -> None:
    """Let foreign errors out of the kernel with their text."""
    patch.setattr("dpsynth.privacy.answers.shielded", lambda _doing, question: question())


def _open_with(patch: Patch, leak: Any) -> None:
    """Let a session look at its cohort while it opens."""
    opened = Session.open

    def leaking(cohort: Any, *args: Any, **facts: Any) -> Any:
        session = opened(cohort, *args, **facts)
        leak(session, cohort)
        return session

    patch.setattr(Session, "open", leaking)


def _narrowed(session: Any, changes: dict[str, dict[str, Any]]) -> None:
    """Give a session the codec of a schema whose columns were changed."""
    facts = {**session.schema.to_dict(), "constraints": []}
    for name, change in changes.items():
        facts["columns"][name] |= change
    session.codec = Codec(type(session.schema).parse(facts), cells=session.codec.cells)


def row_count_from_the_data(patch: Patch) -> None:
    """Take the number of rows from the table."""
    _open_with(patch, lambda session, cohort: setattr(session, "rows", len(cohort)))


def bounds_from_the_data(patch: Patch) -> None:
    """Cut a number between its least and greatest value."""

    def leak(session: Any, cohort: Any) -> None:
        ages = cohort.to_pandas()["age"]
        _narrowed(session, {"age": {"min": int(ages.min()), "max": int(ages.max())}})

    _open_with(patch, leak)


def categories_from_the_data(patch: Patch) -> None:
    """List the categories that occur."""

    def leak(session: Any, cohort: Any) -> None:
        found = set(cohort.to_pandas()["unit"].dropna())
        declared = session.schema.columns["unit"]
        _narrowed(session, {"unit": {"values": [v for v in declared.values if v in found]}})  # noqa: PD011  (a declared list)

    _open_with(patch, leak)


def missing_from_the_data(patch: Patch) -> None:
    """Give a column a state for missing values where some are missing."""

    def leak(session: Any, cohort: Any) -> None:
        _narrowed(session, {"lab": {"missing": bool(cohort.to_pandas()["lab"].isna().any())}})

    _open_with(patch, leak)


# -- what is published ------------------------------------------------------------------------------------------------


def statement_leaves_events_out(patch: Patch) -> None:
    """State the first question and forget the others."""
    from dpsynth.privacy.spending import statement

    grouped = statement.grouped
    patch.setattr(statement, "grouped", lambda events: grouped(events)[:1])


def statement_understates_epsilon(patch: Patch) -> None:
    """State half of what was spent."""
    from dpsynth.privacy.spending import statement

    patch.setattr(statement, "round_up", lambda epsilon: epsilon / 2)


def public_page_takes_internal_numbers(patch: Patch) -> None:
    """Let a number that touched private data into a public report."""
    from dpsynth.evaluation.results import PublicResults, Results

    patch.setattr(PublicResults, "__init__", lambda self, items=(): Results.__init__(self, items))


def formulas_unguarded(patch: Patch) -> None:
    """Write text to CSV as it is, also where a spreadsheet would run it."""
    patch.setattr("dpsynth.files.write_tables._guarded", lambda text: text)
