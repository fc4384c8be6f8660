"""``dpsynth evaluate`` on files that nobody here made: two tables are enough."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from doubles import ward
from typer.testing import CliRunner, Result

from dpsynth import Cohort
from dpsynth.cli.app import app
from dpsynth.drafting.draft import draft
from dpsynth.errors import InputError
from dpsynth.jobs import publish as publishing
from dpsynth.privacy.spending.ledger import Ledger
from dpsynth.schema import Schema


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a working folder with ward.csv, ward.yaml, and made-up rows with a value that no patient has."""
    data, _ = ward(tmp_path, rows=300)
    rng = np.random.default_rng(1)
    fake = pd.read_csv(data).sample(250, random_state=0)
    fake["lactate"] = rng.permutation(fake["lactate"].to_numpy())
    fake.iloc[0, fake.columns.get_loc("sex")] = "unknown"
    fake.iloc[1, fake.columns.get_loc("age")] = 140
    fake.to_csv(tmp_path / "fake.csv", index=False)
    fake[fake["sex"] != "unknown"].assign(age=lambda rows: rows["age"].clip(upper=110)).to_csv(
        tmp_path / "clean.csv", index=False
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _run(*args: object) -> Result:
    return CliRunner().invoke(app, ["evaluate", *map(str, args)])


def _json(*args: object) -> Any:
    done = _run(*args, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_two_tables_without_a_schema_are_judged(place: Path) -> None:
    """Columns, categories and bounds come from both; the page says that nobody has confirmed them."""
    done = _run(
        "--real", "ward.csv", "--synthetic", "fake.csv", "--target", "died", "--subgroup", "sex", "-o", "a.html"
    )
    assert done.exit_code == 0, done.output
    assert "not to release" in done.output
    assert "Nobody has confirmed the schema" in (place / "a.html").read_text(encoding="utf-8")
    found = json.loads((place / "a.json").read_text(encoding="utf-8"))
    assert found["audience"] == "internal"
    assert {one["group"] for one in found["results"] if one["metric"] == "share"} == {
        "sex=female",
        "sex=male",
        "sex=unknown",
    }
    assert any(one["metric"] == "auroc" and one["value"] is not None for one in found["results"])


def test_a_release_takes_no_internal_page(place: Path) -> None:
    """`--out` in a release is refused before anything is read, also with --force; its own report stays as it is."""
    (place / "release" / "data").mkdir(parents=True)
    (place / "release" / "privacy.json").touch()
    (place / "release" / "report.html").write_text("public", encoding="utf-8")
    for page in ("release/report.html", "release/data/mine.html"):
        done = _run("--real", "ward.csv", "--synthetic", "clean.csv", "--out", page, "--force")
        assert done.exit_code == 2, done.output
        assert "outside of that one" in done.output
    assert (place / "release" / "report.html").read_text(encoding="utf-8") == "public"
    assert not list((place / "release").rglob("*.json"))[1:]


def test_a_judged_release_is_not_made_inside_another(place: Path) -> None:
    """`release --holdout` into a release would put internal/ there: refused before the budget is spent."""
    (place / "old").mkdir()
    (place / "old" / "privacy.json").touch()
    cohort = Cohort.read("ward.csv", Schema.load("ward.yaml"))
    with pytest.raises(InputError, match="internal: is internal, and old is made to be published"):
        publishing.publish(cohort, "old", "independent", epsilon=1.0, holdout=0.3)
    assert not list(place.glob("*.jsonl"))
    assert [path.name for path in (place / "old").iterdir()] == ["privacy.json"]


def test_a_draft_of_several_tables_covers_all_of_them(place: Path) -> None:
    """A value, or a bound, that one of them has alone is in the draft; identifiers are those of the first."""
    schema = draft("ward.csv", "fake.csv").schema
    assert set(getattr(schema.columns["sex"], "values", ())) == {"female", "male", "unknown"}
    assert getattr(schema.columns["age"], "max", 0) >= 140
    assert getattr(draft("ward.csv").schema.columns["age"], "max", 0) < 140
    rows = pd.read_csv("ward.csv")
    rows.assign(patient=[f"p{place}" for place in range(len(rows))]).to_csv("named.csv", index=False)
    assert draft("named.csv", "fake.csv").schema.patient == "patient"
    assert not schema.confirmed


def test_draws_and_arms_are_judged_beside(place: Path) -> None:
    """A second draw widens what intervals cover; a floor is an arm; bins may be the schema's."""
    files = ("--real", "ward.csv", "-s", "ward.yaml", "--synthetic", "clean.csv", "--synthetic", "clean.csv")
    found = _json(*files, "--arm", "floor=clean.csv", "--bins", "public")
    assert found["about"]["draws"] == 2
    assert found["about"]["bins"] == "public"
    assert found["about"]["arms"] == ["real", "synthetic", "floor"]
    assert any(one["arm"] == "floor" and one["metric"] == "auroc" for one in found["results"])


def test_the_schema_of_a_release_is_used(place: Path) -> None:
    """A release folder brings its own."""
    folder = place / "release"
    (folder / "data").mkdir(parents=True)
    (folder / "model").mkdir()
    (folder / "model/schema.json").write_text(json.dumps(Schema.load("ward.yaml").to_dict()), encoding="utf-8")
    pd.read_csv("clean.csv").to_parquet(folder / "data/patients.parquet")
    found = _json("--real", "ward.csv", "--synthetic", "release")
    assert found["about"]["name"] == Schema.load("ward.yaml").name


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("--synthetic", "clean.csv", "--arm", "floor"), "NAME=FILE"),
        (("--synthetic", "clean.csv", "--arm", "ceiling=clean.csv"), "floor or noiseless"),
        (("--synthetic", "clean.csv", "--bins", "deciles"), "quantile or public"),
        (("--synthetic", "clean.csv", "-o", "a.json"), ".html"),
        (("--sweep", "1", "--public"), "a person must have checked it"),
        (("--sweep", "1", "--public", "-s", "ward.yaml", "--arm", "floor=clean.csv"), "not for --sweep"),
    ],
    ids=str,
)
def test_what_has_no_meaning_is_refused(place: Path, given: tuple[str, ...], words: str) -> None:
    """With exit code 2 and what was expected; nothing is written."""
    facts = () if "-s" in given or "--sweep" in given else ("-s", "ward.yaml")
    done = _run("--real", "ward.csv", *facts, *given)
    assert done.exit_code == 2
    assert words in " ".join(done.output.split())
    assert not list(place.glob("a.*"))


@pytest.mark.parametrize("public", [True, False])
def test_what_is_fitted_beside_a_release_is_fitted_to_public_patients_only(place: Path, *, public: bool) -> None:
    """Floor and next to no noise where nothing is spent; of private patients further draws alone, which are free."""
    cohort = Cohort.read("ward.csv", Schema.load("ward.yaml"), public=public)
    made = publishing.publish(cohort, "out", "mst", epsilon=1.0, holdout=0.3, rows=200)
    assert made.evaluation is not None
    beside = ["floor", "noiseless"] if public else []
    assert made.evaluation.about["arms"] == ["real", "synthetic", *beside]
    assert made.evaluation.about["draws"] == 3
    assert made.evaluation.results.one("rows", arm="synthetic").number == 200
    assert [len(Ledger(book).runs()) for book in place.glob("*.jsonl")] == ([] if public else [1])
