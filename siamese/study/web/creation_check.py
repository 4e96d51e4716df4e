"""What is wrong with the form that makes a study, as far as its texts tell: known before an upload is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from siamese.study.config import MAX_TEXT_LENGTH, ConfigError, field_problems
from siamese.study.creation.generated import parse_all, prompt_of
from siamese.study.creation.service import NO_MASKS, NO_METHOD
from siamese.study.storage.entities import NoSuchStudyError
from siamese.study.storage.store import StudyStore
from siamese.study.web.forms import CreationForm
from siamese.study.web.security import storable

NUMBERS = ("groups", "training", "repeats", "seed")
DISPLAY_SIDE = 512
"""Pixels of the longer side; the form does not ask for it."""


def creation_problems(form: CreationForm, store: StudyStore) -> dict[str, str]:
    """A sentence for each field that cannot be used, by its name; empty if nothing stands against reading the images."""
    problems = text_problems(form)
    if problems:
        return problems
    problems = field_problems(config_values(form))
    if "groups" in problems:
        problems["groups"] = problems["groups"].replace("number from", "number, 0 for all or from")
    if "id" not in problems and is_taken(store, form.id):
        problems["id"] = f"there is a study {form.id!r} already; choose another short name."
    if not form.archive_name and not form.folder.strip():
        problems["archive"] = "choose a ZIP file, or name a folder on the server."
    return problems | sampling_problems(form)


def text_problems(form: CreationForm) -> dict[str, str]:
    """Texts that cannot be stored, whatever they are for."""
    problems = {}
    for name, value in typed_values(form).items():
        if len(value) > MAX_TEXT_LENGTH:
            problems[name] = f"{name} has {len(value)} characters; up to {MAX_TEXT_LENGTH} can be stored."
        try:
            storable(value)
        except ValueError as error:
            problems[name] = f"{name} cannot be stored: {error}."
    return problems


def typed_values(form: CreationForm) -> dict[str, str]:
    """The form's texts by their fields' names."""
    return {name: value for name, value in vars(form).items() if isinstance(value, str)}


def whole(text: str) -> int | str:
    """The number that was typed, 0 for nothing; the text itself if it is no whole number."""
    try:
        return int(text.strip() or "0")
    except ValueError:
        return text


def config_values(form: CreationForm) -> dict[str, Any]:
    """The values for ``field_problems``."""
    numbers = {name: whole(getattr(form, name)) for name in NUMBERS}
    if numbers["groups"] == 0:
        numbers["groups"] = 1 if form.groups.strip() else ""  # 0 is for all that there are, nothing is not
    ticks = {name: bool(getattr(form, name)) for name in ("share_known", "comments")}
    return typed_values(form) | numbers | ticks | {"display_side": DISPLAY_SIDE}


def is_taken(store: StudyStore, study: str) -> bool:
    """Whether there is a study of that id."""
    try:
        store.study(study)
    except NoSuchStudyError:
        return False
    return True


def sampling_problems(form: CreationForm) -> dict[str, str]:
    """What is wrong with the methods to sample, before a model is loaded."""
    lines, masks = [line for line in form.sample.splitlines() if line.strip()], form.masks.strip()
    problems = {}
    if lines and not masks:
        problems["masks"] = NO_MASKS
    if masks and not lines:
        problems["sample"] = NO_METHOD
    checks: dict[str, Callable[[], object]] = {}
    if lines:
        checks = {"sample": lambda: parse_all(lines), "organ": lambda: prompt_of(form.organ)}
    for name, check in checks.items():
        try:
            check()
        except ConfigError as error:
            problems[name] = " ".join(error.problems)
    return problems
