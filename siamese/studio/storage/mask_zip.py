"""The masks of a batch, from an uploaded ZIP.

Nothing in the ZIP is trusted and nothing of it is unpacked to disk: entries are read into memory, within limits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from siamese.files.archives import (
    ArchivedFile,
    ArchivedFileError,
    ArchiveError,
    ArchiveLimits,
    BoundedArchive,
    open_archive,
)
from siamese.files.decoding import MAX_FILE_BYTES, VISITOR, DecodingError, decode, to_rgb
from siamese.files.listing import (
    IMAGE_SUFFIXES,
    UNKNOWN_KIND,
    PassedOver,
    beside_masks,
    key_of,
    reason_to_pass_over,
)
from siamese.files.names import MAX_NAME_BYTES, safe_name
from siamese.masks.augment import augment
from siamese.masks.reading import decode_mask

MAX_MASKS = 200
MAX_ZIP_BYTES = 20_000_000
"""Bytes of the uploaded file."""
MAX_TOTAL_BYTES = 400_000_000
"""Bytes of all files in the ZIP, unpacked; and pixels of all masks, which are a byte each in memory."""
MAX_ENTRIES = 5_000
"""Files and folders in the ZIP, with those that are passed over."""


class BatchError(ValueError):
    """Masks or a job that cannot be used; the message lists every fault and says what to do."""

    def __init__(self, title: str, faults: Sequence[str] = ()) -> None:
        super().__init__("\n".join([title + (":" if faults else ""), *(f"  {fault}" for fault in faults)]))
        self.faults = tuple(faults)


@dataclass(frozen=True, eq=False)
class Frame:
    """A photo into which lesions are synthesised. It is held as its file, because hundreds of decoded photos would not fit into memory."""

    name: str
    """As ``NamedMask.name``."""
    data: bytes

    def photo(self) -> np.ndarray:
        """uint8 [H, W, 3], decoded anew at each call.

        Raises:
            DecodingError: see ``siamese.files.decoding``.
        """
        return to_rgb(decode(self.data, VISITOR))


@dataclass(frozen=True)
class NamedMask:
    """A mask and the name of the pair that it shall become."""

    name: str
    """The file's stem as ``siamese.files.names.safe_name`` writes it."""
    mask: np.ndarray
    """uint8 [H, W] of 0 / 255."""
    frame: Frame | None = None
    """A photo of the mask's size, into which its lesion is synthesised; None: the whole image is synthetic."""


class NamedMasks(list[NamedMask]):
    """Masks of a ZIP, and what else it holds."""

    def __init__(self, masks: Iterable[NamedMask], passed_over: Iterable[PassedOver] = ()) -> None:
        super().__init__(masks)
        self.passed_over = tuple(passed_over)


def check_zip_size(path: Path, most: int) -> None:
    """Raise BatchError if the ZIP file has more than ``most`` bytes."""
    size = path.stat().st_size
    if size > most:
        raise BatchError(
            f"the ZIP has {size / 1e6:.0f} MB; at most {most / 1e6:.0f} MB can be read. Split it."
        )


def read_mask_zip(path: Path) -> NamedMasks:
    """The masks of a ZIP in any of its folders, sorted by name; see ``siamese.files.listing`` for what is a file of a mask.

    Of a data set (``masks/`` beside ``images/``, such as the studio's own exports), the files in ``masks/`` are read.

    ``siamese.masks.reading`` says what a mask is.

    Raises:
        BatchError: not a ZIP, above a limit, or files that cannot be used; it lists all of those by name.
    """
    path = Path(path)
    check_zip_size(path, MAX_ZIP_BYTES)
    limits = ArchiveLimits(entries=MAX_ENTRIES, file_bytes=MAX_FILE_BYTES, total_bytes=MAX_TOTAL_BYTES)
    try:
        with open_archive(path, limits) as archive:
            return _read_archive(archive)
    except ArchiveError as error:
        raise BatchError(str(error)) from error


def augmented(masks: Sequence[NamedMask], count: int, seed: int) -> NamedMasks:
    """``count`` random variants (``siamese.masks.augment``) of each mask, in the same frame if it has one.

    The variants of NAME are NAME-001, NAME-002, ...; the same seed gives the same ones.

    Args:
        count: 1 or more.
        seed: 0 or more.

    Raises:
        BatchError: more than ``MAX_MASKS`` variants.
    """
    if count < 1 or len(masks) * count > MAX_MASKS:
        raise BatchError(
            f"{count} variants of each of {len(masks)} masks are {count * len(masks)} masks; a batch takes 1 to {MAX_MASKS}. "
            "Ask for another number of variants, or give fewer masks."
        )
    variants = []
    for i, named in enumerate(masks):
        # The number is the last thing that a name too long for it would lose.
        stem = named.name.encode()[: MAX_NAME_BYTES - 4].decode(errors="ignore")
        for k in range(count):
            variant_seed = int(np.random.SeedSequence((seed, i, k)).generate_state(1, np.uint32)[0])
            variants.append(
                NamedMask(safe_name(f"{stem}-{k + 1:03d}"), augment(named.mask, variant_seed), named.frame)
            )
    return NamedMasks(variants, masks.passed_over if isinstance(masks, NamedMasks) else ())


def _read_archive(archive: BoundedArchive) -> NamedMasks:
    files, passed_over, faults = _chosen_files(archive)
    if not files and not faults:
        raise BatchError(f"the ZIP holds no masks; put {', '.join(IMAGE_SUFFIXES)} files into it.")
    if len(files) > MAX_MASKS:
        raise BatchError(
            f"the ZIP holds {len(files)} files; at most {MAX_MASKS} masks are possible at once. Split it."
        )
    masks: dict[str, NamedMask] = {}
    named: dict[str, str] = {}
    pixels = 0
    for file in files:
        name = safe_name(key_of(file.name))
        try:
            if file.fault is None and name.casefold() in named:
                raise BatchError(f"has the same name as {named[name.casefold()]}; rename one of them")
            mask = decode_mask(archive.read(file), VISITOR)
        except ArchiveError as error:
            faults.append(f"{file.shown}: {error}")
            break
        except (BatchError, ArchivedFileError, DecodingError) as error:
            faults.append(f"{file.shown}: {error}")
            continue
        finally:
            if file.fault is None:
                named.setdefault(name.casefold(), file.shown)
        masks[name] = NamedMask(name, mask)
        pixels += mask.size
        if pixels > MAX_TOTAL_BYTES:
            faults.append(
                f"{file.shown}: the masks up to this one have more than {MAX_TOTAL_BYTES / 1e6:.0f} million pixels; split the ZIP"
            )
            break
    if faults:
        raise BatchError("the ZIP cannot be used; repair or remove these files and pack it again", faults)
    return NamedMasks((masks[name] for name in sorted(masks)), passed_over)


def _chosen_files(archive: BoundedArchive) -> tuple[list[ArchivedFile], list[PassedOver], list[str]]:
    """Files that should be masks, what was passed over, and the faults of files of an unknown kind: those could be masks."""
    files, passed_over, faults = [], list(archive.passed_over), []
    beside = beside_masks(file.parts for file in archive.files)
    for file in archive.files:
        reason = beside.get(file.parts) or reason_to_pass_over(file.parts)
        if reason is None:
            files.append(file)
        elif reason == UNKNOWN_KIND:
            faults.append(f"{file.shown}: is {reason}")
        else:
            passed_over.append(PassedOver(file.shown, reason))
    return files, passed_over, faults
