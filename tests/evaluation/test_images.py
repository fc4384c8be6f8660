"""Evaluation of images: learners, distances, consistency with the table, grids of samples, disclosure, the page."""

import base64
import io
import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from dpsynth.cli.app import app
from dpsynth.cohort import Cohort
from dpsynth.evaluation import Disclosure, Evaluation, Status, describe, evaluate
from dpsynth.evaluation.arrays.groups import grouping
from dpsynth.evaluation.arrays.table import tables
from dpsynth.evaluation.images import features
from dpsynth.evaluation.images.distances import ENCODER, RANDOM
from dpsynth.evaluation.images.gallery import Gallery
from dpsynth.evaluation.images.pictures import Pictures, pictures
from dpsynth.evaluation.images.samples import png, sample_results
from dpsynth.evaluation.images.utility import OVERALL, learned_results
from dpsynth.evaluation.learners.image import CNN, MLP, fit_cnn
from dpsynth.evaluation.learners.lesson import Lesson, unit
from dpsynth.evaluation.learners.perceptrons import fit_mlp
from dpsynth.evaluation.learners.tabular import task_of
from dpsynth.evaluation.protocol import Protocol
from dpsynth.evaluation.report.verdicts import verdicts
from dpsynth.evaluation.results import Results
from dpsynth.evaluation.statistics.jackknife import GROUPS, groups_of
from dpsynth.files.image_set import ImageSet
from dpsynth.schema import Schema

from .test_report import Page

torch = pytest.importorskip("torch")

TEXT = """
name: scans
confirmed: true
target: finding
subgroups: [sex]
columns:
  sex: {type: categorical, values: [f, m]}
  finding: {type: categorical, values: [none, nodule, mass]}
images: {size: [8, 8], max_per_patient: 2}
"""
SCHEMA = Schema.parse(TEXT)
CORNERS = ((0, 0), (0, 4), (4, 0))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def scans(
    rows: int,
    seed: int,
    *,
    noise: float = 40.0,
    shuffled: bool = False,
    twice: bool = False,
    women: int | None = None,
    **facts: Any,
) -> Cohort:
    """Return patients whose finding is the bright corner of their image; `shuffled`: findings are dealt out anew."""
    rng = np.random.default_rng(seed)
    finding = rng.integers(3, size=rows)
    row = np.repeat(np.arange(rows), 2 if twice else 1)
    pixels = rng.normal(60, noise, (len(row), 1, 8, 8))
    for corner, (top, left) in enumerate(CORNERS):
        pixels[finding[row] == corner, :, top : top + 4, left : left + 4] += 120
    said = rng.permutation(finding) if shuffled else finding
    sex = np.where(np.arange(rows) < women, "f", "m") if women is not None else rng.choice(["f", "m"], rows)
    names = np.array(["none", "nodule", "mass"])
    table = Cohort.from_pandas(pd.DataFrame({"sex": sex, "finding": names[said]}), SCHEMA, **facts)
    return replace(table, images=ImageSet(np.clip(pixels, 0, 255).astype(np.uint8), row.astype(np.int64)))


@pytest.fixture(scope="module")
def judged() -> Evaluation:
    """Return the evaluation of a cohort of private patients that lacks half of what images show."""
    return evaluate(scans(150, 1), scans(160, 2, noise=90, synthetic=True), real_train=scans(150, 3, twice=True))


def gallery_of(test: Cohort, train: Cohort, synthetic: Cohort, **terms: Any) -> Gallery:
    """Return the images of an evaluation."""
    cohorts = {"test": test, "train": train, "synthetic": synthetic}
    found = tables(cohorts)
    shown = {name: pictures(cohort, found[name]) for name, cohort in cohorts.items()}
    kept = {name: one for name, one in shown.items() if one is not None}
    task = task_of(found["test"], "finding")
    drawn = {"synthetic": [kept["synthetic"]]}
    return Gallery(kept["test"], kept["train"], drawn, task, Protocol(**terms), lambda _phase, _share: None)


class Brightness:
    """A learner that was trained on nothing: the brighter corner is the finding."""

    def __init__(self, lesson: Lesson, seed: int) -> None:
        self.lesson, self.seed = lesson, seed

    def scores(self, pixels: NDArray[Any]) -> list[NDArray[np.float64]]:
        """Return shares of brightness."""
        sums = [pixels[:, :, t : t + 4, s : s + 4].astype(float).sum(axis=(1, 2, 3)) ** 8 for t, s in CORNERS]
        found = np.stack(sums, axis=1)
        return [found / found.sum(axis=1, keepdims=True)]


def test_what_an_evaluation_of_images_holds(judged: Evaluation) -> None:
    """Every metric of images is there with a number, for both learners and for each extractor."""
    found = judged.results.select(section="images")
    assert all(result.ok for result in found)
    assert {result.subject for result in found.select(OVERALL)} == {CNN, MLP}
    wanted = {"fid", "kid", "mmd", "image_precision", "image_recall", "image_density", "image_coverage"}
    wanted |= {"image_consistency", "image_samples", "class_recall", "class_auroc", "class_recall_change", *OVERALL}
    wanted |= {f"{metric}_change" for metric in OVERALL}
    assert wanted <= {result.metric for result in found}
    assert {result.group for result in found.select("image_accuracy")} == {"all", "sex=f", "sex=m"}
    assert {result.group for result in found.select("class_recall")} == {
        f"finding={name}" for name in ("none", "nodule", "mass")
    }


def test_arms_have_the_same_number_of_images(judged: Evaluation) -> None:
    """The larger cohort is cut, by patient, to about the size of the smaller one."""
    trained = {
        result.arm: result.detail["trained_images"] for result in judged.results.select("image_accuracy", group="all")
    }
    assert trained == {"real": 160, "synthetic": 160}


def test_what_can_be_seen_is_learned(judged: Evaluation) -> None:
    """Both learners find a bright corner, and learn less from noisier images."""
    for learner in (CNN, MLP):
        assert judged.results.one("image_accuracy", arm="real", group="all", subject=learner).number > 0.9
    distance = {result.arm: result.number for result in judged.results.select("fid", subject=ENCODER)}
    assert distance["synthetic"] > 3 * distance["real"]


@pytest.mark.parametrize(("shape", "dtype"), [((1, 8, 8), "uint8"), ((3, 9, 5), "float32"), ((1, 6, 8, 7), "uint8")])
def test_the_network_adapts_to_size_channels_and_volumes(shape: tuple[int, ...], dtype: str) -> None:
    """Grey, colour and volumes are learned; a head that has no code known learns nothing and disturbs nothing."""
    rng = np.random.default_rng(0)
    codes = rng.integers(2, size=120)
    pixels = rng.uniform(0, 60, (120, *shape))
    pixels[codes == 1, :, : shape[1] // 2] += 120
    lesson = Lesson(pixels.astype(dtype), (0, 255), np.stack([codes, np.full(120, -1)], axis=1), (2, 3))
    network = fit_cnn(lesson, 0)
    first, second = network.scores(lesson.pixels)
    assert (first.argmax(axis=1) == codes).mean() > 0.95
    assert second.shape == (120, 3)
    np.testing.assert_allclose(second.sum(axis=1), 1)
    assert network.features(lesson.pixels).shape == (120, 128)


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (28, 28), (64, 64), (5, 28, 28)])
def test_the_network_is_there_for_every_size(size: tuple[int, ...]) -> None:
    """From one pixel on; the encoder has 128 features and as many weights as a small network has."""
    from dpsynth.evaluation.learners.image import small_cnn

    net = small_cnn(2, size, 4).eval()
    assert net(torch.zeros(2, 2, *size)).shape == (2, 4)
    assert sum(weights.numel() for weights in net.parameters()) < 1_000_000
    if size == (28, 28):
        kinds = [type(layer).__name__ for layer in net[0]]
        assert kinds == [
            *["Conv2d", "BatchNorm2d", "ReLU"] * 2,
            "MaxPool2d",
            "Conv2d",
            "BatchNorm2d",
            "ReLU",
            *kinds[-3:],
        ]


def test_training_is_repeatable_and_leaves_the_random_state_alone() -> None:
    """One seed gives one network, whatever the caller drew before; the caller's next draw is as if nothing was."""
    lesson = Lesson(
        np.random.default_rng(0).integers(0, 255, (40, 1, 8, 8)).astype(np.uint8),
        (0, 255),
        np.arange(40)[:, None] % 2,
        (2,),
    )
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    one = fit_cnn(lesson, 3).features(lesson.pixels)
    assert torch.equal(torch.rand(3), expected)
    np.testing.assert_array_equal(one, fit_cnn(lesson, 3).features(lesson.pixels))
    assert not np.array_equal(one, fit_cnn(lesson, 4).features(lesson.pixels))


def test_a_perceptron_knows_classes_that_its_arm_lacks_as_impossible() -> None:
    """Probabilities have a column for every class of the schema; one that was never seen has 0."""
    rng = np.random.default_rng(0)
    lesson = Lesson(
        rng.integers(0, 255, (30, 1, 8, 8)).astype(np.uint8), (0, 255), 2 * (np.arange(30)[:, None] % 2), (3,)
    )
    scores = fit_mlp(lesson, 0).scores(lesson.pixels)[0]
    assert (scores[:, 1] == 0).all()
    np.testing.assert_allclose(scores.sum(axis=1), 1)


def test_large_images_are_made_smaller_by_means() -> None:
    """Means over blocks keep the mean of an image whose sides are multiples of the factor."""
    image = np.random.default_rng(0).uniform(0, 1, (1, 2, 128, 128)).astype(np.float32)
    found = unit(image, (0, 1))
    assert found.shape == (1, 2, 64, 64)
    np.testing.assert_allclose(found.mean(), image.mean(), rtol=1e-5)
    np.testing.assert_allclose(found[0, 0, 0, 0], image[0, 0, :2, :2].mean(), rtol=1e-5)


def test_scores_are_those_of_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accuracy, balanced accuracy and AUROC of the test images, with weights of one."""
    from sklearn.metrics import accuracy_score, balanced_accuracy_score, recall_score, roc_auc_score

    monkeypatch.setattr("dpsynth.evaluation.images.utility.image_learners", lambda: {"b": Brightness})
    monkeypatch.setattr("dpsynth.evaluation.images.gallery.image_learners", lambda: {"b": Brightness})
    gallery = gallery_of(scans(200, 1, noise=300, twice=True), scans(60, 2), scans(60, 3, synthetic=True))
    found = Results(learned_results(gallery, []))
    truth, scores = gallery.truth, gallery.fitted("b", "real")[0].scores(gallery.examined.pixels)[0]
    guesses = scores.argmax(axis=1)
    assert 0.4 < accuracy_score(truth, guesses) < 0.95
    wanted = {
        "image_accuracy": accuracy_score(truth, guesses),
        "image_balanced_accuracy": balanced_accuracy_score(truth, guesses),
        "image_auroc": roc_auc_score(truth, scores, multi_class="ovr"),
    }
    for metric, value in wanted.items():
        assert found.one(metric, arm="real", group="all").number == pytest.approx(value)
        assert found.one(f"{metric}_change", group="all").number == 0
    recalls = recall_score(truth, guesses, average=None)
    assert [result.number for result in found.select("class_recall", arm="real")] == pytest.approx(list(recalls))
    assert found.one("class_auroc", arm="real", group="finding=mass").number == pytest.approx(
        roc_auc_score(truth == 2, scores[:, 2])
    )


def test_the_bootstrap_draws_patients_with_all_their_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each image given twice to its patient moves no interval; as images of other patients it makes them narrower."""
    monkeypatch.setattr("dpsynth.evaluation.images.utility.image_learners", lambda: {"b": Brightness})
    monkeypatch.setattr("dpsynth.evaluation.images.gallery.image_learners", lambda: {"b": Brightness})
    once, other = scans(150, 1, noise=130), scans(60, 2)
    assert once.images is not None
    rows = np.repeat(np.arange(150), 2)
    twice = replace(once, images=ImageSet(once.images.pixels[rows], rows))
    widths = []
    for test in (once, twice, twice.take(rows)):
        found = Results(learned_results(gallery_of(test, other, scans(60, 3, synthetic=True)), []))
        one = found.one("image_balanced_accuracy", arm="real", group="all").interval
        assert one is not None
        widths.append(one.high - one.low)
        assert found.one("image_accuracy", arm="real", group="all").n == (300 if test.table.num_rows == 300 else 150)
    assert widths[1] == pytest.approx(widths[0], abs=1e-12)
    assert widths[2] < 0.8 * widths[0]


def test_below_ten_patients_nothing_is_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine women have no number, ten have; a class with nine patients leaves means, which say so."""
    monkeypatch.setattr("dpsynth.evaluation.images.utility.image_learners", lambda: {"b": Brightness})
    monkeypatch.setattr("dpsynth.evaluation.images.gallery.image_learners", lambda: {"b": Brightness})
    for women in (9, 10):
        gallery = gallery_of(scans(60, 1, women=women), scans(60, 2), scans(60, 3, synthetic=True))
        found = Results(learned_results(gallery, [grouping(gallery.test.table, "sex")]))
        one = found.one("image_accuracy", arm="synthetic", group="sex=f")
        assert (one.status, one.n) == (Status.OK if women == 10 else Status.NOT_ESTIMABLE, women)
        assert one.ok or one.reason == "9 patients; needs 10"
    finding = scans(80, 1).to_pandas()["finding"]
    kept = np.r_[np.flatnonzero(finding == "mass")[:9], np.flatnonzero(finding != "mass")]
    gallery = gallery_of(scans(80, 1).take(kept), scans(60, 2), scans(60, 3, synthetic=True))
    found = Results(learned_results(gallery, []))
    assert found.one("class_recall", arm="real", group="finding=mass").reason == "9 patients of this class; needs 10"
    assert "without 1 classes" in found.one("image_balanced_accuracy", arm="real", group="all").reason


def test_learners_see_their_own_arm_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is trained on one arm has seen no image of another, and none of the test patients."""
    lessons: list[Lesson] = []

    def spy(lesson: Lesson, seed: int) -> Brightness:
        lessons.append(lesson)
        return Brightness(lesson, seed)

    for module in ("utility", "gallery", "consistency"):
        monkeypatch.setattr(f"dpsynth.evaluation.images.{module}.image_learners", lambda: {CNN: spy, MLP: spy})
    cohorts = {"test": scans(60, 1), "real": scans(60, 2), "synthetic": scans(60, 3, synthetic=True)}
    evaluate(cohorts["test"], cohorts["synthetic"], real_train=cohorts["real"])
    known = {name: {one.tobytes() for one in cohort.images.pixels} for name, cohort in cohorts.items() if cohort.images}
    seen = [{one.tobytes() for one in lesson.pixels} for lesson in lessons]
    assert len(seen) == 5
    assert all(any(one <= known[arm] for arm in ("real", "synthetic")) for one in seen)
    assert not any(one & known["test"] for one in seen)


def test_without_torch_the_pixels_are_still_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network and its features say what is missing; the perceptron and random features have numbers."""
    monkeypatch.setitem(sys.modules, "torch", None)
    found = evaluate(scans(60, 1), scans(60, 2, synthetic=True), real_train=scans(60, 3)).results
    none = found.one("image_auroc", arm="synthetic", group="all", subject=CNN)
    assert none.status is Status.NOT_ESTIMABLE
    assert "needs the package torch" in none.reason
    assert found.one("image_auroc", arm="synthetic", group="all", subject=MLP).ok
    assert "needs the package torch" in found.one("fid", subject=ENCODER).reason
    assert all(result.ok for result in found.select(("fid", "kid", "mmd"), subject=RANDOM))
    assert all(result.ok for result in found.select("image_consistency"))


def test_images_that_do_not_belong_to_their_row_are_found_out() -> None:
    """With findings dealt out anew, a classifier from real images finds a third of them, else nearly all."""
    test, train = scans(150, 1), scans(150, 2)
    for shuffled in (False, True):
        found = evaluate(test, scans(150, 3, shuffled=shuffled, synthetic=True), real_train=train).results
        mine = {result.arm: result for result in found.select("image_consistency", subject="finding", group="all")}
        there = mine["trained_real_tested_synthetic"]
        assert mine["real"].number > 0.9
        assert there.detail["guessing"] == pytest.approx(1 / 3)
        assert (abs(there.number - 1 / 3) < 0.15) if shuffled else (there.number > 0.9)
        sex = found.one("image_consistency", subject="sex", group="all", arm="real")
        assert "says nothing of synthetic ones" in sex.reason
        women = found.one("image_consistency", subject="finding", group="sex=f", arm="real")
        assert women.number > 0.85


def test_frechet_distance_by_hand() -> None:
    """Of normal distributions with diagonal covariances it is a sum over axes; of others scipy's matrix root agrees."""
    from scipy.linalg import sqrtm

    means = np.array([1.0, -2.0]), np.array([3.0, 1.0])
    diagonal = np.diag([4.0, 9.0]), np.diag([1.0, 25.0])
    by_hand = 2**2 + 3**2 + (2 - 1) ** 2 + (3 - 5) ** 2
    assert features.frechet(means, diagonal) == pytest.approx(by_hand)
    rng = np.random.default_rng(0)
    one, two = (part @ part.T for part in rng.standard_normal((2, 4, 6)))
    wanted = np.trace(one + two - 2 * np.real(sqrtm(one @ two)))
    assert features.frechet((np.zeros(4), np.zeros(4)), (one, two)) == pytest.approx(wanted)


def clouds(rows: int = 30, width: int = 4) -> tuple[features.Cloud, features.Cloud]:
    """Return two sets of points of patients who have two each."""
    rng = np.random.default_rng(0)
    left, right = rng.standard_normal((rows, width)), 0.5 + 1.5 * rng.standard_normal((rows, width))
    return features.Cloud(left, np.arange(rows) // 2), features.Cloud(right, np.arange(rows) // 2)


def test_fid_is_that_of_fitted_normal_distributions() -> None:
    """Means and unbiased covariances by numpy; the variance is that of leaving each group of patients out in turn."""
    left, right = clouds()

    def direct(one: NDArray[Any], two: NDArray[Any]) -> float:
        return features.frechet((one.mean(axis=0), two.mean(axis=0)), (np.cov(one.T), np.cov(two.T)))

    value, spread = features.jackknifed_fid(left, right, 5)
    assert value == pytest.approx(direct(left.points, right.points))
    assert spread == pytest.approx(_left_out(direct, left, right))


def _left_out(statistic: Any, left: features.Cloud, right: features.Cloud) -> float:
    total = 0.0
    for place, cloud in enumerate((left, right)):
        groups = groups_of(cloud.patients, 5 + place)
        values = []
        for group in range(GROUPS):
            less = cloud.points[groups != group]
            values.append(statistic(less, right.points) if place == 0 else statistic(left.points, less))
        total += float(np.var(values)) * (GROUPS - 1)
    return total


@pytest.mark.parametrize("kind", ["cubic", "gaussian"])
def test_mmd_is_the_unbiased_estimate(kind: str) -> None:
    """Pairs of different points, by a loop and scikit-learn's kernels; so is each value that leaves a group out."""
    from sklearn.metrics.pairwise import polynomial_kernel, rbf_kernel

    left, right = clouds()

    def kernel(one: NDArray[Any], two: NDArray[Any]) -> Any:
        if kind == "cubic":
            return polynomial_kernel(one, two, degree=3, gamma=1 / one.shape[1], coef0=1)
        return rbf_kernel(one, two, gamma=1 / (2 * 1.7**2))

    def direct(one: NDArray[Any], two: NDArray[Any]) -> float:
        total = 0.0
        for part in (one, two):
            pairs = [(i, j) for i in range(len(part)) for j in range(len(part)) if i != j]
            values = kernel(part, part)
            total += sum(values[pair] for pair in pairs) / len(pairs)
        return float(total - 2 * kernel(one, two).mean())

    ours = features.cubic if kind == "cubic" else features.gaussian(1.7)
    value, spread = features.jackknifed_mmd(left, right, ours, 5)
    assert value == pytest.approx(direct(left.points, right.points))
    assert spread == pytest.approx(_left_out(direct, left, right))


def test_the_unbiased_estimate_is_around_zero_for_equal_distributions() -> None:
    """Over 200 pairs of samples of one distribution the mean is within 5 standard errors of 0 (false alarm 6e-7)."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(200):
        left, right = (features.Cloud(rng.standard_normal((40, 3)), np.arange(40)) for _ in range(2))
        found.append(features.jackknifed_mmd(left, right, features.cubic, 0)[0])
    assert abs(np.mean(found)) < 5 * np.std(found) / np.sqrt(200)
    assert np.min(found) < 0


def test_random_convolutions_are_what_they_say() -> None:
    """A feature is the mean, over a quarter of the places, of one filter's rectified answers, by a loop."""
    images = np.random.default_rng(1).uniform(0, 1, (2, 1, 8, 8)).astype(np.float32)
    found = features.random_convolutions(images)
    assert found.shape == (2, 256)
    weights = np.random.default_rng(0).standard_normal((64, 25))
    weights -= weights.mean(axis=1, keepdims=True)
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    answers = [weights[3] @ images[1, 0, y : y + 5, x : x + 5].ravel() for y in range(2) for x in range(2)]
    assert found[1, 3] == pytest.approx(np.maximum(answers, 0).mean(), rel=1e-4)
    assert features.random_convolutions(np.zeros((1, 2, 6, 7, 8), np.float32)).shape == (1, 256)
    assert features.random_convolutions(np.ones((1, 1, 1, 1), np.float32)).shape[0] == 1


def test_two_real_halves_are_the_floor(judged: Evaluation) -> None:
    """Every distance of the synthetic images stands beside that of other real images, and is above it here."""
    for metric, subject in {(result.metric, result.subject) for result in judged.results.select(("fid", "kid", "mmd"))}:
        found = {result.arm: result for result in judged.results.select(metric, subject=subject)}
        assert found["synthetic"].number > 2 * found["real"].number
        if metric == "mmd":  # of 150 images the other intervals are wide
            assert found["synthetic"].interval is not None
            assert found["synthetic"].interval.low > found["real"].number


def test_only_samples_may_be_published(judged: Evaluation) -> None:
    """All that touched real images is internal; of public patients all may be published."""
    public = judged.public().results.select(section="images")
    assert {result.metric for result in public} == {"image_samples"}
    internal = judged.results.select(section="images", disclosure=Disclosure.INTERNAL)
    assert len(public) + len(internal) == len(judged.results.select(section="images"))


def _tiles(page: str) -> list[NDArray[np.uint8]]:
    """Return the images of all grids of a page; a heat map's picture is no grid."""
    return [tile for strip in re.findall(r"none\" href=\"data:image/png;base64,([^\"]+)", page) for tile in _cut(strip)]


def _cut(strip: str) -> list[NDArray[np.uint8]]:
    from PIL import Image

    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(strip))))
    return [pixels[:, left : left + 8] for left in range(0, pixels.shape[1], 9)]


def test_the_pages_show_synthetic_images_only() -> None:
    """Each picture on the public page, on the internal one and on that of a release is one of the synthetic cohort."""
    synthetic = scans(60, 3, synthetic=True)
    assert synthetic.images is not None
    known = {one.tobytes() for one in synthetic.images.pixels}
    found = evaluate(scans(60, 1), synthetic, real_train=scans(60, 2))
    for page in (found.html(public=True), found.html(), describe(synthetic).html(public=True)):
        tiles = _tiles(page)
        assert len(tiles) >= 30
        assert all(one.tobytes() in known for one in tiles)


def test_rows_of_a_grid_are_of_their_class() -> None:
    """Every image in a class's row has that class in the table; groups show each class in turn."""
    synthetic = scans(90, 3, synthetic=True)
    assert synthetic.images is not None
    finding = dict(
        zip((one.tobytes() for one in synthetic.images.pixels), synthetic.to_pandas()["finding"], strict=True)
    )
    grids = {result.subject: result for result in describe(synthetic).results.select("image_samples")}
    assert set(grids) == {"finding", "sex"}
    for row in grids["finding"].detail["rows"]:
        tiles = _cut(row["png"])
        assert {f"finding={finding[one.tobytes()]}" for one in tiles} == {row["label"]}
        assert row["n"] == list(finding.values()).count(row["label"].removeprefix("finding="))
    for row in grids["sex"].detail["rows"]:
        order = [finding[one.tobytes()] for one in _cut(row["png"])]
        assert order == sorted(order, key=["none", "nodule", "mass"].index)
        assert {order.count(name) for name in set(order)} <= {3, 4}


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)])
def test_png_reads_back(shape: tuple[int, ...]) -> None:
    """Grey and colour, pixel by pixel."""
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png(pixels)))), pixels)


@pytest.mark.parametrize(
    ("shape", "dtype", "span"), [((3, 8, 8), "uint8", (0, 255)), ((1, 4, 8, 8), "float32", (-1000, 400))]
)
def test_colour_volumes_and_other_ranges_are_shown(shape: tuple[int, ...], dtype: str, span: tuple[int, int]) -> None:
    """The whole public range is shown from black to white; of a volume the middle slice."""
    from PIL import Image

    pixels = np.full((2, *shape), span[0], dtype)
    pixels[1, :, shape[1] // 2 if len(shape) == 4 else slice(None)] = span[1]
    table = tables({"synthetic": scans(2, 0, synthetic=True)})["synthetic"]
    shown = sample_results(Pictures(pixels, span, table), None, [], Protocol())
    strip = base64.b64decode(shown[0].detail["rows"][0]["png"])
    found = np.asarray(Image.open(io.BytesIO(strip)))
    assert found.shape == ((8, 17, 3) if shape[0] == 3 else (8, 17))
    assert sorted((found[:, :8].mean(), found[:, 9:].mean())) == [0, 255]


def test_a_cohort_that_is_not_synthetic_is_not_shown() -> None:
    """Real images handed over as if they were synthetic make no grid."""
    assert not describe(scans(60, 1)).results.select("image_samples")


def test_the_page_is_well_formed_and_says_what_it_is(judged: Evaluation) -> None:
    """Both pages are; the public one says why there are no numbers, the internal one what each stands on."""
    for public in (True, False):
        page = Page(judged.html(public=public))
        assert (page.open, page.faults) == ([], [])
        assert len(page.ids) == len(set(page.ids))
        text = " ".join(page.words)
        assert "Do the images hold up?" in text
        assert ("learn from 160 images" in text) is not public
        assert ("touch private data without noise. What may be are images" in text) is public
        assert "Synthetic images by finding" in text
        assert "Synthetic images by sex" in text
    assert "small CNN trained on the synthetic images" in judged.html()


def test_recognising_has_a_verdict_of_its_own(judged: Evaluation) -> None:
    """It follows from the changes of balanced accuracy; on the public page it is unknown, without images not there."""
    use = "Developing a model that recognises finding in images"
    assert {verdict.use: str(verdict.answer) for verdict in verdicts(judged.results, judged.terms.margins, "finding")}[
        use
    ] != "unknown"
    public = verdicts(judged.public().results, judged.terms.margins, "finding")
    assert {verdict.use: str(verdict.answer) for verdict in public}[use] == "unknown"
    bare = Results(result for result in judged.results if result.section != "images")
    assert use not in {verdict.use for verdict in verdicts(bare, judged.terms.margins, "finding")}


def test_without_an_outcome_distances_are_there() -> None:
    """No classifier and no encoder can be trained, which is said; random features and pixels need none."""
    schema = Schema.parse(TEXT.replace("target: finding\n", ""))
    cohorts = [replace(scans(60, seed), schema=schema, synthetic=seed == 3) for seed in (1, 2, 3)]
    found = evaluate(cohorts[0], cohorts[2], real_train=cohorts[1]).results
    assert "no outcome with classes" in found.select("image_accuracy")[0].reason
    assert "no outcome with classes" in found.select("fid", subject=ENCODER)[0].reason
    assert found.one("fid", subject=RANDOM, arm="synthetic").ok
    assert found.one("image_consistency", subject="sex", group="all", arm="real").ok


def test_a_synthetic_cohort_without_images_is_said_to_have_none() -> None:
    """Nothing fails: the metrics of images are not estimable."""
    bare = replace(scans(60, 3, synthetic=True), images=None)
    found = evaluate(scans(60, 1), bare, real_train=scans(60, 2)).results.select(section="images")
    assert {(result.metric, result.reason) for result in found} == {
        (name, "the synthetic cohort has no images") for name in OVERALL
    }


def test_the_command_line_judges_a_release_with_images(tmp_path: Path) -> None:
    """``dpsynth evaluate --real x.npz --synthetic release`` reads both and reports on images."""
    schema = tmp_path / "scans.yaml"
    schema.write_text(
        "name: scans\nconfirmed: true\ntarget: label\nrows: 200\nimages: {size: [8, 8]}\n"
        "columns: {label: {type: categorical, values: [0, 1, 2]}}\n"
    )
    parts = {"train": scans(200, 1), "val": scans(20, 2), "test": scans(120, 3)}
    arrays: dict[str, NDArray[Any]] = {}
    for name, part in parts.items():
        assert part.images is not None
        arrays[f"{name}_images"] = part.images.pixels[:, 0]
        codes = part.to_pandas()["finding"].map({"none": 0, "nodule": 1, "mass": 2})
        arrays[f"{name}_labels"] = codes.to_numpy(dtype=np.uint8)[:, None]
    np.savez(tmp_path / "scans.npz", **arrays)  # type: ignore[arg-type]
    run = CliRunner().invoke
    common = ["--schema", str(schema)]
    release = ["--model", "moments", "--epsilon", "10", "--out", str(tmp_path / "out")]
    done = run(app, ["release", str(tmp_path / "scans.npz"), *common, *release])
    assert done.exit_code == 0, done.output
    assert _tiles((tmp_path / "out" / "release" / "report.html").read_text())
    given = ["--real", str(tmp_path / "scans.npz"), "--synthetic", str(tmp_path / "out" / "release"), *common]
    done = run(app, ["evaluate", *given, "--out", str(tmp_path / "report.html")])
    assert done.exit_code == 0, done.output
    assert "balanced accuracy on images" in done.output
    found = json.loads((tmp_path / "report.json").read_text())["results"]
    assert {one["status"] for one in found if one["section"] == "images"} == {"ok"}
