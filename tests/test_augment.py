"""The command that adds synthetic patients of a scarce group: what it spends, shows, recommends and refuses."""

import json
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from doubles import registered, ward
from typer.testing import CliRunner, Result

from dpsynth import Cohort, Schema
from dpsynth.cli.app import app
from dpsynth.errors import InputError
from dpsynth.jobs.augment import NOT_COVERED, SEEN, augment
from dpsynth.jobs.fit import fit
from dpsynth.jobs.rehearse import rehearse
from dpsynth.privacy.spending.ledger import Ledger

COMMAND = ("augment", "ward.csv", "-s", "ward.yaml", "-g", "sex == 'male'", "--amount", "40")
GROUP = {"sex": "male"}


@pytest.fixture(autouse=True)
def _installed() -> Iterator[None]:
    with registered():
        yield


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a working folder with ward.csv and ward.yaml."""
    ward(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _run(*args: object) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args])


def _cohort(place: Path, *, public: bool = True) -> Cohort:
    return Cohort.read(place / "ward.csv", Schema.load(place / "ward.yaml"), public=public)


def test_a_fit_is_paid_for_once(place: Path) -> None:
    """With --epsilon one model is fitted to the training part, and the ledger has exactly that."""
    done = _run(*COMMAND, "-e", 2, "--model", "double")
    assert done.exit_code == 0, done.output
    assert 1.9 < Ledger.beside(place / "ward.csv").spent().epsilon <= 2
    assert "not covered by epsilon" in done.output
    assert "real + SMOTE" in done.output
    assert "sex == 'male': 40 synthetic patients" in done.output


def test_json_has_everything(place: Path) -> None:
    """What a script reads: the verdict, the recommendation, all arms with intervals, and that it is internal."""
    found = json.loads(_run(*COMMAND, "-e", 2, "--json").stdout)
    assert (found["disclosure"], found["recommended"], found["added"], found["rehearsed"]) == (
        "internal",
        40,
        40,
        False,
    )
    assert NOT_COVERED in found["notes"]
    assert {one["arm"] for one in found["results"]} >= {"real only", "real + synthetic", "balanced synthetic"}
    assert {one["group"] for one in found["results"]} == {"sex == 'male'", "others", "all"}
    assert all(one["disclosure"] == "internal" for one in found["results"])


def test_a_given_model_spends_nothing(place: Path) -> None:
    """With --model-folder nothing is spent; without --test the reader is told that the model may have seen them."""
    assert _run("fit", "ward.csv", "-s", "ward.yaml", "-e", 1).exit_code == 0
    before = Ledger.beside(place / "ward.csv").spent()
    done = _run(*COMMAND, "--model-folder", "model")
    assert done.exit_code == 0, done.output
    assert "Test on patients that the model has not seen" in done.output
    assert Ledger.beside(place / "ward.csv").spent() == before


def test_separate_test_patients(place: Path) -> None:
    """Given test patients, all of the others train, the model is fitted to those, and no warning is needed."""
    cohort = _cohort(place)
    train, test = cohort.take(np.arange(250)), cohort.take(np.arange(250, 400))
    with patch("dpsynth.jobs.augment.fit", side_effect=fit) as fitted:
        found = augment(train, GROUP, epsilon=1.0, model="double", test=test, amount=10)
    assert fitted.call_args.args[0].table.equals(train.table)
    assert SEEN not in found.notes
    assert found.results.one("group_auroc", arm="real only", group="all", subject="logistic regression").n == 150


def test_the_rehearsal_touches_no_real_patient(place: Path) -> None:
    """The world of the rehearsal is drawn from the model; what is fitted there has the model's epsilon and is free."""
    cohort = _cohort(place, public=False)
    model = fit(cohort, "double", epsilon=3.0)
    before = Ledger.beside(place / "ward.csv").spent().epsilon
    with patch("dpsynth.jobs.rehearse.fit", side_effect=fit) as fitted:
        choice = rehearse(model, GROUP, "died")
    world = fitted.call_args.args[0]
    assert world.synthetic
    assert fitted.call_args.kwargs["epsilon"] == 3.0
    assert Ledger.beside(place / "ward.csv").spent().epsilon == before
    assert choice.rehearsed
    assert 0 in choice.scores
    assert len(choice.scores) == 5
    assert choice.amount in choice.scores


def test_where_patients_are_noise_none_are_recommended(place: Path) -> None:
    """A model of independent columns can teach a classifier nothing: the rehearsal sees it and adds none."""
    model = fit(_cohort(place), "double", epsilon=1.0, seed=1)
    amounts = [rehearse(model, GROUP, "died", seed=seed).amount for seed in range(3)]
    assert 0 in amounts


def test_a_scarce_group_is_named(place: Path) -> None:
    """Where the model cannot tell the group from noise the notes say that its patients are guesses."""
    from dpsynth.models.conditional_draws import Support

    model = fit(_cohort(place), "double", epsilon=1.0)
    with patch.object(type(model), "support", return_value=Support(3.0, 40.0)):
        found = augment(_cohort(place), GROUP, model=model, amount=5)
    assert any("guessed from other patients" in note for note in found.notes)
    assert found.to_dict()["support"] == {"rows": 3.0, "noise": 40.0}


BAD: list[tuple[dict[str, Any], str]] = [
    ({"epsilon": None}, "epsilon"),
    ({"group": {"sexx": "male"}}, "did you mean 'sex'"),
    ({"group": {"sex": "other"}}, "no such category"),
    ({"group": {"died": 1}}, "other than the target"),
    ({"group": {}}, "expected a condition"),
    ({"target": "age"}, "two outcomes"),
    ({"target": "agee"}, "agee"),
    ({"amount": 0}, "amount"),
    ({"group": {"age": {"min": 18}}}, "all or none"),
]


@pytest.mark.parametrize(("given", "words"), BAD, ids=[words for _, words in BAD])
def test_what_cannot_be_is_refused_before_the_fit(place: Path, given: dict[str, Any], words: str) -> None:
    """Bad arguments end with words, and nothing is fitted."""
    asked: dict[str, Any] = {"group": GROUP, "epsilon": 1.0, "model": "double", **given}
    with patch("dpsynth.jobs.augment.fit") as fitted, pytest.raises(InputError, match=words):
        augment(_cohort(place), asked.pop("group"), **asked)
    assert fitted.call_count == 0


@pytest.mark.parametrize("given", ["name", "maker", "model"])
def test_what_a_rehearsal_cannot_fit_again_is_refused_before_a_fit(place: Path, given: str) -> None:
    """A statement names no folder, so a model that needs one is not rehearsed: refused before anything is spent."""
    pytest.importorskip("torch", reason="diffusion needs the extra [deep]")
    from dpsynth.models.image.diffusion import Diffusion

    facts = {"autoencoder": "vae", "declaration": "public pictures"}
    fitted = fit(_cohort(place), "double", epsilon=1.0)
    fitted.statement["model"] = {"name": "diffusion", "options": Diffusion(**facts).options()}
    model = {"name": "diffusion", "maker": Diffusion(**facts), "model": fitted}[given]
    more = facts if given == "name" else {}
    with (
        patch("dpsynth.jobs.augment.synthesizer", return_value=Diffusion),
        patch("dpsynth.jobs.augment.fit") as again,
        patch("dpsynth.jobs.rehearse.fit") as rehearsed,
        pytest.raises(InputError, match=r"amount: is needed, .* where autoencoder lies"),
    ):
        augment(_cohort(place), GROUP, target="died", model=model, epsilon=1.0, **more)
    assert again.call_count == rehearsed.call_count == 0


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((), "--model-folder"),
        (("-e", 1, "--model-folder", "m"), "--model-folder"),
        (("--model-folder", "m", "--model", "double"), "belongs to a fit"),
        (("--model-folder", "m", "--label", "pilot"), "--label: belongs to a fit"),
    ],
)
def test_a_budget_or_a_model(place: Path, args: tuple[Any, ...], words: str) -> None:
    """Exactly one of the two is given, and options of a fit go with a fit."""
    done = _run(*COMMAND, *args)
    assert done.exit_code == 2
    assert words in done.output


def _draws(place: Path, *, planted: bool = False) -> tuple[list[int], list[int], int]:
    """Return how many rows are drawn for a table, for it with one patient more, and how many the model has."""
    cohort = _cohort(place)
    train, test = cohort.take(np.arange(250)), cohort.take(np.arange(250, 400))
    model = fit(train, "double", epsilon=1.0, seed=1)
    drawn: list[list[int]] = []
    for neighbour in (train, cohort.take(np.arange(251))):
        with (
            patch("dpsynth.evaluation.metrics.augmentation.augmentation"),
            patch.object(type(model), "sample", autospec=True, side_effect=type(model).sample) as sample,
            patch("dpsynth.jobs.rehearse._rows", return_value=len(neighbour)) if planted else nullcontext(),
        ):
            augment(neighbour, GROUP, model=model, test=test, amount=10)
        drawn.append([call.args[1] for call in sample.call_args_list])
    return drawn[0], drawn[1], model.rows


def test_arms_of_synthetic_patients_have_the_models_number_of_rows(place: Path) -> None:
    """With one patient more, and the same noisy answers, no draw from the model changes in number."""
    one, other, rows = _draws(place)
    assert one == other
    assert rows in one


def test_a_private_number_of_rows_is_seen(place: Path) -> None:
    """A planted leak: arms as long as the table differ between neighbours."""
    one, other, _ = _draws(place, planted=True)
    assert one != other
