"""The one training loop: schedules, steps, averages, reports, and what goes on in a checkpoint."""

import pytest
import torch

from dpsynth.models.trainer import CONSTANT, Schedule, Trainer
from dpsynth.models.weight_average import Average


def test_schedules_rise_and_fall() -> None:
    """Rates start low where they rise, and end at the floor; a constant one stays."""
    cosine, line = Schedule("cosine", floor=0.2), Schedule("line", floor=0.1, rise=4)
    assert cosine.factor(0, 100) == 1.0
    assert cosine.factor(50, 100) == pytest.approx(0.6)
    assert cosine.factor(100, 100) == pytest.approx(0.2)
    assert line.factor(0, 100) == 0.25
    assert line.factor(50, 100) == pytest.approx(0.55)
    assert {CONSTANT.factor(step, 9) for step in range(9)} == {1.0}


def test_it_minimises_reports_and_keeps_the_average() -> None:
    """A square is minimised along the schedule; progress is told to the end; what is left is the average."""
    layer, seen, rates = torch.nn.Linear(1, 1, bias=False), [], []
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.1)
    average = Average(layer, 0.9)
    trainer = Trainer(
        optimiser, steps=40, schedule=Schedule("line"), average=average, report=lambda *told: seen.append(told), every=8
    )

    def loss() -> torch.Tensor:
        rates.append(optimiser.param_groups[0]["lr"])
        return (layer.weight - 3).square().sum()

    trainer.minimise(loss)
    assert float(layer.weight.detach()) == pytest.approx(3, abs=0.5)
    assert float(layer.weight.detach()) == pytest.approx(float(average.state_dict()["kept"][0]))
    assert rates[1] == pytest.approx(0.1)
    assert rates[-1] < 0.02
    assert seen == [*(("training", step / 40) for step in range(0, 40, 8)), ("training", 1.0)]


def test_a_step_leaves_other_networks_alone() -> None:
    """A loss that goes through another network gives that one no gradient."""
    mine, other = torch.nn.Linear(2, 2), torch.nn.Linear(2, 1)
    trainer = Trainer(torch.optim.Adam(mine.parameters(), lr=0.1))
    before = mine.weight.detach().clone()
    trainer.descend(other(mine(torch.ones(3, 2))).mean())
    assert other.weight.grad is None
    assert not torch.equal(before, mine.weight)
    assert set(trainer.state) == {"optimiser"}
