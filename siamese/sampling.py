"""Sampling images of a mask: DDIM and DPM-Solver++ with classifier-free guidance, previews and cancelling."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack, get_args

import numpy as np
import torch
from torch import Tensor

from siamese.diffusion import predict_x0, predicted_noise
from siamese.known_latents import KnownLatents
from siamese.masks.core import fit_mask, resize_image
from siamese.models.autoencoder import decode_latents, downsampling, latent_channels
from siamese.models.checkpoint import Checkpoint, load_checkpoint
from siamese.models.controlnet import SiameseControlNet
from siamese.models.dense_hint import image_hint, mask_hint
from siamese.models.unet import Control, Decoder, encode, predict
from siamese.records.sampling_settings import GuidanceMode, SamplingKeywords, SamplingSettings, SchedulerName

__all__ = [
    "Callback",
    "Conditioning",
    "GuidanceMode",
    "MaskDiffusion",
    "Progress",
    "SamplingCancelled",
    "SamplingSettings",
    "SchedulerName",
    "build_scheduler",
    "classifier_free_guidance",
    "denoise",
    "guided_output",
    "initial_noise",
    "to_uint8",
]


class SamplingCancelled(Exception):
    """The callback asked to stop."""


@dataclass(frozen=True)
class Progress:
    """What a callback sees after each step."""

    step: int
    """Steps done."""
    steps: int
    """Steps in all."""
    t: int
    """The step's timestep, 0..T-1."""
    preview: Callable[[], np.ndarray]
    """Decodes the step's estimate of z_0: images uint8 [B, S, S, 3]. Costs as much as decoding the result."""


Callback = Callable[[Progress], "bool | None"]
"""Called after each step; sampling stops with SamplingCancelled if it returns False."""


@dataclass(frozen=True)
class Conditioning:
    """What the images of a batch are conditioned on."""

    cond: Tensor
    """Embeddings [B, tokens, D] of the prompts."""
    uncond: Tensor
    """Embeddings [B, tokens, D] of the empty prompt."""
    hints: Sequence[tuple[float, Tensor]] = ()
    """Weight and hint features [B, C, h, w] of each control. None for a base model, one for Mask-Diffusion, two for
    Image-Diffusion: 1 for the mask, w_i for the reference."""


def build_scheduler(name: SchedulerName, config: dict[str, Any], steps: int) -> Any:
    """A diffusers scheduler set to ``steps``.

    ``ddim``: the paper's, eta 0 (Song et al. 2020, arXiv:2010.02502). ``dpm++``: DPM-Solver++ of second order, timesteps
    spaced from the last (Lu et al. 2022, arXiv:2211.01095; "trailing" in Lin et al. 2023, arXiv:2305.08891), or by Karras' sigmas if the
    configuration asks for them (Karras et al. 2022, arXiv:2206.00364, equation 5).

    Raises:
        ValueError: unknown name, or steps outside 1..T.
    """
    if name not in get_args(SchedulerName):
        raise ValueError(f"unknown scheduler {name!r}; choose from {', '.join(get_args(SchedulerName))}.")
    if not 1 <= steps <= config["num_train_timesteps"]:
        raise ValueError(
            f"num_inference_steps is {steps}; it must be between 1 and {config['num_train_timesteps']}."
        )
    # Imported by module: all of diffusers' schedulers take seconds to import.
    if name == "ddim":
        module = importlib.import_module("diffusers.schedulers.scheduling_ddim")
        scheduler = module.DDIMScheduler.from_config(
            config | {"clip_sample": False}
        )  # latents are not in -1..1
    else:
        module = importlib.import_module("diffusers.schedulers.scheduling_dpmsolver_multistep")
        options = {k: v for k, v in config.items() if k not in ("clip_sample", "set_alpha_to_one")}
        scheduler = module.DPMSolverMultistepScheduler.from_config(
            {"use_karras_sigmas": False}
            | options
            | {
                "algorithm_type": "dpmsolver++",
                "solver_order": 2,
                "timestep_spacing": "trailing",
                "steps_offset": 0,
            }
        )
    scheduler.set_timesteps(steps)
    return scheduler


def initial_noise(seeds: Sequence[int], shape: tuple[int, ...]) -> Tensor:
    """z_T [B, *shape], each image from its own generator: a seed gives the same image in any batch."""
    return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(int(s))) for s in seeds])


def classifier_free_guidance(
    uncond: Tensor, cond: Tensor, guidance_scale: float, guidance_rescale: float = 0.0
) -> Tensor:
    """eps = eps_uncond + s (eps_cond - eps_uncond) of outputs [B, C, h, w] (Ho & Salimans 2022, arXiv:2207.12598, equation 6
    with s = 1 + w). The same formula holds for velocities, as both halves share z_t.

    Large guidance overexposes: it adds contrast. ``guidance_rescale`` in 0..1 brings that share of the standard deviation
    back towards eps_cond's (Lin et al. 2023, arXiv:2305.08891, equations 14 to 16; there 0.7).
    """
    output = uncond + guidance_scale * (cond - uncond)
    if not guidance_rescale:
        return output
    ratio = cond.std((1, 2, 3), keepdim=True) / output.std((1, 2, 3), keepdim=True)
    return output * (1 + guidance_rescale * (ratio - 1))


def mixed_control(
    controlnet: SiameseControlNet | None,
    z_t: Tensor,
    t: Tensor,
    context: Tensor,
    hints: Sequence[tuple[float, Tensor]],
) -> Control | None:
    """c_mix = sum of w_k F(z_t, t, c, h_k) over the hints (Algorithm 1, line 10); None without hints."""
    mixed: Control | None = None
    for weight, features in hints:
        assert controlnet is not None, "hints need a ControlNet"
        control = controlnet.control(z_t, t, context, features)
        mixed = control.mix(control, weight, 0.0) if mixed is None else mixed.mix(control, 1.0, weight)
    return mixed


def cond_output(checkpoint: Checkpoint, z_t: Tensor, t: Tensor, given: Conditioning) -> Tensor:
    """The U-Net's output [B, C, h, w] at z_t and t [B] with prompt and hints."""
    control = mixed_control(checkpoint.controlnet, z_t, t, given.cond, given.hints)
    return predict(checkpoint.unet, z_t, t, given.cond, control).float()


def halves_by_prompt(
    checkpoint: Checkpoint, z_t: Tensor, t: Tensor, given: Conditioning
) -> tuple[Tensor, Tensor]:
    """Outputs without and with the prompt, both with the hints, in one batch of 2 B."""
    z_t, t, context = torch.cat([z_t] * 2), torch.cat([t] * 2), torch.cat([given.uncond, given.cond])
    hints = [(weight, torch.cat([features] * 2)) for weight, features in given.hints]
    control = mixed_control(checkpoint.controlnet, z_t, t, context, hints)
    uncond, cond = predict(checkpoint.unet, z_t, t, context, control).float().chunk(2)
    return uncond, cond


def halves_by_mask(
    checkpoint: Checkpoint, z_t: Tensor, t: Tensor, given: Conditioning
) -> tuple[Tensor, Tensor]:
    """Outputs without and with the hints, both with the prompt: one encoder and one ControlNet run for the two."""
    control = mixed_control(checkpoint.controlnet, z_t, t, given.cond, given.hints)
    assert control is not None, "guidance by the mask needs hints"
    encoding = encode(checkpoint.unet, z_t, t, given.cond).repeat(2)
    context = torch.cat([given.cond] * 2)
    output = Decoder(checkpoint.unet)(encoding, context, control.with_null_half())
    uncond, cond = output.float().chunk(2)
    return uncond, cond


def guided_output(
    checkpoint: Checkpoint, z_t: Tensor, t: Tensor, given: Conditioning, settings: SamplingSettings
) -> Tensor:
    """The U-Net's output [B, C, h, w] at z_t and t [B] with guidance; without hints it is by the prompt."""
    by_mask = settings.guidance_mode == "mask" and len(given.hints) > 0
    uncond, cond = (halves_by_mask if by_mask else halves_by_prompt)(checkpoint, z_t, t, given)
    return classifier_free_guidance(uncond, cond, settings.guidance_scale, settings.guidance_rescale)


def denoise(
    checkpoint: Checkpoint,
    scheduler: Any,
    z: Tensor,
    given: Conditioning,
    settings: SamplingSettings,
    callback: Callback | None = None,
    first: int = 0,
    known: KnownLatents | None = None,
) -> Tensor:
    """z_0 [B, C, h, w] from noise z_T: the loop of DDIM's sampling (Song et al. 2020, arXiv:2010.02502, equation 12).

    Args:
        scheduler: see ``build_scheduler``. It sets the timesteps and makes z_{t-1} of z_t and the output; for ``ddim``
            z_{t-1} = sqrt(a_{t-1}) z_0' + sqrt(1 - a_{t-1}) eps with z_0' of ``predict_x0`` (equation 12 with sigma = 0).
        settings: those of guidance (``guided_output``); the scheduler has its own.
        first: steps left out: z is at the noise level of that step's timestep already.
        known: what a part of the latents is held to before each step and at the end; z must be noise then, and ``first`` 0.

    Raises:
        SamplingCancelled: the callback returned False.
        ValueError: ``known`` and ``first`` together.
    """
    if known is not None and first:
        raise ValueError("latents can be held from the first step on only; leave first at 0.")
    timesteps = scheduler.timesteps[first:]
    total = scheduler.config.num_train_timesteps
    z_t = z * scheduler.init_noise_sigma
    for i, timestep in enumerate(timesteps):
        if known is not None:
            z_t = known.held(z_t, scheduler=scheduler, noise=z, timestep=timestep)
        t = torch.full((len(z),), int(timestep), device=z.device, dtype=torch.long)
        z_in = scheduler.scale_model_input(z_t, timestep)
        if settings.guides_at(int(timestep) / total):
            output = guided_output(checkpoint, z_t=z_in, t=t, given=given, settings=settings)
        else:
            output = cond_output(checkpoint, z_in, t, given)
        z_next = scheduler.step(output, timestep, z_t, return_dict=False)[0]
        if callback is not None:
            preview = functools.partial(decoded_estimate, checkpoint, output, z_t, t)
            if callback(Progress(i + 1, len(timesteps), int(timestep), preview)) is False:
                raise SamplingCancelled(f"cancelled after {i + 1} of {len(timesteps)} steps.")
        z_t = z_next
    return z_t if known is None else known.at_end(z_t)


@torch.inference_mode()  # a callback may decode it later, from another thread
def decoded_estimate(checkpoint: Checkpoint, output: Tensor, z_t: Tensor, t: Tensor) -> np.ndarray:
    """Images uint8 [B, S, S, 3] of z_0' that the output at z_t and t [B] means (``predict_x0``)."""
    alphas_cumprod = checkpoint.alphas_cumprod.to(z_t.device)
    noise = predicted_noise(alphas_cumprod, output, z_t, t, checkpoint.prediction)
    return to_uint8(decode_latents(checkpoint.vae, predict_x0(alphas_cumprod, z_t, noise, t)))


def to_uint8(images: Tensor) -> np.ndarray:
    """uint8 [B, H, W, 3] of images [B, 3, H, W] in -1..1."""
    return images.float().add(1).mul(127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()


class MaskDiffusion:
    """A trained model that draws images of masks (Mask-Diffusion), and of masks with a reference (Image-Diffusion).

    >>> import numpy as np
    >>> from siamese.sampling import MaskDiffusion
    >>> model = MaskDiffusion.from_pretrained("assets/siamese-tiny", "cpu")
    >>> mask = np.zeros((256, 256), np.uint8)
    >>> mask[80:180, 60:200] = 255
    >>> images = model.sample(mask, "a colonoscopy image of a polyp", seeds=[1, 2], steps=2, guidance=2)
    >>> images.shape, images.dtype
    ((2, 256, 256, 3), dtype('uint8'))
    """

    def __init__(self, checkpoint: Checkpoint, device: str | torch.device = "cpu") -> None:
        if checkpoint.controlnet is None:
            raise ValueError(
                f"{checkpoint.name}: a base model without ControlNet cannot follow a mask; run the Siamese stage first."
            )
        self.controlnet = checkpoint.controlnet
        self.checkpoint = checkpoint.to(device)
        self.device = torch.device(device)
        self.size = checkpoint.image_size

    @classmethod
    def from_pretrained(cls, source: str | Path, device: str | torch.device | None = None) -> MaskDiffusion:
        """Load a model folder or hub id; on a GPU if there is one.

        Raises:
            CheckpointError: see ``load_checkpoint``.
        """
        return cls(load_checkpoint(source), device or ("cuda" if torch.cuda.is_available() else "cpu"))

    @property
    def prompts(self) -> tuple[str, ...] | None:
        """The prompts that the model knows; None if it takes free text."""
        return self.checkpoint.context.prompts

    def sample(
        self,
        masks: np.ndarray | Sequence[np.ndarray],
        prompt: str | Sequence[str],
        seeds: Sequence[int],
        *,
        settings: SamplingSettings | None = None,
        callback: Callback | None = None,
        reference: np.ndarray | None = None,
        reference_weight: float = 1.0,
        **overrides: Unpack[SamplingKeywords],
    ) -> np.ndarray:
        """Images uint8 [N, S, S, 3] of N = len(seeds) masks.

        Args:
            masks: one mask uint8 [H, W] for all seeds, or N of them ([N, H, W] or a list); lesion if > 127. Any size:
                thresholded, then resized nearest to the model's.
            prompt: one prompt, or N.
            seeds: one integer an image. A seed gives the same image alone and in a batch.
            settings: the checkpoint's defaults if None.
            callback: see ``Callback``.
            reference: image uint8 [H, W, 3]; with it, Image-Diffusion samples with c_mix = w_i c_i + c_m.
            reference_weight: w_i, 0 or more.
            overrides: single settings in the place of those of ``settings``, by the names of ``SamplingSettings``. The
                former names still work: ``steps``, ``guidance``, ``guide``, ``rescale``, ``guide_above``, ``guide_below``.

        Raises:
            ValueError: inputs of the wrong shape, type or number, or settings out of range.
            TypeError: an unknown setting.
            UnknownPromptError: a prompt outside the model's table.
            SamplingCancelled: the callback returned False.
        """
        chosen = (self.checkpoint.defaults if settings is None else settings).override(**overrides)
        fitted = [self.fit_mask(mask) for mask in _each(masks)]
        return self.sample_fitted(
            fitted,
            prompt,
            seeds,
            chosen,
            callback=callback,
            reference=reference,
            reference_weight=reference_weight,
        )

    @torch.inference_mode()
    def sample_fitted(
        self,
        masks: Sequence[np.ndarray],
        prompt: str | Sequence[str],
        seeds: Sequence[int],
        settings: SamplingSettings,
        *,
        callback: Callback | None = None,
        reference: np.ndarray | None = None,
        reference_weight: float = 1.0,
        known: KnownLatents | None = None,
    ) -> np.ndarray:
        """``sample`` of masks that ``fit_mask`` returned, for callers that need them too: one for all seeds, or one a seed.

        ``known``: see ``denoise``.
        """
        seeds = _checked_seeds(seeds)
        solver = build_scheduler(
            settings.scheduler, self.checkpoint.scheduler_config, settings.num_inference_steps
        )
        given = self._conditioning(
            masks,
            prompts=_checked_prompts(prompt, len(seeds)),
            count=len(seeds),
            reference=reference,
            reference_weight=reference_weight,
        )
        side = self.size // downsampling(self.checkpoint.vae)
        noise = initial_noise(seeds, (latent_channels(self.checkpoint.vae), side, side)).to(self.device)
        z_0 = denoise(
            self.checkpoint,
            scheduler=solver,
            z=noise,
            given=given,
            settings=settings,
            callback=callback,
            known=known,
        )
        return to_uint8(decode_latents(self.checkpoint.vae, z_0))

    def fit_mask(self, mask: np.ndarray) -> np.ndarray:
        """``siamese.masks.core.fit_mask`` at the model's size: uint8 [S, S] of 0 / 255. Raises MaskError, a ValueError."""
        return fit_mask(mask, self.size)

    def _conditioning(
        self,
        masks: Sequence[np.ndarray],
        prompts: list[str],
        count: int,
        reference: np.ndarray | None,
        reference_weight: float,
    ) -> Conditioning:
        if len(masks) not in (1, count):
            raise ValueError(f"{len(masks)} masks for {count} seeds; give one mask, or one a seed.")
        hints = [(1.0, self._features(mask_hint(np.stack(masks)), count))]
        if reference is not None:
            image = _checked_reference(reference, reference_weight)
            hint = image_hint(resize_image(image, self.size)[None])
            hints.append((float(reference_weight), self._features(hint, count)))
        context = self.checkpoint.context
        return Conditioning(context(prompts), context([""] * count), hints)

    def _features(self, hint: Tensor, count: int) -> Tensor:
        # Once for one mask of many variants.
        return self.controlnet.hint_features(hint.to(self.device)).expand(count, -1, -1, -1)


def _each(masks: np.ndarray | Sequence[np.ndarray]) -> list[np.ndarray]:
    return [masks] if isinstance(masks, np.ndarray) and masks.ndim == 2 else list(masks)


def _checked_seeds(seeds: Sequence[int]) -> list[int]:
    if not isinstance(seeds, Sequence | np.ndarray) or not all(
        isinstance(s, int | np.integer) for s in seeds
    ):
        raise ValueError(f"seeds is {seeds!r}; give a list of one integer for each image.")
    if not len(seeds):
        raise ValueError("seeds is empty; give one integer for each image.")
    return list(seeds)


def _checked_prompts(prompt: str | Sequence[str], count: int) -> list[str]:
    prompts = [prompt] * count if isinstance(prompt, str) else list(prompt)
    if len(prompts) != count:
        raise ValueError(f"{len(prompts)} prompts for {count} seeds; give one prompt, or one a seed.")
    return prompts


def _checked_reference(reference: np.ndarray, weight: float) -> np.ndarray:
    is_colour = isinstance(reference, np.ndarray) and reference.ndim == 3 and reference.shape[2] == 3
    if not is_colour or reference.dtype != np.uint8:
        raise ValueError(f"reference must be uint8 [H, W, 3], not {_kind(reference)}.")
    if not (np.isfinite(weight) and weight >= 0):
        raise ValueError(f"reference_weight is {weight}; it must be 0 or more.")
    return reference


def _kind(value: Any) -> str:
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__
