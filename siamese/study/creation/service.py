"""Making a study, for the administrator's page and the command line alike: one request, one set of checks and messages."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from siamese.files.listing import describe_passed_over, list_folders
from siamese.study.config import DEFAULT_CONSENT, REAL, SYNTHETIC, ConfigError, Method, StudyConfig
from siamese.study.creation.folders import Note, count_groups, create_study
from siamese.study.creation.generated import Report, Sampled, Turn, create_sampled_study, parse_all
from siamese.study.storage.entities import Study
from siamese.study.storage.store import StudyStore

NO_MASKS = "sampling needs masks: name their folder (on the command line: --masks FOLDER)."
NO_METHOD = "a folder of masks is named, but no method to sample (on the command line: --sample NAME=MODEL)."
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CreateStudy:
    """What a study is made of; see ``StudyConfig`` for the fields that are not explained here."""

    id: str
    title: str
    protocol: str
    organ: str
    folders: Mapping[str, Path]
    """A folder of images by method name; see ``method_folders``. The folder of ``masks`` may be among them."""
    real: tuple[str, ...] = ()
    """Names of those that hold real images."""
    sampled: tuple[str, ...] = ()
    """Methods to sample from a model now: NAME=MODEL or NAME=MODEL:steps=50,guidance=2."""
    masks: Path | None = None
    """Folder of the masks to sample, named as the images."""
    prompt: str | None = None
    """Prompt to sample with; None to derive it from the organ."""
    groups: int | None = None
    """Mask groups to rate; None for all that every method has."""
    training: int = 0
    repeats: int = 0
    share_known: bool = False
    comments: bool = True
    instructions: str = ""
    consent: str = DEFAULT_CONSENT
    display_side: int = 512
    seed: int = 0
    refuse_text: bool = False
    """Make nothing if real images have burned-in text. Otherwise ``StudyStore.open`` asks for it to be accepted."""


def create(
    store: StudyStore,
    request: CreateStudy,
    report: Report = lambda method, done, total: None,
    turn: Turn = nullcontext,
    note: Note = log.warning,
) -> Study:
    """Make and store a study as a draft.

    Args:
        report: called with the progress of sampled methods.
        turn: images are sampled in it; see ``siamese.study.creation.generated``.
        note: called with a sentence for each file and mask that the study leaves out; shortened if they are many.

    Raises:
        ConfigError: every folder, file, model and setting that cannot be used.
        StudyError, StorageError: see ``StudyStore.add``; also if text was found and ``refuse_text`` is set.
    """
    sampled = parse_all(request.sampled)
    given = given_folders(request, sampled)
    folders = given | {method.name: request.masks for method in sampled if request.masks is not None}
    config = study_config(request, given, sampled, folders)
    if not sampled:
        return create_study(store, config, folders, refuse_text=request.refuse_text, note=note)
    return create_sampled_study(
        store,
        config,
        folders,
        sampled,
        prompt=request.prompt,
        report=report,
        refuse_text=request.refuse_text,
        turn=turn,
        note=note,
    )


def method_folders(folder: Path, note: Note = log.warning) -> dict[str, Path]:
    """The folders in ``folder`` by name: one for each method, and perhaps one of masks.

    Args:
        note: called with a line for each reason to pass over something in ``folder``, with the names.

    Raises:
        ConfigError: there is no such folder, or it cannot be read.
    """
    try:
        if not folder.is_dir():
            raise ConfigError([f"{folder}: there is no such folder."])
        folders, passed_over = list_folders(folder)
    except OSError as error:  # a name that is too long, a folder that may not be read
        raise ConfigError([f"the folder of images cannot be read ({error.strerror})."]) from error
    for line in describe_passed_over(passed_over, indent=""):
        note(f"not read: {line}")
    return {f.name: f for f in folders}


def given_folders(request: CreateStudy, sampled: list[Sampled]) -> dict[str, Path]:
    """Folders of the methods that are not sampled, by name.

    Raises:
        ConfigError: masks without a method to sample or the reverse, or a folder that is not there.
    """
    masks = request.masks
    if sampled and masks is None:
        raise ConfigError([NO_MASKS])
    if masks is not None and not sampled:
        raise ConfigError([NO_METHOD])
    if masks is not None and not masks.is_dir():
        raise ConfigError([f"the folder of masks {masks}: there is no such folder."])
    folders = {
        name: folder
        for name, folder in request.folders.items()
        if masks is None or folder.resolve() != masks.resolve()
    }
    missing = [
        f"no folder of images is named {name!r}, which is said to hold real images; leave the name out if nothing is real."
        for name in request.real
        if name not in folders
    ]
    if missing:
        raise ConfigError(missing)
    return folders


def study_config(
    request: CreateStudy, given: Mapping[str, Path], sampled: list[Sampled], folders: Mapping[str, Path]
) -> StudyConfig:
    """The study's configuration. If no number of groups is asked for, the masks that all ``folders`` have give it.

    Raises:
        ConfigError: every value that cannot be used.
    """
    methods = [Method(name, REAL if name in request.real else SYNTHETIC) for name in given]
    methods += [Method(method.name, SYNTHETIC) for method in sampled]
    config = StudyConfig(
        id=request.id,
        title=request.title,
        protocol=request.protocol,
        organ=request.organ,
        methods=tuple(methods),
        groups=request.groups or 1,
        training=request.training,
        repeats=request.repeats if request.groups else 0,
        share_known=request.share_known,
        comments=request.comments,
        instructions=request.instructions,
        consent=request.consent,
        display_side=request.display_side,
        seed=request.seed,
    )
    if request.groups:
        return config
    return dataclasses.replace(count_groups(config, folders), repeats=request.repeats)
