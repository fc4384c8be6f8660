"""``dpsynth federate join``: take part in a study as one of its hospitals."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dpsynth.cli.common import LedgerOption, LimitOption, SourceArgument, guarded, note
from dpsynth.cli.federate_extra import KeyOption, StudyArgument, need_federated
from dpsynth.cli.formats import formatted, reads_tables, takes_options
from dpsynth.errors import InputError

if TYPE_CHECKING:
    from dpsynth.cohort.cohort import Cohort
    from dpsynth.federated.study import Study
    from dpsynth.jobs.join import Terms
    from dpsynth.sources.scanned import ScannedCohort


@dataclass(frozen=True, kw_only=True)
class JoinOptions:
    """Options of ``dpsynth federate join``, one field each, in the order of ``--help``."""

    study: StudyArgument
    data: SourceArgument
    schema: Annotated[
        Path | None,
        typer.Option(
            "--schema",
            "-s",
            help="This hospital's own confirmed schema; default: that of the study, which you confirm with your yes.",
            show_default=False,
        ),
    ] = None
    key: KeyOption = Path("hospital.key")
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Take part without being asked, for scripts.")] = False
    ledger: LedgerOption = None
    limit: LimitOption = None
    folder: Annotated[
        Path | None,
        typer.Option(
            "--folder",
            help="Keeps the run, so that it can be taken up again; default: STUDY.run beside the study file.",
            show_default=False,
        ),
    ] = None
    proxy: Annotated[
        str | None,
        typer.Option("--proxy", help="URL of a proxy; default: HTTPS_PROXY of the environment.", show_default=False),
    ] = None
    inspected_by: Annotated[
        Path | None,
        typer.Option(
            "--inspected-by",
            metavar="FILE",
            help="Certificate (PEM) of the authority of a proxy that inspects TLS; your IT has it.",
            show_default=False,
        ),
    ] = None
    give_up: Annotated[
        bool,
        typer.Option(
            "--give-up",
            help="End a stopped run for good: the ledger then counts what was spent, not all that was reserved.",
        ),
    ] = False
    form: dict[str, Any]


@guarded
@reads_tables
@takes_options(JoinOptions)
def run(options: JoinOptions) -> None:
    """Answer a study's questions about this hospital's patients, until the lead asks no more.

    No patient, no exact number and no row count leaves this computer: each answer has this hospital's share of the
    noise and is masked, so that the lead learns the sum over all hospitals alone. Connections go out only, to the
    address in the study file. What will be asked is shown, and a person is asked, before anything is
    spent. Each debit is in this hospital's own ledger, within its own limit, before an answer is sent.

    The same command again takes up a run that was stopped, and spends nothing twice.

    For example:

        dpsynth federate join study.yaml ward.parquet

        dpsynth federate join study.yaml ward.parquet --schema ward.yaml --limit 3 --key keys/hospital.key

        dpsynth federate join study.yaml ward.parquet --proxy http://proxy.hospital.org:3128
    """
    need_federated()
    from dpsynth.federated.keys import PrivateKeys
    from dpsynth.federated.study import Study
    from dpsynth.jobs.join import check_pinned, give_up, join_study, member_of, terms_of

    study = Study.load(options.study)
    check_pinned(study)
    name = member_of(study, PrivateKeys.load(options.key))
    cohort = _cohort(options, study)
    folder = options.folder or options.study.with_name(f"{options.study.stem}.run")
    if options.give_up:
        give_up(study, cohort, options.key, folder=folder, ledger=options.ledger)
        note(f"{folder}: the run is ended; what was spent is in the ledger.")
        return
    _show(terms_of(study, name, cohort, options.ledger), options.limit)
    _agree(study, is_sure=options.yes)
    reason = join_study(
        study,
        cohort,
        options.key,
        folder=folder,
        ledger=options.ledger,
        limit=options.limit,
        proxy=options.proxy,
        inspected_by=options.inspected_by,
        notice=note,
    )
    note(f"study {study.name} has ended: {reason} What was spent is in the ledger: `dpsynth ledger show`.")


def _cohort(options: JoinOptions, study: "Study") -> "Cohort | ScannedCohort":
    from dpsynth.schema.schema import Schema
    from dpsynth.sources.scanned import open_cohort

    schema = study.schema_of_all if options.schema is None else Schema.load(options.schema)
    schema = formatted(schema, options.form)
    schema.check_confirmed()
    return open_cohort(options.data, schema)


def _show(terms: "Terms", limit: float | None) -> None:
    """Say what will be asked, by whom, at which price, and how well it protects."""
    study = terms.study
    for line in (*_parties(terms), *_questions(terms), *_price(terms, limit)):
        typer.echo(line)
    typer.echo("compare the fingerprints with those that were read to you over the telephone.")
    if study.judge_by_hospital:
        typer.echo("hospitals are subgroups of the public judgement: whom the joint cohort fails is told by hospital.")


def _parties(terms: "Terms") -> list[str]:
    study = terms.study
    lines = [f"study {study.name}", f"  lead {study.lead.name}, {study.lead.address}: {study.lead.fingerprint}"]
    for hospital in study.hospitals:
        here = " (this hospital)" if hospital.name == terms.hospital else ""
        lines.append(f"  hospital {hospital.name}{here}: {hospital.fingerprint}")
    return lines


def _questions(terms: "Terms") -> list[str]:
    schema = terms.study.schema_of_all
    names = ", ".join(schema.columns)
    images = " and their images" if schema.images is not None else ""
    options = ", ".join(f"{name}={value}" for name, value in terms.study.options.items())
    return [
        f"model {terms.study.model}{f' ({options})' if options else ''}, which asks for sums: {', '.join(terms.kinds)}",
        f"about {len(schema.columns)} columns{images}: {names}",
    ]


def _price(terms: "Terms", limit: float | None) -> list[str]:
    study = terms.study
    n, t = len(study.hospitals), study.colluding
    most = study.max_hospitals_per_patient
    unit = "a patient at a hospital" if most is None else f"a patient of at most {most} of the hospitals"
    book = terms.ledger or "no ledger, as the data are public"
    before = "nothing spent before" if terms.spent is None else f"epsilon {terms.spent:.4g} spent before"
    allowed = terms.limit if terms.limit is not None else limit if limit is not None else study.epsilon
    lines = [
        f"price: epsilon {study.epsilon:g}, delta {study.delta:g}, for {unit}",
        f"ledger {book}: {before}, limit {allowed:g}",
        f"this holds with up to {t} of {n} hospitals colluding with the lead",
    ]
    if terms.alone is not None:
        lines.append(
            f"against all others together this hospital's own noise is left: epsilon {terms.alone:.3g} or less"
        )
    return lines


def _agree(study: "Study", *, is_sure: bool) -> None:
    """Ask a person, who is there to be asked.

    Raises
    ------
    InputError
        If nobody is, or does not agree.
    """
    if is_sure:
        return
    if not sys.stdin.isatty():
        raise InputError("join: asks a person before it spends, and nobody is at this terminal; scripts say --yes.")
    try:
        is_sure = typer.confirm(f"Spend epsilon {study.epsilon:g} of this hospital's patients on study {study.name}?")
    except typer.Abort:
        is_sure = False
    if not is_sure:
        raise InputError("join: not agreed; nothing was spent and nothing was sent.")
