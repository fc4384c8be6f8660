"""The schema: what is publicly known about a cohort before anybody looks at it."""

import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError, model_validator

from dpsynth.columns.kinds import Boolean, Categorical, Column, Datetime, Identifier, Numeric
from dpsynth.errors import FileError, SchemaError, nearest
from dpsynth.schema import yaml12 as yamltext
from dpsynth.schema.computed import check_computed, with_derived
from dpsynth.schema.facts import IMAGE_COLUMNS, Facts
from dpsynth.schema.fairness import Fairness
from dpsynth.schema.flat import check_visits
from dpsynth.schema.gaps import with_bounds
from dpsynth.schema.listed import with_listed
from dpsynth.schema.open_questions import OPEN, check_answered, discovered_patients, opened, question
from dpsynth.schema.survival import check_survival, with_event

__all__ = ["Boolean", "Categorical", "Column", "Datetime", "Fairness", "Identifier", "Numeric", "Schema"]


_GHOSTS = frozenset({"construct", "copy", "dict", "from_orm", "json", "parse_file", "parse_obj", "parse_raw", "schema",
                     "schema_json", "update_forward_refs", "validate"})  # fmt: skip
"""Names that pydantic leaves on its models; they are no part of a schema."""


class Schema(Facts):
    """Public facts about a cohort: its columns, their bounds and categories, and what the data are for.

    Read one with `Schema.load` or `Schema.parse`: they raise `SchemaError` with a message that says where the fault is.

    Raises
    ------
    SchemaError
        From `parse` and `load`, which name the place, what was expected and what to do.

    Notes
    -----
    Privacy contract: everything in a schema is released. It must come from public knowledge, never from the data;
    `confirmed` records that a person has checked this, and `check_confirmed` refuses a schema where nobody has.

    Examples
    --------
    >>> schema = Schema.parse('''
    ... name: ward
    ... confirmed: true
    ... columns:
    ...   age: {type: numeric, min: 18, max: 110, unit: years}
    ...   sex: {type: categorical, values: [female, male]}
    ... ''')
    >>> schema.modelled
    ('age', 'sex')
    """

    @model_validator(mode="before")
    @classmethod
    def _open(cls, values: Any) -> Any:
        values = opened(values)
        if not isinstance(values, Mapping) or "columns" not in values:
            return values
        return with_event(with_derived({**values, "columns": with_bounds(values["columns"])}))

    @model_validator(mode="after")
    def _check(self) -> "Schema":
        from dpsynth.schema.consistency import check_constraints

        self._check_names()
        self._check_patient()
        self._check_roles()
        self._check_missing_values()
        self._check_images()
        check_constraints(self.columns, self.constraints)
        check_computed(self)
        check_visits(self)
        if self.confirmed:
            check_answered(self)
        return self

    def _check_names(self) -> None:
        if any(not name or any(unicodedata.category(mark) in ("Cc", "Cs") for mark in name) for name in self.columns):
            raise ValueError("columns: a column's name is empty or holds a control character; rename the column")
        both = sorted(set(self.drop) & set(self.columns))
        if both:
            raise ValueError(f"drop: {both[0]!r} is declared under columns too; keep one of the two")
        if not self.modelled:
            raise ValueError("columns: every column is an identifier; declare one that can be modelled")

    def _check_patient(self) -> None:
        if self.patient is None:
            if self.max_rows_per_patient > 1 and not self.open:
                raise ValueError("max_rows_per_patient: above 1 needs patient, the column that identifies a patient")
            return
        self._check_known("patient", [self.patient])
        if not isinstance(self.columns[self.patient], Identifier):
            raise ValueError(  # noqa: TRY004  (pydantic collects ValueError)
                f"patient: declare {self.patient!r} with type: identifier, so that it is never modelled"
            )

    def _check_roles(self) -> None:
        if self.survival is not None:
            check_survival(self.survival, self.columns)
            if self.target != self.survival.event:
                raise ValueError("target: of an outcome in time it is written {time: ..., event: ...}")
        self._check_known("target", [self.target] if self.target else [], modelled=True)
        self._check_known("subgroups", self.subgroups, modelled=True)
        for names in self.intersections:
            self._check_known("intersections", names, modelled=True)
            if len(set(names)) != len(names) or len(names) < 2:
                raise ValueError("intersections: each is a list of two or more different columns")
        if len(set(self.subgroups)) < len(self.subgroups):
            raise ValueError("subgroups: a column is named twice")
        for pair in self.related:
            self._check_known("related", pair, modelled=True)
            if pair[0] == pair[1]:
                raise ValueError("related: each is a pair of two different columns")
        if self.visits is not None:
            named = (self.visits.column, *self.visits.static, *self.visits.rising)
            self._check_known("visits", named, modelled=True)
        self._check_fairness()

        self._check_predictors()

    def _check_predictors(self) -> None:
        for field, names in (("predictors", self.predictors), ("not_predictors", self.not_predictors)):
            self._check_known(field, names, modelled=True)
            if names and self.target is None:
                raise ValueError(f"{field}: says which columns predict the target; name the target")
            if len(set(names)) < len(names):
                raise ValueError(f"{field}: a column is named twice")
            if self.target in names:
                raise ValueError(f"{field}: {self.target!r} is the target; it never predicts itself")
        followed = self.survival.followed if self.survival is not None else set()
        if followed & set(self.predictors):
            raise ValueError("predictors: the time under observation is part of the outcome; it never predicts it")
        if self.predictors and self.not_predictors:
            raise ValueError("predictors: give either predictors or not_predictors, not both")

    def _check_fairness(self) -> None:
        names = self.fairness.columns if self.fairness is not None else ()
        self._check_known("fairness", names, modelled=True)
        if len(set(names)) < len(names):
            raise ValueError("fairness: a column is named twice")
        if self.target in names:
            raise ValueError(
                f"fairness: {self.target!r} is the target; name the columns that divide patients in groups"
            )

    def _check_known(self, field: str, names: tuple[str, ...] | list[str], *, modelled: bool = False) -> None:
        for name in names:
            if name not in self.columns:
                raise ValueError(f"{field}: there is no column {name!r}{nearest(name, self.columns)}")
            if modelled and isinstance(self.columns[name], Identifier):
                raise ValueError(f"{field}: {name!r} is an identifier, which is never modelled; name another column")

    def _check_missing_values(self) -> None:
        for text in self.missing_values:
            try:
                number = float(text)
            except ValueError:
                continue
            if number == number:  # noqa: PLR0124  ("NaN" is how files write a missing number)
                raise ValueError(
                    f"missing_values: {text!r} is a number; declare it as special of the columns that use it"
                )

    def _check_images(self) -> None:
        if self.images is None:
            return
        self._check_known("images: labels", self.images.labels, modelled=True)
        taken = [name for name in IMAGE_COLUMNS if name in self.modelled]
        if taken or "image" in self.columns:
            raise ValueError(
                f"columns: {(taken or ['image'])[0]!r} is a column of the index of images; rename the column"
            )

    def without_counts(self) -> "Schema":
        """Return the schema of a part of the cohort: how many rows and patients it has is private.

        Returns
        -------
        Schema
            Without ``rows`` and without the number of patients with visits.

        Examples
        --------
        >>> facts = "{name: ward, rows: 900, columns: {age: {type: numeric, min: 0, max: 99}}}"
        >>> Schema.parse(facts).without_counts().rows is None
        True
        """
        visits = self.visits and self.visits.model_copy(update={"patients": None})
        return self.model_copy(update={"rows": None, "visits": visits})

    def check_confirmed(self) -> None:
        """Refuse a schema that nobody has checked.

        Raises
        ------
        SchemaError
            If `confirmed` is false, a question is open, or a column that tells patients apart is to be discovered.

        Examples
        --------
        >>> facts = "{name: ward, confirmed: true, columns: {age: {type: numeric, min: 0, max: 99}}}"
        >>> Schema.parse(facts).check_confirmed()
        """
        if not self.confirmed:
            asked = f" One question is open: {question(self)}." if self.open else ""
            raise SchemaError(
                f"schema {self.name!r}: is not confirmed. Check that every bound, category and note in it is public "
                "knowledge and not read from the data, then set confirmed: true."
                f"{asked}"
            )
        faults = [question(self)] if self.open else []
        faults += [f"columns.{name}: {words}" for name, words in discovered_patients(self).items()]
        if faults:
            raise SchemaError(f"schema {self.name!r}: {'; '.join(faults)}.")

    def changed(self, **fields: Any) -> "Schema":
        """Return the schema with other fields, checked anew.

        Parameters
        ----------
        **fields
            Fields as a schema file has them, such as ``target="died"`` or ``confirmed=True``; of ``columns`` those that
            are named are replaced, and what is None is taken out.

        Returns
        -------
        Schema
            Another one; this one stays as it is.

        Raises
        ------
        SchemaError
            As `parse`.

        Examples
        --------
        >>> schema = Schema.parse("{name: ward, columns: {age: {type: numeric, min: 0, max: 99}}}")
        >>> schema.changed(confirmed=True, columns={"died": {"type": "boolean"}}, target="died").modelled
        ('age', 'died')
        """
        document = self.to_dict()
        columns = {**document["columns"], **fields.pop("columns", {})}
        document |= {**fields, "columns": {name: column for name, column in columns.items() if column is not None}}
        return type(self).parse({field: value for field, value in document.items() if value is not None})

    def __dir__(self) -> list[str]:
        own = [name for name in super().__dir__() if not name.startswith("model_")]
        return [name for name in own if name not in _GHOSTS]

    def _repr_html_(self) -> str:
        from html import escape

        state = "confirmed" if self.confirmed else "not confirmed: a person has still to check it"
        return f"<p><b>{escape(self.name)}</b> ({state})</p><pre>{escape(self.to_yaml())}</pre>"

    @classmethod
    def parse(cls, document: str | Mapping[str, Any]) -> "Schema":
        """Read a schema from YAML or JSON text, or from the mapping that it holds.

        Parameters
        ----------
        document
            Text, or a mapping of plain values.

        Returns
        -------
        Schema
            Checked.

        Raises
        ------
        SchemaError
            If it is no schema. The message names the place, what was expected, and the nearest known field or column.

        Examples
        --------
        >>> schema = Schema.parse("{name: ward, columns: {age: {type: numeric, min: 0, max: 99}}}")
        >>> schema.columns["age"].max
        99.0
        """
        values = yamltext.loads(document) if isinstance(document, str) else document
        if not isinstance(values, Mapping) or not set(values) & set(cls.model_fields):
            raise SchemaError("this is not a schema: expected a mapping with name and columns, in YAML or JSON.")
        try:
            return cls.model_validate(dict(values))
        except ValidationError as fault:
            from dpsynth.schema.messages import explain

            raise SchemaError(explain(fault)) from None

    @classmethod
    def load(cls, path: str | Path) -> "Schema":
        """Read a schema file.

        Parameters
        ----------
        path
            A YAML or JSON file in UTF-8.

        Returns
        -------
        Schema
            Checked.

        Raises
        ------
        FileError
            If the file cannot be read.
        SchemaError
            If it holds no schema; the message begins with the file's name.

        Examples
        --------
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "ward.yaml")
        ...     Schema.parse("{name: ward, columns: {age: {type: numeric, min: 0, max: 99}}}").dump(file)
        ...     Schema.load(file).modelled
        ('age',)
        """
        path = Path(path)
        try:
            if path.stat().st_size > 4 * yamltext.MAX_CHARACTERS:
                raise SchemaError(f"{path.name}: is far larger than a schema; give the schema file, not the data.")
            text = path.read_text(encoding="utf-8-sig")
        except OSError as error:
            raise FileError(f"{path.name}: cannot be read ({error.strerror or 'unknown reason'}).") from None
        except UnicodeDecodeError:
            raise SchemaError(f"{path.name}: is not a text file in UTF-8; expected a YAML schema.") from None
        try:
            return cls.parse(with_listed(yamltext.loads(text), path.parent))
        except SchemaError as error:
            raise SchemaError(f"{path.name}: {error}") from None

    def to_dict(self) -> dict[str, Any]:
        """Return the plain values that `parse` reads, without what is left at its default.

        Returns
        -------
        dict
            JSON-able.

        Examples
        --------
        >>> schema = Schema.parse("{name: ward, columns: {age: {type: numeric, min: 0, max: 99}}}")
        >>> schema.to_dict()
        {'name': 'ward', 'columns': {'age': {'type': 'numeric', 'min': 0, 'max': 99}}}
        """
        document = self.model_dump(mode="json", exclude_defaults=True)
        if document.pop("open", None):
            document = _in_place(document, "patient", OPEN)
        for name, column in self.columns.items():
            fields = document["columns"][name]
            if isinstance(column, Numeric):
                fields = {field: yamltext.natural(value) for field, value in fields.items()}
            if isinstance(column, Boolean) and not all(isinstance(label, bool) for label in column.labels):
                fields["labels"] = list(column.labels)  # [0, 1] equals the default [false, true] in Python
            document["columns"][name] = {"type": column.type, **fields}
        for constraint in document.get("constraints", []):
            for side in {"when", "forbid", "require"} & set(constraint):
                constraint[side] = {name: yamltext.natural_condition(item) for name, item in constraint[side].items()}
        if not document.get("file", True):
            del document["file"]
        if "survival" in document:
            document["target"] = document.pop("survival")
        if "images" in document:
            document["images"] = yamltext.natural(document["images"])
        return document

    def to_yaml(self) -> str:
        """Return the schema as YAML text, one line a column; `parse` gives an equal schema back.

        Returns
        -------
        str
            It ends in a line break.

        Examples
        --------
        >>> schema = Schema.parse("{name: ward, columns: {age: {type: numeric, min: 0, max: 99}}}")
        >>> print(schema.to_yaml(), end="")
        name: ward
        columns:
          age: {type: numeric, min: 0, max: 99}
        """
        return yamltext.dumps(yamltext.one_line_each(self.to_dict()))

    def dump(self, path: str | Path) -> None:
        """Write the schema as YAML; the file is whole or not there.

        Parameters
        ----------
        path
            The file, in UTF-8; one that is there is replaced.

        Raises
        ------
        FileError
            If it cannot be written.

        Examples
        --------
        >>> import tempfile
        >>> schema = Schema.parse("{name: ward, columns: {age: {type: numeric, min: 0, max: 99}}}")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     schema.dump(Path(folder, "ward.yaml"))
        """
        from dpsynth.atomic import whole_file

        with whole_file(path) as partial:
            partial.write_text(self.to_yaml(), encoding="utf-8")

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """Return the JSON Schema (2020-12) of a schema file, for editors and validators.

        Returns
        -------
        dict
            JSON-able.

        Examples
        --------
        >>> sorted(Schema.json_schema()["required"])
        ['columns', 'name']
        """
        document = cls.model_json_schema()
        for kind in (Numeric, Categorical, Boolean, Datetime, Identifier):
            definition = document["$defs"][kind.__name__]
            definition["required"] = ["type", *definition.get("required", [])]
        fields = document["properties"]
        fields["target"]["anyOf"].append({"$ref": "#/$defs/Survival"})
        del fields["survival"]
        return {"$schema": "https://json-schema.org/draft/2020-12/schema", **document}


def _in_place(document: dict[str, Any], field: str, value: Any) -> dict[str, Any]:
    """Return a document with one more field, where the schema has it."""
    document[field] = value
    return {name: document[name] for name in Schema.model_fields if name in document}
