"""The direct baseline for images: features, budget, forms and the tape; what it is worth stands in the benchmarks."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from image_cases import DELTA, SIZES, scans, schema
from privacy.helpers import Tape

from dpsynth.coding.codec import Codec
from dpsynth.errors import InputError
from dpsynth.models.image import linear
from dpsynth.models.image.batch_reading import Reading
from dpsynth.models.image.classifier import Kind, convolutions, fit_image_classifier
from dpsynth.models.image.conditions import Conditions
from dpsynth.models.image.energies import Energies, wavelets, windows
from dpsynth.models.image.linear import ImageLikelihood, Whitened
from dpsynth.privacy.session import Session
from dpsynth.privacy.training.dpsgd import check_on_made_up
from dpsynth.privacy.training.per_patient import by_layer, vmapped

KINDS: tuple[Kind, ...] = ("linear", "cnn")
FORMS = tuple(SIZES)
FEW: dict[str, Any] = {"steps": 4, "sampling_rate": 0.1}


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whiten on few made images."""
    monkeypatch.setattr(linear, "MADE", 60)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_form_gives_probabilities_and_spends_the_budget(kind: Kind, form: str) -> None:
    """One row of probabilities an image; the statement has the whole epsilon and the training as planned."""
    cohort = scans(form)
    found = fit_image_classifier(cohort, epsilon=1.0, delta=DELTA, kind=kind, seed=1, **FEW)
    chances = found.predict_proba(cohort)
    assert cohort.images is not None
    assert chances.shape == (len(cohort.images), 3)
    assert np.allclose(chances.sum(1), 1)
    assert found.classes == ("a", "b", "c") or list(found.classes) == ["a", "b", "c"]
    assert (found.statement["epsilon"], found.statement["delta"]) == (1.0, DELTA)
    (step,) = [event for event in found.statement["events"] if event["kind"] == "sampled_gaussian"]
    assert (step["count"], step["sampling_rate"]) == (4, 0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_with_next_to_no_noise_it_learns(kind: Kind) -> None:
    """At epsilon 20 a classifier of 1,500 patients tells three patterns, eight in ten; chance is one half."""
    cohort = scans(patients=1500)
    found = fit_image_classifier(cohort, epsilon=20.0, delta=DELTA, kind=kind, seed=1, steps=20, sampling_rate=0.2)
    assert cohort.images is not None
    labels = np.asarray(cohort.to_pandas()["label"])[cohort.images.row]
    right = np.asarray(found.classes)[found.predict_proba(cohort).argmax(1)] == labels
    assert right.mean() > 0.8


@pytest.mark.parametrize("kind", KINDS)
def test_a_tape_gives_the_same_classifier_for_neighbours(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    """With every answer from a tape, probabilities and statement are the same whoever the patients are."""
    opened = Session.open
    monkeypatch.setattr(Session, "open", lambda *args, **facts: opened(*args, **{**facts, "answers": Tape()}))
    questions = scans(seed=9).images
    assert questions is not None
    found = [
        fit_image_classifier(cohort, epsilon=1.0, delta=DELTA, kind=kind, **FEW)
        for cohort in (scans(), scans(extra=1), scans(patients=3, seed=5))
    ]
    first = found[0].predict_proba(questions.pixels)
    for other in found[1:]:
        assert np.array_equal(first, other.predict_proba(questions.pixels))
        assert other.statement == found[0].statement


@pytest.mark.parametrize("form", FORMS)
def test_gradients_are_right(form: str) -> None:
    """Per-patient gradients of both kinds equal plain ones; the kernel's own check says so for every form."""
    made = schema(form)
    codec, declared = Codec(made), made.images
    assert declared is not None
    reading = Reading.of(codec, Conditions.of(codec, ("label",)))
    width = Energies()(torch.zeros(1, *declared.shape)).shape[1]
    whitened = Whitened(Energies(), torch.zeros(width), torch.eye(width)[:, :8], 3)
    shape = {
        "records": 2,
        "columns": [code.size for code in codec.columns.values()],
        "images": declared.shape,
        "pixels": declared.dtype,
    }
    check_on_made_up(ImageLikelihood(whitened, reading, 3), by_layer, shape)
    check_on_made_up(ImageLikelihood(convolutions(declared.shape, 3), reading, 3), vmapped, shape)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 9, 6), (1, 8, 7, 5), (2, 1, 3)])
def test_energies_are_of_length_one_and_by_image(shape: tuple[int, ...]) -> None:
    """Features have norm 1 and are, up to rounding, the same whatever image stands beside."""
    x = torch.rand(4, *shape, generator=torch.Generator().manual_seed(0))
    found = Energies()(x)
    assert torch.allclose(found.norm(dim=1), torch.ones(4), atol=1e-5)
    assert torch.allclose(Energies()(x[2:3]), found[2:3], atol=1e-5)


def test_wavelets_see_their_direction() -> None:
    """A grating excites the wavelet across it most, and no wavelet sees a constant image."""
    bank = wavelets(13, 1.92, 0.375 * np.pi)
    assert float(bank.sum((2, 3)).abs().max()) < 1e-6
    across = torch.arange(13) - 6.0
    grating = torch.cos(0.375 * np.pi * across).expand(13, 13)
    answers = (bank[:, 0] * grating).sum((1, 2)).reshape(-1, 2).square().sum(1)
    assert int(answers.argmax()) == 0
    assert int((bank[:, 0] * grating.T).sum((1, 2)).reshape(-1, 2).square().sum(1).argmax()) == 4


@pytest.mark.parametrize(("side", "grid"), [(28, 7), (5, 7), (13, 4), (1, 7)])
def test_windows_average(side: int, grid: int) -> None:
    """Each window's weights sum to 1, so a constant stays what it is; there are never more windows than pixels."""
    found = windows(side, grid)
    assert found.shape == (min(side, grid), side)
    assert torch.allclose(found.sum(1), torch.ones(len(found), dtype=torch.float64))
    assert float(found.min()) >= 0


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "an unknown kind": (lambda: fit_image_classifier(scans(), epsilon=1, delta=DELTA, kind="deep"), "kind: found"),  # type: ignore[arg-type]
    "a target that is no column": (lambda: fit_image_classifier(scans(), "ghost", epsilon=1, delta=DELTA), "ghost"),
    "a table": (
        lambda: fit_image_classifier(replace(scans(), images=None), epsilon=1, delta=DELTA),
        "images: the cohort has none",
    ),
    "no target": (lambda: fit_image_classifier(scans(target=None), epsilon=1, delta=DELTA), "target: there is none"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case: str) -> None:
    """What cannot be learned is refused with its name, before anything is asked."""
    call, words = REFUSED[case]
    with pytest.raises(InputError, match=words):
        call()


def test_other_images_are_refused() -> None:
    """Images that are not as declared are refused with both forms in the message; none give no probabilities."""
    cohort = scans()
    found = fit_image_classifier(cohort, epsilon=1.0, delta=DELTA, kind="cnn", seed=1, **FEW)
    with pytest.raises(InputError, match=r"float64 of shape \(1, 8, 8\), expected uint8"):
        found.predict_proba(np.zeros((2, 1, 8, 8)))
    assert found.predict_proba(np.zeros((0, 1, 8, 8), np.uint8)).shape == (0, 3)
