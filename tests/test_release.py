"""The release bundle: whole or not there, complete, readable by others, and silent about the private table."""

import dataclasses
import errno
import getpass
import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from doubles import Double, registered, ward

import dpsynth
from dpsynth.errors import FileError, InputError, ModelFormatError
from dpsynth.jobs import publish as publishing
from dpsynth.models import Model, load_model
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.budget import Budget
from dpsynth.publishing import bundle

FILES = {
    "report.html",
    "report.json",
    "README.md",
    "croissant.json",
    "privacy.json",
    "data/patients.parquet",
    "data/patients.csv",
    "model/config.json",
    "model/schema.json",
    "model/ledger.json",
    "model/model.safetensors",
}


@pytest.fixture(autouse=True)
def _installed() -> Iterator[None]:
    with registered():
        yield


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Return a model of the ward."""
    data, facts = ward(tmp_path_factory.mktemp("private"))
    return dpsynth.fit(dpsynth.Cohort.read(data, dpsynth.Schema.load(facts)), Double(), epsilon=1.0)


@pytest.fixture(scope="module")
def released(fitted: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a release that no test changes."""
    return dpsynth.release(fitted, tmp_path_factory.mktemp("public") / "release", rows=300, licence="CC-BY-4.0")


def _files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_everything_is_there(released: Path) -> None:
    """A release holds the files of the design and no others."""
    assert set(_files(released)) == FILES


def test_both_tables_are_the_same(released: Path) -> None:
    """CSV and Parquet hold the same rows, with the schema's columns in their order."""
    typed = pd.read_parquet(released / "data/patients.parquet")
    text = pd.read_csv(released / "data/patients.csv")
    assert list(typed.columns) == ["age", "sex", "lactate", "died"]
    assert len(typed) == 300
    pd.testing.assert_frame_equal(typed, text, check_dtype=False)


def test_the_model_inside_loads(released: Path, fitted: Model) -> None:
    """The model of a release draws what the fitted model draws, and is found from the release's own folder."""
    expected = fitted.sample(20, seed=5).table
    assert load_model(released / "model").sample(20, seed=5).table.equals(expected)
    assert load_model(released).sample(20, seed=5).table.equals(expected)


def test_the_privacy_statement(released: Path) -> None:
    """privacy.json states budget, unit, neighbours, accountant, events, trade-off, limits, libraries and release."""
    facts = json.loads((released / "privacy.json").read_text())
    assert (facts["epsilon"], facts["delta"], facts["private"]) == (1.0, 1e-6, True)
    assert facts["epsilon_spent"] <= 1.0
    rows = facts["model"].pop("training_rows")
    assert 100 < rows < 1000  # of 300, by noisy counts
    assert facts["model"] == {"name": "double", "options": {"floor": 0.0}}
    assert {"unit", "neighbours", "accountant", "trade_off", "libraries", "randomness", "earlier_releases"} <= set(
        facts
    )
    assert {event["kind"] for event in facts["events"]} == {"gaussian"}
    assert all(event["scale"] > 0 and event["sensitivity"] == 1 for event in facts["events"])
    assert facts["release"]["rows"] == 300
    assert facts["not_protected"]


def test_refusals_are_said_to_be_unprotected(released: Path) -> None:
    """Statement, card and page say that a refusal at reading tells that some row does not fit."""
    words = "learns that some row does not fit"
    assert [item for item in json.loads((released / "privacy.json").read_text())["not_protected"] if words in item]
    card = (released / "README.md").read_text(encoding="utf-8").partition("Not protected:")[2]
    page = (released / "report.html").read_text(encoding="utf-8").partition("What is not protected")[2]
    assert words in card.partition("\n#")[0]
    assert words in page.partition("</ul>")[0]


def test_the_dataset_card(released: Path) -> None:
    """README.md has front matter that the Hugging Face Hub reads, and says budget, columns and limits in words."""
    text = (released / "README.md").read_text(encoding="utf-8")
    _, front, body = text.split("---\n", 2)
    head = yaml.safe_load(front)
    assert head["license"] == "CC-BY-4.0"
    assert head["configs"] == [{"config_name": "default", "data_files": "data/patients.parquet"}]
    assert head["size_categories"] == ["n<1K"]
    for words in (
        "| epsilon | 1 |",
        "| delta | 1e-06 |",
        "18 to 110 years",
        "What it is not good for",
        "300 synthetic",
    ):
        assert words in body


VALIDATE = """
import json, sys, warnings
warnings.simplefilter("ignore")
import mlcroissant
from pathlib import Path
dataset = mlcroissant.Dataset(jsonld=Path(sys.argv[1]))
assert not dataset.metadata.ctx.issues.errors, dataset.metadata.ctx.issues.errors
rows = list(dataset.records("patients"))
print(json.dumps([len(rows), sorted(map(str, rows[0]))]))
"""


def _validated(folder: Path) -> Any:
    """Read a release through mlcroissant, in a process of its own: its imports warn."""
    command = [sys.executable, "-W", "ignore", "-c", VALIDATE, "croissant.json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_croissant_is_valid(released: Path) -> None:
    """The Croissant reference implementation accepts croissant.json and finds every row and column through it."""
    rows, columns = _validated(released)
    assert rows == 300
    assert columns == ["patients/age", "patients/died", "patients/lactate", "patients/sex"]


ODD = """
name: "ward | 'B' \\"=1+1\\" é"
confirmed: true
columns:
  "1st visit": {type: datetime, min: 2020-01-01, max: 2021-01-01}
  "größe (cm)": {type: numeric, min: 40, max: 220}
  "=2+3": {type: boolean}
  "it's \\"odd\\" | <b>": {type: categorical, values: ["=cmd()", "+1", "plain", "a,b"]}
"""


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a release with awkward names and categories."""
    schema = dpsynth.Schema.parse(ODD)
    names = list(schema.columns)
    frame = pd.DataFrame(
        {
            names[0]: pd.to_datetime(["2020-02-03", "2020-05-06"] * 50),
            names[1]: [170, 181] * 50,
            names[2]: [True, False] * 50,
            names[3]: ["=cmd()", "plain", "+1", "a,b"] * 25,
        }
    )
    folder = tmp_path_factory.mktemp("odd")
    cohort = dpsynth.Cohort.from_pandas(frame, schema)
    model = dpsynth.fit(cohort, Double(), epsilon=10.0, ledger=folder / "odd.ledger.jsonl")
    return dpsynth.release(model, folder / "release", rows=200)


def test_awkward_names_survive(odd: Path) -> None:
    """Names with spaces, quotes, unicode and leading digits pass through Parquet, Croissant and the card."""
    names = list(dpsynth.Schema.parse(ODD).columns)
    assert list(pd.read_parquet(odd / "data/patients.parquet").columns) == names
    assert _validated(odd)[0] == 200
    card = (odd / "README.md").read_text(encoding="utf-8")
    assert yaml.safe_load(card.split("---\n")[1])["pretty_name"].startswith("ward | 'B'")
    assert "<b>" not in card


def test_no_formula_in_csv(odd: Path) -> None:
    """No cell and no column name of patients.csv begins like a formula; Parquet keeps both as they are."""
    text = pd.read_csv(odd / "data/patients.csv")
    assert not text.iloc[:, 3].str.match(r"[=+\-@\t\r]").any()
    assert text.columns[2] == "'=2+3"
    exact = pd.read_parquet(odd / "data/patients.parquet")
    assert exact.columns[2] == "=2+3"
    assert set(exact.iloc[:, 3]) == {"=cmd()", "+1", "plain", "a,b"}


def test_the_public_report(released: Path) -> None:
    """report.html states the budget, compares with the counts that were paid for, and needs no network."""
    page = (released / "report.html").read_text(encoding="utf-8")
    assert "TVD to the released counts" in page
    rows = json.loads((released / "privacy.json").read_text())["model"]["training_rows"]
    assert re.search(rf"rows that it learned from.{{0,120}}{rows:,}", page, re.S)
    assert "female" in page
    assert "gradient boosting" not in page
    assert not re.search(r"(src|href)=\"https?://", page)


def test_nothing_of_the_machine(released: Path) -> None:
    """No path, user name, host name or clock time stands in a release."""
    told = [socket.gethostname(), str(Path.cwd()), str(Path.home()), "/tmp", "private", getpass.getuser()]  # noqa: S108
    # a user may be called root or data, which are words: those are looked for as whole words in the prose only
    for name, content in _files(released).items():
        text = content.decode("utf-8", errors="ignore")
        for secret in told[:4]:
            assert secret not in text, (name, secret)
        assert not re.search(r"\d\d:\d\d:\d\d", text), name
    assert getpass.getuser() not in re.split(r"\W+", (released / "privacy.json").read_text())


class _Tape:
    """Answers that do not depend on the data."""

    private = False
    randomness = "a tape"

    def use(self, codec: Any) -> None:
        """Ignore the codec."""

    def counts(self, queries: Any, sigmas: Any) -> list[Any]:  # noqa: ARG002  (the protocol has it)
        """Answer the same to everybody."""
        return [np.random.default_rng(1).integers(1, 50, query.shape) for query in queries]


def _taped(cohort: dpsynth.Cohort, folder: Path) -> dict[str, bytes]:
    session = Session.open(cohort, Budget(1.0, 1e-6), answers=_Tape(), ledger=None)  # type: ignore[arg-type]
    with session:
        model = Double().fit(session)
    model.statement["model"] = {"name": "double", "options": {}}
    return _files(dpsynth.release(model, folder / "release", seed=1))


@pytest.mark.parametrize("rows", [[0], [0, 0, 0], [5, 1, 399]], ids=str)
def test_a_release_depends_on_answers_alone(tmp_path: Path, rows: list[int]) -> None:
    """With the session's answers replaced by a tape, releases of very different tables are equal byte by byte."""
    data, facts = ward(tmp_path)
    cohort = dpsynth.Cohort.read(data, dpsynth.Schema.load(facts))
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = _taped(dataclasses.replace(cohort, public=True), tmp_path / "a")
    second = _taped(dataclasses.replace(cohort.take(np.array(rows)), public=True), tmp_path / "b")
    assert first == second


def test_a_seed_is_stamped(tmp_path: Path) -> None:
    """What a seeded fit made says in the card, the statement and Croissant that it is not private."""
    data, facts = ward(tmp_path)
    model = dpsynth.fit(dpsynth.Cohort.read(data, dpsynth.Schema.load(facts)), Double(), epsilon=1.0, seed=1)
    folder = dpsynth.release(model, tmp_path / "release")
    assert "NOT PRIVATE" in (folder / "README.md").read_text(encoding="utf-8")
    assert "NOT PRIVATE" in (folder / "croissant.json").read_text(encoding="utf-8")
    assert json.loads((folder / "privacy.json").read_text())["private"] is False


def test_default_rows(fitted: Model, tmp_path: Path) -> None:
    """Without a public row count a release has as many rows as the model's noisy estimate, never the private count."""
    folder = dpsynth.release(fitted, tmp_path / "release")
    assert len(pd.read_parquet(folder / "data/patients.parquet")) == fitted.rows


def test_public_rows(tmp_path: Path) -> None:
    """A declared public row count is the release's default."""
    data, facts = ward(tmp_path, schema="rows: 400\n" + (ward(tmp_path)[1]).read_text())
    model = dpsynth.fit(dpsynth.Cohort.read(data, dpsynth.Schema.load(facts)), Double(), epsilon=1.0)
    folder = dpsynth.release(model, tmp_path / "release")
    assert len(pd.read_parquet(folder / "data/patients.parquet")) == 400


def test_a_folder_that_is_there(fitted: Model, tmp_path: Path) -> None:
    """A folder that is there is refused and left alone; with force it is replaced as a whole."""
    target = tmp_path / "release"
    target.mkdir()
    (target / "mine.txt").write_text("keep")
    with pytest.raises(FileError, match="is there already"):
        dpsynth.release(fitted, target)
    assert [p.name for p in target.iterdir()] == ["mine.txt"]
    dpsynth.release(fitted, target, rows=10, force=True)
    assert set(_files(target)) == FILES
    assert [p.name for p in tmp_path.iterdir()] == ["release"]


def _file(place: Path) -> None:
    place.write_text("x")


@pytest.mark.parametrize("prepare", [_file, lambda p: p.symlink_to(p.parent)], ids=["file", "symlink"])
def test_a_target_that_is_no_folder(fitted: Model, tmp_path: Path, prepare: Callable[[Path], None]) -> None:
    """A file or a link in the target's place is refused, also with force."""
    prepare(tmp_path / "release")
    with pytest.raises(FileError, match="is not a folder"):
        dpsynth.release(fitted, tmp_path / "release", force=True)


def test_no_parent(fitted: Model, tmp_path: Path) -> None:
    """A target whose parent is not there is refused before anything is drawn."""
    with pytest.raises(FileError, match="parent folder does not exist"):
        dpsynth.release(fitted, tmp_path / "a" / "release")


@pytest.mark.parametrize("step", ["write_json", "dataset_card"])
@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(
    "fault", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()], ids=["full", "ctrl-c"]
)
def test_never_half_there(
    fitted: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, step: str, force: bool, fault: BaseException
) -> None:
    """A full disk or an interruption while writing leaves the folder as it was, and nothing beside it."""
    target = tmp_path / "release"
    if force:
        target.mkdir()
        (target / "old.txt").write_text("old")

    def fail(*_: Any, **__: Any) -> None:
        raise fault

    monkeypatch.setattr(bundle, step, fail)
    with pytest.raises(FileError if isinstance(fault, OSError) else KeyboardInterrupt):
        dpsynth.release(fitted, target, rows=10, force=force)
    assert set(_files(tmp_path)) == ({"release/old.txt"} if force else set())


def test_a_foreign_statement(fitted: Model, tmp_path: Path) -> None:
    """A model whose statement is not a privacy statement is not released."""
    model = load_model(dpsynth.release(fitted, tmp_path / "release", rows=5))
    model.statement.pop("epsilon")
    with pytest.raises(ModelFormatError, match="is not the privacy statement"):
        dpsynth.release(model, tmp_path / "other", rows=5)
    assert not (tmp_path / "other").exists()


def test_held_out_patients(tmp_path: Path) -> None:
    """With a holdout, internal/ holds numbers marked internal, release/ none of them, and no row count is declared."""
    data, facts = ward(tmp_path, schema="rows: 400\n" + (ward(tmp_path)[1]).read_text())
    cohort = dpsynth.Cohort.read(data, dpsynth.Schema.load(facts))
    made = publishing.publish(cohort, tmp_path / "out", Double(), epsilon=1.0, holdout=0.3)
    results = json.loads((tmp_path / "out/internal/results.json").read_text())
    assert results["audience"] == "internal"
    assert "<h1" in (tmp_path / "out/internal/report.html").read_text(encoding="utf-8")
    touched = [result for result in results["results"] if result["metric"] in {"auroc", "tvd_2way"}]
    assert {result["metric"] for result in touched} == {"auroc", "tvd_2way"}
    assert {result["disclosure"] for result in touched} == {"internal"}
    assert set(_files(tmp_path / "out/release")) == FILES
    assert made.model.schema.rows is None
    assert len(made.synthetic) == 400


def test_without_a_holdout(tmp_path: Path) -> None:
    """By default all patients train the model, and there is no internal/."""
    data, facts = ward(tmp_path)
    cohort = dpsynth.Cohort.read(data, dpsynth.Schema.load(facts))
    made = publishing.publish(cohort, tmp_path / "out", Double(), epsilon=1.0)
    assert made.internal is None
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["release"]


def test_limits(tmp_path: Path) -> None:
    """The first run sets the dataset's limit; a later one may not change it in passing."""
    data, facts = ward(tmp_path)
    cohort = dpsynth.Cohort.read(data, dpsynth.Schema.load(facts))
    dpsynth.fit(cohort, Double(), epsilon=0.5, limit=2.0)
    dpsynth.fit(cohort, Double(), epsilon=0.5)
    with pytest.raises(InputError, match="has a limit already"):
        dpsynth.fit(cohort, Double(), epsilon=0.5, limit=9.0)


def test_a_frame_needs_a_ledger(tmp_path: Path) -> None:
    """A private cohort from memory is refused without a ledger, before it is looked at."""
    data, facts = ward(tmp_path)
    cohort = dpsynth.Cohort.from_pandas(pd.read_csv(data), dpsynth.Schema.load(facts))
    with pytest.raises(InputError, match="ledger"):
        dpsynth.fit(cohort, Double(), epsilon=1.0)
