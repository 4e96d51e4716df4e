"""The card of published weights (README.md of their folder), from what the folder and the runs' records say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from siamese.models.autoencoder import downsampling, latent_channels
from siamese.models.checkpoint import Checkpoint
from siamese.models.modules import config_of
from siamese.records.catalogue import SHEET, figures
from siamese.records.subjects import NOUN, Subjects
from train.tools.licence import TERMS

PURPOSE = "**Research and education. Not for diagnosis.**"
_STARTED = (
    "Training started from the weights {name}. The embeddings of the prompts that these knew are unchanged, but the networks were "
    "trained further, on the data above alone: images of the other subjects differ from those of {name}, and may be worse."
)
_SAMPLES = [
    "## Samples",
    "",
    f"![Masks, and images that the model made of each]({SHEET})",
    "",
    "The first row are masks of training pairs; every image is synthetic.",
    "",
]
NOT_MEASURED = (
    "Not measured. `python -m train evaluate --model FOLDER --data ...` measures these weights, and `python -m train publish --metrics` "
    "brings the figures here."
)


@dataclass(frozen=True)
class RunRecord:
    """What a stage's folder says of its training; None for what it does not say."""

    stage: str
    updates: int | None
    batch: int | None
    rate: float | None
    seconds: float | None
    pairs: int | None

    @classmethod
    def of(cls, run: Path, stage: str) -> RunRecord:
        """That of a run's folder: ``run.json``, the newest checkpoint, and ``progress.json`` if ``train all`` made it.

        Raises:
            FileNotFoundError: there is no run.json.
            ValueError: one of the files is damaged.
        """
        if not (run / "run.json").is_file():
            raise FileNotFoundError(f"{run}: no run.json; give the folder that --loop.out named.")
        facts = json.loads((run / "run.json").read_text(encoding="utf-8"))
        record = run / "progress.json"
        progress: dict[str, Any] = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
        saved = [
            int(p.name.split("-")[1]) for p in (run / "checkpoints").glob("step-*") if p.suffix != ".part"
        ]
        return cls(
            stage=stage,
            updates=max(saved, default=progress.get("updates")),
            batch=facts.get("batch_size"),
            rate=facts.get("learning_rate"),
            seconds=progress.get("seconds"),
            pairs=facts.get("samples"),
        )

    def row(self) -> str:
        """Its line of the card's table."""
        seen = None if self.updates is None or self.batch is None else self.updates * self.batch
        minutes = None if self.seconds is None else f"{self.seconds / 60:.1f}"
        rate = "" if self.rate is None else f"{self.rate:g}"
        cells = [
            self.stage,
            *(_cell(x) for x in (self.updates, self.batch, seen, self.pairs)),
            rate,
            minutes or "",
        ]
        return "| " + " | ".join(cells) + " |"


@dataclass(frozen=True)
class CardFacts:
    """What a card says besides the networks."""

    sets: Sequence[str]
    """Names of the data that the weights were trained on."""
    kinds: Subjects
    segmenter: bool
    """Whether the folder has a segmentation network for all of its subjects."""
    sheet: bool
    """Whether it has a sheet of samples."""
    megabytes: float
    """Size of the folder."""
    runs: Sequence[RunRecord]
    metrics: dict[str, Any] | None
    started_from: str | None = None
    """Name of the weights that training started from."""


def card(name: str, checkpoint: Checkpoint, facts: CardFacts) -> str:
    """Markdown of the weights ``name``."""
    side = checkpoint.image_size
    return (
        "\n".join(
            [
                "---",
                "license: other",
                "tags: [medical, segmentation, synthetic-data, diffusers]",
                "---",
                f"# {name}",
                "",
                f"Synthetic images of a drawn mask{_nouns(facts.kinds)}, {side} x {side}, by Mask-Diffusion. {PURPOSE}",
                "Licence: [`LICENSE`](LICENSE); the code is apart from it under Apache-2.0.",
                "",
                "## What it is",
                "",
                *_table_of_parts(checkpoint, facts),
                "",
                f"Sampling defaults: {checkpoint.defaults.describe()}.",
                "",
                "## Subjects",
                "",
                *_subjects(facts.kinds),
                "",
                *(_SAMPLES if facts.sheet else []),
                "## Training",
                "",
                f"Trained on the `train` splits of: {', '.join(facts.sets) or 'not stated'}.",
                *([_STARTED.format(name=facts.started_from)] if facts.started_from else []),
                "",
                *_training(facts.runs),
                "",
                "## Figures",
                "",
                *_figures(facts.metrics),
                "",
                "## Sources",
                "",
                "Method: Qiu et al., CVPR 2025, arXiv:2505.06068. No real image is in this folder.",
                *(
                    text.strip().replace("\n      ", " ")
                    for known, text in TERMS.items()
                    if known in facts.sets
                ),
            ]
        )
        + "\n"
    )


def _table_of_parts(checkpoint: Checkpoint, facts: CardFacts) -> list[str]:
    prompts = checkpoint.context.prompts
    known = "free text" if prompts is None else ", ".join(json.dumps(p, ensure_ascii=False) for p in prompts)
    network = "| segmentation network | `segmenter/`; suggests masks and measures agreement in the app |"
    return [
        "| part | |",
        "| --- | --- |",
        *(f"| {part} | {what} |" for part, what in _parts(checkpoint)),
        *([network] if facts.segmenter else []),
        f"| prompts | {known} |",
        f"| size | {facts.megabytes:.1f} MB |",
    ]


def _nouns(kinds: Subjects) -> str:
    nouns = list(dict.fromkeys(s.noun for s in kinds.listed if s.noun != NOUN))
    return f" ({', '.join(nouns)})" if nouns else ""


def _subjects(kinds: Subjects) -> list[str]:
    """Table of the subjects, and what is missing."""
    rows = [
        f"| {s.name} | {json.dumps(s.prompt, ensure_ascii=False)} | {s.noun} | {'yes' if s.has_segmenter else 'no'} | {'yes' if s.has_shapes else 'no'} |"
        for s in kinds.listed
    ]
    missing = [f"- {sentence}" for s in kinds.listed for sentence in s.missing]
    return [
        "| subject | prompt | what is drawn | segmentation network | random shapes |",
        "| --- | --- | --- | --- | --- |",
        *rows,
        *(["", "What is missing:", "", *missing] if missing else []),
    ]


def _parts(checkpoint: Checkpoint) -> list[tuple[str, str]]:
    vae, unet, controlnet = checkpoint.vae, checkpoint.unet, checkpoint.controlnet
    parts = [
        (
            "autoencoder",
            f"`{type(vae).__name__}`, latents {downsampling(vae)} times smaller with {latent_channels(vae)} channels, {_size(vae)}",
        ),
        (
            "U-Net",
            f"widths {', '.join(map(str, config_of(unet).block_out_channels))}, {checkpoint.prediction.replace('_', ' ')}, {_size(unet)}",
        ),
    ]
    if controlnet is not None:
        parts.append(
            (
                "ControlNet with Dense Hint Input",
                f"{controlnet.config.hint_mergings} downsamplings, {_size(controlnet)}",
            )
        )
    return parts


def _size(module: nn.Module) -> str:
    return f"{sum(p.numel() for p in module.parameters()) / 1e6:.2f} M parameters"


def _training(runs: Sequence[RunRecord]) -> list[str]:
    if not runs:
        return ["No records of the training were given."]
    return [
        "| stage | updates | batch | samples seen | training pairs | learning rate | minutes |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *(run.row() for run in runs),
    ]


def _figures(metrics: dict[str, Any] | None) -> list[str]:
    if not metrics:
        return [NOT_MEASURED]
    return [
        "| part | figure | value |",
        "| --- | --- | --- |",
        *(f"| {' | '.join(row)} |" for row in figures(metrics)),
    ]


def _cell(number: int | None) -> str:
    return "" if number is None else f"{number:,}"
