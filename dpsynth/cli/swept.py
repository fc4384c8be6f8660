"""``dpsynth evaluate --sweep``: utility and fairness against epsilon, on public data."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from dpsynth.cli.common import INTERRUPTED, emit, note, progress, table
from dpsynth.cli.formats import formatted
from dpsynth.cli.outcome import check_page
from dpsynth.errors import InputError

if TYPE_CHECKING:
    from dpsynth.evaluation.sweep import Sweep, SweepRun

__all__ = ["swept"]


def swept(
    real: Path,
    schema: Path,
    given: dict[str, Any],
    form: dict[str, Any],
    *,
    out: Path,
    public: bool,
    force: bool,
    json: bool,
) -> None:
    """Fit and judge, and write the page with CSV and JSON beside it; what is done at an interruption is written too.

    Raises
    ------
    InputError, SchemaError, FileError
        Before the first fit, if an argument or a file is not as it should be.
    """
    from dpsynth.cohort import Cohort
    from dpsynth.direct import OF_IMAGES, dp_classifier
    from dpsynth.schema import Schema
    from dpsynth.sweeping import sweep

    if not public:
        raise InputError(
            "--sweep: fits many times, and each fit would spend its epsilon again. If these data are public or "
            "simulated, say so with --public: nothing here is then covered by epsilon. Private data cannot be swept."
        )
    epsilons = parse_epsilons(given.pop("epsilons"))
    direct = given.pop("direct", None)
    if direct in OF_IMAGES:
        raise InputError(f"--direct {direct}: learns from images, and a sweep follows tables; name logistic or mlp.")
    given["classifier"] = None if direct is None else dp_classifier(direct, given["target"])
    check_page(out, ".csv", ".json", force=force, public=public)
    runs: list[SweepRun] = []
    try:
        with progress(quiet=json) as report:
            facts = formatted(Schema.load(schema), form)
            facts.check_confirmed()
            report("reading", 0.0)
            for run in sweep(Cohort.read(real, facts, public=True), epsilons, progress=report, **given):
                runs.append(run)  # noqa: PERF402  (what is there at an interruption is written)
    except KeyboardInterrupt:
        note(f"interrupted after {len(runs)} fits; on public data nothing is spent.")
        _written(runs, out)
        raise typer.Exit(INTERRUPTED) from None
    except Exception:
        _written(runs, out)
        raise
    found = _written(runs, out)
    if found is not None and json:
        emit(found.summary().to_dict(orient="records"))
    elif found is not None:
        _shown(found)


def parse_epsilons(text: str) -> list[float]:
    """Turn ``0.3,1,3`` into numbers.

    Raises
    ------
    InputError
        If a part is not a finite positive number.
    """
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = [math.nan]
    if not all(math.isfinite(one) and one > 0 for one in found):
        raise InputError(f"--sweep {text!r}: expected positive numbers with commas between them, such as 0.3,1,3.")
    return found


def _written(runs: "list[SweepRun]", out: Path) -> "Sweep | None":
    """Write what there is; nothing where no fit was finished."""
    from dpsynth.evaluation.sweep import Sweep
    from dpsynth.sweeping import write_sweep

    if not runs:
        return None
    found = Sweep(runs)
    names = ", ".join(str(path) for path in write_sweep(found, out))
    note(f"{names}: {len(runs)} fits of public patients; nothing here is covered by epsilon.")
    return found


_COLUMNS = {"auroc": "score", "worst_change": "worst group", "representation_slope": "slope", "tvd_2way": "TVD, pairs"}


def _shown(found: "Sweep") -> None:
    """Print the means: real patients, then at each epsilon the floor, the DP classifier if any, and the models."""
    summary = found.summary()
    means = {
        (row["model"], row["epsilon"], row["measure"]): float(row["mean"]) for row in summary.to_dict(orient="records")
    }
    cells = list(dict.fromkeys((model, epsilon) for model, epsilon, _ in means))
    rows = [("real patients", "", *_numbers(means, *cells[0], ":real"))]
    for epsilon in dict.fromkeys(epsilon for _, epsilon in cells):
        mine = [model for model, other in cells if other == epsilon]
        rows.append(("floor", f"{epsilon:g}", *_numbers(means, mine[0], epsilon, ":floor")))
        direct = _numbers(means, mine[0], epsilon, ":dp_classifier")
        rows += [("DP classifier", f"{epsilon:g}", *direct)] if set(direct) != {"-"} else []
        rows += [(model, f"{epsilon:g}", *_numbers(means, model, epsilon)) for model in mine]
    words = "score: AUROC or R² on real patients; worst group: its change against the real-trained model; means"
    table("against epsilon", ("", "epsilon", *_COLUMNS.values()), rows, caption=words)


def _numbers(means: dict[tuple[str, float, str], float], model: str, epsilon: float, arm: str = "") -> list[str]:
    found = [means.get((model, epsilon, f"{measure}{arm}")) for measure in _COLUMNS]
    return ["-" if value is None else f"{value:.3f}" for value in found]
