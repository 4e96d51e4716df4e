"""Where a data set is read from: a stranger's folder or ZIP file. Nothing in it is trusted.

A ZIP file is never unpacked to the disk, links in a folder are not followed, and a name that an annotation mentions is only looked up
among the files that were listed: no path leaves the folder. The number of files, their bytes and their pixels are limited.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from siamese.exchange.item import LESION, AnnotatedImage, ExchangeError, is_category
from siamese.files.archives import (
    ArchivedFile,
    ArchivedFileError,
    ArchiveError,
    ArchiveLimits,
    BoundedArchive,
    open_archive,
)
from siamese.files.decoding import (
    DECODER_ERRORS,
    LOCAL,
    VISITOR,
    DecodingError,
    Limits,
    Picture,
    decode,
    to_rgb,
)
from siamese.files.listing import IMAGE_SUFFIXES, is_litter
from siamese.files.names import normal_form, path_parts, safe_name, shown_name
from siamese.masks.core import MaskError
from siamese.masks.outlines import OutlineError
from siamese.masks.reading import find_mask

PHOTO_SUFFIXES = (*IMAGE_SUFFIXES, ".dcm")
MAX_FAULTS = 50
"""Faults that are listed; the number of the others follows."""


@dataclass(frozen=True)
class SourceLimits:
    """What a data set may hold."""

    images: int
    pixels: int
    """Of all images together."""
    archive: ArchiveLimits
    picture: Limits


FOR_VISITORS = SourceLimits(500, 400_000_000, ArchiveLimits(5_000, 20 * 2**20, 400_000_000), VISITOR)
"""For files of strangers, which share a server's memory."""
FOR_LOCAL = SourceLimits(1_000_000, 10**12, ArchiveLimits(10_000_000, 2**30, 10**12), LOCAL)
"""For files of whoever runs the program."""


class Source:
    """The files of a data set; see ``open_source``."""

    def __init__(
        self, files: dict[str, Path | ArchivedFile], archive: BoundedArchive | None, limits: SourceLimits
    ) -> None:
        self._files, self._archive, self.limits = files, archive, limits
        self._bytes = self._pixels = self._images = 0
        self.faults: list[str] = []
        self.category: str | None = None
        """The only category that is read; None for the one of each image."""

    @property
    def names(self) -> list[str]:
        """Paths of the files, with slashes, sorted; without what operating systems leave behind."""
        return list(self._files)

    def ending(self, *suffixes: str) -> list[str]:
        """Those of ``names`` that end so, in upper or lower case."""
        return [name for name in self._files if name.lower().endswith(suffixes)]

    def only(self, name: str) -> str:
        """The path of the one file called ``name`` in any folder.

        Raises:
            ExchangeError: there is none, or several.
        """
        found = [path for path in self._files if PurePosixPath(path).name.lower() == name.lower()]
        if len(found) != 1:
            what = f"there are {len(found)} files {name}; keep one" if found else f"there is no file {name}"
            raise ExchangeError(f"{what}.")
        return found[0]

    def read(self, name: str) -> bytes:
        """The content of one of ``names``.

        Raises:
            ExchangeError: it has a fault, or is too large.
            ArchiveError: all that was read is too large.
        """
        file = self._files[name]
        if isinstance(file, ArchivedFile):
            assert self._archive is not None
            return self._archive.read(file)
        if file.is_symlink() or not file.is_file():
            raise ExchangeError("is a link or not a regular file; put the file itself there")
        size = self.limits.archive.file_bytes
        with file.open("rb") as stream:
            data = stream.read(size + 1)
        self._bytes += len(data)
        if len(data) > size:
            raise ExchangeError(f"has more than {size / 1e6:.0f} MB")
        if self._bytes > self.limits.archive.total_bytes:
            raise ArchiveError(
                f"the files up to this one have more than {self.limits.archive.total_bytes / 1e6:.0f} MB; split the data set"
            )
        return data

    def json(self, name: str) -> Any:
        """The JSON in the file ``name``; ExchangeError if it is none."""
        return parse_json(self.read(name))

    def json_lines(self, name: str) -> list[dict[str, Any]]:
        """The objects in the file ``name``, one a line; ExchangeError if it is none."""
        rows = [parse_json(line) for line in self.read(name).split(b"\n") if line.strip()]
        if not all(isinstance(row, dict) for row in rows):
            raise ExchangeError("must hold one JSON object a line")
        return rows

    def find(self, mentioned: object, beside: str, folders: Sequence[str] = ("", "images")) -> str:
        """Which of ``names`` the file at ``beside`` means by ``mentioned``.

        It is looked for in ``folders`` beside that file and one folder above, and then by its bare name, which must be unique: annotation tools
        write the paths of the computer on which they ran.

        Raises:
            ExchangeError: it is not there, or several could be meant.
        """
        if not isinstance(mentioned, str) or not mentioned:
            raise ExchangeError(f"{shown_name(beside)} names no image file")
        parts = [part for part in path_parts(normal_form(mentioned)) if part not in ("", ".")]
        here = PurePosixPath(beside).parent
        for place in (here / folder for here in (here, here.parent) for folder in folders):
            if (path := str(place / "/".join(parts))) in self._files and ".." not in parts:
                return path
        found = [path for path in self._files if parts and PurePosixPath(path).name == parts[-1]]
        if len(found) == 1:
            return found[0]
        what = "is not there" if not found else "could be several files; keep one of that name"
        raise ExchangeError(f"the image {shown_name(mentioned)} {what}")

    def picture(self, name: str) -> Picture:
        """The decoded image file ``name``.

        Raises:
            DecodingError: see ``siamese.files.decoding.decode``.
            ArchiveError: too many images, or pixels in all images together.
        """
        picture = decode(self.read(name), self.limits.picture)
        self._pixels += picture.image.width * picture.image.height
        self._images += 1
        if self._pixels > self.limits.pixels or self._images > self.limits.images:
            raise ArchiveError(
                f"more than {self.limits.images:,} images or {self.limits.pixels / 1e6:,.0f} million pixels; split the data set"
            )
        return picture

    def mask(self, name: str) -> np.ndarray:
        """uint8 [H, W] of 0 / 255: the mask file ``name`` as ``siamese.masks.reading`` reads it; it may be empty."""
        return find_mask(decode(self.read(name), self.limits.picture))

    def wanted(self, categories: Sequence[str]) -> str:
        """Which of the ``categories`` of an image's annotations is read, in which a name may come several times.

        Raises:
            ExchangeError: several, and none was chosen.
        """
        if self.category is not None:
            return self.category
        found = sorted(set(categories))
        if len(found) > 1:
            raise ExchangeError(
                f"has annotations of several categories ({', '.join(map(shown_name, found))}); choose one of them to read"
            )
        return found[0] if found else LESION

    @contextmanager
    def item(self, name: str) -> Iterator[None]:
        """What goes wrong inside with the file ``name`` becomes one of ``faults``."""
        try:
            yield
        except (ExchangeError, ArchivedFileError, DecodingError, MaskError, OutlineError) as error:
            self.fault(name, error)

    def fault(self, name: str, what: object) -> None:
        """Add a fault of the file ``name``."""
        self.faults.append(f"{shown_name(name)}: {what}")

    def check(self) -> None:
        """ExchangeError with all faults, if there are any."""
        if self.faults:
            shown, more = self.faults[:MAX_FAULTS], len(self.faults) - MAX_FAULTS
            raise ExchangeError(
                "the data set cannot be used; repair or remove these files",
                [*shown, f"and {more} more"] if more > 0 else shown,
            )


@contextmanager
def open_source(path: Path, limits: SourceLimits = FOR_VISITORS) -> Iterator[Source]:
    """The folder or ZIP file at ``path``.

    Raises:
        ExchangeError: neither, too large, or too many files.
        OSError: the disk fails.
    """
    path = Path(path)
    if path.is_dir():
        yield Source(_listed(path, limits), None, limits)
        return
    if not path.is_file():
        raise ExchangeError(
            f"{shown_name(path.name)} is neither a folder nor a file. Give a folder or a ZIP file."
        )
    if path.stat().st_size > limits.archive.total_bytes:
        raise ExchangeError(
            f"the ZIP file has more than {limits.archive.total_bytes / 1e6:.0f} MB. Split the data set."
        )
    try:
        with open_archive(path, limits.archive) as archive:
            inside: dict[str, Path | ArchivedFile] = {}
            source = Source(inside, archive, limits)
            for file in archive.files:
                if file.fault is None or _is_inside(file):
                    inside["/".join(map(normal_form, file.parts))] = file
                else:
                    source.fault(file.shown, file.fault)
            yield source
    except ArchiveError as error:
        raise ExchangeError(str(error)) from error


def _is_inside(file: ArchivedFile) -> bool:
    """Whether a path in a ZIP file leads to a place below its top."""
    return ".." not in file.parts and file.parts[0] != "" and ":" not in file.parts[0]


def _listed(folder: Path, limits: SourceLimits) -> dict[str, Path | ArchivedFile]:
    """The files below ``folder`` by their paths; folders that are links are not entered."""
    found: dict[str, Path | ArchivedFile] = {}
    for place, folders, files in os.walk(folder):
        here = Path(place).relative_to(folder)
        folders[:] = sorted(name for name in folders if not is_litter([name]))
        for name in files:
            if not is_litter([name]):
                found[normal_form((here / name).as_posix())] = Path(place) / name
        if len(found) > limits.archive.entries:
            raise ExchangeError(
                f"the folder holds more than {limits.archive.entries:,} files. Split the data set."
            )
    return dict(sorted(found.items()))


def parse_json(data: bytes | str) -> Any:
    """The value in ``data``; ExchangeError if it is not JSON."""
    try:
        return json.loads(data)
    except DECODER_ERRORS as error:  # deep nesting is a RecursionError
        raise ExchangeError("is not JSON that can be read; export it again") from error


def annotated(
    source: Source,
    path: str,
    mask: np.ndarray,
    picture: Picture,
    about: dict[str, Any],
    category: object,
) -> AnnotatedImage:
    """The item of the image at ``path``; ``about`` may say ``synthetic`` and ``recipe``, and so may the image file itself.

    Raises:
        ExchangeError: image and mask differ in size, or a text that cannot be used.
    """
    synthetic = about.get("synthetic") is True or picture.info.get("Synthetic") == "true"
    recipe = about.get("recipe") or picture.info.get("Recipe") if synthetic else None
    if recipe is not None and not isinstance(recipe, str):
        raise ExchangeError("its recipe is not a text")
    if not is_category(category):
        raise ExchangeError(f"has a category that cannot be used ({shown_name(str(category))}); rename it")
    return AnnotatedImage(
        image=to_rgb(picture),
        mask=mask,
        name=safe_name(PurePosixPath(path).stem, "image"),
        category=str(category),
        synthetic=synthetic,
        recipe=recipe,
    )
