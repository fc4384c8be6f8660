"""A first schema, drafted from a file: for a person to correct, never to be used as it is."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dpsynth import yamltext
from dpsynth.detecting import Detected, detected_table
from dpsynth.dialect import FileFormat
from dpsynth.errors import DataError
from dpsynth.guessing import Guess, guess, nice_above
from dpsynth.guessing_states import BLANKS, guess_with_states
from dpsynth.schema import DEFAULT_MISSING_VALUES, Schema
from dpsynth.states import NUMBER

if TYPE_CHECKING:
    from dpsynth.images.drafting import Found

__all__ = ["Draft", "draft", "draft_schema"]

_WARNING = (
    "DRAFT, read from private data: as confidential as the data until it is corrected.",
    "A schema is released with everything that is made under it, and no privacy guarantee covers it.",
    "  1. Behind each column stands what was guessed `from data`. Replace it by public knowledge: what is possible",
    "     (guidelines, instruments, the study's protocol), not what the file happens to hold. Bounds and limits were",
    "     rounded outward, categories are those found: add those that may occur, and say what becomes of others.",
    "  2. Name target and subgroups where you have them. Columns that nobody should model: name them under drop.",
    "  3. Say in source where the bounds and categories come from.",
    "  4. Only then set confirmed: true; dpsynth fits nothing before.",
)


@dataclass(frozen=True)
class Draft:
    """A schema with `confirmed: false`, and what a person must check before that may change.

    Attributes
    ----------
    schema
        The drafted schema.
    notes
        For each column what was guessed.
    head
        What the file begins with.
    label
        Where the guesses come from.
    image_notes
        What was guessed of the images.
    file_notes
        What was found of how the file is written.
    """

    schema: Schema
    notes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    head: tuple[str, ...] = _WARNING
    label: str = "from data"
    image_notes: tuple[str, ...] = ()
    file_notes: tuple[str, ...] = ()

    def to_yaml(self) -> str:
        """Return the schema as YAML with the notes as comments; `Schema.parse` gives the same schema back."""
        document = {"name": self.schema.name, "confirmed": False, "source": "", **self.schema.to_dict()}
        columns, images = document.pop("columns"), document.pop("images", None)
        if "file" in document:
            document |= yamltext.one_line({"file": document["file"]})
        lines = [f"# {line}" for line in self.head]
        lines += [yamltext.dumps(document).rstrip("\n"), "columns:"]
        for name, column in columns.items():
            lines += ["  " + line for line in yamltext.dumps(yamltext.one_line({name: column})).splitlines()]
            if self.notes.get(name):
                lines[-1] += f"  # {self.label}: {', '.join(self.notes[name])}"
        if images is not None:
            plain = {"channels": 1, "range": [0, 255]}  # what stands here by default is to be checked, too
            shown = yamltext.dumps(yamltext.one_line({"images": plain | images})).rstrip("\n")
            lines.append(f"{shown}  # {self.label}: {', '.join(self.image_notes)}" if self.image_notes else shown)
        return "\n".join(lines) + "\n"


def draft_schema(path: str | Path) -> Schema:
    """Return the schema of `draft`, without the notes."""
    return draft(path).schema


def draft(path: str | Path, *others: str | Path, form: Mapping[str, Any] | None = None) -> Draft:
    """Draft a schema from a CSV or Parquet file, an ``.npz`` of images, or a folder of images with an index.

    How a CSV file is written (separator, decimal mark, encoding, lines of titles and totals) is found from all of it
    and put into the schema's `file`; what is read later is what stands there.

    Parameters
    ----------
    path
        The file or folder.
    *others
        Further tables with the same columns, such as a synthetic cohort that is to be compared with the first: bounds
        and categories are those of all of them. Identifiers are looked for in the first.
    form
        Parts of `dpsynth.dialect.FileFormat` that are known, such as ``{"decimal": ","}``; they are not looked for.

    Returns
    -------
    Draft
        With `confirmed: false`. Bounds are rounded outward, categories listed as found.

    Raises
    ------
    FileError
        If the file cannot be read.
    DataError
        If it is no table, has no rows, or its numbers can be read in two ways.

    Notes
    -----
    Privacy contract: reads the data without noise. The draft is as confidential as the data.
    """
    path, form = Path(path), form or {}
    found, written = _found_images(path, form)
    if found is None:
        table, written = detected_table(path, form)
    else:
        table = found.table
    if table.num_rows == 0:
        raise DataError(f"{path.name}: has no rows; expected at least one.")
    texts = {name: _as_text(name, table[name]) for name in table.column_names}
    missing_values = _missing_values(texts.values())
    guesses = {name: _guess_column(name, text, missing_values) for name, text in texts.items()}
    for other, _ in (detected_table(Path(other), form) for other in others):
        more = {name: _as_text(name, other[name]) for name in texts if name in other.column_names}
        texts |= {name: _joined(texts[name], text) for name, text in more.items()}
    if others:
        missing_values = _missing_values(texts.values())
        modelled = [name for name, found in guesses.items() if found.fields["type"] != "identifier"]
        guesses |= {name: _guess_column(name, texts[name], missing_values) for name in modelled}
    if found is None:
        return _written(_as_draft(_stem(path), guesses, missing_values), written)
    guesses |= {name: _known(fields, guesses[name]) for name, fields in found.columns.items()}
    drafted = _with_images(_as_draft(_stem(path), guesses, missing_values, images=found.images), found)
    return _written(drafted, written)


def _stem(path: Path) -> str:
    """Return the name of a file without its endings: ward.csv.gz is ward."""
    return Path(path.stem).stem if path.suffix.lower() == ".gz" else path.stem


def _written(made: Draft, form: Detected) -> Draft:
    """Add how the file is written, and what a person should check about it."""
    head = (*made.head, *(f"The file: {note}." for note in form.notes))
    return replace(made, schema=made.schema.model_copy(update={"file": form.form}), head=head, file_notes=form.notes)


def _found_images(path: Path, form: Mapping[str, Any]) -> "tuple[Found | None, Detected]":
    """Return what is found of images, and how the tables beside them are written; None for a table."""
    from dpsynth.images import is_archive, is_image_folder
    from dpsynth.images.drafting import found_in_archive, found_in_folder

    if is_image_folder(path):
        return found_in_folder(path, form)
    is_images = path.is_file() and is_archive(path)
    return found_in_archive(path) if is_images else None, Detected(FileFormat())


def _with_images(made: Draft, found: "Found") -> Draft:
    """Add the notes on images, and the label as the target where there is one."""
    schema = made.schema.model_copy(update={"target": found.target})
    return replace(made, schema=schema, image_notes=tuple(found.notes))


def _known(fields: dict[str, Any], guessed: Guess) -> Guess:
    """Return what is known of a column in place of the guess from its values."""
    return Guess(fields, [next(name for name in ("values", "labels", "type") if name in fields)], guessed.repeats)


def _as_text(name: str, array: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_nested(array.type) or pa.types.is_binary(array.type) or pa.types.is_large_binary(array.type):
        raise DataError(f"column {name!r}: is no column of text, numbers or dates; leave it out of the file.")
    if pa.types.is_timestamp(array.type):
        array = array.cast(pa.timestamp("s"), safe=False)
    return pc.utf8_trim_whitespace(array.cast(pa.string()))


def _joined(one: Any, two: Any) -> Any:
    import pyarrow as pa

    return pa.chunked_array([*one.chunks, *two.chunks])


def _missing_values(texts: Iterable[Any]) -> tuple[str, ...]:
    """Return how the file seems to write a missing value: the usual ways, "?", and "." or "-" among numbers."""
    import pyarrow.compute as pc

    texts = list(texts)
    asked = any(pc.any(pc.equal(text, "?")).as_py() for text in texts)
    blanks = [mark for mark in BLANKS if _is_blank(mark, texts)]
    return (*DEFAULT_MISSING_VALUES, *(["?"] if asked else []), *blanks)


def _is_blank(mark: str, texts: list[Any]) -> bool:
    """Return whether a mark stands in columns of numbers alone."""
    import pyarrow.compute as pc

    different = [pc.unique(text) for text in texts if pc.any(pc.equal(text, mark)).as_py()]
    shares = [pc.mean(pc.match_substring_regex(text.drop_null(), f"^(?:{NUMBER})?$")).as_py() for text in different]
    return bool(shares) and min(shares) > 0.5


def _guess_column(name: str, text: Any, missing_values: tuple[str, ...]) -> Guess:
    import pyarrow as pa
    import pyarrow.compute as pc

    missing = pc.or_kleene(pc.is_null(text), pc.is_in(text, value_set=pa.array(missing_values, pa.string())))
    found = pc.value_counts(pc.filter(text, pc.invert(missing)))
    counts = found.field("counts").to_numpy(zero_copy_only=False).astype(np.int64)
    rows = len(text)
    is_missing = int(counts.sum()) < rows
    return guess_with_states(
        found.field("values").to_pylist(),
        counts,
        lambda texts, counts: guess(name, texts, counts, missing=is_missing, rows=rows),
    )


def _as_draft(
    name: str, guesses: dict[str, Guess], missing_values: tuple[str, ...], *, images: dict[str, Any] | None = None
) -> Draft:
    notes = {column: tuple(found.notes) for column, found in guesses.items()}
    document: dict[str, Any] = {"name": name, "missing_values": missing_values}
    document["columns"] = {column: found.fields for column, found in guesses.items()}
    if images is not None:
        document["images"] = images
    patient = next((column for column, found in guesses.items() if found.fields["type"] == "identifier"), None)
    if patient is not None:
        notes[patient] += ("patient (is this the column that tells patients apart?)",)
        document["patient"] = patient
        document["max_rows_per_patient"] = int(nice_above(guesses[patient].repeats))
        if guesses[patient].repeats > 1:
            notes[patient] += ("max_rows_per_patient",)
    return Draft(Schema.parse(document), notes)
