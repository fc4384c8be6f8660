"""An evaluation: its results, and the page and files that show them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpsynth.evaluation.findings import Findings

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Evaluation(Findings):
    """The results of judging a synthetic cohort, which show themselves as a page, as JSON or as a table.

    Parameters
    ----------
    results : Results
    schema : Schema
        Public facts about the columns, for the report.
    terms : Protocol
    statement : mapping
        The privacy statement of the release; empty where there is none.
    about : mapping
        What was compared: rows, draws, bins, target, regression; JSON-able and public.

    Examples
    --------
    >>> from dpsynth.datasets import load_support2
    >>> from dpsynth.evaluation.judge import describe
    >>> evaluation = describe(load_support2())
    >>> evaluation.results.one("rows").number == len(load_support2())
    True
    """

    def to_frame(self) -> "pd.DataFrame":
        """Return one row per result, as `Results.to_frame` does."""
        return self.results.to_frame()

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-able values, in the form of ``report/report.schema.json``."""
        from dpsynth.evaluation.report import document

        return document(self)

    def json(self) -> str:
        """Return the report as JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False, indent=1)

    def html(self, *, public: bool = False) -> str:
        """Return the report as one HTML page.

        Parameters
        ----------
        public : bool
            As for `write_html`.

        Returns
        -------
        str
        """
        from dpsynth.evaluation.report import render_internal, render_public

        return render_public(self.public()) if public else render_internal(self)

    def write_html(self, path: str | Path, *, public: bool = False) -> None:
        """Write the report as one HTML page that needs no network.

        Parameters
        ----------
        path : path
        public : bool
            Write the page that may be published: results that touched private data without noise are left out, and
            the page says so. Otherwise the page is marked internal.

        Raises
        ------
        InputError
            If the page is not public and would lie in a release.
        """
        from dpsynth.atomic import check_unpublished, whole_file

        if not public:
            check_unpublished(Path(path))
        with whole_file(Path(path)) as partial:
            partial.write_text(self.html(public=public), encoding="utf-8")

    def write_json(self, path: str | Path, *, public: bool = False) -> None:
        """Write the JSON twin of the page that `write_html` writes; raises as that does."""
        from dpsynth.atomic import check_unpublished, whole_file

        if not public:
            check_unpublished(Path(path))
        text = (self.public() if public else self).json()
        with whole_file(Path(path)) as partial:
            partial.write_text(text + "\n", encoding="utf-8")

    def _repr_html_(self) -> str:
        from dpsynth.evaluation.report import embed

        return embed(self)
