"""Data sets as folders: finding them, matching their images, masks and split files, and reporting what was not read.

SET/images/ID.jpg  SET/masks/ID.png  and, if wanted, SET/train.txt  SET/val.txt  SET/test.txt
DATA/train/images  DATA/train/masks  DATA/test/images ...: folders instead of split files
a ZIP of either, such as the studio's exports; their prompt.json tells the prompts
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from siamese.files.archives import ArchivedFileError, ArchiveError, ArchiveLimits, open_archive
from siamese.files.listing import (
    Matched,
    PassedOver,
    describe_passed_over,
    find_key,
    list_files,
    list_folders,
    match_masks,
)
from siamese.records.prompts import LESION, POLYP
from train.data.json_lines import read_json_rows, say_replaced
from train.data.splits import SPLITS, assign, mentions, split_files, split_of_name
from train.data.types import DataError, Pair
from train.engine.printing import print_once

# Public data sets whose folder name tells the organ; every other folder needs an explicit prompt, and an explicit one wins.
PROMPT_OF_SET = {"kvasir-seg": POLYP, "cvc-clinicdb": POLYP, "isic2018": LESION}
MAX_DEPTH = 3
"""Folders above ``images/``, counted from the one that was given."""
ZIP_LIMITS = ArchiveLimits(entries=100_000, file_bytes=64 * 2**20, total_bytes=16 * 2**30)
_NO_SET = "without images/ and masks/"


@dataclass(frozen=True)
class SetFolder:
    """A folder with ``images/``."""

    path: Path
    name: str
    """Begins the names of its pairs."""
    split: str | None
    """What its name, or the name of the folder around it, says that it is."""


def find_sets(source: Path) -> list[SetFolder]:
    """The data sets in the folder ``source``: itself, its folders, or their folders.

    Raises:
        DataError: no data set is found; or a folder within is named like a split, and it is not clear which.
    """
    whole = Path(os.path.abspath(source))  # "." has no name
    split = split_of_name(whole.name)
    top = SetFolder(source, f"{whole.parent.name}/{whole.name}" if split else whole.name, split)
    passed_over: list[PassedOver] = []
    sets = _sets_in(top, MAX_DEPTH, passed_over)
    if not sets:
        raise DataError(
            f"{source}: expected a folder with images/ and masks/, or a JSON-lines file with source, target, prompt."
        )
    if passed_over:
        print_once("\n".join([f"{source}: not read:", *describe_passed_over(passed_over)]))
    return sets


def _sets_in(here: SetFolder, depth: int, passed_over: list[PassedOver]) -> list[SetFolder]:
    """``here``, if it is a data set, and those within it; the rest is added to ``passed_over``."""
    if not here.path.is_dir():
        return []
    is_set = _part(here.path, "images") is not None
    sets = [here] if is_set else []
    if depth == 0:
        return sets
    folders, beside = list_folders(here.path)
    if not is_set:
        passed_over += beside
    for folder in folders:
        split = split_of_name(folder.name)
        if is_set and split is None and not mentions(folder.name, ("val", "test")):
            if folder.name.lower() not in ("images", "masks", "drawn_masks"):
                passed_over.append(PassedOver(f"{folder.name}/", "a folder beside images/ and masks/"))
            continue
        # A split's folder is named with the folder around it, which tells the data set; one within a split with the split.
        name = f"{here.name}/{folder.name}" if split or here.split else folder.name
        within = SetFolder(folder, name, split or here.split)
        found = _sets_in(within, depth - 1, passed_over)
        if found and within.split is None and mentions(folder.name, ("val", "test")):
            raise DataError(
                f"{folder}: its name says neither clearly that it is a test or validation set nor that it is not. Name it train, val or "
                "test, or give the folders to train on one by one."
            )
        if not found:
            passed_over.append(PassedOver(f"{here.name}/{folder.name}/", _NO_SET))
        sets += found
    return sets


def _part(folder: Path, name: str) -> Path | None:
    """The folder ``images`` or ``masks``, in any case, of ``folder``.

    Raises:
        DataError: there are several.
    """
    found = [path for path in folder.iterdir() if path.name.lower() == name and path.is_dir()]
    if len(found) > 1:
        raise DataError(
            f"{folder}: {' and '.join(sorted(p.name for p in found))} differ in case only; keep one."
        )
    return found[0] if found else None


def read_set(one: SetFolder, split: str, prompt: str | None, otherwise: str | None) -> list[Pair]:
    """The pairs of ``one`` in ``split``; see ``train.data.pairs.read_pairs``. What is not read is printed, once.

    Raises:
        DataError: every fault of the folder's names and split files; or no known prompt.
    """
    images, masks = _part(one.path, "images"), _part(one.path, "masks")
    if masks is None or images is None:
        raise DataError(f"{one.path}: no masks/ folder beside images/.")
    listings = {"images": list_files(images), "masks": list_files(masks)}
    matched = match_masks(listings["images"], listings["masks"])
    known = listings["images"].files
    assigned = assign(split_files(one.path), known, one.split or "train")
    keys = assigned.keys.get(split, [])
    faults = [*matched.faults, *assigned.faults]
    faults += [
        f"{known[key][0].name}: no mask of this name in masks/" for key in keys if key not in matched.pairs
    ]
    if faults:
        raise DataError.of(
            f"{one.path}: {len(faults)} files or IDs that cannot be used; correct or remove them", faults
        )
    passed_over = [
        PassedOver(f"{part}/{name.name}", name.reason)
        for part, listing in listings.items()
        for name in listing.passed_over
    ]
    _say_what_was_read(one, keys=assigned.keys, matched=matched, known=known, passed_over=passed_over)
    prompts = _prompts(one, keys, prompt, otherwise)
    return [Pair(f"{one.name}/{key}", *matched.pairs[key], prompts[key]) for key in keys]


def _say_what_was_read(
    one: SetFolder,
    keys: dict[str, list[str]],
    matched: Matched,
    known: Collection[str],
    passed_over: list[PassedOver],
) -> None:
    """Print, once, how many pairs each split has, and everything that is in none of them."""
    used = {key for some in keys.values() for key in some}
    passed_over += [
        PassedOver(f"images/{file.name}", "no mask of this name") for file in matched.images_alone
    ]
    passed_over += [PassedOver(f"masks/{file.name}", "no image of this name") for file in matched.masks_alone]
    passed_over += [
        PassedOver(f"images/{image.name}", "in none of the split files")
        for key, (image, _) in matched.pairs.items()
        if key not in used
    ]
    counts = ", ".join(f"{len(keys[name])} {name}" if name in keys else f"no {name}" for name in SPLITS)
    rows = describe_passed_over(passed_over)
    print_once("\n".join([f"{one.path}: {counts}{'; not read:' if rows else ''}", *rows]))


def _prompts(
    one: SetFolder, keys: Sequence[str], prompt: str | None, otherwise: str | None
) -> dict[str, str]:
    """The prompt of each image: ``prompt``, that of the folder's prompt.json, that of a known data set, ``otherwise``."""
    own = _own_prompts(one.path, keys)
    sets = one.name.casefold().split("/")
    of_set = next((PROMPT_OF_SET[name] for name in sets if name in PROMPT_OF_SET), None)
    if prompt is not None:
        if of_set not in (None, prompt):
            print_once(f"{one.path}: --prompt, {prompt!r}, takes the place of this data set's {of_set!r}.")
        say_replaced(one.path / "prompt.json", prompt, [text for text in own.values() if text != prompt])
        return dict.fromkeys(keys, prompt)
    fallback = of_set if of_set is not None else otherwise
    found = {key: own.get(key, fallback) for key in keys}
    if None in found.values():
        raise DataError(
            f"{one.path}: the prompt is not known for this folder; pass --prompt, for example --prompt '{POLYP}'."
        )
    return {key: text for key, text in found.items() if text is not None}


def _own_prompts(folder: Path, keys: Sequence[str]) -> dict[str, str]:
    """Prompts by key from the folder's prompt.json, which the studio's exports and ``train sample`` write."""
    file, known = folder / "prompt.json", set(keys)
    if not file.is_file():
        return {}
    rows, faults = read_json_rows(file)
    if faults:
        raise DataError.of(f"{file}: lines that are not {{source, target, prompt}}", faults)
    prompts = ((find_key(row.image.name, known), row.prompt) for row in rows)
    return {key: text for key, text in prompts if key is not None and text is not None}


@cache
def unpacked_archive(file: Path) -> Path:
    """A folder, named as the ZIP ``file``, with its content; it is removed when the process ends.

    Raises:
        DataError: the file cannot be read, or holds files that cannot be unpacked; all of these are listed.
    """
    space = Path(tempfile.mkdtemp(prefix="train-data-"))
    atexit.register(shutil.rmtree, space, ignore_errors=True)
    folder, faults = space / file.stem, []
    folder.mkdir()
    try:
        with open_archive(file, ZIP_LIMITS) as archive:
            for one in archive.files:
                try:
                    data = archive.read(one)
                except ArchivedFileError as error:
                    faults.append(f"{one.shown}: {error}")
                    continue
                path = folder.joinpath(*one.parts)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
    except ArchiveError as error:
        raise DataError(f"{file}: {error}") from error
    if faults:
        raise DataError.of(f"{file}: files that cannot be unpacked", faults)
    return folder
