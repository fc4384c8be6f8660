"""Judged moments: the judge is private, knows labels, and what is kept shows its label more often."""

from typing import Any

import numpy as np
import pytest
from image_cases import fitted, scans, schema

from dpsynth.errors import InputError
from dpsynth.jobs.fit import fit
from dpsynth.models.image.judged import JudgedGenerator, JudgedMoments
from dpsynth.models.image.linear import Whitened
from dpsynth.models.image.mixtures import MomentsGenerator
from dpsynth.privacy.spending.budget import Budget

FACTS: dict[str, Any] = {"coefficients": 8, "steps": 20, "sampling_rate": 0.3}


@pytest.fixture(scope="module")
def generator() -> JudgedGenerator:
    """Return a generator that was fitted with little noise."""
    found = fitted(JudgedMoments(**FACTS), scans(patients=400), 60.0)[1].generator
    assert isinstance(found, JudgedGenerator)
    return found


def shown(generator: JudgedGenerator, power: float, candidates: int = 8) -> np.ndarray:
    """Return log-probabilities, by the judge, of the labels of what is drawn."""
    codes = np.repeat(generator.moments.conditions.every(), 60, axis=0)
    one = JudgedGenerator(generator.moments, generator.judge, candidates=candidates, power=power)
    return one._logs(one.draw(codes, np.random.default_rng(0)), codes[:, 0])


def test_what_is_kept_shows_its_label(generator: JudgedGenerator) -> None:
    """The more the judge's word weighs, the surer it is of what is kept; without weight any candidate will do."""
    free, some, much = (shown(generator, power) for power in (0.0, 1.0, 20.0))
    assert free.mean() < some.mean() < much.mean()
    alone = shown(generator, 20.0, candidates=1)
    assert abs(alone.mean() - free.mean()) < 5 * np.sqrt((alone.var() + free.var()) / len(free))


def test_the_choice_is_in_proportion_to_the_power(generator: JudgedGenerator) -> None:
    """Of two candidates with probabilities p and q one is taken with p^3 / (p^3 + q^3); half of the pairs are mixed."""
    p, q, n = 0.6, 0.3, 6000

    class Coins(MomentsGenerator):
        def draw(self, codes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
            coins = rng.integers(0, 2, len(codes)).astype(np.float32)
            return np.broadcast_to(coins[:, None, None, None], (len(codes), *self.basis.shape)).copy()

    class Known(JudgedGenerator):
        def _logs(self, made: np.ndarray, labels: np.ndarray) -> np.ndarray:  # noqa: ARG002
            return np.log(np.where(made[:, 0, 0, 0] == 1, p, q))

    old = generator.moments
    coins = Coins(old.basis, old.radius, old.conditions, old.mixture)
    known = Known(coins, generator.judge, candidates=2, power=3.0)
    drawn = known.draw(np.zeros((n, 2), np.int64), np.random.default_rng(0))
    expected = 1 / 4 + 1 / 2 * p**3 / (p**3 + q**3)
    assert abs(drawn[:, 0, 0, 0].mean() - expected) < 5 * np.sqrt(expected * (1 - expected) / n)


def test_a_label_that_no_judge_knows(generator: JudgedGenerator) -> None:
    """Where the label is missing, any candidate will do; the shape is that of the images."""
    wide = JudgedGenerator(
        generator.moments, Whitened.of_learned(_two_labels(generator), (1, 8, 8)), candidates=3, power=5
    )
    codes = np.repeat(generator.moments.conditions.every(), 4, axis=0)  # of a third label, which it does not know
    assert wide.draw(codes, np.random.default_rng(0)).shape == (len(codes), 1, 8, 8)
    assert wide.draw(codes[:0], np.random.default_rng(0)).shape == (0, 1, 8, 8)


def _two_labels(generator: JudgedGenerator) -> dict[str, np.ndarray]:
    learned = generator.judge.learned()
    return {**learned, "weights": learned["weights"][:2]}


def test_a_label_that_cannot_be_judged_is_refused_before_the_ledger(tmp_path: Any) -> None:
    """A number has no classes to judge: nothing is spent."""
    columns = {**schema("grey").model_dump(mode="json", exclude_unset=True)["columns"]}
    columns["age"] = {"type": "numeric", "min": 0, "max": 9}
    cohort = scans(columns=columns, more={"age": np.arange(200) % 10})
    book = tmp_path / "l.jsonl"
    with pytest.raises(InputError, match="'age': expected a boolean"):
        fit(cohort, JudgedMoments(conditions="age", **FACTS), epsilon=1.0, ledger=book)
    assert not book.exists()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"candidates": 0}, "found 0 and 3"),
        ({"power": -1.0}, "candidates or power"),
        ({"steps": 0}, "the model moments"),
        ({"coefficients": 2000}, "coefficients: found 2000"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], match: str) -> None:
    """The message says what was found and what was expected."""
    with pytest.raises(InputError, match=match):
        JudgedMoments(**options)


def test_moments_and_judge_share_one_budget() -> None:
    """Both are in the statement, and together they cost what was asked."""
    session, model = fitted(JudgedMoments(**FACTS), scans(), 1.0)
    kinds = [event["kind"] for event in model.statement["events"]]
    assert kinds.count("sampled_gaussian") == 1
    plan = JudgedMoments(**FACTS).training(scans().schema, Budget(1.0, 1e-6))
    assert plan is not None
    assert session.rho_left < 0.02 * session.rho
    assert 0.9 < model.statement["epsilon_spent"] <= 1.0
