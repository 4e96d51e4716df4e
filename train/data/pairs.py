"""Image-mask pairs on disk: reading the two supported layouts, checking every file, loading arrays.

Layouts
  folder      ``images/ID.(jpg|png|...)``, ``masks/ID.(png|...)`` and optional ``train.txt`` / ``val.txt`` / ``test.txt``
              with one ID a line
  JSON lines  one ``{"source": mask, "target": image, "prompt": text}`` a line, as the released code reads it
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from siamese.files.decoding import READING_VERSION, DecodingError, read_image
from siamese.masks.core import MaskError, VanishedLesionError, fit_mask, resize_image
from siamese.masks.reading import read_mask
from siamese.models.prompts import LESION, POLYP
from train.engine.once import once

# Public data sets whose folder name tells the organ; every other folder needs an explicit prompt, and an explicit one wins.
PROMPT_OF_SET = {"kvasir-seg": POLYP, "cvc-clinicdb": POLYP, "isic2018": LESION}
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


class DataError(ValueError):
    """The data cannot be trained on; the message names every fault and what to do."""


@dataclass(frozen=True)
class Pair:
    """One training example on disk. ``name`` is ``set/ID`` and unique within a data set."""

    name: str
    image: Path
    mask: Path
    prompt: str


def read_pairs(
    sources: Sequence[Path],
    split: str = "train",
    prompt: str | None = None,
    required: bool = True,
    otherwise: str | None = None,
) -> list[Pair]:
    """All pairs of ``sources`` (folders, or ``.json``/``.jsonl`` files) in ``split``, sorted by name.

    Args:
        sources: folders in the layout above, folders that contain such folders, or JSON-lines files.
        split: ``train``, ``val`` or ``test``. A JSON-lines file, and a folder without split files, is used whole for
            ``train``; without ``train.txt`` only, ``train`` is what the other split files leave.
        prompt: prompt of all pairs, also where a file or the name of a known data set says another; a line is printed there.
            None: what those say.
        required: whether it is an error that ``split`` has no pairs.
        otherwise: prompt where neither ``prompt`` nor those say one.

    Raises:
        DataError: a source is missing, has neither layout, or has no known prompt.
    """
    pairs: list[Pair] = []
    for source in map(Path, sources):
        if source.is_file():
            pairs += _read_json_lines(source, prompt, otherwise) if split == "train" else []
        elif (source / "images").is_dir():
            pairs += _read_folder(source, split, prompt, otherwise)
        elif source.is_dir() and (inner := sorted(d for d in source.iterdir() if (d / "images").is_dir())):
            for folder in inner:
                pairs += _read_folder(folder, split, prompt, otherwise)
        else:
            raise DataError(
                f"{source}: expected a folder with images/ and masks/, or a JSON-lines file with source, target, prompt."
            )
    if required and not pairs:
        raise DataError(f"no {split} pairs in {', '.join(map(str, sources))}.")
    return sorted(pairs, key=lambda p: p.name)


def _read_folder(folder: Path, split: str, prompt: str | None, otherwise: str | None) -> list[Pair]:
    known = PROMPT_OF_SET.get(folder.name, otherwise)
    if prompt is None:
        prompt = known
    elif folder.name in PROMPT_OF_SET and prompt != known:
        once(f"{folder}: --prompt, {prompt!r}, takes the place of this data set's {known!r}.")
    if prompt is None:
        raise DataError(
            f"{folder}: the prompt is not known for this folder; pass --prompt, for example --prompt '{POLYP}'."
        )
    if not (folder / "masks").is_dir():
        raise DataError(f"{folder}: no masks/ folder beside images/.")
    images, masks = _by_stem(folder / "images"), _by_stem(folder / "masks")
    if (folder / f"{split}.txt").is_file():
        ids = _ids(folder / f"{split}.txt")
    elif split == "train":
        others = {
            i
            for other in ("val", "test")
            if (folder / f"{other}.txt").is_file()
            for i in _ids(folder / f"{other}.txt")
        }
        ids = sorted(set(images) - others)
    else:
        return []
    missing = Path("missing")  # check_pairs reports it with its name, together with all other faults
    # Two files of one name become two pairs of one name, which check_pairs reports as well.
    return [
        Pair(f"{folder.name}/{i}", image, mask, prompt)
        for i in ids
        for image in images.get(i, [folder / "images" / missing / i])
        for mask in masks.get(i, [folder / "masks" / missing / i])
    ]


def _ids(file: Path) -> list[str]:
    return [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]


def _by_stem(folder: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            found.setdefault(path.stem, []).append(path)
    return found


def _read_json_lines(file: Path, prompt: str | None, otherwise: str | None) -> list[Pair]:
    pairs, faults, replaced = [], [], []
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not a text file of JSON lines ({error}).") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            image, mask = file.parent / row["target"], file.parent / row["source"]
            text = otherwise if row.get("prompt") is None else str(row["prompt"])
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            faults.append(f"line {number}: {error!r}")
            continue
        if prompt is not None:
            replaced += [text] if text not in (None, otherwise, prompt) else []
            text = prompt
        if text is None:
            faults.append(f"line {number}: no prompt")
        else:
            pairs.append(Pair(f"{file.stem}/{number:06d}-{image.stem}", image, mask, text))
    if faults:
        raise DataError(_listing(f"{file}: lines that are not {{source, target, prompt}}", faults))
    if replaced:
        once(
            f"{file}: --prompt, {prompt!r}, takes the place of the prompts of {len(replaced)} lines ({_some(sorted(set(replaced)))})."
        )
    return pairs


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
        raise DataError(
            _listing(f"{len(faults)} of {len(pairs)} pairs cannot be used; correct or remove them", faults)
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


def _some(prompts: Sequence[str]) -> str:
    return ", ".join(map(repr, prompts[:3])) + (f" and {len(prompts) - 3} others" if len(prompts) > 3 else "")


def _listing(title: str, faults: Sequence[str]) -> str:
    return title + ":\n" + "\n".join(f"  {fault}" for fault in faults)


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
        raise DataError(
            _listing(f"{len(faults)} of {len(pairs)} pairs cannot be used; correct or remove them", faults)
        )
    return [array for array in found if not isinstance(array, str)]


def array_key(pairs: Sequence[Pair]) -> str:
    """Name of what is cached of the arrays of ``pairs``: other files, and other ways of reading the same files, have other names."""
    return f"{fingerprint(pairs)}r{READING_VERSION}"


def fingerprint(pairs: Sequence[Pair]) -> str:
    """Short digest of names, prompts and the files' bytes: a cache made of other files is never reused, wherever they lie."""

    def of(pair: Pair) -> bytes:
        parts = (pair.name.encode(), pair.prompt.encode(), pair.image.read_bytes(), pair.mask.read_bytes())
        return b"".join(hashlib.sha256(part).digest() for part in parts)

    with ThreadPoolExecutor() as pool:
        return hashlib.sha256(b"".join(pool.map(of, pairs))).hexdigest()[:16]
