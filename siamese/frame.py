"""A synthetic lesion in a real photo: only a square around the lesion is sampled, and only the lesion and its margin are changed.

The square (``siamese.masks.crop``) is brought to the model's size and encoded. It is sampled with its latents held to the photo's
outside of the lesion (``siamese.known_latents``), decoded, brought back to the photo's resolution and feathered into the photo.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from siamese.known_latents import KnownLatents
from siamese.masks.core import MaskError, check_mask, resize_image
from siamese.masks.crop import FREE, Crop, blend, distance_from
from siamese.models.autoencoder import decode_latents, downsampling, encode_moments
from siamese.records.sampling_settings import SamplingSettings
from siamese.sampling import Callback, MaskDiffusion, Progress, to_uint8

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class FrameImages:
    """Photos with synthetic lesions, and what a segmentation network needs to judge them."""

    images: np.ndarray
    """uint8 [N, H, W, 3] at the photo's own size."""
    crops: np.ndarray
    """uint8 [N, S, S, 3]: the squares of ``images`` around the lesion, at the model's size."""
    crop_masks: np.ndarray
    """uint8 [N, S, S] of 0 / 255: the masks of ``crops``, as the model saw them."""


def sample_in_frame(
    model: MaskDiffusion,
    photo: np.ndarray,
    masks: Sequence[np.ndarray],
    prompt: str | Sequence[str],
    seeds: Sequence[int],
    settings: SamplingSettings,
    *,
    callback: Callback | None = None,
    reference: np.ndarray | None = None,
    reference_weight: float = 1.0,
) -> FrameImages:
    """``photo`` with a synthetic lesion in the place of each mask's, for N = len(seeds) images.

    Outside of the lesion's surroundings, which end at ``siamese.masks.crop.FEATHER`` of the square's side, every pixel is the photo's.
    All parts of a mask lie in one square: lesions far apart make it large, and each of them coarse.

    Args:
        photo: uint8 [H, W, 3].
        masks: one uint8 [H, W] on the photo for all seeds, or N of them; lesion if > 127.
        prompt, seeds, settings, reference, reference_weight: see ``MaskDiffusion.sample``. The reference is of the square.
        callback: see ``siamese.sampling.Callback``. Its previews are whole photos, uint8 [N, H, W, 3].

    Raises:
        ValueError: a photo or masks of another type or size; and see ``MaskDiffusion.sample``.
        SamplingCancelled: the callback returned False.
    """
    spots = [_Spot.of(model, photo, mask) for mask in checked_masks(photo, masks)]
    if len(spots) not in (1, len(seeds)):
        raise ValueError(f"{len(spots)} masks for {len(seeds)} seeds; give one mask, or one a seed.")
    known, rebuilt = _known(model, spots)

    def composed(samples: np.ndarray) -> list[np.ndarray]:
        return [
            spot.composed(photo, synthetic=sample, rebuilt=again)
            for sample, spot, again in zip(
                samples, _repeated(spots, len(samples)), _repeated(list(rebuilt), len(samples)), strict=True
            )
        ]

    samples = model.sample_fitted(
        [spot.fitted for spot in spots],
        prompt,
        seeds,
        settings,
        callback=callback and _composing(callback, composed),
        reference=reference,
        reference_weight=reference_weight,
        known=KnownLatents(
            known.z_0.expand(len(seeds), -1, -1, -1), known.free.expand(len(seeds), -1, -1, -1)
        ),
    )
    images = composed(samples)
    each = _repeated(spots, len(images))
    crops = [
        resize_image(spot.crop.cut_photo(image), model.size) for image, spot in zip(images, each, strict=True)
    ]
    return FrameImages(np.stack(images), np.stack(crops), np.stack([spot.fitted for spot in each]))


def checked_masks(photo: np.ndarray, masks: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Copies of ``masks`` as 0 / 255.

    Raises:
        ValueError: ``photo`` is not uint8 [H, W, 3].
        MaskError: a mask is of another size, empty, or not a mask (``siamese.masks.core.check_mask``).
    """
    if not isinstance(photo, np.ndarray) or photo.ndim != 3 or photo.shape[2] != 3 or photo.dtype != np.uint8:
        raise ValueError("the photo must be uint8 [H, W, 3].")
    checked = [check_mask(mask) for mask in masks]
    for mask in checked:
        if mask.shape != photo.shape[:2]:
            raise MaskError(
                f"the mask has {mask.shape[1]} x {mask.shape[0]} pixels and the photo {photo.shape[1]} x {photo.shape[0]}; "
                "draw the lesion on the photo itself."
            )
        if not mask.any():
            raise MaskError("the mask is empty: draw or mark a lesion.")
    return checked


@dataclass(frozen=True, eq=False)
class _Spot:
    """Where one mask's lesion is synthesised."""

    crop: Crop
    mask: np.ndarray
    """uint8 [side, side]: the mask's part in the square."""
    fitted: np.ndarray
    """uint8 [S, S]: the same at the model's size."""
    photo: np.ndarray
    """uint8 [S, S, 3]: the photo's square at the model's size."""

    @classmethod
    def of(cls, model: MaskDiffusion, photo: np.ndarray, mask: np.ndarray) -> _Spot:
        crop = Crop.around(mask, model.size)
        part = crop.cut_mask(mask)
        return cls(crop, part, model.fit_mask(part), resize_image(crop.cut_photo(photo), model.size))

    def composed(self, photo: np.ndarray, synthetic: np.ndarray, rebuilt: np.ndarray) -> np.ndarray:
        square = blend(self.crop.cut_photo(photo), lesion=self.mask, synthetic=synthetic, rebuilt=rebuilt)
        return self.crop.paste(photo, square)


@torch.inference_mode()
def _known(model: MaskDiffusion, spots: Sequence[_Spot]) -> tuple[KnownLatents, np.ndarray]:
    """The photo's latents, free around the lesions; and the squares uint8 [.., S, S, 3] encoded and decoded. One for each spot."""
    vae = model.checkpoint.vae
    squares = torch.from_numpy(np.stack([spot.photo for spot in spots])).permute(0, 3, 1, 2)
    z_0, _ = encode_moments(vae, squares.to(model.device).float().div(127.5).sub(1))
    near = np.stack([distance_from(spot.fitted) <= FREE for spot in spots])
    free: Tensor = F.max_pool2d(torch.from_numpy(near)[:, None].float(), downsampling(vae))
    return KnownLatents(z_0, free.to(model.device)), to_uint8(decode_latents(vae, z_0))


def _repeated(one_or_all: Sequence[T], count: int) -> list[T]:
    return list(one_or_all) * count if len(one_or_all) == 1 else list(one_or_all)


def _composing(callback: Callback, composed: Callable[[np.ndarray], list[np.ndarray]]) -> Callback:
    """``callback`` with previews that ``composed`` puts into the photo."""

    def preview(progress: Progress) -> np.ndarray:
        return np.stack(composed(progress.preview()))

    def wrapped(progress: Progress) -> bool | None:
        return callback(replace(progress, preview=functools.partial(preview, progress)))

    return wrapped
