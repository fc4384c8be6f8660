"""One DICOM file as an array in its own units: what its header says of stored bits, polarity, padding and rescale.

In the order in which a stored value becomes a value: the bits that are stored, polarity (MONOCHROME1 is turned into
MONOCHROME2 within the range of the stored bits, so that both kinds agree whatever slope and public range are), the
modality table or rescale. Padding, which is no measurement, is not a number here; `as_declared` makes it the least
value of the public range. Windows are for looking and are ignored: the schema's range is the window.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dpsynth.errors import DataError

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["claimed_values", "decoded", "opened"]

Pixels = npt.NDArray[Any]
_GREY = ("MONOCHROME1", "MONOCHROME2")
_PALETTE = "PALETTE COLOR"


def opened(path: Path) -> "Dataset":
    """Return a file's data set, of which no pixel is decoded yet.

    Raises
    ------
    DataError
        If the data set is deflated as a whole.
    """
    import pydicom
    from pydicom.filereader import read_file_meta_info

    if read_file_meta_info(path).TransferSyntaxUID == pydicom.uid.DeflatedExplicitVRLittleEndian:
        raise DataError("images: a DICOM file is deflated as a whole, which hides its size; store it without.")
    return pydicom.dcmread(path)


def claimed_values(file: "Dataset") -> int:
    """Return how many values the header claims; a palette makes three of one."""
    samples = 3 if file.PhotometricInterpretation == _PALETTE else int(file.get("SamplesPerPixel", 1))
    return int(file.get("NumberOfFrames") or 1) * int(file.Rows) * int(file.Columns) * samples


def decoded(file: "Dataset") -> Pixels:
    """Return the values of a file.

    Parameters
    ----------
    file
        As `opened` gives it, of a size that was checked.

    Returns
    -------
    array
        ([frames,] rows, columns) float64 in the file's units, NaN where it is padding; or, of colours, ([frames,] rows,
        columns, 3) in red, green and blue.

    Raises
    ------
    DataError
        If its colours are of a kind that is not known, or it is MONOCHROME1 without whole numbers.
    """
    from pydicom.pixels import pixel_array

    kind, samples = str(file.PhotometricInterpretation), int(file.get("SamplesPerPixel", 1))
    if samples == 1 and kind in _GREY:
        return _grey(file, inverted=kind == "MONOCHROME1")
    if samples == 1 and kind == _PALETTE:
        return _of_palette(file)
    if samples != 3 or not (kind == "RGB" or kind.startswith("YBR")):
        raise DataError(
            "images: a DICOM file has colours of a kind that is not read; expected MONOCHROME1, MONOCHROME2, RGB, YBR "
            "or PALETTE COLOR."
        )
    return np.asarray(pixel_array(file))


def _of_palette(file: "Dataset") -> Pixels:
    """Return the colours that stored numbers point to, in 8 bits as those of PNG."""
    from pydicom.pixels import apply_color_lut

    if "RedPaletteColorLookupTableDescriptor" not in file:
        raise DataError("images: a DICOM file has palette colours without their tables; store it as RGB.")
    colours = np.asarray(apply_color_lut(_stored(file), file))[..., :3]
    return (colours >> 8).astype(np.uint8) if colours.dtype == np.uint16 else colours


def _grey(file: "Dataset", *, inverted: bool) -> Pixels:
    stored = _stored(file)
    padding = _padding(file, stored)
    lookup = bool(file.get("ModalityLUTSequence"))
    if inverted and not lookup:
        stored = _inverted(file, stored)
    values = _in_units(file, stored)
    if inverted and lookup:  # the table expects what is stored; its entries have a width of their own
        values = 2.0 ** int(file.ModalityLUTSequence[0].LUTDescriptor[2]) - 1 - values
    values[padding] = np.nan
    return values


def _stored(file: "Dataset") -> Pixels:
    """Return what stands in the stored bits, wherever in the container they are; all others are ignored."""
    from pydicom.pixels import pixel_array

    if "PixelData" not in file:
        return np.asarray(pixel_array(file))
    bits = int(file.BitsStored)
    unused = int(file.get("HighBit", bits - 1)) + 1 - bits
    if unused == 0:
        return np.asarray(pixel_array(file))
    if not 0 < unused <= int(file.BitsAllocated) - bits or file.file_meta.TransferSyntaxUID.is_compressed:
        raise DataError("images: a DICOM file contradicts itself about its bits (BitsStored, HighBit); store it anew.")
    file.BitsStored = bits + unused
    try:
        return np.asarray(pixel_array(file)) >> unused
    finally:
        file.BitsStored = bits


def _inverted(file: "Dataset", stored: Pixels) -> Pixels:
    """Return stored values with dark and bright exchanged, within the range of the stored bits."""
    if stored.dtype.kind not in "iu":
        raise DataError("images: a DICOM file is MONOCHROME1 with decimal numbers, which have no range to turn about.")
    ends = -1 if int(file.PixelRepresentation) else 2 ** int(file.BitsStored) - 1  # least plus greatest stored value
    return ends - stored.astype(np.int64)


def _padding(file: "Dataset", stored: Pixels) -> npt.NDArray[np.bool_]:
    """Return where stored values are the declared padding, and no measurement."""
    ends = [file.get(name) for name in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    limits = [_signed(file, int(end)) for end in ends if end is not None]
    if not limits or stored.dtype.kind not in "iu" or ends[0] is None:
        return np.zeros(stored.shape, bool)
    return np.asarray((stored >= min(limits)) & (stored <= max(limits)))


def _signed(file: "Dataset", value: int) -> int:
    """Return padding that was written without its sign as the signed pixels have it."""
    bits = int(file.BitsAllocated)
    return value - 2**bits if int(file.PixelRepresentation) and value >= 2 ** (bits - 1) else value


def _in_units(file: "Dataset", stored: Pixels) -> npt.NDArray[np.float64]:
    """Return values after the modality table or rescale, which an enhanced file has for each frame."""
    from pydicom.pixels import apply_modality_lut

    slopes = list(_rescales(file))
    if not slopes:
        return np.array(apply_modality_lut(stored, file), np.float64)
    frames = stored.shape[0] if stored.ndim == 3 else 1
    if len(slopes) not in (1, frames):
        raise DataError("images: a DICOM file has another number of rescales than of frames; store it anew.")
    shape = (-1,) + (1,) * (stored.ndim - 1)
    slope, intercept = (np.array(part, np.float64).reshape(shape) for part in zip(*slopes, strict=True))
    return np.asarray(stored * slope + intercept, np.float64)


def _rescales(file: "Dataset") -> Iterator[tuple[float, float]]:
    """Yield slope and intercept of all frames together, or of each, where an enhanced file has them in groups."""
    for group in (*file.get("SharedFunctionalGroupsSequence", ()), *file.get("PerFrameFunctionalGroupsSequence", ())):
        for item in group.get("PixelValueTransformationSequence", ()):
            if "RescaleSlope" in item and "RescaleIntercept" in item:
                yield float(item.RescaleSlope), float(item.RescaleIntercept)
