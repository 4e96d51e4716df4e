"""Burned-in text in a study's real images. It may name a patient, and it tells raters which images are real.

The files of real methods are looked at when a study is made. What is found is kept with the study, which opens to raters only once
an administrator has accepted it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from sqlalchemy import Connection, select

from siamese.records.burned_in_text import Box, find_text
from siamese.study.storage.images import read_study_image
from siamese.study.storage.schema import images, items, studies

Texts = Mapping[tuple[str, str], tuple[Box, ...]]
"""Boxes of text by method and mask id; of an image without text no boxes, of one that was not looked at no entry."""
MAX_NAMED = 50
THUMBNAIL = 320
"""Longer side in pixels at most."""
FRAME = (0, 0, 255)
"""Colour of a box, BGR."""


@dataclass(frozen=True)
class TextImage:
    """A stored image with burned-in text."""

    item: str
    method: str
    group: str
    """Mask id."""
    boxes: tuple[Box, ...]

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.method}/{self.group}"


def find_texts(files: Mapping[str, Mapping[str, Path]]) -> Texts:
    """Look at all of ``files``, by method and mask id; about half a second each.

    Raises:
        UnusableImageError: a file cannot be read.
    """
    return {
        (method, mask): find_text(read_study_image(file))
        for method, masks in files.items()
        for mask, file in masks.items()
    }


def images_with_text(found: Texts) -> list[str]:
    """Method and mask id of the images with text, in order."""
    return sorted(f"{method}/{mask}" for (method, mask), boxes in found.items() if boxes)


def text_warning(names: Sequence[str], outcome: str) -> str:
    """What was found in the images of ``names``, what came of it and what to do."""
    more = [f"... and {len(names) - MAX_NAMED} more."] if len(names) > MAX_NAMED else []
    return "\n".join(
        [
            f"{outcome} Text is burned into {len(names)} of the real images. It may name a patient, and it tells raters what is real:",
            *(f"- {name}" for name in names[:MAX_NAMED]),
            *more,
            "Crop the images or cover the text and make the study from those; or look at each image and accept its text "
            "(on the command line: --accept-text).",
        ]
    )


def to_json(boxes: tuple[Box, ...] | None) -> str | None:
    """What is stored of an image's boxes; None if it was not looked at."""
    return None if boxes is None else json.dumps([[round(x, 4) for x in box] for box in boxes])


def text_images(connection: Connection, study: str) -> list[TextImage]:
    """The study's images with burned-in text, by method and mask id."""
    query = (
        select(items.c.id, items.c.method, items.c.group_name, items.c.text_boxes)
        .order_by(items.c.method, items.c.group_name)
        .where(items.c.study_id == study, items.c.text_boxes.is_not(None), items.c.text_boxes != "[]")
    )
    return [
        TextImage(r.id, r.method, r.group_name, tuple(Box(*box) for box in json.loads(r.text_boxes)))
        for r in connection.execute(query)
    ]


def unaccepted(connection: Connection, study: str) -> list[str]:
    """Names of the study's images with burned-in text; none once an administrator has accepted them."""
    accepted = connection.execute(
        select(studies.c.text_accepted_at).where(studies.c.id == study)
    ).scalar_one()
    return [] if accepted else [one.name for one in text_images(connection, study)]


def thumbnail(connection: Connection, study: str, item: str) -> bytes | None:
    """JPEG file of an image with burned-in text, small and with its boxes; None if the study has no such image."""
    found = {one.item: one for one in text_images(connection, study)}.get(item)
    if found is None:
        return None
    data = connection.execute(select(images.c.data).where(images.c.item_id == item)).scalar_one()
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None  # it was encoded when the study was made
    factor = min(1.0, THUMBNAIL / max(image.shape[:2]))
    image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    height, width = image.shape[:2]
    for left, top, right, bottom in found.boxes:
        cv2.rectangle(
            image,
            (int(left * width), int(top * height)),
            (int(right * width), int(bottom * height)),
            FRAME,
            1,
        )
    return cv2.imencode(".jpg", image)[1].tobytes()
