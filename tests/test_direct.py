"""``dpsynth evaluate --direct``: what it trains, what it spends, what it refuses before it spends."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from doubles import SCHEMA, registered, ward
from sklearn import metrics
from typer.testing import CliRunner, Result

from dpsynth import Cohort, Schema
from dpsynth.cli.app import app
from dpsynth.errors import InputError
from dpsynth.privacy.spending.budget import Budget
from dpsynth.privacy.spending.ledger import Ledger

pytest.importorskip("torch", reason="a DP classifier needs the extra [deep]")

from dpsynth.models.image import classifier as image_classifier
from dpsynth.models.image import linear
from dpsynth.models.tabular.deep import classifier
from dpsynth.models.tabular.deep.classifier import Recipe

FILES = ("--real", "test.csv", "--train", "train.csv", "--synthetic", "fake.csv", "-s", "ward.yaml")
LEDGER = "train.csv.ledger.jsonl"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Few steps, few made images, and a quick model."""
    monkeypatch.setattr(classifier, "RECIPES", {"logistic": Recipe(0, 10, 0.3), "mlp": Recipe(8, 10, 0.1)})
    monkeypatch.setattr(linear, "MADE", 60)
    with registered():
        yield


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a working folder with train.csv, test.csv, synthetic rows in fake.csv, and ward.yaml."""
    lines = ward(tmp_path, rows=500)[0].read_text(encoding="utf-8").splitlines()
    for name, part in {"train": lines[1:251], "test": lines[251:401], "fake": lines[401:]}.items():
        (tmp_path / f"{name}.csv").write_text("\n".join([lines[0], *part]) + "\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _run(*args: object) -> Result:
    return CliRunner().invoke(app, ["evaluate", *map(str, args)])


def _released(place: Path, epsilon: float = 1.5) -> None:
    """Make a stand-in of a release: rows and a privacy statement."""
    (place / "release" / "data").mkdir(parents=True)
    Cohort.read(place / "fake.csv", Schema.load(place / "ward.yaml")).write(place / "release/data/patients.parquet")
    facts = {"epsilon": epsilon, "delta": 1e-6, "private": True}
    (place / "release/privacy.json").write_text(json.dumps(facts), encoding="utf-8")


def test_it_trains_at_the_budget_of_the_release_and_the_ledger_keeps_it(place: Path) -> None:
    """The arm's AUROC is scikit-learn's of what was fitted; spending is said before, kept in the ledger, and shown."""
    _released(place)
    book = Ledger(LEDGER)
    book.commit(book.reserve(Budget(1.5, 1e-6), accounting="gaussian", rho=0.05, unit="row", label="fit"), [])
    book.raise_limit(Budget(9, 1e-6), reason="test")
    fitted: list[Any] = []
    fit = classifier.fit_classifier

    def watched(*args: Any, **facts: Any) -> Any:
        fitted.append(fit(*args, **facts))
        return fitted[-1]

    with patch.object(classifier, "fit_classifier", watched):
        done = _run(*FILES[:4], "--synthetic", "release", "-s", "ward.yaml", "--direct", "logistic", "-o", "r.html")
    assert done.exit_code == 0, done.output
    announced = "--direct logistic: spends epsilon 1.5, delta 1e-06 of its own on train.csv, kept in"
    assert announced in done.stderr
    assert done.stderr.index(announced) < done.stderr.index("2 runs so far, together epsilon 1.")
    assert "DP classifier" in done.stdout
    run = book.runs()[-1]
    assert (run.label, run.budget, run.closed, run.private) == ("direct logistic", Budget(1.5, 1e-6), True, True)
    assert [event.kind for event in run.events or ()] == ["gaussian", "sampled_gaussian"]
    found = json.loads((place / "r.json").read_text(encoding="utf-8"))
    (score,) = (one for one in found["results"] if (one["metric"], one["arm"]) == ("auroc", "dp_classifier"))
    test = Cohort.read("test.csv", Schema.load("ward.yaml"))
    truth = np.asarray(test.to_pandas()["died"]).astype(int)
    expected = metrics.roc_auc_score(truth, fitted[0].predict_proba(test)[:, 1])
    assert (score["value"], score["disclosure"]) == (pytest.approx(expected), "internal")
    assert found["about"]["classifiers"] == [
        {"beside": "logistic regression", "epsilon": 1.5, "delta": 1e-06, "private": True}
    ]
    page = (place / "r.html").read_text(encoding="utf-8")
    assert "spent a budget of its own (epsilon 1.5, delta 1e-06)" in page
    assert "For the evaluation a DP classifier was trained on the same patients" in page


def test_ledger_label_and_budget_may_be_named(place: Path) -> None:
    """For rows without a release the command line says the epsilon; ledger and label are those that were named."""
    asked = ("--epsilon", 0.7, "--delta", "1e-7", "--ledger", "mine.jsonl", "--label", "board")
    done = _run(*FILES, "--direct", "mlp", *asked, "--json")
    assert done.exit_code == 0, done.output
    assert {one["subject"] for one in json.loads(done.stdout)["results"] if one["arm"] == "dp_classifier"} >= {
        "gradient boosting"
    }
    (run,) = Ledger("mine.jsonl").runs()
    assert (run.label, run.budget) == ("board", Budget(0.7, 1e-7))
    assert [one.run for one in Ledger(place / LEDGER).runs()] == [run.run]  # it leads to the one that was named


def test_another_ledger_cannot_forget_what_was_spent(place: Path) -> None:
    """Where the training patients have a ledger no other one is taken, by the command or from Python."""
    book = Ledger(LEDGER)
    book.raise_limit(Budget(9, 1e-6), reason="test")
    done = _run(*FILES, "--direct", "logistic", "--epsilon", 0.7, "--ledger", "mine.jsonl")
    assert done.exit_code == 2, done.output
    assert f"{LEDGER} beside the data" in done.output
    cohort = Cohort.read("train.csv", Schema.load("ward.yaml"))
    with pytest.raises(InputError, match="another file, which would forget it"):
        classifier.fit_classifier(cohort, epsilon=0.7, delta=1e-6, ledger="mine.jsonl")
    assert not (place / "mine.jsonl").exists()
    assert not book.runs()


def test_public_patients_leave_no_ledger(place: Path) -> None:
    """Nothing is spent, nothing is covered by epsilon, and the page may be published."""
    done = _run(*FILES, "--direct", "logistic", "-e", 1, "--public", "-o", "r.html")
    assert done.exit_code == 0, done.output
    assert "nothing here is covered by epsilon" in done.stderr
    assert not list(place.glob("*.jsonl*"))
    page = (place / "r.html").read_text(encoding="utf-8")
    assert "Public report." in page
    assert "no budget was spent on it" in page
    assert "DP classifier on real patients" in page


REFUSED: dict[str, tuple[tuple[object, ...], str]] = {
    "an unknown kind": (("--direct", "forest", "-e", 1), "expected logistic or mlp or linear or cnn"),
    "a kind of images": (("--direct", "linear", "-e", 1), "images"),
    "no epsilon": (("--direct", "logistic"), "--epsilon: is needed"),
    "an epsilon that is none": (("--direct", "logistic", "-e", -1), "epsilon: found -1"),
    "a number as target": (("--direct", "logistic", "-e", 1, "--target", "age"), "expected a boolean"),
    "an unknown subgroup": (("--direct", "logistic", "-e", 1, "--subgroup", "ghost"), "ghost"),
    "an unknown arm": (("--direct", "logistic", "-e", 1, "--arm", "best=fake.csv"), "expected floor or noiseless"),
    "a file that is there": (("--direct", "logistic", "-e", 1, "--out", "taken.html"), "is there already"),
    "a folder that is not": (("--direct", "logistic", "-e", 1, "--out", "nowhere/r.html"), "does not exist"),
    "a page of JSON": (("--direct", "logistic", "-e", 1, "--out", "r.json"), "name the page .html"),
    "a ledger of public data": (
        ("--direct", "mlp", "-e", 1, "--public", "--ledger", "l"),
        "public data have no ledger",
    ),
    "an epsilon without": (("-e", 1), "it is for --direct"),
    "public without": (("--public",), "it is for --sweep and --direct"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_can_be_refused_is_refused_before_anything_is_spent(place: Path, case: str) -> None:
    """With what was expected; the ledger is byte for byte what it was."""
    (place / "taken.html").touch()
    book = Ledger(LEDGER)
    book.raise_limit(Budget(9, 1e-6), reason="test")
    before = (place / LEDGER).read_bytes()
    args, words = REFUSED[case]
    done = _run(*FILES, *args)
    assert done.exit_code == 2, done.output
    assert words in done.output
    assert (place / LEDGER).read_bytes() == before
    assert "spends epsilon" not in done.output


def test_files_and_packages_are_looked_at_before(place: Path) -> None:
    """An unconfirmed schema, another epsilon than the release's, no training patients, no torch: nothing is spent."""
    _released(place)
    (place / "draft.yaml").write_text(SCHEMA.replace("confirmed: true", "confirmed: false"), encoding="utf-8")
    (place / "half.csv").write_text("age,sex,died\n50,male,1\n", encoding="utf-8")
    ask = ("--direct", "logistic", "-e", 1)
    cases = {
        "confirmed": (*FILES[:6], "-s", "draft.yaml", *ask),
        "the release states epsilon 1.5": (*FILES[:4], "--synthetic", "release", "-s", "ward.yaml", *ask),
        "--train: is needed": (*FILES[:2], *FILES[4:], *ask),
        "lactate": (*FILES[:4], "--synthetic", "half.csv", "-s", "ward.yaml", *ask),
    }
    for words, args in cases.items():
        done = _run(*args)
        assert done.exit_code == 2, done.output
        assert words in done.output
    with patch("importlib.util.find_spec", return_value=None):
        assert "needs the package torch" in _run(*FILES, *ask).output
    assert not (place / LEDGER).exists()


def test_a_release_alone_does_not_decide_what_is_spent(place: Path) -> None:
    """Where the ledger knows no run on the patients, a stranger's release spends nothing until a person says so."""
    _released(place, epsilon=60)
    asked = (*FILES[:4], "--synthetic", "release", "-s", "ward.yaml", "--direct", "logistic")
    done = _run(*asked)
    assert done.exit_code == 2, done.output
    assert "knows no run on these patients" in done.output
    assert not (place / LEDGER).exists()
    with patch("dpsynth.evaluation.judge.Study", side_effect=KeyboardInterrupt):
        _run(*asked, "--epsilon", 60)
    assert [run.budget.epsilon for run in Ledger(LEDGER).runs()] == [60]


def test_an_exhausted_ledger_refuses(place: Path) -> None:
    """Exit code 3, and the file is what it was."""
    book = Ledger(LEDGER)
    book.reserve(Budget(1, 1e-6), accounting="gaussian", rho=0.02, unit="row")
    before = (place / LEDGER).read_bytes()
    done = _run(*FILES, "--direct", "logistic", "-e", 1)
    assert done.exit_code == 3, done.output
    assert "Nothing was looked at" in done.output
    assert (place / LEDGER).read_bytes() == before


@pytest.mark.parametrize(("fault", "code"), [(KeyboardInterrupt, 130), (RuntimeError, 1)])
def test_what_was_spent_stays_where_the_evaluation_fails(place: Path, fault: type[BaseException], code: int) -> None:
    """The ledger keeps the run that was paid for, and no page is left behind."""
    with patch("dpsynth.evaluation.judge.Study", side_effect=fault):
        done = _run(*FILES, "--direct", "logistic", "-e", 1, "-o", "r.html")
    assert done.exit_code == code, done.output
    assert "what was spent is in the ledger" in done.output.lower()
    (run,) = Ledger(LEDGER).runs()
    assert run.closed
    assert [event.kind for event in run.events or ()] == ["gaussian", "sampled_gaussian"]
    assert not (place / "r.html").exists()


def test_a_training_that_is_stopped_counts(place: Path) -> None:
    """Stopped in its steps, the whole training is in the ledger: it was paid for before the first of them."""
    with patch("dpsynth.privacy.training.dpsgd.shielded_step", side_effect=KeyboardInterrupt):
        done = _run(*FILES, "--direct", "logistic", "-e", 1)
    assert done.exit_code == 130, done.output
    assert Ledger(LEDGER).spent().epsilon == pytest.approx(1, rel=0.05)
    assert place.is_dir()


def test_images_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An .npz whose training part is learned from and whose test part is judged; the arm is in JSON and page."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(image_classifier.LEARNERS, "linear", (0.5, 4, 0.1, image_classifier.LEARNERS["linear"][3]))
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for name, n in {"train": 90, "val": 2, "test": 90}.items():
        labels = rng.integers(2, size=n)
        pixels = rng.normal(60, 30, (n, 8, 8))
        pixels[labels == 1, :4] += 90
        arrays |= {f"{name}_images": pixels.clip(0, 255).astype(np.uint8), f"{name}_labels": labels[:, None]}
    np.savez(tmp_path / "scans.npz", **arrays)
    arrays["train_images"] = arrays["train_images"][::-1]
    arrays["train_labels"] = arrays["train_labels"][::-1]
    np.savez(tmp_path / "fake.npz", **arrays)
    facts = "{name: scans, confirmed: true, target: label, columns: {label: {type: categorical, values: [0, 1]}}"
    (tmp_path / "scans.yaml").write_text(facts + ", images: {size: [8, 8]}}", encoding="utf-8")
    files = ("--real", "scans.npz", "--train", "scans.npz", "--synthetic", "fake.npz", "-s", "scans.yaml", "-e", 2)
    refused = _run(*files, "--direct", "logistic")
    assert refused.exit_code == 2
    assert "there is no column beside it to learn from" in refused.output
    assert not list(tmp_path.glob("*.jsonl"))
    done = _run(*files, "--direct", "linear", "-o", "r.html")
    assert done.exit_code == 0, done.output
    (run,) = Ledger("scans.npz.ledger.jsonl").runs()
    assert (run.label, run.budget, run.closed) == ("direct linear", Budget(2, 1e-6), True)
    found = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["results"]
    mine = [one for one in found if one["arm"] == "dp_classifier"]
    assert {one["subject"] for one in mine} == {"MLP on pixels"}
    assert {"image_auroc", "image_auroc_change", "class_recall"} <= {one["metric"] for one in mine if one["value"]}
    assert {one["disclosure"] for one in mine} == {"internal"}
    assert "MLP on pixels: DP classifier on real patients, same ε" in (tmp_path / "r.html").read_text(encoding="utf-8")
