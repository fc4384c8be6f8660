"""The release's README: a dataset card in the form of the Hugging Face Hub, from public facts alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpsynth.columns.kinds import Boolean, Categorical, Datetime, Identifier, Numeric
from dpsynth.schema.schema import Schema

if TYPE_CHECKING:
    from jinja2 import Template

__all__ = ["IMAGE_LIMITS", "LIMITS", "NOT_PRIVATE", "CardFacts", "dataset_card", "describe", "title"]

NOT_PRIVATE = "NOT PRIVATE: this was made with a fixed seed, for tests. Do not publish it."
LIMITS = (
    "The records are samples of a model of noisy counts, not patients. Rare groups and combinations carry the most "
    "noise and may be wrong or missing; relations that the model did not measure are absent; tests and intervals "
    "computed as if the rows were patients are too optimistic. Do not use it for decisions about a person, and confirm "
    "a finding on real data before acting on it."
)
IMAGE_LIMITS = (
    "The images are samples of a model too, not scans: what looks like a finding in one is not a finding, detail that "
    "is small or rare among patients is blurred or absent, and no image was taken of anybody."
)
_SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)
_MOST_VALUES = 12


Column = Numeric | Categorical | Boolean | Datetime | Identifier


@dataclass(frozen=True)
class CardFacts:
    """CardFacts that the card tells: the privacy statement, and the size of the table.

    Parameters
    ----------
    model : str
        Name of the synthesizer.
    epsilon, delta : float
        The whole budget of the run.
    unit, neighbours : str
        In words.
    private : bool
        False where a fixed seed drew the noise.
    power : float or None
        Highest share of cases that an attacker finds who may be wrong in 1 % of the others; None where not known.
    rows : int
        Released rows.
    licence : str
        SPDX name or URL; may be empty.
    not_protected : tuple of str
        Sentences.
    version : str
        Of dpsynth.
    images : int
        Released images.
    ending : str
        Suffix of the image files; empty where there are none.
    remarks : tuple of str
        Warnings, and what discovery told of columns.
    """

    model: str
    epsilon: float
    delta: float
    unit: str
    neighbours: str
    private: bool
    power: float | None
    rows: int
    licence: str
    not_protected: tuple[str, ...]
    version: str
    images: int = 0
    ending: str = ""
    remarks: tuple[str, ...] = ()


def title(schema: Schema) -> str:
    """Return the name of the release."""
    return f"{schema.name}, synthetic"


def dataset_card(schema: Schema, columns: list[str], facts: CardFacts) -> str:
    """Return the text of ``README.md``: YAML front matter and Markdown.

    Parameters
    ----------
    schema : Schema
        Public facts about the columns.
    columns : list of str
        The released columns, in order.
    facts : CardFacts
        What the privacy statement says, and the size of the table.

    Returns
    -------
    str
        The template ``card.md.j2`` beside this module, filled in.
    """
    return _template().render(
        front_matter=_front_matter(schema, facts),
        title=title(schema),
        not_private=NOT_PRIVATE,
        limits=limits(facts),
        schema=schema,
        columns=[(name, schema.columns[name]) for name in columns],
        facts=facts,
    )


@cache
def _template() -> "Template":
    """Return the template of the card; text is put in through the filter ``plain``, which makes it safe in Markdown."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(  # noqa: S701  (Markdown, not HTML: what would be markup is escaped by `plain`)
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(plain=_plain, describe=describe, may_be_missing=_may_be_missing)
    return environment.get_template("card.md.j2")


def _front_matter(schema: Schema, facts: CardFacts) -> str:
    import yaml

    head: dict[str, Any] = {
        "pretty_name": title(schema),
        "license": facts.licence or "unknown",
        "tags": ["synthetic", "differential-privacy", "tabular", *(["image"] if facts.ending else []), "medical"],
        "task_categories": _tasks(schema, facts),
        "size_categories": [next((name for limit, name in _SIZES if facts.rows < limit), "n>10M")],
        "configs": [
            {"config_name": "default", "data_files": "data/patients.parquet"},
            *([{"config_name": "images", "data_files": "data/index.parquet"}] if facts.ending else []),
        ],
    }
    kept = {key: value for key, value in head.items() if value is not None}
    return f"---\n{yaml.safe_dump(kept, sort_keys=False, allow_unicode=True)}---\n"


def _has_classes(schema: Schema) -> bool:
    return schema.target is not None and isinstance(schema.columns[schema.target], Categorical | Boolean)


def _tasks(schema: Schema, facts: CardFacts) -> list[str] | None:
    if not _has_classes(schema):
        return None
    return ["tabular-classification", *(["image-classification"] if facts.ending else [])]


def limits(facts: CardFacts) -> str:
    """Return what the release is not good for."""
    return f"{LIMITS} {IMAGE_LIMITS}" if facts.ending else LIMITS


def _may_be_missing(column: Column) -> str:
    return "yes" if getattr(column, "missing", False) else "no"


def describe(column: Column) -> str:
    """Return in words which values a column may have.

    Parameters
    ----------
    column : Column
        A column of a schema.

    Returns
    -------
    str
        Bounds with their unit, or values separated by commas.

    Examples
    --------
    >>> describe(Numeric(type="numeric", min=18, max=110, unit="years"))
    '18 to 110 years'
    """
    if isinstance(column, Numeric):
        bounds = f"{column.min:g} to {column.max:g} {column.unit}".strip()
        states = [*(f"{number:g}" for number in column.numbers), *(state.text for state in column.states)]
        return f"{bounds}; states: {', '.join(states)}" if states else bounds
    if isinstance(column, Datetime):
        return f"{column.min} to {column.max}"
    if isinstance(column, Identifier):
        return "identifier"
    values: Mapping[int, Any] = dict(enumerate(column.categories))
    if not values:
        return "categories found under differential privacy"
    shown = ", ".join(str(value) for value in list(values.values())[:_MOST_VALUES])
    return shown if len(values) <= _MOST_VALUES else f"{shown} and {len(values) - _MOST_VALUES} more"


def _plain(text: str) -> str:
    """Make text safe inside a Markdown line or table cell."""
    one_line = " ".join(text.split())
    for character, escaped in (("\\", "\\\\"), ("|", "\\|"), ("<", "&lt;"), ("`", "\\`"), ("*", "\\*"), ("[", "\\[")):
        one_line = one_line.replace(character, escaped)
    return one_line
