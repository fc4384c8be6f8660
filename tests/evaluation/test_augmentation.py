"""Augmentation: SMOTE stays between real patients, all arms are paired, and weights weigh."""

from typing import Any

import numpy as np
import pytest

from dpsynth.errors import InputError
from dpsynth.evaluation.arrays.table import Table, Variable
from dpsynth.evaluation.learners.tabular import fit_predict
from dpsynth.evaluation.metrics.augmentation import (
    ARMS,
    REAL,
    AugmentationExam,
    Drawn,
    arms_of,
    augmentation,
    binary_task,
    smote,
)
from dpsynth.evaluation.protocol import Protocol
from dpsynth.evaluation.result import Disclosure


def _table(n: int, seed: int = 0, shift: float = 0.0) -> Table:
    """Return patients of two groups in whom a number tells the outcome, in the second group the other way round."""
    rng = np.random.default_rng(seed)
    group = (rng.random(n) < 0.3).astype(np.int64)
    died = (rng.random(n) < 0.4).astype(np.int64)
    x = rng.normal(0, 1, n) + np.where(group == 1, -1.5, 1.5) * died + shift
    y = np.where(rng.random(n) < 0.2, np.nan, np.rint(rng.normal(50, 10, n)))
    unit = rng.integers(-1, 3, n)
    return Table(
        {
            "x": Variable("x", x, ordered=True, low=-10, high=10),
            "y": Variable("y", y, ordered=True, low=0, high=100, whole=True),
            "unit": Variable("unit", unit, ("a", "b", "c")),
            "group": Variable("group", group, ("white", "black")),
            "died": Variable("died", died, ("0", "1")),
        },
        np.arange(n),
        public=True,
    )


TRAIN, TEST = _table(600), _table(900, seed=1)
TASK = binary_task(TEST, "died")


def _inside(table: Table) -> Any:
    return table["group"].values == 1


def _group(table: Table, count: int) -> Table:
    return table.take(np.flatnonzero(_inside(table))[:count])


def test_smote_stays_between_neighbours() -> None:
    """Numbers lie within the range of their outcome's rows, whole ones stay whole, categories are ones that occur."""
    group = _group(TRAIN, 60)
    made = smote(group, TASK, 500, np.random.default_rng(0))
    assert len(made) == 500
    for outcome in (0, 1):
        real, new = (t["x"].values[t["died"].values == outcome] for t in (group, made))
        assert real.min() <= new.min() <= new.max() <= real.max()
    measured = made["y"].values[~made["y"].missing]
    assert np.array_equal(measured, np.rint(measured))
    assert set(made["unit"].values) <= set(group["unit"].values)
    assert len(np.unique(made["x"].values)) > 400
    assert set(made["group"].values) == {1}


def test_smote_of_a_lonely_outcome_repeats_it() -> None:
    """One patient with the outcome has no neighbour with it, and is repeated as it is."""
    group = _group(TRAIN, 40)
    lonely = np.concatenate([np.flatnonzero(group["died"].values == 0), np.flatnonzero(group["died"].values == 1)[:1]])
    made = smote(group.take(lonely), TASK, 200, np.random.default_rng(0))
    with_outcome = made["x"].values[made["died"].values == 1]
    assert len(with_outcome)
    assert len(np.unique(with_outcome)) == 1


def test_smote_beside_a_peer() -> None:
    """On numbers alone the new rows have the mean and spread of those of imbalanced-learn's SMOTE, where installed."""
    peer = pytest.importorskip("imblearn.over_sampling")
    rng = np.random.default_rng(0)
    rows = rng.normal(0, 1, (80, 2)) @ np.array([[1.0, 0.5], [0.0, 1.0]])
    columns = {
        name: Variable(name, rows[:, i].copy(), ordered=True, low=-9, high=9) for i, name in enumerate(("x", "y"))
    }
    columns["died"] = Variable("died", np.ones(80, dtype=np.int64), ("0", "1"))
    made = smote(Table(columns, np.arange(80)), TASK, 4_000, rng)
    both = np.vstack([rows, np.full((4_080, 2), 99.0)])
    labels = np.array([1] * 80 + [0] * 4_080)
    theirs = peer.SMOTE(random_state=0).fit_resample(both, labels)[0][4_160:]
    ours = np.column_stack([made["x"].values, made["y"].values])
    assert np.allclose(ours.mean(axis=0), theirs.mean(axis=0), atol=0.1)
    assert np.allclose(np.cov(ours.T), np.cov(theirs.T), atol=0.15)


def _drawn(count: int, seed: int) -> Drawn:
    other = _table(2_000, seed)
    return Drawn(_group(other, count), other.take(np.arange(600)), other.take(np.arange(600)))


def test_every_arm_has_its_rows() -> None:
    """Arms add the same number; weights make the group as heavy as if it had been repeated."""
    found = arms_of(TRAIN, _inside(TRAIN), _drawn(150, 2), TASK, np.random.default_rng(0))
    assert tuple(found) == ARMS
    sizes = {arm: len(table) for arm, (table, _) in found.items()}
    assert {sizes[arm] for arm in ("real + synthetic", "real + repeated", "real + SMOTE")} == {len(TRAIN) + 150}
    weights = found["real, weighted"][1]
    assert weights is not None
    assert weights[_inside(TRAIN)].sum() == pytest.approx(_inside(TRAIN).sum() + 150)
    repeated = found["real + repeated"][0]
    assert repeated["group"].values[len(TRAIN) :].min() == 1


def _exam(inside: Any = None) -> AugmentationExam:
    return AugmentationExam(TASK, TEST, _inside(TEST) if inside is None else inside, "black", Protocol(draws=200))


def _silent(_phase: str, _share: float) -> None:
    """Show no progress."""


def test_more_patients_of_a_group_help_it() -> None:
    """With five real patients of a group that differs, two hundred more of the same kind help it, clearly."""
    few = np.concatenate([np.flatnonzero(~_inside(TRAIN)), np.flatnonzero(_inside(TRAIN))[:5]])
    train = TRAIN.take(few)
    rng = np.random.default_rng(0)
    trainings = [arms_of(train, _inside(train), _drawn(200, seed), TASK, rng) for seed in (2, 3)]
    found = augmentation(trainings, _exam(), _silent)
    change = found.one("group_change", arm="real + synthetic", group="black", subject="gradient boosting")
    assert change.interval is not None
    assert change.interval.low > 0.05
    assert change.disclosure is Disclosure.INTERNAL
    real = found.one("group_auroc", arm=REAL, group="black", subject="gradient boosting")
    mine = found.one("group_auroc", arm="real + synthetic", group="black", subject="gradient boosting")
    assert change.number == pytest.approx(mine.number - real.number)


def test_adding_nothing_changes_nothing() -> None:
    """Paired: an arm that trains on the same rows has a change of exactly 0 with an interval of no width."""
    trainings = [arms_of(TRAIN, _inside(TRAIN), _drawn(0, 2), TASK, np.random.default_rng(0))]
    found = augmentation(trainings, _exam(), _silent)
    for arm in ("real + synthetic", "real + repeated", "real + SMOTE", "real, weighted"):
        for one in found.select("group_change", arm=arm):
            assert one.number == pytest.approx(0, abs=1e-12)
            assert one.interval is not None
            assert one.interval.low == pytest.approx(one.interval.high, abs=1e-12)


def test_too_few_test_patients() -> None:
    """A group with fewer than ten test patients with the outcome has no number, and a reason."""
    inside = np.zeros(len(TEST), dtype=bool)
    inside[:5] = True
    trainings = [arms_of(TRAIN, _inside(TRAIN), _drawn(5, 2), TASK, np.random.default_rng(0))]
    found = augmentation(trainings, _exam(inside), _silent)
    assert all(not result.ok and "needs 10" in result.reason for result in found.select(group="black"))
    assert all(result.ok for result in found.select("group_auroc", group="others"))


def test_a_group_without_training_patients() -> None:
    """There is nothing to compare with, and the message says so."""
    with pytest.raises(InputError, match="no training patient"):
        arms_of(TRAIN, np.zeros(len(TRAIN), dtype=bool), _drawn(5, 2), TASK, np.random.default_rng(0))


def test_a_target_of_many_values_is_refused() -> None:
    """AUROC needs two outcomes."""
    with pytest.raises(InputError, match="two outcomes"):
        binary_task(TEST, "unit")


def test_whole_weights_are_repeated_rows() -> None:
    """For the linear learner a weight of 2 is a row that stands twice, up to how numbers are scaled."""
    twice = np.where(_inside(TRAIN), 2.0, 1.0)
    rows = np.concatenate([np.arange(len(TRAIN)), np.flatnonzero(_inside(TRAIN))])
    weighted = fit_predict(TRAIN, TASK, "logistic regression", weights=twice)(TEST).scores
    repeated = fit_predict(TRAIN.take(rows), TASK, "logistic regression")(TEST).scores
    plain = fit_predict(TRAIN, TASK, "logistic regression")(TEST).scores
    assert np.abs(weighted - repeated).mean() < 0.2 * np.abs(weighted - plain).mean()


def test_weights_reach_the_trees() -> None:
    """Patients of weight 0 teach the trees nothing: the others' rule holds for all."""
    only = np.where(_inside(TRAIN), 0.0, 1.0)
    found = fit_predict(TRAIN, TASK, "gradient boosting", weights=only)(TEST).scores
    high = TEST["x"].values > 1.5
    assert found[high].mean() > found[TEST["x"].values < -1.5].mean() + 0.3
