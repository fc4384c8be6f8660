"""One image file as an array: PNG, JPEG, DICOM, NIfTI and NumPy; which of them it is, its first bytes say.

The size that a file claims is checked against a public limit before anything is decoded. Only pixels are taken: names,
dates and whatever else a header holds are not looked at. No message holds a file's name or content, and what the
decoders would warn or log is silenced, because it may.
"""

import contextlib
import gzip
import logging
import math
import stat
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt

from dpsynth.errors import DataError, DpsynthError, FileError, InputError
from dpsynth.files.dicom import claimed_values, decoded, opened
from dpsynth.files.npy import read_array, read_header
from dpsynth.files.pixels import as_declared, check_depth
from dpsynth.schema.images import MAX_VALUES, Images

__all__ = ["read_images", "stored"]

MAX_FILE = 2**31
"""Largest image file, bytes."""
_MAX_OFFSET = 2**24
"""Most bytes before the voxels of a NIfTI file."""
_PICTURES = {1: "L", 3: "RGB", 4: "RGBA"}
_GREYS = ("1", "L", "LA", "I", "I;16", "I;16B")
_LOGGERS = ("pydicom", "PIL")

Pixels = npt.NDArray[Any]
Decoder = Callable[[Path, Images | None], Pixels]
"""Decodes a file as the schema says; as it is stored where there is none yet."""


def read_images(paths: Sequence[Path], images: Images) -> Pixels:
    """Return the images of files as the schema declares them.

    Parameters
    ----------
    paths
        PNG or JPEG (upright, as its orientation tag says), one-frame or multi-frame DICOM (dark and bright as in
        MONOCHROME2, rescaled to its units), NIfTI with or without gzip (scaled; volumes turned to the nearest RAS+
        axes), or NumPy's ``.npy`` (sides and channels, in either order).
    images
        What is declared.

    Returns
    -------
    array
        (images, channels, sides): uint8 where the range is 0 to 255, else float32.

    Raises
    ------
    FileError
        If a file cannot be read.
    DataError
        If one is no such file, is damaged, or is not of the declared size.
    """
    pixels = np.empty((len(paths), *images.shape), images.dtype)
    with _silence():
        for place, path in enumerate(paths):
            pixels[place] = as_declared(_decoded(path, images)[None], images)[0]
    return pixels


def stored(path: Path) -> Pixels:
    """Return the image of a file as it is stored: its sides, then its channels where it has several."""
    with _silence():
        return _decoded(path, None)


def _decoded(path: Path, images: Images | None) -> Pixels:
    decode = _decoder(path)
    try:
        return decode(path, images)
    except DpsynthError:
        raise
    except ImportError as error:
        raise InputError(
            f"images: a file needs the package {error.name}; install it with pip install 'dpsynth[image]'."
        ) from None
    except Exception:  # decoders raise whatever they like, and say what they found
        raise DataError(
            "images: an image file is damaged, cut short, or compressed in a way that no installed decoder reads."
        ) from None


def _decoder(path: Path) -> Decoder:
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > MAX_FILE:
            raise DataError(f"images: an image file is no regular file, or is larger than {MAX_FILE} bytes.")
        with path.open("rb") as file:
            start = file.read(352)
    except OSError:
        raise FileError("images: an image file that the index names is not there or cannot be read.") from None
    for signature, place, decode in _SIGNATURES:
        if start[place : place + len(signature)] == signature:
            return decode
    raise DataError(
        "images: an image file is of no known kind; expected PNG, JPEG, DICOM, NIfTI or .npy. Convert TIFF, BMP, GIF, "
        "WebP and others to PNG."
    )


def _check_values(count: int) -> None:
    """Refuse an image by what its header claims, before it is decoded."""
    if not 0 < count <= MAX_VALUES:
        raise DataError(f"images: an image has no pixels, or more than {MAX_VALUES} values; make it smaller.")


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep decoders from telling what they found."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _picture(path: Path, images: Images | None) -> Pixels:
    """Decode PNG or JPEG; colour and grey become each other as the schema's channels say, an alpha channel is left."""
    from PIL import Image, ImageOps

    if images is not None and images.channels not in _PICTURES:
        raise DataError(
            f"images: PNG and JPEG hold 1, 3 or 4 channels, the schema declares {images.channels}; use NIfTI or .npy."
        )
    with Image.open(path, formats=("PNG", "JPEG")) as picture:
        _check_values(math.prod(picture.size) * len(picture.getbands()))
        if getattr(picture, "n_frames", 1) > 1:
            raise DataError("images: an image file holds several pictures; expected one.")
        upright = ImageOps.exif_transpose(picture)
        channels = images.channels if images is not None else 1 if upright.mode in _GREYS else 3
        if upright.mode.startswith("I"):  # 16 bits
            _check_deep(images)
            return _in_channels(np.asarray(upright, np.float64), images) if channels > 1 else np.asarray(upright)
        if images is not None and images.range[1] > 255 and _is_deep(path):
            raise DataError(
                "images: a PNG has 16 bits a channel and colours or transparency, of which decoders keep 8 bits. Store "
                "it as .npy, or declare range: [0, 255] for its upper 8 bits."
            )
        check_depth(np.dtype(np.uint8), images)
        return np.asarray(upright.convert(_PICTURES[channels]))


def _is_deep(path: Path) -> bool:
    """Return whether a PNG has 16 bits a channel, by its header."""
    with path.open("rb") as file:
        start = file.read(26)
    return start.startswith(b"\x89PNG") and start[24] == 16


def _check_deep(images: Images | None) -> None:
    """Refuse 16-bit grey under the range of 8 bits, to which nearly all of its values would be clipped."""
    if images is not None and images.range == (0.0, 255.0):
        raise DataError(
            "images: a PNG has 16 bits, and the declared range ends at 255, to which nearly all would be clipped. "
            "Declare the range that they have: [0, 65535], or [0, 4095] where 12 bits are used."
        )


def _dicom(path: Path, images: Images | None) -> Pixels:
    file = opened(path)
    _check_values(claimed_values(file))
    values = decoded(file)
    if values.dtype == np.uint8:
        check_depth(values.dtype, images)
    return _in_channels(values, images)


def _in_channels(values: Pixels, images: Images | None) -> Pixels:
    """Return grey as colour or colour as grey, as the schema's channels say and as `_picture` does."""
    from PIL import Image

    if images is None:
        return values
    coloured, sides = values.dtype == np.uint8 and values.shape[-1:] == (3,), len(images.size)
    if images.channels == 1 and coloured and values.ndim == sides + 1 == 3:
        return np.asarray(Image.fromarray(values).convert("L"))
    if images.channels == 3 and values.ndim == sides and values.dtype == np.float64:
        return np.stack([values] * 3, axis=-1)
    return values


def _nifti(path: Path, images: Images | None) -> Pixels:
    with path.open("rb") as file:
        return _voxels(file, images)


def _zipped_nifti(path: Path, images: Images | None) -> Pixels:
    with gzip.open(path) as file:
        return _voxels(cast("IO[bytes]", file), images)


def _voxels(file: IO[bytes], images: Images | None) -> Pixels:
    """Return what the header promises, and not a byte more is unpacked."""
    import nibabel as nib

    start = file.read(540)
    sizes = {int.from_bytes(start[:4], order) for order in ("little", "big")}
    kind = nib.Nifti2Header if 540 in sizes else nib.Nifti1Header
    header = kind(start[: kind.template_dtype.itemsize], check=False)
    if bytes(header["magic"].item())[:2] != b"n+":
        raise DataError("images: a gzip file holds no NIfTI; expected .nii.gz with header and data in one file.")
    shape, dtype, offset = header.get_data_shape(), header.get_data_dtype(), int(header["vox_offset"])
    _check_values(math.prod(shape))
    if dtype.kind not in "biuf" or not kind.single_vox_offset <= offset <= _MAX_OFFSET:
        raise DataError("images: a NIfTI file has voxels that are no real numbers, or a header that is too long.")
    file.seek(offset)
    raw = file.read(math.prod(shape) * dtype.itemsize)
    values = np.frombuffer(raw, dtype).reshape(shape, order="F")
    slope, intercept = header.get_slope_inter()
    if slope is not None and (slope, intercept) != (1, 0):
        values = values * float(slope) + float(intercept)
    volume = len(images.size) == 3 if images is not None else values.ndim > 2 and values.shape[2] > 1
    if volume:
        axes = nib.orientations.io_orientation(header.get_best_affine())
        return np.asarray(nib.orientations.apply_orientation(values, axes))
    return values[:, :, 0] if values.ndim > 2 and values.shape[2] == 1 else values


def _numpy(path: Path, images: Images | None) -> Pixels:
    with path.open("rb") as file:
        header = read_header(file, path.stat().st_size)
        _check_values(math.prod(header.shape))
        check_depth(header.dtype, images)
        file.seek(0)
        return read_array(file)


_SIGNATURES: tuple[tuple[bytes, int, Decoder], ...] = (
    (b"\x89PNG\r\n\x1a\n", 0, _picture),
    (b"\xff\xd8\xff", 0, _picture),
    (b"DICM", 128, _dicom),
    (b"n+1\x00", 344, _nifti),
    (b"n+2\x00", 4, _nifti),
    (b"\x1f\x8b", 0, _zipped_nifti),
    (b"\x93NUMPY", 0, _numpy),
)
