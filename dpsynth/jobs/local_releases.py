"""Each hospital's own release, put together without any protocol: the baseline of a joint cohort."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpsynth.atomic import new_folder, read_json, write_json
from dpsynth.cohort.cohort import Cohort
from dpsynth.errors import FileError, InputError
from dpsynth.federated.study import Study
from dpsynth.jobs.fit import fit
from dpsynth.models.base import Model, Progress
from dpsynth.models.registry import make
from dpsynth.privacy.spending.statement import round_up
from dpsynth.progress import silent

__all__ = ["Local", "fit_local", "gather_releases", "put_together"]


@dataclass(frozen=True, eq=False)
class Local:
    """Each hospital's own release, put together without any protocol: the baseline.

    Parameters
    ----------
    models : dict of str to Model
        By the hospital's name.
    synthetic : Cohort
        Rows of all of them, each hospital's as many as its own noisy count says.
    """

    models: dict[str, Model]
    synthetic: Cohort


def fit_local(
    study: Study,
    cohorts: Mapping[str, Cohort],
    *,
    ledgers: Mapping[str, Any] | None = None,
    seed: int | None = None,
    progress: Progress | None = None,
) -> Local:
    """Fit the study's model at each hospital alone, at the same epsilon, and put what they release together.

    Parameters
    ----------
    study : Study
        The budget and the model.
    cohorts : mapping of str to Cohort
        Each hospital's patients.
    ledgers : mapping, optional
        Each hospital's ledger.
    seed : int, optional
        Test mode.
    progress : callable, optional
        Called with a phase and the share of it that is done.

    Returns
    -------
    Local
        Models and rows.
    """
    models: dict[str, Model] = {}
    for place, (name, cohort) in enumerate(cohorts.items()):
        (progress or silent)(f"fitting at {name}", place / len(cohorts))
        options: dict[str, Any] = {"ledger": (ledgers or {}).get(name), "seed": seed, "anyway": True}
        models[name] = fit(
            cohort, make(study.model, **study.options), epsilon=study.epsilon, delta=study.delta, **options
        )
    return Local(models, put_together([model.sample(max(model.rows, 1)) for model in models.values()]))


def put_together(cohorts: Sequence[Cohort]) -> Cohort:
    """Return synthetic tables of one schema as one."""
    import pyarrow as pa

    table = pa.concat_tables([cohort.table for cohort in cohorts]).combine_chunks()
    return Cohort(cohorts[0].schema, table, synthetic=True)


def gather_releases(
    study: Study, releases: Mapping[str, str | Path], out: str | Path, *, force: bool = False
) -> Cohort:
    """Put the releases together that hospitals have made by themselves: post-processing, which costs nothing.

    Patients are in one hospital each, so by parallel composition the whole is as private as the least private of them,
    for a patient at a hospital; of one who is in m of them, m releases add up.

    Parameters
    ----------
    study : Study
        Its schema and hospitals.
    releases : mapping of str to path
        Each hospital's folder ``release/``, of `dpsynth release` on its own patients.
    out : path
        Gets ``patients.parquet``, ``patients.csv`` and ``privacy.json``.
    force : bool
        Replace what is there.

    Returns
    -------
    Cohort
        All rows.

    Raises
    ------
    InputError, FileError
        When a hospital is missing or unknown, a release is not private or costs more than the study, or cannot be read.
    """
    if set(releases) != set(study.names):
        raise InputError(f"local: found releases of {', '.join(sorted(releases))}, expected {', '.join(study.names)}.")
    statements = {name: _statement(study, name, Path(releases[name])) for name in study.names}
    rows = put_together([_rows(study, Path(releases[name])) for name in study.names])
    with new_folder(out, force=force) as fresh:
        rows.write(fresh / "patients.parquet")
        rows.write(fresh / "patients.csv")
        write_json(fresh / "privacy.json", _together(statements))
    return rows


def _statement(study: Study, name: str, release: Path) -> dict[str, Any]:
    path = release / "privacy.json"
    if not path.is_file():
        raise FileError(f"{release.name}: holds no privacy.json; give the release/ folder of hospital {name!r}.")
    facts = read_json(path)
    if not isinstance(facts, dict) or facts.get("private") is not True:
        raise InputError(f"hospital {name!r}: its release is not private (made with a fixed seed); make it anew.")
    if not (float(facts["epsilon"]) <= study.epsilon and float(facts["delta"]) <= study.delta):
        raise InputError(
            f"hospital {name!r}: its release has epsilon {facts['epsilon']:g} and delta {facts['delta']:g}, expected "
            f"at most {study.epsilon:g} and {study.delta:g}, as the study says."
        )
    return facts


def _rows(study: Study, release: Path) -> Cohort:
    return Cohort.read(release / "data" / "patients.parquet", study.schema_of_all.without_counts(), synthetic=True)


def _together(statements: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the rows of several statements keep together."""
    epsilon = max(float(facts["epsilon"]) for facts in statements.values())
    delta = max(float(facts["delta"]) for facts in statements.values())
    return {
        "private": True,
        "guarantee": f"({round_up(epsilon):g}, {delta:g})-differential privacy for adding or removing one patient at "
        "one hospital: each hospital made its release by itself, and a patient of m hospitals is in m of them",
        "epsilon": epsilon,
        "delta": delta,
        "unit": "patient at a hospital",
        "releases": {name: dict(facts) for name, facts in statements.items()},
    }
