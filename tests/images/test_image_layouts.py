"""How images may lie: folders of classes, metadata of image folders, channels first, labels that begin with 1."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from image_files import LABEL, PATIENT, pictures, save_index, save_picture, schema_of
from typer.testing import CliRunner

from dpsynth.cli.app import app
from dpsynth.cohort import Cohort
from dpsynth.drafting.draft import draft
from dpsynth.errors import DataError, FileError
from dpsynth.files.folder import is_image_folder
from dpsynth.privacy.spending.ledger_place import dataset_of
from dpsynth.schema import Schema
from dpsynth.schema.images import Images

GREY = pictures(6, 6, 5)
LABELS = ["mass", "mass", "nodule", "none", "none", "none"]


def classes(folder: Path, labels: list[str] = LABELS) -> Path:
    """Write an image into the folder of its class, with files that systems leave there."""
    folder.mkdir()
    for number, (image, label) in enumerate(zip(GREY, labels, strict=True)):
        (folder / label).mkdir(exist_ok=True)
        save_picture(folder / label / f"{PATIENT}-{number}.png", image)
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / labels[0] / "Thumbs.db").write_bytes(b"x")
    (folder / labels[0] / ".hidden").write_bytes(b"x")
    return folder


def labels_of(cohort: Cohort) -> list[Any]:
    """Return the labels as they read."""
    return list(cohort.to_pandas()["label"])


# -- folders of classes -----------------------------------------------------------------------------------------------


def test_folders_of_classes(tmp_path: Path) -> None:
    """The name of a folder is the label of its images; each image counts as a patient."""
    folder = classes(tmp_path / "scans")
    assert is_image_folder(folder)
    cohort = Cohort.read(folder, schema_of())
    assert cohort.images is not None
    assert labels_of(cohort) == LABELS
    assert np.array_equal(cohort.images.pixels[:, 0], GREY)
    assert cohort.images.row.tolist() == list(range(6))
    named = schema_of({"finding": LABEL["label"]}, labels=["finding"])
    assert list(Cohort.read(folder, named).to_pandas()["finding"]) == LABELS


def test_a_draft_of_folders_of_classes(tmp_path: Path) -> None:
    """The draft names the classes, says what it assumed of folders and patients, and its schema reads the folder."""
    made = draft(classes(tmp_path / "scans"))
    assert made.schema.to_dict()["columns"] == {"label": {"type": "categorical", "values": ["mass", "nodule", "none"]}}
    assert (made.schema.target, made.schema.patient) == ("label", None)
    text = made.to_yaml()
    assert "each folder is taken for a class" in text
    assert "each counts as one patient" in text
    assert PATIENT not in text
    assert labels_of(Cohort.read(tmp_path / "scans", made.schema)) == LABELS


def test_one_ledger_for_folders_of_classes(tmp_path: Path) -> None:
    """What is spent lies beside the folder, also once an index is written into it."""
    folder = classes(tmp_path / "scans")
    assert dataset_of(folder) == folder
    save_index(folder, pd.DataFrame({"image": ["none/x.png"], "label": ["none"]}))
    assert dataset_of(folder / "index.csv") == folder


def test_what_folders_of_classes_are_refused(tmp_path: Path) -> None:
    """Parts, patients, mixed images and an undeclared class end with words and no name of a folder."""
    folder = classes(tmp_path / "scans")
    with pytest.raises(DataError, match="do not say whose an image is"):
        Cohort.read(folder, schema_of(patient="pid"))
    with pytest.raises(DataError, match=r"'label'"):
        Cohort.read(folder, schema_of({"label": {"type": "categorical", "values": ["none", "mass"]}}))
    with pytest.raises(DataError, match="labels names 2 columns"):
        Cohort.read(folder, schema_of({**LABEL, "b": LABEL["label"]}, labels=["label", "b"]))
    with pytest.raises(DataError, match="sex"):
        Cohort.read(folder, schema_of({**LABEL, "sex": LABEL["label"]}))
    (folder / "none" / PATIENT).mkdir()
    with pytest.raises(DataError, match="folders within its folders") as caught:
        Cohort.read(folder, schema_of())
    assert PATIENT not in str(caught.value)
    (folder / "none" / PATIENT).rmdir()
    save_picture(folder / "a.png", GREY[0])
    with pytest.raises(DataError, match="beside folders"):
        Cohort.read(folder, schema_of())
    with pytest.raises(FileError, match="no folder for each class"):
        Cohort.read(folder / "none", schema_of())


def test_parts_are_named_one_by_one(tmp_path: Path) -> None:
    """A folder of train and test says which folder to give."""
    classes(tmp_path / "train")
    for call in (lambda: draft(tmp_path), lambda: Cohort.read(tmp_path, schema_of())):
        with pytest.raises(DataError, match=r"Name the folder of one part \(train\)"):
            call()


def test_so_many_folders_are_patients(tmp_path: Path) -> None:
    """More folders than classes can be are not drafted as classes."""
    for number in range(51):
        (tmp_path / f"{PATIENT}-{number}").mkdir()
        save_picture(tmp_path / f"{PATIENT}-{number}" / "a.png", GREY[0])
    with pytest.raises(DataError, match="If each is a patient") as caught:
        draft(tmp_path)
    assert PATIENT not in str(caught.value)


def test_a_release_is_no_folder_of_classes(tmp_path: Path) -> None:
    """A release has folders of images, and is a model all the same."""
    folder = classes(tmp_path / "release")
    (folder / "privacy.json").write_text("{}")
    assert not is_image_folder(folder)


# -- metadata.csv -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_metadata_of_an_image_folder(kind: str, tmp_path: Path) -> None:
    """`metadata` with `file_name` is an index; the folder and its table are one dataset with one ledger."""
    for number, image in enumerate(GREY):
        save_picture(tmp_path / f"{number}.png", image)
    names = [f"{number}.png" for number in range(6)]
    save_index(tmp_path, pd.DataFrame({"file_name": names, "label": LABELS}), kind, "metadata")
    for path in (tmp_path, tmp_path / f"metadata.{kind}"):
        cohort = Cohort.read(path, schema_of())
        assert cohort.images is not None
        assert np.array_equal(cohort.images.pixels[:, 0], GREY)
        assert labels_of(cohort) == LABELS
        assert dataset_of(path).resolve() == tmp_path.resolve()
    made = draft(tmp_path)
    assert list(made.schema.columns) == ["label"]
    assert made.schema.images is not None


def test_metadata_beside_a_table_of_patients(tmp_path: Path) -> None:
    """`file_name` says whose an image is, too."""
    save_picture(tmp_path / "a.png", GREY[0])
    save_index(tmp_path, pd.DataFrame({"pid": ["p1"], "file_name": ["a.png"]}), name="metadata")
    save_index(tmp_path, pd.DataFrame({"pid": ["p0", "p1"], "label": ["none", "mass"]}), name="patients")
    cohort = Cohort.read(tmp_path, schema_of(patient="pid"))
    assert cohort.images is not None
    assert cohort.images.row.tolist() == [1]


def test_other_metadata_is_no_index(tmp_path: Path) -> None:
    """A table that happens to be called metadata and names no files stays a table."""
    path = tmp_path / "metadata.csv"
    save_index(tmp_path, pd.DataFrame({"label": LABELS}), name="metadata")
    assert not is_image_folder(tmp_path)
    table = Schema.parse({"name": "x", "confirmed": True, "columns": LABEL})
    assert labels_of(Cohort.read(path, table)) == LABELS
    assert dataset_of(path) == path


# -- channels ---------------------------------------------------------------------------------------------------------

ORDERS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "colour": ((3, 6, 5), {"channels": 3}),
    "grey": ((1, 6, 5), {}),
    "volumes": ((2, 4, 6, 5), {"size": [4, 6, 5], "channels": 2}),
    "as long as a side": ((3, 6, 3), {"size": [6, 3], "channels": 3}),
}


@pytest.mark.parametrize(("shape", "declared"), ORDERS.values(), ids=ORDERS.keys())
def test_channels_come_first_or_last(shape: tuple[int, ...], declared: dict[str, Any], tmp_path: Path) -> None:
    """Both orders give the same images, from an archive and from files."""
    first = pictures(6, *shape)
    schema, labels = schema_of(**declared), np.array(LABELS)
    for name, arrays in {"first": first, "last": np.moveaxis(first, 1, -1)}.items():
        np.savez(tmp_path / f"{name}.npz", train_images=arrays, train_labels=labels)
        folder = tmp_path / name
        folder.mkdir()
        for number, array in enumerate(arrays):
            np.save(folder / f"{number}.npy", array)
        save_index(folder, pd.DataFrame({"image": [f"{k}.npy" for k in range(6)], "label": LABELS}))
        for path in (folder, tmp_path / f"{name}.npz"):
            images = Cohort.read(path, schema).images
            assert images is not None
            assert np.array_equal(images.pixels, first)


@pytest.mark.parametrize("declared", [{"size": [3, 3]}, {"size": [6, 5], "resize": True}])
def test_channels_that_may_be_either_axis_are_refused(declared: dict[str, Any], tmp_path: Path) -> None:
    """Where neither shape nor size tells, nothing is guessed."""
    np.savez(tmp_path / "a.npz", train_images=pictures(6, 3, 3, 3), train_labels=np.array(LABELS))
    with pytest.raises(DataError, match="channels last"):
        Cohort.read(tmp_path / "a.npz", schema_of(channels=3, **declared))


DRAFTED: dict[str, tuple[tuple[int, ...], tuple[tuple[int, ...], int]]] = {
    "colour first": ((3, 28, 28), ((28, 28), 3)),
    "colour last": ((28, 28, 3), ((28, 28), 3)),
    "grey first": ((1, 28, 28), ((28, 28), 1)),
    "grey last": ((28, 28, 1), ((28, 28), 1)),
    "volumes": ((7, 6, 5), ((7, 6, 5), 1)),
    "volumes of grey": ((1, 7, 6, 5), ((7, 6, 5), 1)),
}


@pytest.mark.parametrize(("shape", "expected"), DRAFTED.values(), ids=DRAFTED.keys())
def test_a_draft_finds_the_channels(shape: tuple[int, ...], expected: Any, tmp_path: Path) -> None:
    """A draft knows channels on both ends, says so where they may be slices, and reads its own archive."""
    np.savez(tmp_path / "a.npz", train_images=pictures(6, *shape), train_labels=np.array([0, 1, 0, 1, 0, 1]))
    made = draft(tmp_path / "a.npz")
    images = made.schema.images
    assert images is not None
    assert (images.size, images.channels) == expected
    assert ("slices of a volume" in made.to_yaml()) == (len(shape) == 3 and shape[0] in (1, 3))
    assert len(Cohort.read(tmp_path / "a.npz", made.schema)) == 6


# -- labels -----------------------------------------------------------------------------------------------------------

FROM_ONE = np.array([3, 3, 2, 1, 1, 1])
TYPES = {"int": FROM_ONE, "float": FROM_ONE * 1.0, "text": FROM_ONE.astype(str), "column": FROM_ONE[:, None]}


@pytest.mark.parametrize("labels", TYPES.values(), ids=TYPES.keys())
def test_labels_that_begin_with_1(labels: Any, tmp_path: Path) -> None:
    """Under `first_label: 1` the label 1 is the first value; without it, what lies outside is refused, and why."""
    np.savez(tmp_path / "a.npz", train_images=GREY, train_labels=labels)
    words = {"label": {"type": "categorical", "values": ["none", "nodule", "mass"]}}
    assert labels_of(Cohort.read(tmp_path / "a.npz", schema_of(words, first_label=1))) == LABELS
    other = {"label": {"type": "categorical", "values": ["none", "nodule", "mass"], "other": "mass"}}
    for columns in (words, other):
        with pytest.raises(DataError, match=r"images: first_label: 1 if they begin with 1"):
            Cohort.read(tmp_path / "a.npz", schema_of(columns))
    np.savez(tmp_path / "a.npz", train_images=GREY, train_labels=FROM_ONE - 1)
    with pytest.raises(DataError, match=r"images: first_label: 0 if they begin with 0"):
        Cohort.read(tmp_path / "a.npz", schema_of(words, first_label=1))
    assert labels_of(Cohort.read(tmp_path / "a.npz", schema_of(words))) == LABELS


def test_true_is_read_alike_whatever_other_labels_are(tmp_path: Path) -> None:
    """NumPy makes 1 of True where another label is 2: both are the same position."""
    schema = schema_of({"label": {"type": "categorical", "values": ["none", "mass", "nodule"]}}, first_label=1)
    for labels in ([True] * 6, [*[True] * 5, 2], [*[1.0] * 5, 3]):
        np.savez(tmp_path / "a.npz", train_images=GREY, train_labels=np.array(labels))
        assert labels_of(Cohort.read(tmp_path / "a.npz", schema))[:5] == ["none"] * 5


def test_a_draft_says_that_labels_begin_with_1(tmp_path: Path) -> None:
    """The numbers are listed from 1, and words that a person puts in their place are read from 1 on."""
    np.savez(tmp_path / "a.npz", train_images=GREY, train_labels=FROM_ONE)
    made = draft(tmp_path / "a.npz")
    assert made.schema.to_dict()["columns"]["label"]["values"] == [1, 2, 3]
    assert "first_label (labels begin with 1" in made.to_yaml()
    worded = made.to_yaml().replace("[1, 2, 3]", "[none, nodule, mass]")
    assert labels_of(Cohort.read(tmp_path / "a.npz", Schema.parse(worded))) == LABELS


# -- depth of pictures ------------------------------------------------------------------------------------------------


def _read(path: Path, **declared: Any) -> Any:
    from dpsynth.files.image_files import read_images

    return read_images([path], Images(size=(6, 5), **declared))[0]


def test_16_bit_grey_is_never_clipped_to_8_bits(tmp_path: Path) -> None:
    """Under the range of 8 bits it is refused; in its own range it is kept, in colour too."""
    deep = np.random.default_rng(0).integers(0, 65536, (6, 5)).astype(np.uint16)
    save_picture(tmp_path / "deep.png", deep)
    with pytest.raises(DataError, match=r"\[0, 65535\]"):
        _read(tmp_path / "deep.png")
    assert np.array_equal(_read(tmp_path / "deep.png", range=(0, 65535), channels=3), np.stack([deep] * 3))


def _png(path: Path, colours: int, values: Any) -> None:
    """Write a PNG of 16 bits a channel, which Pillow cannot write."""
    import struct
    import zlib

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows, columns = values.shape[:2]
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in values)
    head = struct.pack(">IIBBBBB", columns, rows, 16, colours, 0, 0, 0)
    content = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


@pytest.mark.parametrize(("colours", "samples"), [(2, 3), (6, 4), (4, 2)], ids=["colour", "with alpha", "grey, alpha"])
def test_16_bits_of_which_8_are_decoded(colours: int, samples: int, tmp_path: Path) -> None:
    """Pictures of which decoders keep the upper 8 bits are read so in the range of 8 bits, else refused."""
    deep = np.random.default_rng(0).integers(0, 65536, (6, 5, samples))
    _png(tmp_path / "a.png", colours, deep)
    with pytest.raises(DataError, match="decoders keep 8 bits"):
        _read(tmp_path / "a.png", range=(0, 65535), channels=3)
    upper = _read(tmp_path / "a.png", channels=3).astype(int)
    expected = deep[..., :1] if samples == 2 else deep[..., :3]
    assert np.abs(upper - np.moveaxis(np.broadcast_to(expected, (6, 5, 3)) / 256, -1, 0)).max() <= 1


def test_palettes_alpha_and_ink(tmp_path: Path) -> None:
    """Palettes, grey with alpha, and JPEG in four inks read as the colours that they show."""
    from PIL import Image

    colour = (pictures(6, 5, 3) // 128 * 255).astype(np.uint8)
    Image.fromarray(colour).quantize(8).save(tmp_path / "palette.png")
    assert np.array_equal(_read(tmp_path / "palette.png", channels=3), np.moveaxis(colour, -1, 0))
    grey = Image.fromarray(GREY[0]).convert("LA")
    grey.putalpha(Image.fromarray(GREY[1]))
    grey.save(tmp_path / "alpha.png")
    assert np.array_equal(_read(tmp_path / "alpha.png")[0], GREY[0])
    even = Image.new("RGB", (5, 6), (200, 40, 90))
    even.convert("CMYK").save(tmp_path / "ink.jpg", quality=95)
    assert np.abs(_read(tmp_path / "ink.jpg", channels=3)[:, 2, 2].astype(int) - [200, 40, 90]).max() < 12


@pytest.mark.parametrize("start", [b"II*\0", b"MM\0*", b"BM", b"GIF89a", b"RIFF\0\0\0\0WEBP"])
def test_other_kinds_say_what_to_do(start: bytes, tmp_path: Path) -> None:
    """Kinds that are not read are told to be converted."""
    (tmp_path / "a").write_bytes(start + bytes(400))
    with pytest.raises(DataError, match="Convert TIFF, BMP, GIF, WebP"):
        _read(tmp_path / "a")


# -- the command line -------------------------------------------------------------------------------------------------


def test_the_command_line_drafts_and_checks_folders_of_classes(tmp_path: Path) -> None:
    """`schema draft` and `schema check --data` take a folder of classes."""
    folder, out = classes(tmp_path / "scans"), tmp_path / "scans.yaml"
    made = CliRunner().invoke(app, ["schema", "draft", str(folder), "--out", str(out)])
    assert made.exit_code == 0, made.output
    checked = CliRunner().invoke(app, ["schema", "check", str(out), "--data", str(folder)])
    assert checked.exit_code == 0, checked.output
