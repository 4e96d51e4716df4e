"""Export of a visitor's own photograph with its corrected mask, for annotation tools that read COCO (Lin et al. 2014, arXiv:1405.0312).

Free of torch. Two documents say the same: polygons, which annotators can drag, and run lengths, which are exact.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import cv2
import numpy as np
from PIL import Image

from siamese import VERSION
from siamese.files.listing import IMAGE_SUFFIXES
from siamese.files.names import path_parts, safe_name
from siamese.masks.core import check_mask
from siamese.masks.editing import fill_holes

SMALL_AREA = 1024
"""Pixels; outlines of smaller parts are kept exactly, so that simplifying cannot change a small lesion noticeably."""
EXACT_TOLERANCE, TOLERANCE = 0.26, 0.5
"""Pixels by which an outline may be moved to save corners. The first only undoes cut corners: the nearest pixel centre is 0.5 away."""
PHOTO_SUFFIXES = (*IMAGE_SUFFIXES, ".mpo")

README = """Annotation of a photograph, exported by Siamese-Diffusion Studio {version}.

images/{name}.png         The photograph. It is the visitor's own, uploaded to the studio. It is NOT synthetic.
                          Pixels at their own size; camera metadata is not kept.
masks/{name}.png          The corrected mask at the same size: 255 = lesion, 0 = background.
annotation_polygon.json   COCO, polygons (iscrowd 0). Every separate part is one outer ring. Polygons cannot hold holes:
                          holes in the mask are filled here, and area is that of the filled shape.
annotation_rle.json       COCO, uncompressed run lengths by column (iscrowd 1). Exactly the mask, with its holes.

Import one of the two JSON files, not both. If the mask is empty, both list the image without annotations.
Research use. Not for diagnosis.
"""


def coco_annotation(
    mask: np.ndarray,
    file_name: str,
    category: str,
    image_id: int = 1,
    encoding: Literal["polygon", "rle"] = "polygon",
) -> dict[str, Any]:
    """A COCO object-detection document of one image and its mask, of plain values for JSON.

    The whole mask is one annotation. As COCO prescribes, polygons go with ``iscrowd`` 0 and run lengths, as a list of counts, with 1;
    CVAT imports the first as polygons and the second as a mask. Polygons cannot hold holes: they are filled, and ``area`` and
    ``bbox`` are those of the filled shape. Coordinates are pixel edges: the image spans 0..W and 0..H.

    Args:
        mask: uint8 [H, W], lesion if > 127. An empty one gives no annotation, which is COCO's image without objects.
        file_name: name of the image file for the tool to find it by.
        category: name of what the mask shows, such as "polyp".

    Raises:
        ValueError: another shape or type, no name, no category, or an unknown encoding.
    """
    if encoding not in ("polygon", "rle"):
        raise ValueError(f'encoding must be "polygon" or "rle", not {encoding!r}.')
    if not file_name or not category:
        raise ValueError("file_name and category must not be empty.")
    mask = check_mask(mask)
    height, width = mask.shape
    if encoding == "polygon" and mask.any():
        mask = fill_holes(mask)
    annotations = []
    if mask.any():
        x, y, w, h = cv2.boundingRect(mask)
        segmentation = polygons(mask) if encoding == "polygon" else run_lengths(mask)
        annotations.append(
            {
                "id": 1,
                "image_id": image_id,
                "category_id": 1,
                "segmentation": segmentation,
                "area": float(np.count_nonzero(mask)),
                "bbox": [float(v) for v in (x, y, w, h)],
                "iscrowd": int(encoding == "rle"),
            }
        )
    return {
        "info": {
            "description": "Photograph annotated with Siamese-Diffusion Studio; the photograph is not synthetic.",
            "version": VERSION,
        },
        "licenses": [],
        "images": [{"id": image_id, "file_name": file_name, "height": height, "width": width}],
        "annotations": annotations,
        "categories": [{"id": 1, "name": category, "supercategory": ""}],
    }


def polygons(mask: np.ndarray) -> list[list[float]]:
    """Outer rings [x1, y1, x2, y2, ...] of the parts of uint8 [H, W] of 0 / 255, at least three corners each.

    The outline runs along the pixels' edges. Parts that touch at a corner are one ring.
    """
    height, width = mask.shape
    # Twice as fine, with the edges between the pixels as rows and columns of their own: a pixel is its centre and its whole rim.
    fine = np.zeros((2 * height + 1, 2 * width + 1), np.uint8)
    fine[1::2, 1::2] = mask
    contours, _ = cv2.findContours(
        cv2.dilate(fine, np.ones((3, 3), np.uint8)), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    )
    rings = []
    for contour in contours:
        tolerance = EXACT_TOLERANCE if cv2.contourArea(contour) / 4 < SMALL_AREA else TOLERANCE
        rings.append((cv2.approxPolyDP(contour, 2 * tolerance, True).ravel() / 2).tolist())
    return rings


def run_lengths(mask: np.ndarray) -> dict[str, Any]:
    """COCO's uncompressed run lengths of uint8 [H, W] of 0 / 255: column by column, background first.

    pycocotools writes the compressed form alone, which fewer tools read.
    """
    flat = mask.ravel(order="F") > 0
    ends = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff(np.concatenate([[0], ends, [flat.size]])).tolist()
    return {"size": list(mask.shape), "counts": [0, *counts] if flat[0] else counts}


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
