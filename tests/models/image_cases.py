"""Small cohorts with images of several forms, and image models in sizes that a test can wait for."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dpsynth.cohort import Cohort
from dpsynth.files.image_set import ImageSet
from dpsynth.models.base import Synthesizer
from dpsynth.models.image.moments import Moments
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.budget import Budget
from dpsynth.schema import Schema

pytest.importorskip("torch", reason="the networks need the extra [deep]")

from dpsynth.models.image.diffusion import Diffusion
from dpsynth.models.image.gan import GAN
from dpsynth.models.image.judged import JudgedMoments
from dpsynth.models.image.mean_embedding import MeanEmbedding

DELTA = 1e-6
SIZES: dict[str, dict[str, Any]] = {
    "grey": {"size": [8, 8]},
    "colour": {"size": [9, 6], "channels": 3},
    "volume": {"size": [8, 7, 5], "range": [-1000, 1000]},
}
SMALL = {"hidden": 16, "width": 8, "latent": 4}
# Equal rates, steps and shares of questions, so that plans cost the same and are found once.
MAKERS: dict[str, Callable[[], Synthesizer]] = {
    "moments": lambda: Moments(coefficients=8),
    "moments of clusters": lambda: Moments(coefficients=8, parts=3),
    "mean-embedding": lambda: MeanEmbedding(features=40, steps=4, **SMALL),
    "judged-moments": lambda: JudgedMoments(coefficients=8, steps=4, sampling_rate=0.1, questions=0.4, candidates=3),
    "gan": lambda: GAN(features=40, steps=4, warm_steps=2, critic_steps=2, sampling_rate=0.1, channels=4, **SMALL),
    "diffusion": lambda: Diffusion(steps=4, sampling_rate=0.1, questions=0.4, widths="8,16", sampling_steps=3),
}
NETWORKS = ("mean-embedding", "gan")


def schema(form: str, **facts: Any) -> Schema:
    """Return the schema of patients with a label, a sex and images."""
    return Schema.parse(
        {
            "name": "scans",
            "confirmed": True,
            "patient": "id",
            "target": "label",
            "subgroups": ["sex"],
            "columns": {
                "id": {"type": "identifier"},
                "label": {"type": "categorical", "values": ["a", "b", "c"]},
                "sex": {"type": "categorical", "values": ["female", "male"]},
            },
            "images": {"max_per_patient": 2, **SIZES[form]},
            **facts,
        }
    )


def scans(
    form: str = "grey",
    patients: int = 200,
    *,
    seed: int = 0,
    extra: int = 0,
    more: dict[str, Any] | None = None,
    **facts: Any,
) -> Cohort:
    """Return patients with 0 to 2 images; ``extra`` more have white ones; ``more`` columns of the table.

    Images of a are dark; those of b are brighter, and most so on the right; those of c are bright, most so below.
    """
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "id": [f"p{i}" for i in range(patients + extra)],
            "label": [*rng.choice(list("abc"), patients, p=[0.5, 0.3, 0.2]), *"c" * extra],
            "sex": [*rng.choice(["female", "male"], patients), *["male"] * extra],
            **(more or {}),
        }
    )
    rows = np.repeat(np.arange(patients + extra), [*rng.integers(0, 3, patients), *[2] * extra]).astype(np.int64)
    made = schema(form, **facts)
    assert made.images is not None
    labels = frame["label"].to_numpy()[rows]
    shares = _patterns(labels, made.images.shape) + rng.normal(0, 0.1, (len(rows), *made.images.shape))
    shares = np.clip(shares, 0, 1)
    shares[rows >= patients] = 1
    low, high = made.images.range
    pixels = np.rint(255 * shares).astype(np.uint8) if made.images.dtype == "uint8" else low + (high - low) * shares
    table = Cohort.from_pandas(frame, made, public=True)
    images = ImageSet(pixels.astype(made.images.dtype), rows)
    return Cohort(table.schema, table.table, public=True, images=images)


def _patterns(labels: Any, shape: tuple[int, ...]) -> Any:
    """Return (images, shape) what images of these labels have in common."""
    down, across = (np.arange(side) >= side // 2 for side in shape[-2:])
    flat = np.zeros(shape)
    one = {"a": flat + 0.1, "b": flat + np.where(across, 0.7, 0.3), "c": flat + np.where(down, 0.95, 0.65)[:, None]}
    return np.stack([one[label] for label in labels])


def fitted(
    made: str | Synthesizer, cohort: Cohort, epsilon: float = 1.0, seed: int | None = 1, **facts: Any
) -> tuple[Session, Any]:
    """Return a session after a fit, and the model."""
    maker = MAKERS[made]() if isinstance(made, str) else made
    budget = Budget(epsilon, DELTA)
    training = maker.training(cohort.schema, budget)
    with Session.open(cohort, budget, accounting=maker.accounting, seed=seed, training=training, **facts) as session:
        return session, maker.fit(session)
