"""``dpsynth evaluate``: judge a synthetic table against real patients, or models over epsilon."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dpsynth.cli.common import (
    ForceOption,
    JsonOption,
    JudgedSchemaOption,
    LabelOption,
    emit,
    guarded,
    note,
    progress,
)
from dpsynth.cli.direct import Yardstick
from dpsynth.cli.formats import formatted, reads_tables
from dpsynth.cli.outcome import check_page, judged
from dpsynth.cli.swept import swept
from dpsynth.errors import InputError

if TYPE_CHECKING:
    from dpsynth.cohort import Cohort
    from dpsynth.evaluation.coins import Coins
    from dpsynth.evaluation.judge import Evaluation
    from dpsynth.respelling import ReadAlike
    from dpsynth.schema import Schema

SIDES = ".split.json"
"""Ending of the file beside a page that keeps which half of the real patients tests."""


@guarded
@reads_tables
def run(
    *,
    real: Annotated[
        Path,
        typer.Option(
            "--real", help="Real patients that no model has seen: CSV, Parquet, image folder, or .npz (its test part)."
        ),
    ],
    schema: JudgedSchemaOption = None,
    synthetic: Annotated[
        list[Path] | None,
        typer.Option(
            "--synthetic",
            help="Synthetic rows (as --real), or a release folder; further draws if repeated. Not with --sweep.",
        ),
    ] = None,
    train: Annotated[
        Path | None,
        typer.Option("--train", help="Real patients that the model was fitted on; default: half of --real stands in."),
    ] = None,
    split: Annotated[
        Path | None,
        typer.Option(
            "--split",
            help="In place of --train: internal/split.json of the run, --real being its whole table; those that it "
            "held out test. Or the .split.json that an earlier page left beside it: the same halves.",
        ),
    ] = None,
    target: Annotated[str | None, typer.Option("--target", help="Outcome; default: the schema's.")] = None,
    subgroup: Annotated[
        list[str] | None,
        typer.Option("--subgroup", help="Column whose groups are judged, or several: sex,race; may be repeated."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Write the report: one HTML page, JSON beside it; with --sweep (by default sweep.html) also CSV.",
            show_default=False,
        ),
    ] = None,
    arm: Annotated[
        list[str] | None,
        typer.Option(
            "--arm",
            metavar="NAME=FILE",
            help="Rows to compare with: floor (independent columns, same epsilon), noiseless (same model, no noise).",
        ),
    ] = None,
    bins: Annotated[
        str | None,
        typer.Option(
            "--bins",
            metavar="quantile|public",
            help="Cells of numbers: quantiles of --real (the default), or of the schema's ranges.",
        ),
    ] = None,
    sweep: Annotated[
        str | None,
        typer.Option(
            "--sweep",
            metavar="EPSILONS",
            help="In place of --synthetic: fit models at these epsilons (0.3,1,3) and judge each fit. Needs --public.",
        ),
    ] = None,
    seeds: Annotated[int | None, typer.Option("--seeds", help="Fits of each model and epsilon; default 5.")] = None,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", help="Model to sweep; may be repeated. See `dpsynth models`."),
    ] = None,
    direct: Annotated[
        str | None,
        typer.Option(
            "--direct",
            metavar="KIND",
            help="Also train this by DP-SGD on --train itself, the yardstick of synthesis: logistic or mlp, of images "
            "linear or cnn. Spends a budget of its own. With --sweep logistic or mlp, on the patients of each fit.",
        ),
    ] = None,
    epsilon: Annotated[
        float | None,
        typer.Option("--epsilon", "-e", help="Budget of --direct; default: that of the release, never another."),
    ] = None,
    delta: Annotated[
        float | None, typer.Option("--delta", help="Delta of --direct; default: that of the release, else 1e-6.")
    ] = None,
    ledger: Annotated[
        Path | None,
        typer.Option("--ledger", help="Ledger of --train, for --direct; default: beside it, <file>.ledger.jsonl."),
    ] = None,
    label: LabelOption = "",
    public: Annotated[
        bool,
        typer.Option(
            "--public", help="For --sweep and --direct: the real data are public; nothing here is covered by epsilon."
        ),
    ] = False,
    force: ForceOption = False,
    seed: Annotated[int, typer.Option("--seed", help="Seed of what the evaluation draws.")] = 0,
    json: JsonOption = False,
    form: dict[str, Any],
) -> None:
    """Judge a synthetic table: how close it is, and how well classifiers trained on it do on real patients.

    The numbers touch real patients without noise: they are internal, not to be published.

    With --direct it also trains a classifier on the patients of --train themselves, at the epsilon of the release. That
    spends this epsilon again, and the ledger keeps it: whatever can be refused is refused before.

    With --sweep it fits models itself, many times, on 70 % of public patients, and judges them on the others: utility
    and the worst group against epsilon, with ceiling and floor.

    For example:

        dpsynth evaluate --real holdout.csv --synthetic release --schema ward.yaml --out report.html

        dpsynth evaluate --real test.csv --train train.csv --synthetic fake.csv -s ward.yaml --json

        dpsynth evaluate --real real.csv --synthetic fake.csv --target died --subgroup sex --out report.html

        dpsynth evaluate --real test.csv --train train.csv --synthetic release -s ward.yaml --direct logistic

        dpsynth evaluate --real open.csv -s open.yaml --sweep 0.3,1,3 --seeds 5 --model prism --model mst --public
    """
    from dpsynth.workflow import evaluate

    subgroups = [name.split(",") if "," in name else name for name in subgroup] if subgroup else None
    terms = {"epsilon": epsilon, "delta": delta, "ledger": ledger, "label": label or None}
    if sweep is not None:
        _refuse("it is for --direct without --sweep", terms)
        _refuse(
            "it is not for --sweep",
            {"synthetic": synthetic or None, "train": train, "split": split, "arm": arm, "bins": bins},
        )
        if schema is None:
            raise InputError("--schema: is needed for --sweep: models are fitted, so a person must have checked it.")
        given: dict[str, Any] = {"epsilons": sweep, "models": model or (), "seeds": 5 if seeds is None else seeds}
        given |= {"target": target, "subgroups": subgroups, "seed": seed, "direct": direct}
        swept(real, schema, given, form, out=out or Path("sweep.html"), public=public, force=force, json=json)
        return
    _refuse("it is for --sweep", {"seeds": seeds, "model": model or None})
    if not synthetic:
        raise InputError("--synthetic: is needed: the rows to judge, or --sweep to fit and judge models.")
    if bins not in (None, "quantile", "public"):
        raise InputError(f"--bins {bins!r}: expected quantile or public.")
    _refuse("--train says who trained the model already", {"split": split if train is not None else None})
    halves = train is None and split is None and not public
    _check_out(out, halves=halves, force=force, public=public)
    files = _Files(real, synthetic, train, dict(map(_named, arm or ())), public=public, divided=split is not None)
    statement = _statement(synthetic[0])
    yardstick = _yardstick(direct, train, terms, statement, public=public)
    with progress(quiet=json) as report:
        report("reading", 0.0)
        facts, alike = _facts(schema, files, form)
        if yardstick is not None:
            facts.check_confirmed()
        cohorts = files.read(facts, alike)
        asked = {**cohorts, "target": target, "subgroups": subgroups}
        given = {"bins": bins or "quantile", "statement": statement, "seed": seed, "progress": report}
        coins = _coins(split, cohorts["real"] if halves else None)
        classifiers = [yardstick.trained(asked, report)] if yardstick else ()
        found = evaluate(**asked, **given, split=coins, classifiers=classifiers)
        _write(found, out, coins if halves else None, public=public)
    if json:
        emit(found.to_dict())
        return
    judged(found)
    _told(out, halves=halves, public=public)


def _check_out(out: Path | None, *, halves: bool, force: bool, public: bool) -> None:
    """Refuse a page that cannot be written with what comes beside it."""
    if out is not None:
        check_page(out, ".json", *([SIDES] if halves else []), force=force, public=public)


def _write(found: "Evaluation", out: Path | None, coins: "Coins | None", *, public: bool) -> None:
    """Write the page, its JSON twin, and who tested where these are two halves."""
    if out is None:
        return
    found.write_html(out, public=public)
    found.write_json(out.with_suffix(".json"), public=public)
    if coins is not None:
        coins.write(out.with_suffix(SIDES))


def _told(out: Path | None, *, halves: bool, public: bool) -> None:
    """Say what was written."""
    if out is None:
        return
    kind = "public, as the patients are" if public else "internal: it holds numbers that touched real patients"
    note(f"{out}: the report, {kind}.")
    if halves:
        note(f"{out.with_suffix(SIDES)}: which half of the real patients tests; secret. --split repeats it.")


def _coins(split: Path | None, halved: "Cohort | None") -> "Coins | None":
    """Return who tests: as it was kept, or for two halves as it is to be kept beside the page."""
    from dpsynth.evaluation.coins import Coins

    if split is not None:
        return Coins.read(split)
    return None if halved is None else Coins.draw().bound(halved, 0.5)


def _yardstick(
    kind: str | None, train: Path | None, terms: dict[str, Any], statement: "dict[str, Any] | None", *, public: bool
) -> Yardstick | None:
    """Return what is asked of a direct classifier, if anything; refuse options that do not go together."""
    if kind is None:
        _refuse("it is for --direct", terms)
        _refuse("it is for --sweep and --direct", {"public": public or None})
        return None
    if train is None:
        raise InputError("--train: is needed for --direct: the patients that the classifier learns from.")
    if public:
        _refuse("public data have no ledger", {"ledger": terms["ledger"]})
    return Yardstick.of(kind, terms, statement)


@dataclass(frozen=True)
class _Files:
    """The files of one evaluation; `public` is what a person says of the real ones, `divided` that sides are kept."""

    real: Path
    synthetic: list[Path]
    train: Path | None
    arms: dict[str, Path]
    public: bool
    divided: bool = False

    @property
    def paths(self) -> list[Path]:
        """All of them."""
        return [self.real, *self.synthetic, *([self.train] if self.train is not None else []), *self.arms.values()]

    @property
    def judged(self) -> list[Path]:
        """Those that are compared with real patients."""
        return [*self.synthetic, *self.arms.values()]

    def read(self, facts: "Schema", alike: "ReadAlike | None") -> dict[str, Any]:
        """Return their cohorts as arguments of `dpsynth.evaluate`; `alike` has those that were read already."""
        from dpsynth.cohort import Cohort
        from dpsynth.images import is_archive

        part = "test" if is_archive(self.real) and not self.divided else None  # a run learns from the training part
        return {
            "real": Cohort.read(self.real, facts, part=part, public=self.public),
            "synthetic": [_synthetic(path, facts, alike) for path in self.synthetic],
            "train": Cohort.read(self.train, facts, public=self.public) if self.train is not None else None,
            "arms": {name: _synthetic(path, facts, alike) for name, path in self.arms.items()},
        }


def _named(given: str) -> tuple[str, Path]:
    """Split ``floor=independent.csv``."""
    name, found, path = given.partition("=")
    if not found or not path:
        raise InputError(f"--arm {given!r}: expected NAME=FILE, such as floor=independent.csv.")
    return name, Path(path)


def _facts(schema: Path | None, files: "_Files", form: dict[str, Any]) -> "tuple[Schema, ReadAlike | None]":
    """Return the schema that was named, that of the first release, or a draft from the real files, for judging only.

    With a draft also the other tables, whose values may be spelled in other ways.
    """
    from dpsynth.drafting import draft
    from dpsynth.respelling import read_alike
    from dpsynth.schema import Schema

    if schema is not None:
        return formatted(Schema.load(schema), form), None
    inside = [found for path in files.paths if (found := path / "model" / "schema.json").is_file()]
    if inside:
        return formatted(Schema.load(inside[0]), form), None
    note(
        "no --schema: bounds and categories are guessed from the real files. That is enough to judge, "
        "but not to release."
    )
    if any(path.is_dir() or path.suffix.lower() == ".npz" for path in files.paths):
        return draft(*files.paths, form=form).with_likeliest(), None
    real = [files.real, *([files.train] if files.train is not None else [])]
    alike = read_alike(real, files.judged, form)
    if alike.remarks:
        strange = "; ".join(alike.remarks)
        note(f"values that the real file does not have: {strange}. They count as they are, or as missing.")
    return alike.schema, alike


def _refuse(reason: str, given: "dict[str, Any]") -> None:
    """Refuse an option that has no meaning here, rather than pass it over."""
    unused = [name for name, value in given.items() if value is not None]
    if unused:
        raise InputError(f"--{unused[0]}: {reason}; leave it out.")


def _statement(path: Path) -> "dict[str, Any] | None":
    """Return the privacy statement of a release folder, where there is one."""
    from dpsynth.files import read_json

    inside = path / "privacy.json"
    return read_json(inside) if path.is_dir() and inside.is_file() else None


def _synthetic(path: Path, schema: "Schema", alike: "ReadAlike | None") -> "Cohort":
    from dpsynth.cohort import Cohort
    from dpsynth.images import index_of

    if alike is not None:
        return alike.cohort(path)
    inside = path / "data"
    if path.is_dir() and inside.is_dir():
        path = inside if schema.images is not None and index_of(inside) else inside / "patients.parquet"
    return Cohort.read(path, schema, synthetic=True)
