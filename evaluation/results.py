"""What an evaluation says: one `Result` per number, with its interval, its status and whether it may be published.

Disclosure is a type, not a habit: `PublicResults` cannot be made from a result that touched private data without noise,
and the public renderer takes nothing else.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self

from dpsynth.evaluation.result import Disclosure, DisclosureError, Result, Status

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["PublicResults", "Results"]


class Results(Sequence[Result]):
    """An immutable list of results that shows itself in a notebook.

    Parameters
    ----------
    items : iterable of Result

    Examples
    --------
    >>> from dpsynth.evaluation.result import estimate
    >>> results = Results([estimate("auroc", 0.8, n=100, arm="real"), estimate("auroc", 0.7, n=100)])
    >>> results.one("auroc", arm="synthetic").value
    0.7
    """

    def __init__(self, items: Iterable[Result] = ()) -> None:
        self._items = tuple(items)

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Result]:
        return iter(self._items)

    def __getitem__(self, index: Any) -> Any:
        return Results(self._items[index]) if isinstance(index, slice) else self._items[index]

    def __add__(self, other: Iterable[Result]) -> "Results":
        return Results((*self._items, *other))

    def __repr__(self) -> str:
        counts = {status: sum(item.status is status for item in self) for status in Status}
        return f"<{type(self).__name__}: " + ", ".join(f"{n} {status}" for status, n in counts.items() if n) + ">"

    def select(self, metric: str | Sequence[str] | None = None, **fields: Any) -> "Results":
        """Return the results of these metrics whose fields equal `fields`.

        Parameters
        ----------
        metric : str or sequence of str, optional
            Default: all metrics.
        **fields
            Fields or properties of `Result`, such as ``arm``, ``group`` and ``section``, with the value they must have.

        Returns
        -------
        Results
        """
        names = None if metric is None else {metric} if isinstance(metric, str) else set(metric)
        return Results(
            item
            for item in self
            if (names is None or item.metric in names)
            and all(getattr(item, name) == wanted for name, wanted in fields.items())
        )

    def one(self, metric: str, **fields: Any) -> Result:
        """Return the only result of `metric` whose fields equal `fields`.

        Parameters
        ----------
        metric : str
        **fields
            As for `select`.

        Returns
        -------
        Result

        Raises
        ------
        KeyError
            If there is none or more than one.
        """
        matches = list(self.select(metric, **fields))
        if len(matches) != 1:
            raise KeyError(f"{len(matches)} results of {metric} match {fields}")
        return matches[0]

    def public(self) -> "PublicResults":
        """Return those results that may be published; the others are left out, not changed."""
        return PublicResults(item for item in self if item.disclosure is Disclosure.PUBLIC)

    def to_frame(self) -> "pd.DataFrame":
        """Return one row per result, without `detail`.

        Returns
        -------
        pandas.DataFrame
            An interval is in the columns ``low``, ``high``, ``level`` and ``covers``.
        """
        import pandas as pd

        rows = []
        for item in self:
            row = item.to_dict()
            interval = row.pop("interval") or {}
            row.pop("detail")
            row |= {"low": interval.get("low"), "high": interval.get("high"), "level": interval.get("level")}
            row["covers"] = ", ".join(interval.get("covers", []))
            rows.append(row)
        columns = [
            "section",
            "metric",
            "title",
            "arm",
            "group",
            "subject",
            "value",
            "low",
            "high",
            "level",
            "covers",
            "n",
        ]
        columns += ["direction", "status", "disclosure", "reason"]
        frame = pd.DataFrame(rows, columns=columns)
        numbers = ["value", "low", "high", "level"]
        return frame.astype(dict.fromkeys(numbers, "float64") | {"n": "Int64"})

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return the results as JSON-able values, `detail` included."""
        return [item.to_dict() for item in self]

    def json(self) -> str:
        """Return the results as a JSON array."""
        return json.dumps(self.to_dicts(), ensure_ascii=False, allow_nan=False)

    def _repr_html_(self) -> str:
        frame = self.to_frame().drop(columns=["metric", "direction"])
        return str(frame.to_html(index=False, escape=True, float_format=lambda x: f"{x:.3f}", na_rep=""))


class PublicResults(Results):
    """Results that may be published; cannot be made from anything else.

    Parameters
    ----------
    items : iterable of Result

    Raises
    ------
    DisclosureError
        If one of the items is internal.

    Examples
    --------
    >>> from dpsynth.evaluation.result import estimate
    >>> PublicResults([estimate("auroc", 0.8)])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    dpsynth.evaluation.result.DisclosureError: auroc: touched private data without noise and cannot be published. ...
    """

    def __init__(self, items: Iterable[Result] = ()) -> None:
        super().__init__(items)
        private = sorted({item.metric for item in self if item.disclosure is not Disclosure.PUBLIC})
        if private:
            raise DisclosureError(
                f"{', '.join(private)}: touched private data without noise and cannot be published. "
                "Use the internal report, or results.public() for those that can."
            )

    def public(self) -> Self:
        """Return itself."""
        return self
