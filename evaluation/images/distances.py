"""How far synthetic images are from those of real patients, beside how far other real patients' images are.

The reference are the test patients; the arm ``real`` (training patients, the same number of images) shows what chance
alone makes of each distance. Extractors are public: a network that was trained on the synthetic images, filters that
are random, or the pixels themselves. No network that was trained on real patients looks at anything here.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from dpsynth.evaluation.arrays.table import Floats
from dpsynth.evaluation.images.features import (
    Cloud,
    Kernel,
    cubic,
    gaussian,
    jackknifed_fid,
    jackknifed_mmd,
    random_convolutions,
    scale_of,
)
from dpsynth.evaluation.images.gallery import Gallery
from dpsynth.evaluation.images.pictures import Pictures
from dpsynth.evaluation.learners.lesson import unit
from dpsynth.evaluation.learners.perceptrons import FLAT
from dpsynth.evaluation.result import Result, estimate, guarded, not_estimable
from dpsynth.evaluation.statistics.bootstrap import percentile, weights
from dpsynth.evaluation.statistics.jackknife import interval
from dpsynth.evaluation.statistics.neighbours import K, prdc
from dpsynth.evaluation.statistics.scores import ratio

__all__ = ["ENCODER", "PIXELS", "RANDOM", "distance_results"]

ENCODER = "small CNN trained on the synthetic images"
RANDOM = "random convolutions"
PIXELS = "pixels"

#: Images of each cohort for distances between sets, and for neighbours.
FAR, NEAR = 5_000, 2_500
#: Fewer patients on one side: no distance.
LEAST = 20

BETWEEN = {ENCODER: ("fid", "kid"), RANDOM: ("fid", "kid", "mmd"), PIXELS: ("mmd",)}
AMONG = ("image_precision", "image_recall", "image_density", "image_coverage")

Extractor = Callable[[Pictures], Floats]


def distance_results(gallery: Gallery) -> list[Result]:
    """Return distances of each arm from the images of the test patients, by extractor."""
    gallery.say("comparing images", 0.8)
    arms = {"real": gallery.train, **{arm: draws[0] for arm, draws in gallery.drawn.items()}}
    size = min(FAR, *(len(part) for part in arms.values()))
    reference = gallery.test.at_most(FAR, gallery.terms.seed)
    same = {arm: part.at_most(size, gallery.terms.seed) for arm, part in arms.items()}
    results: list[Result] = []
    for name, metrics in BETWEEN.items():
        every = (*metrics, *AMONG) if name == ENCODER else metrics
        fields: dict[str, Any] = {"subject": name, "disclosure": gallery.terms.disclosure}
        results += guarded(every, partial(_of_extractor, name, reference, same, gallery), **fields)
    return results


def _of_extractor(name: str, reference: Pictures, arms: Mapping[str, Pictures], gallery: Gallery) -> list[Result]:
    extract = _extractor(name, gallery)
    standard = _standard(extract(arms["synthetic"]))
    points = {arm: Cloud(standard(extract(part)), part.patients) for arm, part in arms.items()}
    real = Cloud(standard(extract(reference)), reference.patients)
    scale = scale_of(points["synthetic"].points)
    results: list[Result] = []
    for arm, cloud in points.items():
        fields: dict[str, Any] = {"arm": arm, "subject": name, "n": len(cloud.points)}
        fields |= {"disclosure": gallery.terms.disclosure, "detail": {"reference_images": len(reference)}}
        few = min(arms[arm].number, reference.number)
        if few < LEAST:
            every = (*BETWEEN[name], *(AMONG if name == ENCODER else ()))
            results += [not_estimable(metric, f"{few} patients; needs {LEAST}", **fields) for metric in every]
            continue
        for metric in BETWEEN[name]:
            compute = partial(_between, metric, real, cloud, scale=scale, gallery=gallery, fields=fields)
            results += guarded(metric, compute, arm=arm, subject=name, disclosure=gallery.terms.disclosure)
        results += _among(real, cloud, gallery, fields) if name == ENCODER else []
    return results


def _extractor(name: str, gallery: Gallery) -> Extractor:
    """Return what turns images into points.

    Raises
    ------
    InputError
        If the network cannot be trained.
    """
    if name == ENCODER:
        network = gallery.encoder()
        return lambda part: network.features(part.pixels)
    if name == RANDOM:
        return lambda part: _in_batches(part, random_convolutions)
    return lambda part: _in_batches(part, lambda images: images.reshape(len(images), -1).astype(np.float64))


def _standard(synthetic: Floats) -> Callable[[Floats], Floats]:
    """Return what puts the synthetic images' mean at 0 and their mean variance at 1: units that networks share."""
    middle = synthetic.mean(axis=0)
    spread = float(np.sqrt(synthetic.var(axis=0).mean())) or 1.0
    return lambda points: (points - middle) / spread


def _in_batches(part: Pictures, extract: Callable[[Any], Floats]) -> Floats:
    steps = range(0, len(part), 256)
    return np.concatenate([extract(unit(part.pixels[at : at + 256], part.span, FLAT)) for at in steps])


def _between(
    metric: str, real: Cloud, other: Cloud, *, scale: float, gallery: Gallery, fields: dict[str, Any]
) -> Result:
    terms = gallery.terms
    if metric == "fid":
        value, spread = jackknifed_fid(real, other, terms.seed)
        few = min(len(real.points), len(other.points)) <= real.points.shape[1]
        reason = "not more images than features: lies far too high" if few else ""
        return estimate(metric, value, interval=interval(value, spread, terms.level, low=0.0), reason=reason, **fields)
    kernel: Kernel = cubic if metric == "kid" else gaussian(scale)
    value, spread = jackknifed_mmd(real, other, kernel, terms.seed)
    return estimate(metric, value, interval=interval(value, spread, terms.level), **fields)


def _among(real: Cloud, other: Cloud, gallery: Gallery, fields: dict[str, Any]) -> list[Result]:
    """Return precision, recall, density and coverage, with intervals as if the other cohort's images were fixed."""
    rng = np.random.default_rng(gallery.terms.seed)
    sides = [_fewer(cloud, rng) for cloud in (real, other)]
    if min(len(side.points) for side in sides) <= K:
        return [not_estimable(metric, f"needs more than {K} images", **fields) for metric in AMONG]
    scores = prdc(sides[0].points, sides[1].points)
    results = []
    for metric in AMONG:
        values = getattr(scores, metric.removeprefix("image_"))
        patients = (sides[1] if metric in ("image_precision", "image_density") else sides[0]).patients
        drawn = _resampled(values, patients, gallery.terms.seed)
        covers = percentile(drawn, ("images counted",), gallery.terms.level)
        results.append(estimate(metric, values.mean(), interval=covers, **{**fields, "n": len(values)}))
    return results


def _fewer(cloud: Cloud, rng: np.random.Generator) -> Cloud:
    """Return the images of a random subset of patients, about `NEAR` of them."""
    count = int(cloud.patients.max()) + 1
    kept = rng.permutation(count) < max(1, NEAR * count // max(NEAR, len(cloud.points)))
    rows = np.flatnonzero(kept[cloud.patients])
    return Cloud(cloud.points[rows], np.unique(cloud.patients[rows], return_inverse=True)[1].astype(np.int64))


def _resampled(values: Floats, patients: Any, seed: int) -> Floats:
    times = weights(np.zeros(len(values), dtype=np.int64), patients, 500, seed)
    return ratio(times @ values, times.sum(axis=1))
