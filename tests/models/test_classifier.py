"""The direct baseline: a DP classifier spends what it was given, learns, and reads no outcome when it predicts."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mechanism_cases import ORDINARY, cohort_of, ordinary, schema_of
from privacy.helpers import Tape

from dpsynth.cohort import Cohort
from dpsynth.errors import InputError
from dpsynth.jobs.yardstick import dp_classifier
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.budget import Budget

pytest.importorskip("torch", reason="the classifier needs the extra [deep]")

from dpsynth.models.tabular.deep.classifier import Recipe, fit_classifier

N = 1_500


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few steps, a high rate."""
    monkeypatch.setattr(
        "dpsynth.models.tabular.deep.classifier.RECIPES", {"logistic": Recipe(0, 20, 0.2), "mlp": Recipe(8, 20, 0.1)}
    )


def _rows(seed: int, n: int = N) -> dict[str, Any]:
    found = ordinary(n, seed)
    odds = (found["age"] - 60) / 8 + 2 * (found["sex"] == "male")
    found["died"] = (np.random.default_rng(seed).random(n) < 1 / (1 + np.exp(-odds))).astype(int)
    return found


def _cohort(seed: int = 0, **facts: Any) -> Cohort:
    return cohort_of(ORDINARY, _rows(seed), **{"target": "died", "rows": N, **facts})


@pytest.mark.parametrize("kind", ["logistic", "mlp"])
def test_it_learns_and_spends_what_it_was_given(kind: str) -> None:
    """At epsilon 3 other patients are ranked well above chance, and the statement holds the training and no more."""
    from sklearn.metrics import roc_auc_score

    found = fit_classifier(_cohort(), epsilon=3.0, delta=1e-6, kind=kind, seed=0)
    chances = found.predict_proba(_cohort(1))
    assert chances.shape == (N, 2)
    assert np.allclose(chances.sum(axis=1), 1)
    assert roc_auc_score(_rows(1)["died"], chances[:, 1]) > 0.75
    assert 2.97 <= found.statement["epsilon_spent"] <= 3
    assert [event["kind"] for event in found.statement["events"]] == ["sampled_gaussian"]


def test_the_number_of_rows_is_paid_for_where_it_is_not_public() -> None:
    """One count joins the training, and both together cost what was asked."""
    found = fit_classifier(_cohort(rows=None), epsilon=1.0, delta=1e-6, seed=0)
    assert sorted(event["what"] for event in found.statement["events"])[1] == "number of rows"
    assert 0.97 <= found.statement["epsilon_spent"] <= 1


def test_the_outcome_is_not_read() -> None:
    """Predictions are the same when every outcome is turned round."""
    rows = _rows(1)
    found = fit_classifier(_cohort(), epsilon=1.0, delta=1e-6, seed=0)
    turned = cohort_of(ORDINARY, {**rows, "died": 1 - rows["died"]}, target="died", rows=N)
    assert (found.predict_proba(_cohort(1)) == found.predict_proba(turned)).all()


def test_several_classes_and_missing_outcomes() -> None:
    """A column of four categories that may be missing gives four probabilities; rows without outcome are no trouble."""
    found = fit_classifier(_cohort(), "unit", epsilon=1.0, delta=1e-6, seed=0)
    assert found.classes == ("a", "b", "c", "d")
    assert found.predict_proba(_cohort(1)).shape == (N, 4)


def test_several_rows_a_patient() -> None:
    """A patient with many rows is one patient: three rows of each make the same budget go round."""
    columns = {"id": {"type": "identifier"}, **ORDINARY}
    rows = {"id": [f"p{i // 3}" for i in range(N)], **_rows(0)}
    cohort = cohort_of(columns, rows, target="died", rows=N, patient="id", max_rows_per_patient=3)
    found = fit_classifier(cohort, epsilon=1.0, delta=1e-6, seed=0)
    assert found.statement["max_rows_per_patient"] == 3
    assert found.statement["epsilon_spent"] <= 1


def test_columns_to_be_discovered_are_left_out() -> None:
    """They take part in nothing; what of delta is kept for finding their values is not spent on the training."""
    columns = {**ORDINARY, "ward": {"type": "categorical", "discover": True, "max_values": 5}}
    rows = {**_rows(0), "ward": np.where(np.arange(N) % 2, "x", "y")}
    found = fit_classifier(cohort_of(columns, rows, target="died", rows=N), epsilon=1.0, delta=1e-6, seed=0)
    assert found.statement["epsilon_spent"] <= 1
    other = cohort_of(columns, {**_rows(1), "ward": "z"}, target="died", rows=N)
    same = cohort_of(columns, {**_rows(1), "ward": "x"}, target="died", rows=N)
    assert (found.predict_proba(other) == found.predict_proba(same)).all()


def test_a_tape_gives_the_same_classifier_for_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    """With every answer from a tape, probabilities and statement are the same whoever the patients are.

    The neighbours have a new category to be discovered, one row more, a first missing value.
    """
    opened = Session.open
    monkeypatch.setattr(Session, "open", lambda *args, **facts: opened(*args, **{**facts, "answers": Tape()}))
    columns = {**ORDINARY, "ward": {"type": "categorical", "discover": True, "max_values": 5}}
    rows = {**_rows(0, 200), "lab": np.full(200, 1.0), "ward": np.full(200, "x")}
    fresh = {**rows, "ward": np.where(np.arange(200) == 7, "rare", "x")}
    missing = {**rows, "lab": np.where(np.arange(200) == 7, np.nan, 1.0)}
    more = {name: np.append(values, values[:1]) for name, values in rows.items()}
    found = [
        fit_classifier(cohort_of(columns, one, target="died"), epsilon=1.0, delta=1e-6)
        for one in (rows, fresh, missing, more)
    ]
    asked = cohort_of(columns, rows, target="died")
    for other in found[1:]:
        assert np.array_equal(found[0].predict_proba(asked), other.predict_proba(asked))
        assert other.statement == found[0].statement


def test_visits_and_nothing_to_learn_from_are_refused() -> None:
    """A schema with visits, and one whose only column is the outcome, before a session is opened."""
    columns = {
        "id": {"type": "identifier"},
        "visit": {"type": "categorical", "values": [1, 2]},
        "died": ORDINARY["died"],
    }
    rows = {"id": ["p", "p"], "visit": [1, 2], "died": [0, 1]}
    visits = {"column": "visit", "values": [1, 2]}
    several = cohort_of(columns, rows, target="died", patient="id", max_rows_per_patient=2, visits=visits)
    with pytest.raises(InputError, match="declares visits"):
        fit_classifier(several, epsilon=1.0, delta=1e-6)
    alone = cohort_of({"died": ORDINARY["died"]}, {"died": [0, 1]}, target="died")
    with pytest.raises(InputError, match="no column beside it"):
        fit_classifier(alone, epsilon=1.0, delta=1e-6)


def test_a_private_cohort_needs_a_ledger(tmp_path: Path) -> None:
    """Without one it is refused; with one the run is in it."""
    cohort = Cohort.from_pandas(pd.DataFrame(_rows(0)), schema_of(ORDINARY, target="died", rows=N))
    with pytest.raises(InputError, match="ledger"):
        fit_classifier(cohort, epsilon=1.0, delta=1e-6)
    fit_classifier(cohort, epsilon=1.0, delta=1e-6, ledger=tmp_path / "ward.jsonl", label="direct")
    assert '"label": "direct"' in (tmp_path / "ward.jsonl").read_text()


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"target": "age"}, "'age': expected a boolean"),
        ({"target": "nobody"}, "'nobody'"),
        ({"kind": "forest"}, "'forest', expected one of logistic, mlp"),
    ],
)
def test_what_cannot_be_learned_is_refused(facts: dict[str, Any], words: str) -> None:
    """The message names what was found, before anything is spent."""
    with pytest.raises(InputError, match=words):
        fit_classifier(_cohort(), **{"target": None, "epsilon": 1.0, "delta": 1e-6, **facts})


@pytest.mark.parametrize(("kind", "beside"), [("logistic", "logistic regression"), ("mlp", "gradient boosting")])
def test_it_is_an_arm_of_an_evaluation(kind: str, beside: str) -> None:
    """For two classes the arm predicts P(the last class), for several a probability each, for cohorts of other rows."""
    made = dp_classifier(kind)(_cohort(), Budget(1.0, 1e-6))
    assert made.beside == beside
    assert made.predict(_cohort(1)).shape == (N,)
    several = dp_classifier(kind, "unit")(_cohort(), Budget(1.0, 1e-6))
    assert several.predict(_cohort(1)).shape == (N, 4)


def test_no_target() -> None:
    """Where neither the caller nor the schema names an outcome, the message says how to."""
    with pytest.raises(InputError, match="name one"):
        fit_classifier(_cohort(target=None), epsilon=1.0, delta=1e-6)
