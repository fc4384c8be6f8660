"""Drafting a first schema from whatever holds the patients."""

from pathlib import Path
from typing import Any

from dpsynth.drafting.draft import draft as draft_file
from dpsynth.drafting.draft import draft_table
from dpsynth.errors import InputError
from dpsynth.files.frames import as_arrow
from dpsynth.schema.schema import Schema

__all__ = ["draft"]


def draft(data: Any, *, name: str = "cohort") -> Schema:
    """Draft a schema, for a person to correct and to confirm; `dpsynth schema draft` also writes what was guessed.

    Parameters
    ----------
    data
        A data frame (pandas or polars), a pyarrow Table, or the path of a file or folder.
    name
        The cohort's name, where the data are no file.

    Returns
    -------
    Schema
        With ``confirmed: false``: bounds are rounded outward, categories listed as found. Change it with
        `Schema.changed`, such as ``schema.changed(target="died", confirmed=True)``, or write it, correct and load it.

    Raises
    ------
    FileError, DataError
        If a file cannot be read, or holds no table.
    InputError
        If the data are none of these.

    Notes
    -----
    Privacy contract: reads the data without noise. The draft is as confidential as the data until a person has replaced
    what was guessed by public knowledge.

    Examples
    --------
    >>> import pandas as pd
    >>> drafted = draft(pd.DataFrame({"age": [64, 71, 58], "smoker": ["yes", "no", "no"]}), name="ward")
    >>> drafted.modelled, drafted.confirmed
    (('age', 'smoker'), False)
    """
    if isinstance(data, str | Path):
        return draft_file(data).schema
    table = as_arrow(data)
    if table is None:
        raise InputError(f"draft: found {type(data).__name__}, expected a data frame, an Arrow table, or a path.")
    return draft_table(table, name=name).schema
