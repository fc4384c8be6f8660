"""Patients with visits: flat rows that a single patient moves by one, and long rows whose static columns stay."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dpsynth
from dpsynth import Cohort, Schema
from dpsynth.coding.codec import Codec
from dpsynth.coding.query import Query
from dpsynth.cohort.rows import constraint_violations
from dpsynth.cohort.visits import flatten, unfold
from dpsynth.errors import SchemaError
from dpsynth.models import load_model
from dpsynth.privacy.answers import PrivateAnswers
from dpsynth.privacy.session import Session
from dpsynth.privacy.spending.budget import Budget
from dpsynth.schema.flat import flattened

DOCUMENT: dict[str, Any] = {
    "name": "clinic",
    "confirmed": True,
    "patient": "id",
    "max_rows_per_patient": 3,
    "rows": 900,
    "target": "died",
    "subgroups": ["sex", "smoker"],
    "columns": {
        "id": {"type": "identifier"},
        "sex": {"type": "categorical", "values": ["female", "male"]},
        "age": {"type": "numeric", "min": 20, "max": 100},
        "lab": {"type": "numeric", "min": 0, "max": 50, "missing": True},
        "late": {"type": "numeric", "min": 0, "max": 9, "missing": True},
        "smoker": {"type": "boolean"},
        "ill": {"type": "boolean", "labels": [0, 1]},
        "exam": {"type": "categorical", "values": ["first", "second", "third", "extra"], "ordered": True},
        "died": {"type": "boolean", "labels": [0, 1]},
    },
    "constraints": [
        {"when": {"exam": ["first", "second"]}, "require": {"late": None}},
        {"when": {"smoker": True}, "forbid": {"lab": {"min": 40}}},
        {"when": {"exam": "third"}, "require": {"smoker": False}},
    ],
    "visits": {
        "column": "exam",
        "values": ["first", "second", "third"],
        "static": ["sex", "died"],
        "rising": ["age", "ill"],
    },
}


def _schema(**visits: Any) -> Schema:
    return Schema.parse({**DOCUMENT, "visits": {**DOCUMENT["visits"], **visits}})


def _frame(patients: int = 300, seed: int = 0) -> pd.DataFrame:
    """Return patients with one to three exams, whose values hang together."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(patients):
        level, age, ill = rng.normal(15, 5), int(rng.integers(20, 80)), 0
        sex, died = rng.choice(["female", "male"]), int(rng.random() < 0.3)
        for place, exam in enumerate(["first", "second", "third"][: rng.integers(1, 4)]):
            ill = max(ill, int(rng.random() < 0.2))
            smoker = bool(place < 2 and number % 3 == 0)
            lab = None if rng.random() < 0.1 else int(np.clip(level + rng.normal(0, 1), 0, 39))
            late = int(rng.integers(0, 10)) if place == 2 else None
            rows.append((f"p{number}", sex, age + 4 * place, lab, late, smoker, ill, exam, died))
    names = ["id", "sex", "age", "lab", "late", "smoker", "ill", "exam", "died"]
    return pd.DataFrame(rows, columns=names)


def _cohort(frame: pd.DataFrame | None = None, **visits: Any) -> Cohort:
    return Cohort.from_pandas(_frame() if frame is None else frame, _schema(**visits), public=True)


def _flat_frame(cohort: Cohort) -> pd.DataFrame:
    return flatten(cohort).to_pandas().set_index("id")


def test_the_flat_schema() -> None:
    """One row a patient, a column a visit, no column where it is always missing, and the roles of static columns."""
    flat = flattened(_schema(patients=300))
    assert (flat.max_rows_per_patient, flat.rows, flat.target, flat.subgroups) == (1, 300, "died", ("sex",))
    assert {"sex", "exam@first", "lab@second", "late@third"} <= set(flat.columns)
    assert not {"exam", "lab", "late@first", "late@second", "exam@extra"} & set(flat.columns)
    assert ("lab@first", "lab@second") in flat.related
    assert ("lab@first", "lab@third") not in flat.related
    assert flattened(flat) == flat


def test_a_patient_is_a_row() -> None:
    """Each patient has one flat row with the values of their visits, and what did not happen is missing."""
    cohort = _cohort()
    flat, frame = _flat_frame(cohort), _frame().set_index(["id", "exam"])
    assert len(flat) == 300
    assert flat.index.is_unique
    for (patient, exam), row in frame.iterrows():
        assert flat.loc[patient, f"age@{exam}"] == row["age"]
        assert flat.loc[patient, f"exam@{exam}"]
        assert flat.loc[patient, "sex"] == row["sex"]
    unseen = ~flat["exam@third"].astype(bool)
    assert unseen.any()
    assert flat.loc[unseen, ["age@third", "lab@third", "ill@third"]].isna().all(axis=None)
    assert not {rule: n for rule, n in constraint_violations(flatten(cohort)).items() if n}


def test_flat_rows_unfold_to_the_long_rows() -> None:
    """Unfolding gives the visits back, in order, with the static columns, whatever the order of the file."""
    frame = _frame()
    cohort = _cohort(frame.sample(frac=1, random_state=1))
    again = Cohort.from_pandas(unfold(flatten(cohort).table, cohort.schema).to_pandas(), cohort.schema).to_pandas()
    columns = [name for name in frame if name != "id"]
    key = ["age", "sex", "died", "exam", "ill", "smoker", "lab", "late"]
    left, right = (t[columns].astype({"lab": float, "late": float}).sort_values(key) for t in (frame, again))
    pd.testing.assert_frame_equal(
        left.reset_index(drop=True), right[columns].reset_index(drop=True), check_dtype=False, check_categorical=False
    )


ROW = st.tuples(
    st.integers(0, 3),
    st.sampled_from(["female", "male"]),
    st.integers(20, 100),
    st.one_of(st.none(), st.integers(0, 50)),
    st.sampled_from(["first", "second", "third", "extra"]),
    st.integers(0, 1),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(ROW, min_size=2, max_size=14), st.integers(0, 3))
def test_one_patient_is_one_row(rows: list[tuple[Any, ...]], gone: int) -> None:
    """Without one patient, however messy their rows, the flat table lacks at most their row; no other row changes."""
    columns = ["id", "sex", "age", "lab", "exam", "died"]
    frame = pd.DataFrame(rows, columns=columns).assign(late=None, smoker=False, ill=0)
    frame["lab"] = frame["lab"].astype(float)
    fewer = frame[frame["id"] != gone]
    if fewer.empty:
        return
    whole, part = (_flat_frame(_cohort(one)).sort_index() for one in (frame, fewer))
    assert len(part) in (len(whole), len(whole) - 1)
    pd.testing.assert_frame_equal(
        whole[whole.index != str(gone)], part, check_dtype=False, check_categorical=False, check_index_type=False
    )


def test_contradictions_are_settled_without_a_word() -> None:
    """Repeated visits: the first row counts. Static values that differ: the first that is there, by visit."""
    frame = pd.DataFrame(
        {
            "id": [1, 1, 1, 2],
            "sex": ["male", "female", "female", "male"],
            "age": [60, 50, 99, 30],
            "lab": [1.0, 2.0, 3.0, None],
            "late": [None] * 4,
            "smoker": [False] * 4,
            "ill": [0] * 4,
            "exam": ["second", "first", "first", "extra"],
            "died": [1, 0, 0, 1],
        }
    )
    flat = _flat_frame(_cohort(frame))
    assert flat.index.tolist() == ["1"]
    assert flat.loc["1", ["sex", "died", "age@first", "lab@first", "age@second"]].tolist() == ["female", 0, 50, 2.0, 60]


class _NoNoise:
    """Noise that adds nothing: shows what the questions are answered from."""

    private = False
    description = "none"

    def gaussian(self, values: Any, _sigma: float) -> Any:
        """Return the values."""
        return values

    def generator(self) -> np.random.Generator:
        """Return a fixed generator."""
        return np.random.default_rng(0)

    def secret(self) -> bytes:
        """Return a fixed secret."""
        return bytes(32)


def _exact(frame: pd.DataFrame, names: list[str]) -> list[Any]:
    answers, codec = PrivateAnswers(_cohort(frame), 1, _NoNoise()), Codec(_schema())  # type: ignore[arg-type]
    answers.use(codec)
    queries = [Query((name,), (np.arange(codec.columns[name].size),)) for name in names]
    return answers.counts(queries, [1.0] * len(names))


def test_a_patient_with_all_visits_moves_a_count_by_one() -> None:
    """What noise is added to moves by 1 in one cell of every column, and the session's sensitivity is 1."""
    frame = _frame()
    names = ["sex", "age@first", "lab@second", "exam@third", "died"]
    gone = frame["id"].value_counts().index[0]
    more, fewer = _exact(frame, names), _exact(frame[frame["id"] != gone], names)
    assert [int(np.abs(a - b).sum()) for a, b in zip(more, fewer, strict=True)] == [1] * len(names)
    with Session.open(_cohort(frame), Budget(1.0, 1e-6), seed=1) as session:
        assert session.sensitivity == 1


@pytest.fixture(scope="module")
def drawn() -> tuple[Any, pd.DataFrame]:
    """Return a model of a clinic, and 400 of its patients."""
    model = dpsynth.fit(_cohort(_frame(1_500), patients=1_500), "prism", epsilon=10.0, delta=1e-6, seed=3)
    return model, model.sample(400, seed=1).to_pandas()


def test_synthetic_patients_are_whole(drawn: tuple[Any, pd.DataFrame]) -> None:
    """Static columns are constant in all patients, visits are different and in order, what rises never falls."""
    _, frame = drawn
    assert frame["id"].nunique() == 400
    assert len(frame[["id", "sex", "died"]].drop_duplicates()) == 400
    order = frame["exam"].map({"first": 0, "second": 1, "third": 2}).astype(int)
    assert (order.groupby(frame["id"]).diff().dropna() > 0).all()
    for name in ("age", "ill"):
        assert (frame[name].astype(int).groupby(frame["id"]).diff().dropna() >= 0).all()
    assert frame.loc[frame["exam"] != "third", "late"].isna().all()
    assert frame[["age", "smoker", "ill"]].notna().all(axis=None)


def test_what_a_patient_keeps_is_learned(drawn: tuple[Any, pd.DataFrame]) -> None:
    """A lab that is nearly the same in all visits is clearly correlated between visits of a synthetic patient."""
    wide = drawn[1].pivot_table(index="id", columns="exam", values="lab", observed=True)
    assert wide["first"].corr(wide["second"]) > 0.4


def test_a_model_of_visits_survives_its_file(drawn: tuple[Any, pd.DataFrame], tmp_path: Any) -> None:
    """Saved and loaded it draws the same patients, under conditions on static columns and on one visit as well."""
    model, _ = drawn
    model.save(tmp_path / "model")
    again = load_model(tmp_path / "model")
    where = {"sex": "male", "age@second": {"min": 50}}
    first, second = (m.sample(50, where=where, seed=2).to_pandas() for m in (model, again))
    pd.testing.assert_frame_equal(first, second)
    assert set(first["sex"]) == {"male"}
    assert first.loc[first["exam"] == "second", "age"].min() >= 50
    shares = model.sample(100, proportions={"sex": {"female": 0.2, "male": 0.8}}, seed=1).to_pandas()
    assert shares.groupby("id")["sex"].first().value_counts().to_dict() == {"male": 80, "female": 20}


def test_a_release_holds_whole_patients(drawn: tuple[Any, pd.DataFrame], tmp_path: Any) -> None:
    """The bundle has long rows that read back under the schema, of as many patients as are public."""
    dpsynth.release(drawn[0], tmp_path / "release", seed=1)
    read = Cohort.read(tmp_path / "release" / "data" / "patients.csv", drawn[0].schema, synthetic=True)
    assert int(read.patients().max()) + 1 == 1_500
    assert not {rule: n for rule, n in constraint_violations(read).items() if n}


def test_the_statement_says_patient(drawn: tuple[Any, pd.DataFrame]) -> None:
    """The unit is the patient, the cap is one flat row, and the number of patients is public where declared."""
    statement = drawn[0].statement
    assert (statement["unit"], statement["max_rows_per_patient"]) == ("patient", 1)
    assert drawn[0].rows == 1_500


def test_a_part_declares_no_number_of_patients() -> None:
    """How many patients fall on one side of a split is private."""
    cohort = _cohort(patients=300)
    part = cohort.take(np.arange(10))
    assert part.schema.visits is not None
    assert part.schema.visits.patients is None
    assert cohort.schema.units == 300


def test_the_codec_takes_long_rows() -> None:
    """Encoding a long cohort gives the codes of its flat rows, and decoding gives long rows."""
    codec = Codec(_schema())
    codes = codec.encode(_cohort())
    assert {len(array) for array in codes.values()} == {300}
    again = codec.decode(codes, np.random.default_rng(0))
    assert again.schema == codec.schema
    assert len(again) == len(_frame())


@pytest.mark.parametrize(
    ("visits", "words"),
    [
        ({"column": "exma"}, "did you mean 'exam'"),
        ({"column": "age"}, "categorical"),
        ({"values": ["first", "fourth"]}, "values of 'exam'"),
        ({"values": ["first", "first"]}, "different"),
        ({"values": ["first"]}, "values"),
        ({"static": ["exam"]}, "numbers the visits"),
        ({"rising": ["sex"], "static": []}, "only numbers"),
        ({"rising": ["died"]}, "static"),
        ({"static": ["sexx"]}, "did you mean 'sex'"),
    ],
)
def test_visits_that_do_not_fit(visits: dict[str, Any], words: str) -> None:
    """Visits that the columns do not allow are refused with the name of the column."""
    with pytest.raises(SchemaError, match=words):
        _schema(**visits)


def test_names_that_are_taken() -> None:
    """A column that already has the name of a visit's column is refused; so are visits without patients."""
    with pytest.raises(SchemaError, match="age@first"):
        Schema.parse({**DOCUMENT, "columns": {**DOCUMENT["columns"], "age@first": {"type": "boolean"}}})
    with pytest.raises(SchemaError, match="patient"):
        Schema.parse({**{k: v for k, v in DOCUMENT.items() if k not in ("patient", "max_rows_per_patient")}})


@pytest.mark.parametrize(("epsilon", "times"), [(3.0, 1), (60.0, 2)])
def test_related_pairs_are_measured_in_any_case(epsilon: float, times: int) -> None:
    """Pairs that the schema calls related are asked by PRISM in the refinement, and where there is one in the scan."""
    schema = flattened(_schema(patients=300))
    with Session.open(_cohort(), Budget(epsilon, 1e-6), seed=1) as session:
        from dpsynth.models.tabular.prism import Prism

        Prism().fit(session)
        asked = [event.what for event in session.events if event.what == "interaction of lab@first x lab@second"]
    assert len(asked) == times
    assert ("lab@first", "lab@second") in schema.related
    with pytest.raises(SchemaError, match="related"):
        Schema.parse({**DOCUMENT, "related": [["age", "age"]]})
