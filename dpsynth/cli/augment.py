"""``dpsynth augment``: synthetic patients for a scarce group, and what they do to a classifier."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dpsynth.cli.common import (
    AnywayOption,
    DataArgument,
    DeltaOption,
    JsonOption,
    LabelOption,
    LedgerOption,
    LimitOption,
    ModelOption,
    OptionsOption,
    SchemaOption,
    WithoutImagesOption,
    chosen,
    emit,
    guarded,
    note,
    progress,
    table,
)
from dpsynth.cli.formats import confirmed_schema, reads_tables, takes_options
from dpsynth.columns.written_conditions import parse_conditions
from dpsynth.errors import InputError

if TYPE_CHECKING:
    from dpsynth.jobs.augment import Augmentation
    from dpsynth.models import Model, Synthesizer
    from dpsynth.progress import Progress
    from dpsynth.schema.schema import Schema


@dataclass(frozen=True, kw_only=True)
class AugmentOptions:
    """Options of ``dpsynth augment``, one field each, in the order of ``--help``."""

    data: DataArgument
    schema: SchemaOption
    group: Annotated[str, typer.Option("--group", "-g", help="The scarce group, as a condition (see `sample`).")]
    target: Annotated[str | None, typer.Option("--target", help="Outcome of two values; default: the schema's.")] = None
    epsilon: Annotated[
        float | None,
        typer.Option("--epsilon", "-e", help="Budget of the model that is fitted. Needed unless one is given."),
    ] = None
    model_folder: Annotated[
        Path | None, typer.Option("--model-folder", help="A saved model or a release, in place of a fit.")
    ] = None
    test: Annotated[
        Path | None,
        typer.Option("--test", help="Real patients to test on that no model has seen; default: a part of the data."),
    ] = None
    holdout: Annotated[
        float | None, typer.Option("--holdout", help="Share of patients to test on, without --test; default 0.3.")
    ] = None
    split: Annotated[
        Path | None,
        typer.Option(
            "--split",
            help="internal/split.json of the run that made the model: test on the patients that it held out. Of a fit: "
            "a new file, too, that keeps who is tested on.",
        ),
    ] = None
    amount: Annotated[
        int | None, typer.Option("--amount", help="Synthetic patients to add; default: chosen by rehearsal.")
    ] = None
    delta: DeltaOption = None
    model: ModelOption = None
    option: OptionsOption = None
    without_images: WithoutImagesOption = False
    anyway: AnywayOption = False
    ledger: LedgerOption = None
    limit: LimitOption = None
    label: LabelOption = ""
    seed: Annotated[int, typer.Option("--seed", help="Seed of draws and learners, not of the noise.")] = 0
    json: JsonOption = False
    form: dict[str, Any]

    @property
    def of_fit(self) -> dict[str, Any]:
        """Arguments of `dpsynth.jobs.augment.augment` that have a meaning for a fit alone."""
        return {
            "ledger": self.ledger,
            "limit": self.limit,
            "delta": self.delta,
            "run_label": self.label,
            "without_images": self.without_images,
            "anyway": self.anyway,
        }


@guarded
@reads_tables
@takes_options(AugmentOptions)
def run(options: AugmentOptions) -> None:
    """Add synthetic patients of a scarce group and show, on held-out real patients, what a classifier gains.

    Real patients alone stand beside real and synthetic ones, and beside what costs no budget: repeated real patients,
    SMOTE, weights. How many to add is chosen by a rehearsal among synthetic patients. The numbers touch real patients
    without noise, and a classifier trained on real patients too is not covered by epsilon: keep both internal.

    --delta, --model, --option, --without-images, --anyway, --ledger, --limit and --label are those of the fit; they do
    not go with --model-folder.

    For example:

        dpsynth augment ward.csv --schema ward.yaml --epsilon 3 --target died --group "race == 'black'"

        dpsynth augment train.csv -s ward.yaml --model-folder release --test test.csv -g "sex == male and age >= 80"
    """
    _check(options)
    with progress(quiet=options.json) as report:
        augmentation = _augmentation(options, report)
    if options.json:
        emit(augmentation.to_dict())
    else:
        _show(augmentation)


def _check(options: AugmentOptions) -> None:
    """Refuse options of a fit beside a fitted model, or neither of the two."""
    if (options.epsilon is None) == (options.model_folder is None):
        raise InputError("--epsilon: give either the budget of a fit, or a fitted model with --model-folder.")
    if options.model_folder is not None:
        named = {"model": options.model, "option": options.option, **options.of_fit}
        unused = [name.removeprefix("run_") for name, value in named.items() if value]
        if unused:
            raise InputError(f"--{unused[0].replace('_', '-')}: belongs to a fit; it does not go with --model-folder.")


def _augmentation(options: AugmentOptions, report: "Progress") -> "Augmentation":
    """Read the schema and the patients, take the model or what fits one, and compare the classifiers."""
    from dpsynth.cohort.cohort import Cohort
    from dpsynth.jobs.augment import augment

    schema = confirmed_schema(options.schema, options.form)
    report("reading", 0.0)
    cohort = Cohort.read(options.data, schema)
    test = Cohort.read(options.test, schema) if options.test is not None else None
    settings = options.of_fit | {"epsilon": options.epsilon} if options.model_folder is None else {}
    return augment(
        cohort,
        parse_conditions([options.group]),
        label=options.group,
        target=options.target,
        model=_subject(options, schema),
        test=test,
        holdout=options.holdout,
        split=options.split,
        amount=options.amount,
        seed=options.seed,
        progress=report,
        **settings,
    )


def _subject(options: AugmentOptions, schema: "Schema") -> "Model | Synthesizer":
    """Return the fitted model of the command line, or else what fits one."""
    from dpsynth.models import load_model

    if options.model_folder is not None:
        return load_model(options.model_folder)
    return chosen(options.model, options.option, schema, without_images=options.without_images)


def _show(augmentation: "Augmentation") -> None:
    """Print a table for each learner, the rehearsal, the verdict and the notes."""
    for learner in dict.fromkeys(result.subject for result in augmentation.results):
        table(
            f"{learner}: AUROC on real held-out patients, {augmentation.added:,} synthetic patients added",
            ("trained on", augmentation.group, "change", "others", "change"),
            _rows(augmentation, learner),
            caption="95 % intervals, paired; internal numbers, not to be published",
        )
    choice = augmentation.choice
    if choice.rehearsed:
        tried = ", ".join(f"{amount:,}: {score:.3f}" for amount, score in choice.scores.items())
        note(f"rehearsal among synthetic patients (added: AUROC): {tried}; recommended: {choice.amount:,}.")
    note(augmentation.verdict)
    for text in augmentation.notes:
        note(f"note: {text}")


def _rows(augmentation: "Augmentation", learner: str) -> list[tuple[str, ...]]:
    """Return for each arm the AUROC in the group and among others, and how they differ from real patients alone."""
    rows = []
    for arm in augmentation.arms:
        cells = []
        for part in (augmentation.group, "others"):
            results = augmentation.results.select(arm=arm, group=part, subject=learner)
            cells.append(_value(results.one("group_auroc")))
            cells.append("" if arm == augmentation.arms[0] else _value(results.one("group_change"), sign="+"))
        rows.append((arm, *cells))
    return rows


def _value(result: Any, sign: str = "") -> str:
    """Return a value with its interval, or why there is none."""
    if result.value is None:
        return str(result.status).replace("_", " ")
    ends = result.interval
    shown = f"{result.value:{sign}.3f}"
    return f"{shown} ({ends.low:{sign}.3f} to {ends.high:{sign}.3f})" if ends else shown
