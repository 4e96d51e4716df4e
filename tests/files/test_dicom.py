"""DICOM photographs: shown as viewers show them, nothing of a patient kept, and what cannot be read refused with advice."""

from __future__ import annotations

import io
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.utils import compress
from pydicom.uid import (
    JPEG2000,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from siamese.files import dicom
from siamese.files.decoding import VISITOR, DecodingError, decode, image_size, read_image, to_rgb
from siamese.records.uploads import UploadError, read_upload

PHOTO = np.random.default_rng(3).integers(0, 256, (5, 7, 3), np.uint8)
GREY = np.arange(35, dtype=np.uint8).reshape(5, 7) * 7


def dataset(pixels: np.ndarray, kind: str | None = None, syntax=ExplicitVRLittleEndian, **fields) -> Dataset:
    """A DICOM photograph of uint8 or 16-bit [H, W] or uint8 [H, W, 3], with a patient's data."""
    file = Dataset()
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = syntax
    file.file_meta.MediaStorageSOPClassUID = file.SOPClassUID = SecondaryCaptureImageStorage
    file.file_meta.MediaStorageSOPInstanceUID = file.SOPInstanceUID = "1.2.3"
    file.PatientName, file.PatientID, file.InstitutionName = "Doe^Jane", "4711", "Ward 3"
    file.SamplesPerPixel = pixels.ndim if pixels.ndim == 3 else 1
    file.PhotometricInterpretation = kind or ("RGB" if pixels.ndim == 3 else "MONOCHROME2")
    if pixels.ndim == 3:
        file.PlanarConfiguration = 0
    file.Rows, file.Columns = pixels.shape[:2]
    file.BitsAllocated = file.BitsStored = 8 * pixels.dtype.itemsize
    file.HighBit = file.BitsStored - 1
    file.PixelRepresentation = int(pixels.dtype.kind == "i")
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    file.PixelData = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    file.PixelData += b"\0" * (len(file.PixelData) % 2)
    file["PixelData"].VR = "OW" if pixels.dtype.itemsize == 2 else "OB"
    for name, value in fields.items():
        setattr(file, name, value)
    return file


def saved(file: Dataset) -> bytes:
    buffer = io.BytesIO()
    file.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def shown(pixels: np.ndarray, kind: str | None = None, **fields) -> np.ndarray:
    return to_rgb(decode(saved(dataset(pixels, kind, **fields))))


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_rgb_is_read_as_it_is(tmp_path, syntax):
    path = tmp_path / "photo"  # the content decides, not the name
    path.write_bytes(saved(dataset(PHOTO, syntax=syntax)))
    np.testing.assert_array_equal(read_image(path), PHOTO)
    assert image_size(path) == (7, 5)
    upload = read_upload(path)
    assert upload.kind == "photo"
    np.testing.assert_array_equal(upload.photo, PHOTO)


def test_colours_by_plane():
    planes = np.ascontiguousarray(PHOTO.transpose(2, 0, 1)).tobytes()
    np.testing.assert_array_equal(
        shown(PHOTO, PlanarConfiguration=1, PixelData=planes + b"\0" * (len(planes) % 2)), PHOTO
    )


def test_ybr_becomes_rgb():
    ybr = np.array(Image.fromarray(PHOTO).convert("YCbCr"))
    assert np.abs(shown(ybr, "YBR_FULL").astype(int) - PHOTO).max() <= 2  # both conversions round


def test_palette():
    table = np.random.default_rng(0).integers(0, 256, (3, 256)).astype(np.uint16) << 8
    fields = {}
    for colour, values in zip(("Red", "Green", "Blue"), table, strict=True):
        fields[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        fields[f"{colour}PaletteColorLookupTableData"] = values.astype("<u2").tobytes()
    np.testing.assert_array_equal(shown(GREY, "PALETTE COLOR", **fields), (table.T >> 8)[GREY])


def test_monochrome_and_its_inverse():
    np.testing.assert_array_equal(shown(GREY), np.dstack([GREY] * 3))
    np.testing.assert_array_equal(shown(GREY, "MONOCHROME1"), 255 - np.dstack([GREY] * 3))


def test_grey_of_more_bits_follows_the_rule_for_all_files():
    deep = (np.arange(35).reshape(5, 7) * 117).astype(np.uint16)
    np.testing.assert_array_equal(shown(deep)[..., 0], np.rint(deep * (255 / 4095)))
    inverse = shown(deep, "MONOCHROME1", BitsStored=12, HighBit=11)[..., 0]
    np.testing.assert_array_equal(inverse, np.rint(255 - deep * (255 / 4095)))


@pytest.mark.parametrize("kind", ["MONOCHROME2", "MONOCHROME1"])
def test_the_first_window_of_rescaled_values(kind):
    stored = (np.arange(35).reshape(5, 7) * 40).astype(np.int16)
    fields = {"RescaleSlope": 2, "RescaleIntercept": -1024}
    found = shown(stored, kind, **fields, WindowCenter=[40, 500], WindowWidth=[400, 10])[..., 0]
    values = stored * 2.0 - 1024
    expected = np.clip((values - 39.5) / 399 + 0.5, 0, 1)  # PS3.3 C.11.2.1.2.1
    np.testing.assert_array_equal(found, np.rint(255 * (expected if kind == "MONOCHROME2" else 1 - expected)))


def test_functions_of_windows():
    values = np.array([[0.0, 50.0, 100.0]])
    assert dicom.windowed(values, 50, 100, "LINEAR_EXACT").tolist() == [[0, 0.5, 1]]
    assert dicom.windowed(values, 50, 1).tolist() == [[0, 1, 1]]
    sigmoid = dicom.windowed(values, 50, 100, "SIGMOID")
    np.testing.assert_allclose(sigmoid, [[1 / (1 + np.exp(2)), 0.5, 1 / (1 + np.exp(-2))]])


def test_values_without_white_are_shown_from_the_smallest_to_the_largest():
    stored = np.array([[-1000, 0], [500, 1000]], np.int16)
    assert shown(stored)[..., 0].tolist() == [[0, 128], [191, 255]]
    assert not shown(np.full((2, 2), -5, np.int16)).any()


def test_a_lookup_table_of_brightness():
    table = Dataset()
    table.LUTDescriptor = [256, 0, 8]
    table.LUTData = np.arange(255, -1, -1, dtype="<u2").tobytes()
    np.testing.assert_array_equal(shown(GREY, VOILUTSequence=[table])[..., 0], 255 - GREY)


@pytest.mark.parametrize("width", [0, -3, float("inf")])
def test_a_window_that_is_not_allowed(width):
    with pytest.raises(DecodingError, match="window"):
        shown(GREY, WindowCenter=40, WindowWidth=width)


def test_several_frames_are_refused():
    with pytest.raises(DecodingError, match="several frames"):
        shown(GREY, NumberOfFrames=2)
    assert shown(GREY, NumberOfFrames=1).shape == (5, 7, 3)


def jpeg(pixels: np.ndarray, kind: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **({"quality": 95} if kind == "JPEG" else {}))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("syntax", "kind"), [(JPEGBaseline8Bit, "YBR_FULL_422"), (JPEG2000, "RGB")], ids=["JPEG", "JPEG 2000"]
)
def test_jpeg_is_decoded(syntax, kind):
    smooth = np.dstack([np.add.outer(np.arange(24), np.arange(40)) * 3] * 3).astype(np.uint8)
    data = encapsulate([jpeg(smooth, "JPEG" if syntax == JPEGBaseline8Bit else "JPEG2000")])
    file = dataset(smooth, kind, syntax=syntax, PixelData=data)
    picture = decode(saved(file))
    assert picture.is_lossy
    assert np.abs(to_rgb(picture).astype(int) - smooth).max() <= 6
    file.Rows, file.Columns = 40, 24
    with pytest.raises(DecodingError, match="damaged"):
        decode(saved(file))


def test_run_lengths_are_decoded():
    file = dataset(PHOTO)
    compress(file, RLELossless, encoding_plugin="pydicom")
    np.testing.assert_array_equal(to_rgb(decode(saved(file))), PHOTO)
    file.PixelData = encapsulate([bytes(dicom.MAX_RLE_BYTES + 2)])
    with pytest.raises(DecodingError, match="too large"):
        decode(saved(file))


@pytest.mark.parametrize(
    "syntax", [JPEGLSLossless, "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.102", "1.2.840.10008.1.2.4.203"]
)
def test_other_compressions_are_named_and_refused(syntax):
    file = dataset(PHOTO, syntax=syntax, PixelData=encapsulate([b"nothing of the kind"]))
    with pytest.raises(DecodingError, match=r"compressed in a way.*Save it uncompressed"):
        decode(saved(file))


def test_a_deflated_file_is_not_unpacked():
    plain = saved(dataset(PHOTO))
    file = dataset(PHOTO)
    file.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    head = saved(file)[: plain.index(b"\x08\x00\x16\x00")]
    bomb = zlib.compress(bytes(10**6))[2:-4]
    with pytest.raises(DecodingError, match="deflated"):
        decode(head + bomb)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"SamplesPerPixel": 4}, "neither"),
        ({"BitsAllocated": 32}, "neither"),
        ({"PhotometricInterpretation": "HSV"}, "colours"),
        ({"Rows": 0}, "no picture"),
        ({"Columns": 5000}, "5000 x 5 pixels"),
        ({"PixelData": b"12"}, "damaged"),
    ],
)
def test_what_is_no_photograph(fields, match):
    with pytest.raises(DecodingError, match=match):
        decode(saved(dataset(PHOTO, **fields)), VISITOR)


@pytest.mark.parametrize("rest", [b"", b"\0" * 64, b"\xff" * 64])
def test_a_file_that_only_begins_as_dicom(rest):
    with pytest.raises(DecodingError, match="damaged or incomplete"):
        decode(bytes(128) + b"DICM" + rest)


def test_a_file_without_pixels():
    file = dataset(PHOTO)
    del file.PixelData
    with pytest.raises(DecodingError, match="no picture"):
        decode(saved(file))


def test_nothing_of_the_patient_is_kept(tmp_path):
    picture = decode(saved(dataset(PHOTO)))
    assert picture.info == {}
    assert not picture.image.info
    with pytest.raises(DecodingError) as refusal:
        shown(GREY, NumberOfFrames=3)
    assert not any(word in str(refusal.value) for word in ("Doe", "4711", "Ward"))


def test_a_synthetic_picture_is_not_taken_for_a_photograph(tmp_path):
    path = tmp_path / "a.dcm"
    path.write_bytes(saved(dataset(PHOTO, SyntheticData="YES")))
    with pytest.raises(UploadError, match="synthetic"):
        read_upload(path)


def test_a_number_of_another_length_than_its_kind_is_refused():
    data = saved(dataset(GREY))
    where = data.index(b"\x28\x00\x10\x00US")  # Rows
    with pytest.raises(DecodingError, match="damaged"):
        decode(data[: where + 6] + b"\x01\x00\x05" + data[where + 10 :])


SMALL = saved(dataset(GREY, WindowCenter=40, WindowWidth=400))


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(SMALL) - 1), st.binary(max_size=4), st.booleans())
def test_damaged_files_are_refused_or_read(where, put, cut):
    data = SMALL[:where] + put + (b"" if cut else SMALL[where + len(put) :])
    try:
        assert to_rgb(decode(data, VISITOR)).dtype == np.uint8
    except DecodingError as error:
        assert len(str(error)) > 20
