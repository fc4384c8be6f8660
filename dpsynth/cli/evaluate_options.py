"""The options of ``dpsynth evaluate``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from dpsynth.cli.common import ForceOption, JsonOption, JudgedSchemaOption, LabelOption

__all__ = ["SIDES", "EvaluateOptions"]

SIDES = ".split.json"
"""Ending of the file beside a page that keeps which half of the real patients tests."""


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """Options of ``dpsynth evaluate``, one field each, in the order of ``--help``."""

    real: Annotated[
        Path,
        typer.Option(
            "--real", help="Real patients that no model has seen: CSV, Parquet, image folder, or .npz (its test part)."
        ),
    ]
    schema: JudgedSchemaOption = None
    synthetic: Annotated[
        list[Path] | None,
        typer.Option(
            "--synthetic",
            help="Synthetic rows (as --real), or a release folder; further draws if repeated. Not with --sweep.",
        ),
    ] = None
    train: Annotated[
        Path | None,
        typer.Option("--train", help="Real patients that the model was fitted on; default: half of --real stands in."),
    ] = None
    split: Annotated[
        Path | None,
        typer.Option(
            "--split",
            help="In place of --train: internal/split.json of the run, --real being its whole table; those that it "
            "held out test. Or the .split.json that an earlier page left beside it: the same halves.",
        ),
    ] = None
    target: Annotated[str | None, typer.Option("--target", help="Outcome; default: the schema's.")] = None
    subgroup: Annotated[
        list[str] | None,
        typer.Option("--subgroup", help="Column whose groups are judged, or several: sex,race; may be repeated."),
    ] = None
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Write the report: one HTML page, JSON beside it; with --sweep (by default sweep.html) also CSV.",
            show_default=False,
        ),
    ] = None
    arm: Annotated[
        list[str] | None,
        typer.Option(
            "--arm",
            metavar="NAME=FILE",
            help="Rows to compare with: floor (independent columns, same epsilon), noiseless (same model, no noise).",
        ),
    ] = None
    bins: Annotated[
        str | None,
        typer.Option(
            "--bins",
            metavar="quantile|public",
            help="Cells of numbers: quantiles of --real (the default), or of the schema's ranges.",
        ),
    ] = None
    sweep: Annotated[
        str | None,
        typer.Option(
            "--sweep",
            metavar="EPSILONS",
            help="In place of --synthetic: fit models at these epsilons (0.3,1,3) and judge each fit. Needs --public.",
        ),
    ] = None
    seeds: Annotated[int | None, typer.Option("--seeds", help="Fits of each model and epsilon; default 5.")] = None
    model: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", help="Model to sweep; may be repeated. See `dpsynth models`."),
    ] = None
    direct: Annotated[
        str | None,
        typer.Option(
            "--direct",
            metavar="KIND",
            help="Also train this by DP-SGD on --train itself, the yardstick of synthesis: logistic or mlp, of images "
            "linear or cnn. Spends a budget of its own. With --sweep logistic or mlp, on the patients of each fit.",
        ),
    ] = None
    epsilon: Annotated[
        float | None,
        typer.Option("--epsilon", "-e", help="Budget of --direct; default: that of the release, never another."),
    ] = None
    delta: Annotated[
        float | None, typer.Option("--delta", help="Delta of --direct; default: that of the release, else 1e-6.")
    ] = None
    ledger: Annotated[
        Path | None,
        typer.Option("--ledger", help="Ledger of --train, for --direct; default: beside it, <file>.ledger.jsonl."),
    ] = None
    label: LabelOption = ""
    public: Annotated[
        bool,
        typer.Option(
            "--public", help="For --sweep and --direct: the real data are public; nothing here is covered by epsilon."
        ),
    ] = False
    force: ForceOption = False
    seed: Annotated[int, typer.Option("--seed", help="Seed of what the evaluation draws.")] = 0
    json: JsonOption = False
    form: dict[str, Any]

    @property
    def terms(self) -> dict[str, Any]:
        """The terms on which a direct classifier is trained, None where not given."""
        return {"epsilon": self.epsilon, "delta": self.delta, "ledger": self.ledger, "label": self.label or None}

    @property
    def subgroups(self) -> list[str | list[str]] | None:
        """The columns whose groups are judged; several that are separated by commas are judged together."""
        return [name.split(",") if "," in name else name for name in self.subgroup] if self.subgroup else None

    @property
    def halves(self) -> bool:
        """Whether private real patients are halved, because nobody says who trained the model."""
        return self.train is None and self.split is None and not self.public

    @property
    def sides(self) -> Path | None:
        """The file that keeps who is in which half; None where there are no halves or no page."""
        return self.out.with_suffix(SIDES) if self.out is not None and self.halves else None
