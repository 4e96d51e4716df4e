"""Subjects of a model: what its images show, under which names, and what its folder has for each. Free of torch.

A model folder may hold ``subjects.json``, which ``python -m train siamese --name`` and ``publish --names`` write:

    {"format": "siamese subjects 1",
     "title": "Stain on a wall",
     "subjects": [{"prompt": "a stain on a white wall", "name": "Stain on a wall", "noun": "stain", "segmenter": null}]}

``title`` is the model's name on the page, ``noun`` the word for what is drawn, and ``segmenter`` the folder of the segmentation
network that knows the subject. Prompts of the model that the file does not name, and all of a folder without it, have the
names of the embedded model's prompts or else the prompt itself, and the network in ``segmenter/`` if there is one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from siamese.files.atomic import replacing
from siamese.masks.shapes import MIN_SHAPES, folder_statistics, load_statistics
from siamese.records.prompts import EMPTY, LESION, NAMES, POLYP

FILE = "subjects.json"
FORMAT = "siamese subjects 1"
SEGMENTER = "segmenter"
"""Folder of the segmentation network that knows all of a model's subjects, unless ``subjects.json`` says otherwise."""
SEGMENTERS = "segmenters"
"""Folder of networks that know one subject each, in folders of their own."""
NOUN = "object"
"""Word for what is drawn if nobody has said a better one."""
MOST_LETTERS = 80
"""Longest name, title or noun: they label controls of the page."""
_KNOWN_OF_FREE_TEXT = (POLYP, LESION)


class SubjectsError(ValueError):
    """``subjects.json`` is damaged or does not fit the model; the message names the file and what to do."""


@dataclass(frozen=True)
class Subject:
    """One kind of image that a model draws."""

    prompt: str
    """What the model is given."""
    name: str
    """Short name for the page, for example "Colonoscopy polyp"."""
    noun: str = NOUN
    """Word for what is drawn, in small letters: "polyp", "lesion", "stain"."""
    segmenter: str | None = None
    """Folder, relative to the model's, of the segmentation network that knows this subject; None: there is none."""
    has_shapes: bool = False
    """Whether random masks can be drawn: there are statistics of its shapes."""

    @property
    def has_segmenter(self) -> bool:
        """Whether masks can be suggested on photos, and agreement be measured."""
        return self.segmenter is not None

    @property
    def missing(self) -> tuple[str, ...]:
        """What the model lacks for this subject, a sentence each on what does not work and how to get it; empty if nothing."""
        said = []
        how = f"To get it, train with `--name` on at least {MIN_SHAPES} image-mask pairs of this subject."
        if not self.has_segmenter:
            said.append(
                f"No segmentation network for “{self.name}”: masks cannot be suggested on photos, and the agreement of "
                f"image and mask is not measured. Draw the {self.noun} by hand. {how}"
            )
        if not self.has_shapes:
            said.append(
                f"No statistics of shapes for “{self.name}”: a random {self.noun} cannot be drawn. Draw it by hand, or vary "
                f"a mask that is drawn. {how}"
            )
        return tuple(said)


@dataclass(frozen=True)
class Subjects:
    """All subjects of a model."""

    listed: tuple[Subject, ...]
    """In the order of the page; the first is what a first visit draws."""
    free_text: bool = False
    """Whether the model takes any prompt (Stable Diffusion's kind), so that the list is not all that it can draw."""
    title: str = ""
    """The model's name on the page; empty: its folder's name."""
    segmenter: str | None = None
    """Folder of the network for prompts that are not listed: of a model that takes any text and has no ``subjects.json``, as
    nobody has said what its network was trained on. None: there is none."""

    def of(self, prompt: str) -> Subject:
        """The subject of ``prompt``; of a model that takes any text, one without shapes if it is not listed.

        Raises:
            ValueError: the model does not know the prompt.
        """
        for subject in self.listed:
            if subject.prompt == prompt:
                return subject
        if not self.free_text:
            known = ", ".join(f"“{s.name}”" for s in self.listed)
            raise ValueError(f"This model does not draw “{prompt}”; choose one of {known}.")
        return replace(named(prompt), segmenter=self.segmenter)


def named(prompt: str, name: str | None = None, noun: str | None = None) -> Subject:
    """A subject of ``prompt`` with the given names, else those of the embedded model's prompts, else the prompt itself."""
    known = NAMES.get(prompt, (shortened(prompt), NOUN))
    return Subject(prompt, name or known[0], noun or known[1])


def shortened(prompt: str) -> str:
    """A prompt as a name: with a capital, and cut if it is long."""
    text = " ".join(prompt.split()) or "Any image"
    text = text[0].upper() + text[1:]
    return text if len(text) <= MOST_LETTERS else text[: MOST_LETTERS - 1] + "…"


def slug(name: str) -> str:
    """A name as a part of file names: small letters, digits and hyphens, at most 60."""
    return re.sub(r"[^a-z0-9]+", "-", name.casefold()).strip("-")[:60].strip("-") or "subject"


def read_subjects(folder: Path | None) -> Subjects:
    """Subjects of a model folder, without loading a network. None: of a model of which nothing is known before it is loaded.

    Raises:
        SubjectsError: ``subjects.json`` is damaged, or names a prompt or network that the folder does not have.
        ShapeError: ``lesion_shapes.json`` is damaged.
    """
    if folder is None:
        return Subjects(tuple(_with_shapes(named(p), load_statistics()) for p in _KNOWN_OF_FREE_TEXT), True)
    rows, title = _read_file(folder)
    table = _prompt_table(folder)
    if table is not None and (odd := [s.prompt for s in rows if s.prompt not in table]):
        raise SubjectsError(
            f"{folder / FILE} names the prompt {odd[0]!r}, which the model does not know; correct it or remove the file."
        )
    everyone = SEGMENTER if (folder / SEGMENTER).is_dir() else None
    prompts = table if table is not None else () if rows else _KNOWN_OF_FREE_TEXT
    own = {s.prompt for s in rows}
    others = [named(p) for p in prompts if p not in own and p != EMPTY]
    subjects = [*rows, *(Subject(s.prompt, s.name, s.noun, everyone) for s in others)]
    statistics = load_statistics() | folder_statistics(folder)
    return Subjects(
        listed=tuple(_with_shapes(s, statistics) for s in subjects),
        free_text=table is None,
        title=title,
        segmenter=everyone if table is None and not rows else None,
    )


def write_subjects(folder: Path, subjects: Sequence[Subject], title: str = "") -> None:
    """Write ``subjects.json`` of a model folder. Shapes are not in it: ``lesion_shapes.json`` says which there are."""
    rows = [{"prompt": s.prompt, "name": s.name, "noun": s.noun, "segmenter": s.segmenter} for s in subjects]
    text = json.dumps({"format": FORMAT, "title": title, "subjects": rows}, indent=1, ensure_ascii=False)
    with replacing(folder / FILE) as part:
        part.write_text(text + "\n", encoding="utf-8")


def _with_shapes(subject: Subject, statistics: Mapping[str, Any]) -> Subject:
    return replace(subject, has_shapes=subject.prompt in statistics)


def _prompt_table(folder: Path) -> tuple[str, ...] | None:
    """The prompts that the model knows; None if it takes free text, or its table is missing or damaged (loading will say so)."""
    file = folder / "context" / "prompts.json"
    if not file.is_file():
        return None
    try:
        prompts = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return None
    if not isinstance(prompts, list) or not all(isinstance(p, str) for p in prompts):
        return None
    return tuple(prompts)


def _read_file(folder: Path) -> tuple[list[Subject], str]:
    """Rows and title of ``subjects.json``; none if there is no such file."""
    file = folder / FILE
    if not file.is_file():
        return [], ""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise ValueError(f"it is not of the format {FORMAT!r}")
        title, rows = values.get("title", ""), values["subjects"]
        if not isinstance(title, str) or len(title) > MOST_LETTERS or not isinstance(rows, list):
            raise ValueError(f"the title must be a text of at most {MOST_LETTERS} letters, subjects a list")
        subjects = [_checked_row(folder, row) for row in rows]
        if len({s.prompt for s in subjects}) < len(subjects) or len({s.name for s in subjects}) < len(rows):
            raise ValueError("two subjects have the same prompt or name")
    except (ValueError, KeyError, TypeError) as error:
        raise SubjectsError(f"{file} cannot be used ({error}); correct it or remove it.") from error
    return subjects, title


def _checked_row(folder: Path, row: Any) -> Subject:
    """One subject of the file.

    Raises:
        KeyError, TypeError, ValueError: a value is missing, of another kind, or names what is not in the folder.
    """
    prompt, name, noun, segmenter = row["prompt"], row["name"], row["noun"], row.get("segmenter")
    if not isinstance(prompt, str) or not prompt.strip():
        raise ValueError("a subject has no prompt")
    for value in (name, noun):
        if not isinstance(value, str) or not value.strip() or len(value) > MOST_LETTERS:
            raise ValueError(f"name and noun must be texts of 1 to {MOST_LETTERS} letters, not {value!r}")
    if segmenter is not None:
        place = PurePosixPath(segmenter)
        if place.is_absolute() or ".." in place.parts or "\\" in segmenter:
            raise ValueError(f"the segmenter {segmenter!r} is not a folder in the model's")
        if not (folder / place).is_dir():
            raise ValueError(f"the segmenter {segmenter!r} is not there")
    return Subject(prompt, name.strip(), noun.strip(), segmenter)
