"""The photos and masks of a batch that synthesises lesions into photos, from an uploaded ZIP.

Which mask belongs to which photo is decided as everywhere (``siamese.files.listing.match_masks``): by the file's name, which may end in
``_mask`` or the like. Photos and masks lie in folders ``images`` and ``masks`` beside each other, or together in one folder; then a
file whose name is that of another file and such an ending is a mask.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from siamese.files.archives import ArchivedFileError, ArchiveError, ArchiveLimits, open_archive
from siamese.files.decoding import MAX_FILE_BYTES, VISITOR, DecodingError
from siamese.files.listing import (
    IMAGE_SUFFIXES,
    UNKNOWN_KIND,
    Listing,
    PassedOver,
    key_of,
    match_masks,
    nearest_hint,
    possible_keys,
    reason_to_pass_over,
)
from siamese.files.names import safe_name, shown_name
from siamese.masks.reading import decode_mask
from siamese.studio.storage.mask_zip import (
    MAX_ENTRIES,
    MAX_MASKS,
    MAX_TOTAL_BYTES,
    BatchError,
    Frame,
    NamedMask,
    NamedMasks,
    check_zip_size,
)

MAX_ZIP_BYTES = 100_000_000
"""Bytes of the uploaded file."""
MAX_UNPACKED_BYTES = 200_000_000
"""Bytes of all files in it, unpacked. The photos' files are held in memory until the batch is stored."""
ALONE = "no mask is named after it"
DRAWN = "drawn_masks/ beside masks/, which is read"

Read = Callable[[Path], bytes]


def read_frame_zip(path: Path) -> NamedMasks:
    """Masks with their photos from a ZIP, sorted by name. Photos without a mask are passed over, and named.

    Raises:
        BatchError: not a ZIP, above a limit, or files that cannot be used; it lists all of those by name.
    """
    path = Path(path)
    check_zip_size(path, MAX_ZIP_BYTES)
    limits = ArchiveLimits(entries=MAX_ENTRIES, file_bytes=MAX_FILE_BYTES, total_bytes=MAX_UNPACKED_BYTES)
    try:
        with open_archive(path, limits) as archive:
            files = {Path(*file.parts): file for file in archive.files}
            faults = [f"{file.shown}: {file.fault}" for file in archive.files if file.fault is not None]
            chosen = _choose([path for path, file in files.items() if file.fault is None], faults)
            chosen.passed_over[:0] = archive.passed_over
            return _read(chosen, lambda path: archive.read(files[path]))
    except ArchiveError as error:
        raise BatchError(str(error)) from error


@dataclass
class _Chosen:
    """Which files are read."""

    pairs: list[tuple[Path, Path]] = field(default_factory=list)
    """Photo and mask."""
    passed_over: list[PassedOver] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def _choose(paths: Sequence[Path], faults: list[str]) -> _Chosen:
    chosen = _Chosen(faults=faults)
    folders: dict[Path, list[Path]] = {}
    for path in paths:
        reason = reason_to_pass_over(path.parts)
        if reason is None:
            folders.setdefault(path.parent, []).append(path)
        elif reason == UNKNOWN_KIND:
            chosen.faults.append(f"{_shown(path)}: is {reason}")
        else:
            chosen.passed_over.append(PassedOver(_shown(path), reason))
    while folders:
        folder = next(iter(folders))
        files = folders.pop(folder)
        kind, other = folder.name.lower(), None
        if kind in ("images", "masks"):
            partner = "masks" if kind == "images" else "images"
            other = next(
                (f for f in folders if f.parent == folder.parent and f.name.lower() == partner), None
            )
        if other is not None:
            others = folders.pop(other)
            images, masks = (files, others) if kind == "images" else (others, files)
        elif kind == "drawn_masks":
            chosen.passed_over += [PassedOver(_shown(path), DRAWN) for path in files]
            continue
        else:
            images, masks = _told_apart(files)
        _match(chosen, images, masks)
    return chosen


def _told_apart(files: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Photos and masks of one folder."""
    keys = {key_of(path.name) for path in files}
    images, masks = [], []
    for path in files:
        own = key_of(path.name)
        of_another = (key != own and key in keys for key in possible_keys(path.name))
        (masks if any(of_another) else images).append(path)
    return images, masks


def _match(chosen: _Chosen, images: Sequence[Path], masks: Sequence[Path]) -> None:
    listed = _listing(images)
    matched = match_masks(listed, _listing(masks))
    chosen.pairs += matched.pairs.values()
    chosen.passed_over += [PassedOver(_shown(path), ALONE) for path in matched.images_alone]
    chosen.faults += matched.faults
    chosen.faults += [
        f"{_shown(path)}: there is no photo of this name{nearest_hint(path.name, listed.files)}"
        for path in matched.masks_alone
    ]


def _listing(files: Sequence[Path]) -> Listing:
    listing = Listing()
    for path in files:
        listing.files.setdefault(key_of(path.name), []).append(path)
    return listing


def _read(chosen: _Chosen, read: Read) -> NamedMasks:
    faults = chosen.faults
    if not chosen.pairs and not faults:
        raise BatchError(
            "no photo with a mask was found; put photos into a folder images and their masks, of the same names, into a folder masks "
            f"beside it ({', '.join(IMAGE_SUFFIXES)})."
        )
    if len(chosen.pairs) > MAX_MASKS:
        raise BatchError(
            f"there are {len(chosen.pairs)} photos with masks; at most {MAX_MASKS} are possible at once."
        )
    found: dict[str, NamedMask] = {}
    pixels = 0
    for image, mask in chosen.pairs:
        name = safe_name(key_of(image.name))
        if name.casefold() in found:
            faults.append(f"{_shown(image)}: has the same name as another photo; rename one of them")
        elif isinstance(named := _named(name, image=image, mask=mask, read=read), str):
            faults.append(named)
        else:
            found[name.casefold()] = named
            pixels += named.mask.size
        if pixels > MAX_TOTAL_BYTES:
            raise BatchError(
                f"the masks have more than {MAX_TOTAL_BYTES / 1e6:.0f} million pixels together; split them."
            )
    if faults:
        raise BatchError("the photos and masks cannot be used; repair or remove these files", faults)
    return NamedMasks((found[name] for name in sorted(found)), chosen.passed_over)


def _named(name: str, image: Path, mask: Path, read: Read) -> NamedMask | str:
    """The mask with its photo, or what is wrong with one of the files."""
    path = image
    try:
        frame = Frame(name, read(image))
        height, width = frame.photo().shape[:2]  # decoded to see that it can be, and not kept
        path = mask
        lesion = decode_mask(read(mask), VISITOR)
    except (ArchivedFileError, DecodingError) as error:
        return f"{_shown(path)}: {error}"
    if lesion.shape != (height, width):
        return (
            f"{_shown(mask)}: has {lesion.shape[1]} x {lesion.shape[0]} pixels, its photo {width} x {height}; "
            "a mask must have the size of its photo"
        )
    return NamedMask(name, lesion, frame)


def _shown(path: Path) -> str:
    return shown_name(path.as_posix())
