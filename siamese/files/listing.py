"""Which files of a stranger's folder or archive are data, which name belongs to which, and what was passed over and why.

Every reader of folders and archives uses this module: training, ``train sample``, evaluation, batches and studies. The rules:

* Names are compared in NFC, and exactly otherwise: ``a.png`` and ``A.png`` are two names, on every system.
* What operating systems leave behind is not data: hidden files (``.DS_Store``, AppleDouble's ``._x``), ``Thumbs.db``, ``__MACOSX``.
* A data file ends in one of ``IMAGE_SUFFIXES``, in upper or lower case.
* A mask may carry an ending of its own: ``ISIC_1_segmentation.png`` is the mask of ``ISIC_1.jpg``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from siamese.files.names import normal_form, path_parts, shown_name

IMAGE_SUFFIXES = (
    ".png",
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".bmp",
    ".tif",
    ".tiff",
    ".webp",
    ".gif",
)
NOTE_SUFFIXES = (".txt", ".md", ".json", ".jsonl", ".csv", ".tsv", ".xml", ".yaml", ".yml", ".html", ".pdf")
"""Texts that often lie beside images."""
MAX_LISTED = 50
"""Names of one reason in a report; the number of the others follows."""
_LITTER = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"})
_LITTER_FOLDERS = frozenset({"__macosx", "@eadir", "$recycle.bin", "system volume information"})
_MASK_ENDING = re.compile(
    r"[ _.-](?:segmentation|mask|masks|seg|gt|label|lesion|groundtruth|ground[ _-]truth|annotation)$",
    re.IGNORECASE,
)
LITTER = "left behind by an operating system"
NOTE = "a text, not an image"
UNKNOWN_KIND = f"not a file of a known kind ({', '.join(IMAGE_SUFFIXES)}); convert it if it is data"
NESTED = "a folder within the folder, which is not read; move its files up if they are data"
SPECIAL = "not a regular file, or a link to a missing one"


@dataclass(frozen=True)
class PassedOver:
    """A file or folder that was not read."""

    name: str
    """Printable; a folder's ends in ``/``."""
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


@dataclass
class Listing:
    """The data files of a folder by key (``key_of``), and everything else in it."""

    files: dict[str, list[Path]] = field(default_factory=dict)
    """More than one file for a key is a fault: the caller cannot know which is meant."""
    passed_over: list[PassedOver] = field(default_factory=list)

    def duplicates(self) -> list[str]:
        """A sentence for each key with several files."""
        return [
            f"{', '.join(shown_name(f.name) for f in files)}: several files of one name; keep one"
            for files in self.files.values()
            if len(files) > 1
        ]


def is_litter(parts: Sequence[str]) -> bool:
    """Whether the path of these parts is what an operating system has left behind."""
    *folders, last = [part for part in parts if part not in ("", ".", "..")] or [""]
    return (
        any(part.startswith(".") or part.lower() in _LITTER_FOLDERS for part in (*folders, last))
        or last.lower() in _LITTER
    )


def reason_to_pass_over(parts: Sequence[str], suffixes: Collection[str] = IMAGE_SUFFIXES) -> str | None:
    """Why the file at the path of these parts is not data; None if it is, as far as its name tells."""
    if is_litter(parts):
        return LITTER
    suffix = PurePosixPath(parts[-1]).suffix.lower()
    if suffix in suffixes:
        return None
    return NOTE if suffix in NOTE_SUFFIXES else UNKNOWN_KIND


def key_of(name: str) -> str:
    """What identifies a data file: its name in NFC without the last suffix."""
    return PurePosixPath(normal_form(name)).stem


def list_files(folder: Path, suffixes: Collection[str] = IMAGE_SUFFIXES) -> Listing:
    """The data files that lie directly in ``folder``, in the order of their names.

    Raises:
        OSError: the folder is missing or must not be read.
    """
    listing = Listing()
    for path in sorted(folder.iterdir()):
        shown = shown_name(path.name)
        if is_litter([path.name]):
            listing.passed_over.append(PassedOver(shown, LITTER))
        elif path.is_dir():
            listing.passed_over.append(PassedOver(f"{shown}/", NESTED))
        elif reason := reason_to_pass_over([path.name], suffixes):
            listing.passed_over.append(PassedOver(shown, reason))
        elif not path.is_file():
            listing.passed_over.append(PassedOver(shown, SPECIAL))
        else:
            listing.files.setdefault(key_of(path.name), []).append(path)
    return listing


def list_folders(folder: Path) -> tuple[list[Path], list[PassedOver]]:
    """The folders in ``folder`` in the order of their names, and what else lies there.

    Raises:
        OSError: the folder is missing or must not be read.
    """
    folders, passed_over = [], []
    for path in sorted(folder.iterdir()):
        shown = f"{shown_name(path.name)}{'/' if path.is_dir() else ''}"
        if is_litter([path.name]):
            passed_over.append(PassedOver(shown, LITTER))
        elif path.is_dir():
            folders.append(path)
        else:
            passed_over.append(PassedOver(shown, "a file beside the folders, which is not read"))
    return folders, passed_over


def beside_masks(paths: Iterable[Sequence[str]]) -> dict[tuple[str, ...], str]:
    """Of the files of data sets, given by the parts of their paths, those that are not masks, and why they are not read as such.

    A data set is a folder ``masks`` beside a folder ``images``, as the studio's own exports have; ``drawn_masks`` belongs to it.
    """
    paths = [tuple(path) for path in paths]
    folders = {path[:-1] for path in paths}
    sets = {f[:-1] for f in folders if f and f[-1].lower() == "masks"} & {
        f[:-1] for f in folders if f and f[-1].lower() == "images"
    }
    return {
        path: f"beside {'/'.join((*path[:-2], 'masks'))}/, which is read"
        for path in paths
        if path[:-2] in sets and len(path) > 1 and path[-2].lower() in ("images", "drawn_masks")
    }


def possible_keys(text: str) -> Iterator[str]:
    """The keys that a name of a file or a line of a list may mean, the most literal first.

    >>> list(possible_keys("images/ISIC_1_segmentation.PNG"))
    ['ISIC_1_segmentation.PNG', 'ISIC_1_segmentation', 'ISIC_1']
    """
    key = normal_form(path_parts(text.strip())[-1])
    yield key
    while True:
        if PurePosixPath(key).suffix.lower() in IMAGE_SUFFIXES:
            key = PurePosixPath(key).stem
        elif (shorter := _MASK_ENDING.sub("", key)) != key and shorter:
            key = shorter
        else:
            return
        yield key


def find_key(text: str, known: Collection[str]) -> str | None:
    """The first of ``possible_keys`` that is ``known``."""
    return next((key for key in possible_keys(text) if key in known), None)


def nearest_hint(text: str, known: Iterable[str]) -> str:
    """A hint in brackets if ``text`` differs from a known key in upper and lower case alone, otherwise nothing."""
    wanted = {key.casefold() for key in possible_keys(text)}
    found = next((key for key in known if key.casefold() in wanted), None)
    return f" (there is {found!r}: upper and lower case differ)" if found is not None else ""


@dataclass
class Matched:
    """Images and masks of two listings."""

    pairs: dict[str, tuple[Path, Path]]
    """Image and mask by the image's key."""
    images_alone: list[Path]
    masks_alone: list[Path]
    faults: list[str]
    """A sentence for each image or mask of which there are several."""


def match_masks(images: Listing, masks: Listing) -> Matched:
    """Which mask belongs to which image: that of the image's own key, or of the key with a mask's ending."""
    of_image: dict[str, list[Path]] = {}
    alone: list[Path] = []
    for files in masks.files.values():
        key = find_key(files[0].name, images.files)
        for file in files:
            of_image.setdefault(key, []).append(file) if key is not None else alone.append(file)
    faults = [f"images: {fault}" for fault in images.duplicates()]
    faults += [
        f"masks: {', '.join(shown_name(f.name) for f in files)}: several masks of one image; keep one"
        for files in of_image.values()
        if len(files) > 1
    ]
    return Matched(
        pairs={key: (files[0], of_image[key][0]) for key, files in images.files.items() if key in of_image},
        images_alone=[file for key, files in images.files.items() if key not in of_image for file in files],
        masks_alone=alone,
        faults=faults,
    )


def describe_passed_over(passed_over: Iterable[PassedOver], indent: str = "  ") -> list[str]:
    """A line for each reason: how many were passed over for it, and their names."""
    by_reason: dict[str, list[str]] = {}
    for one in passed_over:
        by_reason.setdefault(one.reason, []).append(one.name)
    return [f"{indent}{some(names)}: {reason}" for reason, names in by_reason.items()]


def some(names: Sequence[str], limit: int = MAX_LISTED, shown: Callable[[str], str] = str) -> str:
    """``names`` in one line: all if they are few, otherwise the first ``limit`` and the number of the others."""
    listed = ", ".join(map(shown, names[:limit]))
    return listed + (f" and {len(names) - limit} more" if len(names) > limit else "")
