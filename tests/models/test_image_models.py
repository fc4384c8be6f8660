"""Image models: budget, events, conditions, forms, files and the tape; what they are worth stands in the benchmarks."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from image_cases import DELTA, MAKERS, NETWORKS, SIZES, SMALL, fitted, scans, schema
from privacy.helpers import Tape
from spoiling import Harm, refused

from dpsynth.coding.codec import Codec
from dpsynth.cohort import Cohort
from dpsynth.errors import InputError
from dpsynth.files.image_set import ImageSet
from dpsynth.models import Model, load_model, make
from dpsynth.models.image.batch_reading import Reading
from dpsynth.models.image.conditions import Conditions
from dpsynth.models.image.gan import SPECTRAL, GeneratedImages, ImageCritic, limit_weights
from dpsynth.models.image.generators import Growing, NetworkGenerator, fresh
from dpsynth.models.image.mean_embedding import (
    EACH,
    Embedding,
    EmbeddingDistance,
    MeanEmbedding,
    fit,
    random_frequencies,
)
from dpsynth.models.image.synthesizer import ImageTask
from dpsynth.models.weight_average import Average
from dpsynth.privacy.spending.accounting import epsilon_of
from dpsynth.privacy.spending.budget import Budget
from dpsynth.privacy.spending.ledger import Ledger
from dpsynth.privacy.training.dpsgd import check_on_made_up
from dpsynth.privacy.training.per_patient import vmapped
from dpsynth.schema import Schema

NAMES = tuple(MAKERS)
FORMS = tuple(SIZES)


@pytest.fixture(scope="module", params=NAMES)
def model(request: pytest.FixtureRequest) -> Model:
    """Return each model of grey pictures."""
    found: Model = fitted(request.param, scans(), 3.0)[1]
    return found


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", NAMES)
def test_every_form_spends_the_budget_and_gives_what_is_declared(name: str, form: str) -> None:
    """Pictures, colours and volumes: the whole epsilon and no more; images of the declared type, form and range."""
    cohort = scans(form)
    session, found = fitted(name, cohort)
    assert 0.97 <= epsilon_of(session.events, DELTA, session.accounting) <= 1 + 1e-9
    drawn = found.sample(50, seed=0)
    assert drawn.images.pixels.shape[1:] == cohort.images.pixels.shape[1:]
    assert drawn.images.pixels.dtype == cohort.images.pixels.dtype
    low, high = cohort.schema.images.range
    assert drawn.images.pixels.min() >= low
    assert drawn.images.pixels.max() <= high
    assert np.bincount(drawn.images.row).max() <= 2


def test_the_embedding_is_two_questions() -> None:
    """A mean embedding asks for the table, the numbers of images, one count and one sum; nothing is trained."""
    session, _ = fitted("mean-embedding", scans())
    asked = [event.what for event in session.events]
    assert sum("image sums" in what for what in asked) == 2  # counts are sums of the feature that is 1
    assert {event.kind for event in session.events} == {"gaussian"}


def test_the_training_is_in_the_statement() -> None:
    """A GAN's statement holds its steps, their rate and their noise as planned, and the questions of its warm start."""
    session, found = fitted("gan", scans())
    plan = MAKERS["gan"]().training(session.schema, session.budget)
    (step,) = [event for event in found.statement["events"] if event["kind"] == "sampled_gaussian"]
    assert (step["count"], step["sampling_rate"]) == (4, 0.1)
    assert plan is not None
    assert step["scale"] == plan.noise_multiplier * plan.clipping_norm
    assert any("image sums" in event["what"] for event in found.statement["events"])


@pytest.mark.parametrize("name", ["gan", "diffusion"])
def test_a_discovered_column_may_stand_first(name: str) -> None:
    """A training reads the conditions where the model has them, also behind a column with more values."""
    columns = {
        "site": {"type": "categorical", "discover": True, "max_values": 5},
        **schema("grey").model_dump(mode="json", exclude_unset=True)["columns"],
    }
    cohort = scans(patients=500, columns=columns, more={"site": list("abcde") * 100})
    _, model = fitted(name, cohort, 50.0)
    assert model.codec.discovered == {"site": tuple("abcde")}
    assert model.conditions.columns == ("label", "sex")
    assert len(model.sample(20, seed=0)) == 20


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("rows", [1, 10**6])
def test_plans(name: str, rows: int) -> None:
    """A plan has finite numbers and names what is asked."""
    plan = MAKERS[name]().plan(schema("grey"), Budget(1.0, DELTA), rows)
    assert all(np.isfinite(item.sigma) and item.sigma > 0 for item in plan.items)
    assert any("features" in item.what for item in plan.items)
    assert any("gradients" in item.what for item in plan.items) == (name == "gan")


def test_conditions_reach_the_images() -> None:
    """With next to no noise, a generator draws dark images for the dark label and bright ones for the bright."""
    made = MeanEmbedding(features=200, steps=250, hidden=32, width=8, latent=4)
    _, found = fitted(made, scans(patients=2000), 100.0)
    means = [found.sample(60, where={"label": label}, seed=0).images.pixels.mean() for label in "abc"]
    assert means[0] < 0.25 * 255 < 0.4 * 255 < means[1] < 0.6 * 255 < means[2]


def test_conditions_may_be_none_or_named() -> None:
    """Other columns condition the images as named; their codes are embedded, one table a column."""
    _, found = fitted(MeanEmbedding(conditions="sex", features=40, steps=2, **SMALL), scans())
    assert found.conditions.columns == ("sex",)
    assert [table.num_embeddings for table in found.generator.network.given] == [found.codec.columns["sex"].size]


def test_more_combinations_than_a_step_has() -> None:
    """Where not every combination is in a step, they are drawn by their shares: the expected gradient is the same."""
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.ones(24))
    paid = Embedding(random_frequencies((1, 8, 8), 8), rng.normal(0, 0.1, (24, 16)), shares, 100.0)
    distance, generator = EmbeddingDistance(paid), torch.Generator().manual_seed(0)
    drawn = torch.cat([distance.cells(generator) for _ in range(5_000)])
    found = np.bincount(drawn.numpy(), minlength=24) / len(drawn)
    assert np.abs(found - shares).max() < 5 * np.sqrt(0.25 / len(drawn))


def test_the_distance_is_unbiased() -> None:
    """The estimate from few images has, over many draws, the distance of the true mean; 40 images bias it not at all.

    Images are uniform noise, whose mean features are found from 40,000 more. The bound is 6 standard errors.
    """
    rng = torch.Generator().manual_seed(0)
    frequencies = random_frequencies((1, 8, 8), 20)
    truth = torch.rand(40_000, 64, generator=rng) @ torch.from_numpy(frequencies).float().T
    mean = torch.cat([truth.cos(), truth.sin()], 1).mean(0) / np.sqrt(20)
    paid = Embedding(frequencies, np.zeros((1, 40)), np.ones(1), 1.0)
    distance = EmbeddingDistance(paid)
    found = [
        float(distance(torch.rand(EACH, 1, 8, 8, generator=rng), torch.zeros(1, dtype=torch.int64))) for _ in range(500)
    ]
    assert abs(np.mean(found) - float(mean.square().sum())) < 6 * np.std(found) / np.sqrt(500) + 2e-4


@pytest.mark.parametrize("form", FORMS)
def test_a_generator_treats_images_apart(form: str) -> None:
    """An image is the same whatever is drawn beside it: norms are by image."""
    declared = schema(form).images
    assert declared is not None
    network = fresh(declared.shape, (3, 2), hidden=16, width=8, latent=4)
    latent, codes = torch.randn(5, 4), torch.tensor([[0, 1], [2, 0], [1, 1], [0, 0], [2, 1]])
    together = network(latent, codes)
    alone = torch.cat([network(latent[i : i + 1], codes[i : i + 1]) for i in range(5)])
    assert together.shape == (5, *declared.shape)
    assert torch.allclose(together, alone, atol=1e-6)


def test_embeddings_are_added() -> None:
    """What a column's code adds to the hidden layer is the same beside every code of the other column."""
    network = fresh((1, 8, 8), (3, 2), hidden=16, width=8, latent=4)
    seen: list[torch.Tensor] = []
    network.body.register_forward_pre_hook(lambda _layer, inputs: seen.append(inputs[0]))
    codes = torch.tensor([[i, j] for i in range(3) for j in range(2)])
    network(torch.zeros(6, 4), codes)
    table = seen[0].reshape(3, 2, -1)
    assert torch.allclose(table[1, 0] - table[0, 0], table[1, 1] - table[0, 1], atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_gradients_of_the_critic_are_right(form: str) -> None:
    """Per-patient gradients of the discriminator equal plain ones; the kernel's own check says so for every form."""
    made = schema(form)
    codec = Codec(made)
    conditions = Conditions.of(codec, ("label", "sex"))
    declared = made.images
    assert declared is not None
    known = ImageTask(conditions, declared.shape)
    paid = Embedding(np.zeros((1, 1)), np.zeros((1, 1)), np.full(conditions.cells, 1 / conditions.cells), 1.0)
    network = fresh(declared.shape, conditions.sizes, hidden=16, width=8, latent=4)
    critic = ImageCritic(known, GeneratedImages(network, known, paid), Reading.of(codec, conditions), 4)
    shape = {
        "records": 2,
        "columns": [code.size for code in codec.columns.values()],
        "images": declared.shape,
        "pixels": declared.dtype,
    }
    check_on_made_up(critic, vmapped, shape)


@pytest.mark.parametrize("pixels", [torch.arange(256, dtype=torch.uint8), torch.linspace(-1500, 1500, 31)])
def test_both_scales_are_one_reading(pixels: torch.Tensor) -> None:
    """Pixels in [-1, 1] are those in [0, 1], doubled and moved; beyond the range is its end, no number the low one."""
    whole = pixels.dtype == torch.uint8
    reading = Reading((), *((0.0, 255.0) if whole else (-1000.0, 1000.0)))
    batch = {"images": pixels if whole else torch.cat([pixels, torch.tensor([torch.nan, torch.inf])])}
    unit, centred = reading.images(batch), reading.centred(batch)
    torch.testing.assert_close(centred, 2 * unit - 1, atol=1e-6, rtol=0)
    assert (unit.min(), unit.max(), centred.min(), centred.max()) == (0, 1, -1, 1)
    assert whole or (centred[-2:].tolist() == [-1, 1] and unit[-2:].tolist() == [0, 1])


def test_weights_are_held_to_their_limit() -> None:
    """A weight with a large spectral norm is scaled down to the limit; one within it stays to the last bit."""
    network = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Conv2d(2, 3, 3))
    small = network[1].weight.detach().clone() / 10
    with torch.no_grad():
        network[0].weight.mul_(100)
        network[1].weight.copy_(small)
    limit_weights(network)
    assert float(torch.linalg.matrix_norm(network[0].weight.detach(), 2)) == pytest.approx(SPECTRAL, rel=1e-4)
    assert torch.equal(network[1].weight, small)


def test_the_average_is_between_first_and_last() -> None:
    """A running average lies between what weights were and are, nearer to the last."""
    network = torch.nn.Linear(1, 1)
    with torch.no_grad():
        network.weight.fill_(0.0)
    average = Average(network, 0.5)
    with torch.no_grad():
        network.weight.fill_(1.0)
    for _ in range(3):
        average.update()
    average.finish()
    assert 0.5 < network.weight.item() <= 1.0


@pytest.mark.parametrize("name", NAMES)
def test_a_seeded_fit_is_repeatable(name: str) -> None:
    """In test mode the same seed gives the same model to the last bit, whatever torch drew before; another does not."""
    found = []
    for seed in (7, 7, 8):
        torch.manual_seed(len(found))
        found.append(fitted(name, scans(), seed=seed)[1].to_parts()[1])
    assert all(found[0][key].tobytes() == found[1][key].tobytes() for key in found[0])
    assert any(found[0][key].tobytes() != found[2][key].tobytes() for key in found[0])


NEIGHBOURS: dict[str, Callable[[], Any]] = {
    "one patient more, with white images": lambda: scans(extra=1),
    "one patient less": lambda: scans().take(np.arange(199)),
    "other patients": lambda: scans(seed=5),
    "few patients": lambda: scans(patients=3),
}


@pytest.mark.parametrize("case", NEIGHBOURS)
@pytest.mark.parametrize("name", NAMES)
def test_a_tape_gives_the_same_model_for_neighbours(name: str, case: str, tmp_path: Path) -> None:
    """With every answer from a tape, each file of the model is byte for byte the same whoever the patients are."""
    for place, cohort in (("a", scans()), ("b", NEIGHBOURS[case]())):
        fitted(name, cohort, seed=None, answers=Tape())[1].save(tmp_path / place)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file


def test_the_file_gives_the_same_images(model: Model, tmp_path: Path) -> None:
    """A model that was saved and loaded draws the same rows and images from the same seed, free and conditioned."""
    model.save(tmp_path / "model")
    again = load_model(tmp_path / "model")
    for where in (None, {"sex": "male", "label": "b"}):
        first, second = (one.sample(40, where=where, scarce=True, seed=5) for one in (model, again))
        assert first.table.equals(second.table)
        assert first.images is not None
        assert second.images is not None
        assert np.array_equal(first.images.pixels, second.images.pixels)
    assert (again.rows, again.statement) == (model.rows, model.statement)


def _first_generator_array(arrays: dict[str, Any]) -> str:
    return next(name for name in sorted(arrays) if name.startswith("generator:"))


SPOILED: dict[str, Harm] = {
    "no weights": lambda _c, arrays: arrays.pop(_first_generator_array(arrays)),
    "weights of another shape": lambda _c, arrays: arrays.update({_first_generator_array(arrays): np.ones((1, 7))}),
    "weights that are no numbers": lambda _c, arrays: arrays[_first_generator_array(arrays)].fill(np.nan),
    "numbers of images that are no chances": lambda _c, arrays: arrays["numbers"].fill(0.9),
    "no generator": lambda config, _a: config.pop("generator"),
    "a generator that is text": lambda config, _a: config.update(generator="x"),
    "a huge generator": lambda config, _a: config["generator"].update(dict.fromkeys(config["generator"], 10**9)),
    "an empty generator": lambda config, _a: config["generator"].update(dict.fromkeys(config["generator"], 0)),
    "a condition that is no column": lambda config, _a: config.update(conditions=["ghost"]),
    "fewer conditions": lambda config, _a: config.update(conditions=[]),
}


@pytest.mark.parametrize("fault", SPOILED)
def test_malformed_files_are_refused(model: Model, fault: str, tmp_path: Path) -> None:
    """A file whose parts do not fit together ends in an error of the file, not in odd images or a crash."""
    assert "model" in refused(model, SPOILED[fault], tmp_path / "model")


def test_a_generators_sizes_take_no_memory_before_its_weights_are_there() -> None:
    """Sizes of a file that would fill the memory are refused for lack of weights, without a network being made."""
    conditions = Conditions(("label",), (3,))
    with pytest.raises((KeyError, ValueError)):
        NetworkGenerator.from_parts((1, 512, 512, 512), conditions, {"latent": 4, "hidden": 1024, "width": 1024}, {})


def test_drawing_nothing() -> None:
    """No codes give no images."""
    generator = NetworkGenerator(fresh((1, 8, 8), (3,), hidden=16, width=8, latent=4))
    assert generator.draw(np.zeros((0, 1), np.int64), np.random.default_rng(0)).shape == (0, 1, 8, 8)


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("gan", {"features": 2}, "features: found 2"),
        ("mean-embedding", {"features": 7}, "features: found 7"),
        ("mean-embedding", {"steps": 0}, "steps: found 0"),
        ("gan", {"critic_steps": 0}, "gan: expected"),
        ("gan", {"channels": 6}, "channels"),
    ],
)
def test_options_out_of_range(name: str, options: dict[str, Any], match: str) -> None:
    """The message says what was found and what was expected."""
    with pytest.raises(InputError, match=match):
        make(name, **options)


def test_the_generator_may_be_scarce() -> None:
    """A combination without any patient has images too: those of its parts."""
    conditions = Conditions(("label", "sex"), (3, 2))
    network = Growing((1, 8, 8), conditions.sizes, hidden=16, width=8, latent=4)
    shares = np.array([0.5, 0.5, 0, 0, 0, 0]) + 1e-9
    paid = Embedding(random_frequencies((1, 8, 8), 8), np.zeros((6, 16)), shares / shares.sum(), 100.0)
    fit(network, conditions, paid, 2, lambda _phase, _share: None)
    drawn = NetworkGenerator(network).draw(conditions.every(), np.random.default_rng(0))
    assert np.isfinite(drawn).all()


def _ninety_images(*, of_three: bool) -> Cohort:
    """Return 90 images of as many patients, or of 30 patients with three rows each."""
    columns: dict[str, Any] = {"label": {"type": "categorical", "values": ["a", "b"]}}
    facts: dict[str, Any] = {"name": "scans", "confirmed": True, "target": "label", "images": {"size": [8, 8]}}
    frame = pd.DataFrame({"label": ["a", "b"] * 45})
    if of_three:
        columns["id"] = {"type": "identifier"}
        facts |= {"patient": "id", "max_rows_per_patient": 3}
        frame["id"] = [f"p{row // 3}" for row in range(90)]
    table = Cohort.from_pandas(frame, Schema.parse({**facts, "columns": columns}), public=True)
    return replace(table, images=ImageSet(np.full((90, 1, 8, 8), 7, np.uint8), np.arange(90, dtype=np.int64)))


def test_the_ledger_counts_patients_not_images(tmp_path: Path) -> None:
    """Three rows a patient: counts get three times the noise; sums of images, means within a patient, get the same."""
    runs = {}
    for of_three in (False, True):
        book = Ledger(tmp_path / f"{of_three}.jsonl")
        fitted("moments", replace(_ninety_images(of_three=of_three), public=False), seed=None, ledger=book)
        runs[of_three] = {event.what: event for event in book.runs()[0].events or ()}
    images, patients = runs[False], runs[True]
    assert images.keys() == patients.keys()
    for what, event in patients.items():
        factor = 1 if what.startswith("image") else 3
        assert event.sensitivity == factor
        assert event.scale == pytest.approx(factor * images[what].scale)
