"""Release: rows are drawn from a model and written with its statement."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dpsynth.atomic import check_target
from dpsynth.cohort.cohort import Cohort
from dpsynth.errors import InputError
from dpsynth.models.base import Model, Progress
from dpsynth.progress import silent
from dpsynth.publishing.bundle import write_bundle
from dpsynth.publishing.long_draw import AT_ONCE, LongDraw, first_of
from dpsynth.sources.memory_budget import MemoryBudget


def release(
    model: Model,
    folder: str | Path,
    *,
    rows: int | None = None,
    seed: int | None = None,
    licence: str = "",
    force: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Sample from a model and write the bundle that can be published. Post-processing: costs nothing.

    Parameters
    ----------
    model : Model
        A fitted model.
    folder : path
        A new folder, written whole or not at all.
    rows : int, optional
        Default: the schema's public row count, else the model's own noisy estimate; never the private count.
    seed : int, optional
        Makes the sample repeatable.
    licence : str
        SPDX name or URL for the dataset card.
    force : bool
        Replace a folder that is there, once the new one is whole.
    progress : callable, optional
        Called with a phase and the share of it that is done.

    Returns
    -------
    pathlib.Path
        The folder.

    Raises
    ------
    InputError, FileError
        If `rows` is not positive, or the folder is there or cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from dpsynth import fit
    >>> from dpsynth.jobs.audit import demo_cohort
    >>> fitted = fit(demo_cohort(), "independent", epsilon=1.0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = release(fitted, Path(folder) / "release", rows=100, licence="CC0-1.0")
    ...     sorted(file.name for file in path.glob("*.json"))
    ['croissant.json', 'privacy.json', 'report.json']
    """
    check_rows(rows)
    check_target(Path(folder), force=force)
    synthetic = draw(model, rows, seed=seed, progress=progress)
    return bundle(model, synthetic, folder, licence=licence, force=force, progress=progress)


def draw(
    model: Model,
    rows: int | None = None,
    *,
    seed: int | None = None,
    progress: Progress | None = None,
    memory: MemoryBudget | None = None,
) -> Cohort | LongDraw:
    """Sample as many rows as a release has; arguments as for `release`.

    Whoever takes `rows` from a person passes it to `check_rows` first, before anything is spent for it.

    Returns
    -------
    Cohort or LongDraw
        Synthetic rows; of a model of images with their images. More rows of a table than fit into the memory are drawn
        piece by piece when they are written; those of visits, whose patients are numbered, at once.
    """
    report = progress or silent
    report("sampling", 0.0)
    count = rows or model.schema.units or model.rows
    at_once = AT_ONCE if memory is None else memory.sampled_rows(len(model.schema.columns), AT_ONCE)
    is_long = count > at_once and model.schema.visits is None and model.schema.images is None
    synthetic = LongDraw(model, count, at_once, seed=seed) if is_long else model.sample(count, seed=seed)
    report("sampling", 1.0)
    return synthetic


def bundle(
    model: Model,
    synthetic: Cohort | LongDraw,
    folder: str | Path,
    *,
    licence: str = "",
    force: bool = False,
    statement: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write the release of rows that were drawn already; arguments as for `release`.

    Parameters
    ----------
    model, folder, licence, force, progress
        See `release`.
    synthetic : Cohort or LongDraw
        The rows, as `draw` returned them.
    statement : mapping, optional
        What ``privacy.json`` is to say, where the caller needs it too: `dpsynth.publishing.bundle.release_statement`.

    Returns
    -------
    pathlib.Path
        The folder.

    Raises
    ------
    FileError
        If the folder is there (without `force`) or cannot be written.
    """
    from dpsynth.publishing.page import public_page

    report = progress or silent
    report("writing", 0.0)
    page = public_page(model, first_of(synthetic))
    path = write_bundle(model, synthetic, folder, licence=licence, force=force, statement=statement, report=page)
    report("writing", 1.0)
    return path


def check_rows(rows: int | None) -> None:
    """Refuse a number of rows that is not positive, before anything is spent for it.

    Raises
    ------
    InputError
        If `rows` is below 1.
    """
    if rows is not None and rows < 1:
        raise InputError(f"rows: found {rows}, expected 1 or more.")
