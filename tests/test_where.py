"""Conditions and proportions as a person types them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pandas as pd
import pytest
from doubles import registered, ward
from typer.testing import CliRunner

from dpsynth.cli.app import app
from dpsynth.columns.written_conditions import parse_conditions, parse_proportions
from dpsynth.errors import InputError


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("race == 'black' and age >= 80", {"race": "black", "age": {"min": 80}}),
        ("age >= 80 and age <= 90 and edu is missing", {"age": {"min": 80, "max": 90}, "edu": None}),
        ("unit == 'heart and lung'", {"unit": "heart and lung"}),
        ("unit == heart and lung", {"unit": "heart and lung"}),
        ("unit in ['a and b', c] and sex == male", {"unit": ["a and b", "c"], "sex": "male"}),
        ("'sex and age' == 1 and x <= 2", {"sex and age": 1, "x": {"max": 2}}),
    ],
)
def test_conditions_are_joined_by_and(text: str, found: dict[str, Any]) -> None:
    """`and` joins conditions where another one follows, outside quotes."""
    assert parse_conditions([text]) == found


@pytest.mark.parametrize("text", ["race == black", "race == black: ", "race == black: half", "race: 0.5", ": 0.5"])
def test_proportions_that_are_none(text: str) -> None:
    """A text without a share or without a condition is refused."""
    with pytest.raises(InputError, match=r"--|where"):
        parse_proportions([text])


def test_a_colon_in_a_value() -> None:
    """The share stands behind the last colon."""
    assert parse_proportions(["code == 'a:b': .5"]) == [({"code": "a:b"}, 0.5)]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a working folder with a model of a ward."""
    ward(tmp_path)
    monkeypatch.chdir(tmp_path)
    with registered():
        done = CliRunner().invoke(app, ["fit", "ward.csv", "-s", "ward.yaml", "-e", "1"])
        assert done.exit_code == 0, done.output
        yield tmp_path


def test_sample_takes_proportions(place: Path) -> None:
    """The command writes the shares that were asked for."""
    shares = ("-p", "sex == 'male' and age >= 80: 0.3", "-p", "sex == female: 0.2")
    done = CliRunner().invoke(app, ["sample", "model", "-n", "100", *shares, "-o", "drawn.csv"])
    assert done.exit_code == 0, done.output
    drawn = pd.read_csv(place / "drawn.csv")
    old_men = (drawn["sex"] == "male") & (drawn["age"] >= 80)
    assert (int(old_men.sum()), int((drawn["sex"] == "female").sum())) == (30, 20)


def test_bad_proportions_end_with_words(place: Path) -> None:
    """Shares above 1 are bad input, and no file is left."""
    done = CliRunner().invoke(app, ["sample", "model", "-n", "9", "-p", "sex == male: 1.5", "-o", "drawn.csv"])
    assert done.exit_code == 2
    assert "1.5" in done.output
    assert not (place / "drawn.csv").exists()


def test_plan_tells_the_smallest_group(place: Path) -> None:
    """Before anything is spent, the plan tells from which size on a group is represented, also to a script."""
    from dpsynth.models.tabular.prism import Prism

    class _Point:
        def load(self) -> type[Prism]:
            return Prism

    with patch("dpsynth.models.registry._registered", lambda: {"prism": _Point()}):
        command = ["plan", "ward.yaml", "--rows", "5000", "-e", "1", "--model", "prism"]
        shown = CliRunner().invoke(app, command)
        read = CliRunner().invoke(app, [*command, "--json"])
    assert shown.exit_code == 0, shown.output
    assert "groups of 'sex' are represented from about" in shown.output
    assert json.loads(read.stdout)["smallest_groups"]["sex"] > 0
