"""Decoder: the autoencoder's decoder learns from the latents that the denoiser leaves, with a discriminator of patches.

A decoder that has only seen encoded images reveals what a denoiser lacks: texture at the lowest noise levels. Here it gets training images' latents that were noised a little and denoised by the sampler's own last steps, and must draw the
images all the same. The encoder is kept, so that models trained on its latents stay valid. L1 and LPIPS alone would
blur what cannot be known; the hinge loss of a patch discriminator (Isola et al. 2017, arXiv:1611.07004; Esser et al.
2021, arXiv:2012.09841, section 3.1) asks for texture. Not in the paper.

A few hundred updates are enough, and more do harm: samples come nearer to real images at first, then move away again.
Compare them on ``val`` (``evaluate``) and stop early; Ctrl-C exports what there is.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from siamese.diffusion import add_noise
from siamese.models.autoencoder import SmallAutoencoder, downsampling
from siamese.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, weights_hash
from siamese.models.modules import channels_last
from siamese.models.unet import tied_copy
from siamese.records.sampling_settings import UNGUIDED
from siamese.sampling import Conditioning, build_scheduler, denoise, initial_noise
from train.data.cache import cached_array, digest_of
from train.data.latents import Examples, load_examples
from train.data.pairs import array_key, check_pairs, load_images, read_pairs
from train.engine import identity, loop
from train.engine.device_array import DeviceArray, cropped, turned
from train.engine.randomness import Draws, key
from train.evaluation.reconstruction import reconstruction_losses
from train.networks.lpips import PerceptualNetwork, load_perceptual
from train.stages.autoencoder import crop_batch, rise, training_sheet, validation_figures


@dataclass(frozen=True)
class DecoderConfig:
    """Train the decoder of a Siamese model's autoencoder on denoised latents."""

    data: tuple[Path, ...]
    """Folders with images/, masks/ and split files, or JSON-lines files."""
    init: Path
    """Siamese model folder; its autoencoder is a ``SmallAutoencoder``."""
    prompt: str | None = None
    """Prompt of all pairs, instead of what JSON lines or a known data set's name say; none: those."""
    preset: Literal["tiny"] | None = None
    """Take all settings that are not given by hand from this preset (``train.recipe.presets``); none: the defaults shown here."""
    weights: Path = Path("weights")
    """Folder of the perceptual weights (alexnet_lpips.safetensors)."""
    variants: int = 1
    """Flips and turns of each pair, itself included."""
    steps: int = 12
    """Steps of the sampler whose last ones denoise."""
    noised_below: float = 0.35
    """Highest noise level from which latents are denoised, as a share of all timesteps."""
    encoded_share: float = 0.3
    """Share of samples whose latents are the encoder's own, so that photographs are still reconstructed."""
    crop: int = 128
    """Side of the training crops, in pixels."""
    lpips_weight: float = 0.3
    colour_weight: float = 2.0
    adversarial_weight: float = 0.3
    """Weight of the adversarial loss, which rises from 0 over the first tenth of the updates."""
    cache: Path = Path("runs/cache")
    """Folder of cached latents."""
    loop: loop.LoopConfig = field(
        default_factory=lambda: loop.LoopConfig(
            out=Path("runs/decoder"),
            max_steps=600,
            batch_size=16,
            learning_rate=3e-4,
            betas=(0.5, 0.9),
            warmup_steps=50,
            schedule="cosine",
            ema_decay=0.995,
            mixed_precision="auto",
            evaluate_every=200,
            checkpoint_every=100,
        )
    )


class PatchDiscriminator(nn.Module):
    """How real each patch of an image [B, 3, H, W] in -1..1 looks: [B, 1, h, w], any range, high is real."""

    def __init__(self, widths: tuple[int, ...] = (32, 64, 128)) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 4, 2, 1), nn.LeakyReLU(0.2)]
        for before, width in itertools.pairwise(widths):
            layers += [
                nn.Conv2d(before, width, 4, 2, 1, bias=False),
                nn.GroupNorm(width // 8, width),
                nn.LeakyReLU(0.2),
            ]
        self.layers = nn.Sequential(
            *layers,
            nn.Conv2d(widths[-1], widths[-1], 3, 1, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(widths[-1], 1, 1),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Opinions [B, 1, H / 8, W / 8]."""
        return self.layers(images)


class DecoderModule(nn.Module):
    """Decoder and discriminator, both updated in one step."""

    def __init__(
        self, vae: SmallAutoencoder, perceptual: PerceptualNetwork | None, config: DecoderConfig
    ) -> None:
        super().__init__()
        self.vae, self.perceptual, self.config = vae, perceptual, config
        self.discriminator = PatchDiscriminator()
        self.build_tied_discriminator()

    def build_tied_discriminator(self) -> None:
        """The decoder's loss goes through it, and reaches no weight of the discriminator."""
        self._tied: list[nn.Module] = [
            tied_copy(self.discriminator)
        ]  # in a list: its parameters are not the module's a second time

    def forward(self, batch: dict[str, Any], step: int, max_steps: int) -> dict[str, Tensor]:
        """Losses of ``images`` [B, 3, H, W] in -1..1 and their unscaled ``latents`` [B, C, h, w]."""
        images, config = batch["images"], self.config
        drawn = self.vae.decode(batch["latents"]).sample
        losses = reconstruction_losses(
            drawn,
            images=images,
            offset=batch["offset"],
            perceptual=self.perceptual,
            lpips_weight=config.lpips_weight,
            colour_weight=config.colour_weight,
        )
        real, fake = (
            self.discriminator(texture(torch.cat([images, drawn.detach().to(images.dtype)]))).float().chunk(2)
        )
        losses["discriminator"] = F.relu(1 - real).mean() + F.relu(1 + fake).mean()
        losses["adversarial"] = -self._tied[0](texture(drawn)).float().mean()
        losses["total"] = (
            losses["total"]
            + losses["discriminator"]
            + rise(step, max_steps) * config.adversarial_weight * losses["adversarial"]
        )
        return losses


def texture(images: Tensor) -> Tensor:
    """Images [B, 3, H, W] without their means over 8 x 8 pixels.

    It is what the discriminator judges. Shown the images themselves, it drives colours apart, and samples away from real ones.
    """
    return images - F.interpolate(F.avg_pool2d(images, 8), scale_factor=8, mode="bilinear")


class DecoderStage(loop.Stage):
    """What the loop needs to train a decoder."""

    module: DecoderModule

    def __init__(self, config: DecoderConfig) -> None:
        self.config = config
        self.checkpoint = load_checkpoint(config.init)
        vae = self.checkpoint.vae
        if self.checkpoint.controlnet is None or not isinstance(vae, SmallAutoencoder):
            raise ValueError(
                f"{config.init}: it takes a Siamese model with an autoencoder of this repository's; "
                "a base model needs the Siamese stage first, Stable Diffusion's autoencoder stays as it is."
            )
        train, val = (
            read_pairs(config.data, "train", config.prompt),
            read_pairs(config.data, "val", config.prompt, required=False),
        )
        check_pairs(train + val, size=self.checkpoint.image_size)
        self.began_with = identity.of_pairs(train, val) | {
            "init_weights": identity.of_weights(*self.checkpoint.networks())
        }
        size, self.factor = self.checkpoint.image_size, downsampling(vae)
        if config.crop % self.factor or config.crop > size:
            raise ValueError(
                f"crop is {config.crop}; it must be a multiple of {self.factor}, and at most {size}."
            )
        self.train = load_examples(train, vae=vae, size=size, variants=config.variants, cache=config.cache)
        self.denoised = denoised_latents(self.checkpoint, self.train, config, array_key(train))
        # On the device: 3 S^2 bytes a pair, and both kinds of latents [2, V, N, h, w, C], channels last so that crops are cheap.
        self.images = DeviceArray(self.train.images)
        self.sources = DeviceArray(
            np.ascontiguousarray(np.moveaxis(np.stack([self.denoised, self.train.mean]), 3, -1))
        )
        self.val = load_images(val, size) if val else None
        self.size = len(self.train)
        torch.manual_seed(config.loop.seed)
        vae.requires_grad_(True)
        vae.encoder.requires_grad_(False)
        perceptual = load_perceptual("alexnet", config.weights) if config.lpips_weight else None
        self.module = channels_last(DecoderModule(vae, perceptual, config))

    def batch(self, indices: np.ndarray, draws: Draws, device: torch.device) -> dict[str, Any]:
        """Random crops in -1..1 on the grid of the latents, their latents, encoded or denoised, and a random offset for LPIPS."""
        side, factor = self.config.crop // self.factor, self.factor
        variant = draws.integers("variant", 0, self.config.variants)
        encoded = (draws.uniform("encoded") < self.config.encoded_share).astype(np.int64)
        top, left = draws.integers("corner", 0, self.train.mean.shape[-1] - side + 1, 2).T
        latents = cropped(self.sources.on(device), top, left, side, encoded, variant, indices).permute(
            0, 3, 1, 2
        )
        images = turned(self.images.on(device), indices, self.train.codes[variant, indices])
        crops = cropped(images, top * factor, left * factor, self.config.crop, np.arange(len(indices)))
        return crop_batch(crops, draws) | {"latents": latents.float() / self.module.vae.config.scaling_factor}

    def prepared(self) -> list[nn.Module]:
        """The tied discriminator aliases the parameters that accelerate has moved."""
        self.module.build_tied_discriminator()
        return self.module._tied

    @torch.no_grad()
    def evaluate(self, step: int, writer: SummaryWriter) -> dict[str, float]:
        """Figures of reconstructed validation images: what texture costs. Choose by distances of samples, see ``evaluate``.

        Without them a sheet of training images.
        """
        if self.val is None:
            training_sheet(self.module.vae, self.train.images, step, writer)
            return {}
        return validation_figures(self.module.vae, self.val[::4], step, writer)

    def export(self, folder: Path) -> None:
        """Save the model folder, with the new decoder."""
        save_checkpoint(self.checkpoint, folder)

    def schedule(self, step: int, max_steps: int) -> str:
        """How far the discriminator's weight has risen."""
        return f"the discriminator has {100 * rise(step, max_steps):.0f} % of its weight"


@torch.no_grad()
def denoised_latents(
    checkpoint: Checkpoint, examples: Examples, config: DecoderConfig, files: str, batch: int = 16
) -> np.ndarray:
    """Scaled latents [V, N, C, h, w] of ``examples``, each noised to a random step of the sampler and denoised from there.

    Without guidance, as the sampler's last steps should be. Cached by the model, the images' digest ``files`` and the settings.
    """
    solver = build_scheduler("dpm++", checkpoint.scheduler_config, config.steps)
    levels = solver.timesteps.numpy() / solver.config.num_train_timesteps
    starts = np.flatnonzero(levels <= config.noised_below)
    if not len(starts):
        raise ValueError(
            f"noised_below is {config.noised_below}; the last of {config.steps} steps starts at {levels[-1]:.3f}."
        )
    name = digest_of(
        weights_hash(config.init), files, config.steps, config.noised_below, config.variants, config.loop.seed
    )
    return cached_array(
        config.cache / f"denoised-{name}.npz",
        lambda: _denoise(checkpoint, examples=examples, config=config, starts=starts, batch=batch),
    )


def _denoise(
    checkpoint: Checkpoint, examples: Examples, config: DecoderConfig, starts: np.ndarray, batch: int
) -> np.ndarray:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    assert checkpoint.controlnet is not None  # the stage has checked
    checkpoint.to(device)
    out = np.empty_like(examples.mean)
    jobs = [
        (variant, start, index)
        for variant in range(config.variants)
        for start, index in _grouped(len(examples), starts, variant, batch)
    ]
    with tqdm(total=config.variants * len(examples), desc="denoised latents", unit="image") as bar:
        for variant, start, index in jobs:
            # A new one for each batch: a multistep solver remembers its steps.
            solver = build_scheduler("dpm++", checkpoint.scheduler_config, config.steps)
            noise = initial_noise([key(config.loop.seed, variant, int(i)) for i in index], out.shape[2:])
            z0 = torch.from_numpy(examples.mean[variant, index]).float()
            z = add_noise(
                checkpoint.alphas_cumprod.cpu(), z0, noise, solver.timesteps[start].expand(len(index))
            ).to(device)
            masks, _ = examples.hints(index, np.full(len(index), variant), device)
            context = checkpoint.context([examples.prompts[i] for i in index])
            hints = [(1.0, checkpoint.controlnet.hint_features(masks))]
            given = Conditioning(context, context, hints)
            out[variant, index] = (
                denoise(checkpoint, scheduler=solver, z=z, given=given, settings=UNGUIDED, first=int(start))
                .cpu()
                .numpy()
            )
            bar.update(len(index))
    checkpoint.to("cpu")
    return out


def _grouped(count: int, starts: np.ndarray, seed: int, batch: int) -> list[tuple[int, np.ndarray]]:
    """Every index once, with a random start, in batches of one start each."""
    drawn = np.random.default_rng((seed, count)).choice(starts, count)
    same = ((int(start), np.flatnonzero(drawn == start)) for start in starts)
    return [(start, index[i : i + batch]) for start, index in same for i in range(0, len(index), batch)]


def main(config: DecoderConfig, reports: bool = True) -> int:
    """Train, export, and print what comes next if ``reports``; returns the updates done."""
    stage = DecoderStage(config)
    return loop.run(
        stage,
        config.loop,
        identity.facts_of(config) | stage.began_with,
        f"To open it in the app:\n  python app.py --model {config.loop.out / 'model'}" if reports else None,
    )
