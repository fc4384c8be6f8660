"""Two tables without a schema are judged as they are meant: the same values in other spellings are the same values."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from dpsynth.cli.app import app
from dpsynth.cohort import Cohort
from dpsynth.drafting.draft import draft_schema
from dpsynth.drafting.respelling import OTHERS, read_alike
from dpsynth.evaluation.alike import under_one_schema
from dpsynth.evaluation.arrays.bins import JudgingBins
from dpsynth.evaluation.arrays.table import tables
from dpsynth.evaluation.metrics.marginals import mean_tvd
from dpsynth.evaluation.protocol import Protocol


def patients(rows: int = 400, seed: int = 0) -> pd.DataFrame:
    """Return patients with a column of each kind, as a hospital's export writes them."""
    rng = np.random.default_rng(seed)
    days = pd.Timestamp("2020-02-01") + pd.to_timedelta(rng.integers(0, 600, rows), unit="D")
    lab = pd.Series(rng.lognormal(0.5, 0.6, rows).round(2).astype(str))
    return pd.DataFrame(
        {
            "age": rng.integers(18, 95, rows),
            "sex": rng.choice(["F", "M"], rows),
            "smoker": rng.choice(["False", "True"], rows),
            "asked": rng.choice(["yes", "no"], rows),
            "admit": pd.Series(days).dt.strftime("%Y-%m-%d"),
            "stage": rng.choice([1, 2, 3], rows),
            "code": rng.choice(["I10", "250.0", "E11.9"], rows),
            "lab": lab.where(rng.random(rows) > 0.1, ""),
            "died": rng.integers(0, 2, rows),
        }
    ).astype(str)


def _each(column: str, change: Callable[[str], str]) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda data: data.assign(**{column: data[column].map(change)})


SPELLINGS: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "small booleans": _each("smoker", str.lower),
    "booleans as numbers": _each("smoker", {"False": "0", "True": "1"}.__getitem__),
    "booleans as floats": _each("smoker", {"False": "0.0", "True": "1.0"}.__getitem__),
    "booleans as letters": _each("smoker", {"False": "F", "True": "T"}.__getitem__),
    "yes and no as booleans": _each("asked", {"no": "False", "yes": "True"}.__getitem__),
    "yes and no in capitals": _each("asked", str.upper),
    "numbers as floats": _each("age", lambda text: f"{text}.0"),
    "codes as floats": _each("stage", lambda text: f"{text}.0"),
    "an outcome as floats": _each("died", lambda text: f"{text}.0"),
    "an outcome as words": _each("died", {"0": "no", "1": "yes"}.__getitem__),
    "dates with midnight": _each("admit", lambda text: f"{text} 00:00:00"),
    "dates with T": _each("admit", lambda text: f"{text}T00:00:00"),
    "dates with fractions": _each("admit", lambda text: f"{text} 00:00:00.000"),
    "dates with points": _each("admit", lambda text: ".".join(reversed(text.split("-")))),
    "small letters": _each("sex", str.lower),
    "blanks": _each("sex", lambda text: f" {text} "),
    "missing as NaN": _each("lab", lambda text: text or "NaN"),
    "codes that look like numbers": _each("code", lambda text: "250" if text == "250.0" else text),
}


def distance(real: pd.DataFrame, fake: pd.DataFrame, folder: Path) -> tuple[float, list[str]]:
    """Return the mean one-way TVD of two tables that are read alike, and the remarks."""
    paths = [folder / "real.csv", folder / "fake.csv"]
    for path, data in zip(paths, (real, fake), strict=True):
        data.to_csv(path, index=False)
    alike = read_alike(paths[:1], paths[1:])
    found = tables({"real": Cohort.read(paths[0], alike.schema), "fake": alike.cohort(paths[1])})
    rule = JudgingBins.of(found["real"], "quantile")
    one, two = (rule.apply(found[name]) for name in ("real", "fake"))
    return float(mean_tvd(one, two, 1, Protocol(), arm="synthetic", words="").number), alike.remarks


@pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS.keys())
def test_the_same_values_in_another_spelling_are_the_same(
    spell: Callable[[pd.DataFrame], pd.DataFrame], tmp_path: Path
) -> None:
    """The distance is exactly 0, and nothing is remarked."""
    real = patients()
    assert distance(real, spell(real), tmp_path) == (0.0, [])


def test_a_cohort_that_was_drafted_by_itself_is_read_under_the_real_schema(tmp_path: Path) -> None:
    """From Python: each file has a draft of its own, with other types, and the distances are those of equal rows."""
    fake = real = patients()
    for spell in ("small booleans", "small letters", "dates with midnight", "codes as floats"):
        fake = SPELLINGS[spell](fake)
    cohorts = []
    for name, data in (("real", real), ("fake", fake)):
        data.to_csv(tmp_path / f"{name}.csv", index=False)
        cohorts.append(Cohort.read(tmp_path / f"{name}.csv", draft_schema(tmp_path / f"{name}.csv")))
    assert cohorts[0].schema.columns["admit"] != cohorts[1].schema.columns["admit"]
    test, train, drawn = under_one_schema(cohorts[0], cohorts[0], {"synthetic": [cohorts[1]]})
    found = tables({"test": test, "train": train, "fake": drawn["synthetic"][0]})
    rule = JudgingBins.of(found["test"], "quantile")
    one, two = (rule.apply(found[name]) for name in ("test", "fake"))
    assert mean_tvd(one, two, 1, Protocol(), arm="synthetic", words="").number == 0.0


STRANGE: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str]] = {
    "text among numbers": (lambda data: data.assign(age=["n/k", *data["age"][1:]]), "'age'"),
    "text among dates": (lambda data: data.assign(admit=["soon", *data["admit"][1:]]), "'admit'"),
    "a new category": (lambda data: data.assign(sex=["X", *data["sex"][1:]]), "'sex'"),
    "no boolean": (lambda data: data.assign(smoker=["perhaps", *data["smoker"][1:]]), "'smoker'"),
}


@pytest.mark.parametrize(("change", "column"), STRANGE.values(), ids=STRANGE.keys())
def test_what_does_not_fit_is_said_and_no_fault(
    change: Callable[[pd.DataFrame], pd.DataFrame], column: str, tmp_path: Path
) -> None:
    """One of 400 rows: a remark names file, share and column, and no value; the distance is that of one row."""
    real = patients()
    found, remarks = distance(real, change(real), tmp_path)
    assert 0 < found < 1 / 400
    assert len(remarks) == 1
    assert remarks[0].startswith("fake.csv: 0.2% of the rows of")
    assert column in remarks[0]


def test_values_beyond_the_real_ones_stay_what_they_are(tmp_path: Path) -> None:
    """Larger numbers and later dates are not cut to the real range; very many new categories are one."""
    real, fake = patients(), patients(400, 1)
    fake = fake.assign(age="140", admit="2031-05-06", sex=[f"s{place}" for place in range(400)])
    for path, data in ((tmp_path / "real.csv", real), (tmp_path / "fake.csv", fake)):
        data.to_csv(path, index=False)
    alike = read_alike([tmp_path / "real.csv"], [tmp_path / "fake.csv"])
    frame = alike.cohort(tmp_path / "fake.csv").to_pandas()
    assert set(frame["age"]) == {140}
    assert set(frame["admit"].dt.year) == {2031}
    assert set(frame["sex"]) == {OTHERS}
    columns: Any = alike.schema.columns
    assert columns["age"].max >= 140


def test_the_command_judges_other_spellings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file as a generator of the field writes it: every TVD is that of two samples, no column is 1 apart."""
    monkeypatch.chdir(tmp_path)
    patients(300).to_csv("real.csv", index=False)
    fake = patients(300, 1)
    for spell in ("small booleans", "numbers as floats", "codes as floats", "dates with midnight", "missing as NaN"):
        fake = SPELLINGS[spell](fake)
    fake.to_csv("fake.csv", index=False)
    done = CliRunner().invoke(
        app, ["evaluate", "--real", "real.csv", "--synthetic", "fake.csv", "--target", "died", "--json"]
    )
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)["results"]
    columns = {one["subject"]: one["value"] for one in found if one["metric"] == "tvd_column"}
    assert set(columns) == set(fake.columns)
    assert max(columns.values()) < 0.25
