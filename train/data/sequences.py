"""Groups of images that must not be divided between folds: frames of one video sequence, images of one mask.

CVC-ClinicDB (Bernal et al. 2015, Computerized Medical Imaging and Graphics 43) is made of 29 video sequences, within which
frames are near-duplicates; an image's ID is its frame's number, from 1 to 612.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from train.data.types import Pair

CVC_CLINICDB = "cvc-clinicdb"
"""Name of the data set's folder."""
LAST_FRAMES = (
    25,
    50,
    67,
    78,
    103,
    126,
    151,
    177,
    199,
    205,
    227,
    252,
    277,
    297,
    317,
    342,
    363,
    383,
    408,
    428,
    447,
    466,
    478,
    503,
    528,
    546,
    571,
    591,
    612,
)
"""Number of the last frame of each sequence; the first of the next is one more."""


def sequence_of(frame: int) -> int:
    """Sequence, 1 to 29, of CVC-ClinicDB's ``frame``.

    Raises:
        ValueError: not a frame from 1 to 612.
    """
    if not 1 <= frame <= LAST_FRAMES[-1]:
        raise ValueError(
            f"{frame} is not a frame of CVC-ClinicDB; they are numbered from 1 to {LAST_FRAMES[-1]}."
        )
    return bisect_left(LAST_FRAMES, frame) + 1


def groups_of(pairs: Sequence[Pair]) -> list[str]:
    """Each pair's group: its sequence if it is a frame of CVC-ClinicDB, otherwise its mask's file.

    A pair belongs to CVC-ClinicDB if its name is the folder ``cvc-clinicdb`` and a frame's number.
    """
    groups = []
    for pair in pairs:
        *folders, name = pair.name.split("/")  # a split's folder lies within the data set's
        known = (
            CVC_CLINICDB in [folder.casefold() for folder in folders]
            and name.isascii()
            and name.isdigit()
            and 1 <= int(name) <= LAST_FRAMES[-1]
        )
        groups.append(f"{CVC_CLINICDB} sequence {sequence_of(int(name))}" if known else str(pair.mask))
    return groups
