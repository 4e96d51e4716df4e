"""Export of a visitor's own photograph with its corrected mask, for annotation tools that read COCO (Lin et al. 2014, arXiv:1405.0312).

Free of torch. Each lesion is an annotation of its own. Two documents say the same: polygons, which annotators can drag, and run lengths.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from PIL import Image

from siamese import VERSION
from siamese.files.listing import IMAGE_SUFFIXES
from siamese.files.names import path_parts, safe_name
from siamese.masks.core import check_mask
from siamese.masks.outlines import lesions, outer_ring, run_lengths

Encoding = Literal["polygon", "rle"]
LESIONS_PER_IMAGE = 2**20
"""Ids that an image's annotations have to themselves; with 31 bits of the image's id they stay below 2^53, which JSON holds exactly."""
PHOTO_SUFFIXES = (*IMAGE_SUFFIXES, ".mpo")

README = """Annotation of a photograph, exported by Siamese-Diffusion Studio {version}.

images/{name}.png         The photograph. It is the visitor's own, uploaded to the studio. It is NOT synthetic.
                          Pixels at their own size; camera metadata is not kept.
masks/{name}.png          The corrected mask at the same size: 255 = lesion, 0 = background.
annotation_polygon.json   COCO, one annotation for each lesion with its own box: a polygon, or run lengths if it has a hole.
annotation_rle.json       COCO, the same lesions, all as uncompressed run lengths by column.

Both say exactly the mask. Ids come from the file's name, so that documents of several photographs can be joined.
Import one of the two JSON files, not both. If the mask is empty, both list the image without annotations.
Research use. Not for diagnosis.
"""


def coco_annotation(
    mask: np.ndarray,
    file_name: str,
    category: str,
    image_id: int | None = None,
    encoding: Encoding = "polygon",
) -> dict[str, Any]:
    """A COCO object-detection document of one image and its lesions, of plain values for JSON; see ``lesion_annotations``.

    Args:
        mask: uint8 [H, W], lesion if > 127. An empty one gives no annotation, which is COCO's image without objects.
        file_name: name of the image file for the tool to find it by.
        category: name of what the mask shows, such as "polyp".
        image_id: None for ``stable_id`` of the file name, so that documents of several photographs can be joined.

    Raises:
        ValueError: another shape or type, no name, no category, or an unknown encoding.
    """
    if not file_name or not category:
        raise ValueError("file_name and category must not be empty.")
    mask = check_mask(mask)
    height, width = mask.shape
    if image_id is None:
        image_id = stable_id(file_name)
    return {
        "info": {
            "description": "Photograph annotated with Siamese-Diffusion Studio; the photograph is not synthetic.",
            "version": VERSION,
        },
        "licenses": [],
        "images": [{"id": image_id, "file_name": file_name, "height": height, "width": width}],
        "annotations": lesion_annotations(
            mask, image_id=image_id, category_id=1, first_id=image_id * LESIONS_PER_IMAGE, encoding=encoding
        ),
        "categories": [{"id": 1, "name": category, "supercategory": ""}],
    }


def lesion_annotations(
    mask: np.ndarray, image_id: int, category_id: int, first_id: int, encoding: Encoding = "polygon"
) -> list[dict[str, Any]]:
    """An annotation for each lesion of ``mask`` uint8 [H, W] (``siamese.masks.outlines.lesions``), with ids from ``first_id`` on.

    Each has the lesion's own box and its area in pixels. A lesion without a hole is one polygon, which annotators can drag; one with
    a hole is run lengths, because COCO's polygons cannot hold holes. Both give the lesion bit for bit. ``iscrowd`` is 0 for both: each
    is a single object, and training programs pass over crowds. Coordinates are pixel edges: the image spans 0..W and 0..H.

    Args:
        encoding: "rle" writes run lengths for all lesions.

    Raises:
        ValueError: another shape or type, or an unknown encoding.
    """
    if encoding not in ("polygon", "rle"):
        raise ValueError(f'encoding must be "polygon" or "rle", not {encoding!r}.')
    annotations = []
    for number, lesion in enumerate(lesions(mask)):
        segmentation = (
            run_length_object(lesion.on(mask.shape))
            if encoding == "rle" or lesion.has_hole()
            else [outer_ring(lesion).astype(float).ravel().tolist()]
        )
        annotations.append(
            {
                "id": first_id + number,
                "image_id": image_id,
                "category_id": category_id,
                "segmentation": segmentation,
                "area": float(lesion.area),
                "bbox": [float(v) for v in lesion.box],
                "iscrowd": 0,
            }
        )
    return annotations


def run_length_object(mask: np.ndarray) -> dict[str, Any]:
    """COCO's uncompressed run lengths of uint8 [H, W] of 0 / 255: column by column, background first.

    pycocotools writes the compressed form alone, which fewer tools read.
    """
    return {"size": list(mask.shape), "counts": run_lengths(mask, "F")}


def stable_id(name: str) -> int:
    """The id 1..2^31 - 1 of the image called ``name``: the same in every export, and very likely another one for another name."""
    return zlib.crc32(name.encode()) & 0x7FFFFFFF or 1


def name_of_photo(name: str) -> str:
    """What remains of the name of an uploaded photograph as a file name: neither folder nor image suffix, see ``safe_name``."""
    file = PurePosixPath(path_parts(name.replace("\0", "").rstrip("/\\"))[-1])
    return safe_name(file.stem if file.suffix.lower() in PHOTO_SUFFIXES else file.name, fallback="photo")


def annotation_zip(
    photo: np.ndarray, mask: np.ndarray, path: str | Path, name: str, category: str = "lesion"
) -> Path:
    """Write photograph, mask and both COCO documents as a ZIP file to ``path``, and return it. ``README`` lists what is inside.

    Args:
        photo: uint8 [H, W, 3] RGB, the visitor's own; written at its own size without metadata.
        mask: uint8 [H, W], lesion if > 127.
        path: the ZIP file; its folder must exist. An existing file is replaced.
        name: what the visitor calls the photograph; see ``name_of_photo`` for what remains of it.
        category: name of what the mask shows, such as "polyp".

    Raises:
        ValueError: photograph and mask differ in size, or are of another shape or type.
        OSError: the file cannot be written.
    """
    if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3:
        raise ValueError(f"a photograph must be uint8 [H, W, 3], not {photo.dtype} {photo.shape}.")
    mask = check_mask(mask)
    if photo.shape[:2] != mask.shape:
        raise ValueError(
            f"photograph {photo.shape[:2]} and mask {mask.shape} differ in size; resize the mask to the photograph first."
        )
    name, path = name_of_photo(name), Path(path)
    files = {
        f"images/{name}.png": png(photo),
        f"masks/{name}.png": png(mask),
        "README.txt": README.format(version=VERSION, name=name).encode(),
    }
    for encoding in ("polygon", "rle"):
        document = coco_annotation(mask, f"{name}.png", category, encoding=encoding)
        files[f"annotation_{encoding}.json"] = json.dumps(document).encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file, content in files.items():
            archive.writestr(file, content, zipfile.ZIP_STORED if file.endswith(".png") else None)
    return path


def png(pixels: np.ndarray) -> bytes:
    """An array as a PNG file without metadata."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
