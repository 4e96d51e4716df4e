"""What the files of a batch hold, checked as it is read: ``job.json``, and a note beside each finished image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    ValidationError,
    model_validator,
)

from siamese.records.dataset_zip import check_name
from siamese.studio.storage.mask_zip import MAX_MASKS, BatchError


def _checked_name(name: str) -> str:
    check_name(name)
    return name


Text = Annotated[str, Field(max_length=999)]
Name = Annotated[str, AfterValidator(_checked_name)]


class BatchSettings(BaseModel):
    """Settings of all images of a job."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    prompt: Text
    seed: int = Field(ge=0, lt=2**63)
    """Base of the images' seeds, see ``siamese.studio.storage.batch_job.item_seed``."""
    steps: int = Field(ge=1)
    guidance: FiniteFloat
    scheduler: Text
    model: Text | None = None
    """If given, images of another model are refused, so that a job never mixes two models. None: any model."""

    @classmethod
    def of(cls, **values: Any) -> BatchSettings:
        """Checked settings.

        Raises:
            BatchError: a value is out of range or of another type; the message lists all of them.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            raise BatchError("the batch's settings cannot be used", _faults(error)) from error


class JobFile(BatchSettings):
    """``job.json``: the settings, the names of the masks in their order, and what the ZIP holds besides."""

    names: list[Name] = Field(min_length=1, max_length=MAX_MASKS)
    passed_over: list[str] = Field(default=[])
    """Lines for the visitor about files of the ZIP that were not read; absent in jobs of version 0.2."""
    frames: list[Name] | None = None
    """The photo of each mask, by its name in ``frames/``; absent if the whole images are synthetic."""

    @model_validator(mode="after")
    def _has_a_frame_for_each_mask(self) -> JobFile:
        if self.frames is not None and len(self.frames) != len(self.names):
            raise ValueError("there must be a frame for each mask")
        return self

    @classmethod
    def read(cls, path: Path) -> JobFile:
        """The checked file.

        Raises:
            BatchError: the file is missing or damaged.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError as error:
            raise BatchError(
                "there is no job in this folder: it was not stored completely, or it was removed. Start a new one."
            ) from error
        except ValidationError as error:
            raise BatchError("the job's file is damaged; start a new job", _faults(error)) from error

    def to_json(self) -> bytes:
        """The file's content; without frames it is what versions before frames wrote."""
        return self.model_dump_json(exclude=None if self.frames else {"frames"}).encode()

    @property
    def settings(self) -> BatchSettings:
        """The settings alone."""
        return BatchSettings(**self.model_dump(exclude={"names", "passed_over", "frames"}))


class FinishedNote(BaseModel):
    """``done/NAME.json``, beside the image."""

    model_config = ConfigDict(frozen=True, strict=True)

    agreement: float | None = Field(ge=0, le=1, allow_inf_nan=False)
    """Dice coefficient 0..1 of the mask and the lesion found in the image; None if it was not measured."""


def _faults(error: ValidationError) -> list[str]:
    """A line for each wrong value: which it is, and what is wrong."""
    return [
        f"{'.'.join(map(str, fault['loc'])) or 'file'} is {str(fault['input'])[:60]!s}: {fault['msg']}"
        for fault in error.errors(include_url=False)
    ]
