"""The release on disk: a folder that is safe to publish, whole or not there.

```
README.md  croissant.json  privacy.json  data/patients.parquet  data/patients.csv  model/  report.html  report.json
and where there are images:  data/images/  data/index.parquet
```

Privacy contract: everything here is made from a model (paid for), a synthetic cohort (post-processing) and the schema
(public). There is no hash of private data, no path, user name or host name in it, and no clock time but the day.
"""

import dataclasses
import datetime as dt
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpsynth.atomic import new_folder, write_json
from dpsynth.errors import ModelFormatError
from dpsynth.privacy.spending.statement import discovered_in_words, unit_in_words
from dpsynth.publishing.card import NOT_PRIVATE, CardFacts, dataset_card, limits, title

if TYPE_CHECKING:
    from dpsynth.cohort.cohort import Cohort
    from dpsynth.models.base import Model
    from dpsynth.publishing.long_draw import LongDraw
    from dpsynth.schema.schema import Schema

__all__ = ["release_statement", "write_bundle"]

Page = Callable[[Path, Mapping[str, Any]], None]
"""Writes a report of public numbers, under this privacy statement, to this path."""


def write_bundle(
    model: "Model",
    synthetic: "Cohort | LongDraw",
    folder: str | Path,
    *,
    licence: str = "",
    force: bool = False,
    statement: Mapping[str, Any] | None = None,
    report: Page | None = None,
) -> Path:
    """Write the folder of a release, whole or not at all.

    Parameters
    ----------
    model : Model
        The fitted model; it goes into the release.
    synthetic : Cohort or LongDraw
        Rows, and images, that it sampled; those of a long draw are drawn while they are written.
    folder : path
        A new folder; its parent must be there.
    licence : str
        SPDX name or URL of the licence of the synthetic data; empty where none is given yet.
    force : bool
        Replace a folder that is there, in one step, once the new one is whole.
    statement : mapping, optional
        What ``privacy.json`` says; default: `release_statement`.
    report : callable, optional
        Writes ``report.html`` and ``report.json``; it must refuse numbers that are not public.

    Returns
    -------
    pathlib.Path
        The folder.

    Raises
    ------
    FileError
        If the folder is there (without `force`) or cannot be written.
    ModelFormatError
        If the model's privacy statement is not one.
    """
    from dpsynth.models.base import write_model

    folder = Path(folder)
    facts = _with_images(_facts(model.statement, rows=len(synthetic), licence=licence), synthetic)
    statement = release_statement(model, synthetic, licence=licence) if statement is None else statement
    columns = list(synthetic.columns)
    with new_folder(folder, force=force) as fresh:
        (fresh / "data").mkdir()
        (fresh / "model").mkdir()
        _write_data(synthetic, fresh / "data")
        write_model(model, fresh / "model")
        write_json(fresh / "privacy.json", statement)
        (fresh / "README.md").write_text(dataset_card(model.schema, columns, facts), encoding="utf-8")
        write_json(fresh / "croissant.json", _croissant(model.schema, columns, fresh, facts))
        if report is not None:
            report(fresh / "report.html", statement)
    return folder


def release_statement(model: "Model", synthetic: "Cohort | LongDraw", *, licence: str = "") -> dict[str, Any]:
    """Return the privacy statement of a release: that of its model, and the size, day and licence of the rows.

    Parameters
    ----------
    model : Model
        The fitted model.
    synthetic : Cohort or LongDraw
        Rows, and images, that it sampled.
    licence : str
        SPDX name or URL; empty where none is given yet.

    Returns
    -------
    dict
        JSON-able values that are all public.
    """
    from dpsynth import __version__

    facts = {"rows": len(synthetic), "date": _today(), "dpsynth": __version__, "licence": licence or None}
    images = {} if synthetic.images is None else {"images": len(synthetic.images)}
    return {**model.statement, "release": facts | images}


def _croissant(schema: "Schema", columns: list[str], folder: Path, facts: CardFacts) -> dict[str, Any]:
    """Return the machine-readable card of the files that are in the folder already."""
    from dpsynth.publishing.croissant import croissant

    return croissant(
        schema,
        columns,
        folder,
        title=title(schema),
        description=f"{schema.description} Synthetic records drawn under differential privacy.".strip(),
        limits=limits(facts) if facts.private else f"{NOT_PRIVATE} {limits(facts)}",
        date=_today(),
        licence=facts.licence,
        ending=facts.ending,
    )


def _facts(statement: Mapping[str, Any], *, rows: int, licence: str) -> CardFacts:
    """Read off the statement what the card says; a statement may come from a file, so it is not trusted."""
    from dpsynth import __version__

    try:
        return CardFacts(
            model=str(statement["model"]["name"]),
            epsilon=float(statement["epsilon"]),
            delta=float(statement["delta"]),
            unit=unit_in_words(statement),
            neighbours=str(statement["neighbours"]),
            private=statement["private"] is True,
            power=_power(statement["trade_off"]),
            rows=rows,
            licence=licence,
            not_protected=tuple(str(sentence) for sentence in statement["not_protected"]),
            version=__version__,
            remarks=(*map(str, statement.get("warnings", ())), *discovered_in_words(statement)),
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ModelFormatError("ledger.json: is not the privacy statement of a model; fit the model again.") from None


def _with_images(facts: CardFacts, synthetic: "Cohort | LongDraw") -> CardFacts:
    if synthetic.images is None:
        return facts
    from dpsynth.files.write_images import ending

    return dataclasses.replace(facts, images=len(synthetic.images), ending=ending(synthetic.images.pixels))


def _write_data(synthetic: "Cohort | LongDraw", folder: Path) -> None:
    """Write the rows as Parquet and CSV, and the images where there are any."""
    from dpsynth.publishing.long_draw import LongDraw

    if isinstance(synthetic, LongDraw):
        synthetic.write(folder / "patients.parquet", folder / "patients.csv")
        return
    synthetic.write(folder / "patients.parquet")
    synthetic.write(folder / "patients.csv", guard_formulas=True)
    if synthetic.images is not None:
        from dpsynth.files.write_images import write_images

        write_images(synthetic, folder)


def _power(trade_off: list[dict[str, float]]) -> float | None:
    """Return the highest true positive rate at a false positive rate of 1 %."""
    return next((1 - p["min_false_negative_rate"] for p in trade_off if p["false_positive_rate"] == 0.01), None)


def _today() -> str:
    return dt.datetime.now(dt.UTC).date().isoformat()
