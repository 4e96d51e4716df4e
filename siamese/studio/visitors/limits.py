"""Limits of what a request may hold, checked before anything in it is opened or decoded."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from PIL import Image

from siamese.files.decoding import DECODER_ERRORS, FORMATS
from siamese.masks.packed import MAX_SIDE
from siamese.studio.visitors.refusal import RefusedError
from siamese.studio.visitors.upload_folder import TemporaryFolder, use
from siamese.web.inputs import parse_json

MAX_UPLOAD_BYTES = 25 * 2**20
"""Maximum bytes of an uploaded file: a little above the limit of ``siamese.records.uploads``, whose message is friendlier."""
MAX_BODY_BYTES = 4 * 2**20
"""Maximum bytes of a request in JSON."""
UPLOADS_EACH, FILES_ALL = 100 * 2**20, 2 * 2**30
"""Maximum bytes of one visitor's uploads, and of the uploads and results of all."""
CANVAS_SIDE = MAX_SIDE
"""Longest side in pixels of a picture in an event."""
MB = 2**20

NOT_YOURS = "This file is not one that you uploaded or were shown here. Upload it again."
FULL = "The studio's temporary storage is full. The server deletes files an hour after their last use; try again in a few minutes."
TOO_MUCH = (
    f"You have uploaded {UPLOADS_EACH // MB} MB, which is the maximum for one visitor. The server deletes your uploads an hour after "
    "their last use; try again later."
)
TOO_LARGE = f"The file is larger than {MAX_UPLOAD_BYTES // MB} MB. Make it smaller and upload it again."
DAMAGED = "The upload is damaged. Upload the file again."
STRANGE = "The request is not one that the page sends. Reload the page and try again."
DISK_FULL = "The server's disk is full, so nothing was stored. Try again later."


def check_room(folder: TemporaryFolder) -> None:
    """Raise RefusedError if the files of all visitors have reached their limit."""
    if folder.total() >= FILES_ALL:
        raise RefusedError(507, FULL)


def read_json(body: bytes) -> dict[str, Any]:
    """The JSON object in a request's body.

    Raises:
        siamese.web.inputs.UnreadableError: it cannot be read, see ``parse_json`` there.
        RefusedError: it is not an object.
    """
    value = parse_json(body)
    if not isinstance(value, dict):
        raise RefusedError(400, "The request is not one that the page sends. Reload the page and try again.")
    return value


def check_files(value: Any, visitor: str, folder: TemporaryFolder) -> None:
    """Raise RefusedError if ``value`` names a file that is not the visitor's own, or at a URL. Opens no file."""
    for part in _parts(value):
        if isinstance(part, dict) and isinstance(path := part.get("path"), str):
            if not folder.owns(visitor, path) or not _is_address_of(part.get("url"), path):
                raise RefusedError(403, NOT_YOURS)
            use(path)


def check_pictures(value: Any) -> None:
    """Raise RefusedError if a picture in ``value``, a file or a data URL, is larger than the canvas. Call ``check_files`` before."""
    for part in _parts(value):
        if isinstance(part, dict) and isinstance(path := part.get("path"), str):
            check_picture(path)
        elif isinstance(part, str) and part[:11].lower() == "data:image/":
            try:
                check_picture(base64.b64decode(part.partition(",")[2], validate=False))
            except binascii.Error:
                raise RefusedError(
                    400, "The picture in the request is damaged. Reload the page and try again."
                ) from None


def check_picture(picture: str | bytes) -> None:
    """Raise RefusedError if the header of an image, a path or bytes, says that it is larger than the canvas. Decodes no pixels."""
    try:
        with Image.open(
            io.BytesIO(picture) if isinstance(picture, bytes) else picture, formats=FORMATS
        ) as image:
            width, height = image.size
    except Image.DecompressionBombError:
        width = height = None
    except DECODER_ERRORS:
        return  # not an image: its reader reports that
    if width is None or height is None or max(width, height) > CANVAS_SIDE:
        has = "has too many pixels" if width is None else f"is {width} x {height} pixels"
        raise RefusedError(
            413,
            f"The picture {has}; the canvas takes at most {CANVAS_SIDE} on a side. Draw on a smaller canvas.",
        )


def _is_address_of(url: Any, path: str) -> bool:
    """Whether ``url`` is empty, the browser's own, or the address at which the server serves ``path``."""
    if url is None or url == "":
        return True
    return isinstance(url, str) and (url.startswith("blob:") or unquote(url).endswith(f"/file={path}"))


def _parts(value: Any) -> Iterator[Any]:
    """``value`` and everything in it."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        yield part
        if isinstance(part, dict):
            waiting += part.values()
        elif isinstance(part, list | tuple):
            waiting += part
