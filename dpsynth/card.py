"""The release's README: a dataset card in the form of the Hugging Face Hub, from public facts alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dpsynth.columns import Boolean, Categorical, Datetime, Identifier, Numeric
from dpsynth.schema import Schema

__all__ = ["IMAGE_LIMITS", "LIMITS", "NOT_PRIVATE", "Facts", "dataset_card", "describe", "title"]

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
_MEANING = (
    "These two numbers cover everything that touched the private data. They bound what anyone, whatever else they "
    "know, can learn from this release about whether one given patient was in the cohort, and so about that patient."
)
_SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)
_MOST_VALUES = 12


@dataclass(frozen=True)
class Facts:
    """What the card says of the privacy statement and of the table.

    Parameters
    ----------
    model : str
        Name of the synthesizer.
    epsilon, delta : float
        What was granted.
    unit, neighbours : str
        In words.
    private : bool
        False where a fixed seed made the noise.
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
        Warnings, and what discovery found.
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


def dataset_card(schema: Schema, columns: list[str], facts: Facts) -> str:
    """Return the text of ``README.md``: YAML front matter and Markdown.

    Parameters
    ----------
    schema : Schema
        Public facts about the columns.
    columns : list of str
        The released columns, in order.
    facts : Facts
        What the privacy statement says, and the size of the table.
    """
    parts = [
        _front_matter(schema, facts),
        f"# {_plain(title(schema))}\n",
        "" if facts.private else f"> **{NOT_PRIVATE}**\n",
        _opening(schema, facts),
        _remarks(facts),
        _privacy(facts),
        _files(facts),
        _columns(schema, columns),
        _images(schema, facts),
        f"## What it is not good for\n\n{limits(facts)}\n",
    ]
    return "\n".join(part for part in parts if part)


def _front_matter(schema: Schema, facts: Facts) -> str:
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


def _tasks(schema: Schema, facts: Facts) -> list[str] | None:
    if not _has_classes(schema):
        return None
    return ["tabular-classification", *(["image-classification"] if facts.ending else [])]


def limits(facts: Facts) -> str:
    """Return what the release is not good for."""
    return f"{LIMITS} {IMAGE_LIMITS}" if facts.ending else LIMITS


def _opening(schema: Schema, facts: Facts) -> str:
    about = f" {_plain(schema.description)}" if schema.description else ""
    images = f" with {facts.images:,} synthetic images" if facts.ending else ""
    return (
        f"{facts.rows:,} synthetic records{images} in the form of the cohort *{_plain(schema.name)}*.{about} No row is "
        f"a person: the records were drawn from a model (`{facts.model}`) that learned the cohort under differential "
        f"privacy, with dpsynth {facts.version}.\n"
    )


def _remarks(facts: Facts) -> str:
    if not facts.remarks:
        return ""
    return "## Remarks\n\n" + "".join(f"- {_plain(sentence)}\n" for sentence in facts.remarks)


def _privacy(facts: Facts) -> str:
    lines = [
        "## Privacy\n",
        "| | |",
        "|---|---|",
        f"| epsilon | {facts.epsilon:g} |",
        f"| delta | {facts.delta:g} |",
        f"| unit of protection | {_plain(facts.unit)} |",
        f"| neighbours | {_plain(facts.neighbours)} |",
        f"\n{_MEANING}",
    ]
    if facts.power is not None:
        lines.append(
            f"An attacker who accepts being wrong about 1 % of the people who were not in it recognises at most "
            f"{100 * facts.power:.1f} % of those who were; without a release it would be 1 %."
        )
    lines.append("\nNot protected:\n")
    lines += [f"- {_plain(sentence)}" for sentence in facts.not_protected]
    lines.append("\n`privacy.json` holds the full statement with every question that was asked.\n")
    return "\n".join(lines)


def _files(facts: Facts) -> str:
    images = (
        f"- `data/images/`: the images, as `{facts.ending}` files named by numbers.\n"
        "- `data/index.parquet`: for each image its path (`image`), its row in `data/patients.parquet` from 0 "
        "(`patient`), and the columns of that row.\n"
    )
    return (
        "## Files\n\n"
        "- `data/patients.parquet`: the records, typed. Use this one.\n"
        "- `data/patients.csv`: the same as text. A text cell or column name that a spreadsheet would run as a "
        "formula has an apostrophe before it.\n"
        f"{images if facts.ending else ''}"
        "- `croissant.json`: files and columns for machines (Croissant 1.0).\n"
        "- `privacy.json`: the privacy statement.\n"
        "- `report.html`: the same in words and figures, and the records beside the noisy counts that were paid for; "
        "`report.json` for machines.\n"
        "- `model/`: the model; `dpsynth sample model -n 1000` draws more records and costs no privacy.\n\n"
        "```python\nimport pandas as pd\n\npatients = pd.read_parquet('data/patients.parquet')\n```\n"
    )


def _columns(schema: Schema, columns: list[str]) -> str:
    lines = ["## Columns\n", "| column | values | may be missing | meaning |", "|---|---|---|---|"]
    for name in columns:
        column = schema.columns[name]
        missing = "yes" if getattr(column, "missing", False) else "no"
        lines.append(f"| {_plain(name)} | {_plain(describe(column))} | {missing} | {_plain(column.description)} |")
    bounds = f" Source of bounds and categories: {_plain(schema.source)}" if schema.source else ""
    return (
        "\n".join(lines)
        + f"\n\nBounds and categories were declared as public knowledge before the data was read.{bounds}\n"
    )


def _images(schema: Schema, facts: Facts) -> str:
    if schema.images is None or not facts.ending:
        return ""
    size, (low, high) = " x ".join(map(str, schema.images.size)), schema.images.range
    return (
        f"## Images\n\nEach has {size} pixels, channels: {schema.images.channels}, values from {low:g} to {high:g}. "
        "Size and range were declared before the data was read.\n"
    )


def describe(column: Numeric | Categorical | Boolean | Datetime | Identifier) -> str:
    """Return in words which values a column may have."""
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
