"""Making a study from folders of images, one folder a method, matched by mask id."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from siamese.study.config import ConfigError, StudyConfig
from siamese.study.storage.images import (
    UnusableImageError,
    blind,
    common_size,
    list_images,
    native_size,
    read_image,
)
from siamese.study.storage.store import NewItem, Study, StudyError, StudyStore
from siamese.study.storage.text_findings import Texts, find_texts, names_of, text_warning

MAX_LISTED = 50


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
                *shortened(missing),
            ]
        )
    chosen = random.Random(config.seed).sample(common, wanted)
    return sorted(chosen[: config.groups]), sorted(chosen[config.groups :])


def shortened(problems: list[str]) -> list[str]:
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


def choose_files(config: StudyConfig, folders: Mapping[str, Path], sampled: Collection[str] = ()) -> Choice:
    """What ``config.seed`` chooses from ``folders``, a folder by method name; of ``sampled`` methods the folder of their masks.

    Raises:
        ConfigError: every folder that cannot be used, by name, or too few masks.
    """
    problems = [f"method {m.name!r} has no folder." for m in config.methods if m.name not in folders]
    names = {m.name for m in config.methods}
    problems += [
        f"there is a folder for {name!r}, which is no method of this study."
        for name in folders
        if name not in names
    ]
    if problems:
        raise ConfigError(problems)
    found = {}
    for method in config.methods:
        found[method.name], wrong = list_images(Path(folders[method.name]))
        problems += [f"method {method.name!r}: {w}" for w in wrong]
    if problems:
        raise ConfigError(shortened(problems))
    rated, training = choose_groups(found, config, sampled)
    return Choice(
        rated,
        training,
        {name: {mask: files[mask] for mask in rated + training} for name, files in found.items()},
    )


def look_for_text(config: StudyConfig, choice: Choice, refuse: bool) -> Texts:
    """Burned-in text in the chosen images of real methods.

    Raises:
        StudyError: there is some, and ``refuse``.
    """
    found = find_texts({m.name: choice.files[m.name] for m in config.real})
    names = names_of(found)
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
        report: is told how many images of how many are done.

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
        raise ConfigError(shortened(problems))
    common, made = common_size(sizes), []
    for mask, method, is_training, file in files:
        try:
            made.append(
                NewItem(mask, method, is_training, blind(read_image(file), common, config.display_side))
            )
        except UnusableImageError as error:
            problems.append(f"{method}/{file.name}: {error}")
        report(len(made), len(files))
    if problems:
        raise ConfigError(shortened(problems))
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
) -> Study:
    """Make and store a study as a draft; see ``prepare`` and ``StudyStore.add`` for arguments and errors.

    Args:
        refuse_text: raise a StudyError where real images have burned-in text; else ``StudyStore.open`` asks for it to be accepted.
    """
    choice = choose_files(config, folders)
    made = blind_files(
        config, choice, report
    )  # finds what cannot be used in less time than text is looked for
    return store.add(config, with_text(made, look_for_text(config, choice, refuse_text)))


def count_groups(config: StudyConfig, folders: Mapping[str, Path]) -> StudyConfig:
    """``config`` with as many rated groups as the folders' common masks allow after training.

    Raises:
        ConfigError: no mask is left.
    """
    names = [set(list_images(Path(folder))[0]) for folder in folders.values()]
    left = len(set.intersection(*names)) - config.training_groups if names else 0
    if left < 1:
        raise ConfigError(["no mask has an image of every method. Files are matched by name without suffix."])
    return dataclasses.replace(config, groups=left)
