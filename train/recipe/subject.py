"""A subject of the user's own: the Siamese stage, and then all that the page wants of a model folder.

    python -m train siamese --init assets/siamese-tiny --data my_pairs --prompt "a stain on a white wall" --name "Stain on a wall" --noun stain

``OUT/model`` gets, beside the trained networks:
  subjects.json          name and word of the subject, and of those that the model knew before
  segmenters/NAME/       its segmentation network, and lesion_shapes.json with its shapes, from ``MIN_SHAPES`` training pairs on
  samples.png            training masks, and what the model makes of each
  README.md, LICENSE     card, which says what is missing and how to get it, and terms
  examples/              what a first visit to the page shows, if the shapes are known
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from siamese.files.atomic import replacing
from siamese.masks.shapes import MIN_SHAPES, PACKAGED, folder_statistics, save_statistics
from siamese.models.checkpoint import find_folder
from siamese.records.catalogue import SHEET
from siamese.records.subjects import (
    FILE,
    MOST_LETTERS,
    SEGMENTER,
    SEGMENTERS,
    Subject,
    Subjects,
    named,
    read_subjects,
    slug,
    write_subjects,
)
from siamese.sampling import MaskDiffusion
from train.data.pairs import DataError, Pair, load_masks, read_pairs
from train.engine import loop
from train.engine.disk import writing
from train.evaluation.synthesis import contact_sheet
from train.recipe.presets import stage_config
from train.stages import segmenter, siamese
from train.stages.lesion_shapes import fit_enough
from train.stages.siamese import SiameseTrainConfig
from train.tools.publish import PublishConfig, publish

__all__ = ["SiameseTrainConfig", "main"]

SHEET_MASKS, SHEET_IMAGES = 6, 2
"""Training masks on the sheet, and images of each."""
WRITTEN_CARD = "card.md"
"""Copy, in OUT, of the card that was written last: a README.md that differs from it was edited by hand, and is kept."""


def main(config: SiameseTrainConfig) -> int:
    """Train; then complete the model folder if a subject is named or its prompt is new. Returns the updates done.

    Raises:
        DataError: a name for pairs of several prompts.
        ValueError: a name that is too long, or another subject's.
    """
    before = read_subjects(find_folder(config.init))
    if not _is_own(config, before):
        return siamese.main(config)
    pairs = read_pairs(config.data, "train", config.prompt)
    subject = _subject(config, pairs, before)
    updates = siamese.main(config)
    if loop.interrupted() or updates < max(config.loop.max_steps, config.loop.extend_to or 0):
        return updates  # the same command goes on, and comes to the rest
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        if os.environ.get("RANK", "0") == "0":
            _say(
                f"Card, licence, sample sheet, segmentation network and shapes of “{subject.name}” are made in one process: "
                "run the same command once more without torchrun. It trains nothing twice."
            )
        return updates
    complete(config, pairs, subject, before)
    return updates


def complete(config: SiameseTrainConfig, pairs: Sequence[Pair], subject: Subject, before: Subjects) -> None:
    """Bring all but the networks of the trained model into OUT/model.

    Args:
        pairs: the training pairs.
        subject: theirs.
        before: the subjects of the model that training started from.
    """
    model, init = config.loop.out / "model", find_folder(config.init)
    with writing(f"the model ({model})"):
        _bring(init, model)
        if statistics := fit_enough(pairs):
            with replacing(model / PACKAGED) as part:
                save_statistics(folder_statistics(init) | statistics, part)
    if len(pairs) >= MIN_SHAPES and config.subject.segmenter_updates:
        trained = _segmenter(config)
        if trained is None:
            return  # stopped
        subject = replace(subject, segmenter=f"{SEGMENTERS}/{slug(subject.name)}")
        shutil.copytree(trained, model / str(subject.segmenter), dirs_exist_ok=True)
    others = [s for s in before.listed if s.prompt != subject.prompt]
    if before.free_text and not (init / FILE).is_file():
        others = []  # nobody has said that it was trained on them
    with writing(f"the model ({model})"):
        write_subjects(model, [subject, *others], title=subject.name)
        write_sheet(model, pairs, subject.prompt)
        _publish(config, pairs, subject)
    for sentence in read_subjects(model).of(subject.prompt).missing:
        _say(sentence)
    _say(
        f"“{subject.name}” has name, card, licence and sample sheet ({model / SHEET}) now. To open it:\n  python app.py --model {model}"
    )


def write_sheet(model: Path, pairs: Sequence[Pair], prompt: str) -> None:
    """samples.png of a model folder: some masks of ``pairs``, and below each the images that the model makes of it.

    No image of a pair is on it.
    """
    diffusion = MaskDiffusion.from_pretrained(model)
    chosen = np.unique(np.linspace(0, len(pairs) - 1, min(SHEET_MASKS, len(pairs))).astype(int))
    masks = list(load_masks([pairs[i] for i in chosen], diffusion.size))
    settings = diffusion.checkpoint.defaults
    rows = [masks]
    for row in range(SHEET_IMAGES):
        seeds = [row * len(masks) + i for i in range(len(masks))]
        rows.append(list(diffusion.sample_fitted(masks, prompt, seeds, settings)))
    info = PngInfo()
    info.add_text(
        "Description", "Masks, and synthetic images of them. Research and education, not for diagnosis."
    )
    with replacing(model / SHEET) as part:
        Image.fromarray(contact_sheet(rows)).save(part, "PNG", pnginfo=info)


def _is_own(config: SiameseTrainConfig, before: Subjects) -> bool:
    """Whether the user names a subject, or trains on a prompt that the model's table lacks."""
    known = before.free_text or config.prompt in {None, "", *(s.prompt for s in before.listed)}
    return config.subject.name is not None or not known


def _subject(config: SiameseTrainConfig, pairs: Sequence[Pair], before: Subjects) -> Subject:
    """The subject of ``pairs``, with the network that the model has for it already, if any.

    Raises:
        DataError, ValueError: see ``main``.
    """
    prompts = sorted({pair.prompt for pair in pairs})
    if len(prompts) > 1 or not prompts[0]:
        raise DataError(
            f"--name names one subject, but the pairs have the prompts {', '.join(map(repr, prompts))}. Give --prompt, one that is not "
            "empty, or train on the pairs of one subject."
        )
    subject = named(prompts[0], config.subject.name, config.subject.noun)
    for option, text in (("--name", subject.name), ("--noun", subject.noun)):
        if not text.strip() or len(text) > MOST_LETTERS:
            raise ValueError(
                f"{option} must have 1 to {MOST_LETTERS} letters: it labels controls of the page."
            )
    for other in before.listed:
        if other.prompt == subject.prompt:
            subject = replace(subject, segmenter=other.segmenter)
        elif other.name == subject.name:
            raise ValueError(
                f"the model has a subject “{other.name}” already, with the prompt {other.prompt!r}; give another --name."
            )
    return subject


def _bring(init: Path, model: Path) -> None:
    """What the model had for its subjects before: their networks and shapes."""
    for part in (SEGMENTER, SEGMENTERS):
        if (init / part).is_dir():
            shutil.copytree(init / part, model / part, dirs_exist_ok=True)
    if (init / PACKAGED).is_file():
        shutil.copyfile(init / PACKAGED, model / PACKAGED)


def _segmenter(config: SiameseTrainConfig) -> Path | None:
    """Folder of the subject's segmentation network, trained in OUT/segment; None if it was stopped."""
    updates = config.subject.segmenter_updates
    _say(f"The subject's segmentation network: {updates} updates.")
    settings = stage_config(
        "segment",
        "tiny",
        {"data": config.data, "prompt": config.prompt},
        {"out": config.loop.out / "segment", "max_steps": updates, "seed": config.loop.seed},
    )
    settings = replace(
        settings, loop=replace(settings.loop, warmup_steps=min(settings.loop.warmup_steps, updates))
    )
    done = segmenter.main(settings, reports=False)
    if loop.interrupted() or done < updates:
        return None
    return config.loop.out / "segment" / settings.architecture / "model"


def _publish(config: SiameseTrainConfig, pairs: Sequence[Pair], subject: Subject) -> None:
    """Examples, licence and card. A card that was edited since it was written is kept."""
    out = config.loop.out
    card, written = out / "model" / "README.md", out / WRITTEN_CARD
    edited = card.is_file() and not (written.is_file() and written.read_bytes() == card.read_bytes())
    segmenter_run = out / "segment" / "small"
    publish(
        PublishConfig(
            model=out / "model",
            out=out / "model",
            trained_on=tuple(sorted({pair.name.split("/")[0] for pair in pairs})),
            runs=(out, segmenter_run) if segmenter_run.is_dir() and subject.has_segmenter else (out,),
            title=subject.name,
            started_from=find_folder(config.init),
            card=not edited,
        ),
        save_weights=False,
    )
    if not edited:
        shutil.copyfile(card, written)


def _say(text: str) -> None:
    print(text, flush=True)
