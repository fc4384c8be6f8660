"""Image sets in one .npz: the published layouts, and that no file, however made, gives more than a message."""

import io
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from image_files import LABEL, PATIENT, pictures, schema_of

from dpsynth.cohort import Cohort
from dpsynth.errors import DataError, DpsynthError, FileError, InputError
from dpsynth.files import limits
from dpsynth.privacy.spending.ledger import Ledger
from dpsynth.schema import Schema

NUMBERS = {"label": {"type": "categorical", "values": [0, 1, 2]}}
BINARY = {"label": {"type": "boolean", "labels": ["benign", "malignant"]}}
CODES = np.array([[0], [2], [1], [2]])
GROUPS = {**NUMBERS, "sex": {"type": "categorical", "values": ["female", "male"]}}


def saved(path: Path, **arrays: Any) -> Path:
    """Write an .npz of a training part, as MedMNIST does."""
    np.savez_compressed(path, **{"train_images": pictures(4, 6, 5), "train_labels": CODES, **arrays})
    return path


def read(path: Path, schema: Schema | None = None, **options: Any) -> Cohort:
    """Read with the schema of labels in words."""
    return Cohort.read(path, schema or schema_of(), **options)


LAYOUTS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "grey": ((6, 5), {}),
    "colour": ((6, 5, 3), {"channels": 3}),
    "volumes": ((4, 6, 5), {"size": (4, 6, 5)}),
}


@pytest.mark.parametrize(("sides", "declared"), LAYOUTS.values(), ids=LAYOUTS.keys())
@pytest.mark.parametrize("names", [("{}_images", "{}_labels"), ("x_{}", "y_{}")], ids=["medmnist", "keras"])
@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_published_layouts(
    sides: tuple[int, ...], declared: dict[str, Any], names: tuple[str, str], part: str, tmp_path: Path
) -> None:
    """Each part of both layouts reads as it was written: grey, colour and volumes, labels as words by position."""
    images = pictures(4, *sides)
    others = {names[0].format(other): pictures(2, *sides, seed=9) for other in {"train", "val", "test"} - {part}}
    np.savez(tmp_path / "a.npz", **others, **{names[0].format(part): images, names[1].format(part): CODES})
    cohort = read(tmp_path / "a.npz", schema_of(**declared), part=part)
    assert cohort.images is not None
    expected = np.moveaxis(images, -1, 1) if declared.get("channels") else images[:, None]
    assert np.array_equal(cohort.images.pixels, expected)
    assert cohort.images.row.tolist() == [0, 1, 2, 3]
    assert cohort.to_pandas().label.tolist() == ["none", "mass", "nodule", "mass"]


def test_the_part_is_the_training_part(tmp_path: Path) -> None:
    """Where no part is named it is the training part; an unknown or absent part is refused."""
    path = saved(tmp_path / "a.npz")
    assert len(read(path)) == 4
    with pytest.raises(InputError, match="expected one of train, val, test"):
        read(path, part="all")
    with pytest.raises(DataError, match="test_images or x_test"):
        read(path, part="test")


LABELS: dict[str, tuple[Any, dict[str, Any], list[Any]]] = {
    "numbers are themselves": (CODES, NUMBERS, [0, 2, 1, 2]),
    "one dimension": (CODES[:, 0], NUMBERS, [0, 2, 1, 2]),
    "other integers": (CODES.astype(np.uint8), NUMBERS, [0, 2, 1, 2]),
    "words by position": (CODES, LABEL, ["none", "mass", "nodule", "mass"]),
    "words as they are": (np.array(["mass", "none", "none", "mass"]), LABEL, ["mass", "none", "none", "mass"]),
    "two words": (CODES > 1, BINARY, ["benign", "malignant", "benign", "malignant"]),
    "two numbers": (CODES % 2, {"label": {"type": "boolean", "labels": [0, 1]}}, [0, 0, 1, 0]),
    "true and false": (CODES > 1, {"label": {"type": "boolean"}}, [False, True, False, True]),
    "grades": (CODES, {"label": {"type": "numeric", "min": 0, "max": 4}}, [0, 2, 1, 2]),
    "missing": (np.array([1, np.nan, 2, 0]), {"label": {"type": "numeric", "min": 0, "max": 4, "missing": True}}, []),
}


@pytest.mark.parametrize(("labels", "column", "expected"), LABELS.values(), ids=LABELS.keys())
def test_labels(labels: Any, column: dict[str, Any], expected: list[Any], tmp_path: Path) -> None:
    """Labels of each type are read as the column is declared."""
    found = read(saved(tmp_path / "a.npz", train_labels=labels), schema_of(column))
    if expected:
        assert found.to_pandas().label.tolist() == expected
    else:
        assert found.table["label"].null_count == 1


WORDS = {"label": {"type": "categorical", "values": ["benign", "malignant"]}}
ONE_MORE: dict[str, tuple[Any, dict[str, Any]]] = {
    "a label that is no number": (np.nan, LABEL),
    "a label with digits": (0.5, LABEL),
    "a label that is text": ("mass", LABEL),
    "text beside true and false": ("benign", WORDS),
    "no number beside true and false": (np.nan, WORDS),
    "a code that is no number": (np.nan, NUMBERS),
    "a code that is text": ("2", NUMBERS),
}


@pytest.mark.parametrize(("more", "column"), ONE_MORE.values(), ids=ONE_MORE.keys())
def test_a_label_is_read_by_itself(more: Any, column: dict[str, Any], tmp_path: Path) -> None:
    """One more label, which makes another type of the whole array, changes none of the others."""
    codes = CODES[:, 0] > 1 if column is WORDS else CODES[:, 0]
    schema = schema_of({"label": {**column["label"], "missing": True, "other": "missing"}})
    before = read(saved(tmp_path / "a.npz", train_labels=codes), schema)
    after = read(saved(tmp_path / "b.npz", train_images=pictures(5, 6, 5), train_labels=np.append(codes, more)), schema)
    found = after.plain_table()["label"].to_pylist()
    assert found[:4] == before.plain_table()["label"].to_pylist()
    assert None not in found[:4]


@pytest.mark.parametrize("words", [["true", "false"], ["True", "False"]])
@pytest.mark.parametrize("labels", [CODES > 1, (CODES > 1).astype(str)], ids=["booleans", "text"])
def test_words_go_before_positions(words: list[str], labels: Any, tmp_path: Path) -> None:
    """Where the declared words are true and false, in any order and spelling, a boolean stands for its own word."""
    schema = schema_of({"label": {"type": "categorical", "values": words}})
    found = read(saved(tmp_path / "a.npz", train_labels=labels), schema)
    assert found.to_pandas().label.tolist() == [words[1], words[0], words[1], words[0]]


@pytest.mark.parametrize("ids", [np.array([7, 7, 8, 9]), np.array([7.0, 7.0, 8.5, 9.0])], ids=["integers", "decimals"])
def test_an_identifier_is_read_by_itself(ids: Any, tmp_path: Path) -> None:
    """One more identifier that is text, which makes text of the whole array, renames no other patient."""
    schema = schema_of(LABEL, patient="pid")
    before = read(saved(tmp_path / "a.npz", train_pid=ids), schema).to_pandas()["pid"].tolist()
    more = {"train_images": pictures(5, 6, 5), "train_labels": np.append(CODES, 1), "train_pid": np.append(ids, " P1 ")}
    after = read(saved(tmp_path / "b.npz", **more), schema).to_pandas()["pid"].tolist()
    assert after == [*before, "P1"]


@pytest.mark.parametrize("names", [["label_0", "label_1"], ["hernia", "oedema"]])
def test_several_labels(names: list[str], tmp_path: Path) -> None:
    """Several labels an image are columns, numbered or as the schema names them."""
    path = saved(tmp_path / "a.npz", train_labels=np.array([[0, 1], [1, 1], [0, 0], [1, 0]]))
    columns = {name: {"type": "boolean", "labels": [0, 1]} for name in names}
    declared = {} if names[0].startswith("label") else {"labels": names}
    frame = read(path, schema_of(columns, **declared)).to_pandas()
    assert frame.to_numpy().tolist() == [[0, 1], [1, 1], [0, 0], [1, 0]]
    with pytest.raises(DataError, match="labels an image"):
        read(path, schema_of(columns, labels=names[:1]))


def test_further_columns(tmp_path: Path) -> None:
    """Subgroups and the patient are read from arrays of their names; arrays that are not declared are not."""
    sex, who = np.array(["male", "female", "male", "male"]), np.array([7, 7, 8, 9])
    path = saved(tmp_path / "a.npz", train_sex=sex, train_pid=who[:, None], train_weight=np.zeros(99), extra=np.ones(3))
    cohort = read(path, schema_of(GROUPS, patient="pid"))
    assert cohort.to_pandas().sex.tolist() == sex.tolist()
    assert cohort.patients().tolist() == [0, 0, 1, 2]
    with pytest.raises(DataError, match="column 'sex': is declared and not in the data"):
        read(saved(tmp_path / "b.npz"), schema_of(GROUPS))


def test_decimals_and_ranges(tmp_path: Path) -> None:
    """Decimal pixels are kept as such in their range, and are rounded and clipped where whole ones are declared."""
    path = saved(tmp_path / "a.npz", train_images=pictures(4, 6, 5, dtype=np.float64) / 100)
    kept = read(path, schema_of(range=[0, 2])).images
    assert kept is not None
    assert kept.pixels.dtype == np.float32
    assert kept.pixels.max() == 2
    rounded = read(path).images
    assert rounded is not None
    assert set(np.unique(rounded.pixels)) <= {0, 1, 2, 3}


def test_all_parts_have_one_ledger(tmp_path: Path) -> None:
    """The ledger of an image set lies beside its file."""
    path = saved(tmp_path / "a.npz")
    source = read(path).source
    assert source is not None
    assert Ledger.beside(source).path == tmp_path.resolve() / "a.npz.ledger.jsonl"


SHORT = np.array([[0], [1]])
REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "another size": ({}, {"size": [6, 6]}, "found images of shape 6 x 5"),
    "colour under grey": ({"train_images": pictures(4, 6, 5, 3)}, {}, "1 channel"),
    "grey under colour": ({}, {"channels": 3}, "3 channels"),
    "flat": ({"train_images": pictures(4, 30)}, {}, "train_images"),
    "volumes under pictures": ({"train_images": pictures(4, 6, 5, 4)}, {}, "train_images"),
    "8 bits under a range of 1": ({}, {"range": [0, 1]}, r"Declare range: \[0, 255\]"),
    "fewer labels than images": ({"train_labels": SHORT}, {}, "more or fewer labels"),
    "a value outside the list": ({"train_labels": CODES + 5}, {}, "column 'label'"),
    "negative codes": ({"train_labels": CODES - 1}, {}, "column 'label'"),
    "labels of three sides": ({"train_labels": np.zeros((4, 1, 1))}, {}, "one label an image"),
    "no labels an image": ({"train_labels": np.zeros((4, 0))}, {}, "one label an image"),
    "complex pixels": ({"train_images": np.zeros((4, 6, 5), complex)}, {}, "not a whole .npz"),
    "records": ({"train_labels": np.zeros(4, [("a", int)])}, {}, "not a whole .npz"),
    "no images": ({"train_images": pictures(0, 6, 5), "train_labels": CODES[:0]}, {}, "no rows"),
}


@pytest.mark.parametrize(("arrays", "declared", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_refused(arrays: dict[str, Any], declared: dict[str, Any], words: str, tmp_path: Path) -> None:
    """Arrays that are not what the schema says are refused with what is wrong."""
    with pytest.raises(DataError, match=words):
        read(saved(tmp_path / "a.npz", **arrays), schema_of(**declared))


def test_resize(tmp_path: Path) -> None:
    """With resize an array of another size is read, and its channels are still checked."""
    path = saved(tmp_path / "a.npz", train_images=pictures(4, 12, 10))
    assert read(path, schema_of(resize=True)).images is not None
    with pytest.raises(DataError, match="3 channels"):
        read(path, schema_of(resize=True, channels=3))


def test_a_schema_without_images(tmp_path: Path) -> None:
    """An image set needs a schema that declares images, and a table has no parts."""
    path = saved(tmp_path / "a.npz")
    with pytest.raises(DataError, match="declares none"):
        read(path, Schema.parse({"name": "table", "columns": LABEL}))
    (tmp_path / "a.csv").write_text("label\nmass\n")
    assert read(tmp_path / "a.csv").images is None
    with pytest.raises(InputError, match=r"part: is for an \.npz"):
        read(tmp_path / "a.csv", part="train")


def test_no_such_file(tmp_path: Path) -> None:
    """A file that is not there is named."""
    with pytest.raises(FileError, match=r"a\.npz: cannot be read"):
        read(tmp_path / "a.npz")


# -- hostile files ----------------------------------------------------------------------------------------------------


def _npy(array: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, **options)
    return file.getvalue()


def _zip(entries: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as packed:
        for name, content in entries.items():
            packed.writestr(name, content)
    return file.getvalue()


def _claiming(shape: str, content: bytes) -> bytes:
    """Return an array file that claims a shape and holds something else."""
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + content


GOOD = {"train_images.npy": _npy(pictures(4, 6, 5)), "train_labels.npy": _npy(CODES)}
ZEROS = bytes(64 << 20)


def _twice() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        for name, content in GOOD.items():
            packed.writestr(name, content)
        with pytest.warns(UserWarning, match="Duplicate"):
            packed.writestr("train_images.npy", GOOD["train_images.npy"])
    return file.getvalue()


HOSTILE: dict[str, Callable[[], bytes]] = {
    "objects": lambda: _zip({**GOOD, "train_labels.npy": _npy(np.array([{}, 1, 2, 3], object))}),
    "more than it holds": lambda: _zip({**GOOD, "train_images.npy": _claiming("(999999999, 6, 5)", bytes(120))}),
    "less than it holds": lambda: _zip({**GOOD, "train_images.npy": _claiming("(4, 6, 5)", bytes(9999))}),
    "a negative side": lambda: _zip({**GOOD, "train_images.npy": _claiming("(-4, -6, 5)", bytes(120))}),
    "a side of no number": lambda: _zip({**GOOD, "train_images.npy": _claiming("('a', 6, 5)", bytes(120))}),
    "code in the header": lambda: _zip({**GOOD, "train_images.npy": _claiming("(__import__('os'),)", bytes(120))}),
    "twice": _twice,
    "bzip2": lambda: _zip(GOOD, zipfile.ZIP_BZIP2),
    "cut": lambda: _zip(GOOD)[:-40],
    "a flipped byte": lambda: _zip(GOOD, zipfile.ZIP_STORED).replace(b"NUMPY", b"NUMPi"),
    "text": lambda: _zip({"train_images.npy": b"hello"}),
    "nothing inside": lambda: _zip({"train_images.npy": b""}),
    "an Excel file": lambda: _zip({"xl/workbook.xml": b"<a/>"}),
}


@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_files(make: Callable[[], bytes], tmp_path: Path) -> None:
    """Files that lie, run code or are damaged are refused with a message."""
    (tmp_path / "a.npz").write_bytes(make())
    with pytest.raises(DataError):
        read(tmp_path / "a.npz")


@pytest.mark.parametrize("limit", ["size", "ratio"])
def test_a_bomb_is_not_unpacked(limit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An array past the limit of memory, or denser than deflate packs, is refused before memory is taken for it."""
    bomb = _zip({**GOOD, "train_images.npy": _claiming(f"({len(ZEROS) // 30}, 6, 5)", ZEROS[: len(ZEROS) // 30 * 30])})
    (tmp_path / "a.npz").write_bytes(bomb)
    if limit == "size":
        monkeypatch.setattr(limits, "MAX_BYTES", 2**20)
    else:
        monkeypatch.setattr("dpsynth.files.archive._DENSEST", 10)
    read(saved(tmp_path / "first.npz", train_images=pictures(4, 6, 5)))  # what is imported is not counted
    tracemalloc.start()
    with pytest.raises(DataError, match=r"memory|not a whole"):
        read(tmp_path / "a.npz")
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(bomb) < 100_000
    assert most < 8 << 20


def test_no_message_holds_a_value(tmp_path: Path) -> None:
    """A label and an identifier that are wrong are not echoed."""
    wrong = {
        "train_labels": np.array(["mass", "none", PATIENT, "mass"]),
        "train_pid": np.array([PATIENT] * 4),
    }
    with pytest.raises(DataError) as caught:
        read(saved(tmp_path / "a.npz", **wrong), schema_of(patient="pid"))
    assert PATIENT not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def _read_or_refused(content: bytes, folder: Path) -> bool:
    """Whether bytes are a cohort with images, or refused as bad input (a file that happens to be right is no fault)."""
    (folder / "a.npz").write_bytes(content)
    try:
        cohort = read(folder / "a.npz")
    except DpsynthError as error:
        return error.exit_code == 2
    return cohort.images is not None


WHOLE = _zip(GOOD, zipfile.ZIP_STORED)
PACKED = _zip(GOOD)


@settings(max_examples=250, deadline=None)
@given(
    whole=st.booleans(), place=st.integers(0, 10**6), content=st.binary(min_size=1, max_size=8), cut=st.integers(0, 9)
)
@example(whole=True, place=26, content=b"\xff\xff", cut=0)
def test_no_damage_gives_more_than_a_message(
    whole: bool, place: int, content: bytes, cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A whole file with some bytes changed, and perhaps cut, reads or gives a message, never another error."""
    good = WHOLE if whole else PACKED
    place %= len(good)
    changed = good[:place] + content + good[place + len(content) :]
    damaged = changed[: len(changed) - cut * 20] if cut else changed
    assert _read_or_refused(damaged, tmp_path_factory.getbasetemp())


@settings(max_examples=60, deadline=None)
@given(content=st.binary(max_size=300))
def test_no_bytes_give_more_than_a_message(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Any bytes in the place of an array give a message."""
    damaged = _zip({**GOOD, "train_images.npy": b"\x93NUMPY" + content})
    assert _read_or_refused(damaged, tmp_path_factory.getbasetemp())
