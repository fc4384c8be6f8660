"""Tables of other libraries as Arrow tables."""

from typing import Any

__all__ = ["as_arrow", "is_pandas"]


def is_pandas(data: Any) -> bool:
    """Return whether data are a pandas data frame; pandas is not imported to tell."""
    kind = type(data)
    return any(base.__module__.startswith("pandas.") and base.__name__ == "DataFrame" for base in kind.__mro__)


def as_arrow(data: Any) -> Any:
    """Return a table of pandas, polars, pyarrow, or any other that tells Arrow its columns, as a pyarrow Table.

    Parameters
    ----------
    data
        The table; a polars LazyFrame is evaluated.

    Returns
    -------
    pyarrow.Table or None
        None where it is no table.

    Examples
    --------
    >>> import polars as pl
    >>> as_arrow(pl.DataFrame({"age": [64, 71]})).num_rows
    2
    >>> as_arrow([64, 71]) is None
    True
    """
    import pyarrow as pa

    if type(data).__name__ == "LazyFrame" and hasattr(data, "collect"):
        data = data.collect()
    if isinstance(data, pa.Table):
        return data
    if isinstance(data, pa.RecordBatch):
        return pa.Table.from_batches([data])
    if is_pandas(data):
        from dpsynth.files.tables import frame_columns

        return frame_columns(data)
    if hasattr(data, "__arrow_c_stream__"):
        return pa.table(data)
    return None
