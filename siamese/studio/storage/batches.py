"""The masks of a batch, from an uploaded ZIP.

Nothing in the ZIP is trusted and nothing of it is unpacked to disk: entries are read into memory, within limits.
"""

from __future__ import annotations

import io
import re
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from siamese.masks.core import binarise
from siamese.records.dataset_zip import safe_name

MAX_MASKS = 200
MAX_ZIP_BYTES = 20_000_000
"""Bytes of the uploaded file."""
MAX_FILE_BYTES = 20_000_000
"""Bytes of one mask file in the ZIP, unpacked."""
MAX_SIDE = 4096
"""Pixels."""
MAX_TOTAL_BYTES = 400_000_000
"""Bytes of all files in the ZIP, unpacked; and pixels of all masks, which are a byte each in memory."""
MAX_ENTRIES = 5_000
"""Files and folders in the ZIP, with those that are passed over."""

MASK_SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp")
_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")
# Files that lie beside masks and are none; any other file is a fault, so that no mask of an unknown kind is left out unnoticed.
_PASSED_OVER = (".txt", ".md", ".json", ".jsonl", ".csv", ".xml")
_LITTER = ("thumbs.db", "desktop.ini")
# What zipfile and Pillow raise on damaged or hostile files.
_UNREADABLE = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    SyntaxError,
    EOFError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
    Image.DecompressionBombError,
)


class BatchError(ValueError):
    """Masks or a job that cannot be used; the message lists every fault and says what to do."""

    def __init__(self, title: str, faults: Sequence[str] = ()) -> None:
        super().__init__("\n".join([title + (":" if faults else ""), *(f"  {fault}" for fault in faults)]))
        self.faults = tuple(faults)


@dataclass(frozen=True)
class NamedMask:
    """A mask and the name of the pair that it shall become."""

    name: str
    """The file's stem as ``siamese.records.dataset_zip.safe_name`` writes it."""
    mask: np.ndarray
    """uint8 [H, W] of 0 / 255."""


def read_mask_zip(path: Path) -> list[NamedMask]:
    """The masks of a ZIP in any of its folders, sorted by name. Hidden files, ``__MACOSX`` and text files are passed over.

    A mask is the lesion where grey is > 127; in a picture of one colour on a transparent ground, where it is opaque.

    Raises:
        BatchError: no ZIP, above a limit, or files that cannot be used; it lists all of those by name.
    """
    path = Path(path)
    if path.stat().st_size > MAX_ZIP_BYTES:
        raise BatchError(
            f"the ZIP has {path.stat().st_size / 1e6:.0f} MB; at most {MAX_ZIP_BYTES / 1e6:.0f} MB are taken. Split it."
        )
    try:
        with zipfile.ZipFile(path) as archive:
            return _read_archive(archive)
    # zipfile raises NotImplementedError for a compression or version that it does not know.
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError, EOFError) as error:
        raise BatchError(f"this is no ZIP file that can be read ({error}). Pack the masks again.") from error


def _read_archive(archive: zipfile.ZipFile) -> list[NamedMask]:
    if len(archive.infolist()) > MAX_ENTRIES:
        raise BatchError(
            f"the ZIP holds {len(archive.infolist())} files and folders; at most {MAX_ENTRIES} are taken. Pack the masks alone."
        )
    entries = [e for e in archive.infolist() if not e.is_dir() and not _passed_over(e.filename)]
    if not entries:
        raise BatchError(f"the ZIP holds no masks; put {', '.join(MASK_SUFFIXES)} files into it.")
    if len(entries) > MAX_MASKS:
        raise BatchError(
            f"the ZIP holds {len(entries)} files; at most {MAX_MASKS} masks are taken at once. Split it."
        )
    faults: list[str] = []
    masks: dict[str, NamedMask] = {}
    named: dict[str, str] = {}
    unpacked = pixels = 0
    for entry in sorted(entries, key=lambda e: e.filename):
        shown = _shown(entry.filename)
        name = safe_name(PurePosixPath(_parts(entry.filename)[-1]).stem)
        fault = _fault_of(entry)
        if fault is None and name.casefold() in named:
            fault = f"has the same name as {named[name.casefold()]}; rename one of them"
        if fault is None and (unpacked := unpacked + entry.file_size) > MAX_TOTAL_BYTES:
            faults.append(
                f"{shown}: the masks up to this one have more than {MAX_TOTAL_BYTES / 1e6:.0f} MB unpacked; split the ZIP"
            )
            break
        if fault is None:
            named[name.casefold()] = shown
            try:
                mask = _decode(_unpack(archive, entry))
                pixels += mask.size
                masks[name] = NamedMask(name, mask)
            except _UNREADABLE as error:
                fault = (
                    str(error)
                    if isinstance(error, BatchError)
                    else f"cannot be read ({_shown(str(error)) or type(error).__name__})"
                )
        if fault is not None:
            faults.append(f"{shown}: {fault}")
        if pixels > MAX_TOTAL_BYTES:
            faults.append(
                f"{shown}: the masks up to this one have more than {MAX_TOTAL_BYTES / 1e6:.0f} million pixels; split the ZIP"
            )
            break
    if faults:
        raise BatchError("the ZIP cannot be used; mend or remove these files and pack it again", faults)
    return [masks[name] for name in sorted(masks)]


def _parts(name: str) -> list[str]:
    return re.split(r"[\\/]", name)  # some programs on Windows write backslashes


def _passed_over(name: str) -> bool:
    parts = [part for part in _parts(name) if part not in (".", "..")]
    last = parts[-1].lower() if parts else ""
    return (
        "__MACOSX" in parts
        or any(part.startswith(".") for part in parts)
        or last in _LITTER
        or last.endswith(_PASSED_OVER)
    )


def _fault_of(entry: zipfile.ZipInfo) -> str | None:
    """What the ZIP's directory tells to be wrong with an entry."""
    parts = _parts(entry.filename)
    if ".." in parts or not parts[0] or re.match("[A-Za-z]:", parts[0]) or "\0" in entry.orig_filename:
        return "its path leads out of the ZIP or is malformed; pack the masks again"
    if not parts[-1].lower().endswith(MASK_SUFFIXES):
        return f"is no picture; masks are {', '.join(MASK_SUFFIXES)} files"
    if entry.flag_bits & 0x1:
        return "is encrypted; pack it without a password"
    if entry.compress_type not in (
        zipfile.ZIP_STORED,
        zipfile.ZIP_DEFLATED,
    ):  # zipfile unpacks only these in bounded memory
        return "is packed by another method than deflate; use plain ZIP compression"
    if entry.file_size > MAX_FILE_BYTES:
        return f"has {entry.file_size / 1e6:.0f} MB unpacked; at most {MAX_FILE_BYTES / 1e6:.0f} MB are taken"
    return None


def _unpack(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    with archive.open(entry) as file:
        data = file.read(MAX_FILE_BYTES + 1)  # also ends where a directory lies about the size
        if len(data) != entry.file_size:
            raise BatchError("is not as long as the ZIP says")
    return data


def _decode(data: bytes) -> np.ndarray:
    """uint8 [H, W] of 0 / 255. Raises BatchError with the bare fault, or what Pillow raises on damaged files."""
    with Image.open(io.BytesIO(data), formats=_FORMATS) as file:
        if max(file.size) > MAX_SIDE:
            raise BatchError(
                f"is {file.width} x {file.height} pixels; at most {MAX_SIDE} x {MAX_SIDE} are taken"
            )
        if getattr(file, "is_animated", False):
            raise BatchError("holds several pictures; save each mask as its own file")
        if file.mode.startswith("I;16"):
            grey = (np.asarray(file) >> 8).astype(np.uint8)
        elif file.mode in ("I", "F"):
            raise BatchError("has pixels of 32 bits; save it with 8 bits a pixel")
        elif file.has_transparency_data:
            grey = _over_black(np.asarray(file.convert("RGBA")))
        else:
            grey = np.asarray(file.convert("L"))
    mask = binarise(grey)
    if not mask.any():
        raise BatchError(
            "shows no lesion"
            + (
                " (its values are 0 and 1; store them as 0 and 255)"
                if grey.max() == 1
                else ": no pixel is brighter than 127 of 255"
            )
        )
    return mask


def _over_black(pixels: np.ndarray) -> np.ndarray:
    """Grey uint8 [H, W] of RGBA uint8 [H, W, 4] on black; the opacity itself where all that shows has one colour."""
    colour, alpha = pixels[..., :3], pixels[..., 3]
    seen = colour[alpha > 0]
    if alpha.min() < 255 and len(seen) and (seen == seen[0]).all():
        return alpha
    black = Image.new("RGBA", pixels.shape[1::-1], (0, 0, 0, 255))
    return np.asarray(Image.alpha_composite(black, Image.fromarray(pixels)).convert("L"))


def _shown(text: str) -> str:
    """A name or an error from an uploaded file, fit for a message."""
    text = "".join(c if c.isprintable() else "?" for c in unicodedata.normalize("NFC", text))
    return text if len(text) <= 100 else text[:97] + "..."
