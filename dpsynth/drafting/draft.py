"""A first schema, drafted from a file: for a person to correct, never to be used as it is."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dpsynth.columns.identifying import RANKS
from dpsynth.columns.states import NUMBER
from dpsynth.columns.typed import text_of
from dpsynth.drafting.guess import Guess, guess, nice_above
from dpsynth.drafting.guessing_states import BLANKS, guess_with_states
from dpsynth.errors import DataError
from dpsynth.files.detecting import Detected, detected_table
from dpsynth.schema import yaml12 as yamltext
from dpsynth.schema.dialect import FileFormat
from dpsynth.schema.facts import DEFAULT_MISSING_VALUES
from dpsynth.schema.open_questions import OPEN, answers
from dpsynth.schema.schema import Schema

if TYPE_CHECKING:
    from dpsynth.drafting.images import Found

__all__ = [
    "Candidate",
    "Draft",
    "as_text",
    "assembled",
    "draft",
    "draft_schema",
    "missing_marks",
    "stem",
    "with_format",
]

_WARNING = (
    "DRAFT, read from private data: as confidential as the data until it is corrected.",
    "A schema is released with everything that is made under it, and no privacy guarantee covers it.",
    "  1. Behind each column stands what was guessed `from data`. Replace it by public knowledge: what is possible",
    "     (guidelines, instruments, the study's protocol), not what the file happens to hold. Bounds and limits were",
    "     rounded outward, categories are those found: add those that may occur, and say what becomes of others.",
    "  2. Answer the open question, where there is one: which column tells patients apart decides who is protected.",
    "  3. Name target and subgroups where you have them. Columns that nobody should model: name them under drop.",
    "  4. Say in source where the bounds and categories come from.",
    "  5. Only then set confirmed: true; dpsynth fits nothing before.",
)

_QUESTION = (
    "which column tells patients apart? Write its name in place of '?'. Write null if each row is",
    "another patient. The wrong answer protects visits or rows, not patients. Likeliest first:",
)


@dataclass(frozen=True)
class Candidate:
    """A column that may tell patients apart, and how its values repeat."""

    column: str
    role: str
    distinct: int
    rows: int
    most: int  # rows of its most frequent value
    is_incomplete: bool

    @property
    def most_rows(self) -> int:
        """A limit on the rows of a patient, rounded up."""
        return int(nice_above(self.most))

    @property
    def words(self) -> str:
        """What speaks for it, from the data."""
        values = f"{self.distinct} different values in {self.rows} rows, at most {self.most} rows each"
        repeats = "another value in each row" if self.most == 1 else values
        return f"{repeats}; some rows have none" if self.is_incomplete else repeats

    @property
    def is_settled(self) -> bool:
        """Whether nothing speaks against it where it is the only one: its name, or rows that it puts together."""
        return not self.is_incomplete and (self.role == "person" or (self.role == "record" and self.most > 1))


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
    candidates
        Columns that may tell patients apart, likeliest first, with what speaks for each; the schema leaves `patient`
        open where this does not settle it.
    file_notes
        What was found of how the file is written.
    """

    schema: Schema
    notes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    head: tuple[str, ...] = _WARNING
    label: str = "from data"
    image_notes: tuple[str, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    file_notes: tuple[str, ...] = ()

    def to_yaml(self) -> str:
        """Return the schema as YAML with the notes as comments; `Schema.parse` gives the same schema back."""
        document = {"name": self.schema.name, "confirmed": False, "source": "", **self.schema.to_dict()}
        columns, images = document.pop("columns"), document.pop("images", None)
        if "file" in document:
            document |= yamltext.one_line({"file": document["file"]})
        lines = [f"# {line}" for line in self.head]
        lines += [*self._with_question(yamltext.dumps(document).splitlines()), "columns:"]
        for name, column in columns.items():
            lines += ["  " + line for line in yamltext.dumps(yamltext.one_line({name: column})).splitlines()]
            if self.notes.get(name):
                lines[-1] += f"  # {self.label}: {', '.join(self.notes[name])}"
        if images is not None:
            plain = {"channels": 1, "range": [0, 255]}  # what stands here by default is to be checked, too
            shown = yamltext.dumps(yamltext.one_line({"images": plain | images})).rstrip("\n")
            lines.append(f"{shown}  # {self.label}: {', '.join(self.image_notes)}" if self.image_notes else shown)
        return "\n".join(lines) + "\n"

    def _with_question(self, lines: list[str]) -> list[str]:
        """Put the question above the line that leaves it open, and say for which answer the line after it is."""
        place = next((place for place, line in enumerate(lines) if line.startswith("patient: ")), len(lines))
        if not self.schema.open or place == len(lines):
            return lines
        asked = [f"# OPEN QUESTION: {line}" if not index else f"# {line}" for index, line in enumerate(_QUESTION)]
        asked += [f"#   {_printable(candidate.column)}: {candidate.words}" for candidate in self.candidates]
        asked += [] if self.candidates else [f"#   {_printable(name)}" for name in answers(self.schema)]
        after = lines[place + 1 :]
        if self.candidates and after and after[0].startswith("max_rows_per_patient: "):
            first = _printable(self.candidates[0].column)
            after[0] += f"  # {self.label}, if the answer is {first}; 1 if each row is a patient"
        return [*lines[:place], *asked, lines[place], *after]

    def with_likeliest(self) -> Schema:
        """Return the schema with an open question answered by the likeliest candidate: for judging, never to fit.

        Returns
        -------
        Schema
            Still not confirmed; the schema itself where nothing is open.
        """
        if not self.schema.open or not self.candidates:
            return self.schema
        first = self.candidates[0]
        answered = {"patient": first.column, "max_rows_per_patient": first.most_rows, "open": ()}
        return self.schema.model_copy(update=answered)


def _printable(name: str) -> str:
    """Return a column's name for a comment, where nothing may break the line."""
    return name if name.isprintable() else repr(name)


def draft_schema(path: str | Path) -> Schema:
    """Return the schema of `draft`, without the notes.

    Parameters
    ----------
    path
        The file or folder, as for `draft`.

    Returns
    -------
    Schema
        With `confirmed: false`; as confidential as the data.

    Raises
    ------
    FileError, DataError
        As `draft`.
    """
    return draft(path).schema


def draft(path: str | Path, *others: str | Path, form: Mapping[str, Any] | None = None) -> Draft:
    r"""Draft a schema from a table (CSV, Parquet, Excel, Stata, SAS, SPSS), an ``.npz`` or a folder of images.

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
        Parts of `dpsynth.schema.dialect.FileFormat` that are known, such as ``{"decimal": ","}``; they are not looked
        for.

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

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "ward.csv")
    ...     _ = file.write_text("age,smoker\n64,yes\n71,no\n58,no\n")
    ...     drafted = draft(file)
    >>> drafted.schema.modelled, drafted.schema.confirmed
    (('age', 'smoker'), False)
    """
    path, form = Path(path), form or {}
    images, written = _found_images(path, form)
    if images is None:
        table, written = detected_table(path, form)
    else:
        table = images.table
    if table.num_rows == 0:
        raise DataError(f"{path.name}: has no rows; expected at least one.")
    texts = {name: as_text(name, table[name]) for name in table.column_names}
    missing_values = missing_marks(texts.values())
    guesses = {name: _guess_column(name, text, missing_values) for name, text in texts.items()}
    for other, _ in (detected_table(Path(other), form) for other in others):
        more = {name: as_text(name, other[name]) for name in texts if name in other.column_names}
        texts |= {name: _joined(texts[name], text) for name, text in more.items()}
    if others:
        missing_values = missing_marks(texts.values())
        modelled = [name for name, guess in guesses.items() if guess.fields["type"] != "identifier"]
        guesses |= {name: _guess_column(name, texts[name], missing_values) for name in modelled}
    if images is None:
        guesses |= {name: _with_labels(guesses[name], texts[name], labels) for name, labels in written.labels.items()}
        drafted = assembled(stem(path), guesses, missing_values, table.num_rows)
        return with_format(drafted, written)
    guesses |= {name: _stated(fields, guesses[name]) for name, fields in images.columns.items()}
    if any(fields["type"] == "identifier" for fields in images.columns.values()):  # index and table share the patient
        guesses |= {name: replace(guess, role="") for name, guess in guesses.items() if name not in images.columns}
    drafted = assembled(stem(path), guesses, missing_values, table.num_rows, images=images.images)
    return with_format(_with_images(drafted, images), written)


def draft_table(table: Any, *, name: str) -> Draft:
    """Draft a schema from an Arrow table in memory; see `draft`.

    Parameters
    ----------
    table
        Its columns of any type.
    name
        The cohort's name.

    Raises
    ------
    DataError
        If it has no rows.
    """
    if table.num_rows == 0:
        raise DataError("the table has no rows; expected at least one.")
    texts = {column: as_text(column, table[column]) for column in table.column_names}
    missing_values = missing_marks(texts.values())
    guesses = {column: _guess_column(column, text, missing_values) for column, text in texts.items()}
    return assembled(name, guesses, missing_values, table.num_rows)


def stem(path: Path) -> str:
    """Return the name of a file without its endings: ward.csv.gz is ward."""
    return Path(path.stem).stem if path.suffix.lower() == ".gz" else path.stem


def with_format(drafted: Draft, form: Detected) -> Draft:
    """Add how the file is written, and what a person should check about it."""
    head = (*drafted.head, *(f"The file: {note}." for note in form.notes))
    schema = drafted.schema.model_copy(update={"file": form.form})
    return replace(drafted, schema=schema, head=head, file_notes=form.notes)


def _found_images(path: Path, form: Mapping[str, Any]) -> "tuple[Found | None, Detected]":
    """Return what is found of images, and how the tables beside them are written; None for a table."""
    from dpsynth.drafting.images import found_in_archive, found_in_folder
    from dpsynth.files.archive import is_archive
    from dpsynth.files.folder import is_image_folder

    if is_image_folder(path):
        return found_in_folder(path, form)
    is_images = path.is_file() and is_archive(path)
    return found_in_archive(path) if is_images else None, Detected(FileFormat())


def _with_images(drafted: Draft, images: "Found") -> Draft:
    """Add the notes on images, and the label as the target where there is one."""
    schema = drafted.schema.model_copy(update={"target": images.target})
    return replace(drafted, schema=schema, image_notes=tuple(images.notes))


def _stated(fields: dict[str, Any], guessed: Guess) -> Guess:
    """Return what is known of a column in place of the guess from its values."""
    notes: list[str] = [next(name for name in ("values", "labels", "type") if name in fields)]
    if fields["type"] != "identifier":
        return Guess(fields, notes)
    return replace(guessed, fields=fields, notes=notes, role="person")


def _with_labels(guessed: Guess, text: Any, labels: tuple[str, ...]) -> Guess:
    """Return the labels that a file has for a column's codes as its categories, where nothing but labels stands in it.

    They are the codebook of the file's author, also of codes that no row has.
    """
    if not set(text.unique().to_pylist()) - {None, ""} <= {label.strip() for label in labels} or len(labels) < 2:
        return guessed
    missing = {"missing": True} if guessed.fields.get("missing") else {}
    kind = {"type": "boolean", "labels": list(labels)} if len(labels) == 2 else {}
    fields = {**(kind or {"type": "categorical", "values": list(labels)}), **missing}
    return Guess(fields, [f"{'labels' if kind else 'values'} (the file's own)", *missing])


def as_text(name: str, array: Any) -> Any:
    """Return a column as text without blanks around it.

    Raises
    ------
    DataError
        If it is of a type that has no text.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from dpsynth.columns.typed import has_text

    if not has_text(array.type):
        raise DataError(f"column {name!r}: is no column of text, numbers or dates; leave it out of the file.")
    if pa.types.is_timestamp(array.type) or pa.types.is_date64(array.type):
        array = array.cast(pa.timestamp("s"), safe=False)  # of a time zone: UTC
        days = array.cast(pa.date32(), safe=False)
        array = days if days.cast(pa.timestamp("s")).equals(array) else array
    text = array.cast(pa.string()) if pa.types.is_temporal(array.type) else text_of(array)
    return pa.chunked_array([pc.utf8_trim_whitespace(part) for part in getattr(text, "chunks", [text])], pa.string())


def _joined(first: Any, second: Any) -> Any:
    import pyarrow as pa

    return pa.chunked_array([*first.chunks, *second.chunks])


def missing_marks(texts: Iterable[Any]) -> tuple[str, ...]:
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
    value_counts = pc.value_counts(pc.filter(text, pc.invert(missing)))
    counts = value_counts.field("counts").to_numpy(zero_copy_only=False).astype(np.int64)
    rows = len(text)
    is_missing = int(counts.sum()) < rows
    return guess_with_states(
        value_counts.field("values").to_pylist(),
        counts,
        lambda texts, counts: guess(name, texts, counts, missing=is_missing),
    )


def assembled(
    name: str,
    guesses: dict[str, Guess],
    missing_values: tuple[str, ...],
    rows: int,
    *,
    images: dict[str, Any] | None = None,
) -> Draft:
    """Return the draft that guesses make up, with the question of which column tells patients apart.

    Parameters
    ----------
    name
        Of the schema.
    guesses
        Of each column.
    missing_values
        How a missing value is written.
    rows
        Of the table.
    images
        What is found of images.
    """
    notes = {column: tuple(guessed.notes) for column, guessed in guesses.items()}
    document: dict[str, Any] = {"name": name, "missing_values": missing_values}
    document["columns"] = {column: guessed.fields for column, guessed in guesses.items()}
    if images is not None:
        document["images"] = images
    candidates = _candidates(guesses, rows)
    document |= _patient(candidates)
    if "patient" in document and document["patient"] != OPEN:
        only = candidates[0]
        notes[only.column] += ("patient (is this the column that tells patients apart?)",)
        notes[only.column] += ("max_rows_per_patient",) if only.most > 1 else ()
    return Draft(Schema.parse(document), notes, candidates=candidates)


def _candidates(guesses: dict[str, Guess], rows: int) -> tuple[Candidate, ...]:
    """Return the columns that may tell patients apart: persons by name first, then what groups rows, then its name.

    A column that only counts rows is none. Names and addresses of persons are some only where there are no keys.
    """
    identifiers = [
        Candidate(name, guess.role, guess.distinct, rows, guess.repeats, guess.is_incomplete)
        for name, guess in guesses.items()
        if guess.role and guess.role != "row"
    ]
    keys = [candidate for candidate in identifiers if candidate.role != "direct"] or identifiers
    return tuple(sorted(keys, key=_rank))


def _rank(candidate: Candidate) -> tuple[Any, ...]:
    place = RANKS.index(candidate.role)
    return (place > 0, candidate.is_incomplete, candidate.most == 1, place, candidate.distinct)


def _patient(candidates: tuple[Candidate, ...]) -> dict[str, Any]:
    """Return what the schema says of patients: the only settled candidate, an open question, or nothing."""
    if not candidates:
        return {}
    settled = len(candidates) == 1 and candidates[0].is_settled
    most = candidates[0].most_rows
    return {
        "patient": candidates[0].column if settled else OPEN,
        **({"max_rows_per_patient": most} if most > 1 else {}),
    }
