"""Sampling images of a mask: DDIM and DPM-Solver++ with classifier-free guidance, previews and cancelling."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from siamese.diffusion import predict_x0, predicted_noise
from siamese.masks.core import fit_mask, resize_image
from siamese.models.autoencoder import decode_latents, downsampling
from siamese.models.checkpoint import Checkpoint, SamplingDefaults, load_checkpoint
from siamese.models.hints import image_hint, mask_hint
from siamese.models.unet import Control, Decoder, encode

SchedulerName = Literal["dpm++", "ddim"]
GuideName = Literal["prompt", "mask"]
"""What classifier-free guidance (Ho & Salimans 2022, arXiv:2207.12598) strengthens. ``prompt``: the paper's, whose weak half has
the empty prompt and the same hints. ``mask``: the weak half has the same prompt and no hint, so the image follows its mask more;
no part of the paper. It costs less, as one ControlNet and one encoder run serve both halves."""


class SamplingCancelled(Exception):
    """The callback asked to stop."""


@dataclass(frozen=True)
class Progress:
    """What a callback sees after each step."""

    step: int
    """Steps done."""
    steps: int
    preview: Callable[[], np.ndarray]
    """Decodes the present estimate of x0: images uint8 [B, S, S, 3]. Costs as much as decoding the result."""


Callback = Callable[[Progress], "bool | None"]
"""Called after each step; sampling stops with SamplingCancelled where it returns False."""


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
        raise ValueError(f"steps is {steps}; it must be between 1 and {config['num_train_timesteps']}.")
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


def guided_output(weak: Tensor, full: Tensor, guidance: float, rescale: float = 0.0) -> Tensor:
    """Classifier-free guidance of outputs [B, C, h, w], with its standard deviation brought back towards the full half's.

    Large guidance overexposes: it adds contrast. ``rescale`` in 0..1 takes that share of it back (Lin et al. 2023,
    arXiv:2305.08891, equations 14 to 16; there 0.7).
    """
    output = weak + guidance * (full - weak)
    if not rescale:
        return output
    ratio = full.std((1, 2, 3), keepdim=True) / output.std((1, 2, 3), keepdim=True)
    return output * (1 + rescale * (ratio - 1))


def check_settings(settings: SamplingDefaults) -> None:
    """ValueError, which names the setting and what it must be, where one of guidance's cannot be used."""
    if not (np.isfinite(settings.guidance) and settings.guidance >= 1):
        raise ValueError(f"guidance is {settings.guidance}; it must be 1 (none) or more.")
    if settings.guide not in get_args(GuideName):
        raise ValueError(f"unknown guide {settings.guide!r}; choose from {', '.join(get_args(GuideName))}.")
    if not 0 <= settings.rescale <= 1:
        raise ValueError(f"rescale is {settings.rescale}; it must be between 0 (off) and 1.")
    if not 0 <= settings.guide_above <= settings.guide_below <= 1:
        raise ValueError(
            f"guide_above is {settings.guide_above} and guide_below {settings.guide_below}; they must be shares of all "
            "timesteps, 0 to 1, the first not the larger."
        )


def denoise(
    checkpoint: Checkpoint,
    scheduler: Any,
    z: Tensor,
    context: Tensor,
    uncond: Tensor,
    guidance: float,
    hints: Sequence[tuple[float, Tensor]] = (),
    callback: Callback | None = None,
    guide: GuideName = "prompt",
    rescale: float = 0.0,
    guide_above: float = 0.0,
    guide_below: float = 1.0,
    first: int = 0,
) -> Tensor:
    """z0 [B, C, h, w] from z_T by ``scheduler``.

    Args:
        context, uncond: embeddings [B, tokens, D] of the prompt and of the empty prompt.
        guidance: s in eps = eps_weak + s (eps_full - eps_weak); at 1 only eps_full is computed.
        hints: weight and hint features of each control; their residuals are summed (c_mix for Image-Diffusion).
        guide: what eps_weak lacks, see ``GuideName``. Without hints it is the prompt.
        rescale: see ``guided_output``.
        guide_above, guide_below: guidance acts where t / T is between them. At the highest noise levels it takes variety and
            overexposes, at the lowest it takes texture (Kynkaanniemi et al. 2024, arXiv:2404.07724).
        first: steps left out: z is at the noise level of that step's timestep already.
    """
    decoder = Decoder(checkpoint.unet)
    by_mask = guide == "mask" and len(hints) > 0
    total = scheduler.config.num_train_timesteps
    alphas_cumprod = checkpoint.alphas_cumprod.to(z.device)
    timesteps = scheduler.timesteps[first:]
    z = z * scheduler.init_noise_sigma
    for i, t in enumerate(timesteps):
        guided = guidance != 1 and guide_above <= int(t) / total <= guide_below
        copies = (
            2 if guided and not by_mask else 1
        )  # of z and the hints; by mask the two halves share prompt and encoder
        embeddings = torch.cat([uncond, context]) if copies == 2 else context
        z_in = torch.cat([scheduler.scale_model_input(z, t)] * copies)
        t_in = torch.full((len(z_in),), int(t), device=z.device, dtype=torch.long)
        control: Control | None = None
        for weight, features in hints:
            part = checkpoint.controlnet.control(z_in, t_in, embeddings, torch.cat([features] * copies))
            control = part.mix(part, weight, 0.0) if control is None else control.mix(part, 1.0, weight)
        encoding = encode(checkpoint.unet, z_in, t_in, embeddings)
        if guided and by_mask:
            output = decoder(encoding.twice(), torch.cat([embeddings] * 2), control.with_null_half()).float()
        else:
            output = decoder(encoding, embeddings, control).float()
        if guided:
            output = guided_output(*output.chunk(2), guidance, rescale)
        before, z = z, scheduler.step(output, t, z, return_dict=False)[0]
        if callback is not None:

            def preview(
                z_t: Tensor = before, out: Tensor = output, at: Tensor = t_in[: len(z)]
            ) -> np.ndarray:
                with torch.inference_mode():  # it may be called later, from another thread
                    noise = predicted_noise(alphas_cumprod, out, z_t, at, checkpoint.prediction)
                    return to_uint8(
                        decode_latents(checkpoint.vae, predict_x0(alphas_cumprod, z_t, noise, at))
                    )

            if callback(Progress(i + 1, len(timesteps), preview)) is False:
                raise SamplingCancelled(f"cancelled after {i + 1} of {len(timesteps)} steps.")
    return z


def to_uint8(images: Tensor) -> np.ndarray:
    """uint8 [B, H, W, 3] of images [B, 3, H, W] in -1..1."""
    return images.float().add(1).mul(127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()


class MaskDiffusion:
    """A trained model that draws images of masks (Mask-Diffusion), and of masks with a reference (Image-Diffusion)."""

    def __init__(self, checkpoint: Checkpoint, device: str | torch.device = "cpu") -> None:
        if checkpoint.controlnet is None:
            raise ValueError(
                f"{checkpoint.name}: a base model without ControlNet cannot follow a mask; run the Siamese stage first."
            )
        self.checkpoint = checkpoint.to(device)
        self.device = torch.device(device)
        self.size = checkpoint.defaults.image_size

    @classmethod
    def from_pretrained(cls, source: str | Path, device: str | torch.device | None = None) -> MaskDiffusion:
        """Load a model folder or hub id; on a GPU where there is one.

        Raises:
            CheckpointError: see ``load_checkpoint``.
        """
        return cls(load_checkpoint(source), device or ("cuda" if torch.cuda.is_available() else "cpu"))

    @property
    def prompts(self) -> tuple[str, ...] | None:
        """The prompts that the model knows; None where it takes free text."""
        return self.checkpoint.context.prompts

    @torch.inference_mode()
    def sample(
        self,
        masks: np.ndarray | Sequence[np.ndarray],
        prompt: str | Sequence[str],
        seeds: Sequence[int],
        *,
        steps: int | None = None,
        guidance: float | None = None,
        scheduler: SchedulerName | None = None,
        guide: GuideName | None = None,
        rescale: float | None = None,
        guide_above: float | None = None,
        guide_below: float | None = None,
        callback: Callback | None = None,
        reference: np.ndarray | None = None,
        reference_weight: float = 1.0,
    ) -> np.ndarray:
        """Images uint8 [N, S, S, 3] of N = len(seeds) masks.

        Args:
            masks: one mask uint8 [H, W] for all seeds, or N of them ([N, H, W] or a list); lesion where > 127. Any size:
                thresholded, then resized nearest to the model's.
            prompt: one prompt, or N.
            seeds: one integer an image. A seed gives the same image alone and in a batch.
            steps, guidance, scheduler, guide: the checkpoint's defaults where None.
            rescale: share of guidance's contrast that is taken back, 0..1 (``guided_output``); the checkpoint's default where None.
            guide_above, guide_below: noise levels of guidance, as shares of all timesteps (``denoise``); the checkpoint's default where None.
            callback: see ``Callback``.
            reference: image uint8 [H, W, 3]; given, Image-Diffusion samples with c_mix = w_i c_i + c_m.
            reference_weight: w_i, 0 or more.

        Raises:
            ValueError: inputs of the wrong shape, type or number.
            UnknownPromptError: a prompt outside the model's table.
            SamplingCancelled: the callback returned False.
        """
        settings = self.checkpoint.defaults.chosen(
            steps=steps,
            guidance=guidance,
            scheduler=scheduler,
            guide=guide,
            rescale=rescale,
            guide_above=guide_above,
            guide_below=guide_below,
        )
        check_settings(settings)
        if not isinstance(seeds, Sequence | np.ndarray) or not all(
            isinstance(s, int | np.integer) for s in seeds
        ):
            raise ValueError(f"seeds is {seeds!r}; give a list of one integer for each image.")
        seeds = list(seeds)
        if not seeds:
            raise ValueError("seeds is empty; give one integer for each image.")
        hints = mask_hint(np.stack([self.fit_mask(m) for m in self._given(masks, len(seeds))])).to(
            self.device
        )
        prompts = [prompt] * len(seeds) if isinstance(prompt, str) else list(prompt)
        if len(prompts) != len(seeds):
            raise ValueError(
                f"{len(prompts)} prompts for {len(seeds)} seeds; give one prompt, or one a seed."
            )
        context = self.checkpoint.context(prompts)
        uncond = self.checkpoint.context([""] * len(seeds))
        network = self.checkpoint.controlnet
        features = [
            (1.0, network.hint_features(hints).expand(len(seeds), -1, -1, -1))
        ]  # one mask of many variants: once
        if reference is not None:
            if (
                not isinstance(reference, np.ndarray)
                or reference.ndim != 3
                or reference.shape[2] != 3
                or reference.dtype != np.uint8
            ):
                raise ValueError(f"reference must be uint8 [H, W, 3], not {_kind(reference)}.")
            if not (np.isfinite(reference_weight) and reference_weight >= 0):
                raise ValueError(f"reference_weight is {reference_weight}; it must be 0 or more.")
            image = image_hint(resize_image(reference, self.size)[None]).to(self.device)
            features.append(
                (float(reference_weight), network.hint_features(image).expand(len(seeds), -1, -1, -1))
            )
        factor = downsampling(self.checkpoint.vae)
        shape = (self.checkpoint.unet.config.in_channels, self.size // factor, self.size // factor)
        solver = build_scheduler(settings.scheduler, self.checkpoint.scheduler_config, settings.steps)
        z0 = denoise(
            self.checkpoint,
            solver,
            initial_noise(seeds, shape).to(self.device),
            context,
            uncond,
            settings.guidance,
            features,
            callback,
            settings.guide,
            settings.rescale,
            settings.guide_above,
            settings.guide_below,
        )
        return to_uint8(decode_latents(self.checkpoint.vae, z0))

    def fit_mask(self, mask: np.ndarray) -> np.ndarray:
        """``siamese.masks.core.fit_mask`` at the model's size: uint8 [S, S] of 0 / 255. Raises MaskError, a ValueError."""
        return fit_mask(mask, self.size)

    @staticmethod
    def _given(masks: np.ndarray | Sequence[np.ndarray], count: int) -> list[np.ndarray]:
        masks = [masks] if isinstance(masks, np.ndarray) and masks.ndim == 2 else list(masks)
        if len(masks) not in (1, count):
            raise ValueError(f"{len(masks)} masks for {count} seeds; give one mask, or one a seed.")
        return masks


def _kind(value: Any) -> str:
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__
