"""The deep models for tables in sizes that a test can wait for, and fits of small cohorts."""

from collections.abc import Callable
from typing import Any

import pytest
from mechanism_cases import ORDINARY, cohort_of, ordinary

from dpsynth.cohort import Cohort
from dpsynth.models.base import Synthesizer
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.budget import Budget

pytest.importorskip("torch", reason="the deep models need the extra [deep]")

from dpsynth.models.tabular.deep.ctgan import CTGAN
from dpsynth.models.tabular.deep.diffusion import TabularDiffusion
from dpsynth.models.tabular.deep.pate_gan import PATEGAN
from dpsynth.models.tabular.deep.tvae import TVAE

# Equal steps and shares of questions, so that their plans cost the same and are found once.
MAKERS: dict[str, Callable[[], Synthesizer]] = {
    "ctgan": lambda: CTGAN(hidden=8, steps=4, critic_steps=2, generator_steps=1),
    "tvae": lambda: TVAE(hidden=8, latent=2, steps=4),
    "tabular-diffusion": lambda: TabularDiffusion(hidden=8, steps=4, levels=2, warmup="none", draws=4, questions=0.2),
    "pate-gan": lambda: PATEGAN(teachers=5, rounds=2, asked=4, hidden=8, generator_steps=1),
}
NAMES = tuple(MAKERS)


def small(**facts: Any) -> Cohort:
    """Return the ordinary ward, with target and subgroup."""
    return cohort_of(ORDINARY, ordinary(), **{"target": "died", "subgroups": ["sex"], **facts})


def fitted(made: Synthesizer | str, cohort: Cohort, epsilon: float = 1.0, seed: int | None = 1) -> tuple[Session, Any]:
    """Return a session after a fit, and the model."""
    maker = MAKERS[made]() if isinstance(made, str) else made
    budget = Budget(epsilon, 1e-6)
    with Session.open(
        cohort, budget, accounting=maker.accounting, seed=seed, training=maker.training(cohort.schema, budget)
    ) as session:
        return session, maker.fit(session)
