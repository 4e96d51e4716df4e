"""The model that the interface's tests run on: the embedded one, or a part of it."""

from __future__ import annotations

import json
from pathlib import Path

from siamese.records.prompts import LESION, POLYP
from siamese.records.subjects import Subject, write_subjects

EMBEDDED = Path(__file__).resolve().parents[1] / "assets" / "siamese-tiny"


def quick_model(scratch: Path, steps: int = 2) -> Path:
    """The embedded model in ``scratch``, which samples in ``steps`` steps if nothing else is asked for."""
    return _changed(scratch / "siamese-quick", steps=steps)


def small_images_model(scratch: Path) -> Path:
    """The embedded model in ``scratch``, which makes images of a quarter of its pixels: for tests to which the images are all one."""
    return _changed(scratch / "siamese-128", image_size=128)


def model_without_segmenter(scratch: Path) -> Path:
    """The embedded model in ``scratch``, without the network that suggests masks."""
    return _linked(scratch / "no-segmenter", "segmenter")


def model_of_half_known_subjects(scratch: Path) -> Path:
    """The embedded model in ``scratch`` for images of a quarter of its pixels, whose network knows lesions alone."""
    folder = _changed(scratch / "half-known", image_size=128)
    subjects = [Subject(POLYP, "Polyp", "polyp"), Subject(LESION, "Mole", "mole", "segmenter")]
    write_subjects(folder, subjects, "Moles")
    return folder


def _changed(folder: Path, **settings: int) -> Path:
    """``folder`` with the embedded model and other settings."""
    _linked(folder, "siamese.json")
    embedded = json.loads((EMBEDDED / "siamese.json").read_text())
    (folder / "siamese.json").write_text(json.dumps(embedded | settings))
    return folder


def _linked(folder: Path, without: str) -> Path:
    """``folder`` with links to all parts of the embedded model but one."""
    folder.mkdir(parents=True)
    for part in EMBEDDED.iterdir():
        if part.name != without:
            (folder / part.name).symlink_to(part)
    return folder
