"""Small image cohorts and image files of each kind, made up by tests."""

import gzip
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dpsynth.schema import Schema

Pixels = NDArray[Any]
PATIENT = "Jane-Doe-4711"
"""Stands in file names and identifiers; no message may echo it."""

LABEL = {"label": {"type": "categorical", "values": ["none", "nodule", "mass"]}}


def schema_of(columns: Mapping[str, Any] = LABEL, *, patient: str | None = None, **images: Any) -> Schema:
    """Return a confirmed schema of images, by default 6 x 5 and grey."""
    document: dict[str, Any] = {"name": "scans", "confirmed": True, "columns": dict(columns)}
    if patient is not None:
        document |= {"patient": patient, "columns": {**columns, patient: {"type": "identifier"}}}
        document["max_rows_per_patient"] = 3
    return Schema.parse({**document, "images": {"size": [6, 5], **images}})


def pictures(*shape: int, seed: int = 0, dtype: Any = np.uint8) -> Pixels:
    """Return random pixels from 0 to 255."""
    return np.random.default_rng(seed).integers(0, 256, shape).astype(dtype)


def save_picture(path: Path, array: Pixels, **options: Any) -> None:
    """Write PNG or JPEG, as the ending says."""
    from PIL import Image

    Image.fromarray(array).save(path, **options)


def save_dicom(path: Path, array: Pixels, *, syntax: str | None = None, **tags: Any) -> None:
    """Write a DICOM file of 16-bit grey (rows, columns), of several frames, or of 8-bit colour (rows, columns, 3)."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
    meta.TransferSyntaxUID = syntax or ExplicitVRLittleEndian
    file = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    colour = array.dtype == np.uint8
    file.SOPClassUID, file.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    file.PatientName = PATIENT
    if array.ndim == 3 and not colour:
        file.NumberOfFrames = len(array)
    file.Rows, file.Columns = array.shape[:2] if colour else array.shape[-2:]
    file.SamplesPerPixel, file.PhotometricInterpretation = (3, "RGB") if colour else (1, "MONOCHROME2")
    if colour:
        file.PlanarConfiguration = 0
    bits = 8 * array.dtype.itemsize
    file.BitsAllocated, file.BitsStored, file.HighBit = bits, bits, bits - 1
    file.PixelRepresentation = int(array.dtype.kind == "i")
    file.PixelData = array.tobytes() + b"\0" * (array.nbytes % 2)
    for name, value in tags.items():
        setattr(file, name, value)
    file.save_as(path, enforce_file_format=True)


def save_nifti(path: Path, array: Pixels, affine: Pixels | None = None) -> None:
    """Write NIfTI, with gzip where the name ends so."""
    import nibabel as nib

    content = nib.Nifti1Image(array, np.eye(4) if affine is None else affine).to_bytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def save_index(folder: Path, frame: pd.DataFrame, kind: str = "csv", name: str = "index") -> None:
    """Write a table as CSV or Parquet."""
    if kind == "csv":
        frame.to_csv(folder / f"{name}.csv", index=False)
    else:
        frame.to_parquet(folder / f"{name}.parquet", index=False)


def folder_of(folder: Path, images: Pixels, labels: Sequence[str], *, kind: str = "csv", suffix: str = ".png") -> Path:
    """Write a set of images: one file each, and an index with their labels."""
    folder.mkdir()
    names = [f"{PATIENT}-{number}{suffix}" for number in range(len(images))]
    for name, image in zip(names, images, strict=True):
        save_picture(folder / name, image)
    save_index(folder, pd.DataFrame({"image": names, "label": labels}), kind)
    return folder
