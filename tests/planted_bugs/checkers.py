"""Checks that catch planted bugs and need no fixture of their own."""

from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
from privacy.helpers import fine, ward

from dpsynth.cohort import Cohort
from dpsynth.errors import DpsynthError, InputError
from dpsynth.evaluation import DisclosureError, PublicResults
from dpsynth.evaluation.audit.outcome import AuditVerdict
from dpsynth.evaluation.audit.statements import check_statement
from dpsynth.evaluation.result import estimate
from dpsynth.jobs.fit import fit
from dpsynth.privacy.mechanisms import SystemNoise
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.budget import Budget
from dpsynth.privacy.spending.ledger import Ledger
from dpsynth.schema import Schema


def refuses_without_noise() -> None:
    """Let drawing noise fail: nothing is answered."""
    session = Session.open(ward(), Budget(1, 1e-6))
    with patch("opendp.prelude.m.make_gaussian", side_effect=RuntimeError("no entropy")), pytest.raises(DpsynthError):
        session.count([fine(session, "sex")], [session.rho / 2])
    with pytest.raises(DpsynthError):
        SystemNoise().gaussian(np.zeros(3, dtype=np.int64), float("nan"))


def errors_say_nothing() -> None:
    """Let the kernel fail on a patient's value: the error comes out without it."""
    session = Session.open(ward(), Budget(1, 1e-6))
    with patch("dpsynth.privacy.answers.contingency", side_effect=ValueError("Jane Doe")):
        with pytest.raises(DpsynthError) as caught:
            session.count([fine(session, "sex")], [session.rho / 10])
        assert "Jane" not in str(caught.value)


def statement_adds_up() -> None:
    """Compose the events of a privacy statement: they give what it says was spent."""
    session = Session.open(ward(), Budget(1, 1e-6))
    for column in ("sex", "unit"):
        session.count([fine(session, column)], [session.rho / 2])
    refuted = [one.name for one in check_statement(session.statement()) if one.verdict is AuditVerdict.VIOLATION]
    assert refuted == []


def another_ledger_is_refused(folder: Path) -> None:
    """Spend on a file, and name another ledger in the next run: it is refused, and its file is not made."""
    schema = Schema.parse("{name: w, confirmed: true, columns: {x: {type: boolean}}}")
    (folder / "ward.csv").write_text("x\n" + "true\nfalse\n" * 20, encoding="utf-8")
    cohort = Cohort.read(folder / "ward.csv", schema)
    own = Ledger.beside(folder / "ward.csv")
    fit(cohort, "independent", epsilon=1.0, ledger=own)
    with pytest.raises(InputError, match="would forget it"):
        fit(cohort, "independent", epsilon=1.0, ledger=folder / "other.jsonl")
    assert not (folder / "other.jsonl").exists()


def a_named_ledger_is_found(folder: Path) -> None:
    """Spend through a ledger that is named, then through none: the second run knows the first."""
    schema = Schema.parse("{name: w, confirmed: true, columns: {x: {type: boolean}}}")
    (folder / "ward.csv").write_text("x\n" + "true\nfalse\n" * 20, encoding="utf-8")
    cohort = Cohort.read(folder / "ward.csv", schema)
    fit(cohort, "independent", epsilon=1.0, limit=2.0, ledger=folder / "ours.jsonl")
    second = fit(cohort, "independent", epsilon=0.5)
    assert second.statement["earlier_releases"]["runs"] == 1
    assert len(Ledger(folder / "ours.jsonl").runs()) == 2


def public_page_fails_closed() -> None:
    """Try to publish a number that touched private data: it is refused."""
    with pytest.raises(DisclosureError):
        PublicResults([estimate("auroc", 0.5)])


def csv_holds_no_formula(folder: Path) -> None:
    """Export text that spreadsheet programs would run: no cell of the CSV begins like a formula."""
    schema = Schema.parse(
        {
            "name": "odd",
            "columns": {"note": {"type": "categorical", "values": ["=cmd()", "+1", "-1", "@x", "\tx", "plain"]}},
        }
    )
    frame = pd.DataFrame({"note": ["=cmd()", "+1", "-1", "@x", "plain"]})
    Cohort.from_pandas(frame, schema, public=True).write(folder / "odd.csv", guard_formulas=True)
    lines = (folder / "odd.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert len(lines) == 5
    assert not [line for line in lines if line.strip('"').startswith(tuple("=+-@\t"))]
