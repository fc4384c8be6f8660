"""One image file of each kind: that its pixels are what was stored, and that no damage gives more than a message."""

import gzip
import io
import logging
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import PATIENT, Pixels, pictures, save_dicom, save_nifti, save_picture

from dpsynth.errors import DataError, FileError, InputError
from dpsynth.files import image_files as formats
from dpsynth.files.image_files import read_images
from dpsynth.schema.images import Images

GREY, COLOUR, CUBE = Images(size=(6, 5)), Images(size=(6, 5), channels=3), Images(size=(4, 6, 5))
WINDOW = Images(size=(6, 5), range=(-1000, 400))
VOLUME = Images(size=(4, 6, 5), range=(-1000, 400))


def read(path: Path, images: Images = GREY) -> Pixels:
    """Read one file."""
    (pixels,) = read_images([path], images)
    return np.asarray(pixels)


# -- PNG and JPEG -----------------------------------------------------------------------------------------------------


def test_png(tmp_path: Path) -> None:
    """Grey and colour PNG read exactly; each becomes the other where the schema says so; alpha is left."""
    grey, colour = pictures(6, 5), pictures(6, 5, 3)
    save_picture(tmp_path / "grey.png", grey)
    save_picture(tmp_path / "colour.png", colour)
    save_picture(tmp_path / "alpha.png", np.dstack([colour, pictures(6, 5, seed=2)]))
    assert np.array_equal(read(tmp_path / "grey.png")[0], grey)
    assert np.array_equal(read(tmp_path / "colour.png", COLOUR), np.moveaxis(colour, -1, 0))
    assert np.array_equal(read(tmp_path / "alpha.png", COLOUR), np.moveaxis(colour, -1, 0))
    assert np.array_equal(read(tmp_path / "grey.png", COLOUR), np.stack([grey] * 3))
    luminance = colour @ np.array([0.299, 0.587, 0.114])
    assert np.abs(read(tmp_path / "colour.png")[0] - luminance).max() <= 1


def test_png_of_16_and_of_1_bit(tmp_path: Path) -> None:
    """16-bit grey keeps its values in a range that holds them; 1 bit is black and white."""
    deep = np.random.default_rng(0).integers(0, 65536, (6, 5)).astype(np.uint16)
    save_picture(tmp_path / "deep.png", deep)
    assert np.array_equal(read(tmp_path / "deep.png", Images(size=(6, 5), range=(0, 65535)))[0], deep)
    save_picture(tmp_path / "bit.png", deep > 30000)
    assert np.array_equal(read(tmp_path / "bit.png")[0], np.where(deep > 30000, 255, 0))


def test_jpeg_is_turned_upright(tmp_path: Path) -> None:
    """A photograph is read as its orientation tag shows it, and its content is near what was stored."""
    from PIL import Image

    ramp = np.tile(np.arange(0, 240, 30, dtype=np.uint8), (16, 2))
    save_picture(tmp_path / "a.jpg", ramp, quality=95)
    assert np.abs(read(tmp_path / "a.jpg", Images(size=(16, 16))).astype(int) - ramp).max() < 25
    turned = Image.Exif()
    turned[0x0112] = 6  # shown after a quarter turn clockwise
    save_picture(tmp_path / "b.jpg", ramp[:8], quality=95, exif=turned)
    made = read(tmp_path / "b.jpg", Images(size=(16, 8)))[0]
    assert np.abs(made.astype(int) - np.rot90(ramp[:8], -1)).max() < 25


# -- DICOM ------------------------------------------------------------------------------------------------------------

STORED = np.random.default_rng(0).integers(0, 2000, (6, 5)).astype(np.uint16)


def test_dicom_is_in_its_units(tmp_path: Path) -> None:
    """Slope and intercept are applied, and the public range is the window."""
    save_dicom(tmp_path / "a.dcm", STORED, RescaleSlope=2, RescaleIntercept=-1024)
    made = read(tmp_path / "a.dcm", WINDOW)
    assert made.dtype == np.float32
    assert np.array_equal(made[0], np.clip(STORED * 2.0 - 1024, -1000, 400))


RANGES = [(0, 4095), (0, 1200), (-1000, 400), (0, 255), (0, 1)]
CONTAINERS: dict[str, tuple[str, dict[str, Any]]] = {
    "12 bits of 16": ("uint16", {"BitsStored": 12, "HighBit": 11}),
    "16 bits": ("uint16", {}),
    "12 signed bits of 16": ("int16", {"BitsStored": 12, "HighBit": 11}),
    "rescaled": ("uint16", {"BitsStored": 12, "HighBit": 11, "RescaleSlope": "0.25", "RescaleIntercept": "-1024"}),
    "rescaled downwards": ("uint16", {"BitsStored": 12, "HighBit": 11, "RescaleSlope": -1, "RescaleIntercept": 1000}),
}


@pytest.mark.parametrize("limits", RANGES, ids=str)
@pytest.mark.parametrize(("dtype", "tags"), CONTAINERS.values(), ids=CONTAINERS.keys())
def test_dicom_of_inverted_grey(dtype: str, tags: dict[str, Any], limits: tuple[int, int], tmp_path: Path) -> None:
    """MONOCHROME1, where low is bright, gives what MONOCHROME2 gives of the same image, whatever the public range."""
    bits = int(tags.get("BitsStored", 16))
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if dtype == "int16" else (0, 2**bits - 1)
    shown = np.random.default_rng(1).integers(low, high + 1, (6, 5))
    window = {"WindowCenter": 40, "WindowWidth": 80}
    save_dicom(tmp_path / "2.dcm", shown.astype(dtype), **tags, **window)
    mirrored = (low + high - shown).astype(dtype)
    save_dicom(tmp_path / "1.dcm", mirrored, PhotometricInterpretation="MONOCHROME1", **tags, **window)
    images = Images(size=(6, 5), range=limits)
    units = shown * float(tags.get("RescaleSlope", 1)) + float(tags.get("RescaleIntercept", 0))
    expected = np.clip(units, *limits).astype(np.float32)
    expected = np.rint(expected) if limits == (0, 255) else expected
    assert np.array_equal(read(tmp_path / "2.dcm", images)[0], expected)
    assert np.array_equal(read(tmp_path / "1.dcm", images)[0], expected)


DEEP = Images(size=(6, 5), range=(0, 4095))


@pytest.mark.parametrize("high", [11, 13, 15])
@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
def test_dicom_bits_that_are_not_stored_are_ignored(kind: str, high: int, tmp_path: Path) -> None:
    """Of a container of 16 bits only the 12 stored ones count, wherever they are; others may hold anything."""
    values = np.random.default_rng(2).integers(0, 4096, (6, 5))
    rubbish = np.random.default_rng(3).integers(0, 65536, (6, 5))
    shift = high - 11
    kept = 0xFFF << shift
    container = ((values << shift) | (rubbish & ~kept)).astype(np.uint16)
    save_dicom(tmp_path / "a.dcm", container, BitsStored=12, HighBit=high, PhotometricInterpretation=kind)
    expected = 4095 - values if kind == "MONOCHROME1" else values
    assert np.array_equal(read(tmp_path / "a.dcm", DEEP)[0], expected)


def test_dicom_bits_that_contradict_each_other(tmp_path: Path) -> None:
    """A highest bit outside of the container is refused."""
    save_dicom(tmp_path / "a.dcm", STORED, BitsStored=12, HighBit=19)
    with pytest.raises(DataError, match="BitsStored, HighBit"):
        read(tmp_path / "a.dcm", DEEP)


@pytest.mark.parametrize(
    ("kind", "padding"), [("MONOCHROME2", {"PixelPaddingValue": 0}), ("MONOCHROME1", {"PixelPaddingValue": 4095}),
                          ("MONOCHROME2", {"PixelPaddingValue": 4000, "PixelPaddingRangeLimit": 4095})],
    ids=["dark", "bright and inverted", "a range at the wrong end"],
)  # fmt: skip
def test_dicom_padding_is_the_least_value(kind: str, padding: dict[str, int], tmp_path: Path) -> None:
    """What is no measurement becomes the least value of the range in both kinds, also after a rescale."""
    values = np.random.default_rng(2).integers(100, 3900, (6, 5)).astype(np.uint16)
    values[:2] = max(padding.values())
    tags = {"BitsStored": 12, "HighBit": 11, "RescaleSlope": 1, "RescaleIntercept": 500, **padding}
    save_dicom(tmp_path / "a.dcm", values, PhotometricInterpretation=kind, **tags)
    made = read(tmp_path / "a.dcm", Images(size=(6, 5), range=(-100, 6000)))[0]
    assert (made[:2] == -100).all()
    upright = 4095 - values.astype(int) if kind == "MONOCHROME1" else values.astype(int)
    assert np.array_equal(made[2:], upright[2:] + 500)


def test_dicom_padding_of_signed_pixels(tmp_path: Path) -> None:
    """Padding of signed pixels is found also where it was written without its sign."""
    values = np.array([[-2000, 5, 6, 7, 8]] * 6, np.int16)
    for number, written in enumerate((63536, -2000)):
        path = tmp_path / f"{number}.dcm"
        save_dicom(path, values)
        _with_padding(path, written)
        made = read(path, Images(size=(6, 5), range=(-3000, 3000)))[0]
        assert np.array_equal(made, np.where(values == -2000, -3000, values))


def _with_padding(path: Path, value: int) -> None:
    import pydicom

    file = pydicom.dcmread(path)
    file.add_new("PixelPaddingValue", "SS" if value < 0 else "US", value)
    file.save_as(path)


def test_dicom_with_a_table_of_units(tmp_path: Path) -> None:
    """A modality table is asked with what is stored; of MONOCHROME1 what it gives is turned about its own width."""
    from pydicom.dataset import Dataset

    table = Dataset()
    table.LUTDescriptor, table.ModalityLUTType = [8, 0, 16], "US"
    entries = np.array([0, 10, 100, 1000, 2000, 3000, 4000, 65535], "<u2")
    table.add_new("LUTData", "OW", entries.tobytes())
    codes = np.random.default_rng(4).integers(0, 8, (6, 5)).astype(np.uint16)
    for kind in ("MONOCHROME2", "MONOCHROME1"):
        save_dicom(tmp_path / "a.dcm", codes, PhotometricInterpretation=kind, ModalityLUTSequence=[table])
        made = read(tmp_path / "a.dcm", Images(size=(6, 5), range=(0, 65535)))[0]
        units = entries[codes].astype(float)
        assert np.array_equal(made, 65535 - units if kind == "MONOCHROME1" else units)


@pytest.mark.parametrize("each", [False, True])
def test_enhanced_dicom_is_rescaled_by_its_groups(each: bool, tmp_path: Path) -> None:
    """Slope and intercept that stand in functional groups count, for all frames or for each its own."""
    from pydicom.dataset import Dataset

    def group(slope: float, intercept: float) -> Dataset:
        inner, outer = Dataset(), Dataset()
        inner.RescaleSlope, inner.RescaleIntercept = slope, intercept
        outer.PixelValueTransformationSequence = [inner]
        return outer

    frames = np.random.default_rng(1).integers(0, 300, (4, 6, 5)).astype(np.uint16)
    pairs = [(1.0, -float(k)) for k in range(4)] if each else [(0.5, -10.0)]
    name = "PerFrameFunctionalGroupsSequence" if each else "SharedFunctionalGroupsSequence"
    save_dicom(tmp_path / "a.dcm", frames, **{name: [group(*pair) for pair in pairs]})
    slopes = np.array(pairs).reshape(-1, 2, 1, 1)
    assert np.array_equal(read(tmp_path / "a.dcm", VOLUME)[0], frames * slopes[:, 0] + slopes[:, 1])


def test_dicom_colours(tmp_path: Path) -> None:
    """Planes apart, luminance and chrominance, and palettes all give red, green and blue; grey by the schema."""
    from pydicom.pixels import convert_color_space

    colour = pictures(6, 5, 3)
    planes = np.ascontiguousarray(np.moveaxis(colour, -1, 0)).tobytes()
    save_dicom(tmp_path / "planes.dcm", colour, PlanarConfiguration=1, PixelData=planes)
    assert np.array_equal(read(tmp_path / "planes.dcm", COLOUR), np.moveaxis(colour, -1, 0))
    luminance = convert_color_space(colour, "RGB", "YBR_FULL")
    save_dicom(tmp_path / "ybr.dcm", luminance, PhotometricInterpretation="YBR_FULL")
    assert np.abs(read(tmp_path / "ybr.dcm", COLOUR).astype(int) - np.moveaxis(colour, -1, 0)).max() <= 2
    save_picture(tmp_path / "same.png", colour)
    save_dicom(tmp_path / "rgb.dcm", colour)
    assert np.array_equal(read(tmp_path / "rgb.dcm"), read(tmp_path / "same.png"))
    save_dicom(tmp_path / "grey.dcm", STORED)
    assert np.array_equal(read(tmp_path / "grey.dcm", Images(size=(6, 5), channels=3, range=(0, 4095)))[2], STORED)


@pytest.mark.parametrize("width", [8, 16])
def test_dicom_of_palette_colours(width: int, tmp_path: Path) -> None:
    """Stored numbers are looked up in the file's own tables of colours; those of 16 bits in their upper 8."""
    codes = np.random.default_rng(0).integers(0, 4, (6, 5)).astype(np.uint16)
    tags: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    colours = {"Red": [0, 10, 20, 255], "Green": [1, 2, 3, 4], "Blue": [9, 8, 7, 6]}
    for name, entries in colours.items():
        tags[f"{name}PaletteColorLookupTableDescriptor"] = [4, 0, width]
        wide = np.array(entries, "<u2") << 8 if width == 16 else np.array(entries, "u1")
        tags[f"{name}PaletteColorLookupTableData"] = wide.tobytes()
    save_dicom(tmp_path / "a.dcm", codes, **tags)
    expected = np.stack([np.array(entries)[codes] for entries in colours.values()])
    assert np.array_equal(read(tmp_path / "a.dcm", COLOUR), expected)


def test_dicom_of_signed_values_frames_and_colour(tmp_path: Path) -> None:
    """Signed pixels, volumes of several frames, and colour."""
    signed = (STORED.astype(np.int16) - 1000).astype(np.int16)
    save_dicom(tmp_path / "signed.dcm", signed)
    assert np.array_equal(read(tmp_path / "signed.dcm", WINDOW)[0], np.clip(signed, -1000, 400))
    frames = np.random.default_rng(1).integers(0, 300, (4, 6, 5)).astype(np.uint16)
    save_dicom(tmp_path / "frames.dcm", frames)
    assert np.array_equal(read(tmp_path / "frames.dcm", VOLUME)[0], frames)
    colour = pictures(6, 5, 3)
    save_dicom(tmp_path / "colour.dcm", colour)
    assert np.array_equal(read(tmp_path / "colour.dcm", COLOUR), np.moveaxis(colour, -1, 0))


def test_dicom_of_other_encodings(tmp_path: Path) -> None:
    """Run-length compression and the older byte orders give the same pixels."""
    import pydicom
    from pydicom.uid import ImplicitVRLittleEndian, RLELossless

    save_dicom(tmp_path / "plain.dcm", STORED)
    save_dicom(tmp_path / "implicit.dcm", STORED, syntax=ImplicitVRLittleEndian)
    file = pydicom.dcmread(tmp_path / "plain.dcm")
    file.compress(RLELossless)
    file.save_as(tmp_path / "packed.dcm")
    for name in ("implicit.dcm", "packed.dcm"):
        assert np.array_equal(read(tmp_path / name, WINDOW), read(tmp_path / "plain.dcm", WINDOW))


REFUSED_DICOM: dict[str, tuple[dict[str, Any], str]] = {
    "palette": ({"PhotometricInterpretation": "PALETTE COLOR"}, "palette"),
    "more pixels than it may claim": ({"NumberOfFrames": 2**31 - 1}, "more than"),
    "more pixels than it holds": ({"Rows": 60}, "damaged"),
    "another size": ({"Rows": 5, "Columns": 6}, "another size"),
    "no pixels": ({"PixelData": b""}, "damaged"),
}


@pytest.mark.parametrize(("tags", "words"), REFUSED_DICOM.values(), ids=REFUSED_DICOM.keys())
def test_what_dicom_is_refused(tags: dict[str, Any], words: str, tmp_path: Path) -> None:
    """DICOM that lies about its size, or has colours that mean nothing, is refused."""
    save_dicom(tmp_path / "a.dcm", STORED, **tags)
    with pytest.raises(DataError, match=words):
        read(tmp_path / "a.dcm")


def test_deflated_dicom_is_refused(tmp_path: Path) -> None:
    """A data set that is deflated as a whole could unpack to any size, so it is not."""
    save_dicom(tmp_path / "a.dcm", STORED, syntax="1.2.840.10008.1.2.1.99")
    with pytest.raises(DataError, match="deflated"):
        read(tmp_path / "a.dcm")


def test_nothing_of_a_header_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What decoders would log or warn about, here chunks of PNG and a surplus in DICOM, might hold a name."""
    from PIL import PngImagePlugin

    words = PngImagePlugin.PngInfo()
    words.add_text("Patient", PATIENT)
    save_picture(tmp_path / "a.png", pictures(6, 5), pnginfo=words)
    save_dicom(tmp_path / "a.dcm", STORED, PixelData=STORED.tobytes() + bytes(20), PatientID=PATIENT)
    caplog.set_level(logging.DEBUG)
    caplog.clear()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        read(tmp_path / "a.png")
        read(tmp_path / "a.dcm", WINDOW)
    assert not caplog.records
    assert not warned
    assert logging.getLogger("PIL").isEnabledFor(logging.ERROR)


# -- NIfTI and .npy ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("dtype", ["u1", "<i2", ">i2", "f4", "f8"])
def test_nifti(name: str, dtype: str, tmp_path: Path) -> None:
    """Volumes of any number type read exactly, with and without gzip."""
    volume = (pictures(4, 6, 5) % 120).astype(dtype)
    save_nifti(tmp_path / name, volume)
    assert np.array_equal(read(tmp_path / name, VOLUME)[0], volume)


def test_nifti_is_scaled_and_turned(tmp_path: Path) -> None:
    """Slope and intercept are applied; axes come in the order and direction of RAS+."""
    import nibabel as nib

    volume = pictures(5, 6, 4).astype(np.int16)
    image = nib.Nifti1Image(volume, np.array([[0, 0, -1, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]]))
    image.header.set_slope_inter(2, -100)
    content = bytearray(image.to_bytes())
    content[112:120] = np.array([2, -100], "<f4").tobytes()  # nibabel leaves the scale of whole numbers out
    (tmp_path / "a.nii").write_bytes(content)
    expected = np.flip(np.transpose(volume, (2, 1, 0)), 0) * 2.0 - 100
    assert np.array_equal(read(tmp_path / "a.nii", VOLUME)[0], np.clip(expected, -1000, 400))


def test_nifti_with_an_extension(tmp_path: Path) -> None:
    """Voxels are where the header says, behind whatever stands between; that is not read."""
    volume = pictures(4, 6, 5)
    save_nifti(tmp_path / "a.nii", volume)
    whole = bytearray((tmp_path / "a.nii").read_bytes())
    whole[108:112] = np.array([1024], "<f4").tobytes()
    (tmp_path / "b.nii").write_bytes(
        bytes(whole[:352]) + PATIENT.encode().ljust(1024 - 352) + volume.tobytes(order="F")
    )
    assert np.array_equal(read(tmp_path / "b.nii", CUBE)[0], volume)


def test_nifti_of_slices_and_channels(tmp_path: Path) -> None:
    """A single slice is a picture; a fourth axis holds channels."""
    slices, channels = pictures(6, 5, 1), pictures(4, 6, 5, 2)
    save_nifti(tmp_path / "slice.nii", slices)
    assert np.array_equal(read(tmp_path / "slice.nii")[0], slices[:, :, 0])
    save_nifti(tmp_path / "channels.nii", channels)
    images = Images(size=(4, 6, 5), channels=2)
    assert np.array_equal(read(tmp_path / "channels.nii", images), np.moveaxis(channels, -1, 0))


def _nifti_with(place: int, content: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        save_nifti(path.with_suffix(".nii"), pictures(4, 6, 5))
        whole = bytearray(path.with_suffix(".nii").read_bytes())
        whole[place : place + len(content)] = content
        path.write_bytes(gzip.compress(bytes(whole)))

    return write


REFUSED_NIFTI: dict[str, tuple[Callable[[Path], None], str]] = {
    "a huge claim": (_nifti_with(42, np.array([32767] * 3, "<i2").tobytes()), "more than"),
    "negative sides": (_nifti_with(42, np.array([-4, -6, 5], "<i2").tobytes()), "damaged|more than|another size"),
    "voxels far away": (_nifti_with(108, np.array([1e9], "<f4").tobytes()), "header that is too long"),
    "voxels in the header": (_nifti_with(108, np.array([0], "<f4").tobytes()), "header that is too long"),
    "voxels nowhere": (_nifti_with(108, np.array([np.nan], "<f4").tobytes()), "damaged"),
    "colours": (_nifti_with(70, np.array([128], "<i2").tobytes()), "no real numbers"),
    "complex numbers": (_nifti_with(70, np.array([32], "<i2").tobytes()), "no real numbers"),
    "header and data apart": (_nifti_with(344, b"ni1"), "no NIfTI"),
    "text": (lambda path: path.write_bytes(gzip.compress(b"hello")) and None, "damaged"),
    "cut": (lambda path: path.write_bytes(gzip.compress(pictures(400).tobytes())[:-30]) and None, "damaged"),
}


@pytest.mark.parametrize(("write", "words"), REFUSED_NIFTI.values(), ids=REFUSED_NIFTI.keys())
def test_what_nifti_is_refused(write: Callable[[Path], None], words: str, tmp_path: Path) -> None:
    """NIfTI that lies about its size, or holds no real numbers, is refused."""
    write(tmp_path / "a.nii.gz")
    with pytest.raises(DataError, match=words):
        read(tmp_path / "a.nii.gz", CUBE)


def test_a_gzip_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a gzip file no more is unpacked than its header promises, and that is limited."""
    save_nifti(tmp_path / "small.nii", pictures(4, 6, 5))
    bomb = gzip.compress((tmp_path / "small.nii").read_bytes() + bytes(64 << 20))
    (tmp_path / "a.nii.gz").write_bytes(bomb)
    unpacked = []
    original = gzip.GzipFile.read

    def counting(self: gzip.GzipFile, size: int | None = -1) -> bytes:
        content = original(self, size)
        unpacked.append(len(content))
        return content

    monkeypatch.setattr(gzip.GzipFile, "read", counting)
    assert read(tmp_path / "a.nii.gz", CUBE).shape == (1, 4, 6, 5)
    assert sum(unpacked) < 2000


def test_numpy(tmp_path: Path) -> None:
    """Arrays read exactly, with channels last; objects are refused, and so is what claims more than it holds."""
    array = np.random.default_rng(0).normal(0, 500, (6, 5, 2)).astype(np.float32)
    np.save(tmp_path / "a.npy", array)
    images = Images(size=(6, 5), channels=2, range=(-9999, 9999))
    assert np.array_equal(read(tmp_path / "a.npy", images), np.moveaxis(array, -1, 0))
    np.save(tmp_path / "b.npy", np.array([{}], object), allow_pickle=True)
    (tmp_path / "c.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-1])
    for name in ("b.npy", "c.npy"):
        with pytest.raises(DataError, match="damaged"):
            read(tmp_path / name, images)


# -- all kinds --------------------------------------------------------------------------------------------------------


def test_a_claim_of_many_pixels_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture past the limit is refused by its header, also where it would be resized."""
    save_picture(tmp_path / "a.png", np.zeros((900, 900), np.uint8))
    save_dicom(tmp_path / "a.dcm", np.zeros((900, 900), np.uint16))
    save_nifti(tmp_path / "a.nii", np.zeros((90, 90, 90), np.uint8))
    np.save(tmp_path / "a.npy", np.zeros((900, 900), np.uint8))
    monkeypatch.setattr(formats, "MAX_VALUES", 500_000)
    for name in ("a.png", "a.dcm", "a.nii", "a.npy"):
        with pytest.raises(DataError, match="more than 500000 values"):
            read(tmp_path / name, Images(size=(6, 5), resize=True))


def test_a_picture_holds_so_many_channels(tmp_path: Path) -> None:
    """PNG under two channels, and 8 bits under a range that ends at 1, are refused with what to do."""
    save_picture(tmp_path / "a.png", pictures(6, 5))
    with pytest.raises(DataError, match="1, 3 or 4 channels"):
        read(tmp_path / "a.png", Images(size=(6, 5), channels=2))
    with pytest.raises(DataError, match=r"Declare range: \[0, 255\]"):
        read(tmp_path / "a.png", Images(size=(6, 5), range=(0, 1)))


def _animated(path: Path) -> None:
    from PIL import Image

    first, second = Image.fromarray(pictures(6, 5)), Image.fromarray(pictures(6, 5, seed=1))
    first.save(path, "PNG", save_all=True, append_images=[second])


ODD: dict[str, Callable[[Path], Any]] = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_bytes(b"hello" * 100),
    "a GIF": lambda path: path.write_bytes(b"GIF89a" + bytes(400)),
    "two pictures": _animated,
    "a folder": lambda path: path.mkdir(),
    "a pipe": os.mkfifo,
    "a signature alone": lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n"),
}


@pytest.mark.parametrize("write", ODD.values(), ids=ODD.keys())
def test_odd_files(write: Callable[[Path], Any], tmp_path: Path) -> None:
    """What is no image of a known kind is refused."""
    write(tmp_path / PATIENT)
    with pytest.raises(DataError) as caught:
        read(tmp_path / PATIENT)
    assert PATIENT not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """The name of an absent file is not told: it may be a patient's."""
    with pytest.raises(FileError, match="is not there") as caught:
        read(tmp_path / PATIENT)
    assert PATIENT not in str(caught.value)


def test_a_package_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package that reads a kind of file, the message says what to install."""
    save_dicom(tmp_path / "a.dcm", STORED)
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    with pytest.raises(InputError, match=r"pip install 'dpsynth\[image\]'"):
        read(tmp_path / "a.dcm", WINDOW)


def _samples(folder: Path) -> dict[str, tuple[bytes, Images]]:
    folder.mkdir(exist_ok=True)
    save_picture(folder / "a.png", pictures(6, 5))
    save_picture(folder / "a.jpg", pictures(6, 5))
    save_dicom(folder / "a.dcm", STORED)
    save_nifti(folder / "a.nii", pictures(4, 6, 5))
    save_nifti(folder / "a.nii.gz", pictures(4, 6, 5))
    np.save(folder / "a.npy", pictures(6, 5))
    kinds = {".nii": CUBE, ".gz": CUBE}
    return {path.name: (path.read_bytes(), kinds.get(path.suffix, GREY)) for path in folder.iterdir()}


@settings(max_examples=250, deadline=None)
@given(
    name=st.sampled_from(["a.png", "a.jpg", "a.dcm", "a.nii", "a.nii.gz", "a.npy"]),
    place=st.integers(0, 10**6),
    content=st.binary(min_size=1, max_size=6),
    cut=st.integers(0, 9),
)
def test_no_damage_gives_more_than_a_message(
    name: str, place: int, content: bytes, cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A file of each kind with some bytes changed, and perhaps cut, reads or gives a message, never another error."""
    folder = tmp_path_factory.getbasetemp() / "samples"
    good, images = SAMPLES.get(name) or SAMPLES.setdefault(name, _samples(folder)[name])
    place %= len(good)
    changed = io.BytesIO(good)
    changed.seek(place)
    changed.write(content)
    (folder / "changed").write_bytes(changed.getvalue()[: len(good) - cut * 10 if cut else None])
    try:
        read(folder / "changed", images)
    except (DataError, FileError) as error:
        assert "images:" in str(error)  # noqa: PT017  (a file that happens to be right is no fault)


SAMPLES: dict[str, tuple[bytes, Images]] = {}
