"""DICOM: highdicom and pydicom read what was written, nothing of a patient is in it, and other programs' segmentations are read."""

from __future__ import annotations

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.sr.codedict import codes

from siamese.exchange.dicom import secondary_capture
from siamese.exchange.formats import read, write_folder
from siamese.exchange.item import AnnotatedImage, ExchangeError
from siamese.records.uploads import UploadError, read_upload
from tests.exchange.samples import HOLED, ITEMS, RECIPE, TWO, disc, photo

MAKER = {
    "manufacturer": "A",
    "manufacturer_model_name": "B",
    "software_versions": "1",
    "device_serial_number": "1",
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dicom")
    write_folder(ITEMS, "dicom", folder)
    return folder


def test_highdicom_reads_every_mask_bit_for_bit(written):
    for item in ITEMS:
        image = pydicom.dcmread(written / "images" / f"{item.name}.dcm")
        np.testing.assert_array_equal(image.pixel_array.reshape(item.image.shape), item.image)
        segmentation = hd.seg.segread(written / "segmentations" / f"{item.name}.dcm")
        assert (
            segmentation.segment_labels == [item.category]
            if hasattr(segmentation, "segment_labels")
            else True
        )
        found = segmentation.get_pixels_by_source_instance([image.SOPInstanceUID])
        np.testing.assert_array_equal(found[0, ..., 0] * 255, item.mask)
        assert segmentation.get_segment_description(1).segment_label == item.category
        assert segmentation.StudyInstanceUID == image.StudyInstanceUID
        assert segmentation.SeriesInstanceUID != image.SeriesInstanceUID


def test_synthetic_images_are_marked_and_others_are_not(written):
    for item in ITEMS:
        image = pydicom.dcmread(written / "images" / f"{item.name}.dcm")
        assert image.SOPClassUID == pydicom.uid.SecondaryCaptureImageStorage
        assert image.SyntheticData == ("YES" if item.synthetic else "NO")
        assert image.ImageType[0] == "DERIVED"
        assert str(image.PatientName or "").startswith("SYNTHETIC") == item.synthetic
        assert (image.get("PatientIdentityRemoved") == "YES") != item.synthetic
        if item.recipe == RECIPE:
            assert "Not for diagnosis" in image.ImageComments
            assert image.ImageComments.endswith(RECIPE)


def test_the_studio_refuses_its_own_synthetic_dicom_as_a_photo_and_opens_the_others(written):
    with pytest.raises(UploadError, match="synthetic"):
        read_upload(written / "images" / "holed.dcm")
    np.testing.assert_array_equal(read_upload(written / "images" / "two.dcm").photo, ITEMS[0].image)


def test_uids_are_unique(written):
    uids = [pydicom.dcmread(path).SOPInstanceUID for path in written.rglob("*.dcm")]
    assert len(set(uids)) == len(uids) == 2 * len(ITEMS)


def foreign(folder, masks, labels, name="b.dcm", kind="BINARY", **changes):
    """A photograph with a patient's data, and a segmentation with several segments in any folder."""
    image = secondary_capture(ITEMS[0])
    image.PatientName, image.PatientID, image.StudyDate = "Doe^Jane", "KJ-4711", "20200101"
    del image.SyntheticData
    (folder / "x").mkdir()
    image.save_as(folder / "x" / "a.dcm", enforce_file_format=True)
    segments = [
        hd.seg.SegmentDescription(i, label, codes.SCT.Tissue, codes.SCT.Lesion, "MANUAL")
        for i, label in enumerate(labels, start=1)
    ]
    file = hd.seg.Segmentation(
        source_images=[image],
        pixel_array=(np.stack(masks, -1)[None] > 0).astype(np.uint8),
        segmentation_type=kind,
        segment_descriptions=segments,
        series_instance_uid="1.2.3",
        series_number=1,
        sop_instance_uid="1.2.4",
        instance_number=1,
        **MAKER,
    )
    for keyword, value in changes.items():
        setattr(file, keyword, value)
    file.save_as(folder / name, enforce_file_format=True)
    return folder


def test_segmentations_of_other_programs_are_read(tmp_path):
    foreign(tmp_path, [HOLED, disc()], ["polyp", "polyp"])
    [item] = read(tmp_path)
    np.testing.assert_array_equal(item.mask, HOLED | disc())
    assert (item.name, item.category, item.synthetic, item.recipe) == ("a", "polyp", False, None)
    write_folder([item], "dicom", tmp_path / "again")
    for path in (tmp_path / "again").rglob("*.dcm"):
        assert not any(word in path.read_bytes() for word in (b"Doe", b"KJ-4711", b"20200101"))


def test_of_several_segments_one_must_be_chosen(tmp_path):
    foreign(tmp_path, [TWO, disc()], ["polyp", "tool"])
    with pytest.raises(ExchangeError, match=r"a\.dcm: has annotations of several categories"):
        read(tmp_path)
    [item] = read(tmp_path, category="tool")
    np.testing.assert_array_equal(item.mask, disc())


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"SegmentationType": "FRACTIONAL"}, "not a binary segmentation"),
        ({"Rows": 5000}, "4096 pixels"),
        ({"NumberOfFrames": 100_000}, "too many frames"),
        ({"NumberOfFrames": 2}, "damaged"),
        ({"PixelData": b"12"}, "damaged"),
        ({"SegmentSequence": []}, "damaged"),
        ({"PerFrameFunctionalGroupsSequence": []}, "damaged"),
    ],
)
def test_damaged_segmentations_are_refused_by_name(tmp_path, changes, match):
    with pytest.raises(ExchangeError, match=rf"b\.dcm: .*{match}"):
        read(foreign(tmp_path, [TWO], ["polyp"], **changes))


def test_a_photograph_without_segmentation_is_not_one_without_lesion(tmp_path):
    foreign(tmp_path, [TWO], ["polyp"])
    (tmp_path / "b.dcm").unlink()
    with pytest.raises(ExchangeError, match=r"a\.dcm: has no segmentation \(SEG\)"):
        read(tmp_path)
    (tmp_path / "c.dcm").write_bytes(b"text")
    with pytest.raises(ExchangeError, match=r"c\.dcm: This is not a DICOM file"):
        read(tmp_path)


def test_names_of_categories_in_any_script(tmp_path):
    item = AnnotatedImage(photo(0), TWO, "病変", "ポリープ é", synthetic=True, recipe="プロンプト")
    write_folder([item], "dicom", tmp_path)
    [found] = read(tmp_path)
    assert (found.name, found.category, found.recipe) == (item.name, item.category, item.recipe)
