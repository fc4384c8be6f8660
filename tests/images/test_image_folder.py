"""Folders of images: both layouts there and back, whose each image is, and paths that cannot leave the folder."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import (
    LABEL,
    PATIENT,
    folder_of,
    pictures,
    save_dicom,
    save_index,
    save_nifti,
    save_picture,
    schema_of,
)

from dpsynth.cohort import Cohort
from dpsynth.errors import BudgetExceeded, DataError, DpsynthError, FileError, InputError, LedgerError
from dpsynth.files import limits
from dpsynth.files.image_set import ImageSet
from dpsynth.jobs.fit import fit
from dpsynth.privacy.spending.ledger import Ledger
from dpsynth.privacy.spending.ledger_place import dataset_of
from dpsynth.schema import Schema

LABELS = ["none", "mass", "nodule", "mass"]
SEX = {"sex": {"type": "categorical", "values": ["female", "male"]}}


def images_of(cohort: Cohort) -> ImageSet:
    """Return the images of a cohort that has some."""
    assert cohort.images is not None
    return cohort.images


def cohort_in(folder: Path, *, kind: str = "csv", patients: Any = ("b", "a", "c", "d")) -> Path:
    """Write a cohort of four patients: the first with two images, the second with none, the index out of order."""
    (folder / "images").mkdir(parents=True)
    pixels = pictures(4, 6, 5)
    for number, image in enumerate(pixels):
        save_picture(folder / "images" / f"{PATIENT}-{number}.png", image)
    save_index(folder, pd.DataFrame({"pid": list(patients), "label": LABELS}), kind, "patients")
    owners = [patients[place] for place in (3, 0, 2, 0)]
    names = [f"images/{PATIENT}-{number}.png" for number in range(4)]
    save_index(folder, pd.DataFrame({"pid": owners, "image": names, "note": "x"}), kind)
    return folder


# -- sets of images ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize(("sides", "declared"), [((6, 5), {}), ((6, 5, 3), {"channels": 3})], ids=["grey", "colour"])
def test_a_set_of_pictures(kind: str, sides: tuple[int, ...], declared: dict[str, Any], tmp_path: Path) -> None:
    """Each row of the index is a row of the cohort, with its image."""
    pixels = pictures(4, *sides)
    cohort = Cohort.read(folder_of(tmp_path / "scans", pixels, LABELS, kind=kind), schema_of(**declared))
    assert cohort.to_pandas().label.tolist() == LABELS
    expected = np.moveaxis(pixels, -1, 1) if declared else pixels[:, None]
    assert np.array_equal(images_of(cohort).pixels, expected)
    assert images_of(cohort).row.tolist() == [0, 1, 2, 3]


def test_several_kinds_in_one_folder(tmp_path: Path) -> None:
    """Kinds of files may stand side by side, in folders of the folder, under any suffix; patients have rows each."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    pixels = pictures(4, 6, 5)
    save_picture(tmp_path / "a" / "1.jpg.png", pixels[0])
    save_dicom(tmp_path / "a" / "b" / "2", pixels[1].astype(np.uint16))
    save_nifti(tmp_path / "3.img.nii.gz", pixels[2][:, :, None])
    np.save(tmp_path / "4.npy", pixels[3])
    names = ["a/1.jpg.png", "a\\b\\2", "./3.img.nii.gz", "4.npy"]
    save_index(tmp_path, pd.DataFrame({"label": LABELS, "image": names, "pid": [5, 5, 6, 7]}))
    cohort = Cohort.read(tmp_path, schema_of(patient="pid"))
    assert np.array_equal(images_of(cohort).pixels[:, 0], pixels)
    assert cohort.patients().tolist() == [0, 0, 1, 2]


# -- cohorts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("patients", [("b", "a", "c", "d"), (20, 3, 100, 4)], ids=["text", "numbers"])
def test_a_cohort(kind: str, patients: Any, tmp_path: Path) -> None:
    """Images belong to the row of their patient, in the order of the index; a patient may have none."""
    cohort = Cohort.read(cohort_in(tmp_path / "ward", kind=kind, patients=patients), schema_of(patient="pid"))
    assert cohort.to_pandas().label.tolist() == LABELS
    assert images_of(cohort).row.tolist() == [0, 0, 2, 3]
    assert np.array_equal(images_of(cohort).pixels[:, 0], pictures(4, 6, 5)[[1, 3, 2, 0]])


def test_index_and_table_of_different_kinds(tmp_path: Path) -> None:
    """Identifiers that are numbers in Parquet and text in CSV are the same."""
    folder = cohort_in(tmp_path / "ward", patients=(20, 3, 100, 4))
    pd.read_csv(folder / "index.csv").to_parquet(folder / "index.parquet")
    (folder / "index.csv").unlink()
    assert images_of(Cohort.read(folder, schema_of(patient="pid"))).row.tolist() == [0, 0, 2, 3]


def test_blanks_and_digits_name_the_same_patient(tmp_path: Path) -> None:
    """An index that has a patient's identifier with blanks, or as a decimal number, means the patient of the table."""
    folder = cohort_in(tmp_path / "ward", patients=(20, 3, 100, 4))
    index = pd.read_csv(folder / "index.csv")
    index.assign(pid=[" 4", "20 ", "\t100", "20"]).to_csv(folder / "index.csv", index=False)
    assert images_of(Cohort.read(folder, schema_of(patient="pid"))).row.tolist() == [0, 0, 2, 3]
    index.assign(pid=[4.0, 20.0, 100.0, 20.0]).to_parquet(folder / "index.parquet")
    assert images_of(Cohort.read(folder, schema_of(patient="pid"))).row.tolist() == [0, 0, 2, 3]
    table = pd.read_csv(folder / "patients.csv")
    table.assign(pid=["20", "3", "20 ", "4"]).to_csv(folder / "patients.csv", index=False)
    with pytest.raises(DataError, match="more than one row"):
        Cohort.read(folder, schema_of(patient="pid"))


def test_rows_by_number(tmp_path: Path) -> None:
    """Where the table names no patients the index gives the number of the row."""
    folder = cohort_in(tmp_path / "ward")
    pd.read_csv(folder / "patients.csv")[["label"]].to_csv(folder / "patients.csv", index=False)
    index = pd.read_csv(folder / "index.csv")
    index.assign(patient=[3, 0, 2, 0]).to_csv(folder / "index.csv", index=False)
    cohort = Cohort.read(folder, schema_of())
    assert images_of(cohort).row.tolist() == [0, 0, 2, 3]
    for wrong in ([4, 0, 0, 0], [-1, 0, 0, 0], [0.5, 0, 0, 0], [None, 0, 0, 0], ["x", 0, 0, 0]):
        index.assign(patient=wrong).to_csv(folder / "index.csv", index=False)
        with pytest.raises(DataError, match="column 'patient'"):
            Cohort.read(folder, schema_of())


def test_the_index_stands_for_its_folder(tmp_path: Path) -> None:
    """Where the index is named in place of the folder, the images are read, and the ledger is the folder's."""
    folder = folder_of(tmp_path / "scans", pictures(4, 6, 5), LABELS)
    cohort = Cohort.read(folder / "index.csv", schema_of())
    assert len(images_of(cohort)) == 4
    assert cohort.source == folder
    (tmp_path / "index.csv").write_text("label\nmass\n")
    table = Schema.parse({"name": "table", "columns": LABEL})
    assert Cohort.read(tmp_path / "index.csv", table).source == tmp_path / "index.csv"


def test_a_patient_may_be_called_patient(tmp_path: Path) -> None:
    """The index of a release numbers rows in a column that a cohort's index may use for its identifiers."""
    schema = schema_of(patient="patient")
    table = Cohort.from_pandas(pd.DataFrame({"label": LABELS}), schema, synthetic=True)
    replace(table, images=ImageSet(pictures(2, 1, 6, 5), np.array([1, 3]))).write_folder(tmp_path / "made")
    assert images_of(Cohort.read(tmp_path / "made", schema, synthetic=True)).row.tolist() == [1, 3]
    private = Cohort.from_pandas(pd.DataFrame({"label": LABELS, "patient": list("dcba")}), schema)
    replace(private, images=ImageSet(pictures(2, 1, 6, 5), np.array([1, 3]))).write_folder(tmp_path / "private")
    assert pd.read_parquet(tmp_path / "private" / "index.parquet").patient.tolist() == ["c", "a"]
    assert images_of(Cohort.read(tmp_path / "private", schema)).row.tolist() == [1, 3]


def test_one_ledger_for_a_folder(tmp_path: Path) -> None:
    """The ledger lies beside the folder, also where one of its tables is read alone: they are the same patients."""
    folder = cohort_in(tmp_path / "ward")
    table = Schema.parse({"name": "t", "patient": "pid", "columns": {**LABEL, "pid": {"type": "identifier"}}})
    sources = [
        Cohort.read(folder, schema_of(patient="pid")).source,
        Cohort.read(folder / "patients.csv", schema_of(patient="pid")).source,
        Cohort.read(folder / "patients.csv", table).source,
    ]
    beside = {Ledger.beside(source).path for source in sources if source is not None}
    assert beside == {tmp_path.resolve() / "ward.ledger.jsonl"}
    (tmp_path / "patients.csv").write_text("label,pid\nmass,1\n")
    assert Cohort.read(tmp_path / "patients.csv", table).source == tmp_path / "patients.csv"


def test_links_lead_to_one_ledger(tmp_path: Path) -> None:
    """A folder and its tables have one ledger under any name that a link gives them, also where the table is a link."""
    folder = cohort_in(tmp_path / "ward")
    (tmp_path / "mine.csv").symlink_to(folder / "patients.csv")
    (tmp_path / "list.csv").symlink_to(folder / "index.csv")
    (tmp_path / "scans").symlink_to(folder)
    names = [folder, folder / "index.csv", tmp_path / "mine.csv", tmp_path / "list.csv", tmp_path / "scans"]
    names += [tmp_path / "scans" / "patients.csv"]
    assert {_ledger(name) for name in names} == {"ward.ledger.jsonl"}
    (folder / "patients.csv").rename(tmp_path / "real.csv")
    (folder / "patients.csv").symlink_to(tmp_path / "real.csv")
    assert {_ledger(name) for name in [*names, tmp_path / "real.csv"]} == {"real.csv.ledger.jsonl"}
    (tmp_path / "ward.ledger.jsonl").touch()  # the folder's own, from before: it is not forgotten
    assert {_ledger(name) for name in (folder, folder / "index.csv")} == {"ward.ledger.jsonl"}
    (tmp_path / "real.csv.ledger.jsonl").touch()
    with pytest.raises(LedgerError, match="keep apart what was spent"):
        dataset_of(folder)


def test_a_ledger_goes_on_when_images_come(tmp_path: Path) -> None:
    """What was spent on a table of patients counts for the folder that it becomes by its index."""
    folder = cohort_in(tmp_path / "ward")
    index = (folder / "index.csv").rename(tmp_path / "later.csv")
    schema = Schema.parse(
        {"name": "t", "confirmed": True, "patient": "pid", "columns": {**LABEL, "pid": {"type": "identifier"}}}
    )
    fit(Cohort.read(folder / "patients.csv", schema), "independent", epsilon=1.0)
    index.rename(folder / "index.csv")
    for name in (folder, folder / "patients.csv", folder / "index.csv"):
        assert _ledger(name) == "patients.csv.ledger.jsonl"
    with pytest.raises(BudgetExceeded):
        fit(Cohort.read(folder, schema_of(patient="pid")), "moments", epsilon=1.0)
    (tmp_path / "ward.ledger.jsonl").touch()
    with pytest.raises(LedgerError, match=r"patients.csv.ledger.jsonl and ward.ledger.jsonl keep apart"):
        fit(Cohort.read(folder, schema_of(patient="pid")), "moments", epsilon=1.0)


def test_a_ledger_goes_on_when_images_go(tmp_path: Path) -> None:
    """Without its index, a folder's table of patients keeps the folder's ledger; in a plain folder it has its own."""
    folder = cohort_in(tmp_path / "ward")
    fit(Cohort.read(folder, schema_of(patient="pid")), "moments", epsilon=1.0)
    (folder / "index.csv").unlink()
    assert _ledger(folder / "patients.csv") == "ward.ledger.jsonl"
    (tmp_path / "ward.ledger.jsonl").unlink()
    assert _ledger(folder / "patients.csv") == "patients.csv.ledger.jsonl"


def _ledger(name: Path) -> str:
    """Return the name of the ledger of a path's patients."""
    return Ledger.beside(dataset_of(name)).path.name


# -- there and back ---------------------------------------------------------------------------------------------------

SHAPES: dict[str, tuple[dict[str, Any], str]] = {
    "grey": ({}, ".png"),
    "colour": ({"channels": 3}, ".png"),
    "with alpha": ({"channels": 4}, ".png"),
    "two channels": ({"channels": 2}, ".npy"),
    "decimals": ({"range": [-1000, 400]}, ".npy"),
    "volumes": ({"size": [4, 6, 5]}, ".gz"),
    "volumes of decimals": ({"size": [4, 6, 5], "range": [0, 1]}, ".gz"),
    "volumes of two channels": ({"size": [4, 6, 5], "channels": 2}, ".gz"),
    "flat volumes": ({"size": [1, 6, 5]}, ".gz"),
    "thin volumes": ({"size": [6, 5, 1], "channels": 3}, ".gz"),
}


@pytest.mark.parametrize(("declared", "suffix"), SHAPES.values(), ids=SHAPES.keys())
def test_every_form_reads_back(declared: dict[str, Any], suffix: str, tmp_path: Path) -> None:
    """Pixels, rows and table of a synthetic cohort come back exactly; files are named by numbers."""
    schema = schema_of({**LABEL, **SEX}, **declared)
    assert schema.images is not None
    low, high = schema.images.range
    pixels = np.random.default_rng(0).uniform(low, high, (5, *schema.images.shape)).astype(schema.images.dtype)
    frame = pd.DataFrame({"label": LABELS, "sex": ["male", "female", "female", "male"]})
    table = Cohort.from_pandas(frame, schema, synthetic=True)
    made = replace(table, images=ImageSet(pixels, np.array([0, 0, 2, 3, 3])))
    made.write_folder(tmp_path / "made")
    files = sorted(path.name for path in (tmp_path / "made" / "images").iterdir())
    assert [name.split(".")[0] for name in files] == [f"{number:06d}" for number in range(5)]
    assert {Path(name).suffix for name in files} == {suffix}
    found = Cohort.read(tmp_path / "made", schema, synthetic=True)
    assert found.table.equals(made.table)
    assert np.array_equal(images_of(found).pixels, pixels)
    assert images_of(found).pixels.dtype == pixels.dtype
    assert images_of(found).row.tolist() == [0, 0, 2, 3, 3]


def test_the_index_says_whose_and_what(tmp_path: Path) -> None:
    """The index repeats the row's columns beside path and number, so that it is a labelled set by itself."""
    table = Cohort.from_pandas(pd.DataFrame({"label": LABELS}), schema_of(), synthetic=True)
    replace(table, images=ImageSet(pictures(2, 1, 6, 5), np.array([1, 3]))).write_folder(tmp_path / "made")
    index = pd.read_parquet(tmp_path / "made" / "index.parquet")
    assert index.to_dict("list") == {
        "image": ["images/000000.png", "images/000001.png"],
        "patient": [1, 3],
        "label": ["mass", "mass"],
    }


def test_private_cohorts_read_back(tmp_path: Path) -> None:
    """Parts of a cohort and of a set of images, with their patients, are written and read; no name of a file is."""
    cohort = Cohort.read(cohort_in(tmp_path / "ward"), schema_of(patient="pid")).take([2, 0])
    cohort.write_folder(tmp_path / "part")
    found = Cohort.read(tmp_path / "part", cohort.schema)
    assert found.to_pandas().equals(cohort.to_pandas())
    assert np.array_equal(images_of(found).pixels, images_of(cohort).pixels)
    assert not [path for path in (tmp_path / "part").rglob("*") if PATIENT in path.name]
    index = pd.DataFrame({"image": [f"{n}.png" for n in range(4)], "label": LABELS, "pid": ["a", "a", "b", "c"]})
    for name, image in zip(index.image, pictures(4, 6, 5), strict=True):
        save_picture(tmp_path / name, image)
    save_index(tmp_path, index)
    several = Cohort.read(tmp_path, schema_of(patient="pid"))
    several.write_folder(tmp_path / "set")
    again = Cohort.read(tmp_path / "set", several.schema)
    assert again.patients().tolist() == [0, 0, 1, 2]
    assert np.array_equal(images_of(again).pixels, images_of(several).pixels)
    with pytest.raises(InputError, match="several rows"):
        replace(several, images=images_of(several).take([0])).write_folder(tmp_path / "wrong")
    assert not (tmp_path / "wrong").exists()


def test_a_cohort_without_images(tmp_path: Path) -> None:
    """A table is not written as a folder, and a folder that is there is not replaced unasked."""
    table = Cohort.from_pandas(pd.DataFrame({"label": LABELS}), schema_of())
    with pytest.raises(InputError, match="has none"):
        table.write_folder(tmp_path / "made")
    (tmp_path / "made").mkdir()
    made = replace(table, images=ImageSet(pictures(4, 1, 6, 5), np.arange(4)))
    with pytest.raises(FileError, match="is there already"):
        made.write_folder(tmp_path / "made")
    made.write_folder(tmp_path / "made", force=True)
    assert len(Cohort.read(tmp_path / "made", table.schema)) == 4


# -- what is refused --------------------------------------------------------------------------------------------------


def _index(**columns: Any) -> Callable[[Path], None]:
    """Return what changes columns of the index."""

    def change(folder: Path) -> None:
        pd.read_csv(folder / "index.csv", dtype=str).assign(**columns).to_csv(folder / "index.csv", index=False)

    return change


def _without(column: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        pd.read_csv(folder / "index.csv").drop(columns=column).to_csv(folder / "index.csv", index=False)

    return change


def _other_size(folder: Path) -> None:
    save_picture(folder / "images" / f"{PATIENT}-2.png", pictures(5, 6))


def _damaged(folder: Path) -> None:
    path = folder / "images" / f"{PATIENT}-2.png"
    path.write_bytes(path.read_bytes()[:-40])


def _two_rows(folder: Path) -> None:
    patients = pd.read_csv(folder / "patients.csv")
    pd.concat([patients, patients[:1]]).to_csv(folder / "patients.csv", index=False)


NAMES = [f"images/{PATIENT}-{number}.png" for number in range(4)]
FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "no images in the index": (_without("image"), "column 'image': is not in the index"),
    "no patients in the index": (_without("pid"), "column 'pid': is not in the index"),
    "an unknown patient": (_index(pid=[PATIENT, "a", "a", "a"]), "column 'pid': an image .* belongs to no patient"),
    "a missing patient": (_index(pid=["a", None, "a", "a"]), "column 'pid': an image .* belongs to no patient"),
    "a missing image": (_index(image=[None, *NAMES[1:]]), "names no image"),
    "an image twice": (_index(image=[NAMES[0], f"./{NAMES[0]}", *NAMES[2:]]), "stands twice"),
    "a file that is not there": (_index(image=[PATIENT, *NAMES[1:]]), "is not there"),
    "a folder for a file": (_index(image=["images", *NAMES[1:]]), "is no file"),
    "another size": (_other_size, "another size"),
    "a damaged file": (_damaged, "damaged"),
    "several rows of a patient": (_two_rows, "more than one row"),
    "no index": (lambda folder: (folder / "index.csv").unlink(), "has no index.csv"),
    "an empty table": (
        lambda folder: (folder / "patients.csv").write_text("pid,label\n") and None,
        "belongs to no patient",
    ),
    "a damaged index": (lambda folder: (folder / "index.csv").write_bytes(b"\x00" * 99) and None, "binary"),
}


@pytest.mark.parametrize(("harm", "words"), FAULTS.values(), ids=FAULTS.keys())
def test_faults(harm: Callable[[Path], None], words: str, tmp_path: Path) -> None:
    """Each fault has its message, which names column and kind, and neither a patient nor a file."""
    folder = cohort_in(tmp_path / "ward")
    harm(folder)
    with pytest.raises((DataError, FileError), match=words) as caught:
        Cohort.read(folder, schema_of(patient="pid"))
    assert PATIENT not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


ESCAPES = ["../secret.png", "images/../../secret.png", "{root}/secret.png", "link.png", "linked/secret.png", "a\0b"]
ESCAPES += ["..\\secret.png", "C:\\secret.png", "\\\\host\\share\\secret.png", "loop"]
ESCAPES += ["images/../inside.png", "{root}/scans/inside.png"]  # they come back, and are refused all the same


@pytest.mark.parametrize("name", ESCAPES)
def test_no_path_leaves_the_folder(name: str, tmp_path: Path) -> None:
    """Neither dots, nor an absolute path, nor a link reaches an image outside the folder."""
    folder = folder_of(tmp_path / "scans", pictures(1, 6, 5), ["mass"])
    save_picture(tmp_path / "secret.png", pictures(6, 5, seed=5))
    save_picture(folder / "inside.png", pictures(6, 5, seed=6))
    (folder / "images").mkdir()
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    (folder / "linked").symlink_to(tmp_path)
    (folder / "loop").symlink_to(folder / "loop")
    save_index(folder, pd.DataFrame({"image": [name.format(root=tmp_path)], "label": ["mass"]}), "parquet")
    with pytest.raises((DataError, FileError), match="column 'image'"):
        Cohort.read(folder, schema_of())


def test_a_link_inside_the_folder_is_followed(tmp_path: Path) -> None:
    """A link is no fault where it stays inside, and a folder may itself be reached by one."""
    folder = folder_of(tmp_path / "scans", pictures(1, 6, 5), ["mass"])
    (folder / "again.png").symlink_to(next(folder.glob("*.png")))
    save_index(folder, pd.DataFrame({"image": ["again.png"], "label": ["mass"]}))
    (tmp_path / "link").symlink_to(folder)
    assert len(images_of(Cohort.read(tmp_path / "link", schema_of()))) == 1


@settings(max_examples=100, deadline=None)
@given(name=st.text(st.sampled_from("./\\ a:~\0"), max_size=8))
def test_odd_paths_give_a_message(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever stands for a path gives a message, never another error, and nothing outside is opened."""
    folder = tmp_path_factory.getbasetemp() / "odd"
    folder.mkdir(exist_ok=True)
    save_index(folder, pd.DataFrame({"image": [name], "label": ["mass"]}), "parquet")
    with pytest.raises(DpsynthError):
        Cohort.read(folder, schema_of())


def test_memory_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More images than fit are refused before any is opened."""
    folder = folder_of(tmp_path / "scans", pictures(4, 6, 5), LABELS)
    next(folder.glob("*.png")).unlink()  # would be the first fault
    monkeypatch.setattr(limits, "MAX_BYTES", 100)
    with pytest.raises(DataError, match="more memory"):
        Cohort.read(folder, schema_of())


def test_folders_and_schemas(tmp_path: Path) -> None:
    """A folder needs a schema with images and an index; a part is for an .npz alone."""
    folder = folder_of(tmp_path / "scans", pictures(4, 6, 5), LABELS)
    table = Schema.parse({"name": "table", "columns": LABEL})
    with pytest.raises(DataError, match="declares none"):
        Cohort.read(folder, table)
    with pytest.raises(InputError, match="part"):
        Cohort.read(folder, schema_of(), part="train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileError, match="has no index"):
        Cohort.read(tmp_path / "empty", schema_of())
    with pytest.raises(FileError, match="is a folder"):
        Cohort.read(tmp_path / "empty", table)


def test_a_fault_of_the_table_comes_first(tmp_path: Path) -> None:
    """Labels are checked before any image is decoded: a wrong one is told in seconds, not after an hour."""
    folder = folder_of(tmp_path / "scans", pictures(4, 6, 5), [*LABELS[:3], "wrong"])
    next(folder.glob("*.png")).write_bytes(b"damaged")
    with pytest.raises(DataError, match="column 'label'"):
        Cohort.read(folder, schema_of())
