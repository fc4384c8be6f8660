"""``dpsynth audit``: attack a model, or check a release, and say what that could and could not show."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dpsynth.cli.common import (
    INTERRUPTED,
    DeltaOption,
    ForceOption,
    JsonOption,
    OptionsOption,
    check_file,
    emit,
    guarded,
    note,
    parse_options,
    progress,
    table,
)
from dpsynth.cli.formats import formatted, reads_tables
from dpsynth.errors import InputError

if TYPE_CHECKING:
    from dpsynth.auditing import Auditor
    from dpsynth.cohort import Cohort
    from dpsynth.evaluation.audit.outcome import Attack, Audit, Check

VIOLATED = 1
"""Exit code of a violation: a fault of ours."""


@guarded
@reads_tables
def run(
    subject: Annotated[str, typer.Argument(help="Folder of a release, or the name of a model (see `dpsynth models`).")],
    *,
    cohort: Annotated[
        Path | None,
        typer.Option(
            "--cohort",
            help="CSV or Parquet of public patients to attack on; a model is by default attacked "
            "on three columns of SUPPORT2.",
        ),
    ] = None,
    schema: Annotated[Path | None, typer.Option("--schema", "-s", help="Schema file of --cohort.")] = None,
    public: Annotated[
        bool, typer.Option("--public", help="Say that --cohort is public: it is read again and again, unpaid.")
    ] = False,
    epsilon: Annotated[
        float | None, typer.Option("--epsilon", "-e", help="For a model: the budget of each fit, which is the claim.")
    ] = None,
    delta: DeltaOption = None,
    option: OptionsOption = None,
    canary: Annotated[
        list[str] | None,
        typer.Option("--canary", help="corner, crowd (as many rows as a patient may have), rare; may be repeated."),
    ] = None,
    runs: Annotated[int, typer.Option("--runs", "-n", help="Fits in each world, for each canary.")] = 500,
    patients: Annotated[int, typer.Option("--patients", help="Patients of the cohort that are used.")] = 200,
    confidence: Annotated[float, typer.Option("--confidence", help="Of the whole audit.")] = 0.95,
    workers: Annotated[int, typer.Option("--workers", help="Processes that play at the same time.")] = 1,
    out: Annotated[Path, typer.Option("--out", "-o", help="File that gets the audit as JSON.")] = Path("audit.json"),
    force: ForceOption = False,
    json: JsonOption = False,
    form: dict[str, Any],
) -> None:
    """Attack a model with and without a made-up patient, and check what a release says of itself.

    It prints lower bounds on epsilon with their confidence, the most that so many runs could have shown, the claim, and
    one of three verdicts. An audit can refute a claim, never confirm it. Without --cohort the files of a release are
    checked and nothing is attacked. Stopped with Ctrl-C, it judges what was run until then.

    Exit code 1 if a violation was found.

    For example:

        dpsynth audit prism --epsilon 1 --runs 1000

        dpsynth audit release

        dpsynth audit release --cohort open.csv --schema open.yaml --public --canary corner --canary crowd
    """
    check_file(out, force=force)
    settings = {"runs": runs, "patients": patients, "confidence": confidence, "canaries": canary or ["corner"]}
    stopped = False
    with progress(quiet=json) as report:
        patients_of = _cohort(cohort, schema, form, public=public)
        auditor, checks, idle = _prepared(subject, patients_of, settings, epsilon=epsilon, delta=delta, option=option)
        try:
            if auditor is not None:
                auditor.run(workers=workers, progress=report)
        except KeyboardInterrupt:
            stopped = True
    found = auditor.found(checks) if auditor is not None else idle
    assert found is not None  # noqa: S101  (either there is an auditor, or a release was checked)
    _write(found, out)
    if json:
        emit(found.to_dict())
    else:
        _show(found)
        note(f"{out}: the audit as JSON.")
    if stopped:
        note("interrupted; what was run until then is judged. On public data nothing is spent.")
        raise typer.Exit(INTERRUPTED)
    if found.verdict == "violation found":
        raise typer.Exit(VIOLATED)


def _cohort(cohort: Path | None, schema: Path | None, form: dict[str, Any], *, public: bool) -> "Cohort | None":
    from dpsynth.cohort import Cohort
    from dpsynth.schema import Schema

    if cohort is None:
        if schema is not None or public or form:
            given = ", ".join(f"--{name}" for name in form) or "--schema, --public"
            raise InputError(f"{given}: are for --cohort; name the file of patients, or leave them out.")
        return None
    if schema is None:
        raise InputError("--schema: is needed with --cohort.")
    if not public:
        raise InputError(
            "--cohort: is read again and again and nothing is paid. If these data are public or simulated, say so with "
            "--public; private data cannot be used."
        )
    return Cohort.read(cohort, formatted(Schema.load(schema), form), public=True)


def _prepared(
    subject: str, cohort: "Cohort | None", settings: dict[str, Any], **given: Any
) -> "tuple[Auditor | None, tuple[Check, ...], Audit | None]":
    """Return who attacks (None where nobody can), the checks of a release, and what they say alone."""
    from dpsynth.auditing import Auditor, audit_release, auditor_of, demo_cohort

    if not Path(subject).is_dir():
        if given["epsilon"] is None:
            raise InputError("--epsilon: is needed to audit a model; it is what is claimed of each fit.")
        budget = {"epsilon": given["epsilon"], "delta": given["delta"], "options": parse_options(given["option"])}
        return Auditor(cohort or demo_cohort(), subject, **budget, **settings), (), None
    unused = [name for name, value in given.items() if value not in (None, [])]
    if unused:
        raise InputError(f"--{unused[0]}: is for a model; a release says itself how it was made. Leave it out.")
    checked = audit_release(subject, confidence=settings["confidence"])
    if cohort is None:
        return None, checked.checks, checked
    return auditor_of(subject, cohort, **settings), checked.checks, checked


def _write(found: "Audit", out: Path) -> None:
    from dpsynth.files import whole_file, write_json

    with whole_file(out) as partial:
        write_json(partial, found.to_dict())


def _show(found: "Audit") -> None:
    """Print checks, bounds and the verdict."""
    claim = found.claim
    curve = f", as the Gaussian curve of mu {claim.mu:.4g}" if claim.mu is not None else ""
    if found.checks:
        rows = [(check.name, check.detail, str(check.verdict)) for check in found.checks]
        table("what the release says of itself", ("check", "found", "verdict"), rows)
    each = next((bound.confidence for attack in found.attacks for bound in attack.bounds), found.confidence)
    table(
        f"attacks; claim: epsilon {claim.epsilon:g} at delta {claim.delta:g}{curve}",
        ("attack", "canary", "runs", "lower bound by", "epsilon", "ceiling", "verdict"),
        [row for attack in found.attacks for row in _lines(attack)],
        caption=f"each bound has confidence {each:.4g}, the whole audit {found.confidence:g}; ceiling: the most that "
        "so many runs could show; *: a bound on epsilon if the mechanism's curve is Gaussian",
    )
    for reason in dict.fromkeys(attack.reason for attack in found.attacks if attack.reason):
        note(f"not run: {reason}.")
    files = f" (its files: {found.of_checks})" if found.checks else ""
    note(f"{found.subject}: {found.verdict}{files}.")


def _lines(attack: "Attack") -> list[tuple[str, ...]]:
    verdict = str(attack.verdict)
    if not attack.bounds:
        return [(attack.name, attack.canary or "-", "-", "-", "-", "-", verdict)]
    return [
        (
            attack.name,
            attack.canary,
            f"{attack.runs:,}",
            bound.method + (" *" if bound.assumes else ""),
            f"{bound.epsilon:.3f}",
            f"{bound.ceiling:.2f}",
            verdict,
        )
        for bound in attack.bounds
    ]
