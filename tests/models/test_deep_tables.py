"""Deep models for tables: budget, conditions, files and margins; what they are worth stands in the benchmarks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from deep_cases import MAKERS, NAMES, fitted, small
from mechanism_cases import ORDINARY, cohort_of, ordinary, schema_of
from spoiling import Harm, refused

from dpsynth.coding.codec import Codec
from dpsynth.cohort import Cohort
from dpsynth.cohort.rows import constraint_violations
from dpsynth.errors import InputError
from dpsynth.models import Model, load_model
from dpsynth.models.registry import available, synthesizer
from dpsynth.models.tabular.deep.conditions import condition_columns
from dpsynth.models.tabular.deep.diffusion import Denoising, TabularDiffusion
from dpsynth.models.tabular.deep.layout import Calibration, Layout
from dpsynth.models.tabular.deep.tvae import TVAE, RowAutoencoder
from dpsynth.privacy.spending.accounting import epsilon_of
from dpsynth.privacy.spending.budget import Budget
from dpsynth.privacy.training.dpsgd import Objective

ROWS = ordinary()
ONLY = {"type": "categorical", "values": ["only"]}
DX = {"type": "categorical", "discover": True, "max_values": 5}
DATE = {"type": "datetime", "min": "1989-01-01", "max": "1995-12-31"}


def _with(columns: dict[str, Any], values: dict[str, Any], **facts: Any) -> Cohort:
    return cohort_of({**ORDINARY, **columns}, {**ROWS, **values}, **facts)


def _all_missing() -> Cohort:
    columns = {name: {**column, "missing": True} for name, column in ORDINARY.items()}
    return cohort_of(columns, {name: pd.Series([None] * 50, dtype=object) for name in columns}, target="died")


AWKWARD: dict[str, Callable[[], Cohort]] = {
    "one number": lambda: cohort_of({"age": ORDINARY["age"]}, {"age": ROWS["age"]}),
    "one boolean that is the target": lambda: cohort_of(
        {"died": ORDINARY["died"]}, {"died": ROWS["died"]}, target="died"
    ),
    "one row": lambda: cohort_of(ORDINARY, {name: values[:1] for name, values in ROWS.items()}, target="died"),
    "a constant target": lambda: _with({"k": ONLY}, {"k": ["only"] * 400}, target="k"),
    "a table all missing": _all_missing,
    "three rows a patient": lambda: _with(
        {"id": {"type": "identifier"}}, {"id": [f"p{i // 3}" for i in range(400)]}, patient="id", max_rows_per_patient=3
    ),
    "a numeric target": lambda: small(target="age", subgroups=["lab", "unit"]),
    "dates": lambda: _with(
        {"in": DATE}, {"in": pd.Timestamp("1989-01-01") + pd.to_timedelta(np.arange(400), "D")}, target="died"
    ),
    "values to discover": lambda: _with({"dx": DX}, {"dx": ["flu", "gout"] * 200}, target="dx"),
}


@pytest.mark.parametrize("case", AWKWARD)
@pytest.mark.parametrize("name", NAMES)
def test_awkward_tables(name: str, case: str) -> None:
    """A table at the edge of what a schema allows spends its budget, not more, and gives rows that the schema takes."""
    cohort = AWKWARD[case]()
    session, model = fitted(name, cohort)
    assert 0.97 <= epsilon_of(session.events, 1e-6, session.accounting) <= 1 + 1e-9
    drawn = model.sample(60, seed=0)
    assert list(drawn.columns) == [column for column in cohort.columns if column != "id"]
    assert len(Cohort.from_pandas(drawn.to_pandas(), drawn.schema, synthetic=True)) == 60


@pytest.mark.parametrize("name", NAMES)
def test_a_discovered_column_may_stand_first(name: str) -> None:
    """A training reads its columns where the model has them: one with more values than the next breaks nothing."""
    values = {"dx": list("abcde") * 80, "died": ROWS["died"]}
    _, model = fitted(name, cohort_of({"dx": DX, "died": ORDINARY["died"]}, values, target="died"), 20.0)
    assert model.codec.discovered == {"dx": tuple("abcde")}
    assert len(model.sample(50, seed=0)) == 50


@pytest.mark.parametrize("name", NAMES)
def test_the_training_is_in_the_statement(name: str) -> None:
    """What was trained stands in the statement as it was planned: every step, its rate and its noise, or every vote."""
    session, model = fitted(name, small())
    plan = MAKERS[name]().training(session.schema, session.budget)
    events = model.statement["events"]
    if plan is None:
        votes = [e for e in events if "votes" in e["what"]]
        assert [(e["count"], e["sensitivity"]) for e in votes] == [(2, 2.0)]
        return
    (step,) = [e for e in events if e["kind"] == "sampled_gaussian"]
    assert (step["count"], step["sampling_rate"]) == (4, plan.sampling_rate)
    assert step["scale"] == plan.noise_multiplier * plan.clipping_norm


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rows", [1, 400, 10**6])
def test_plans(name: str, rows: int) -> None:
    """A plan has finite numbers and says what is trained, whatever the number of rows."""
    plan = MAKERS[name]().plan(small().schema, Budget(1.0, 1e-6), rows)
    assert all(0 <= error <= 1 for error in plan.expected_error.values())
    assert all(np.isfinite(item.sigma) and item.tables >= 1 for item in plan.items)
    assert any(word in item.what for item in plan.items for word in ("training", "votes"))


@pytest.fixture(scope="module", params=NAMES)
def model(request: pytest.FixtureRequest) -> Model:
    """Return each model of the ordinary ward."""
    found: Model = fitted(request.param, small(), 3.0)[1]
    return found


CONDITIONS: list[tuple[dict[str, Any], Callable[[pd.DataFrame], pd.Series]]] = [
    ({"died": 1, "sex": "male"}, lambda t: (t.died == 1) & (t.sex == "male")),
    ({"unit": "b"}, lambda t: t.unit == "b"),
    ({"age": {"min": 81, "max": 92}, "sex": "male"}, lambda t: t.age.between(81, 92) & (t.sex == "male")),
    ({"lab": None}, lambda t: t.lab.isna()),
    ({"unit": ["a", None], "died": 1}, lambda t: (t.unit.isna() | (t.unit == "a")) & (t.died == 1)),
]


@pytest.mark.parametrize("place", range(len(CONDITIONS)))
def test_where_is_exact(model: Model, place: int) -> None:
    """Every row that is drawn under a condition meets it, and there are as many as were asked for."""
    where, meets = CONDITIONS[place]
    drawn = model.sample(300, where=where, seed=0).to_pandas()
    assert len(drawn) == 300
    assert meets(drawn).all()


def test_where_that_hardly_occurs(model: Model) -> None:
    """A condition that the counts give no chance is refused in words, not looked for without end."""
    never = {"age": {"min": 18, "max": 18}, "lab": {"min": 49.9}, "unit": None, "died": 1}
    with pytest.raises(InputError, match="scarce"):
        model.sample(5, where=never, scarce=True, seed=0)


def test_the_file_gives_the_same_rows(model: Model, tmp_path: Path) -> None:
    """A model that was saved and loaded draws the same rows from the same seed, free and under a condition."""
    model.save(tmp_path / "model")
    again = load_model(tmp_path / "model")
    for where in (None, {"sex": "male", "age": {"min": 70}}):
        first, second = (m.sample(200, where=where, seed=5).table for m in (model, again))
        assert first.equals(second)
    assert (again.rows, again.statement) == (model.rows, model.statement)
    assert [table.counts.tolist() for table in again.released()] == [t.counts.tolist() for t in model.released()]


SPOILED: dict[str, Harm] = {
    "no weights": lambda _c, arrays: arrays.pop("net.last.weight"),
    "weights of another shape": lambda _c, arrays: arrays.update(
        {"net.last.weight": arrays["net.last.weight"][:, 1:].copy()}
    ),
    "weights that are no numbers": lambda _c, arrays: arrays["net.last.bias"].fill(np.nan),
    "shares that do not sum to 1": lambda _c, arrays: arrays["shares.0"].fill(0.5),
    "states out of range": lambda _c, arrays: arrays["states.2"].fill(7),
    "a conditions' table of another shape": lambda _c, arrays: arrays.update(conditions=np.ones((1, 1))),
    "offsets of another width": lambda _c, arrays: arrays.update(offsets=np.zeros(3)),
    "falling quantiles": lambda _c, arrays: arrays.update(knots=arrays["knots"][:, ::-1].copy()),
    "a huge network": lambda config, _a: config["network"].update(hidden=10**9),
    "no network": lambda config, _a: config.pop("network"),
    "a network that is text": lambda config, _a: config.update(network="x"),
    "no settings": lambda config, _a: config.pop("settings"),
    "settings out of range": lambda config, _a: config["settings"].update(
        {key: -5 for key, value in config["settings"].items() if not isinstance(value, bool)}
    ),
    "a condition that is no column": lambda config, _a: config.update(conditions=["ghost"]),
    "no rows": lambda config, _a: config.update(rows=0),
    "noise below 0": lambda config, _a: config.update(sigma=-1),
}


@pytest.mark.parametrize("fault", SPOILED)
def test_malformed_files_are_refused(model: Model, fault: str, tmp_path: Path) -> None:
    """A file whose parts do not fit together ends in an error of the file, not in odd rows or a crash."""
    assert "model" in refused(model, SPOILED[fault], tmp_path / "model")


@pytest.mark.parametrize("name", NAMES)
def test_a_seeded_fit_is_repeatable(name: str) -> None:
    """In test mode the same seed gives the same model to the last bit, whatever torch drew before; another does not."""
    found = []
    for seed in (7, 7, 8):
        torch.manual_seed(len(found))
        found.append(fitted(name, small(), seed=seed)[1].to_parts()[1])
    assert all(found[0][key].tobytes() == found[1][key].tobytes() for key in found[0])
    assert any(found[0][key].tobytes() != found[2][key].tobytes() for key in found[0])


@pytest.mark.parametrize("name", NAMES)
def test_margins_are_those_that_were_paid_for(name: str) -> None:
    """However little a network learned, rows meet the noisy counts of every column: 20,000 rows, within .02."""
    _, model = fitted(name, small(), 10.0)
    drawn = model.codec.encode(model.sample(20_000, seed=3))
    for column, shares in model.paid.layout.shares.items():
        found = np.bincount(drawn[column], minlength=len(shares)) / 20_000
        number = model.codec.columns[column].ordered > 6  # its cells are compared by their distribution function
        away = np.cumsum(found - shares) if number else found - shares
        assert np.abs(away).max() < 0.02, column


def test_learning_beats_the_noise() -> None:
    """With next to no noise an autoencoder learns an association that columns alone do not have."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 100, 1_000)
    frame = {"x": x, "y": (x + rng.integers(-10, 11, 1_000)).clip(0, 99), "died": (x > rng.integers(0, 100, 1_000)) * 1}
    number = {"type": "numeric", "min": 0, "max": 99}
    cohort = cohort_of({"x": number, "y": number, "died": ORDINARY["died"]}, frame, target="died", rows=1_000)
    _, model = fitted(TVAE(steps=60, hidden=16, latent=2, rate=3e-2), cohort, 100.0)
    drawn = model.sample(4_000, seed=0).to_pandas()
    assert np.corrcoef(drawn.x, drawn.y)[0, 1] > 0.5
    assert np.corrcoef(drawn.x, drawn.died)[0, 1] > 0.35


@pytest.mark.parametrize("warmup", ["prism", "independent"])
def test_the_warm_start_is_paid_from_the_same_budget(warmup: str) -> None:
    """The marginal-based model of a warm start, the counts and the training together cost what was asked."""
    made = TabularDiffusion(hidden=8, steps=3, levels=1, warmup=warmup, warm_steps=3, draws=4)
    session, model = fitted(made, small())
    assert 0.97 <= epsilon_of(session.events, 1e-6, session.accounting) <= 1 + 1e-9
    assert {e.kind for e in session.events} == {"gaussian", "sampled_gaussian"}
    assert len(model.sample(50, where={"sex": "male"}, seed=0)) == 50


def test_an_unknown_warm_start_is_refused() -> None:
    """The message names what was found and what there is."""
    with pytest.raises(InputError, match="'hot', expected one of prism"):
        TabularDiffusion(warmup="hot")


def _layout(**facts: Any) -> Layout:
    schema = schema_of(ORDINARY, **facts)
    codec = Codec(schema)
    maps = {name: np.arange(code.size) for name, code in codec.columns.items()}
    shares = {name: np.full(code.size, 1 / code.size) for name, code in codec.columns.items()}
    return Layout(codec, shares, maps, ("died",))


def test_features_and_codes_are_inverse() -> None:
    """A row's features, taken as a network's outputs, give the row's codes again (up to the cells at the far ends)."""
    layout = _layout()
    rng = np.random.default_rng(0)
    codes = {name: rng.integers(0, code.size, 3_000) for name, code in layout.codec.columns.items()}
    outputs = layout.encoded(codes).double().numpy()
    assert outputs.shape == (3_000, layout.width)
    knots = np.sort(np.tile(np.quantile(rng.standard_normal(200_000), (np.arange(201) + 0.5) / 201), (layout.width, 1)))
    back = layout.decoded(outputs, Calibration(np.zeros(layout.width), knots), rng)
    for name, found in back.items():
        off = np.abs(found - codes[name])
        assert off.max() <= (2 if layout.codec.columns[name].ordered > 6 else 0), name


def _gradients(objective: Objective, codes: Any, weights: Any, noise: int) -> list[torch.Tensor]:
    batch = objective.prepare({"codes": torch.as_tensor(codes), "weights": torch.as_tensor(weights)})
    batch |= objective.randomness(len(codes), torch.Generator().manual_seed(noise))
    objective.zero_grad()
    objective(batch).sum().backward()
    return [p.grad.clone() for p in objective.parameters() if p.grad is not None]


@pytest.mark.parametrize("objective", ["autoencoder", "denoising"])
def test_a_patient_weighs_the_same_with_many_rows(objective: str) -> None:
    """A patient's loss is the mean over their rows: the same row three times, or with padding, changes no gradient."""
    layout = _layout()
    made = RowAutoencoder(layout, 2, 8) if objective == "autoencoder" else Denoising(layout, 8, 1, 2)
    row = torch.tensor([[[3, 2, 1, 0, 1]]])
    one = _gradients(made, row, [[1.0]], 0)
    many = _gradients(made, torch.cat([row] * 3, dim=1), [[1 / 3] * 3], 0)
    padded = _gradients(made, torch.cat([row, row + 0], dim=1), [[1.0, 0.0]], 0)
    for a, b, c in zip(one, many, padded, strict=True):
        assert torch.allclose(a, b, atol=1e-6)
        assert torch.allclose(a, c, atol=1e-6)


RULES = [
    {"when": {"unit": ["a", "b"]}, "require": {"ward": "north"}},
    {"when": {"unit": ["c", "d", None]}, "require": {"ward": "south"}},
    {"when": {"sex": "male"}, "forbid": {"unit": "d"}},
]


@pytest.mark.parametrize("name", NAMES)
def test_constraints_hold_and_implied_columns_follow(name: str) -> None:
    """What the schema forbids never occurs; a column that follows from another is no part of the network."""
    ward = {"ward": {"type": "categorical", "values": ["north", "south"]}}
    _, model = fitted(name, _with(ward, {"ward": ["north"] * 400}, target="died", constraints=RULES))
    assert "ward" not in [part.name for part in model.paid.layout.parts]
    drawn = model.sample(500, seed=0)
    assert set(constraint_violations(drawn).values()) == {0}
    south = model.sample(100, where={"ward": "south"}, seed=0, scarce=True).to_pandas()
    assert set(south.ward) == {"south"}
    assert not set(south.unit.dropna()) & {"a", "b"}
    with pytest.raises(InputError, match="where: the schema's constraints exclude"):
        model.sample(5, where={"ward": "south", "unit": "a"}, scarce=True)


def test_conditions_are_the_target_and_subgroups_that_fit() -> None:
    """The joint table stays small, keeps the columns' order, follows the option, and leaves a column to write."""
    schema = schema_of(ORDINARY, target="died", subgroups=["unit", "sex"])
    sizes = {"age": 6, "lab": 6, "sex": 2, "unit": 5, "died": 2}
    assert condition_columns(schema, sizes) == ("sex", "unit", "died")
    assert condition_columns(schema, {**sizes, "unit": 20}) == ("unit", "died")
    assert condition_columns(schema, sizes, ["sex"]) == ("sex",)
    assert condition_columns(schema, {"died": 2}) == ()


@pytest.mark.parametrize("name", NAMES)
def test_they_are_registered(name: str) -> None:
    """Each is found by its name, and says what it is."""
    assert name in available()
    found = synthesizer(name)
    assert found.name == name
    assert found.summary
    assert found.citation
