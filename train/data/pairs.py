"""Image-mask pairs on disk: reading every supported layout, checking every file, loading arrays.

Layouts
  folder      ``images/ID.(jpg|png|...)``, ``masks/ID.(png|...)`` and optional ``train.txt`` / ``val.txt`` / ``test.txt``
              with one ID a line; see ``train.data.layouts`` for others and ``siamese.files.listing`` for the rules of names
  JSON lines  one ``{"source": mask, "target": image, "prompt": text}`` a line, as the released code reads it
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from siamese.files.decoding import READING_VERSION, DecodingError, read_image
from siamese.masks.core import MaskError, VanishedLesionError, fit_mask, resize_image
from siamese.masks.reading import read_mask
from train.data.digests import fingerprint
from train.data.json_lines import read_json_lines
from train.data.layouts import find_sets, read_set, unpacked_archive
from train.data.splits import SPLITS, split_of_name
from train.data.types import DataError, Pair
from train.engine.printing import print_once


def read_pairs(
    sources: Sequence[Path],
    split: str = "train",
    prompt: str | None = None,
    required: bool = True,
    otherwise: str | None = None,
) -> list[Pair]:
    """All pairs of ``sources`` in ``split``, sorted by name. How many there are, and what was not read, is printed once.

    Args:
        sources: folders in the layout above, folders that contain such folders, ZIP files of these, or JSON-lines files.
        split: ``train``, ``val`` or ``test``. A folder or JSON-lines file that is named like a split is read for that split only.
            Of others, ``train`` is what the split files leave, if ``train.txt`` is not one of them.
        prompt: prompt of all pairs, even if a file or the name of a known data set says another; a line is printed then.
            None: what those say.
        required: whether it is an error that ``split`` has no pairs.
        otherwise: prompt if neither ``prompt`` nor those say one.

    Raises:
        DataError: a source is missing, has none of these layouts, or has no known prompt; or every fault of names and split files.
    """
    if split not in SPLITS:
        raise DataError(f"there is no split {split!r}; use {', '.join(SPLITS)}.")
    pairs: list[Pair] = []
    others: list[str] = []
    for source in map(Path, sources):
        if source.is_file() and source.suffix.lower() != ".zip":
            found = split_of_name(source.stem) or "train"
            pairs += read_json_lines(source, prompt, otherwise) if split == found else []
            others += [f"{source} is named like a {found} split"] if split != found else []
            continue
        for one in find_sets(unpacked_archive(source) if source.is_file() else source):
            pairs += read_set(one, split, prompt, otherwise)
            others += (
                [f"{one.path} is named like a {one.split} split"] if one.split not in (None, split) else []
            )
    if required and not pairs:
        why = f" ({'; '.join(others)})" if others else ""
        raise DataError(f"no {split} pairs in {', '.join(map(str, sources))}{why}.")
    _say_count(split, sources, pairs)
    return sorted(pairs, key=lambda p: p.name)


def _say_count(split: str, sources: Sequence[Path], pairs: Sequence[Pair]) -> None:
    """Print how many pairs a split has, in all and of each prompt."""
    prompts = Counter(pair.prompt for pair in pairs).most_common()
    listed = ", ".join(f"{count} of {text!r}" for text, count in prompts[:3])
    rest = f" and {len(prompts) - 3} other prompts" if len(prompts) > 3 else ""
    places = ", ".join(map(str, sources))
    print_once(f"{split}: {len(pairs)} pairs in {places}{f' ({listed}{rest})' if pairs else ''}")


def check_pairs(
    pairs: Sequence[Pair], known_prompts: Iterable[str] | None = None, size: int | None = None
) -> None:
    """Open every file and raise one DataError that lists every bad pair by name.

    Faults: missing or unreadable image or mask, different sizes, a mask that is empty or not a mask, a lesion that vanishes at
    ``size`` (pixels of a side, at which the model sees it), a prompt outside ``known_prompts`` (if the checkpoint has a fixed table
    of them), the same name or the same files twice.
    """
    known = None if known_prompts is None else set(known_prompts)
    with ThreadPoolExecutor() as pool:
        faults = [
            f"{pair.name}: {fault}"
            for pair, fault in zip(pairs, pool.map(lambda pair: _fault_of(pair, size), pairs), strict=True)
            if fault
        ]
    names: set[str] = set()
    first: dict[tuple[Path, Path], str] = {}
    for pair in pairs:
        if known is not None and pair.prompt not in known:
            faults.append(f"{pair.name}: unknown prompt {pair.prompt!r}; known: {sorted(known)}")
        if pair.name in names:
            faults.append(f"{pair.name}: listed twice, or two files of this name")
        elif (files := (pair.image, pair.mask)) in first:
            faults.append(f"{pair.name}: the same files as {first[files]}")
        names.add(pair.name)
        first.setdefault((pair.image, pair.mask), pair.name)
    if faults:
        raise DataError.of(
            f"{len(faults)} of {len(pairs)} pairs cannot be used; correct or remove them", faults
        )


def _fault_of(pair: Pair, size: int | None = None) -> str | None:
    if not pair.image.is_file():
        return "no image"
    try:
        height, width = read_image(pair.image).shape[:2]
    except DecodingError as error:
        return f"unreadable image: {error}"
    if not pair.mask.is_file():
        return "no mask"
    try:
        mask = read_mask(pair.mask)
        if size is not None:
            fit_mask(mask, size)
    except DecodingError as error:
        return f"unreadable mask: {error}"
    except MaskError as error:
        return str(error)
    if mask.shape != (height, width):
        return f"mask is {mask.shape[1]}x{mask.shape[0]}, image is {width}x{height} (both as their EXIF orientation turns them)"
    return None


def load_arrays(pairs: Sequence[Pair], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [N, size, size, 3] (bilinear, antialiased) and masks uint8 [N, size, size] of 0 / 255.

    The aspect is not kept (the paper's protocol). A mask is thresholded at its own size, then resized nearest.

    Raises:
        DataError: files that cannot be used, or lesions that vanish at ``size``: their labels would say that nothing is there.
    """
    return load_images(pairs, size), load_masks(pairs, size)


def load_images(pairs: Sequence[Pair], size: int) -> np.ndarray:
    """The images of ``load_arrays`` alone; the masks are not read."""
    return np.stack(_loaded(pairs, lambda pair: resize_image(read_image(pair.image), size)))


def load_masks(pairs: Sequence[Pair], size: int) -> np.ndarray:
    """The masks of ``load_arrays`` alone; the images are not read."""
    return np.stack(_loaded(pairs, lambda pair: fit_mask(read_mask(pair.mask), size)))


def _loaded(pairs: Sequence[Pair], load: Callable[[Pair], np.ndarray]) -> list[np.ndarray]:
    """What ``load`` gives of each pair. Raises DataError with a line for each pair that it refuses."""

    def attempt(pair: Pair) -> np.ndarray | str:
        try:
            return load(pair)
        except VanishedLesionError as error:
            return f"{pair.name} ({pair.mask}): {error}"
        except (DecodingError, MaskError) as error:
            return f"{pair.name}: {error}"

    if not pairs:
        raise DataError("there are no pairs to load.")
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(attempt, pairs))
    if faults := [f for f in found if isinstance(f, str)]:
        raise DataError.of(
            f"{len(faults)} of {len(pairs)} pairs cannot be used; correct or remove them", faults
        )
    return [array for array in found if not isinstance(array, str)]


def array_key(pairs: Sequence[Pair]) -> str:
    """Name of what is cached of the arrays of ``pairs``: other files, and other ways of reading the same files, have other names."""
    return f"{fingerprint(pairs)}r{READING_VERSION}"
