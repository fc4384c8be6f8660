"""``dpsynth audit``: attack a model, or check a release, and say what that could and could not show."""

from dataclasses import dataclass
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
from dpsynth.cli.formats import formatted, reads_tables, takes_options
from dpsynth.errors import InputError

if TYPE_CHECKING:
    from dpsynth.cohort.cohort import Cohort
    from dpsynth.evaluation.audit.outcome import Attack, Audit
    from dpsynth.jobs.audit import Auditor

VIOLATED = 1
"""Exit code of a violation: a fault of ours."""


@dataclass(frozen=True, kw_only=True)
class AuditOptions:
    """Options of ``dpsynth audit``, one field each, in the order of ``--help``."""

    subject: Annotated[str, typer.Argument(help="Folder of a release, or the name of a model (see `dpsynth models`).")]
    cohort: Annotated[
        Path | None,
        typer.Option(
            "--cohort",
            help="CSV or Parquet of public patients to attack on; a model is by default attacked "
            "on three columns of SUPPORT2.",
        ),
    ] = None
    schema: Annotated[Path | None, typer.Option("--schema", "-s", help="Schema file of --cohort.")] = None
    public: Annotated[
        bool, typer.Option("--public", help="Say that --cohort is public: it is read again and again, unpaid.")
    ] = False
    epsilon: Annotated[
        float | None, typer.Option("--epsilon", "-e", help="For a model: the budget of each fit, which is the claim.")
    ] = None
    delta: DeltaOption = None
    option: OptionsOption = None
    canary: Annotated[
        list[str] | None,
        typer.Option("--canary", help="corner, crowd (as many rows as a patient may have), rare; may be repeated."),
    ] = None
    runs: Annotated[int, typer.Option("--runs", "-n", help="Fits in each world, for each canary.")] = 500
    patients: Annotated[int, typer.Option("--patients", help="Patients of the cohort that are used.")] = 200
    confidence: Annotated[float, typer.Option("--confidence", help="Of the whole audit.")] = 0.95
    workers: Annotated[int, typer.Option("--workers", help="Processes that play at the same time.")] = 1
    out: Annotated[Path, typer.Option("--out", "-o", help="File that gets the audit as JSON.")] = Path("audit.json")
    force: ForceOption = False
    json: JsonOption = False
    form: dict[str, Any]

    @property
    def settings(self) -> dict[str, Any]:
        """Arguments of `dpsynth.jobs.audit.Auditor` that say how to attack."""
        return {
            "runs": self.runs,
            "patients": self.patients,
            "confidence": self.confidence,
            "canaries": self.canary or ["corner"],
        }


@guarded
@reads_tables
@takes_options(AuditOptions)
def run(options: AuditOptions) -> None:
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
    check_file(options.out, force=options.force)
    stopped = False
    with progress(quiet=options.json) as report:
        audited = _audited(options)
        try:
            if audited.auditor is not None:
                audited.auditor.run(workers=options.workers, progress=report)
        except KeyboardInterrupt:
            stopped = True
    audit = audited.audit()
    _write(audit, options.out)
    if options.json:
        emit(audit.to_dict())
    else:
        _show(audit)
        note(f"{options.out}: the audit as JSON.")
    if stopped:
        note("interrupted; what was run until then is judged. On public data nothing is spent.")
        raise typer.Exit(INTERRUPTED)
    if audit.verdict == "violation found":
        raise typer.Exit(VIOLATED)


@dataclass(frozen=True)
class _Audited:
    """The auditor of a model, and the checked files of a release; at least one of the two."""

    auditor: "Auditor | None" = None
    release: "Audit | None" = None

    def audit(self) -> "Audit":
        """Judge what was played beside the checks of the files."""
        if self.auditor is not None:
            return self.auditor.found(self.release.checks if self.release is not None else ())
        assert self.release is not None  # noqa: S101  (either there is an auditor, or a release was checked)
        return self.release


def _cohort(options: AuditOptions) -> "Cohort | None":
    """Read the public patients to attack on, where they are named."""
    from dpsynth.cohort.cohort import Cohort
    from dpsynth.schema.schema import Schema

    if options.cohort is None:
        if options.schema is not None or options.public or options.form:
            names = ", ".join(f"--{name}" for name in options.form) or "--schema, --public"
            raise InputError(f"{names}: are for --cohort; name the file of patients, or leave them out.")
        return None
    if options.schema is None:
        raise InputError("--schema: is needed with --cohort.")
    if not options.public:
        raise InputError(
            "--cohort: is read again and again and nothing is paid. If these data are public or simulated, say so with "
            "--public; private data cannot be used."
        )
    return Cohort.read(options.cohort, formatted(Schema.load(options.schema), options.form), public=True)


def _audited(options: AuditOptions) -> _Audited:
    """Read what is to be audited, and check the files of a release."""
    from dpsynth.jobs.audit import Auditor, audit_release, auditor_of, demo_cohort

    cohort, settings = _cohort(options), options.settings
    if not Path(options.subject).is_dir():
        if options.epsilon is None:
            raise InputError("--epsilon: is needed to audit a model; it is what is claimed of each fit.")
        claim: dict[str, Any] = {"epsilon": options.epsilon, "delta": options.delta}
        claim["options"] = parse_options(options.option)
        return _Audited(Auditor(cohort or demo_cohort(), options.subject, **claim, **settings))
    of_model = {"epsilon": options.epsilon, "delta": options.delta, "option": options.option}
    unused = [name for name, value in of_model.items() if value not in (None, [])]
    if unused:
        raise InputError(f"--{unused[0]}: is for a model; a release says itself how it was made. Leave it out.")
    release = audit_release(options.subject, confidence=options.confidence)
    return _Audited(None if cohort is None else auditor_of(options.subject, cohort, **settings), release)


def _write(audit: "Audit", out: Path) -> None:
    from dpsynth.atomic import whole_file, write_json

    with whole_file(out) as partial:
        write_json(partial, audit.to_dict())


def _show(audit: "Audit") -> None:
    """Print checks, bounds and the verdict."""
    claim = audit.claim
    curve = f", as the Gaussian curve of mu {claim.mu:.4g}" if claim.mu is not None else ""
    if audit.checks:
        rows = [(check.name, check.detail, str(check.verdict)) for check in audit.checks]
        table("what the release says of itself", ("check", "found", "verdict"), rows)
    each = next((bound.confidence for attack in audit.attacks for bound in attack.bounds), audit.confidence)
    table(
        f"attacks; claim: epsilon {claim.epsilon:g} at delta {claim.delta:g}{curve}",
        ("attack", "canary", "runs", "lower bound by", "epsilon", "ceiling", "verdict"),
        [row for attack in audit.attacks for row in _lines(attack)],
        caption=f"each bound has confidence {each:.4g}, the whole audit {audit.confidence:g}; ceiling: the most that "
        "so many runs could show; *: a bound on epsilon if the mechanism's curve is Gaussian",
    )
    for reason in dict.fromkeys(attack.reason for attack in audit.attacks if attack.reason):
        note(f"not run: {reason}.")
    files = f" (its files: {audit.of_checks})" if audit.checks else ""
    note(f"{audit.subject}: {audit.verdict}{files}.")


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
