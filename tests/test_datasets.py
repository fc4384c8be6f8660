"""The cohorts that ship in the wheel, and the schemas of the benchmark cohorts."""

from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dpsynth.coding.codec import Codec
from dpsynth.cohort.rows import constraint_violations
from dpsynth.datasets import load_support2
from dpsynth.schema import Schema
from dpsynth.schema.schema import Identifier, Numeric

LEAKS = {"death", "slos", "d.time", "charges", "totcst", "totmcst", "surv2m", "surv6m", "dnr", "dnrday", "sfdm2"}
SCALES = {"adlp", "adls", "scoma", "hrt"}  # scores of 0 to 7 and 0 to 100, and what monitors of the heart rate show


def test_support2_is_whole() -> None:
    """SUPPORT2 has 9,105 patients, 25.9 % of whom died in hospital, and needs no ledger."""
    cohort = load_support2()
    assert len(cohort) == cohort.schema.rows == 9105
    assert cohort.patients().max() == 9104
    assert cohort.to_pandas()["hospdead"].mean() == pytest.approx(0.259, abs=5e-4)
    assert cohort.public
    assert cohort.schema.confirmed
    assert len(cohort.schema.modelled) == 31


def test_support2_keeps_its_schema() -> None:
    """SUPPORT2 keeps the constraints of its schema, and its schema can be used as it is."""
    cohort = load_support2()
    cohort.schema.check_confirmed()
    assert set(constraint_violations(cohort).values()) == {0}
    codec = Codec(cohort.schema)
    codes = codec.encode(cohort)
    again = codec.encode(codec.decode(codes, np.random.default_rng(0)))
    assert all((codes[name] == again[name]).all() for name in codes)


def test_what_leaks_the_target_is_not_read() -> None:
    """The columns that are known only after the stay are dropped."""
    assert set(load_support2().schema.drop) >= LEAKS


def test_bounds_are_not_those_of_the_data() -> None:
    """No continuous column has the least or greatest value of the data for a bound on both sides."""
    cohort = load_support2()
    frame = cohort.to_pandas()
    for name, column in cohort.schema.columns.items():
        if isinstance(column, Numeric) and name not in SCALES:
            assert (frame[name].min(), frame[name].max()) != (column.min, column.max), name
    assert cohort.schema.source


def test_licence_and_provenance_ship() -> None:
    """The data come with a note on source and licence."""
    text = files("dpsynth.datasets").joinpath("support2.md").read_text(encoding="utf-8")
    assert "MIT" in text
    assert "Knaus" in text


def test_the_file_is_the_source_byte_for_byte() -> None:
    """The shipped file has the columns of the public file, dropped ones included, and no others."""
    with files("dpsynth.datasets").joinpath("support2.csv").open("rb") as file:
        header = pd.read_csv(file, nrows=1).columns
    schema = load_support2().schema
    assert set(header) == {*schema.columns, *schema.drop}


@pytest.mark.parametrize("name", ["framingham", "thyroid", "nmes_codes"])
def test_schemas_of_the_benchmarks(name: str) -> None:
    """The schemas of the benchmark cohorts are confirmed, say where they come from, and can be coded."""
    path = Path(__file__).parent.parent / "benchmarks" / "schemas" / f"{name}.yaml"
    if not path.exists():
        pytest.skip("the benchmarks are not part of an installed package")
    schema = Schema.load(path)
    schema.check_confirmed()
    assert schema.source
    assert len(Codec(schema).forbidden()) >= len(schema.constraints)
    assert not any(isinstance(schema.columns[name], Identifier) for name in schema.modelled)
