import re
from dataclasses import replace

import pytest

from dpsynth.errors import InputError
from dpsynth.evaluation import Disclosure, DisclosureError, Evaluation, Results, Sweep, SweepRun
from dpsynth.evaluation.result import estimate, not_estimable
from dpsynth.evaluation.sweep_metrics import follow

from .helpers import ward


def made(score: float, change: float, *, public: bool = True) -> Results:
    """Return the results of one fit."""
    fields = {"disclosure": Disclosure.PUBLIC if public else Disclosure.INTERNAL}
    return Results(
        [
            estimate("auroc", score - 0.01, subject="a", **fields),
            estimate("auroc", score + 0.01, subject="b", **fields),
            estimate("auroc", 0.9, arm="real", subject="a", **fields),
            estimate("auroc", 0.5, arm="floor", subject="a", **fields),
            estimate("group_change", change, group="sex=f", **fields),
            estimate("group_change", 0.0, group="sex=m", **fields),
            not_estimable("group_change", "few", group="sex=x", **fields),
            estimate("representation_slope", -0.2, group="race", **fields),
            estimate("representation_slope", 0.1, group="sex", **fields),
            estimate("tvd_2way", 0.06, **fields),
        ]
    )


def sweep(*, public: bool = True) -> Sweep:
    """Return two models at two budgets with two seeds."""
    return Sweep(
        SweepRun(model, epsilon, seed, made(0.7 + 0.05 * epsilon + 0.01 * seed, -0.1 / epsilon, public=public))
        for model in ("prism", "mst")
        for epsilon in (0.3, 1.0)
        for seed in (0, 1)
    )


def test_a_run_is_followed_by_its_mean_score_and_its_worst_group() -> None:
    """The mean over learners, the least change, the slope of the largest size; not estimable is left out."""
    found = SweepRun("prism", 1.0, 0, made(0.8, -0.1)).measures()
    expected = {"auroc": 0.8, "auroc:real": 0.9, "auroc:floor": 0.5}
    expected |= {"worst_change": -0.1, "representation_slope": -0.2, "tvd_2way": 0.06}
    assert found == pytest.approx(expected)


def test_the_summary_has_the_range_over_seeds() -> None:
    """Mean, least, greatest and number."""
    table = sweep().summary()
    row = table[(table.model == "mst") & (table.epsilon == 1.0) & (table.measure == "auroc")].iloc[0]
    assert row[["mean", "min", "max"]].tolist() == pytest.approx([0.755, 0.75, 0.76])
    assert row["count"] == 2


def test_the_page_of_private_patients_cannot_be_public() -> None:
    """It fails closed; the internal page says what it is."""
    with pytest.raises(DisclosureError, match="cannot be published"):
        sweep(public=False).html(public=True)
    assert "Do not publish" in sweep(public=False).html()
    assert "Public page" in sweep().html(public=True)


def test_the_page_has_a_figure_with_a_table_for_each_measure() -> None:
    """Four measures."""
    page = sweep().html()
    assert page.count("<figure") == page.count("<table") == page.count("<svg") == 4


def test_numbers_beside_an_axis_are_not_cut_short() -> None:
    """Coordinates are rounded, text is not: neighbouring ticks differ."""
    labels = re.findall(r"<text[^>]*>([^<]+)</text>", sweep().html())
    ticks = [label for label in labels if re.fullmatch(r"[-\u2212]?\d+\.\d+", label)]
    assert any(len(label.split(".")[1]) > 2 for label in ticks)


def test_a_sweep_of_nothing_is_refused() -> None:
    """With what to give."""
    with pytest.raises(InputError, match="at least one epsilon"):
        Sweep([])


def test_an_evaluation_is_a_run(open_data: Evaluation) -> None:
    """What `evaluate` returns can be followed as it is."""
    found = SweepRun("prism", 1.0, 0, open_data).measures()
    assert {"auroc", "auroc:real", "tvd_2way", "worst_change"} <= set(found)
    assert Sweep([SweepRun("prism", 1.0, 0, replace(open_data))]).public


def test_the_floor_has_a_worst_group_and_a_slope_of_its_own() -> None:
    """A cohort without any effect loses more in its worst group than one with most of it; both are followed."""
    cohorts = ward(300, 3, effect=0.8, synthetic=True), ward(300, 4, effect=0.0, synthetic=True)
    results = follow(ward(400, 2), ward(600), cohorts[0], floor=cohorts[1])
    found = SweepRun("prism", 1.0, 0, results).measures()
    assert found["worst_change:floor"] < found["worst_change"] < 0
    assert {"representation_slope", "representation_slope:floor", "tvd_2way:floor", "auroc:floor"} <= set(found)
    alone = SweepRun("prism", 1.0, 0, follow(ward(400, 2), ward(600), cohorts[0])).measures()
    assert alone == {name: value for name, value in found.items() if not name.endswith(":floor")}
