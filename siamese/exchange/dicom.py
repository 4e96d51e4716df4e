"""DICOM: each image as a Secondary Capture, each mask as a Segmentation (SEG) that refers to it. Exact in both directions.

Layout
  images/NAME.dcm          Secondary Capture Image, RGB, uncompressed
  segmentations/NAME.dcm   Segmentation, binary, one segment, labelled with the category

A synthetic image is marked as such in Synthetic Data (0008,001C), in the patient's name and id, and in Image Comments with its recipe. Of
another image nothing but the pixels is written: neither a patient nor a device nor a time of examination. highdicom (MIT) writes both
objects, pydicom (MIT) reads them.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from siamese import VERSION
from siamese.exchange.item import AnnotatedImage, ExchangeError, unique
from siamese.exchange.source import Source, annotated
from siamese.exchange.target import Put
from siamese.files.decoding import DECODER_ERRORS
from siamese.files.dicom import UNCOMPRESSED, DicomError, read_elements, refusing_damage
from siamese.records.provenance import FRAME_NOTICE, NOTICE

if TYPE_CHECKING:
    from highdicom.sc import SCImage
    from highdicom.seg import Segmentation
    from pydicom.dataset import Dataset

SUFFIX, MAKER, STUDIO = ".dcm", "Siamese-Diffusion", "Siamese-Diffusion Studio"
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
METHOD = "Only the pixels were taken over; text in them is not removed"
_IMAGE_TAGS = ("SOPClassUID", "SOPInstanceUID", "SyntheticData", "ImageComments")
_SEGMENTATION_TAGS = (
    "Rows",
    "Columns",
    "NumberOfFrames",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PixelData",
    "SegmentationType",
    "SegmentSequence",
    "SourceImageSequence",
    "ReferencedSeriesSequence",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)


def write(items: Iterable[AnnotatedImage], put: Put) -> int:
    """Write ``items`` and return how many they were; see the module's text.

    Raises:
        ExchangeError: a name comes twice.
    """
    count = 0
    for item in unique(items):
        count += 1
        image = secondary_capture(item)
        put(f"images/{item.name}{SUFFIX}", _bytes(image))
        put(f"segmentations/{item.name}{SUFFIX}", _bytes(segmentation(item, image)))
    return count


def fits(source: Source) -> bool:
    """Whether this may be a data set of the format, as far as names tell."""
    return bool(source.ending(SUFFIX))


def read(source: Source) -> Iterator[AnnotatedImage]:
    """The photographs in ``source`` to which a segmentation refers; both are found by what they are, not by their folders.

    Raises:
        ExchangeError: there is none. Faults of single files are added to ``source``.
    """
    images: dict[str, tuple[str, dict[str, Any]]] = {}
    segmentations: list[str] = []
    for name in source.ending(SUFFIX):
        with source.item(name):
            data = source.read(name)
            with _refusing_damage():
                file = read_elements(data, _IMAGE_TAGS)
                if file.get("SOPClassUID") == SEGMENTATION:
                    segmentations.append(name)
                else:
                    about = {"synthetic": file.get("SyntheticData") == "YES", "recipe": _recipe(file)}
                    images[str(file.get("SOPInstanceUID"))] = name, about
    if not images and not source.faults:
        raise ExchangeError("there are no DICOM photographs (files .dcm).")
    parts: dict[str, list[tuple[str, np.ndarray]]] = {}
    for name in segmentations:
        with source.item(name):
            for image, category, mask in _segments(source, name):
                if image in images:
                    parts.setdefault(image, []).append((category, mask))
    for uid, (name, about) in images.items():
        with source.item(name):
            if uid not in parts:
                raise ExchangeError("has no segmentation (SEG) that refers to it; add its file")
            found = [category for category, mask in parts[uid] if mask.any()]
            category = source.wanted(found or [category for category, _ in parts[uid]][:1])
            picture = source.picture(name)
            mask = np.zeros(picture.image.size[::-1], np.uint8)
            for label, part in parts[uid]:
                if part.shape != mask.shape:
                    raise ExchangeError("has a segmentation of another size")
                if label == category:
                    mask |= part
            yield annotated(source, name, mask, picture, about=about, category=category)


def secondary_capture(item: AnnotatedImage) -> SCImage:
    """The image as a Secondary Capture Image object (PS3.3 A.8.1)."""
    from highdicom.sc import SCImage

    file = SCImage(
        pixel_array=item.image,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "P"),  # highdicom wants one; it is unknown, and taken out below
        study_instance_uid=_uid(),
        series_instance_uid=_uid(),
        series_number=1,
        sop_instance_uid=_uid(),
        instance_number=1,
        manufacturer=MAKER,
    )
    file.PatientOrientation = None  # pyright: ignore[reportAttributeAccessIssue]  # empty is allowed
    file.SpecificCharacterSet = "ISO_IR 192"
    file.ManufacturerModelName, file.SoftwareVersions = STUDIO, VERSION
    file.SyntheticData = "YES" if item.synthetic else "NO"
    if item.synthetic:
        file.PatientName, file.PatientID = "SYNTHETIC^IMAGE", "SYNTHETIC"
        file.SeriesDescription = "Synthetic image. Not for diagnosis."
        file.ImageComments = "\n".join([item.notice, *([item.recipe] if item.recipe else [])])
    else:
        file.PatientIdentityRemoved, file.DeidentificationMethod = "YES", METHOD
    return file


def segmentation(item: AnnotatedImage, image: SCImage) -> Segmentation:
    """The mask as a Segmentation object (PS3.3 A.51) of ``image``; an empty one has an empty frame."""
    from highdicom.seg import Segmentation, SegmentDescription
    from pydicom.sr.codedict import codes

    segment = SegmentDescription(
        segment_number=1,
        segment_label=item.category,
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Lesion,
        algorithm_type="MANUAL",
    )
    file = Segmentation(
        source_images=[image],
        pixel_array=(item.mask[None] > 0).astype(np.uint8),
        segmentation_type="BINARY",
        segment_descriptions=[segment],
        series_instance_uid=_uid(),
        series_number=2,
        sop_instance_uid=_uid(),
        instance_number=1,
        manufacturer=MAKER,
        manufacturer_model_name=STUDIO,
        software_versions=VERSION,
        device_serial_number="0",
        omit_empty_frames=False,
    )
    file.SpecificCharacterSet = "ISO_IR 192"
    file.SyntheticData = image.SyntheticData
    return file


def _segments(source: Source, name: str) -> list[tuple[str, str, np.ndarray]]:
    """For each frame of a segmentation: the image's instance UID, the segment's label, and uint8 [H, W] of 0 / 255."""
    data, found, limits = source.read(name), [], source.limits
    with _refusing_damage():
        file = read_elements(data, _SEGMENTATION_TAGS)
        frames, size = int(file.get("NumberOfFrames") or 1), (file.get("Rows"), file.get("Columns"))
        if file.get("SegmentationType") != "BINARY" or file.get("BitsAllocated") != 1:
            raise ExchangeError("is not a binary segmentation; export it as a binary one")
        if file.file_meta.TransferSyntaxUID not in UNCOMPRESSED:
            raise ExchangeError("is compressed; save it uncompressed (Explicit VR Little Endian)")
        if not all(isinstance(side, int) and 0 < side <= limits.picture.max_side for side in size):
            raise ExchangeError(f"has no size, or more than {limits.picture.max_side} pixels on a side")
        if frames > limits.images or frames * size[0] * size[1] > limits.pixels:
            raise ExchangeError("has too many frames; split it")
        pixels = file.pixel_array.reshape(frames, *size)
        labels = {int(s.SegmentNumber): str(s.SegmentLabel) for s in file.SegmentSequence}
        shared = (file.get("SharedFunctionalGroupsSequence") or [None])[0]
        for frame, groups in zip(pixels, file.PerFrameFunctionalGroupsSequence, strict=True):
            number = _first((groups, shared), "SegmentIdentificationSequence").ReferencedSegmentNumber
            mask = np.where(frame > 0, 255, 0).astype(np.uint8)
            found.append((_referenced(file, groups, shared), labels[int(number)], mask))
    return found


def _referenced(file: Dataset, groups: Dataset, shared: Dataset | None) -> str:
    """Instance UID of the image that a frame belongs to."""
    for place in (groups, shared):
        if place is not None and place.get("DerivationImageSequence"):
            return str(place.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID)
    instances = [i for s in file.get("ReferencedSeriesSequence") or [] for i in s.ReferencedInstanceSequence]
    if len(instances) != 1:
        raise ExchangeError("does not say to which image its frames belong")
    return str(instances[0].ReferencedSOPInstanceUID)


def _first(places: tuple[Dataset | None, ...], keyword: str) -> Dataset:
    """The first item of a sequence in the first of ``places`` that has it."""
    for place in places:
        if place is not None and place.get(keyword):
            return place[keyword].value[0]
    raise ExchangeError("does not say which segment its frames show")


def _recipe(file: Dataset) -> str | None:
    text = str(file.get("ImageComments") or "")
    for notice in (NOTICE, FRAME_NOTICE):
        if text.startswith(notice):
            return text.removeprefix(notice).replace("\r\n", "\n").strip() or None
    return None


@contextmanager
def _refusing_damage() -> Iterator[None]:
    """ExchangeError for whatever the reading of a damaged DICOM file raises within."""
    try:
        with refusing_damage():
            yield
    except ExchangeError:
        raise
    except DicomError as error:
        raise ExchangeError(str(error)) from error
    except DECODER_ERRORS as error:
        raise ExchangeError("is damaged, or not as DICOM defines it; export it again") from error


def _bytes(file: Dataset) -> bytes:
    buffer = io.BytesIO()
    file.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _uid() -> str:
    from pydicom.uid import generate_uid

    return generate_uid(prefix=None)  # from a random UUID, so that nothing of the machine is in it
