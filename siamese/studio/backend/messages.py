"""What the page asks of the model's thread, and what it hears back."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from siamese.records.provenance import SyntheticPair
from siamese.sampling_settings import SamplingOverrides, SamplingSettings


@dataclass(frozen=True)
class Request:
    """Images of one or more masks with the same settings."""

    masks: tuple[np.ndarray, ...]
    """uint8 [H, W] of 0 / 255, any size; one for all seeds, or one a seed."""
    prompt: str
    seeds: tuple[int, ...]
    overrides: SamplingOverrides = field(default_factory=SamplingOverrides)
    """Settings in the place of the model's defaults."""
    reference: np.ndarray | None = None
    """uint8 [H, W, 3]: Image-Diffusion."""
    reference_weight: float = 1.0
    model: str | None = None
    """Name of a model of the library; the first where None."""
    previews: bool = True


@dataclass(frozen=True)
class Waiting:
    """``ahead`` requests run first: the running one, and those whose turn comes before."""

    ahead: int


@dataclass(frozen=True)
class Loading:
    """The model is being read, for the first time or after another one."""


@dataclass(frozen=True)
class Step:
    """Sampling did ``step`` of ``steps``; 0 before the first."""

    step: int
    steps: int
    seconds_left: float | None = None
    """Estimated from the steps done; None before the first."""
    previews: np.ndarray | None = None
    """Present estimate of the images uint8 [N, S, S, 3], now and then."""


@dataclass(frozen=True)
class Generated:
    """The images, each with the Dice coefficient between its mask and what the shipped network finds in it."""

    pairs: tuple[SyntheticPair, ...]
    agreements: tuple[float | None, ...]
    """0..1; None where the model's folder has no segmentation network."""


Update = Waiting | Loading | Step


@dataclass(frozen=True)
class ModelInfo:
    """What the page shows of a loaded model."""

    name: str
    settings: SamplingSettings
    """The defaults that it was chosen with."""
    size: int
    prompts: tuple[str, ...] | None
    """None where it takes free text."""
    can_suggest: bool
    """Whether it comes with a segmentation network."""


class ModelUnavailableError(RuntimeError):
    """The model cannot be loaded; the message says what to do."""


class OutOfMemoryError(RuntimeError):
    """The request does not fit into memory; the message says what to do."""


class BusyError(RuntimeError):
    """Too much is asked at once, by this visitor or by all; the message says what to do."""


class Cancelled(Exception):
    """The visitor asked to stop."""
