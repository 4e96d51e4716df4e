"""Execution: loads models and runs requests, one after the other, in the thread that calls.

``Engine`` is what runs inside the model's process. It knows nothing of processes, queues or visitors: its methods take a callback for
events and a function that says whether the run is cancelled, and return the result. ``process`` carries calls and results between
processes, and ``queue`` decides which request is next.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from siamese.records.catalogue import ModelEntry
from siamese.records.provenance import Recipe, SyntheticPair
from siamese.records.sampling_settings import SamplingSettings
from siamese.records.subjects import Subjects, read_subjects
from siamese.studio.backend.messages import (
    Cancelled,
    Generated,
    Loading,
    ModelInfo,
    ModelUnavailableError,
    OutOfMemoryError,
    Request,
    Step,
    Update,
)

if TYPE_CHECKING:  # torch and diffusers take seconds to import; the first model that is loaded does it
    from siamese.masks.segmenter import LesionSegmenter
    from siamese.sampling import Callback, MaskDiffusion, Progress

log = logging.getLogger(__name__)

PREVIEW_SHARE = 5
"""A preview is decoded once sampling since the last preview took this many times as long as decoding it."""
PREVIEW_PAUSE = 0.6
"""Minimum seconds between previews: the browser has to load each."""
TOO_LARGE = "The request does not fit into memory. Ask for fewer variants, or start the studio on a machine with more memory; then try again."

OnUpdate = Callable[[Update], None]
"""Called with each event of a run."""
IsCancelled = Callable[[], bool]
"""Called after each step; the run stops if it returns True."""


@dataclass(frozen=True)
class _Loaded:
    entry: ModelEntry
    diffusion: MaskDiffusion
    kinds: Subjects
    segmenters: dict[str, LesionSegmenter]
    """By their folder in the model's."""

    def segmenter(self, prompt: str | None) -> LesionSegmenter | None:
        """The segmentation network that knows the subject of ``prompt`` (None: the first one), if there is one.

        Raises:
            ValueError: the model does not know the prompt.
        """
        if prompt is None:
            subject = next(iter(self.kinds.listed), None)
        else:
            subject = self.kinds.of(prompt)
        return self.segmenters.get(subject.segmenter or "") if subject else None


class Engine:
    """Holds one loaded model.

    Args:
        models: the models to choose from, the default first. The first request for a model loads it in place of the one
            before. If that fails, each later request tries again, so that a repaired folder works without a restart.
    """

    def __init__(self, models: Sequence[ModelEntry]) -> None:
        self.models = {m.name: m for m in models}
        self.default = models[0].name
        self._held: _Loaded | None = None

    @property
    def loaded(self) -> ModelInfo | None:
        """The description of the model in memory."""
        if self._held is None:
            return None
        diffusion = self._held.diffusion
        return ModelInfo(
            name=self._held.entry.name,
            settings=diffusion.checkpoint.defaults,
            size=diffusion.size,
            prompts=diffusion.prompts,
            can_suggest=bool(self._held.segmenters),
        )

    def info(self, on_update: OnUpdate, is_cancelled: IsCancelled, model: str | None) -> ModelInfo | None:
        """Load a model and return its description; raises ModelUnavailableError if that fails."""
        self._load(model)
        return self.loaded

    def sample(self, on_update: OnUpdate, is_cancelled: IsCancelled, request: Request) -> Generated:
        """Sample the images of ``request``.

        Raises:
            ModelUnavailableError: the model cannot be loaded.
            OutOfMemoryError: too many images at once.
            Cancelled: ``is_cancelled`` returned True.
            ValueError: the model refuses a mask, the prompt or a setting.
        """
        held = self._load(request.model, on_update)
        from siamese.sampling import SamplingCancelled

        settings = held.diffusion.checkpoint.defaults.override(**request.overrides)
        masks = _checked_masks(held, request)
        on_update(Step(0, settings.num_inference_steps))
        try:
            made = _made(
                held,
                request,
                masks=masks,
                settings=settings,
                callback=_Reporter(on_update, is_cancelled, request.previews),
            )
            agreements = _agreements(held.segmenter(request.prompt), made.judged, made.judged_masks)
        except SamplingCancelled as error:
            raise Cancelled from error
        except (MemoryError, RuntimeError) as error:
            if (
                isinstance(error, MemoryError)
                or "out of memory" in str(error).lower()
                or "can't allocate memory" in str(error).lower()
            ):
                raise OutOfMemoryError(TOO_LARGE) from error
            raise
        pairs = []
        for i, (image, seed) in enumerate(zip(made.images, request.seeds, strict=True)):
            one = min(i, len(masks) - 1)
            recipe = Recipe(
                prompt=request.prompt,
                seed=seed,
                settings=settings,
                model=held.entry.name,
                reference_weight=None if request.reference is None else request.reference_weight,
                background=None if request.frame is None else "real photo",
            )
            pairs.append(SyntheticPair(image, masks[one], request.masks[one], recipe))
        return Generated(tuple(pairs), agreements)

    def suggest(
        self,
        on_update: OnUpdate,
        is_cancelled: IsCancelled,
        photo: np.ndarray,
        model: str | None,
        prompt: str | None = None,
    ) -> np.ndarray:
        """Mask uint8 [H, W] of 0 / 255 of the lesion that the segmentation network finds in ``photo`` uint8 [H, W, 3]; all 0 if it finds none.

        Args:
            prompt: that of the photo's subject; None: the model's first.

        Raises:
            ModelUnavailableError: the model cannot be loaded, or has no segmentation network for the subject.
            ValueError: the model does not know the prompt.
        """
        held = self._load(model)
        segmenter = held.segmenter(prompt)
        if segmenter is None:
            of = "" if prompt is None else f" for “{held.kinds.of(prompt).name}”"
            raise ModelUnavailableError(
                f"{held.entry.title} has no segmentation network{of}, so it cannot suggest a mask. Draw the mask by hand."
            )
        return segmenter.predict(photo[None])[0]

    def _load(self, model: str | None, on_update: OnUpdate | None = None) -> _Loaded:
        name = model or self.default
        if self._held is not None and self._held.entry.name == name:
            return self._held
        if name not in self.models:
            raise ModelUnavailableError(f"The model {name!r} is not available any more; choose another one.")
        if on_update is not None:
            on_update(Loading())
        entry = self.models[name]
        try:
            from siamese.masks.segmenter import LesionSegmenter
            from siamese.sampling import MaskDiffusion

            self._held = None  # before the next is read: two may not fit
            diffusion = MaskDiffusion.from_pretrained(entry.source)
            folder = Path(entry.source)
            kinds = read_subjects(folder if folder.is_dir() else None)  # now: it may have been repaired
            places = {s.segmenter for s in kinds.listed if s.segmenter is not None}
            self._held = _Loaded(
                entry=entry,
                diffusion=diffusion,
                kinds=kinds,
                segmenters={p: LesionSegmenter.from_pretrained(folder / p) for p in sorted(places)},
            )
        # Damaged files raise whatever their parser raises (JSON, safetensors, pickle, shapes): all mean the same here.
        except Exception as error:
            log.exception("loading %s failed", entry.source)
            raise ModelUnavailableError(
                f"The model could not be loaded ({error}) Put a complete model folder there, or start the studio with "
                "--model FOLDER; then press Generate again."
            ) from error
        return self._held


def _agreements(
    segmenter: LesionSegmenter | None, images: np.ndarray, masks: Sequence[np.ndarray]
) -> tuple[float | None, ...]:
    """Dice coefficient of each image's mask with what is found in it; None without a network."""
    if segmenter is None:
        return (None,) * len(images)
    from siamese.masks.segmenter import dice

    drawn = np.stack([masks[min(i, len(masks) - 1)] for i in range(len(images))])
    return tuple(float(d) for d in dice(segmenter.predict(images), drawn))


@dataclass(frozen=True)
class _Made:
    """Sampled images, and what the agreement is measured on: the images themselves, or in photos the squares around the lesions."""

    images: np.ndarray
    judged: np.ndarray
    judged_masks: Sequence[np.ndarray]
    """One for all images, or one each."""


def _checked_masks(held: _Loaded, request: Request) -> list[np.ndarray]:
    """The masks of the pairs: as the model sees them, or on the photo. Raises MaskError, a ValueError."""
    if request.frame is None:
        return [held.diffusion.fit_mask(m) for m in request.masks]
    from siamese.frame import checked_masks

    return checked_masks(request.frame, request.masks)


def _made(
    held: _Loaded, request: Request, masks: list[np.ndarray], settings: SamplingSettings, callback: Callback
) -> _Made:
    """The images of ``request``: whole ones, or lesions in its photo."""
    options: dict[str, Any] = {
        "callback": callback,
        "reference": request.reference,
        "reference_weight": request.reference_weight,
    }
    prompt, seeds = request.prompt, request.seeds
    if request.frame is None:
        images = held.diffusion.sample_fitted(masks, prompt, seeds, settings, **options)
        return _Made(images, images, masks)
    from siamese.frame import sample_in_frame

    framed = sample_in_frame(
        held.diffusion,
        request.frame,
        masks=masks,
        prompt=prompt,
        seeds=seeds,
        settings=settings,
        **options,
    )
    return _Made(framed.images, framed.crops, list(framed.crop_masks))


class _Reporter:
    """Sampling's callback: reports steps with the time left, and previews if they cost little."""

    def __init__(self, on_update: OnUpdate, is_cancelled: IsCancelled, previews: bool) -> None:
        self.on_update, self.is_cancelled, self.previews = on_update, is_cancelled, previews
        self.began = self.last = time.monotonic()
        self.cost = 0.0

    def __call__(self, progress: Progress) -> bool:
        now = time.monotonic()
        left = (now - self.began) / progress.step * (progress.steps - progress.step)
        images = None
        if (
            self.previews
            and progress.step < progress.steps
            and now - self.last > max(PREVIEW_PAUSE, PREVIEW_SHARE * self.cost)
        ):
            images = progress.preview()
            self.last = time.monotonic()
            self.cost = self.last - now
        self.on_update(Step(progress.step, progress.steps, left, images))
        return not self.is_cancelled()
