"""Cohorts with images as a folder: what `dpsynth.files.folder` reads.

Images of two sides in 8 bits with 1, 3 or 4 channels become PNG; volumes NIfTI with gzip; the rest, whose values PNG
would round, NumPy's ``.npy``. All of them read back exactly. Files are named by numbers.
"""

import gzip
import importlib.util
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dpsynth.errors import InputError
from dpsynth.files.image_set import ImageSet
from dpsynth.files.write_tables import Writable, write_parquet

__all__ = ["check_writable", "ending", "write_cohort", "write_images"]

Pixels = npt.NDArray[Any]


def write_cohort(cohort: Writable, folder: Path) -> None:
    """Write table, index and images into a folder that is there and empty.

    Raises
    ------
    InputError
        If the cohort has no images, or a patient has several rows which are not one row an image.
    """
    images = _images(cohort)
    patient = cohort.schema.patient
    several = patient in cohort.columns and len(np.unique(cohort.patients())) < len(cohort)
    if several and not np.array_equal(images.row, np.arange(len(cohort))):
        raise InputError("images: a patient has several rows; such a cohort is written only with one image a row.")
    if not several:
        write_parquet(cohort, folder / "patients.parquet")
    write_images(cohort, folder, key=patient if patient in cohort.columns else "patient", numbered=not several)


def write_images(cohort: Writable, folder: Path, *, key: str | None = "patient", numbered: bool = True) -> None:
    """Write ``images/`` and ``index.parquet``.

    The index has the columns ``image`` (path relative to the folder), `key` and, repeated from the table, all others.

    Parameters
    ----------
    cohort
        With images.
    folder
        Gets both.
    key
        The column of the index that says whose an image is: the patient's identifier, or ``patient``, the number of
        the table's row.
    numbered
        Whether a column ``patient`` is added where `key` is no column of the table.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    images = _images(cohort)
    check_writable(cohort.images)
    (folder / "images").mkdir()
    write, suffix = _writer(images.pixels), ending(images.pixels)
    width = max(6, len(str(len(images))))
    names = [f"images/{number:0{width}d}{suffix}" for number in range(len(images))]
    for name, pixels in zip(names, images.pixels, strict=True):
        (folder / name).write_bytes(write(pixels))
    columns: dict[str, Any] = {"image": pa.array(names, pa.string())}
    if numbered and key not in cohort.columns:
        columns["patient"] = pa.array(images.row)
    pq.write_table(pa.table(columns | _repeated(cohort, images.row)), folder / "index.parquet")


def check_writable(images: ImageSet | None) -> None:
    """Refuse images of which no file can be written here, before anything is spent for them.

    Raises
    ------
    InputError
        If the package that writes them is not installed.
    """
    package = {".nii.gz": "nibabel", ".png": "PIL"}.get(ending(images.pixels)) if images else None
    if package is not None and importlib.util.find_spec(package) is None:
        raise InputError(f"images: to write them the package {package} is needed; pip install 'dpsynth[image]'.")


def _images(cohort: Writable) -> Any:
    if cohort.images is None:
        raise InputError("images: the cohort has none; write its table with write.")
    return cohort.images


def _repeated(cohort: Writable, row: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Return the table's columns with a row an image."""
    table = cohort.plain_table().take(row)
    return {name: table[name] for name in table.column_names}


def ending(pixels: Pixels) -> str:
    """Return the suffix of the files that hold these images."""
    if pixels.ndim == 5:
        return ".nii.gz"
    return ".png" if pixels.dtype == np.uint8 and pixels.shape[1] in (1, 3, 4) else ".npy"


def _writer(pixels: Pixels) -> Callable[[Pixels], bytes]:
    return {".nii.gz": _as_nifti, ".png": _as_png, ".npy": _as_numpy}[ending(pixels)]


def _channels_last(pixels: Pixels) -> Pixels:
    return pixels[0] if len(pixels) == 1 else np.ascontiguousarray(np.moveaxis(pixels, 0, -1))


def _as_png(pixels: Pixels) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(_channels_last(pixels)).save(file, "PNG")
    return file.getvalue()


def _as_nifti(pixels: Pixels) -> bytes:
    import nibabel as nib

    volume = nib.Nifti1Image(_channels_last(pixels), np.eye(4))
    return gzip.compress(volume.to_bytes(), mtime=0)


def _as_numpy(pixels: Pixels) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, _channels_last(pixels), allow_pickle=False)
    return file.getvalue()
