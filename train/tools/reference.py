"""Algorithm 1 written down literally, as the released code runs it: the measure of the fast step's exactness and cost.

Two deep copies a step, four ControlNet runs, three whole U-Net runs, diffusers' own forward passes. Shares no code with
``siamese.objective`` but the networks' classes.
"""

from __future__ import annotations

import copy

from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn


def control(net: nn.Module, z: Tensor, t: Tensor, context: Tensor, hint: Tensor) -> list[Tensor]:
    """The residuals of ControlNet's own forward, the middle one last."""
    down, middle = net(z, t, context, hint, return_dict=False)
    return [*down, middle]


def noise(
    unet: UNet2DConditionModel, z: Tensor, t: Tensor, context: Tensor, residuals: list[Tensor]
) -> Tensor:
    """eps_theta(z, c) by the U-Net's own forward."""
    return unet(
        z,
        t,
        context,
        down_block_additional_residuals=residuals[:-1],
        mid_block_additional_residual=residuals[-1],
    ).sample


def reference_losses(
    unet: UNet2DConditionModel,
    net: nn.Module,
    alphas_cumprod: Tensor,
    x_start: Tensor,
    context: Tensor,
    hint_mask: Tensor,
    hint_image: Tensor,
    t: Tensor,
    eps: Tensor,
    step: int,
    max_steps: int,
) -> dict[str, Tensor]:
    """Per-sample losses [B] and their batch mean ``total``, line by line."""
    a = alphas_cumprod[t].view(-1, 1, 1, 1)
    z_t = a.sqrt() * x_start + (1 - a).sqrt() * eps  # 12
    c_m = control(net, z_t, t, context, hint_mask)  # 8
    c_i = control(net, z_t, t, context, hint_image)
    eps_m = noise(unet, z_t, t, context, c_m)
    loss_m = (eps_m - eps).square().mean((1, 2, 3))  # 14
    net_copy, unet_copy = copy.deepcopy(net), copy.deepcopy(unet)  # 16
    stopped = [c.detach() for c in control(net_copy, z_t, t, context, hint_mask)]
    w_i = step / max_steps
    c_mix = [w_i * i + 1.0 * m for i, m in zip(c_i, stopped, strict=True)]  # 10
    eps_i = noise(unet_copy, z_t, t, context, c_mix)
    loss_i = (eps_i - eps).square().mean((1, 2, 3))  # 18
    loss_c = (eps_m - eps_i.detach()).square().mean((1, 2, 3))  # 20
    losses = {"mask": loss_m, "image": loss_i, "consistency": loss_c}
    if step > max_steps / 3 and bool((t <= 200).any()):
        z0 = (z_t - (1 - a).sqrt() * eps_i.detach()) / a.sqrt()  # 22
        z_again = a.sqrt() * z0 + (1 - a).sqrt() * eps  # 24
        eps_a = noise(unet, z_again, t, context, control(net, z_again, t, context, hint_mask))
        losses["augmented"] = (t <= 200).float() * (eps_a - eps).square().mean((1, 2, 3))  # 26
    losses["total"] = sum((v.mean() for v in losses.values()), t.new_zeros((), dtype=eps.dtype))  # 28
    return losses
