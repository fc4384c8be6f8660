from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dpsynth.cohort import Cohort
from dpsynth.cohort.row_keys import row_digests
from dpsynth.errors import FileError, InputError
from dpsynth.evaluation.arrays.table import tables
from dpsynth.evaluation.coins import Coins
from dpsynth.evaluation.learners.tabular import fit_predict, task_of
from dpsynth.evaluation.protocol import split
from dpsynth.evaluation.statistics.scores import Ranking, ones
from dpsynth.schema import Schema

from .helpers import frame, ward

VISITS = """
name: visits
confirmed: true
patient: id
max_rows_per_patient: 5
columns:
  id: {type: identifier}
  x: {type: numeric, min: 0, max: 1, decimals: 3}
"""


def visits(patients: int = 400, rows: int = 3, seed: int = 0) -> Cohort:
    """Return a cohort with several rows a patient."""
    rng = np.random.default_rng(seed)
    data = frame(patients * rows)[[]].assign(
        id=np.repeat([f"p{i}" for i in range(patients)], rows), x=rng.random(patients * rows)
    )
    return Cohort.from_pandas(data, Schema.parse(VISITS))


def names(cohort: Cohort) -> set[str]:
    """Return the patients of a cohort."""
    return set(cohort.to_pandas()["id"])


def test_no_patient_is_on_both_sides_and_none_is_lost() -> None:
    """All rows of a patient go one way."""
    whole = visits()
    train, test = split(whole, 0.3)
    assert names(train) | names(test) == names(whole)
    assert not names(train) & names(test)
    assert len(train) + len(test) == len(whole)


def test_the_share_of_test_patients_is_as_asked() -> None:
    """400 patients at 30 %: within 5 standard errors of 120."""
    _, test = split(visits(), 0.3)
    assert abs(len(names(test)) - 120) < 5 * np.sqrt(400 * 0.3 * 0.7)


def test_a_patients_side_does_not_depend_on_order_or_on_others() -> None:
    """Shuffling rows, or leaving patients out, moves nobody."""
    whole, coins = visits(), Coins.draw()
    rows = np.random.default_rng(1).permutation(len(whole))
    expected = names(split(whole, 0.3, key=coins)[1])
    assert names(split(whole.take(rows), 0.3, key=coins)[1]) == expected
    some = whole.take(np.arange(600))
    assert names(split(some, 0.3, key=coins)[1]) == expected & names(some)


def test_a_division_is_secret_unless_it_is_kept_or_named() -> None:
    """Two calls divide differently; kept coins, and a text for public data, repeat a division."""
    whole, coins = visits(), Coins.draw()
    assert names(split(whole)[1]) != names(split(whole)[1])
    assert names(split(whole, key=coins)[1]) == names(split(whole, key=coins)[1])
    assert names(split(whole, 0.3, key="a")[1]) == names(split(whole, 0.3, key="a")[1])
    assert names(split(whole, 0.3, key="a")[1]) != names(split(whole, 0.3, key="b")[1])


def cells(rows: int = 2000) -> Cohort:
    """Return noise: eight different rows, each many times; the outcome has nothing to do with the others."""
    rng = np.random.default_rng(5)
    columns = {name: {"type": "boolean", "labels": [0, 1]} for name in ("a", "b", "y")}
    schema = Schema.parse({"name": "noise", "confirmed": True, "target": "y", "columns": columns})
    return Cohort.from_pandas(pd.DataFrame(rng.integers(0, 2, (rows, 3)), columns=list("aby")), schema)


def counted(cohort: Cohort) -> Counter[tuple[Any, ...]]:
    """Return how often each row is there."""
    return Counter(map(tuple, cohort.to_pandas().astype(str).to_numpy()))


def test_equal_rows_have_independent_coins() -> None:
    """Of each of eight rows, 250 times in the table, 30 % test, within 5.5 standard errors (false alarm 3e-7)."""
    whole = cells()
    train, test = split(whole, 0.3)
    for row, count in counted(whole).items():
        assert abs(counted(test)[row] - 0.3 * count) < 5.5 * np.sqrt(count * 0.21)
    assert counted(train) + counted(test) == counted(whole)


@pytest.mark.parametrize("learner", ["gradient boosting", "logistic regression"])
def test_on_noise_real_patients_teach_nothing(learner: str) -> None:
    """Their AUROC is within 5 standard errors of .5 (false alarm 6e-7); by content equal rows stood on one side."""
    train, test = split(cells(), 0.3)
    found = tables({"train": train, "test": test})
    task = task_of(found["test"], "y")
    truth = task.truth(found["test"])
    scores = fit_predict(found["train"], task, learner)(found["test"]).scores
    error = np.sqrt((len(truth) + 1) / (12 * truth.sum() * (~truth).sum()))
    assert abs(Ranking(truth, scores).auroc(ones(len(truth)))[0] - 0.5) < 5 * error


@pytest.mark.parametrize("place", [0, 100, 2000], ids=["first", "between", "last"])
def test_one_more_equal_row_moves_no_other(place: int) -> None:
    """A row that equals 250 others joins one side, and both sides keep all rows that they had."""
    whole, coins = cells(), Coins.draw()
    more = whole.take(np.insert(np.arange(2000), place, 7))
    before, after = (list(map(counted, split(one, 0.3, key=coins))) for one in (whole, more))
    gained = [two - one for one, two in zip(before, after, strict=True)]
    lost = [one - two for one, two in zip(before, after, strict=True)]
    assert sum(side.total() for side in gained) == 1
    assert not any(lost)


ONE_MORE: dict[str, tuple[dict[str, Any], list[Any], Any]] = {
    "the first missing number": ({"type": "numeric", "min": 0, "max": 99, "missing": True}, list(range(99)), None),
    "the first number with digits": ({"type": "numeric", "min": 0, "max": 99}, list(range(99)), 40.5),
    "a huge number": ({"type": "numeric", "min": 0, "max": 99}, list(range(99)), 1e300),
    "the first missing boolean": ({"type": "boolean", "missing": True}, [True, False], None),
    "the first missing code": ({"type": "categorical", "values": [1, 2, 3], "missing": True}, [1, 2, 3], None),
    "the first missing word": ({"type": "categorical", "values": ["a", "b"], "missing": True}, ["a", "b"], None),
    "a whole number that no float holds": (
        {"type": "numeric", "min": 0, "max": 99},
        [2**53, 2**53 + 1, 7],
        2.5,
    ),
    "text among numbers": ({"type": "categorical", "values": [1, 2, "x"]}, [1, 2], "x"),
    "the first decimal": ({"type": "numeric", "min": 0, "max": 9, "decimals": 2}, [0.1, 0.25, 3.0], Decimal("0.123")),
    "a time among days": (
        {"type": "datetime", "min": "2000-01-01", "max": "2020-01-01T23:59:59"},
        ["2001-01-01", "2003-02-03"],
        "2004-05-06T07:08:09",
    ),
    "a value that nobody else has": (
        {"type": "categorical", "discover": True, "max_values": 4},
        ["b", "c"],
        "a",
    ),
    "the first missing date": (
        {"type": "datetime", "min": "2000-01-01", "max": "2020-01-01", "missing": True},
        ["2001-01-01", "2003-02-03"],
        None,
    ),
}
"""A column, what is in it, and what one more patient has there."""


@pytest.mark.parametrize(("column", "values", "more"), ONE_MORE.values(), ids=ONE_MORE.keys())
@pytest.mark.parametrize("place", [0, 300], ids=["first", "last"])
def test_one_more_row_moves_no_other(column: dict[str, Any], values: list[Any], more: Any, place: int) -> None:
    """Without a patient column: 300 rows stay on their side, whatever one more row has and wherever it stands."""
    schema = Schema.parse({"name": "w", "columns": {"x": column, "row": {"type": "numeric", "min": 0, "max": 300}}})
    cells = [values[number % len(values)] for number in range(300)]
    fewer = pd.DataFrame({"x": cells, "row": range(300)})
    wider = [*cells[:place], more, *cells[place:]]
    number = [*range(place), 300, *range(place, 300)]
    coins = Coins.draw()
    sides = [
        set(split(Cohort.from_pandas(frame, schema), 0.3, key=coins)[1].to_pandas()["row"])
        for frame in (fewer, pd.DataFrame({"x": wider, "row": number}))
    ]
    assert 30 < len(sides[0]) < 150
    assert sides[0] ^ sides[1] <= {300}


def test_one_more_identifier_moves_no_other_patient() -> None:
    """Identifiers that are numbers: one with digits, or text, leaves every other patient on their side."""
    coins, facts = Coins.draw(), Schema.parse(VISITS)
    sides = [
        set(split(Cohort.from_pandas(pd.DataFrame({"id": ids, "x": 0.5}), facts), 0.3, key=coins)[1].to_pandas().id)
        for ids in ([*range(200)], [*range(200), 7.5], [*range(200), "P7"], [float(number) for number in range(200)])
    ]
    assert all(sides[0] ^ other <= {"7.5", "P7"} for other in sides[1:])
    assert len(sides[0]) > 20


def test_equal_values_are_equal_rows_in_any_type() -> None:
    """0 and -0.0 are one value, and so are 4 and 4.0 in another file: their rows have one digest."""
    schema = Schema.parse({"name": "w", "columns": {"x": {"type": "numeric", "min": 0, "max": 9, "missing": True}}})
    lists: list[list[Any]] = [[0, 4, 0.5], [-0.0, 4.0, 0.5], [0, 4, 0.5, None]]
    of = [row_digests(Cohort.from_pandas(pd.DataFrame({"x": values}), schema), b"key") for values in lists]
    assert of[0] == of[1] == of[2][:3]
    assert len(set(of[2])) == 4


def test_kept_coins_are_the_owners_alone_and_fit_their_rows_only(tmp_path: Path) -> None:
    """The file has mode 600 and gives the same sides; another share, unit or table is refused."""
    whole, path = cells(), tmp_path / "split.json"
    coins = Coins.draw().bound(whole, 0.3)
    coins.write(path)
    assert path.stat().st_mode & 0o777 == 0o600
    kept = Coins.read(path)
    assert split(whole, key=kept)[1].table.equals(split(whole, 0.3, key=coins)[1].table)
    assert split(whole.take(np.arange(2000)[::-1]), key=kept)[1].table.num_rows == len(split(whole, key=kept)[1])
    assert kept.secret.hex() not in repr(kept)
    with pytest.raises(InputError, match="share of"):
        split(whole, 0.2, key=kept)
    with pytest.raises(InputError, match="other rows"):
        split(whole.take(np.arange(1999)), key=kept)
    with pytest.raises(InputError, match="unit 'row'"):
        split(visits(), key=kept)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": "dpsynth-split", "version": 1, "secret": "00"}', "no"])
def test_a_file_of_no_split_is_refused(tmp_path: Path, text: str) -> None:
    """Whatever else it is; the message holds nothing of it."""
    (tmp_path / "split.json").write_text(text, encoding="utf-8")
    with pytest.raises((FileError, InputError), match=r"split\.json"):
        Coins.read(tmp_path / "split.json")
    with pytest.raises(FileError, match="is not there"):
        Coins.read(tmp_path / "none.json")


@pytest.mark.parametrize("share", [0.0, 1.0, -0.2, 3.0])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    """The test share lies between 0 and 1."""
    with pytest.raises(InputError, match="between 0 and 1"):
        split(ward(30), share)


def test_one_patient_cannot_be_divided() -> None:
    """The message says what to do in place."""
    with pytest.raises(InputError, match="separate files"):
        split(visits(1), 0.5)
