"""Autoencoder: reconstruction of crops (``train.evaluation.reconstruction``, ``train.networks.discriminator``), then the scale of the latents.

A new one starts as the best linear autoencoder of blocks of pixels; its networks learn what that lacks.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from siamese.models.autoencoder import (
    SmallAutoencoder,
    downsampling,
    grow_latents,
    latent_channels,
    rescale_latents,
    start_at_principal_components,
)
from siamese.models.modules import channels_last
from train.data.pairs import check_pairs, load_images, read_pairs
from train.engine import identity, loop
from train.engine.device_array import DeviceArray, cropped, images_of, turned
from train.engine.randomness import Draws, sent
from train.engine.sample_sheet import without_validation
from train.evaluation.autoencoder_figures import measure_autoencoder, psnr, whiteness
from train.evaluation.comparison import by_organ
from train.evaluation.efficientnet import EfficientNetFeatures
from train.evaluation.features import Features
from train.evaluation.reconstruction import reconstruction_losses
from train.evaluation.spectrum import unpacked_latents
from train.networks.discriminator import AUGMENTATIONS, ProjectedDiscriminator, discriminator_losses
from train.networks.lpips import PerceptualNetwork, load_perceptual


@dataclass(frozen=True)
class AutoencoderConfig:
    """Architecture of ``SmallAutoencoder``."""

    widths: tuple[int, ...] = (24, 48, 96, 128)
    encoder_layers: tuple[int, ...] = (1, 1, 1, 2)
    decoder_layers: tuple[int, ...] = (1, 1, 2, 3)
    latent_channels: int = 8
    pack: int = 2
    linear_path: bool = True


@dataclass(frozen=True)
class VaeConfig:
    """Train an autoencoder on images (masks are not used)."""

    data: tuple[Path, ...]
    """Folders with images/, masks/ and split files."""
    prompt: str | None = None
    """Prompt of all pairs, instead of what JSON lines or a known data set's name say; none: those."""
    weights: Path = Path("weights")
    """Folder of the perceptual weights (alexnet_lpips.safetensors)."""
    preset: Literal["tiny"] | None = None
    """Take all settings that are not given by hand from this preset (``train.recipe.presets``); none: the defaults shown here."""
    init: Path | None = None
    """Autoencoder folder to start from (diffusers format). Its architecture counts, not ``model``'s."""
    grow_to: int | None = None
    """Latent channels that the autoencoder to start from is given; none: it keeps its own."""
    model: AutoencoderConfig = AutoencoderConfig()
    size: int = 256
    """Side to which images are resized, in pixels."""
    crop: int = 128
    """Side of the training crops, in pixels."""
    lpips_weight: float = 0.2
    texture_weight: float = 0.0
    """Weight of the difference between the statistics of AlexNet's features, see ``texture_distance``."""
    adversarial_weight: float = 0.0
    """Weight of the adversarial loss, which rises from 0 over the first tenth of the updates; 0: no discriminator."""
    penalty_weight: float = 0.1
    """Weight of the discriminator's gradient penalty."""
    equivariance: float = 0.0
    """Weight of the reconstruction of smaller images from pooled latents (Skorokhodov et al. 2025, arXiv:2502.14831; Kouzelis et
    al. 2025, arXiv:2502.09509). It makes latents smoother."""
    colour_weight: float = 1.0
    """Weight of L1 between means over 8 x 8 pixels: without it, every image gets its organ's usual colour."""
    latent_noise: float = 0.05
    """Noise on the latents, in units of each channel's standard deviation: the decoder learns to bear a sampler's errors."""
    decoder_only: bool = False
    """Keep the encoder, so that models trained on its latents stay valid."""
    measure: bool = False
    """At the end, measure distances on the validation split, into OUT/figures.json. Needs VGG16's perceptual weights, and minutes."""
    cache: Path = Path("runs/eval")
    """Folder of cached features of real images, for ``measure``; the evaluation's."""
    loop: loop.LoopConfig = field(
        default_factory=lambda: loop.LoopConfig(
            out=Path("runs/vae"),
            max_steps=2000,
            batch_size=8,
            learning_rate=1.5e-3,
            betas=(0.9, 0.99),
            warmup_steps=200,
            schedule="cosine",
            clip_norm=1.0,
            ema_decay=0.999,
            mixed_precision="auto",
            evaluate_every=250,
        )
    )


class ReconstructionLoss(nn.Module):
    """What an autoencoder is trained on: a crop and its reconstruction from noisy latents, see ``reconstruction_losses``."""

    def __init__(
        self, vae: SmallAutoencoder, perceptual: PerceptualNetwork | None, config: VaeConfig
    ) -> None:
        super().__init__()
        self.vae, self.config, self.perceptual = vae, config, perceptual
        self.discriminator = None
        if config.adversarial_weight:
            if perceptual is None:
                raise ValueError(
                    "the discriminator judges AlexNet's features; give --lpips-weight above 0, with which AlexNet's weights are loaded."
                )
            self.discriminator = ProjectedDiscriminator(perceptual.channels)

    def build_tied(self) -> list[nn.Module]:
        """(Re)make what aliases the discriminator's weights, after anything that moves parameters; returns it."""
        return [] if self.discriminator is None else self.discriminator.build_tied()

    def forward(self, batch: dict[str, Any], step: int, max_steps: int) -> dict[str, Tensor]:
        """Losses of ``images`` [B, 3, H, W] in -1..1 and ``noise`` [B, C, h, w]; LPIPS from pixel ``offset`` [2] on.

        ``uniform`` [B, 2, AUGMENTATIONS] in 0..1 is what the discriminator's augmentation draws, ``pool`` (an int) equivariance's factor.
        """
        images, config = batch["images"], self.config
        with torch.set_grad_enabled(torch.is_grad_enabled() and not config.decoder_only):
            latents = self.vae.encode(images).latent
        strength = latents.detach().std((0, 2, 3), keepdim=True)
        latents = latents + config.latent_noise * strength * batch["noise"]
        drawn = self.vae.decode(latents).sample
        weights = (config.lpips_weight, config.colour_weight, config.texture_weight)
        losses = reconstruction_losses(drawn, images, batch["offset"], self.perceptual, *weights)
        if config.equivariance:
            losses["equivariance"] = self.equivariance(latents, images, batch["pool"])
            losses["total"] = losses["total"] + config.equivariance * losses["equivariance"]
        if self.discriminator is not None and self.perceptual is not None:
            losses |= discriminator_losses(
                self.discriminator,
                backbone=self.perceptual,
                images=images,
                drawn=drawn,
                uniform=batch["uniform"],
                penalty_weight=config.penalty_weight,
            )
            losses["total"] = (
                losses["total"]
                + losses["discriminator"]
                + losses.get("penalty", 0.0)
                + rise(step, max_steps) * config.adversarial_weight * losses["adversarial"]
            )
        return losses

    def equivariance(self, latents: Tensor, images: Tensor, factor: int) -> Tensor:
        """L1 + 0.3 LPIPS between images made smaller and what latents made smaller decode to, with both enlarged by 2 for LPIPS."""
        pack = self.vae.config.pack
        small = F.pixel_unshuffle(F.avg_pool2d(F.pixel_shuffle(latents, pack), factor), pack)
        drawn, images = self.vae.decode(small).sample, F.avg_pool2d(images, factor)
        loss = F.l1_loss(drawn.float(), images)
        if self.perceptual is None:
            return loss
        drawn, images = (F.interpolate(x, scale_factor=2, mode="bilinear") for x in (drawn.float(), images))
        return loss + 0.3 * self.perceptual(drawn, images).float().mean()


def crop_batch(crops: Tensor, draws: Draws) -> dict[str, Any]:
    """``images`` [B, 3, H, W] in -1..1 of crops uint8 [B, H, W, 3], and LPIPS's ``offset`` [2] in 0..3, of the whole update, on the host."""
    return {"images": images_of(crops), "offset": draws.shared("offset", 0, 4, 2)}


class VaeStage(loop.Stage):
    """What the loop needs to train an autoencoder."""

    module: ReconstructionLoss

    def __init__(self, config: VaeConfig) -> None:
        self.config = config
        train, val = (
            read_pairs(config.data, "train", config.prompt),
            read_pairs(config.data, "val", config.prompt, required=False),
        )
        check_pairs(train + val)
        self.began_with = identity.of_pairs(train, val)
        self.images = load_images(train, config.size)
        self.val = load_images(val, config.size) if val else None
        self.held = DeviceArray(
            self.images
        )  # N S^2 x 3 bytes on the device: 0.56 GB for 2,872 images at 256 pixels
        self.size = len(self.images)
        torch.manual_seed(config.loop.seed)
        vae = SmallAutoencoder.from_pretrained(config.init) if config.init else self._fresh()
        if config.init:
            self.began_with["init_weights"] = identity.of_weights(vae)
        if config.grow_to is not None and vae.config.latent_channels != config.grow_to:
            vae = grow_latents(vae, config.grow_to)
        vae = channels_last(vae)
        if config.decoder_only:
            vae.encoder.requires_grad_(False)
        perceptual = load_perceptual("alexnet", config.weights) if config.lpips_weight else None
        self.module = ReconstructionLoss(vae, perceptual, config)
        self.factor = downsampling(vae)
        for name, side in (("size", config.size), ("crop", config.crop)):
            if side % self.factor or config.crop > config.size:
                raise ValueError(
                    f"{name} is {side}; it must be a multiple of {self.factor}, and crop at most size."
                )

    def _fresh(self, count: int = 256) -> SmallAutoencoder:
        """A new autoencoder; one with a linear path starts at the principal components of ``count`` training images."""
        vae = SmallAutoencoder(**dataclasses.asdict(self.config.model))
        if vae.config.linear_path:
            some = self.images[np.linspace(0, self.size - 1, min(self.size, count)).astype(int)]
            start_at_principal_components(vae, images_of(torch.from_numpy(some)))
        return vae

    def batch(self, indices: np.ndarray, draws: Draws, device: torch.device) -> dict[str, Any]:
        """Random crops, flipped and turned, in -1..1, noise for their latents, and what the losses draw."""
        side, corner = (
            self.config.crop,
            draws.integers("corner", 0, self.config.size - self.config.crop + 1, 2),
        )
        crops = cropped(self.held.on(device), corner[:, 0], corner[:, 1], side, indices)
        crops = turned(crops, np.arange(len(indices)), draws.integers("turn", 0, 8))
        noise = draws.normal(
            "noise", (latent_channels(self.module.vae), side // self.factor, side // self.factor)
        )
        uniform = draws.uniform("augmentation", 0.0, 1.0, 2, AUGMENTATIONS).astype(np.float32)
        pool = 2 if draws.shared("pool", 0, 10, 1)[0] < 7 else 4
        return crop_batch(crops, draws) | {"noise": noise, "uniform": sent(uniform, device), "pool": pool}

    def prepared(self) -> list[nn.Module]:
        """The tied heads alias the parameters that accelerate has moved."""
        return self.module.build_tied()

    @torch.no_grad()
    def evaluate(self, step: int, writer: SummaryWriter) -> dict[str, float]:
        """PSNR (dB) and ``latent_high_low_power`` on every fourth validation image, and a sheet of the first eight.

        Without them a sheet of training images.
        """
        if self.val is None:
            training_sheet(self.module.vae, self.images, step, writer)
            return {}
        return validation_figures(self.module.vae, self.val[::4], step, writer)

    def schedule(self, step: int, max_steps: int) -> str:
        """How far the discriminator's weight has risen, if there is one."""
        return (
            f"the discriminator has {100 * rise(step, max_steps):.0f} % of its weight"
            if self.config.adversarial_weight
            else ""
        )

    @torch.no_grad()
    def export(self, folder: Path) -> None:
        """Save the autoencoder, its latents of training images of unit standard deviation once scaled, spread alike in every channel."""
        vae = self.module.vae
        if not self.config.decoder_only:
            device = next(vae.parameters()).device
            some = self.images[np.linspace(0, self.size - 1, min(self.size, 256)).astype(int)]
            latents = torch.cat(
                [
                    vae.encode(images_of(torch.from_numpy(some[i : i + 8]).to(device))).latent
                    for i in range(0, len(some), 8)
                ]
            )
            channels = F.pixel_shuffle(latents, vae.config.pack).transpose(0, 1).flatten(1)
            factors = channels.std().item() / channels.std(1).clamp_min(1e-6)
            rescale_latents(vae, factors)
            vae.register_to_config(scaling_factor=float(1 / (channels * factors[:, None]).std()))
        vae.save_pretrained(folder / "vae")


def rise(step: int, max_steps: int) -> float:
    """Share, 0..1, of its full weight that the adversarial loss has: it rises over the first tenth of the updates."""
    return min(1.0, step / max(1, max_steps // 10))


@torch.no_grad()
def training_sheet(vae: SmallAutoencoder, images: np.ndarray, step: int, writer: SummaryWriter) -> None:
    """A sheet of eight of the training images uint8 [N, S, S, 3] and their reconstructions, for data without validation images."""
    without_validation("reconstructions of training images")
    some = images[np.linspace(0, len(images) - 1, min(8, len(images))).astype(int)]
    x = images_of(torch.from_numpy(some).to(next(vae.parameters()).device))
    writer.add_images(
        "train/reconstruction",
        torch.cat([x, vae.decode(vae.encode(x).latent).sample.clamp(-1, 1)]).add(1).div(2),
        step,
    )


def validation_figures(
    vae: SmallAutoencoder, images: np.ndarray, step: int, writer: SummaryWriter
) -> dict[str, float]:
    """PSNR of the reconstructions of ``images`` uint8 [N, S, S, 3] in dB, ``latent_high_low_power``, and a sheet of the first eight."""
    device, scores, latents = next(vae.parameters()).device, [], []
    for start in range(0, len(images), 8):
        x = images_of(torch.from_numpy(images[start : start + 8]).to(device))
        z = vae.encode(x).latent
        y = vae.decode(z).sample.clamp(-1, 1)
        scores.append(psnr(x, y))
        latents.append(unpacked_latents(z, vae).cpu())
        if start == 0:
            writer.add_images("val/reconstruction", torch.cat([x, y]).add(1).div(2), step)
    return {"psnr": float(torch.cat(scores).mean())} | whiteness(torch.cat(latents).float().numpy())


def measure_exported(config: VaeConfig) -> dict[str, dict[str, float]]:
    """``measure_autoencoder``'s figures of the exported autoencoder on the validation split, by VGG16 and EfficientNet-Lite0.

    Features of all training images are needed, once; they are kept in ``config.cache``.

    Raises:
        FileNotFoundError: the perceptual weights are missing.
        DataError: an organ has too few pairs.
    """
    organs = by_organ(
        read_pairs(config.data, "train", config.prompt), read_pairs(config.data, "val", config.prompt)
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    vae = channels_last(SmallAutoencoder.from_pretrained(config.loop.out / "model" / "vae"), device).eval()
    kept = config.cache / "features"
    return measure_autoencoder(
        vae,
        organs,
        Features(config.weights, config.size, kept, device),
        EfficientNetFeatures(config.size, kept, device),
    )


def main(config: VaeConfig, reports: bool = True) -> int:
    """Train, export, print what comes next if ``reports``, and measure if ``config.measure``; returns the updates done."""
    stage = VaeStage(config)
    updates = loop.run(
        stage,
        config.loop,
        identity.facts_of(config) | stage.began_with,
        f"Next, the base model:\n  python -m train base --vae {config.loop.out / 'model' / 'vae'} --data ..."
        if reports
        else None,
    )
    if (
        config.measure
        and updates == (config.loop.extend_to or config.loop.max_steps)
        and not loop.interrupted()
    ):
        figures = json.dumps(measure_exported(config), indent=1)
        (config.loop.out / "figures.json").write_text(figures + "\n", encoding="utf-8")
        print(figures)
    return updates
