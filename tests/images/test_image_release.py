"""Releases with images: complete, readable by others, whole or not there; and the way there by the command line."""

import errno
import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
import yaml
from doubles import Double, DoubleModel
from image_files import LABEL, PATIENT, folder_of, pictures, save_index, schema_of
from typer.testing import CliRunner, Result

import dpsynth
from dpsynth.cli.app import app
from dpsynth.cohort import Cohort
from dpsynth.errors import FileError, InputError
from dpsynth.files.image_set import ImageSet
from dpsynth.jobs.publish import publish
from dpsynth.models import Model

TABLE = {"data/patients.parquet", "data/patients.csv"}
LABELS = ["none", "mass", "nodule", "mass"]


class PicturesModel(DoubleModel):
    """Rows of the double, with random pictures: one for each even row, two for the first."""

    kind: ClassVar[str] = "pictures"

    def sample(self, n: int, **options: Any) -> Cohort:
        """Draw rows and pictures."""
        cohort = super().sample(n, **options)
        images = cohort.schema.images
        assert images is not None
        row = np.array([0, *range(0, n, 2)])
        pixels = np.random.default_rng(1).uniform(*images.range, (len(row), *images.shape))
        return replace(cohort, images=ImageSet(pixels.astype(images.dtype), row))


class Pictures(Double):
    """The double, with pictures."""

    name: ClassVar[str] = "pictures"
    produces: ClassVar[type[Model]] = PicturesModel
    of_images: ClassVar[bool] = True

    def fit(self, session: Any, progress: Any = None) -> PicturesModel:
        """Fit the double."""
        made = super().fit(session, progress)
        return PicturesModel(made.codec, made.statement, made.shares, made.total, made.sigma)


@dataclass(frozen=True)
class _Point:
    made: type[Double]

    def load(self) -> type[Double]:
        """Return the model."""
        return self.made


@contextmanager
def _registered() -> Iterator[None]:
    with (
        patch("dpsynth.models.registry._registered", lambda: {"double": _Point(Double), "pictures": _Point(Pictures)}),
        patch("dpsynth.jobs.fit.DEFAULT_MODEL", "double"),
        patch("dpsynth.jobs.fit.DEFAULT_IMAGE_MODEL", "pictures"),
    ):
        yield


@pytest.fixture(autouse=True)
def _installed() -> Iterator[None]:
    with _registered():
        yield


FORMS: dict[str, tuple[dict[str, Any], str]] = {
    "grey": ({}, ".png"),
    "colour": ({"channels": 3}, ".png"),
    "volumes": ({"size": [3, 6, 5]}, ".nii.gz"),
    "decimals": ({"range": [-1000, 400]}, ".npy"),
}


def released(folder: Path, **declared: Any) -> Path:
    """Fit to labels alone, and release ten rows and six images."""
    schema = schema_of(**declared)
    assert schema.images is not None
    table = Cohort.from_pandas(pd.DataFrame({"label": LABELS * 10}), schema)
    none = ImageSet(np.zeros((0, *schema.images.shape), schema.images.dtype), np.zeros(0, np.int64))
    cohort = replace(table, images=none)
    model = dpsynth.fit(cohort, Pictures(), epsilon=1.0, ledger=folder / "ledger.jsonl")
    return dpsynth.release(model, folder / "release", rows=10, licence="CC-BY-4.0", seed=3)


VALIDATE = """
import json, sys, warnings
warnings.simplefilter("ignore")
import mlcroissant
from pathlib import Path
dataset = mlcroissant.Dataset(jsonld=Path("croissant.json"))
assert not dataset.metadata.ctx.issues.errors, dataset.metadata.ctx.issues.errors
images, patients = list(dataset.records("images")), list(dataset.records("patients"))
content = [row.get("images/image/content") for row in images]
print(json.dumps({
    "patients": len(patients),
    "paths": [row["images/image"].decode() for row in images],
    "rows": [int(row["images/patient"]) for row in images],
    "labels": [row["images/label"].decode() for row in images],
    "sizes": [picture.size for picture in content if picture is not None],
}))
"""


def _validated(folder: Path) -> dict[str, Any]:
    """Read a release through mlcroissant, in a process of its own: its imports warn."""
    command = [sys.executable, "-W", "ignore", "-c", VALIDATE]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize(("declared", "suffix"), FORMS.values(), ids=FORMS.keys())
def test_a_release_with_images(declared: dict[str, Any], suffix: str, tmp_path: Path) -> None:
    """Images, index and table lie in data/, are described for machines and people, and read back."""
    release = released(tmp_path, **declared)
    files = {path.relative_to(release).as_posix() for path in (release / "data").rglob("*") if path.is_file()}
    names = [f"images/{number:06d}{suffix}" for number in range(6)]
    assert files == TABLE | {"data/index.parquet"} | {f"data/{name}" for name in names}
    index = pd.read_parquet(release / "data" / "index.parquet")
    patients = pd.read_parquet(release / "data" / "patients.parquet")
    assert list(patients.columns) == ["label"]
    assert index.patient.tolist() == [0, 0, 2, 4, 6, 8]
    assert index.label.tolist() == patients.label[index.patient].tolist()
    found = Cohort.read(release / "data", schema_of(**declared), synthetic=True)
    assert found.images is not None
    assert found.images.row.tolist() == [0, 0, 2, 4, 6, 8]
    assert found.images.pixels.dtype == (np.float32 if suffix == ".npy" else np.uint8)

    card = (release / "README.md").read_text(encoding="utf-8")
    front = yaml.safe_load(card.split("---\n")[1])
    assert "image" in front["tags"]
    assert [config["data_files"] for config in front["configs"]] == ["data/patients.parquet", "data/index.parquet"]
    for words in ("10 synthetic records with 6 synthetic images", f"`{suffix}` files", "6 x 5 pixels", "not scans"):
        assert words in card
    assert json.loads((release / "privacy.json").read_text())["release"]["images"] == 6
    assert "not scans" in json.loads((release / "croissant.json").read_text())["rai:dataLimitations"]


@pytest.mark.parametrize(("declared", "suffix"), [FORMS["colour"], FORMS["volumes"]], ids=["colour", "volumes"])
def test_croissant_is_valid(declared: dict[str, Any], suffix: str, tmp_path: Path) -> None:
    """The Croissant reference implementation finds table, index and, where it can open them, the pictures."""
    seen = _validated(released(tmp_path, **declared))
    index = pd.read_parquet(tmp_path / "release" / "data" / "index.parquet")
    assert seen["patients"] == 10
    assert seen["rows"] == index.patient.tolist()
    assert seen["labels"] == index.label.tolist()
    assert seen["paths"] == [Path(name).name if suffix == ".png" else name for name in index.image]
    assert seen["sizes"] == ([[5, 6]] * 6 if suffix == ".png" else [])


def test_releases_are_equal_byte_by_byte(tmp_path: Path) -> None:
    """No clock, and nothing of the machine, is in an image file: writing the same images twice gives the same bytes."""
    folders = []
    for name in ("a", "b"):
        schema = schema_of(size=[3, 6, 5])
        table = Cohort.from_pandas(pd.DataFrame({"label": LABELS}), schema, synthetic=True)
        folders.append(tmp_path / name)
        replace(table, images=ImageSet(pictures(4, 1, 3, 6, 5), np.arange(4))).write_folder(folders[-1])
    first, second = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in folders
    )
    assert first == second
    volume = first[Path("images/000000.nii.gz")]
    assert volume[4:8] == bytes(4)  # the time in the head of a gzip file


@pytest.mark.parametrize("fault", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()], ids=repr)
def test_never_half_there(fault: BaseException, tmp_path: Path) -> None:
    """A disk that is full while images are written leaves no release."""
    with (
        patch("dpsynth.files.write_images._as_png", side_effect=fault),
        pytest.raises(FileError if isinstance(fault, OSError) else KeyboardInterrupt),
    ):
        released(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} <= {"ledger.jsonl", "ledger.jsonl.lock"}


def test_what_cannot_be_written_is_not_paid_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package that writes volumes, a release is refused before the budget is spent."""
    schema = schema_of(size=[3, 6, 5])
    table = Cohort.from_pandas(pd.DataFrame({"label": LABELS}), schema)
    cohort = replace(table, images=ImageSet(pictures(4, 1, 3, 6, 5), np.arange(4)))
    original = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "nibabel" else original(name))
    with pytest.raises(InputError, match=r"nibabel is needed; pip install 'dpsynth\[image\]'"):
        publish(cohort, tmp_path, Pictures(), epsilon=1.0, ledger=tmp_path / "ledger.jsonl")
    assert not list(tmp_path.iterdir())


# -- the command line -------------------------------------------------------------------------------------------------


def _run(*args: object) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a working folder with a schema, an archive, a set of pictures and a cohort."""
    monkeypatch.chdir(tmp_path)
    schema_of().dump(tmp_path / "scans.yaml")
    schema_of(patient="pid").dump(tmp_path / "ward.yaml")
    pixels, codes = pictures(40, 6, 5), np.arange(40) % 3
    np.savez(tmp_path / "scans.npz", train_images=pixels, train_labels=codes, test_images=pixels, test_labels=codes)
    folder_of(tmp_path / "scans", pixels, LABELS * 10)
    ward = folder_of(tmp_path / "ward", pixels, LABELS * 10)
    index = pd.read_csv(ward / "index.csv").assign(pid=[f"{PATIENT} {number // 2}" for number in range(40)])
    save_index(ward, index.drop(columns="label"))
    save_index(ward, index[["pid", "label"]].drop_duplicates("pid"), name="patients")
    return tmp_path


@pytest.mark.parametrize("data", ["scans.npz", "scans", "ward"])
def test_release_from_images(data: str, place: Path) -> None:
    """Each layout is released by one command, with a ledger beside it; nothing names a file or a patient."""
    schema = "ward.yaml" if data == "ward" else "scans.yaml"
    result = _run("release", data, "--schema", schema, "--epsilon", 1, "--rows", 10, "--out", "out")
    assert result.exit_code == 0, result.output
    assert (place / f"{data}.ledger.jsonl").exists()
    assert len(list((place / "out/release/data/images").iterdir())) == 6
    assert PATIENT not in result.output
    for path in (place / "out").rglob("*"):
        assert path.is_dir() or PATIENT.encode() not in path.read_bytes()
    shown = _run("ledger", "show", data, "--json")
    assert json.loads(shown.output)["runs"][0]["state"] == "done"
    again = _run("release", "out/release", "--rows", 5, "--out", "again")
    assert again.exit_code == 0, again.output
    if data == "ward":
        assert json.loads(_run("ledger", "show", "ward/patients.csv", "--json").output)["spent"]["epsilon"] > 0
        assert _run("release", "ward/patients.csv", "-s", "ward.yaml", "-e", 1, "--out", "more").exit_code == 2
        alone = ("--without-images", "--out", "more")
        assert _run("release", "ward/patients.csv", "-s", "ward.yaml", "-e", 1, *alone).exit_code == 3


def test_sample_writes_a_folder(place: Path) -> None:
    """`dpsynth sample` of a model of images writes a folder; a table where a table is asked for, and says so."""
    assert _run("fit", "scans.npz", "-s", "scans.yaml", "-e", 1).exit_code == 0
    assert _run("sample", "model", "-n", 10).exit_code == 0
    made = Cohort.read("synthetic", schema_of(), synthetic=True)
    assert made.images is not None
    assert len(made.images) == 6
    refused = _run("sample", "model", "-n", 10)
    assert refused.exit_code == 2
    assert "--force" in refused.output
    assert _run("sample", "model", "-n", 10, "--force").exit_code == 0
    table = _run("sample", "model", "-n", 10, "-o", "table.csv")
    assert table.exit_code == 0
    assert "the table alone" in table.output
    assert len(pd.read_csv("table.csv")) == 10
    with patch.object(PicturesModel, "sample", DoubleModel.sample):  # as a model of the table alone
        assert _run("sample", "model", "-n", 10, "--force").exit_code == 0
        assert len(pd.read_csv("synthetic.csv")) == 10
        wrong = _run("sample", "model", "-n", 10, "-o", "made")
    assert wrong.exit_code == 2
    assert "has none" in wrong.output


def test_evaluate_reads_images(place: Path) -> None:
    """The judge takes the test part of an archive, and the images of a release."""
    assert _run("release", "scans.npz", "-s", "scans.yaml", "-e", 1, "-n", 40).exit_code == 0
    seen: list[Cohort] = []

    def judge(real: Cohort, synthetic: Any, **options: Any) -> Any:
        seen.extend([real, *synthetic, options["train"]])
        raise InputError("seen")

    with patch("dpsynth.jobs.evaluate.evaluate", judge):
        given = ("--real", "scans.npz", "--train", "scans.npz", "--synthetic", "release", "-s", "scans.yaml")
        assert _run("evaluate", *given).exit_code == 2
    test, synthetic, train = seen
    assert test.to_pandas().label.tolist() == train.to_pandas().label.tolist()
    assert synthetic.images is not None
    assert len(synthetic.images) == 21
    assert test.images is not None


def test_a_folder_without_an_index(place: Path) -> None:
    """A folder of images that lacks its index is refused, and one that is no model either."""
    (place / "scans" / "index.csv").unlink()
    result = _run("fit", "scans", "-s", "scans.yaml", "-e", 1)
    assert result.exit_code == 2
    assert "has no index.csv" in result.output


def test_labels_alone_are_a_table(place: Path) -> None:
    """The index of a set can be judged and drafted without its images; a schema without images refuses the folder."""
    table = dpsynth.Schema.parse({"name": "table", "confirmed": True, "columns": LABEL})
    table.dump(place / "table.yaml")
    result = _run("fit", "scans", "-s", "table.yaml", "-e", 1)
    assert result.exit_code == 2
    assert "declares none" in result.output
