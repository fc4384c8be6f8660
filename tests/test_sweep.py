"""The sweep over epsilon: what it fits, what it refuses, what it leaves behind."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from doubles import registered, ward
from typer.testing import CliRunner, Result

import dpsynth
from dpsynth import Cohort, Schema
from dpsynth.cli.app import app
from dpsynth.errors import InputError
from dpsynth.evaluation import Classifier
from dpsynth.jobs.sweep import sweep
from dpsynth.privacy.spending.budget import Budget

COMMAND = ("evaluate", "--real", "ward.csv", "-s", "ward.yaml")
FILES = ("sweep.html", "sweep.csv", "sweep.json")


@pytest.fixture(autouse=True)
def _installed() -> Iterator[None]:
    with registered(), patch("dpsynth.jobs.fit.DEFAULT_MODEL", "double"):
        yield


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a working folder with ward.csv and ward.yaml."""
    ward(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _run(*args: object) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in (*COMMAND, *args)])


def _cohort(place: Path, *, public: bool = True) -> Cohort:
    return Cohort.read(place / "ward.csv", Schema.load(place / "ward.yaml"), public=public)


def test_a_sweep_writes_a_page_with_its_numbers(place: Path) -> None:
    """Every model, epsilon and repetition is in CSV and JSON, with ceiling; public data leave no ledger."""
    done = _run("--sweep", "0.5,5", "--seeds", 2, "--model", "double", "--public")
    assert done.exit_code == 0, done.output
    assert "nothing here is covered by epsilon" in done.output
    assert "real patients" in done.output
    assert done.output.count("double") == 2
    assert "…" not in done.output
    with (place / "sweep.csv").open(encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert {(row["model"], row["epsilon"], row["seed"]) for row in table} == {
        ("double", epsilon, seed) for epsilon in ("0.5", "5.0") for seed in "01"
    }
    assert {"auroc", "auroc:real", "worst_change", "tvd_2way", "tvd_2way:real"} <= {row["measure"] for row in table}
    assert len(json.loads((place / "sweep.json").read_text(encoding="utf-8"))) == len(table)
    page = (place / "sweep.html").read_text(encoding="utf-8")
    assert "Public page" in page
    assert "AUROC" in page
    assert not list(place.glob("*.jsonl"))


def test_fits_get_the_epsilon_that_the_table_names(place: Path) -> None:
    """Each run's fit was asked for the epsilon under which the run is listed."""
    from dpsynth.jobs.fit import fit

    with patch("dpsynth.jobs.sweep.fit", side_effect=fit) as fitted:
        runs = list(sweep(_cohort(place), [0.05, 100.0], seeds=2))
    assert [call.kwargs["epsilon"] for call in fitted.call_args_list] == [run.epsilon for run in runs]
    assert {run.epsilon for run in runs} == {0.05, 100.0}


def test_no_test_patient_is_fitted_on(place: Path) -> None:
    """Each fit sees the training part of the split, which on public patients everybody can repeat, and nothing else."""
    from dpsynth.evaluation import split
    from dpsynth.jobs.fit import fit

    cohort = _cohort(place)
    train, test = split(cohort, 0.3, key="sweep 0")
    with patch("dpsynth.jobs.sweep.fit", side_effect=fit) as fitted:
        list(sweep(cohort, [1.0, 2.0], seeds=1))
    assert [call.args[0].table.equals(train.table) for call in fitted.call_args_list] == [True, True]
    assert len(train) + len(test) == len(cohort)


def test_the_floor_is_fitted_once_for_all_models(place: Path) -> None:
    """Where the floor's model is installed, each repetition and epsilon has one fit of it, also as a model itself."""
    from dpsynth.jobs.fit import fit

    with patch("dpsynth.jobs.sweep.FLOOR", "double"), patch("dpsynth.jobs.sweep.fit", side_effect=fit) as fitted:
        runs = list(sweep(_cohort(place), [1.0, 2.0], models=["double"], seeds=2))
    assert fitted.call_count == len(runs) == 4
    assert all(run.measures()["tvd_2way"] == run.measures()["tvd_2way:floor"] for run in runs)


def test_repetitions_differ(place: Path) -> None:
    """Each is a fit of its own, with the noise of the operating system."""
    first, second = sweep(_cohort(place), [1.0], seeds=2)
    assert first.measures() != second.measures()
    assert (first.seed, second.seed) == (0, 1)


def test_private_data_are_refused(place: Path) -> None:
    """Without --public nothing is read or fitted, and the message says why; the same from Python."""
    with patch("dpsynth.jobs.sweep.fit") as fitted:
        result = _run("--sweep", "1")
        with pytest.raises(InputError, match="declared public"):
            sweep(_cohort(place, public=False), [1.0])
    assert result.exit_code == 2
    assert "--public" in result.output
    assert "epsilon again" in result.output
    assert fitted.call_count == 0
    assert not [name for name in FILES if (place / name).exists()]


BAD: list[tuple[list[Any], str]] = [
    (["--sweep", "1,,3", "--public"], "--sweep"),
    (["--sweep", "", "--public"], "--sweep"),
    (["--sweep", "nan", "--public"], "positive numbers"),
    (["--sweep", "1,-2", "--public"], "positive numbers"),
    (["--sweep", "1,1", "--public"], "named twice"),
    (["--sweep", "1000", "--public"], "epsilon"),
    (["--sweep", "1", "--public", "--model", "nosuch"], "nosuch"),
    (["--sweep", "1", "--public", "--seeds", 0], "seeds"),
    (["--sweep", "1", "--public", "--target", "nosuch"], "nosuch"),
    (["--sweep", "1", "--public", "--subgroup", "sex,nosuch"], "nosuch"),
    (["--sweep", "1", "--public", "--synthetic", "ward.csv"], "--synthetic"),
    (["--sweep", "1", "--public", "--train", "ward.csv"], "--train"),
    (["--sweep", "1", "--public", "--out", "table.csv"], "--out"),
    (["--sweep", "1", "--public", "--out", "nosuch/page.html"], "create it first"),
    (["--synthetic", "ward.csv", "--public"], "--public"),
    (["--synthetic", "ward.csv", "--seeds", 2], "--seeds"),
    (["--synthetic", "ward.csv", "--model", "double"], "--model"),
    ([], "--synthetic"),
]


@pytest.mark.parametrize(("given", "words"), BAD, ids=[" ".join(map(str, one)) or "nothing" for one, _ in BAD])
def test_bad_arguments_end_before_the_first_fit(place: Path, given: list[Any], words: str) -> None:
    """Each is named in the message; exit code 2, no fit, no file."""
    with patch("dpsynth.jobs.sweep.fit") as fitted:
        result = _run(*given)
    assert result.exit_code == 2, result.output
    assert words in " ".join(result.output.split())
    assert fitted.call_count == 0
    assert not [name for name in FILES if (place / name).exists()]


def test_files_that_are_there_are_kept(place: Path) -> None:
    """Any of the three stops the sweep before it starts, unless --force."""
    (place / "sweep.json").write_text("mine", encoding="utf-8")
    result = _run("--sweep", "1", "--seeds", 1, "--public")
    assert result.exit_code == 2
    assert "sweep.json" in result.output
    assert (place / "sweep.json").read_text(encoding="utf-8") == "mine"
    assert _run("--sweep", "1", "--seeds", 1, "--public", "--force").exit_code == 0
    assert json.loads((place / "sweep.json").read_text(encoding="utf-8"))


def _failing(after: int, error: BaseException) -> Any:
    count = iter(range(1000))

    def fit(*args: Any, **kwargs: Any) -> Any:
        if next(count) == after:
            raise error
        return dpsynth.fit(*args, **kwargs)

    return patch("dpsynth.jobs.sweep.fit", side_effect=fit)


@pytest.mark.parametrize(
    ("error", "code"), [(KeyboardInterrupt(), 130), (InputError("a fault"), 2), (RuntimeError("a fault"), 1)], ids=str
)
def test_what_is_done_at_an_interruption_is_written(place: Path, error: BaseException, code: int) -> None:
    """Ctrl-C or a fault in the third fit: the files hold the first two, and the exit code is that of the fault."""
    with _failing(2, error):
        result = _run("--sweep", "1,2", "--seeds", 2, "--public")
    assert result.exit_code == code, result.output
    rows = json.loads((place / "sweep.json").read_text(encoding="utf-8"))
    assert {(row["epsilon"], row["seed"]) for row in rows} == {(1.0, 0), (2.0, 0)}
    assert not list(place.glob(".*partial"))


def test_an_interruption_of_the_first_fit_leaves_nothing(place: Path) -> None:
    """There is nothing to write."""
    with _failing(0, KeyboardInterrupt()):
        assert _run("--sweep", "1", "--public").exit_code == 130
    assert not [name for name in FILES if (place / name).exists()]


def test_json_is_the_summary(place: Path) -> None:
    """--json prints mean and range of each measure, and nothing else, on the output stream."""
    result = _run("--sweep", "1", "--seeds", 2, "--public", "--json")
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    assert {row["count"] for row in rows} == {2}
    assert all(row["min"] <= row["mean"] <= row["max"] for row in rows)


def test_following_agrees_with_the_whole_evaluation(place: Path) -> None:
    """The quick way to the followed measures gives what `evaluate` gives."""
    from dpsynth.evaluation import SweepRun, evaluate, split
    from dpsynth.evaluation.sweep_metrics import follow

    train, test = split(_cohort(place), 0.3)
    synthetic = dpsynth.fit(train, "double", epsilon=5.0).sample(len(train), seed=1)
    quick = SweepRun("double", 5.0, 0, follow(test, train, synthetic)).measures()
    whole = SweepRun("double", 5.0, 0, evaluate(test, synthetic, real_train=train)).measures()
    assert quick == pytest.approx(whole)


def test_a_classifier_is_fitted_once_for_each_budget_and_stands_beside(place: Path) -> None:
    """On the training patients, with the budget of the cell; its score is followed like ceiling and floor."""
    asked: list[tuple[int, float]] = []

    def fitted(train: Cohort, budget: Budget) -> Classifier:
        asked.append((len(train), budget.epsilon))
        return Classifier(lambda cohort: np.full(len(cohort), 0.5))

    cohort = _cohort(place)
    runs = list(sweep(cohort, [0.5, 5.0], models=["double"], seeds=2, classifier=fitted))
    assert [epsilon for _, epsilon in asked] == [0.5, 5.0, 0.5, 5.0]
    assert {rows < len(cohort) for rows, _ in asked} == {True}
    assert all(run.measures()["auroc:dp_classifier"] == 0.5 for run in runs)


def test_a_classifier_trained_on_the_patients_stands_in_the_table(place: Path) -> None:
    """`--direct` adds one line at each epsilon and its measures to the CSV; without it there is none."""
    pytest.importorskip("torch")
    done = _run("--sweep", "5", "--seeds", 1, "--model", "double", "--direct", "logistic", "--public")
    assert done.exit_code == 0, done.output
    assert done.output.count("DP classifier") == 1
    with (place / "sweep.csv").open(encoding="utf-8") as file:
        score = [row for row in csv.DictReader(file) if row["measure"] == "auroc:dp_classifier"]
    assert len(score) == 1
    assert 0.3 < float(score[0]["value"]) <= 1
    again = _run("--sweep", "5", "--seeds", 1, "--model", "double", "--public", "--force")
    assert "DP classifier" not in again.output


def test_an_unknown_direct_classifier_is_refused_before_any_fit(place: Path) -> None:
    """The message has the names there are; a sweep follows tables, so that no kind of images is for it."""
    done = _run("--sweep", "5", "--direct", "forest", "--public")
    assert done.exit_code == 2
    assert "expected logistic or mlp" in done.output
    done = _run("--sweep", "5", "--direct", "cnn", "--public")
    assert done.exit_code == 2
    assert "name logistic or mlp" in done.output
    done = _run("--sweep", "5", "--direct", "mlp", "--epsilon", "1", "--public")
    assert done.exit_code == 2
    assert "--epsilon: it is for --direct without --sweep" in done.output
    assert sorted(path.name for path in place.glob("sweep*")) == []
