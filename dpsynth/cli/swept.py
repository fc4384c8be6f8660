"""``dpsynth evaluate --sweep``: utility and fairness against epsilon, on public data."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from dpsynth.cli.common import INTERRUPTED, emit, note, progress, table
from dpsynth.cli.formats import confirmed_schema
from dpsynth.cli.outcome import check_page
from dpsynth.errors import InputError

if TYPE_CHECKING:
    from dpsynth.evaluation.sweep import Sweep, SweepRun
    from dpsynth.jobs.yardstick import Direct
    from dpsynth.progress import Progress

__all__ = ["SweepOptions", "parse_epsilons", "swept"]


@dataclass(frozen=True, kw_only=True)
class SweepOptions:
    """Options of ``dpsynth evaluate --sweep``.

    Parameters
    ----------
    real, schema : pathlib.Path
        The public patients and their schema.
    form : mapping
        Options of the format of CSV files.
    epsilons : str
        As typed, such as ``0.3,1,3``.
    models, seeds, target, subgroups, seed
        See `dpsynth.jobs.sweep.sweep`.
    direct : str or None
        Kind of a DP classifier to train beside the models, see `dpsynth.jobs.yardstick.dp_classifier`.
    out : pathlib.Path
        The page.
    public : bool
        Whether a person says that the patients are public; nothing is swept else.
    force, json : bool
        Replace the page; print JSON.
    """

    real: Path
    schema: Path
    form: dict[str, Any]
    epsilons: str
    models: Sequence[str]
    seeds: int
    target: str | None
    subgroups: Sequence[str | Sequence[str]] | None
    direct: str | None
    seed: int
    out: Path
    public: bool
    force: bool
    json: bool


def swept(options: SweepOptions) -> None:
    """Fit and judge, and write the page with CSV and JSON beside it; what is done at an interruption is written too.

    Raises
    ------
    InputError, SchemaError, FileError
        Before the first fit, if an argument or a file is not as it should be.
    """
    if not options.public:
        raise InputError(
            "--sweep: fits many times, and each fit would spend its epsilon again. If these data are public or "
            "simulated, say so with --public: nothing here is then covered by epsilon. Private data cannot be swept."
        )
    epsilons, classifier = parse_epsilons(options.epsilons), _classifier(options)
    check_page(options.out, ".csv", ".json", force=options.force, public=options.public)
    runs: list[SweepRun] = []
    try:
        with progress(quiet=options.json) as report:
            for run in _runs(options, epsilons, classifier, report):
                runs.append(run)  # noqa: PERF402  (what is there at an interruption is written)
    except KeyboardInterrupt:
        note(f"interrupted after {len(runs)} fits; on public data nothing is spent.")
        _written(runs, options.out)
        raise typer.Exit(INTERRUPTED) from None
    except Exception:
        _written(runs, options.out)
        raise
    judged = _written(runs, options.out)
    if judged is not None and options.json:
        emit(judged.summary().to_dict(orient="records"))
    elif judged is not None:
        _shown(judged)


def _classifier(options: SweepOptions) -> "Direct | None":
    """Return the trainer of a DP classifier on the patients of each fit, if there is to be one."""
    from dpsynth.jobs.yardstick import OF_IMAGES, dp_classifier

    if options.direct is None:
        return None
    if options.direct in OF_IMAGES:
        raise InputError(
            f"--direct {options.direct}: learns from images, and a sweep follows tables; name logistic or mlp."
        )
    return dp_classifier(options.direct, options.target)


def _runs(
    options: SweepOptions, epsilons: list[float], classifier: "Direct | None", report: "Progress"
) -> "Iterator[SweepRun]":
    """Read the patients and fit and judge one model after another."""
    from dpsynth.cohort.cohort import Cohort
    from dpsynth.jobs.sweep import sweep

    schema = confirmed_schema(options.schema, options.form)
    report("reading", 0.0)
    return sweep(
        Cohort.read(options.real, schema, public=True),
        epsilons,
        models=options.models,
        seeds=options.seeds,
        target=options.target,
        subgroups=options.subgroups,
        classifier=classifier,
        seed=options.seed,
        progress=report,
    )


def parse_epsilons(text: str) -> list[float]:
    """Turn epsilons that are separated by commas into numbers.

    Parameters
    ----------
    text : str
        Such as ``0.3,1,3``.

    Returns
    -------
    list of float
        In the order that they are typed in.

    Raises
    ------
    InputError
        If a part is not a finite positive number.

    Examples
    --------
    >>> parse_epsilons("0.3,1,3")
    [0.3, 1.0, 3.0]
    """
    try:
        epsilons = [float(part) for part in text.split(",")]
    except ValueError:
        epsilons = [math.nan]
    if not all(math.isfinite(epsilon) and epsilon > 0 for epsilon in epsilons):
        raise InputError(f"--sweep {text!r}: expected positive numbers separated by commas, such as 0.3,1,3.")
    return epsilons


def _written(runs: "list[SweepRun]", out: Path) -> "Sweep | None":
    """Write what there is; nothing where no fit was finished."""
    from dpsynth.evaluation.sweep import Sweep
    from dpsynth.jobs.sweep import write_sweep

    if not runs:
        return None
    judged = Sweep(runs)
    names = ", ".join(str(path) for path in write_sweep(judged, out))
    note(f"{names}: {len(runs)} fits of public patients; nothing here is covered by epsilon.")
    return judged


_COLUMNS = {"auroc": "score", "worst_change": "worst group", "representation_slope": "slope", "tvd_2way": "TVD, pairs"}


def _shown(judged: "Sweep") -> None:
    """Print the means: real patients, then at each epsilon the floor, the DP classifier if any, and the models."""
    summary = judged.summary()
    means = {
        (row["model"], row["epsilon"], row["measure"]): float(row["mean"]) for row in summary.to_dict(orient="records")
    }
    cells = list(dict.fromkeys((model, epsilon) for model, epsilon, _ in means))
    rows = [("real patients", "", *_numbers(means, *cells[0], ":real"))]
    for epsilon in dict.fromkeys(epsilon for _, epsilon in cells):
        models = [model for model, fitted_at in cells if fitted_at == epsilon]
        rows.append(("floor", f"{epsilon:g}", *_numbers(means, models[0], epsilon, ":floor")))
        direct = _numbers(means, models[0], epsilon, ":dp_classifier")
        rows += [("DP classifier", f"{epsilon:g}", *direct)] if set(direct) != {"-"} else []
        rows += [(model, f"{epsilon:g}", *_numbers(means, model, epsilon)) for model in models]
    words = "score: AUROC or R² on real patients; worst group: its change against the real-trained model; means"
    table("against epsilon", ("", "epsilon", *_COLUMNS.values()), rows, caption=words)


def _numbers(means: dict[tuple[str, float, str], float], model: str, epsilon: float, arm: str = "") -> list[str]:
    values = [means.get((model, epsilon, f"{measure}{arm}")) for measure in _COLUMNS]
    return ["-" if value is None else f"{value:.3f}" for value in values]
