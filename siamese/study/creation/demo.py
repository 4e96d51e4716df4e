"""A small study to try: a newcomer rates within a minute of one command."""

from __future__ import annotations

import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image

from siamese.masks.shapes import load_statistics, random_lesion
from siamese.study.config import REAL, SYNTHETIC, ConfigError, Method, StudyConfig
from siamese.study.creation.folders import Note
from siamese.study.creation.generated import Report, Sampled, create_sampled_study, prompt_of
from siamese.study.protocols import protocols
from siamese.study.storage.entities import Study
from siamese.study.storage.images import list_images
from siamese.study.storage.store import StudyStore

log = logging.getLogger(__name__)
MASK_SIDE = 256
FAST: dict[str, Any] = {"num_inference_steps": 6, "scheduler": "dpm++"}
"""So that the link is there in less than a minute on two processor cores; the embedded model's images look as with its own 12 steps."""


@dataclass(frozen=True)
class Demonstration:
    """What a demonstration study is made of: real images against a model's, or without real images two settings of the model."""

    model: str
    """Model folder, or a model on the Hugging Face Hub."""
    organ: str = "polyp"
    groups: int = 6
    real: Path | None = None
    """Folder of real images, or one with ``images/`` and ``masks/``."""
    masks: Path | None = None
    """Folder of the real images' masks, named as they are; random lesions if this is None and the folder has no masks."""
    seed: int = 0
    accept_text: bool = False
    """Show the real images although text is burned into some."""

    def methods(self) -> tuple[Sampled, ...]:
        """What is sampled. Without real images a second setting, without guidance: a difference that can be seen."""
        if self.real is not None:
            return (Sampled("synthetic", self.model, FAST),)
        return (
            Sampled("guided", self.model, FAST),
            Sampled("unguided", self.model, FAST | {"guidance_scale": 1.0}),
        )


def free_id(store: StudyStore) -> str:
    """``demo``, or ``demo-2`` and so on if earlier demonstrations have these names."""
    taken = {s.config.id for s in store.studies()}
    number = 1
    while (name := "demo" if number == 1 else f"demo-{number}") in taken:
        number += 1
    return name


def find_real(folder: Path, masks: Path | None) -> tuple[Path, Path | None]:
    """Folders of the real images in ``folder`` and of their ``masks``, or None if they have no masks.

    Raises:
        ConfigError: the folder is not there.
    """
    if not folder.is_dir():
        raise ConfigError([f"--real {folder}: there is no such folder."])
    if (folder / "images").is_dir():
        return folder / "images", masks or (folder / "masks" if (folder / "masks").is_dir() else None)
    return folder, masks


def write_lesions(folder: Path, ids: list[str], prompt: str, seed: int) -> Path:
    """``folder`` with a random lesion for each mask id."""
    folder.mkdir()
    statistics = load_statistics()[prompt]
    for i, name in enumerate(ids):
        Image.fromarray(random_lesion(statistics, seed + i, MASK_SIDE)).save(folder / f"{name}.png")
    return folder


def make_demo(
    store: StudyStore,
    wanted: Demonstration,
    report: Report = lambda method, done, total: None,
    note: Note = log.warning,
) -> Study:
    """Make a demonstration study and open it to raters; see ``create_sampled_study`` for ``report`` and ``note``.

    Raises:
        ConfigError: a folder, model or organ that cannot be used, or too few images.
        StudyError: real images have burned-in text, and that is not accepted.
    """
    if wanted.masks is not None and wanted.real is None:
        raise ConfigError(["--masks are those of real images: give --real FOLDER."])
    prompt, sampled, real = prompt_of(wanted.organ), wanted.methods(), wanted.real is not None
    methods = ((Method("real", REAL),) if real else ()) + tuple(Method(s.name, SYNTHETIC) for s in sampled)
    config = StudyConfig(
        id=free_id(store),
        title="Demonstration",
        protocol=next(p.name for p in protocols() if p.method_problem(methods) is None),
        organ=wanted.organ,
        methods=methods,
        groups=wanted.groups,
        seed=wanted.seed,
    )
    images, masks = (None, None) if wanted.real is None else find_real(wanted.real, wanted.masks)
    with tempfile.TemporaryDirectory(prefix="study-demo-") as space:
        if masks is None:
            ids = [f"lesion {i + 1:02d}" for i in range(wanted.groups)]
            if images is not None:
                found = sorted(list_images(images)[0])
                ids = Random(wanted.seed).sample(found, min(wanted.groups, len(found)))
            masks = write_lesions(Path(space) / "masks", ids, prompt, wanted.seed)
        folders = ({} if images is None else {"real": images}) | {s.name: masks for s in sampled}
        study = create_sampled_study(
            store,
            config,
            folders,
            sampled,
            prompt=prompt,
            report=report,
            refuse_text=not wanted.accept_text,
            note=note,
        )
    # Loss is accepted to try the pages: the command prints what could be lost.
    store.open(study.config.id, accept_loss=True, accept_text=wanted.accept_text)
    return study
