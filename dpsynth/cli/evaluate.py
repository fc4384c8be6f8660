"""``dpsynth evaluate``: judge a synthetic table against real patients, or models over epsilon."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpsynth.cli.common import emit, guarded, note, progress
from dpsynth.cli.direct import Yardstick
from dpsynth.cli.evaluate_options import SIDES, EvaluateOptions
from dpsynth.cli.formats import formatted, reads_tables, takes_options
from dpsynth.cli.outcome import check_page, judged
from dpsynth.cli.swept import SweepOptions, swept
from dpsynth.errors import InputError

if TYPE_CHECKING:
    from dpsynth.cohort.cohort import Cohort
    from dpsynth.drafting.respelling import ReadAlike
    from dpsynth.evaluation.coins import Coins
    from dpsynth.evaluation.evaluation import Evaluation
    from dpsynth.schema.schema import Schema
    from dpsynth.sources.scanned import ScannedCohort


@guarded
@reads_tables
@takes_options(EvaluateOptions)
def run(options: EvaluateOptions) -> None:
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
    if options.sweep is not None:
        swept(_sweep_options(options, options.sweep))
        return
    evaluation = _evaluation(options)
    if options.json:
        emit(evaluation.to_dict())
        return
    judged(evaluation)
    _say_what_was_written(options)


def _sweep_options(options: EvaluateOptions, epsilons: str) -> SweepOptions:
    """Return what a sweep needs, after refusing what belongs to an evaluation of rows."""
    _refuse("it is for --direct without --sweep", options.terms)
    rows = {"synthetic": options.synthetic or None, "train": options.train, "split": options.split}
    _refuse("it is not for --sweep", rows | {"arm": options.arm, "bins": options.bins})
    if options.schema is None:
        raise InputError("--schema: is needed for --sweep: models are fitted, so a person must have checked it.")
    return SweepOptions(
        real=options.real,
        schema=options.schema,
        form=options.form,
        epsilons=epsilons,
        models=options.model or (),
        seeds=5 if options.seeds is None else options.seeds,
        target=options.target,
        subgroups=options.subgroups,
        direct=options.direct,
        seed=options.seed,
        out=options.out or Path("sweep.html"),
        public=options.public,
        force=options.force,
        json=options.json,
    )


def _evaluation(options: EvaluateOptions) -> "Evaluation":
    """Check the options, read the files, train a direct classifier if there is one, judge, and write the report."""
    from dpsynth.jobs.evaluate import evaluate

    files = _files(options)
    statement = _statement(files.synthetic[0])
    yardstick = _yardstick(options, statement)
    with progress(quiet=options.json) as report:
        report("reading", 0.0)
        schema, alike = _schema(options.schema, files, options.form)
        if yardstick is not None:
            schema.check_confirmed()
        cohorts = files.read(schema, alike)
        task = {**cohorts, "target": options.target, "subgroups": options.subgroups}
        coins = _coins(options.split, cohorts["real"] if options.halves else None)
        evaluation = evaluate(
            **task,
            split=coins,
            classifiers=[yardstick.trained(task, report)] if yardstick else (),
            bins="public" if options.bins == "public" else "quantile",
            statement=statement,
            seed=options.seed,
            progress=report,
        )
        _write(evaluation, options, coins)
    return evaluation


def _files(options: EvaluateOptions) -> "_Files":
    """Return the files to read and check where the report goes, after refusing options that do not go together."""
    _refuse("it is for --sweep", {"seeds": options.seeds, "model": options.model or None})
    if not options.synthetic:
        raise InputError("--synthetic: is needed: the rows to judge, or --sweep to fit and judge models.")
    if options.bins not in (None, "quantile", "public"):
        raise InputError(f"--bins {options.bins!r}: expected quantile or public.")
    _refuse("--train says who trained the model already", {"split": options.split if options.train else None})
    if options.out is not None:
        endings = (".json", SIDES) if options.halves else (".json",)
        check_page(options.out, *endings, force=options.force, public=options.public)
    return _Files(
        options.real,
        options.synthetic,
        options.train,
        dict(map(_arm, options.arm or ())),
        public=options.public,
        divided=options.split is not None,
    )


def _write(evaluation: "Evaluation", options: EvaluateOptions, coins: "Coins | None") -> None:
    """Write the page, its JSON twin, and who tested where these are two halves."""
    if options.out is None:
        return
    evaluation.write_html(options.out, public=options.public)
    evaluation.write_json(options.out.with_suffix(".json"), public=options.public)
    if coins is not None and options.sides is not None:
        coins.write(options.sides)


def _say_what_was_written(options: EvaluateOptions) -> None:
    if options.out is None:
        return
    kind = "public, as the patients are" if options.public else "internal: it holds numbers that touched real patients"
    note(f"{options.out}: the report, {kind}.")
    if options.sides is not None:
        note(f"{options.sides}: which half of the real patients tests; secret. --split repeats it.")


def _coins(split: Path | None, halved: "Cohort | None") -> "Coins | None":
    """Return who tests: as it was kept, or for two halves as it is to be kept beside the page."""
    from dpsynth.evaluation.coins import Coins

    if split is not None:
        return Coins.read(split)
    return None if halved is None else Coins.draw().bound(halved, 0.5)


def _yardstick(options: EvaluateOptions, statement: "dict[str, Any] | None") -> Yardstick | None:
    """Return the direct classifier of the command line, if there is one; refuse options that do not go together."""
    from dpsynth.sources.locating import is_several

    if options.direct is None:
        _refuse("it is for --direct", options.terms)
        _refuse("it is for --sweep and --direct", {"public": options.public or None})
        return None
    if options.train is None:
        raise InputError("--train: is needed for --direct: the patients that the classifier learns from.")
    if options.public:
        _refuse("public data have no ledger", {"ledger": options.ledger})
    if any(is_several(path) for path in (options.real, options.train)):
        raise InputError("--direct: trains and tests on rows in memory; give --train and --real as one file each.")
    return Yardstick.of(options.direct, options.terms, statement)


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

    def read(self, schema: "Schema", alike: "ReadAlike | None") -> dict[str, Any]:
        """Return their cohorts as arguments of `dpsynth.evaluate`; `alike` has those that were read already."""
        from dpsynth.files.archive import is_archive

        part = "test" if is_archive(self.real) and not self.divided else None  # a run learns from the training part
        return {
            "real": _real(self.real, schema, part=part, public=self.public),
            "synthetic": [_synthetic(path, schema, alike) for path in self.synthetic],
            "train": _real(self.train, schema, public=self.public) if self.train is not None else None,
            "arms": {name: _synthetic(path, schema, alike) for name, path in self.arms.items()},
        }


def _real(path: Path, schema: "Schema", *, part: str | None = None, public: bool) -> "Cohort | ScannedCohort":
    """Return real patients: of many files, or a table of DuckDB, a sample is judged by, which is said."""
    from dpsynth.cohort.cohort import Cohort
    from dpsynth.sources.sampling import MOST
    from dpsynth.sources.scanned import is_scanned, scan

    if not is_scanned(path, schema):
        return Cohort.read(path, schema, part=part, public=public)
    note(f"{path.name}: judged by a sample of its patients, at most {MOST:,} rows, that fits into memory.")
    return scan(path, schema, public=public)


def _arm(text: str) -> tuple[str, Path]:
    """Split ``floor=independent.csv``."""
    name, equals, path = text.partition("=")
    if not equals or not path:
        raise InputError(f"--arm {text!r}: expected NAME=FILE, such as floor=independent.csv.")
    return name, Path(path)


def _schema(path: Path | None, files: _Files, form: dict[str, Any]) -> "tuple[Schema, ReadAlike | None]":
    """Return the schema that was named, that of the first release, or a draft from the real files, for judging only.

    With a draft also the other tables, whose values may be spelled in other ways.
    """
    from dpsynth.drafting.draft import draft
    from dpsynth.drafting.respelling import read_alike
    from dpsynth.schema.schema import Schema
    from dpsynth.sources.locating import is_several

    if path is None:
        candidates = (folder / "model" / "schema.json" for folder in files.paths)
        path = next((candidate for candidate in candidates if candidate.is_file()), None)
    if path is not None:
        return formatted(Schema.load(path), form), None
    if any(map(is_several, files.paths)):
        raise InputError(
            "--schema: is needed to judge by many files or a table of DuckDB; `dpsynth schema draft` writes a first."
        )
    note(
        "no --schema: bounds and categories are guessed from the real files. That is enough to judge, "
        "but not to release."
    )
    if any(file.is_dir() or file.suffix.lower() == ".npz" for file in files.paths):
        return draft(*files.paths, form=form).with_likeliest(), None
    real = [files.real, *([files.train] if files.train is not None else [])]
    alike = read_alike(real, files.judged, form)
    if alike.remarks:
        strange = "; ".join(alike.remarks)
        note(f"values that the real file does not have: {strange}. They count as they are, or as missing.")
    return alike.schema, alike


def _refuse(reason: str, options: dict[str, Any]) -> None:
    """Refuse an option that has no meaning here, rather than pass it over."""
    unused = [name for name, value in options.items() if value is not None]
    if unused:
        raise InputError(f"--{unused[0]}: {reason}; leave it out.")


def _statement(path: Path) -> "dict[str, Any] | None":
    """Return the privacy statement of a release folder, where there is one."""
    from dpsynth.atomic import read_json

    inside = path / "privacy.json"
    return read_json(inside) if path.is_dir() and inside.is_file() else None


def _synthetic(path: Path, schema: "Schema", alike: "ReadAlike | None") -> "Cohort":
    from dpsynth.cohort.cohort import Cohort
    from dpsynth.files.folder import index_of

    if alike is not None:
        return alike.cohort(path)
    inside = path / "data"
    if path.is_dir() and inside.is_dir():
        path = inside if schema.images is not None and index_of(inside) else inside / "patients.parquet"
    return Cohort.read(path, schema, synthetic=True)
