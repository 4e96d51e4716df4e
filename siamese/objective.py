"""The Siamese training loss (Algorithm 1 and sections 3 and 7 of the paper), without the released code's repetitions.

Equal to the released step: same loss bit for bit in exact arithmetic, same gradients. What is saved is listed in
``SiameseObjective.forward``. One module's forward holds the whole loss, so that any parallel wrapper sees it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from siamese.diffusion import (
    Prediction,
    Weighting,
    add_noise,
    loss_weight,
    predict_x0,
    predicted_noise,
    timestep_like,
)
from siamese.models.controlnet import SiameseControlNet
from siamese.models.unet import Control, Decoder, Encoding, encode, encoder_is_frozen, tied_copy

if TYPE_CHECKING:  # siamese.models decides how diffusers is imported
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel


@dataclass(frozen=True)
class SiameseConfig:
    """Weights and gates of the four losses. Defaults are the paper's."""

    w_m: float = 1.0
    """Weight of the mask's residuals in c_mix."""
    w_c: float = 1.0
    """Weight of the Noise Consistency Loss."""
    w_a: float = 1.0
    """Weight of the augmented mask loss L_m' while its gate is open."""
    ramp: bool = True
    """w_i = step / max_steps; without it w_i is 1."""
    augment_t: int = 200
    """Largest timestep, inclusive, of samples that are augmented; on another schedule than Stable Diffusion's, that of its noise level."""
    augment_after: float = 1 / 3
    """Share of the steps after which (strictly) augmentation begins."""
    weighting: Weighting = "none"
    """Weighting of squared noise errors over t, the same for all four losses."""


def image_weight(step: int, max_steps: int) -> float:
    """w_i = step / max_steps: the image's share in c_mix grows linearly from 0."""
    return step / max_steps


def describe_schedule(config: SiameseConfig, step: int, max_steps: int) -> str:
    """w_i and the augmentation's gate at ``step`` of ``max_steps``, for messages."""
    w_i = image_weight(step, max_steps) if config.ramp else 1.0
    if not config.w_a:
        gate = "no augmentation (w_a = 0)"
    else:
        gate = f"augmentation {'on' if augments(step, max_steps, config.augment_after) else 'off'} (after step {max_steps * config.augment_after:g})"
    return f"w_i = {w_i:.3g}{'' if config.ramp else ' throughout'}, {gate}"


def augments(step: int, max_steps: int, after: float) -> bool:
    """The online augmentation's gate over steps: strictly later than ``after`` of them."""
    return step > max_steps * after


def squared_error(a: Tensor, b: Tensor) -> Tensor:
    """Mean of (a - b)^2 over everything but the batch, [B], in float32."""
    return (a.float() - b.float()).square().mean((1, 2, 3))


class SiameseObjective(nn.Module):
    """Mask- and Image-Diffusion of one U-Net and one ControlNet, and the sum of their losses.

    >>> import torch
    >>> from siamese.diffusion import scaled_linear_alphas
    >>> from siamese.models.controlnet import SiameseControlNet
    >>> from siamese.models.presets import NetworkConfig
    >>> config = NetworkConfig(block_out_channels=(16, 32), attention=(False, True), layers_per_block=1,
    ...     cross_attention_dim=16, attention_heads=2, norm_num_groups=8, latent_channels=4, latent_size=4,
    ...     hint_widths=(4, 4, 8, 8, 8), hint_mergings=3)
    >>> unet = config.build_unet()
    >>> controlnet = SiameseControlNet.from_unet(unet, config.hint_widths, config.hint_mergings)
    >>> objective = SiameseObjective(unet, controlnet, scaled_linear_alphas())
    >>> z0, noise = torch.randn(2, 2, 4, 4, 4)
    >>> hint_mask, hint_image = torch.rand(2, 2, 3, 32, 32)
    >>> losses = objective(z0, torch.randn(2, 3, 16), hint_mask, hint_image, torch.tensor([10, 900]), noise,
    ...     step=50, max_steps=100)
    >>> losses["total"].backward()
    >>> sorted(losses)
    ['augmented', 'consistency', 'image', 'mask', 'total']

    Args:
        unet: theta. Its encoder runs without gradient if it is frozen (the paper's setting).
        controlnet: F.
        alphas_cumprod: a_t [T].
        prediction: what the U-Net puts out; losses are on noise in any case.
    """

    alphas_cumprod: Tensor

    def __init__(
        self,
        unet: UNet2DConditionModel,
        controlnet: SiameseControlNet,
        alphas_cumprod: Tensor,
        prediction: Prediction = "epsilon",
        config: SiameseConfig = SiameseConfig(),
    ) -> None:
        super().__init__()
        self.unet, self.controlnet = unet, controlnet
        self.config = config
        self.prediction: Prediction = prediction
        self.register_buffer("alphas_cumprod", alphas_cumprod, persistent=False)
        self.augment_t = timestep_like(alphas_cumprod, config.augment_t)
        self.build_tied_decoder()

    def build_tied_decoder(self) -> None:
        """Make theta' again. Call it after anything that moves parameters, such as accelerate's prepare."""
        # In a list: theta' is not a submodule, so that neither optimisers nor checkpoints see it.
        decoder = Decoder(self.unet)
        self._decoders = [decoder, tied_copy(decoder)]

    def _noise(
        self, decoder: Decoder, encoding: Encoding, z: Tensor, t: Tensor, context: Tensor, control: Control
    ) -> Tensor:
        output = decoder(encoding, context, control)
        return predicted_noise(self.alphas_cumprod, output.float(), z, t, self.prediction)

    def aliases(self) -> list[nn.Module]:
        """theta', which is not a submodule of this one."""
        return [*self._decoders[1:]]

    def chosen(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Samples that are augmented late in training: their rows [K] and weights [K] (all 1). Waits for the device to know K."""
        rows = torch.nonzero(t <= self.augment_t).flatten()
        return rows, torch.ones_like(rows, dtype=torch.float32)

    def per_sample(
        self,
        z0: Tensor,
        context: Tensor,
        hint_mask: Tensor,
        hint_image: Tensor,
        t: Tensor,
        noise: Tensor,
        step: int,
        max_steps: int,
        early: tuple[Tensor, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """The four losses of each sample, [B] each.

        Args:
            z0: latents [B, C, h, w], scaled to unit standard deviation. noise: eps, the same shape.
            context: prompt embeddings [B, tokens, D].
            hint_mask, hint_image: [B, 3, H, W] in 0..1.
            t: timesteps [B], integers in 0..T-1.
            step, max_steps: optimiser updates done and planned.
            early: rows [K] of the samples with t <= ``augment_t`` and their weights [K], from the caller that drew t on the host. Rows
                of weight 0 pad K to one of few lengths and do not count. Without it, ``chosen`` finds them.

        Returns:
            ``mask`` L_m, ``image`` L_i, ``consistency`` L_c and, while augmentation is on, ``augmented`` L_m'
            (zero for samples whose gate is closed).
        """
        if not 0 <= step <= max_steps:
            raise ValueError(f"step {step} is not within 0..{max_steps}.")
        theta, theta_prime = self._decoders
        w_i = image_weight(step, max_steps) if self.config.ramp else 1.0
        weight = loss_weight(self.alphas_cumprod, t, self.config.weighting)

        z_t = add_noise(self.alphas_cumprod, z0, noise, t)  # line 12
        mask_features = self.controlnet.hint_features(hint_mask)  # once: no function of z_t or t
        image_features = self.controlnet.hint_features(hint_image)
        c_m = self.controlnet.control(z_t, t, context, mask_features)  # line 8
        c_i = self.controlnet.control(z_t, t, context, image_features)
        c_mix = c_i.mix(c_m.detach(), w_i, self.config.w_m)  # line 10; sg[c_m] is c_m's value

        encoding = self._encode(z_t, t, context)  # once for L_m and L_i
        by_mask = self._noise(theta, encoding, z_t, t, context, c_m)
        by_image = self._noise(theta_prime, encoding.detach(), z_t, t, context, c_mix)

        losses = {
            "mask": weight * squared_error(by_mask, noise),  # line 14
            "image": weight * squared_error(by_image, noise),  # line 18
            "consistency": self.config.w_c * weight * squared_error(by_mask, by_image.detach()),  # line 20
        }
        if not (augments(step, max_steps, self.config.augment_after) and self.config.w_a):
            return losses
        rows, counts = self.chosen(t) if early is None else early
        if len(rows):
            guess = by_image.detach()[rows]
            error = self._augmented(
                z_t[rows], guess, context[rows], mask_features[rows], t[rows], noise[rows]
            )
            error = self.config.w_a * counts * weight[rows] * error
            losses["augmented"] = torch.zeros_like(losses["mask"]).index_add(0, rows, error)  # line 26
        return losses

    def _augmented(
        self, z_t: Tensor, guess: Tensor, context: Tensor, features: Tensor, t: Tensor, noise: Tensor
    ) -> Tensor:
        """Squared errors [K] on the z0' that follow from Image-Diffusion's noise ``guess`` [K, C, h, w]."""
        z0 = predict_x0(self.alphas_cumprod, z_t, guess, t)  # line 22
        z_t = add_noise(self.alphas_cumprod, z0, noise, t)  # line 24
        c_m = self.controlnet.control(z_t, t, context, features)
        by_mask = self._noise(self._decoders[0], self._encode(z_t, t, context), z_t, t, context, c_m)
        return squared_error(by_mask, noise)

    def _encode(self, z: Tensor, t: Tensor, context: Tensor) -> Encoding:
        # Without gradient only if nothing trainable feeds the encoder: neither its own weights nor its input.
        needed = torch.is_grad_enabled() and not (
            encoder_is_frozen(self.unet) and not z.requires_grad and not context.requires_grad
        )
        with torch.set_grad_enabled(needed):
            return encode(self.unet, z, t, context)

    def forward(
        self,
        z0: Tensor,
        context: Tensor,
        hint_mask: Tensor,
        hint_image: Tensor,
        t: Tensor,
        noise: Tensor,
        step: int,
        max_steps: int,
        early: tuple[Tensor, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Batch means of ``per_sample``'s losses and their sum ``total`` (line 28).

        Against the released step: no deep copy of the networks, no third ControlNet run for sg[c_m], one encoder run
        for L_m and L_i, the mask's hint features once, and L_m' on the samples with t <= ``augment_t`` only.
        """
        losses = self.per_sample(z0, context, hint_mask, hint_image, t, noise, step, max_steps, early)
        means = {name: values.mean() for name, values in losses.items()}
        return {"total": sum(means.values(), torch.zeros_like(means["mask"])), **means}


class DenoisingObjective(nn.Module):
    """The base model's loss: || eps_theta(z_t) - eps ||^2 without control."""

    alphas_cumprod: Tensor

    def __init__(
        self,
        unet: UNet2DConditionModel,
        alphas_cumprod: Tensor,
        prediction: Prediction = "epsilon",
        weighting: Weighting = "none",
    ) -> None:
        super().__init__()
        self.unet = unet
        self.prediction: Prediction = prediction
        self.weighting: Weighting = weighting
        self.register_buffer("alphas_cumprod", alphas_cumprod, persistent=False)

    def forward(self, z0: Tensor, context: Tensor, t: Tensor, noise: Tensor) -> dict[str, Tensor]:
        """Loss ``total`` of latents [B, C, h, w] at timesteps t [B]."""
        z_t = add_noise(self.alphas_cumprod, z0, noise, t)
        output = Decoder(self.unet)(encode(self.unet, z_t, t, context), context)
        error = squared_error(
            predicted_noise(self.alphas_cumprod, output.float(), z_t, t, self.prediction), noise
        )
        return {"total": (loss_weight(self.alphas_cumprod, t, self.weighting) * error).mean()}
