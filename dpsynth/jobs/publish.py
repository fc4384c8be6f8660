"""Publish in one call: hold patients out, fit, sample, write ``release/``, judge, write ``internal/``."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpsynth.atomic import check_target, check_unpublished, new_folder
from dpsynth.cohort.cohort import Cohort
from dpsynth.errors import InputError
from dpsynth.files.write_images import check_writable
from dpsynth.jobs.evaluate import evaluate
from dpsynth.jobs.fit import fit, within
from dpsynth.jobs.release import bundle, check_rows, draw
from dpsynth.jobs.sweep import FLOOR
from dpsynth.models.base import Model, Progress, Synthesizer
from dpsynth.models.registry import available
from dpsynth.privacy.spending.budget import MAX_EPSILON, default_delta
from dpsynth.publishing.bundle import release_statement
from dpsynth.publishing.long_draw import first_of
from dpsynth.sources.sampling import sampled
from dpsynth.sources.scanned import ScannedCohort

if TYPE_CHECKING:
    from dpsynth.evaluation.coins import Coins
    from dpsynth.evaluation.evaluation import Evaluation

__all__ = ["Published", "demo", "publish", "republish"]

DEMO_EPSILON = 1.0
DEMO_HOLDOUT = 0.3
DRAWS = 3
"""Cohorts that are drawn from a model to be judged, the released one among them."""
MOST = 200_000
"""Rows of a cohort that is drawn to be judged only."""
QUICK = ("prism", "mst")
"""Models that take seconds at any epsilon."""
LEDGER = ("ledger", "limit", "label", "seed", "expected_rows")
"""Arguments of `fit` that are not the model's."""


@dataclass(frozen=True)
class Published:
    """A release that is written, with its model, its rows, and what judged it.

    Parameters
    ----------
    model : Model
        The fitted model.
    synthetic : Cohort
        The released rows; the first of them where they are too many for the memory.
    release : pathlib.Path
        Safe to publish.
    internal : pathlib.Path or None
        Numbers that touched real patients; None without held-out patients.
    evaluation : Evaluation or None
        The same numbers.
    rows : int
        How many rows were released.
    """

    model: Model
    synthetic: Cohort
    release: Path
    internal: Path | None = None
    evaluation: "Evaluation | None" = None
    rows: int = 0


def publish(
    cohort: Cohort | ScannedCohort,
    folder: str | Path,
    model: str | Synthesizer | None = None,
    *,
    epsilon: float,
    delta: float | None = None,
    holdout: float | None = None,
    split: str | Path | None = None,
    rows: int | None = None,
    licence: str = "",
    force: bool = False,
    progress: Progress | None = None,
    **settings: Any,
) -> Published:
    """Fit, sample, and write ``release/`` and, with held-out patients, ``internal/`` into a folder.

    Formal guarantee: everything in ``release/`` is (epsilon, delta)-DP for one patient of `cohort` more or less.
    ``internal/`` is not covered: it holds numbers that were computed from held-out patients without noise.

    Parameters
    ----------
    cohort : Cohort or ScannedCohort
        The private cohort. Of one that is scanned, samples of both sides judge the release.
    folder : path
        Gets the two folders; made where it is not there.
    model : str or Synthesizer, optional
        See `dpsynth.fit`.
    epsilon, delta : float
        The whole budget, see `dpsynth.fit`.
    holdout : float, optional
        Share of patients that the model never sees and the cohort is judged on, with further draws of the model beside
        the released one; default: all patients train the model and nothing is judged. Where the cohort is public,
        independent columns at the same epsilon, and a quick model at the largest epsilon, are judged beside it. Which
        patients these are is secret and kept in ``internal/split.json``; of a run with a `checkpoint`, beside its
        folder too (``<folder>.split.json``), so that a run that is taken up again has the same.
    split : path, optional
        The ``split.json`` of an earlier run: the same patients are held out again.
    rows : int, optional
        Synthetic rows to release; default: as for `dpsynth.release`.
    licence : str
        SPDX name or URL for the dataset card.
    force : bool
        Replace folders that are there, once the new ones are whole.
    progress : callable, optional
        Called with a phase and the share of it that is done.
    **settings
        Further arguments of `fit`.

    Returns
    -------
    Published
        The model, the rows and the folders.

    Raises
    ------
    InputError, SchemaError, FileError, BudgetExceeded, LedgerError
        As `fit` and `release`. What can be refused is refused before the budget is spent.

    Examples
    --------
    >>> import tempfile
    >>> from dpsynth.jobs.audit import demo_cohort
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     published = publish(demo_cohort(), folder, "independent", epsilon=1.0, rows=100)
    ...     len(published.synthetic), published.release.name, published.internal
    (100, 'release', None)
    """
    check_rows(rows)
    check_writable(cohort.images)
    with _outer(Path(folder)):
        judged = holdout is not None or split is not None
        places = _places(Path(folder), force=force, judged=judged)
        cohort = _within(cohort, settings.pop("memory", None), progress)
        coins = _coins(cohort, holdout, split, settings.get("checkpoint"))
        train, judges = _sides(cohort, coins)
        share = coins.share if coins is not None else None
        if share is not None and cohort.schema.units is not None:
            settings.setdefault("expected_rows", max(1, round((1 - share) * cohort.schema.units)))
        fitted = fit(train, model, epsilon=epsilon, delta=delta, progress=progress, **settings)
        memory = cohort.memory if isinstance(cohort, ScannedCohort) else None
        drawn = draw(fitted, rows or cohort.schema.units, progress=progress, memory=memory)
        synthetic = first_of(drawn)
        statement = release_statement(fitted, drawn, licence=licence)
        written: dict[str, Any] = {"licence": licence, "force": force, "statement": statement, "progress": progress}
        path = bundle(fitted, drawn, places["release"], **written)
    if judges is None or coins is None:
        return Published(fitted, synthetic, path, rows=len(drawn))
    _write_internal(None, coins, places["internal"], force=force)  # the sides are known whatever the judging comes to
    arms = _arms(train, model, fitted, len(synthetic), settings) if cohort.public else {}
    draws = [synthetic, *_further_draws(fitted, len(synthetic))]
    evaluation = evaluate(
        judges.test, draws, train=judges.train, arms=arms, statement=statement, progress=_judging(progress)
    )
    _write_internal(evaluation, coins, places["internal"], force=True)
    return Published(fitted, synthetic, path, places["internal"], evaluation, len(drawn))


def _further_draws(fitted: Model, rows: int) -> list[Cohort]:
    """Draw again from the model, so that intervals cover the drawing of rows; costs nothing. Not of images: slow."""
    return [] if fitted.schema.images is not None else [fitted.sample(min(rows, MOST)) for _ in range(DRAWS - 1)]


def _arms(
    train: Cohort | ScannedCohort,
    model: str | Synthesizer | None,
    fitted: Model,
    rows: int,
    settings: Mapping[str, Any],
) -> dict[str, Cohort]:
    """Fit the floor, and a quick model with next to no noise, to public patients, on whom nothing is spent."""
    if train.schema.images is not None:
        return {}
    budget, rows = fitted.statement, min(rows, MOST)
    arms = {}
    if FLOOR in available():
        arms["floor"] = fit(train, FLOOR, epsilon=budget["epsilon"], delta=budget["delta"]).sample(rows)
    if budget["model"]["name"] in QUICK:
        options = {name: value for name, value in settings.items() if name not in LEDGER}
        arms["noiseless"] = fit(train, model, epsilon=MAX_EPSILON, delta=budget["delta"], **options).sample(rows)
    return arms


def republish(
    model: Model,
    folder: str | Path,
    *,
    rows: int | None = None,
    licence: str = "",
    force: bool = False,
    progress: Progress | None = None,
) -> Published:
    """Sample from a fitted model and write ``release/`` into a folder; spends nothing.

    Parameters
    ----------
    model : Model
        A fitted model.
    folder, rows, licence, force, progress
        See `publish`.

    Returns
    -------
    Published
        The model, the rows and the folder of the release.

    Raises
    ------
    InputError, FileError
        As `dpsynth.release`.
    """
    check_rows(rows)
    with _outer(Path(folder)):
        places = _places(Path(folder), force=force, judged=False)
        drawn = draw(model, rows, progress=progress)
        path = bundle(model, drawn, places["release"], licence=licence, force=force, progress=progress)
    return Published(model, first_of(drawn), path, rows=len(drawn))


def demo(
    folder: str | Path,
    model: str | Synthesizer | None = None,
    *,
    force: bool = False,
    progress: Progress | None = None,
    **settings: Any,
) -> Published:
    """Release and judge a private synthetic copy of SUPPORT2, real patients that ship with dpsynth.

    Parameters
    ----------
    folder, model, force, progress
        See `publish`.
    **settings
        Further arguments of `publish`; default: epsilon 1, and 30 % of the patients held out.

    Returns
    -------
    Published
        The model, the rows, the folders and the evaluation.
    """
    from dpsynth.datasets import load_support2

    terms = {"epsilon": DEMO_EPSILON, "delta": default_delta(), "holdout": DEMO_HOLDOUT, **settings}
    return publish(load_support2(), folder, model, force=force, progress=progress, **terms)


def _judging(progress: Progress | None) -> Progress | None:
    """Return what shows all phases of an evaluation as one."""
    return progress and (lambda _phase, share: progress("judging", share))


def _within(cohort: Cohort | ScannedCohort, memory: Any, progress: Progress | None) -> Cohort | ScannedCohort:
    """Return the cohort under a memory budget, if one is named, so that the samples that judge it keep it, too."""
    cohort = within(cohort, memory)
    return replace(cohort, progress=progress) if isinstance(cohort, ScannedCohort) else cohort


@dataclass(frozen=True)
class _Judges:
    """Real patients of both sides, in memory."""

    train: Cohort
    test: Cohort


def _sides(cohort: Cohort | ScannedCohort, coins: "Coins | None") -> tuple[Cohort | ScannedCohort, _Judges | None]:
    """Return who trains the model, and the patients of both sides that judge it; None where nobody is held out.

    How many are left to train on is private: a part declares no rows. Of a source samples of both sides judge; they are
    read before the budget is spent, so that rows that cannot be read end the run before.
    """
    if coins is None or coins.share is None:
        return cohort, None
    from dpsynth.evaluation.protocol import split

    if isinstance(cohort, ScannedCohort):
        return split(cohort, key=coins)[0], _Judges(*sampled(cohort, coins.sides(coins.share)))
    train, test = split(cohort, key=coins)
    return train, _Judges(train, test)


def _coins(
    cohort: Cohort | ScannedCohort, holdout: float | None, split: str | Path | None, checkpoint: str | Path | None
) -> "Coins | None":
    """Return the coins that hold patients out: kept ones, or new ones; None where nobody is held out."""
    if holdout is None and split is None:
        return None
    if holdout is not None and not 0 < holdout < 1:
        raise InputError(f"holdout: found {holdout:g}, expected a share between 0 and 1, such as 0.2.")
    from dpsynth.evaluation.coins import Coins

    cohort.schema.check_confirmed()
    coins = Coins.draw() if split is None else Coins.read(split)
    if checkpoint is None:
        return coins.bound(cohort, holdout or coins.share or 0.0)
    return _beside_checkpoint(cohort, holdout, coins, Path(checkpoint))


def _beside_checkpoint(
    cohort: Cohort | ScannedCohort, holdout: float | None, coins: "Coins", checkpoint: Path
) -> "Coins":
    """Return the coins of a run that can be taken up: those that it began with, which lie beside its folder."""
    kept = checkpoint.with_name(f"{checkpoint.name}.split.json")
    if not (checkpoint / "run.json").is_file():
        coins = coins.bound(cohort, holdout or coins.share or 0.0)
        kept.parent.mkdir(parents=True, exist_ok=True)
        coins.write(kept)
        return coins
    if not kept.is_file():
        raise InputError(
            f"checkpoint: {checkpoint.name} holds a run, and {kept.name}, which says whom it held out, is not beside "
            "it; put it back, or name a new folder."
        )
    began = type(coins).read(kept).bound(cohort, holdout or coins.share or 0.0)
    if coins.unit is not None and coins.secret != began.secret:
        raise InputError(
            f"split: the run in {checkpoint.name} began with another split; leave split out, or repeat it."
        )
    return began


@contextlib.contextmanager
def _outer(folder: Path) -> Iterator[None]:
    """Make the folder that holds a release, and take it away again if nothing came of it."""
    if folder.is_dir():
        yield
        return
    check_target(folder)
    folder.mkdir()
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            folder.rmdir()
        raise


def _places(folder: Path, *, force: bool, judged: bool) -> dict[str, Path]:
    """Return the folders to write, after checking that they can be, before anything is spent."""
    places = {name: folder / name for name in (("release", "internal") if judged else ("release",))}
    for place in places.values():
        check_target(place, force=force)
    if judged:
        check_unpublished(places["internal"])
    return places


def _write_internal(evaluation: "Evaluation | None", coins: "Coins", folder: Path, *, force: bool) -> None:
    """Write who was held out, and the numbers that touched real patients; the folder is for its owner's eyes."""
    with new_folder(folder, force=force) as fresh:
        fresh.chmod(0o700)
        coins.write(fresh / "split.json")
        if evaluation is not None:
            evaluation.write_json(fresh / "results.json")
            evaluation.write_html(fresh / "report.html")
