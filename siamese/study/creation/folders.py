"""Making a study from folders of images, one folder a method, matched by mask id."""

from __future__ import annotations

import dataclasses
import logging
import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from siamese.files.listing import describe_passed_over, find_key, nearest_hint
from siamese.study.config import ConfigError, StudyConfig
from siamese.study.storage.images import (
    UnusableImageError,
    blind,
    common_size,
    list_images,
    native_size,
    read_study_image,
)
from siamese.study.storage.store import NewItem, Study, StudyError, StudyStore
from siamese.study.storage.text_findings import Texts, find_texts, images_with_text, text_warning

MAX_LISTED = 50
Note = Callable[[str], None]
"""Called with a sentence that the person who makes the study should read."""
log = logging.getLogger(__name__)


def choose_groups(
    found: Mapping[str, Mapping[str, Path]], config: StudyConfig, sampled: Collection[str] = ()
) -> tuple[list[str], list[str]]:
    """Mask ids that are rated and mask ids for training, from those that every method has; ``config.seed`` chooses.

    Args:
        sampled: methods of which ``found`` has masks instead of images.

    Raises:
        ConfigError: too few masks; names those that only some methods have.
    """
    common = sorted(set.intersection(*(set(files) for files in found.values())))
    wanted = config.groups + config.training_groups
    if len(common) < wanted:
        every = set().union(*found.values())
        missing = [
            f"method {name!r} has no {'mask' if name in sampled else 'image of mask'} {mask!r}."
            for name, files in found.items()
            for mask in sorted(every - set(files))
        ]
        raise ConfigError(
            [
                f"{len(common)} masks have an image of every method{' that is not sampled' if sampled else ''}; {wanted} are needed "
                f"({config.groups} rated, {config.training_groups} for training). "
                "Files are matched by name without suffix.",
                *first_problems(missing),
            ]
        )
    chosen = random.Random(config.seed).sample(common, wanted)
    return sorted(chosen[: config.groups]), sorted(chosen[config.groups :])


def first_problems(problems: list[str]) -> list[str]:
    """At most 50 of ``problems``, and how many more there are."""
    return problems[:MAX_LISTED] + (
        [f"... and {len(problems) - MAX_LISTED} more."] if len(problems) > MAX_LISTED else []
    )


@dataclass
class Choice:
    """The files of a study."""

    rated: list[str]
    """Mask ids."""
    training: list[str]
    """Mask ids."""
    files: dict[str, dict[str, Path]]
    """By method and mask id; those chosen alone."""
    left_out: list[str] = field(default_factory=list)
    """A sentence for each file and mask that is not in the study although it lies in a method's folder."""


def say_left_out(choice: Choice, note: Note = log.warning) -> None:
    """Call ``note`` with each sentence of ``choice.left_out``, shortened if they are many."""
    for sentence in first_problems(choice.left_out):
        note(sentence)


def choose_files(config: StudyConfig, folders: Mapping[str, Path], sampled: Collection[str] = ()) -> Choice:
    """What ``config.seed`` chooses from ``folders``, a folder by method name; of ``sampled`` methods the folder of their masks.

    Raises:
        ConfigError: every folder that cannot be used, by name, or too few masks.
    """
    problems = [f"method {m.name!r} has no folder." for m in config.methods if m.name not in folders]
    names = {m.name for m in config.methods}
    problems += [
        f"there is a folder for {name!r}, which is not a method of this study."
        for name in folders
        if name not in names
    ]
    if problems:
        raise ConfigError(problems)
    found, problems, left_out = match_files({m.name: Path(folders[m.name]) for m in config.methods})
    if problems:
        raise ConfigError(first_problems(problems))
    rated, training = choose_groups(found, config, sampled)
    chosen = set(rated + training)
    if further := len(set.intersection(*(set(files) for files in found.values()))) - len(chosen):
        left_out.append(
            f"{further} more masks have an image of every method; {len(chosen)} were drawn (seed {config.seed})."
        )
    return Choice(
        rated=rated,
        training=training,
        files={name: {mask: files[mask] for mask in rated + training} for name, files in found.items()},
        left_out=left_out,
    )


def match_files(
    folders: Mapping[str, Path],
) -> tuple[dict[str, dict[str, Path]], list[str], list[str]]:
    """The files of each method by mask id, what is wrong with the folders, and a sentence for everything that is left out.

    A file whose name ends as masks' names do (``ISIC_1_segmentation.png``) belongs to the mask of the shorter name, if another
    method has an image of that.
    """
    found: dict[str, dict[str, Path]] = {}
    problems: list[str] = []
    left_out: list[str] = []
    for name, folder in folders.items():
        found[name], wrong, passed_over = list_images(folder)
        problems += [f"method {name!r}: {w}" for w in wrong]
        left_out += [
            f"method {name!r}: not read: {line}" for line in describe_passed_over(passed_over, indent="")
        ]
    for name, files in found.items():
        others = set().union(*(keys for other, keys in found.items() if other != name))
        renamed: dict[str, Path] = {}
        for key, file in files.items():
            own = find_key(file.name, others) or key
            if own in renamed:
                problems.append(
                    f"method {name!r}: {renamed[own].name} and {file.name} are of one mask; keep one."
                )
            renamed[own] = file
        found[name] = renamed
    every = set().union(*found.values())
    for mask in sorted(every):
        missing = [name for name, files in found.items() if mask not in files]
        if missing:
            hint = nearest_hint(mask, [key for name in missing for key in found[name]])
            left_out.append(f"mask {mask!r}: no image of {', '.join(map(repr, missing))}{hint}.")
    return found, problems, left_out


def look_for_text(config: StudyConfig, choice: Choice, refuse: bool) -> Texts:
    """Burned-in text in the chosen images of real methods.

    Raises:
        StudyError: there is some, and ``refuse``.
    """
    found = find_texts({m.name: choice.files[m.name] for m in config.real})
    names = images_with_text(found)
    if names and refuse:
        raise StudyError(text_warning(names, "nothing was made."))
    return found


def with_text(made: list[NewItem], found: Texts) -> list[NewItem]:
    """``made`` with the text that was found in their files."""
    return [dataclasses.replace(item, text=found.get((item.method, item.group))) for item in made]


def blind_files(
    config: StudyConfig, choice: Choice, report: Callable[[int, int], None] = lambda done, total: None
) -> list[NewItem]:
    """The blinded images (see ``siamese.study.storage.images``) of ``choice``.

    Args:
        report: called with the number of images that are done and of all.

    Raises:
        ConfigError: every file that cannot be used, by name.
    """
    files = [
        (mask, m.name, mask in set(choice.training), choice.files[m.name][mask])
        for mask in choice.rated + choice.training
        for m in config.methods
    ]
    sizes, problems = [], []
    for _, method, _, file in files:
        try:
            sizes.append(native_size(file))
        except UnusableImageError as error:
            problems.append(f"{method}/{file.name}: {error}")
    if problems:
        raise ConfigError(first_problems(problems))
    common, made = common_size(sizes), []
    for mask, method, is_training, file in files:
        try:
            made.append(
                NewItem(mask, method, is_training, blind(read_study_image(file), common, config.display_side))
            )
        except UnusableImageError as error:
            problems.append(f"{method}/{file.name}: {error}")
        report(len(made), len(files))
    if problems:
        raise ConfigError(first_problems(problems))
    return made


def prepare(
    config: StudyConfig,
    folders: Mapping[str, Path],
    report: Callable[[int, int], None] = lambda done, total: None,
) -> list[NewItem]:
    """A study's blinded images from a folder by method name; files of one stem belong to one mask. See ``blind_files`` for the rest."""
    return blind_files(config, choose_files(config, folders), report)


def create_study(
    store: StudyStore,
    config: StudyConfig,
    folders: Mapping[str, Path],
    report: Callable[[int, int], None] = lambda done, total: None,
    refuse_text: bool = False,
    note: Note = log.warning,
) -> Study:
    """Make and store a study as a draft; see ``prepare`` and ``StudyStore.add`` for arguments and errors.

    Args:
        note: called with each sentence of ``Choice.left_out``.
        refuse_text: raise a StudyError if real images have burned-in text; otherwise ``StudyStore.open`` asks for it to be accepted.
    """
    choice = choose_files(config, folders)
    say_left_out(choice, note)
    made = blind_files(
        config, choice, report
    )  # finds what cannot be used in less time than text is looked for
    return store.add(config, with_text(made, look_for_text(config, choice, refuse_text)))


def count_groups(config: StudyConfig, folders: Mapping[str, Path]) -> StudyConfig:
    """``config`` with as many rated groups as the folders' common masks allow after training.

    Raises:
        ConfigError: no mask is left.
    """
    found, _, _ = match_files({name: Path(folder) for name, folder in folders.items()})
    left = (
        len(set.intersection(*(set(files) for files in found.values()))) - config.training_groups
        if found
        else 0
    )
    if left < 1:
        raise ConfigError(["no mask has an image of every method. Files are matched by name without suffix."])
    return dataclasses.replace(config, groups=left)
