"""One press of Generate, without Gradio: checks what was entered, samples, reports as it goes."""
from __future__ import annotations

import logging
import math
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from siamese.interface.canvas import EmptyMaskError, read_mask
from siamese.interface.worker import Generated, ModelUnavailableError, ModelWorker, Request, Step

log = logging.getLogger(__name__)

SEEDS = 2**32
MAX_STEPS = 100
"""More does not change an image, and would keep other visitors waiting."""
MAX_GUIDANCE = 20


class InputError(ValueError):
    """Something entered on the page cannot be used; the message is shown to the visitor."""


@dataclass(frozen=True)
class Started:
    """Inputs are fine; this seed will be used."""

    seed: int


@dataclass(frozen=True)
class Finished:
    """The image, and how long the visitor waited."""

    generated: Generated
    seconds: float


@dataclass(frozen=True)
class Failed:
    """What went wrong, in words for the visitor."""

    message: str


def generate(worker: ModelWorker, canvas: Mapping[str, Any] | None, prompt: str, seed: float | None, random_seed: bool,
             steps: float | None, guidance: float | None) -> Iterator[Started | Step | Finished | Failed]:
    """Sample an image of the drawn mask.

    Args:
        canvas: the editor's value.
        prompt: one that the model knows.
        seed: integer 0..2^32 - 1, ignored where ``random_seed``.
        steps, guidance: the model's defaults where None.

    Yields:
        Started, Steps, Finished; or Failed as the last, never an exception: the page lives on.
    """
    began = time.monotonic()
    try:
        request = Request(read_mask(canvas), prompt, secrets.randbelow(SEEDS) if random_seed else check_seed(seed),
                          check_steps(steps), check_guidance(guidance))
        yield Started(request.seed)
        for update in worker.sample(request):
            yield update if isinstance(update, Step) else Finished(update, time.monotonic() - began)
    except (EmptyMaskError, InputError, ModelUnavailableError) as error:
        yield Failed(str(error))
    except ValueError as error:
        # The model's own checks: their messages name the input and the remedy.
        yield Failed(sentence(str(error)))
    except Exception:  # the outermost layer: whatever broke is logged and the visitor can go on
        log.exception("generation failed")
        yield Failed("Something went wrong while sampling. The details are in the server's log; please try again.")


def sentence(text: str) -> str:
    """``text`` with a capital letter."""
    return text[:1].upper() + text[1:]


def check_seed(seed: float | None) -> int:
    """``seed`` as an integer 0..2^32 - 1, or InputError."""
    if seed is None or not 0 <= seed < SEEDS or seed != int(seed):
        raise InputError(f"The seed must be a whole number from 0 to {SEEDS - 1}. Or tick Random seed.")
    return int(seed)


def check_steps(steps: float | None) -> int | None:
    """``steps`` as an integer 1..MAX_STEPS, None where empty, or InputError."""
    if steps is None:
        return None
    if not 1 <= steps <= MAX_STEPS or steps != int(steps):
        raise InputError(f"Steps must be a whole number from 1 to {MAX_STEPS}. Or tick Use the model's defaults.")
    return int(steps)


def check_guidance(guidance: float | None) -> float | None:
    """``guidance`` in 1..MAX_GUIDANCE, None where empty, or InputError."""
    if guidance is None:
        return None
    if not math.isfinite(guidance) or not 1 <= guidance <= MAX_GUIDANCE:
        raise InputError(f"Guidance must be from 1 to {MAX_GUIDANCE}. Or tick Use the model's defaults.")
    return float(guidance)
