"""``create``: make a study from folders of images and from models."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from siamese.study.commands.options import StorageOptions
from siamese.study.config import DEFAULT_CONSENT
from siamese.study.creation.generated import Report as SamplingReport
from siamese.study.creation.service import CreateStudy, create, method_folders
from siamese.study.protocols import protocol_names
from siamese.study.storage.entities import Study
from siamese.study.storage.text_findings import text_warning

if TYPE_CHECKING:
    ProtocolName = str
else:
    ProtocolName = tyro.extras.literal_type_from_choices(protocol_names())


@dataclass(frozen=True)
class Create:
    """Make a study from a folder that holds one folder of images per method; files of one name (without suffix) share a mask.

    Further methods can be sampled from checkpoints now, never while raters rate: --masks FOLDER --sample NAME=MODEL.
    """

    images: tyro.conf.Positional[Path]
    """Folder of the methods' folders; their names become the methods' names. A folder of masks may lie among them, see --masks."""
    id: str
    """Short name: lower-case letters, digits, hyphens."""
    title: str
    """Raters see it."""
    protocol: ProtocolName = protocol_names()[0]
    """How images are shown and judged: real or synthetic one at a time, a ranking side by side, or which of two is real."""
    organ: str = "polyp"
    """What the images show: polyp, lesion, ... Sampled images need one of these two, or --prompt."""
    sample: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """A method to sample of the chosen masks: NAME=MODEL or NAME=MODEL:steps=50,guidance=2,scheduler=ddim,guide=prompt. MODEL is a
    folder or a model on the Hugging Face Hub. What is not set is the model's default. Can be given several times."""
    masks: Path | None = None
    """Folder of the masks to sample, named as the images."""
    prompt: str | None = None
    """Prompt to sample with; by default it follows from the organ."""
    real: tuple[str, ...] = ("real",)
    """Names of the folders of real images. If nothing is real, give --real without names."""
    groups: int | None = None
    """Mask groups to rate; by default all that every method has."""
    training: int = 0
    """Items with feedback before the first."""
    repeats: int = 0
    """Items shown twice."""
    share_known: bool = False
    """Tell raters the share of real images."""
    comments: bool = True
    """Let raters comment."""
    instructions: Path | None = None
    """Text file; by default the protocol's own text."""
    consent: Path | None = None
    """Text file; by default a short text."""
    display_side: int = 512
    """Longer side of the images in pixels."""
    seed: int = 0
    """Chooses the groups, and the noise of sampled images."""
    draft: bool = False
    """Do not open the study to raters yet."""
    accept_loss: bool = False
    """Open it although storage may not last, as on a Space without a volume."""
    accept_text: bool = False
    """Open it although text is burned into real images, which may name patients and tells what is real. Without this and without
    --draft nothing is made of such images; a draft asks when it is opened."""
    place: Annotated[StorageOptions, tyro.conf.arg(name="")] = field(default_factory=StorageOptions)

    def run(self) -> None:
        """Make it and say what was made."""
        request = self.request()
        store = self.place.store()
        if not self.draft:
            store.check_loss(self.accept_loss)  # before minutes of work
        study = create(store, request, sampling_report(), note=print_note)
        if not self.draft:
            store.open(study.config.id, self.accept_loss, self.accept_text)
        elif names := [one.name for one in store.texts(study.config.id)]:
            print(f"warning: {text_warning(names, 'the study is a draft.')}", file=sys.stderr)
        print(summary_of(study))

    def request(self) -> CreateStudy:
        """What is asked for; see ``method_folders`` for errors. Prints what is passed over in the folder."""
        return CreateStudy(
            id=self.id,
            title=self.title,
            protocol=self.protocol,
            organ=self.organ,
            folders=method_folders(self.images, print_note),
            real=self.real,
            sampled=self.sample,
            masks=self.masks,
            prompt=self.prompt,
            groups=self.groups,
            training=self.training,
            repeats=self.repeats,
            share_known=self.share_known,
            comments=self.comments,
            instructions=self.instructions.read_text(encoding="utf-8") if self.instructions else "",
            consent=self.consent.read_text(encoding="utf-8") if self.consent else DEFAULT_CONSENT,
            display_side=self.display_side,
            seed=self.seed,
            refuse_text=not (self.draft or self.accept_text),
        )


def print_note(sentence: str) -> None:
    """Print a sentence on what a study leaves out, beside the warnings: standard output holds the result."""
    print(f"note: {sentence}", file=sys.stderr, flush=True)


def summary_of(study: Study) -> str:
    """What was made, and the next command."""
    config = study.config
    practice = f" after {config.training} for practice" if config.training else ""
    return (
        f"{config.id}: {config.groups} groups of {len(config.methods)} methods, {config.rated} items a rater{practice}. "
        f"Configuration {study.config_hash[:12]}.\n"
        f'Next: python -m siamese.study invite {config.id} "Dr A" "Dr B"'
    )


def sampling_report() -> SamplingReport:
    """Prints a line for each batch, with the time that the method's other images will take."""
    began: dict[str, float] = {}

    def report(method: str, done: int, total: int) -> None:
        now = time.monotonic()
        spent = now - began.setdefault(method, now)
        left = f", about {spent / done * (total - done):.0f} s left" if 0 < done < total else ""
        print(f"{method}: {done} of {total} images sampled{left}", flush=True)

    return report
