"""The arm of a classifier of images that was fitted elsewhere: judged as those that are trained here."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from dpsynth.cohort import Cohort
from dpsynth.errors import InputError
from dpsynth.evaluation import Classifier, Disclosure, Evaluation, Results, evaluate
from dpsynth.evaluation.arrays.table import tables
from dpsynth.evaluation.images.gallery import Gallery
from dpsynth.evaluation.images.pictures import pictures
from dpsynth.evaluation.images.utility import learned_results
from dpsynth.evaluation.learners.from_outside import image_answers
from dpsynth.evaluation.learners.image import CNN, MLP
from dpsynth.evaluation.learners.tabular import Task
from dpsynth.evaluation.protocol import Protocol
from dpsynth.evaluation.report.on_images import images
from dpsynth.evaluation.report.parts import own_budget
from dpsynth.evaluation.sweep_metrics import follow

from .helpers import ward
from .test_images import CORNERS, scans

pytest.importorskip("torch")

NAMES = ("none", "nodule", "mass")
TASK = Task("finding", "multiclass", NAMES, 2)
REAL, TRAIN = scans(150, 1, noise=200, twice=True), scans(150, 3, noise=200)
FAKE = scans(160, 2, noise=90, synthetic=True)
STATEMENT = {"epsilon": 2.0, "delta": 1e-6, "private": True, "events": [{"what": "much"}]}


def corners(cohort: Cohort) -> Any:
    """Return a probability of each finding: how bright its corner is."""
    assert cohort.images is not None
    pixels = cohort.images.pixels.astype(float)
    light = [pixels[:, 0, top : top + 4, left : left + 4].mean((1, 2)) for top, left in CORNERS]
    odds = np.exp((np.stack(light, axis=1) - 100) / 30)
    return odds / odds.sum(1, keepdims=True)


@pytest.fixture(scope="module")
def direct() -> Evaluation:
    """Return the evaluation with one classifier, beside the MLP."""
    return evaluate(REAL, FAKE, real_train=TRAIN, classifiers=[Classifier(corners, MLP, STATEMENT)])


@pytest.fixture(scope="module")
def gallery() -> Gallery:
    """Return the images of the same cohorts, without a classifier."""
    found = tables({"test": REAL, "train": TRAIN, "synthetic": FAKE})
    seen = {arm: pictures(one, found[arm]) for arm, one in {"test": REAL, "train": TRAIN, "synthetic": FAKE}.items()}
    terms = Protocol(disclosure=Disclosure.PUBLIC)
    images: dict[str, Any] = seen
    drawn = {"synthetic": [images["synthetic"]]}
    return Gallery(images["test"], images["train"], drawn, TASK, terms, lambda _phase, _share: None)


def _truth() -> Any:
    assert REAL.images is not None
    found = REAL.to_pandas()["finding"].to_numpy()[REAL.images.row]
    return np.array([NAMES.index(name) for name in found])


def test_scores_are_those_of_scikit_learn(direct: Evaluation) -> None:
    """Accuracy, balanced accuracy, AUROC, each class and each group of patients, on all images of the test patients."""
    truth, said = _truth(), corners(REAL)
    mine = direct.results.select(arm="dp_classifier", subject=MLP)
    assert mine.one("image_accuracy", group="all").number == pytest.approx(
        metrics.accuracy_score(truth, said.argmax(1))
    )
    balanced = metrics.balanced_accuracy_score(truth, said.argmax(1))
    assert mine.one("image_balanced_accuracy", group="all").number == pytest.approx(balanced)
    area = metrics.roc_auc_score(truth, said, multi_class="ovr")
    assert mine.one("image_auroc", group="all").number == pytest.approx(area)
    for code, name in enumerate(NAMES):
        recall = metrics.recall_score(truth == code, said.argmax(1) == code)
        assert mine.one("class_recall", group=f"finding={name}").number == pytest.approx(recall)
    assert REAL.images is not None
    women = REAL.to_pandas()["sex"].to_numpy()[REAL.images.row] == "f"
    right = metrics.accuracy_score(truth[women], said.argmax(1)[women])
    assert mine.one("image_accuracy", group="sex=f").number == pytest.approx(right)


def test_changes_are_paired_with_the_learner_it_stands_beside(direct: Evaluation) -> None:
    """Against the real-trained MLP, not the CNN; intervals, sizes and the class of disclosure are as for other arms."""
    mine = direct.results.select(arm="dp_classifier")
    assert {result.subject for result in mine} == {MLP}
    real = direct.results.one("image_balanced_accuracy", arm="real", subject=MLP, group="all")
    score = mine.one("image_balanced_accuracy", group="all")
    change = mine.one("image_balanced_accuracy_change", group="all")
    assert change.number == pytest.approx(score.number - real.number)
    assert score.interval is not None
    assert real.interval is not None
    assert change.interval is not None
    paired = change.interval.high - change.interval.low
    apart = np.hypot(score.interval.high - score.interval.low, real.interval.high - real.interval.low)
    assert paired < 1.2 * apart
    assert score.n == real.n
    assert score.detail["trained_images"] == 150
    assert {result.disclosure for result in mine} == {Disclosure.INTERNAL}
    assert not len(direct.public().results.select(arm="dp_classifier"))


def test_the_ceiling_s_twin_has_no_change(gallery: Gallery) -> None:
    """What answers as the real-trained CNN does changes nothing in any draw: both have the same bootstrap draws.

    Where all real patients are public its numbers may be published; the other arms are what they are without it.
    """
    assert REAL.images is not None
    (network,) = gallery.fitted(CNN, "real")
    said = network.scores(REAL.images.pixels)[0]
    with_twin = Results(learned_results(replace(gallery, answers={CNN: [said]}), []))
    mine = with_twin.select(arm="dp_classifier", group="all")
    change = mine.one("image_auroc_change")
    assert change.interval is not None
    assert (change.number, change.interval.low, change.interval.high) == (0, 0, 0)
    assert mine.one("image_auroc").number == with_twin.one("image_auroc", arm="real", subject=CNN, group="all").number
    assert {result.disclosure for result in mine} == {Disclosure.PUBLIC}
    others = [result.to_dict() for result in with_twin if result.arm != "dp_classifier"]
    assert others == [one.to_dict() for one in learned_results(gallery, [])]


def test_several_fits_are_draws(gallery: Gallery) -> None:
    """Two classifiers beside one learner have a mean, and their interval covers more than the test patients."""
    said, flat = corners(REAL), np.full((300, 3), 1 / 3)
    one, both = (
        Results(learned_results(replace(gallery, answers={MLP: each}), [])).select(arm="dp_classifier", group="all")
        for each in ([said], [said, flat])
    )
    assert both.one("image_auroc").number == pytest.approx((one.one("image_auroc").number + 0.5) / 2)
    assert both.one("image_auroc").detail["draws"] == 2


@pytest.fixture(scope="module")
def page(direct: Evaluation) -> str:
    """Return the page of a release whose statement came with it."""
    stated = {"epsilon": 2.0, "delta": 1e-6, "private": True, "events": []}
    return replace(direct, statement=stated).html()


def _images(page: str) -> str:
    return page[page.index('<section id="images"') : page.index('<section id="inference"')]


def test_page_and_json_show_the_arm_and_its_budget(direct: Evaluation, page: str) -> None:
    """In figure, tables and words; that it spent a budget of its own stands there and with the privacy statement."""
    part = _images(page)
    drawn = part[part.index("image-arms1-title") :]
    assert "DP classifier" in drawn[: drawn.index("</svg>")]
    assert "MLP on pixels: DP classifier on real patients, same ε" in part
    assert "Recognised of this class, DP classifier" in part
    assert "can be answered at that price without synthesis" in part
    assert "spent a budget of its own (epsilon 2, delta 1e-06)" in part
    assert "For the evaluation a DP classifier was trained on the same patients" in page
    assert "was not given" not in part
    assert direct.to_dict()["about"]["classifiers"] == [
        {"beside": MLP, "epsilon": 2.0, "delta": 1e-06, "private": True}
    ]


def test_the_page_says_where_there_is_none(direct: Evaluation) -> None:
    """Without a classifier it says that this yardstick is missing, and nothing of a budget."""
    about = {name: given for name, given in direct.about.items() if name != "classifiers"}
    others = Results(result for result in direct if result.arm != "dp_classifier")
    part = images(others, "finding", about)
    assert any("the yardstick for whether synthesis is worth it, was not given" in words for words in part.words)
    shown = [str(grid) for grid in (*part.tables, *part.more, *(figure.table for figure in part.figures))]
    assert not [grid for grid in shown if "DP classifier" in grid]
    assert own_budget(about) == ""


def test_public_patients_cost_nothing() -> None:
    """Where the patients are public the page says that no budget was spent on the classifier."""
    about = {"real_data": "public", "classifiers": [{"beside": CNN, "epsilon": 1.0, "delta": 1e-6}]}
    assert own_budget(about) == "It was trained on public patients: no budget was spent on it."
    assert own_budget({"classifiers": [{"beside": CNN}]}) == ""


def test_one_that_reads_the_outcome_gains_nothing() -> None:
    """The outcomes that it is shown are shuffled: it is right in a third of the images (0.25 is 6 standard errors)."""

    def peeking(cohort: Cohort) -> Any:
        assert cohort.images is not None
        found = cohort.to_pandas()["finding"].to_numpy()[cohort.images.row]
        return np.stack([found == name for name in NAMES], axis=1).astype(float)

    said = image_answers([Classifier(peeking, MLP)], REAL, TRAIN, TASK, 0)[MLP][0]
    assert abs((said.argmax(1) == _truth()).mean() - 1 / 3) < 0.25


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (np.zeros, r"shape \(300,\), expected \(300, 3\)"),
        (lambda n: np.full((n, 3), np.nan), "not finite"),
        (lambda n: np.full((n, 3), 1.5), "outside 0 to 1"),
    ],
)
def test_answers_of_another_form_are_refused(answer: Any, words: str) -> None:
    """Before anything is trained, with what was expected."""
    with pytest.raises(InputError, match=words):
        evaluate(REAL, FAKE, real_train=TRAIN, classifiers=[Classifier(lambda _cohort: answer(300), CNN)])


def test_it_needs_images_and_classes() -> None:
    """Cohorts of rows only, an outcome that is a number, and a sweep, which follows rows, are refused."""
    real, fake = ward(60, 2), ward(60, 3, synthetic=True)
    with pytest.raises(InputError, match="the real cohorts have none"):
        evaluate(real, fake, real_train=ward(60), classifiers=[Classifier(corners, CNN)])
    with pytest.raises(InputError, match="the outcome 'age' is a number"):
        evaluate(real, fake, real_train=ward(60), target="age", classifiers=[Classifier(corners, CNN)])
    with pytest.raises(InputError, match="beside rows it is gradient boosting or logistic regression"):
        follow(real, ward(60), fake, classifiers=[Classifier(corners, CNN)])
