"""A model's worker that samples noise, for tests of what is around it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from siamese.masks.core import resize_mask
from siamese.records.catalogue import ModelEntry
from siamese.records.prompts import POLYP
from siamese.records.provenance import Recipe, SyntheticPair
from siamese.records.sampling_settings import SamplingSettings
from siamese.studio.backend.messages import Cancelled, Generated, ModelInfo, Request, Step
from tests.phantoms import phantom

SIDE = 16


def made(
    mask: np.ndarray, seed: int, weight: float | None = None, prompt: str = POLYP, steps: int = 2
) -> SyntheticPair:
    image = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    return SyntheticPair(
        image,
        resize_mask(mask, SIDE),
        mask,
        Recipe(prompt, seed, SamplingSettings(steps, 2.0, "dpm++"), "stand-in", weight),
    )


@dataclass(frozen=True)
class Entry(ModelEntry):
    """An entry of the catalogue with images that are not in a folder."""

    made: tuple[SyntheticPair, ...] = ()

    def examples(self) -> list[SyntheticPair]:
        return [*self.made]


class StandIn:
    """A model whose images are noise of the seed. ``fault`` is raised in the place of the images, which take ``seconds`` after the preview."""

    def __init__(self, seconds: float = 0) -> None:
        self.seconds = seconds
        self.default = "stand-in"
        self.example = made(phantom(1, 64, 64)[1], 5)
        self.models = {
            "stand-in": Entry(name="stand-in", source="nowhere", made=(self.example,)),
        }
        self.loaded = ModelInfo("stand-in", SamplingSettings(2, 2.0, "dpm++"), SIDE, None, True)
        self.fault: Exception | None = None
        self.requests: list[Request] = []

    def info(self, model: str | None = None, *_: Any) -> ModelInfo:
        return self.loaded

    def sample(self, request: Request, cancelled: threading.Event | None = None, *_: Any) -> Iterator[Any]:
        self.requests.append(request)
        for step in (0, 1):
            if cancelled is not None and cancelled.is_set():
                raise Cancelled
            yield Step(
                step,
                2,
                1.0,
                np.zeros((len(request.seeds), SIDE, SIDE, 3), np.uint8)
                if step and request.previews
                else None,
            )
        if cancelled is not None and cancelled.wait(self.seconds):
            raise Cancelled
        if self.fault is not None:
            raise self.fault
        masks = request.masks * len(request.seeds) if len(request.masks) == 1 else request.masks
        weight = None if request.reference is None else request.reference_weight
        steps = request.overrides.get("num_inference_steps") or 2
        pairs = tuple(
            made(mask, seed, weight, request.prompt, steps)
            for mask, seed in zip(masks, request.seeds, strict=True)
        )
        yield Generated(pairs, tuple(0.5 + i / 100 for i in range(len(pairs))))

    def suggesting(self, photo: np.ndarray, *_: Any) -> Iterator[Any]:
        yield np.full(photo.shape[:2], 255, np.uint8)
