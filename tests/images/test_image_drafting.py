"""Drafts of image cohorts: what is guessed, that it is marked, and that the data reads under it once it is checked."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from image_files import PATIENT, folder_of, pictures, save_dicom, save_index, save_nifti, save_picture
from typer.testing import CliRunner

from dpsynth.cli.app import app
from dpsynth.cohort import Cohort
from dpsynth.drafting.draft import draft
from dpsynth.errors import DataError, SchemaError
from dpsynth.schema import Schema

CODES = np.array([[0], [2], [1], [2]])
ARCHIVES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "grey": ({"train_images": pictures(4, 6, 5)}, {"size": (6, 5)}),
    "colour": ({"train_images": pictures(4, 6, 5, 3)}, {"size": (6, 5), "channels": 3}),
    "volumes": ({"train_images": pictures(4, 7, 6, 5)}, {"size": (7, 6, 5)}),
    "volumes of colours": ({"train_images": pictures(4, 7, 6, 5, 2)}, {"size": (7, 6, 5), "channels": 2}),
    "keras": ({"x_train": pictures(4, 6, 5), "y_train": CODES[:, 0]}, {"size": (6, 5)}),
    "masks": ({"train_images": pictures(4, 6, 5) > 99}, {"size": (6, 5), "range": (0, 1)}),
    "deep": ({"train_images": pictures(4, 6, 5).astype(np.uint16)}, {"size": (6, 5), "range": (0, 65535)}),
    "decimals": ({"train_images": pictures(4, 6, 5) / 100 - 1}, {"size": (6, 5), "range": (-1, 2)}),
    "no numbers": ({"train_images": np.full((4, 6, 5), np.nan)}, {"size": (6, 5), "range": (0, 1)}),
    "test part only": ({"test_images": pictures(4, 6, 5), "test_labels": CODES}, {"size": (6, 5)}),
}


@pytest.mark.parametrize(("arrays", "expected"), ARCHIVES.values(), ids=ARCHIVES.keys())
def test_archives(arrays: dict[str, Any], expected: dict[str, Any], tmp_path: Path) -> None:
    """Size, channels and range come from the arrays, codes are listed, and the one label is the target."""
    labels = {} if set(arrays) & {"y_train", "test_labels"} else {"train_labels": CODES}
    np.savez(tmp_path / "scans.npz", **labels, **arrays)
    made = draft(tmp_path / "scans.npz")
    images = made.schema.images
    assert images is not None
    assert {name: getattr(images, name) for name in expected} == expected
    assert made.schema.target == "label"
    assert made.schema.to_dict()["columns"] == {"label": {"type": "categorical", "values": [0, 1, 2]}}
    text = made.to_yaml()
    assert "range" in text.splitlines()[-1]
    assert text.splitlines()[-1].endswith("# from data: size, channels, range")
    assert Schema.parse(text) == made.schema
    with pytest.raises(SchemaError, match="not confirmed"):
        made.schema.check_confirmed()
    part = "test" if "test_images" in arrays else None
    assert Cohort.read(tmp_path / "scans.npz", made.schema, part=part).images is not None


def test_further_arrays_and_labels(tmp_path: Path) -> None:
    """Several labels are booleans, further arrays are columns, and the patient is found by name."""
    several = np.array([[0, 1], [1, 1], [0, 0], [1, 0]])
    more = {"train_sex": np.array(["f", "m", "f", "f"]), "train_pid": np.array(["a", "a", "b", "c"]), "odd": np.ones(9)}
    np.savez(tmp_path / "scans.npz", train_images=pictures(4, 6, 5), train_labels=several, **more)
    schema = draft(tmp_path / "scans.npz").schema
    assert list(schema.columns) == ["label_0", "label_1", "sex", "pid"]
    assert schema.columns["label_1"].type == "boolean"
    assert (schema.target, schema.patient, schema.max_rows_per_patient) == (None, "pid", 2)
    assert len(Cohort.read(tmp_path / "scans.npz", schema)) == 4


def test_a_folder_of_pictures(tmp_path: Path) -> None:
    """A set of images gives its columns, and pictures of several sizes are to be resized."""
    folder = folder_of(tmp_path / "scans", pictures(4, 6, 5, 3), ["a", "b", "b", "c"])
    schema = draft(folder).schema
    assert (schema.name, list(schema.columns)) == ("scans", ["label"])
    assert schema.images is not None
    assert (schema.images.size, schema.images.channels, schema.images.resize) == ((6, 5), 3, False)
    save_picture(next(folder.glob("*.png")), pictures(9, 9, 3))
    resized = draft(folder)
    assert resized.schema.images is not None
    assert (resized.schema.images.size, resized.schema.images.resize) == ((6, 5), True)
    assert "resize (they differ in size)" in resized.to_yaml()
    assert Cohort.read(folder, resized.schema).images is not None
    assert PATIENT not in resized.to_yaml()


@pytest.mark.parametrize("kind", ["dicom", "nifti"])
def test_a_cohort(kind: str, tmp_path: Path) -> None:
    """The column that index and table share is the patient; the images of one are counted."""
    for number in range(3):
        values = pictures(4, 6, 5, seed=number).astype(np.int16) - 1000
        if kind == "dicom":
            save_dicom(tmp_path / f"{number}", values)
        else:
            save_nifti(tmp_path / f"{number}", values)
    save_index(tmp_path, pd.DataFrame({"who": [8, 8, 9], "image": ["0", "1", "2"]}))
    save_index(tmp_path, pd.DataFrame({"who": [9, 8], "age": [70, 51], "image_count": [1, 2]}), name="patients")
    schema = draft(tmp_path).schema
    assert (schema.patient, schema.max_rows_per_patient) == ("who", 1)
    assert schema.images is not None
    assert (schema.images.size, schema.images.range, schema.images.max_per_patient) == ((4, 6, 5), (-1000, -600), 2)
    cohort = Cohort.read(tmp_path, schema)
    assert cohort.images is not None
    assert cohort.images.row.tolist() == [0, 1, 1]


def test_nothing_to_draft(tmp_path: Path) -> None:
    """An index without images, or an archive without, is refused."""
    (tmp_path / "index.csv").write_text("label\nmass\n")
    with pytest.raises(DataError, match="no column image"):
        draft(tmp_path)
    np.savez(tmp_path / "other.npz", weights=np.ones(3))
    with pytest.raises(DataError, match="train_images or x_train"):
        draft(tmp_path / "other.npz")
    np.savez(tmp_path / "flat.npz", train_images=np.ones((3, 4)))
    with pytest.raises(DataError, match="two or three sides"):
        draft(tmp_path / "flat.npz")


def test_the_command_line_drafts_and_checks(tmp_path: Path) -> None:
    """`dpsynth schema draft` takes an archive, and `schema check` shows the size of images."""
    np.savez(tmp_path / "scans.npz", train_images=pictures(4, 6, 5), train_labels=CODES)
    out = tmp_path / "scans.yaml"
    result = CliRunner().invoke(app, ["schema", "draft", str(tmp_path / "scans.npz"), "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "confirmed: false" in out.read_text(encoding="utf-8")
    checked = CliRunner().invoke(app, ["schema", "check", str(out), "--data", str(tmp_path / "scans.npz")])
    assert checked.exit_code == 0, checked.output
    assert "images of 6 x 5" in checked.output
    told = CliRunner().invoke(app, ["schema", "check", str(out), "--json"])
    assert '"size"' in told.output
