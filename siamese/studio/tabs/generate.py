"""One press of Generate, without Gradio: checks what was entered, samples, reports as it goes."""

from __future__ import annotations

import logging
import math
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from siamese.records.sampling_settings import SamplingOverrides, SamplingSettings, SchedulerName
from siamese.studio.backend.messages import (
    BusyError,
    Cancelled,
    Generated,
    ModelUnavailableError,
    OutOfMemoryError,
    Request,
    Update,
)
from siamese.studio.backend.queue import ModelWorker
from siamese.studio.components.canvas import EmptyMaskError, drawn_mask

log = logging.getLogger(__name__)

SEEDS = 2**32
MAX_VARIANTS = 8
MAX_STEPS = 100
"""More does not change an image, and would keep other visitors waiting."""
MAX_GUIDANCE = 20
MAX_WEIGHT = 2.0


class InputError(ValueError):
    """Something entered on the page cannot be used; the message is shown to the visitor."""


@dataclass(frozen=True)
class Form:
    """What is entered on the page, unchecked."""

    canvas: Mapping[str, Any] | None
    """The drawing, packed; see ``siamese.masks.packed``."""
    prompt: str
    variants: float | None = 1
    seed: float | None = None
    """Of the first variant; the next has the next. Random if None."""
    num_inference_steps: float | None = None
    """The model's default if None, as ``guidance_scale`` and ``scheduler``."""
    guidance_scale: float | None = None
    scheduler: str | None = None
    restored: SamplingSettings | None = None
    """Of an image that was opened again: the settings that the page does not show are these; the model's if None."""
    reference: np.ndarray | None = None
    """uint8 [H, W, 3]."""
    weight: float | None = 1.0
    model: str | None = None
    previews: bool = True

    def request(self) -> Request:
        """The checked request.

        Raises:
            EmptyMaskError: nothing is drawn.
            InputError: no prompt, or a number is outside its range.
        """
        if not isinstance(self.prompt, str):
            raise InputError("Choose what the image shows.")
        mask = drawn_mask(self.canvas)
        variants = check_whole(self.variants, "The number of variants", 1, MAX_VARIANTS)
        first = secrets.randbelow(SEEDS - MAX_VARIANTS) if self.seed is None else check_seed(self.seed)
        seeds = tuple((first + i) % SEEDS for i in range(variants))
        weight = (
            1.0
            if self.reference is None
            else check_number(self.weight, "The reference's weight", 0, MAX_WEIGHT)
        )
        return Request(
            masks=(mask,),
            prompt=self.prompt,
            seeds=seeds,
            overrides=self._overrides(),
            reference=self.reference,
            reference_weight=weight,
            model=self.model,
            previews=self.previews,
        )

    def _overrides(self) -> SamplingOverrides:
        entered = SamplingOverrides(
            num_inference_steps=check_steps(self.num_inference_steps),
            guidance_scale=check_guidance(self.guidance_scale),
            scheduler=cast("SchedulerName | None", self.scheduler),  # checked with the others, by the model
        )
        if self.restored is not None:
            entered["guidance_mode"] = self.restored.guidance_mode
            entered["guidance_rescale"] = self.restored.guidance_rescale
            entered["guidance_interval"] = self.restored.guidance_interval
        return entered


@dataclass(frozen=True)
class Started:
    """Inputs are fine; this is the first seed."""

    seed: int


@dataclass(frozen=True)
class Finished:
    """The images, and how long the visitor waited."""

    generated: Generated
    seconds: float


@dataclass(frozen=True)
class Failed:
    """What went wrong, in words for the visitor."""

    message: str
    cancelled: bool = False


def generate(
    worker: ModelWorker, form: Form, cancelled: threading.Event | None = None, visitor: str = ""
) -> Iterator[Started | Update | Finished | Failed]:
    """Sample images of the drawn mask, in ``visitor``'s turn.

    Yields:
        Started, updates, Finished; or Failed as the last, never an exception: the page lives on.
    """
    began = time.monotonic()
    try:
        request = form.request()
        for number, update in enumerate(worker.sample(request, cancelled, visitor)):
            if not number:  # a request that the line refuses has not started
                yield Started(request.seeds[0])
            yield Finished(update, time.monotonic() - began) if isinstance(update, Generated) else update
    except Cancelled:
        yield Failed("Cancelled.", cancelled=True)
    except (BusyError, EmptyMaskError, InputError, ModelUnavailableError, OutOfMemoryError) as error:
        yield Failed(str(error))
    except ValueError as error:
        # The model's own checks: their messages name the input and the remedy.
        yield Failed(capitalised(str(error)))
    except Exception:  # the outermost layer: whatever broke is logged and the visitor can go on
        log.exception("generation failed")
        yield Failed(
            "Something went wrong while sampling. The details are in the server's log; please try again."
        )


def capitalised(text: str) -> str:
    """``text`` with a capital letter."""
    return text[:1].upper() + text[1:]


def is_finite(value: object) -> bool:
    """Whether it is a number that a page could have sent, and not infinite."""
    return type(value) is int or (isinstance(value, float) and math.isfinite(value))


def check_number(value: float | None, name: str, least: float, most: float, hint: str = "") -> float:
    """``value`` in least..most, or InputError."""
    if value is None or not is_finite(value) or not least <= value <= most:
        raise InputError(f"{name} must be from {least:g} to {most:g}.{hint}")
    return float(value)


def check_whole(value: float | None, name: str, least: int, most: int, hint: str = "") -> int:
    """``value`` as an integer in least..most, or InputError."""
    if value is None or not is_finite(value) or not least <= value <= most or value != int(value):
        raise InputError(f"{name} must be a whole number from {least} to {most}.{hint}")
    return int(value)


def check_seed(seed: float | None) -> int:
    """``seed`` as an integer 0..2^32 - 1, or InputError."""
    return check_whole(seed, name="The seed", least=0, most=SEEDS - 1, hint=" Or tick Random seed.")


def check_steps(steps: float | None) -> int | None:
    """``steps`` as an integer 1..MAX_STEPS, None if empty, or InputError."""
    return (
        None
        if steps is None
        else check_whole(
            steps, name="Steps", least=1, most=MAX_STEPS, hint=" Or tick Use the model's defaults."
        )
    )


def check_guidance(guidance: float | None) -> float | None:
    """``guidance`` in 1..MAX_GUIDANCE, None if empty, or InputError."""
    return (
        None
        if guidance is None
        else check_number(
            guidance, name="Guidance", least=1, most=MAX_GUIDANCE, hint=" Or tick Use the model's defaults."
        )
    )
