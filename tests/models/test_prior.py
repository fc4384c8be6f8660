"""A public prior: nearer where noise is large, no help taken where it is wrong, and told in the statement."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mechanism_cases import cohort_of, fitted
from typer.testing import CliRunner

import dpsynth
from dpsynth.cli.app import app
from dpsynth.cohort import Cohort
from dpsynth.errors import InputError
from dpsynth.models.loading import load_model
from dpsynth.models.tabular.marginals.prior import NEAR, kept_of, read_prior

LETTERS = list("abcdefgh")
NAMES = [f"x{i}" for i in range(6)]


def ward(n: int, seed: int, *, wrong: bool = False) -> Cohort:
    """Return columns that go together, in skewed shares; with others' shares and nothing together where `wrong`."""
    rng = np.random.default_rng(seed)
    shares = np.geomspace(1, 0.05, 8)
    shares = (shares[::-1] if wrong else shares) / shares.sum()
    common = rng.choice(LETTERS, n, p=shares)
    own = {name: rng.choice(LETTERS, n, p=shares) for name in NAMES}
    frame = own if wrong else {name: np.where(rng.random(n) < 0.6, common, own[name]) for name in NAMES}
    return cohort_of({name: {"type": "categorical", "values": LETTERS} for name in NAMES}, frame)


def errors(model: Any, cohort: Cohort) -> tuple[float, float]:
    """Return the mean distance of the columns and of all pairs from a large sample of patients."""
    real, made = (f.apply(lambda column: column.map(LETTERS.index)) for f in (cohort.to_pandas(), _drawn(model)))
    sets = [[(a,) for a in NAMES], [(a, b) for i, a in enumerate(NAMES) for b in NAMES[i + 1 :]]]
    return tuple(float(np.mean([_distance(real, made, names) for names in each])) for each in sets)  # type: ignore[return-value]


def _drawn(model: Any) -> Any:
    return model.sample(5_000, seed=0).to_pandas()


def _distance(real: Any, made: Any, names: tuple[str, ...]) -> float:
    tables = []
    for frame in (real, made):
        codes = np.ravel_multi_index([frame[c].to_numpy() for c in names], (8,) * len(names))
        tables.append(np.bincount(codes, minlength=8 ** len(names)) / len(frame))
    return 0.5 * float(np.abs(tables[0] - tables[1]).sum())


TRUTH = ward(40_000, 9)


def test_a_public_cohort_of_the_same_people_helps_much() -> None:
    """800 patients at epsilon 0.3: pairs come nearer by a third or more, columns too."""
    plain, known = (fitted("prism", ward(800, 0), 0.3, prior=prior)[1] for prior in (None, ward(3_000, 5)))
    before, after = errors(plain, TRUTH), errors(known, TRUTH)
    assert after[1] < 0.67 * before[1]
    assert after[0] < before[0]


@pytest.mark.parametrize("epsilon", [1.0, 5.0])
def test_a_wrong_prior_does_no_harm(epsilon: float) -> None:
    """A public cohort of quite other people, or the schema alone: no worse than without but for a tenth."""
    cohort = ward(5_000, 0)
    without = errors(fitted("prism", cohort, epsilon)[1], TRUTH)
    for prior in (ward(3_000, 5, wrong=True), "schema"):
        found = errors(fitted("prism", cohort, epsilon, prior=prior)[1], TRUTH)
        assert all(a < 1.1 * b + 0.003 for a, b in zip(found, without, strict=True))


def test_a_prior_asks_and_costs_nothing() -> None:
    """The same kinds of questions about columns, the whole budget and no more; and nothing of where the file lies."""
    cohort = ward(800, 0)
    session, model = fitted("prism", cohort, 1.0, prior=ward(500, 5))
    assert session.rho_left == pytest.approx(0, abs=1e-9 * session.rho)
    assert all(e.kind == "gaussian" for e in session.events)
    assert model.statement["public_prior"] == {"kind": "public cohort", "rows": 500}
    assert "500 rows" in model.statement["not_protected"][-1]
    assert "not protected" in model.statement["not_protected"][-1]


def test_the_schema_as_a_prior_is_told(tmp_path: Path) -> None:
    """The statement says that it was the schema alone; the file of the model keeps the sentence."""
    model = dpsynth.fit(ward(500, 0), "prism", epsilon=1.0, prior="schema")
    assert model.statement["public_prior"] == {"kind": "schema"}
    assert model.statement["model"]["options"]["prior"] == "schema"
    model.save(tmp_path / "model")
    assert load_model(tmp_path / "model").statement["public_prior"] == {"kind": "schema"}


def test_the_command_line_takes_a_file(tmp_path: Path) -> None:
    """``--prior`` names a public table; the model's statement tells of its rows and not of its place."""
    cohort, public = ward(500, 0), tmp_path / "hidden-name.csv"
    (tmp_path / "ward.yaml").write_text(cohort.schema.to_yaml(), encoding="utf-8")
    cohort.to_pandas().to_csv(tmp_path / "ward.csv", index=False)
    ward(300, 5).to_pandas().to_csv(public, index=False)
    words = ["fit", str(tmp_path / "ward.csv"), "-s", str(tmp_path / "ward.yaml"), "-e", "1", "--anyway"]
    result = CliRunner().invoke(app, [*words, "--prior", str(public), "-o", str(tmp_path / "model"), "--json"])
    assert result.exit_code == 0, result.output
    statement = load_model(tmp_path / "model").statement
    assert statement["public_prior"]["rows"] == 300
    assert "hidden-name" not in str(statement)


def test_a_prior_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A file that is not there, and one without a column, are refused before anything is asked."""
    codec = fitted("independent", ward(100, 0))[0].codec
    with pytest.raises(InputError, match="prior: there is no file"):
        read_prior(tmp_path / "none.csv", codec)
    ward(50, 0).to_pandas().drop(columns="x3").to_csv(tmp_path / "short.csv", index=False)
    with pytest.raises(dpsynth.errors.DpsynthError, match="x3"):
        read_prior(tmp_path / "short.csv", codec)


def test_what_is_kept_of_a_column() -> None:
    """All of what is far, all of two states, little of what noise explains."""
    rng = np.random.default_rng(0)
    assert kept_of(np.full(8, 1.0), 0.01) == 1.0
    assert kept_of(np.array([0.1, -0.1]), 1.0) == 1.0
    noise = np.array([kept_of(rng.normal(size=8) * 0.5, 1.0) for _ in range(200)])
    assert noise.mean() < 0.5
    assert 0 < NEAR < 1
