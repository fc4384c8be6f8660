"""Membership and attribute inference: they find a model that copies, and nothing in one that knows nobody."""

import numpy as np
import pytest
from scipy.stats import norm

from dpsynth.errors import InputError
from dpsynth.evaluation.arrays.table import Table, Variable
from dpsynth.evaluation.audit.membership import (
    attribute_inference,
    density_ratio,
    features,
    groups_of,
    membership,
    shadow_scores,
)

Z = float(norm.isf(5e-7))
"""Standard errors that are passed with probability 1e-6, both sides."""


def people(n: int, seed: int) -> Table:
    """Return made-up patients of five columns; the last, a group, has one patient in ten."""
    rng = np.random.default_rng(seed)
    numbers = {f"x{i}": Variable(f"x{i}", rng.normal(0, 1, n), low=-5, high=5) for i in range(3)}
    codes = {
        "sign": (numbers["x0"].values + rng.normal(0, 1, n) > 0).astype(int),
        "rare": (rng.random(n) < 0.1).astype(int),
    }
    named = {name: Variable(name, values, ("no", "yes")) for name, values in codes.items()}
    return Table({**numbers, **named}, np.arange(n))


def copied(table: Table) -> Table:
    """Return rows that a model without any privacy would draw: the patients again."""
    return table.take(np.random.default_rng(0).integers(0, len(table), len(table)))


def strangers(table: Table) -> Table:
    """Return rows of people who are nobody's neighbours: what a perfect model would draw."""
    return people(len(table), 99)


@pytest.mark.parametrize(("draw", "exposed"), [(copied, True), (strangers, False)])
def test_a_copy_exposes_its_members_and_a_stranger_does_not(draw: object, exposed: bool) -> None:
    """Both attacks find copies of the patients, in the small group too, and find nothing where there is nothing."""
    members, others, reference, population = (people(400, seed) for seed in range(4))
    both = Table(
        {
            name: Variable(
                name,
                np.concatenate([members[name].values, others[name].values]),
                members[name].categories,
                low=members[name].low,
                high=members[name].high,
            )
            for name in members.names
        },
        np.arange(800),
    )
    is_member = np.arange(800) < 400
    found = features(reference, draw(members), both)  # type: ignore[operator]
    shares: list[float] = []
    scores = {
        "density ratio": density_ratio(found),
        "shadow": shadow_scores(draw, population, reference, found, shadows=2, progress=shares.append),  # type: ignore[arg-type]
    }
    assert shares == [0.5, 1.0]
    for name, values in scores.items():
        everyone, *groups = membership(name, values, is_member, groups_of(both, ["rare"]))
        assert [result.group for result in groups] == ["rare=no", "rare=yes"]
        assert everyone.value is not None
        assert everyone.low is not None
        error = (everyone.value - everyone.low) / 1.96
        if exposed:
            assert all((one.value or 0) > 0.7 for one in (everyone, *groups))
        else:
            assert abs(everyone.value - 0.5) < Z * error


def test_an_interval_covers_the_truth() -> None:
    """DeLong's interval of a Gaussian pair holds the true AUROC in most of 200 draws (false alarm 1e-6)."""
    rng, truth, held = np.random.default_rng(0), float(norm.cdf(0.5 / np.sqrt(2))), 0
    is_member = np.arange(120) < 60
    for _ in range(200):
        scores = rng.normal(0.5 * is_member, 1)
        (one,) = membership("x", scores, is_member, [("all", np.arange(120))])
        assert one.low is not None
        assert one.high is not None
        held += one.low <= truth <= one.high
    assert held >= 170


def test_a_small_group_is_not_estimable() -> None:
    """Nine members make no rate: the value is None, never a 0."""
    (one,) = membership("x", np.zeros(30), np.arange(30) < 9, [("few", np.arange(30))])
    assert (one.value, one.members, one.others) == (None, 9, 21)
    assert one.to_dict()["value"] is None


def test_what_holds_for_people_in_general_is_no_exposure() -> None:
    """A learner trained on strangers hits members and others alike; one trained on copies hits members more."""
    members, others = people(400, 0), people(400, 1)
    for draw, exposed in ((strangers, False), (copied, True)):
        everyone, *groups = attribute_inference("sign", draw(members), members, others, ["rare"])
        assert everyone.detail is not None
        assert everyone.detail["others"] > 0.55  # learned of people in general
        assert len(groups) == 2
        assert everyone.low is not None
        assert (everyone.low > 0) is exposed


def test_what_cannot_be_compared_is_refused() -> None:
    """Too few rows, and a number as an attribute, end with a message."""
    table = people(40, 0)
    with pytest.raises(InputError, match="more than 20"):
        features(table, people(5, 1), table)
    with pytest.raises(InputError, match="categories"):
        attribute_inference("x0", table, table, table)
