"""The messages of the backend: requests, the events of a run, descriptions of models, and errors.

All layers use one vocabulary. A run sends its events in this order:

    ``Waiting``       from ``turns``: other requests come first
    ``Loading``       from ``engine``: the model is being read
    ``Step``          from ``engine``: ``siamese.sampling.Progress`` with the time left and, now and then, previews
    ``Generated``     from ``engine``: the images, always last
    ``BatchProgress`` from ``batch_runner``: a chunk of a batch is stored

The messages hold numpy arrays and plain values alone, so that they can be pickled and the page needs no torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from siamese.records.provenance import SyntheticPair
from siamese.records.sampling_settings import SamplingOverrides, SamplingSettings


@dataclass(frozen=True)
class Request:
    """A request for images of one or more masks with the same settings."""

    masks: tuple[np.ndarray, ...]
    """uint8 [H, W] of 0 / 255, any size; either one mask for all seeds, or one mask for each seed."""
    prompt: str
    seeds: tuple[int, ...]
    overrides: SamplingOverrides = field(default_factory=SamplingOverrides)
    """Settings in place of the model's defaults."""
    reference: np.ndarray | None = None
    """uint8 [H, W, 3], for Image-Diffusion; None: the mask is the only condition."""
    reference_weight: float = 1.0
    model: str | None = None
    """Name of a model of the catalogue; None: the default model."""
    previews: bool = True
    frame: np.ndarray | None = None
    """A photo uint8 [H, W, 3], into which the lesions are synthesised (``siamese.frame``); the masks have its size then, and so do the
    images and previews. None: whole images."""


@dataclass(frozen=True)
class Waiting:
    """``ahead`` requests come first: the running one, and those whose turn is earlier."""

    ahead: int


@dataclass(frozen=True)
class Loading:
    """The model is being read from its folder."""


@dataclass(frozen=True)
class Step:
    """``step`` of ``steps`` steps are done; 0 before the first."""

    step: int
    steps: int
    seconds_left: float | None = None
    """Estimated from the steps done; None before the first."""
    previews: np.ndarray | None = None
    """The current estimate of the images, uint8 [N, S, S, 3], or [N, H, W, 3] in a photo; None with most steps."""


@dataclass(frozen=True)
class Generated:
    """The images, each with the Dice coefficient between its mask and the lesion that the segmentation network finds in it."""

    pairs: tuple[SyntheticPair, ...]
    agreements: tuple[float | None, ...]
    """0..1; None if the model's folder has no segmentation network."""


Update = Waiting | Loading | Step
"""An event before the images."""


@dataclass(frozen=True)
class BatchProgress:
    """``done`` of a batch's ``total`` images are stored."""

    done: int
    total: int
    seconds_left: float | None = None
    """Estimated from the images that this run has sampled so far; None before the first."""


@dataclass(frozen=True)
class ModelInfo:
    """The description of a loaded model, with the defaults of its checkpoint."""

    name: str
    settings: SamplingSettings
    """The checkpoint's default settings."""
    size: int
    prompts: tuple[str, ...] | None
    """The prompts that the model knows; None: it takes free text."""
    can_suggest: bool
    """Whether the model has a segmentation network."""


class ModelUnavailableError(RuntimeError):
    """The model cannot be loaded; the message says what to do."""


class OutOfMemoryError(RuntimeError):
    """The request does not fit into memory; the message says what to do."""


class BusyError(RuntimeError):
    """This visitor, or all visitors together, have too many requests; the message says what to do."""


class Cancelled(Exception):
    """The run was cancelled by its visitor, or because the studio closes."""
