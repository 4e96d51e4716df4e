"""Forms of the administrator's pages, as FastAPI reads them: texts, so that a form with an error can be shown again as it was typed.

Without ``from __future__ import annotations``: FastAPI needs the types of a class's fields themselves.
"""

from dataclasses import dataclass
from typing import Annotated

from fastapi import File, Form, UploadFile

from siamese.study.config import DEFAULT_CONSENT

Typed = Annotated[str, Form()]
"""A field as it was typed, whatever it holds; ``siamese.study.web.creation_check`` says what is wrong with it."""


@dataclass(frozen=True)
class CreationForm:
    """The form that makes a study; see ``siamese.study.creation.service.CreateStudy``."""

    id: Typed = ""
    title: Typed = ""
    protocol: Typed = ""
    organ: Typed = ""
    groups: Typed = ""
    """A whole number as the other counts; 0 for all."""
    real: Typed = ""
    """Names, separated by commas."""
    training: Typed = "0"
    repeats: Typed = "0"
    seed: Typed = "0"
    share_known: Typed = ""
    """Empty for no, as browsers send a box that is not ticked."""
    comments: Typed = ""
    instructions: Typed = ""
    consent: Typed = DEFAULT_CONSENT
    folder: Typed = ""
    """On the server."""
    masks: Typed = ""
    """Name of one of the folders."""
    sample: Typed = ""
    """A method a line."""
    chosen: Typed = ""
    """Name of the ZIP file if the fields are checked before it is sent."""
    archive: Annotated[UploadFile | None, File()] = None

    @property
    def archive_name(self) -> str:
        """Name of the ZIP file; empty if none was chosen."""
        return (self.archive.filename if self.archive else None) or self.chosen


NEW_STUDY = CreationForm(organ="polyp", real="real", groups="50", comments="yes")
"""What the form shows at first."""


@dataclass(frozen=True)
class PlanForm:
    """The form that plans a study's size, as texts; see ``siamese.study.creation.planning.PlanRequest``."""

    method: str = "0.5"
    real: str = ""
    half_width: str = ""
    power: str = "0.8"
