"""Splits of a data set: which a name means, and the IDs that a split file lists.

A test set is never read as training data. So whatever is named like a split without being understood is an error: the images that
such a file or folder means would otherwise be trained on.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from siamese.files.listing import find_key, is_litter, nearest_hint
from siamese.files.names import shown_name
from train.data.types import DataError

SPLITS = ("train", "val", "test")
_WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
}
_WORDS |= {"test": "test", "testing": "test", "holdout": "test"}
_FILLERS = frozenset(
    [
        "set",
        "data",
        "dataset",
        "split",
        "splits",
        "ids",
        "id",
        "list",
        "file",
        "files",
        "names",
        "images",
        "input",
        "groundtruth",
    ]
)
_LISTS = (
    "",
    ".csv",
    ".tsv",
    ".lst",
    ".list",
    ".ids",
    ".json",
    ".jsonl",
    ".yaml",
    ".yml",
    ".xlsx",
    ".npy",
    ".npz",
    ".pkl",
)
"""Suffixes of files, besides ``.txt``, that may list a split's images."""


def split_of_name(name: str) -> str | None:
    """The split that a folder or file of this name (without suffix) holds.

    >>> [split_of_name(name) for name in ("test", "Validation_set", "TrainDataset", "kvasir_test", "test_kvasir")]
    ['test', 'val', 'train', 'test', None]
    """
    words = _words(name)
    while words and words[-1] in _FILLERS:
        words.pop()
    return _WORDS.get(words[-1]) if words else None


def mentions(name: str, splits: Collection[str] = SPLITS) -> bool:
    """Whether a word of ``name`` is one of ``splits``."""
    return any(_WORDS.get(word) in splits for word in _words(name))


def _words(name: str) -> list[str]:
    words = []
    for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", name):
        word = word.lower()
        filler = next((f for f in _FILLERS if word.endswith(f) and word[: -len(f)] in _WORDS), None)
        words += [word] if filler is None else [word[: -len(filler)], filler]
    return words


def split_files(folder: Path) -> dict[str, Path]:
    """The files that list the splits of the data set in ``folder``: ``train.txt``, ``val.txt``, ``test.txt``, or alike (``valid.txt``).

    Raises:
        DataError: two files of one split, or files named like a split that cannot be read as one.
    """
    found: dict[str, Path] = {}
    faults = []
    for file in sorted(folder.iterdir()):
        if file.is_dir() or is_litter([file.name]):
            continue
        text, suffix = file.suffix.lower() == ".txt", file.suffix.lower()
        split = split_of_name(file.stem)
        if text and split is not None:
            if split in found:
                faults.append(f"{found[split].name} and {file.name} both list the {split} split; keep one")
            found.setdefault(split, file)
        elif (text and mentions(file.stem)) or (suffix in _LISTS and mentions(file.stem, ("val", "test"))):
            faults.append(
                f"{shown_name(file.name)}: named like a split, but not read as one; write its IDs, one a line, to train.txt, val.txt or "
                "test.txt, or move it away"
            )
    if faults:
        raise DataError.of(f"{folder}: split files that cannot be used", faults)
    return found


def read_ids(file: Path) -> list[tuple[int, str]]:
    """Line numbers, from 1, and lines of a split file. Blank lines and comments (``# ...``) are left out.

    Raises:
        DataError: it is not a text file in UTF-8 or UTF-16, or cannot be read.
    """
    try:
        data = file.read_bytes()
        wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))  # as PowerShell writes it
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{file} cannot be read as a list of IDs ({error}). Save it as text in UTF-8."
        ) from error
    if "\0" in text:
        raise DataError(f"{file} is not a text file. Write one ID a line to it.")
    lines = ((number, line.strip()) for number, line in enumerate(re.split(r"\r\n|\r|\n", text), 1))
    return [(number, line) for number, line in lines if line and not line.startswith("#")]


@dataclass
class Assigned:
    """The keys of the images of each split, and what is wrong with the split files."""

    keys: dict[str, list[str]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def assign(files: dict[str, Path], known: Collection[str], rest: str = "train") -> Assigned:
    """Which of the images of keys ``known`` belong to which split.

    An ID is a key, a file name or a path of one; see ``siamese.files.listing.possible_keys``. If ``files`` has none of the split
    ``rest``, it gets the images that the others do not name.
    """
    assigned, named = Assigned(), {}
    for split, file in files.items():
        assigned.keys[split] = []
        for number, text in read_ids(file):
            place = f"{file.name}, line {number}: {shown_name(text)}"
            key = find_key(text, known)
            if key is None:
                assigned.faults.append(f"{place}: there is no image of this name{nearest_hint(text, known)}")
            elif key in named:
                assigned.faults.append(f"{place}: listed twice, before in {named[key]}")
            else:
                named[key] = f"{file.name}, line {number}"
                assigned.keys[split].append(key)
    if rest not in files:
        assigned.keys[rest] = sorted(set(known) - set(named))
    return assigned
