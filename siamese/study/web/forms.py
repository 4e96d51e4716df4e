"""Forms of the administrator's pages, as FastAPI reads them.

Without ``from __future__ import annotations``: FastAPI needs the types of a class's fields themselves.
"""

from dataclasses import dataclass
from typing import Annotated

from fastapi import File, Form, UploadFile

from siamese.study.config import DEFAULT_CONSENT
from siamese.study.web.dependencies import Text

Whole = Annotated[int, Form()]


@dataclass(frozen=True)
class CreationForm:
    """The form that makes a study; see ``siamese.study.creation.service.CreateStudy``."""

    id: Text
    title: Text
    protocol: Text
    organ: Text
    groups: Whole
    """0 for all."""
    real: Text = ""
    """Names, separated by commas."""
    training: Whole = 0
    repeats: Whole = 0
    seed: Whole = 0
    share_known: Text = ""
    """Empty for no, as browsers send a box that is not ticked."""
    comments: Text = ""
    instructions: Text = ""
    consent: Text = DEFAULT_CONSENT
    folder: Text = ""
    """On the server."""
    masks: Text = ""
    """Name of one of the folders."""
    sample: Text = ""
    """A method a line."""
    archive: Annotated[UploadFile | None, File()] = None
