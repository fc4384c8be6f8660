"""``dpsynth augment``: synthetic patients for a scarce group, and what they do to a classifier."""

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
from dpsynth.cli.formats import formatted, reads_tables
from dpsynth.cli.where import parse_conditions
from dpsynth.errors import InputError

if TYPE_CHECKING:
    from dpsynth.augmenting import Augmentation
    from dpsynth.models import Model, Synthesizer


@guarded
@reads_tables
def run(
    data: DataArgument,
    *,
    schema: SchemaOption,
    group: Annotated[str, typer.Option("--group", "-g", help="The scarce group, as a condition (see `sample`).")],
    target: Annotated[
        str | None, typer.Option("--target", help="Outcome of two values; default: the schema's.")
    ] = None,
    epsilon: Annotated[
        float | None,
        typer.Option("--epsilon", "-e", help="Budget of the model that is fitted. Needed unless one is given."),
    ] = None,
    model_folder: Annotated[
        Path | None, typer.Option("--model-folder", help="A saved model or a release, in place of a fit.")
    ] = None,
    test: Annotated[
        Path | None,
        typer.Option("--test", help="Real patients to test on that no model has seen; default: a part of the data."),
    ] = None,
    holdout: Annotated[
        float | None, typer.Option("--holdout", help="Share of patients to test on, without --test; default 0.3.")
    ] = None,
    split: Annotated[
        Path | None,
        typer.Option(
            "--split",
            help="internal/split.json of the run that made the model: test on the patients that it held out. Of a fit: "
            "a new file, too, that keeps who is tested on.",
        ),
    ] = None,
    amount: Annotated[
        int | None, typer.Option("--amount", help="Synthetic patients to add; default: chosen by rehearsal.")
    ] = None,
    delta: DeltaOption = None,
    model: ModelOption = None,
    option: OptionsOption = None,
    without_images: WithoutImagesOption = False,
    anyway: AnywayOption = False,
    ledger: LedgerOption = None,
    limit: LimitOption = None,
    label: LabelOption = "",
    seed: Annotated[int, typer.Option("--seed", help="Seed of draws and learners, not of the noise.")] = 0,
    json: JsonOption = False,
    form: dict[str, Any],
) -> None:
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
    from dpsynth.augmenting import augment
    from dpsynth.cohort import Cohort
    from dpsynth.models import load_model
    from dpsynth.schema import Schema

    of_fit = {"model": model, "option": option, "ledger": ledger, "limit": limit, "delta": delta, "label": label}
    of_fit |= {"without_images": without_images, "anyway": anyway}
    _check(epsilon, model_folder, of_fit)
    with progress(quiet=json) as report:
        facts = formatted(Schema.load(schema), form)
        facts.check_confirmed()
        report("reading", 0.0)
        cohort = Cohort.read(data, facts)
        exam = Cohort.read(test, facts) if test is not None else None
        settings: dict[str, Any] = {}
        subject: Model | Synthesizer
        if model_folder is not None:
            subject = load_model(model_folder)
        else:
            subject = chosen(model, option, facts, without_images=without_images)
            settings = {"epsilon": epsilon, "delta": delta, "ledger": ledger, "limit": limit, "run_label": label}
            settings |= {"without_images": without_images, "anyway": anyway}
        found = augment(
            cohort,
            parse_conditions([group]),
            label=group,
            target=target,
            model=subject,
            test=exam,
            holdout=holdout,
            split=split,
            amount=amount,
            seed=seed,
            progress=report,
            **settings,
        )
    if json:
        emit(found.to_dict())
    else:
        _show(found)


def _check(epsilon: float | None, folder: Path | None, of_fit: dict[str, Any]) -> None:
    if (epsilon is None) == (folder is None):
        raise InputError("--epsilon: give either the budget of a fit, or a fitted model with --model-folder.")
    if folder is not None:
        given = [name for name, value in of_fit.items() if value]
        if given:
            raise InputError(f"--{given[0].replace('_', '-')}: belongs to a fit; it does not go with --model-folder.")


def _show(found: "Augmentation") -> None:
    from dpsynth.evaluation.augmentation import ARMS, REAL

    for learner in dict.fromkeys(one.subject for one in found.results):
        rows = []
        for arm in ARMS:
            cells = []
            for part in (found.group, "others"):
                mine = found.results.select(arm=arm, group=part, subject=learner)
                cells.append(_value(mine.one("group_auroc")))
                cells.append("" if arm == REAL else _value(mine.one("group_change"), sign="+"))
            rows.append((arm, *cells))
        table(
            f"{learner}: AUROC on real held-out patients, {found.added:,} synthetic patients added",
            ("trained on", found.group, "change", "others", "change"),
            rows,
            caption="95 % intervals, paired; internal numbers, not to be published",
        )
    if found.choice.rehearsed:
        tried = ", ".join(f"{amount:,}: {score:.3f}" for amount, score in found.choice.scores.items())
        note(f"rehearsal among synthetic patients (added: AUROC): {tried}; recommended: {found.choice.amount:,}.")
    note(found.verdict)
    for text in found.notes:
        note(f"note: {text}")


def _value(one: Any, sign: str = "") -> str:
    if one.value is None:
        return str(one.status).replace("_", " ")
    ends = one.interval
    shown = f"{one.value:{sign}.3f}"
    return f"{shown} ({ends.low:{sign}.3f} to {ends.high:{sign}.3f})" if ends else shown
